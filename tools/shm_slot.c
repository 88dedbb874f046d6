/*
 * tools/shm_slot.c - see tools/shm_slot.h.
 *
 * What a slot was told (Node Zero's page) says what it is doing; what its process says of
 * itself only adds the counters, because a process that runs wild may say anything.
 */
#include "tools/shm_slot.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/atomic.h"
#include "base/units.h"
#include "tools/shm_life.h"

/* The oldest assignment without a report; NULL when there is none. */
static const struct cllm_assignment *current(const struct cllm_command *command)
{
    uint64_t seq = command->reported + 1;
    const struct cllm_assignment *work = &command->assignment[seq & 1];

    if (command->posted < seq || cllm_load_relaxed(&work->seq) != seq)
        return NULL;
    return work;
}

/* "chunk 3" or "chunks 3-7"; [lo, hi). */
static void chunk_range(char *out, size_t bytes, const struct cllm_assignment *work)
{
    if (work->chunk_hi > work->chunk_lo + 1)
        (void)snprintf(out, bytes, "chunks %u-%u", work->chunk_lo, work->chunk_hi - 1);
    else
        (void)snprintf(out, bytes, "chunk %u", work->chunk_lo);
}

static void phrase_work(char out[CLLM_SHM_DOING], const struct cllm_assignment *work)
{
    char chunks[40];

    chunk_range(chunks, sizeof chunks, work);
    switch ((enum cllm_work)work->kind) {
    case CLLM_WORK_LANE:
        (void)snprintf(out, CLLM_SHM_DOING, "lane %u of step %" PRIu64, work->lane,
                       work->step);
        break;
    case CLLM_WORK_EVAL:
        (void)snprintf(out, CLLM_SHM_DOING, "validation lane %u", work->lane);
        break;
    case CLLM_WORK_FOLD:
        if (work->lane_hi > work->lane_lo + 1)
            (void)snprintf(out, CLLM_SHM_DOING, "fold %s, lanes %u-%u", chunks,
                           work->lane_lo, work->lane_hi - 1);
        else
            (void)snprintf(out, CLLM_SHM_DOING, "fold %s, lane %u", chunks,
                           work->lane_lo);
        break;
    case CLLM_WORK_MERGE:
        (void)snprintf(out, CLLM_SHM_DOING, "merge %s", chunks);
        break;
    case CLLM_WORK_UPDATE:
        (void)snprintf(out, CLLM_SHM_DOING, "update %s", chunks);
        break;
    case CLLM_WORK_INIT:
        (void)snprintf(out, CLLM_SHM_DOING, "initial weights, %s", chunks);
        break;
    case CLLM_WORK_SAVE:
        (void)snprintf(out, CLLM_SHM_DOING, "save step %" PRIu64, work->step);
        break;
    case CLLM_WORK_LOAD:
        (void)snprintf(out, CLLM_SHM_DOING, "load step %" PRIu64, work->step);
        break;
    case CLLM_WORK_EXIT:
        (void)snprintf(out, CLLM_SHM_DOING, "told to leave");
        break;
    default:
        (void)snprintf(out, CLLM_SHM_DOING, "invalid work %u", work->kind);
    }
}

/* The loader takes no assignments: it says how far it is. */
static void phrase_loader(char out[CLLM_SHM_DOING], const struct cllm_shm_view *view,
                          const struct cllm_status *status)
{
    const struct cllm_geometry *g = &view->header.geometry;
    uint64_t in_step = (uint64_t)g->lanes * g->microbatches;
    uint64_t filled = cllm_load_relaxed(&status->filled);
    uint64_t used = cllm_load_relaxed(&view->state.committed) * in_step;
    uint64_t last = g->steps * in_step;
    char ahead[CLLM_UNITS_BYTES];

    if (filled >= last && last > 0) {
        (void)snprintf(out, CLLM_SHM_DOING, "all batches of the run are in the ring");
    } else if (in_step > 0 && filled >= used && filled - used <= g->ring_slots) {
        (void)cllm_format_count(ahead, filled - used);
        (void)snprintf(out, CLLM_SHM_DOING,
                       "filled to step %" PRIu64 " (%s of %u batches)", filled / in_step,
                       ahead, g->ring_slots);
    } else {
        (void)snprintf(out, CLLM_SHM_DOING, "fills the ring");
    }
}

static void phrase_idle(char out[CLLM_SHM_DOING], const struct cllm_shm_view *view,
                        const struct cllm_shm_slot *slot)
{
    uint64_t saved = cllm_load_relaxed(&view->state.saved_step);

    switch ((enum cllm_role)slot->command.role) {
    case CLLM_ROLE_WORKER:
        (void)snprintf(out, CLLM_SHM_DOING, "waits for work");
        break;
    case CLLM_ROLE_LOADER:
        phrase_loader(out, view, &slot->status);
        break;
    case CLLM_ROLE_SAVER:
        if (saved > 0)
            (void)snprintf(out, CLLM_SHM_DOING, "waits; step %" PRIu64 " is on disk",
                           saved);
        else
            (void)snprintf(out, CLLM_SHM_DOING, "waits for the first checkpoint");
        break;
    default:
        (void)snprintf(out, CLLM_SHM_DOING, "invalid role %u", slot->command.role);
    }
}

/* Only a worker has others of its kind. */
static const char *work_goes_on(uint32_t role, const char *worker, const char *loader,
                                const char *saver)
{
    return role == CLLM_ROLE_LOADER ? loader : role == CLLM_ROLE_SAVER ? saver : worker;
}

static void phrase(char out[CLLM_SHM_DOING], const struct cllm_shm_view *view,
                   const struct cllm_shm_slot *slot)
{
    const struct cllm_assignment *work = current(&slot->command);
    const char *text = NULL;

    switch ((enum cllm_slot_state)slot->command.state) {
    case CLLM_SLOT_EMPTY:
        text = "no process";
        break;
    case CLLM_SLOT_STARTING:
        text = "starts";
        break;
    case CLLM_SLOT_IDLE:
    case CLLM_SLOT_BUSY:
        if (work)
            phrase_work(out, work);
        else
            phrase_idle(out, view, slot);
        return;
    case CLLM_SLOT_SUSPECT:
        text = work_goes_on(slot->command.role, "makes no progress: others do its work",
                            "makes no progress: the workers wait for it",
                            "makes no progress: the next checkpoint waits for it");
        break;
    case CLLM_SLOT_STOPPED:
        text = work_goes_on(slot->command.role, "stopped by a signal: others do its work",
                            "stopped by a signal: the workers wait for it",
                            "stopped by a signal: the next checkpoint waits for it");
        break;
    case CLLM_SLOT_UNKILLABLE:
        text = "cannot be ended: out of use";
        break;
    case CLLM_SLOT_KILLING:
        text = "is being killed";
        break;
    case CLLM_SLOT_COOLDOWN:
        text = "dead, will be started again";
        break;
    case CLLM_SLOT_DISABLED:
        text = "dead, will not be started again";
        break;
    default:
        (void)snprintf(out, CLLM_SHM_DOING, "invalid state %u", slot->command.state);
        return;
    }
    (void)snprintf(out, CLLM_SHM_DOING, "%s", text);
}

/* Time at work and time with nothing to do, since the process started. */
static void derive_busy(struct cllm_shm_slot *slot)
{
    const struct cllm_status *status = &slot->status;
    uint64_t idle = cllm_load_relaxed(&status->idle_ns);
    uint64_t data = cllm_min_u64(slot->command.wait_data_ns, idle);
    struct cllm_shm_time *time = &slot->time;
    double all;

    if (slot->command.role == CLLM_ROLE_WORKER) {
        *time = (struct cllm_shm_time){.lane = cllm_load_relaxed(&status->lane_ns),
                                       .fold = cllm_load_relaxed(&status->fold_ns),
                                       .update = cllm_load_relaxed(&status->update_ns),
                                       .eval = cllm_load_relaxed(&status->eval_ns),
                                       .wait_data = data,
                                       .wait_schedule = idle - data};
        slot->busy_ns = time->lane + time->fold + time->update + time->eval;
    } else if (slot->command.role == CLLM_ROLE_LOADER) {
        slot->busy_ns = cllm_load_relaxed(&status->busy_ns);
    } else {
        slot->busy_ns = cllm_load_relaxed(&status->save_ns);
    }
    all = (double)slot->busy_ns + (double)idle;
    /* Only a process that counts its idle time has a share. */
    slot->busy_share = idle > 0 && all > 0 ? (double)slot->busy_ns / all : -1.0;
}

/* Had it a process, as Node Zero saw it last, and is there none any more? */
static bool has_gone(const struct cllm_command *command)
{
    char process_state = '\0';

    if (command->state == CLLM_SLOT_EMPTY || command->state == CLLM_SLOT_COOLDOWN ||
        command->state == CLLM_SLOT_DISABLED)
        return false;
    if (command->pid != 0 && command->start_ticks != 0 &&
        cllm_process_start_ticks(command->pid) == command->start_ticks)
        process_state = cllm_shm_process_state(command->pid);
    return process_state == '\0' || process_state == 'Z' || process_state == 'X';
}

const char *cllm_shm_slot_state(const struct cllm_shm_slot *slot)
{
    return slot->gone ? "gone" : cllm_slot_state_name(slot->command.state);
}

void cllm_shm_slot_derive(struct cllm_shm_view *view, uint32_t index)
{
    struct cllm_shm_slot *slot = &view->slot[index];
    uint32_t generation = cllm_load_relaxed(&slot->command.generation);

    slot->said_hello = generation != 0 &&
                       cllm_load_relaxed(&slot->status.hello_generation) == generation;
    slot->gone = cllm_shm_life_headless(view) && has_gone(&slot->command);
    derive_busy(slot);
    phrase(slot->doing, view, slot);
}

void cllm_shm_slot_done(char out[CLLM_SHM_DOING], const struct cllm_shm_slot *slot)
{
    const struct cllm_status *status = &slot->status;
    char text[CLLM_UNITS_BYTES];

    switch ((enum cllm_role)slot->command.role) {
    case CLLM_ROLE_WORKER:
        (void)snprintf(out, CLLM_SHM_DOING, "%s",
                       cllm_format_count(text, cllm_load_relaxed(&status->lanes_done)));
        break;
    case CLLM_ROLE_LOADER:
        (void)snprintf(out, CLLM_SHM_DOING, "%s",
                       cllm_format_bytes(text, cllm_load_relaxed(&status->read_bytes)));
        break;
    case CLLM_ROLE_SAVER:
        (void)snprintf(out, CLLM_SHM_DOING, "%s",
                       cllm_format_bytes(text, cllm_load_relaxed(&status->saved_bytes)));
        break;
    default:
        (void)snprintf(out, CLLM_SHM_DOING, "-");
    }
}

const char *cllm_shm_time_text(char out[CLLM_SHM_TIME], const struct cllm_shm_time *time)
{
    const struct {
        const char *name;
        uint64_t ns;
        bool always;
    } parts[] = {
        {"lanes", time->lane, true},
        {"fold", time->fold, true},
        {"update", time->update, true},
        {"validation", time->eval, false},
        {"waits for data", time->wait_data, true},
        {"for work", time->wait_schedule, true},
    };
    double all = cllm_shm_time_all(time);
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < CLLM_LEN(parts) && all > 0; i++) {
        if (parts[i].ns == 0 && !parts[i].always)
            continue;
        used += (size_t)snprintf(out + used, CLLM_SHM_TIME - used, "%s%s %.1f %%",
                                 used > 0 ? ", " : "", parts[i].name,
                                 100.0 * (double)parts[i].ns / all);
    }
    return out;
}
