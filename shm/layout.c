/*
 * shm/layout.c - names of states, sizes of objects, and the identity of the layout.
 */
#include "shm/layout.h"

#include "base/hash.h"

static const char *const role_name[] = {
    [CLLM_ROLE_NONE] = "none",
    [CLLM_ROLE_WORKER] = "worker",
    [CLLM_ROLE_LOADER] = "loader",
    [CLLM_ROLE_SAVER] = "saver",
};
static_assert(CLLM_LEN(role_name) == CLLM_ROLE_LAST, "name every role");

static const char *const run_state_name[] = {
    [CLLM_RUN_STARTING] = "starting", [CLLM_RUN_RUNNING] = "running",
    [CLLM_RUN_PAUSED] = "paused",     [CLLM_RUN_STOPPING] = "stopping",
    [CLLM_RUN_ENDED] = "ended",
};
static_assert(CLLM_LEN(run_state_name) == CLLM_RUN_LAST, "name every run state");

static const char *const phase_name[] = {
    [CLLM_PHASE_NONE] = "none",       [CLLM_PHASE_INIT] = "init",
    [CLLM_PHASE_COMPUTE] = "compute", [CLLM_PHASE_FOLD] = "fold",
    [CLLM_PHASE_UPDATE] = "update",   [CLLM_PHASE_COMMIT] = "commit",
    [CLLM_PHASE_EVAL] = "eval",       [CLLM_PHASE_VERIFY] = "verify",
};
static_assert(CLLM_LEN(phase_name) == CLLM_PHASE_LAST, "name every phase");

static const char *const slot_state_name[] = {
    [CLLM_SLOT_EMPTY] = "empty",
    [CLLM_SLOT_STARTING] = "starting",
    [CLLM_SLOT_IDLE] = "idle",
    [CLLM_SLOT_BUSY] = "busy",
    [CLLM_SLOT_SUSPECT] = "suspect",
    [CLLM_SLOT_STOPPED] = "stopped",
    [CLLM_SLOT_KILLING] = "killing",
    [CLLM_SLOT_COOLDOWN] = "cooldown",
    [CLLM_SLOT_UNKILLABLE] = "unkillable",
    [CLLM_SLOT_DISABLED] = "disabled",
};
static_assert(CLLM_LEN(slot_state_name) == CLLM_SLOT_LAST, "name every slot state");

static const char *const lane_state_name[] = {
    [CLLM_LANE_EMPTY] = "empty",       [CLLM_LANE_READY] = "ready",
    [CLLM_LANE_ASSIGNED] = "assigned", [CLLM_LANE_DUPLICATED] = "twice",
    [CLLM_LANE_RECHECK] = "recheck",   [CLLM_LANE_DONE] = "done",
    [CLLM_LANE_FOLDED] = "folded",     [CLLM_LANE_POISONED] = "poisoned",
};
static_assert(CLLM_LEN(lane_state_name) == CLLM_LANE_LAST, "name every lane state");

static const char *const chunk_state_name[] = {
    [CLLM_CHUNK_OLD] = "old",
    [CLLM_CHUNK_ASSIGNED] = "assigned",
    [CLLM_CHUNK_NEW] = "new",
};
static_assert(CLLM_LEN(chunk_state_name) == CLLM_CHUNK_LAST, "name every chunk state");

static const char *const work_name[] = {
    [CLLM_WORK_NONE] = "none",   [CLLM_WORK_LANE] = "lane",
    [CLLM_WORK_EVAL] = "eval",   [CLLM_WORK_FOLD] = "fold",
    [CLLM_WORK_MERGE] = "merge", [CLLM_WORK_UPDATE] = "update",
    [CLLM_WORK_COPY] = "copy",   [CLLM_WORK_VERIFY] = "verify",
    [CLLM_WORK_INIT] = "init",   [CLLM_WORK_SAVE] = "save",
    [CLLM_WORK_LOAD] = "load",   [CLLM_WORK_EXIT] = "exit",
};
static_assert(CLLM_LEN(work_name) == CLLM_WORK_LAST, "name every kind of work");

static const char *name_of(const char *const *names, size_t n, uint32_t value)
{
    return value < n ? names[value] : "invalid";
}

const char *cllm_role_name(uint32_t role)
{
    return name_of(role_name, CLLM_LEN(role_name), role);
}

const char *cllm_run_state_name(uint32_t state)
{
    return name_of(run_state_name, CLLM_LEN(run_state_name), state);
}

const char *cllm_phase_name(uint32_t phase)
{
    return name_of(phase_name, CLLM_LEN(phase_name), phase);
}

const char *cllm_slot_state_name(uint32_t state)
{
    return name_of(slot_state_name, CLLM_LEN(slot_state_name), state);
}

const char *cllm_lane_state_name(uint32_t state)
{
    return name_of(lane_state_name, CLLM_LEN(lane_state_name), state);
}

const char *cllm_chunk_state_name(uint32_t state)
{
    return name_of(chunk_state_name, CLLM_LEN(chunk_state_name), state);
}

const char *cllm_work_name(uint32_t work)
{
    return name_of(work_name, CLLM_LEN(work_name), work);
}

/* clang-format off */
#define SIZE(s)      sizeof(struct s)
#define AT(s, field) offsetof(struct s, field)

/* Everything that two builds must agree on; order and values both count. */
static const uint64_t fingerprint[] = {
    CLLM_LAYOUT_VERSION, CLLM_PAGE, CLLM_CACHELINE, CLLM_MAX_WORKERS, CLLM_MAX_LANES,
    CLLM_GROUP_LANES, CLLM_MAX_ASSIGN_CHUNKS, CLLM_N_EVENTS, CLLM_RUN_ID_BYTES,
    CLLM_PATH_BYTES,
    CLLM_ROLE_LAST, CLLM_RUN_LAST, CLLM_PHASE_LAST, CLLM_SLOT_LAST, CLLM_LANE_LAST,
    CLLM_CHUNK_LAST, CLLM_WORK_LAST,
    SIZE(cllm_geometry), AT(cllm_geometry, lora), AT(cllm_geometry, n_params),
    AT(cllm_geometry, lanes),
    AT(cllm_geometry, steps), AT(cllm_geometry, chunk_elements),
    AT(cllm_geometry, n_buffers),
    AT(cllm_geometry, ring_slots),
    SIZE(cllm_header), AT(cllm_header, run_id), AT(cllm_header, creator_pid),
    AT(cllm_header, geometry), AT(cllm_header, state_off), AT(cllm_header, faults_off),
    AT(cllm_header, texts_sum), AT(cllm_header, ready),
    SIZE(cllm_state), AT(cllm_state, heartbeat_ns), AT(cllm_state, hurry_version),
    AT(cllm_state, lanes_of), AT(cllm_state, folded),
    AT(cllm_state, workers), AT(cllm_state, guardian_start_ticks),
    AT(cllm_state, turns),
    SIZE(cllm_step_record), AT(cllm_step_record, loss), AT(cllm_step_record, numerics),
    AT(cllm_step_record, skips), CLLM_N_RECORDS, CLLM_SKIP_LAST,
    SIZE(cllm_lane), AT(cllm_lane, loss), AT(cllm_lane, sum), AT(cllm_lane, opinion),
    SIZE(cllm_chunk), AT(cllm_chunk, sum), AT(cllm_chunk, check),
    SIZE(cllm_event), SIZE(cllm_fault_page), CLLM_FAULT_LAST,
    SIZE(cllm_assignment), AT(cllm_assignment, buffers),
    AT(cllm_assignment, seq), SIZE(cllm_report), AT(cllm_report, result),
    AT(cllm_report, seq),
    SIZE(cllm_command), AT(cllm_command, device_failures),
    AT(cllm_command, device_lost), AT(cllm_command, retired),
    AT(cllm_command, obituary), AT(cllm_command, device),
    CLLM_DEVICE_BYTES, AT(cllm_command, assignment),
    SIZE(cllm_status), AT(cllm_status, progress), AT(cllm_status, filled),
    AT(cllm_status, saving_step), AT(cllm_status, device), SIZE(cllm_device_status),
    AT(cllm_device_status, hits), AT(cllm_device_status, warm_ns),
    AT(cllm_device_status, overlap_ns),
    AT(cllm_status, last_words), SIZE(cllm_own),
    AT(cllm_own, report), SIZE(cllm_crash_record), AT(cllm_crash_record, region),
    AT(cllm_crash_record, frame), AT(cllm_crash_record, module),
    AT(cllm_crash_record, words), AT(cllm_slot, crash), SIZE(cllm_bell),
    SIZE(cllm_slot), AT(cllm_slot, own), AT(cllm_slot, bell), SIZE(cllm_ring_slot),
    AT(cllm_ring_slot, ready),
};
/* clang-format on */

uint64_t cllm_layout_hash(void)
{
    return cllm_hash(fingerprint, sizeof fingerprint, CLLM_LAYOUT_MAGIC);
}

/* ---- sizes ---- */

uint64_t cllm_vector_elements(uint64_t n)
{
    return cllm_align_up(n, n >= 4 * CLLM_HUGE_ELEMENTS ? CLLM_HUGE_ELEMENTS
                                                        : CLLM_PAGE / sizeof(float));
}

uint64_t cllm_vector_bytes(const struct cllm_geometry *geometry)
{
    return cllm_align_up(geometry->n_elements * sizeof(float), CLLM_PAGE);
}

uint64_t cllm_params_bytes(const struct cllm_geometry *geometry)
{
    return 3 * cllm_vector_bytes(geometry);
}

uint64_t cllm_ring_row_tokens(const struct cllm_geometry *geometry)
{
    return (uint64_t)geometry->model.context + 1;
}

uint64_t cllm_ring_batch_tokens(const struct cllm_geometry *geometry)
{
    return geometry->sequences * cllm_ring_row_tokens(geometry);
}

uint64_t cllm_ring_bytes(const struct cllm_geometry *geometry)
{
    uint64_t slots = (uint64_t)geometry->ring_slots + geometry->ring_eval_slots;

    return cllm_align_up(slots * sizeof(struct cllm_ring_slot), CLLM_PAGE) +
           cllm_align_up(slots * cllm_ring_batch_tokens(geometry) * sizeof(uint32_t),
                         CLLM_PAGE);
}

uint64_t cllm_batch_number(const struct cllm_geometry *geometry, uint64_t step,
                           uint32_t lane, uint32_t microbatch)
{
    CLLM_ASSERT(step >= 1);
    CLLM_ASSERT(lane < geometry->lanes);
    CLLM_ASSERT(microbatch < geometry->microbatches);
    return ((step - 1) * geometry->lanes + lane) * geometry->microbatches + microbatch;
}

uint64_t cllm_eval_batch_number(const struct cllm_geometry *geometry, uint32_t lane,
                                uint32_t microbatch)
{
    CLLM_ASSERT(lane < geometry->lanes);
    CLLM_ASSERT(microbatch < geometry->eval_microbatches);
    return CLLM_BATCH_EVAL | ((uint64_t)lane * geometry->eval_microbatches + microbatch);
}

uint32_t cllm_ring_slot_of(const struct cllm_geometry *geometry, uint64_t batch)
{
    uint64_t slot = batch & CLLM_BATCH_EVAL
                        ? geometry->ring_slots + (batch & ~CLLM_BATCH_EVAL)
                        : batch % geometry->ring_slots;

    CLLM_ASSERT(slot < (uint64_t)geometry->ring_slots + geometry->ring_eval_slots);
    return (uint32_t)slot;
}
