/*
 * tests/crash/sim_check.c - the rules that hold at every instant, looked at store by
 * store.
 *
 * The checker keeps its own book of who holds which assignment and who has answered
 * (sim_check_work.c); it never asks Node Zero. It only reads shared memory, and calls
 * nothing that is instrumented.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "shm/chunk.h"
#include "tests/crash/sim.h"

enum sim_after {
    AFTER_RECORD = 1u << 0,
    AFTER_LANE = 1u << 1,
    AFTER_ASSIGN = 1u << 2,
    AFTER_REPORT = 1u << 3,
    AFTER_TAKEN = 1u << 4,
    AFTER_FILLED = 1u << 5,
    AFTER_READY = 1u << 6,
    AFTER_CHUNK = 1u << 7,
    AFTER_HELLO = 1u << 8,
};

static struct {
    struct cllm_lane lane; /* before the store */
    uint64_t filled;
    struct sim_process *writer;
} before;

/* ---- pointers into the control object, without the code under test ---- */

static void look(const struct sim_object *object)
{
    uint8_t *base = sim.arena + object->off;
    struct cllm_header *header = (struct cllm_header *)(void *)base;

    sim.view = (struct cllm_control){.slot = CLLM_NONE, .header = header};
    sim.view.state = (struct cllm_state *)(void *)(base + header->state_off);
    sim.view.record = (struct cllm_step_record *)(void *)(base + header->records_off);
    sim.view.lane = (struct cllm_lane *)(void *)(base + header->lanes_off);
    sim.view.chunk = (struct cllm_chunk *)(void *)(base + header->chunks_off);
    sim.view.slots = (struct cllm_slot *)(void *)(base + header->slots_off);
    sim.have_view = true;
}

static uint64_t record_sum(const struct cllm_step_record *record)
{
    return cllm_hash(record, offsetof(struct cllm_step_record, sum), record->step);
}

/* The newest valid record, or NULL. */
static const struct cllm_step_record *newest_record(void)
{
    const struct cllm_step_record *found = NULL;

    for (uint32_t i = 0; i < 2; i++) {
        const struct cllm_step_record *record = &sim.view.record[i];

        if (record->sum == record_sum(record) && (record->step & 1) == i &&
            record->sum != 0 && (!found || record->step > found->step))
            found = record;
    }
    return found;
}

static void compare_bytes(uint64_t step)
{
    const uint64_t *want = sim.golden[step].words;
    const uint8_t *base = sim_object_base(SIM_OBJECT_PARAMS, (uint32_t)(step & 1));
    uint32_t n = sim_words();

    for (uint32_t part = 0; base && part < 3; part++)
        if (memcmp(base + part * cllm_vector_bytes(&sim.geometry), want + part * n,
                   n * sizeof *want) != 0)
            sim_violation("bytes",
                          "version %u is not what step %" PRIu64 " makes (part %u)",
                          (unsigned)(step & 1), step, part);
}

static void compare_chunks(void)
{
    uint64_t root = cllm_chunk_root(sim.view.chunk, sim.geometry.n_chunks,
                                    (uint32_t)(sim.newest & 1));

    if (root != sim.newest_root)
        sim_violation("chunk table",
                      "the hashes of version %u are not those of the record of step "
                      "%" PRIu64,
                      (unsigned)(sim.newest & 1), sim.newest);
}

static void check_records(void)
{
    const struct cllm_step_record *record = newest_record();
    const struct cllm_step_record *want;
    uint64_t committed = sim.view.state->committed;

    if (sim.scribbled) {
        /* Until something is committed again. */
        if (!record || committed != record->step || sim.after_commit == 0)
            return;
        sim.scribbled = false;
    }
    if (!record) {
        if (sim.newest != SIM_NO_STEP)
            sim_violation("record", "no valid record is left, step %" PRIu64 " was there",
                          sim.newest);
        return;
    }
    if (sim.newest != SIM_NO_STEP && record->step < sim.newest)
        sim_violation("record", "the newest record is of step %" PRIu64 ", was %" PRIu64,
                      record->step, sim.newest);
    if (record->step != sim.newest) {
        want = &sim.golden[record->step].record;
        if (record->step > sim.plan.steps)
            sim_violation("record", "step %" PRIu64 " is beyond the run", record->step);
        sim.newest = record->step;
        sim.newest_root = record->root;
        sim.totals.commits++;
        if (record->root != want->root || record->tokens != want->tokens ||
            record->cursor != want->cursor ||
            memcmp(&record->loss, &want->loss, sizeof want->loss) != 0 ||
            (isnan(want->valid_loss) ? !isnan(record->valid_loss)
                                     : record->valid_loss != want->valid_loss))
            sim_violation("golden",
                          "step %" PRIu64 ": root %016" PRIx64 ", golden %016" PRIx64
                          "; loss %a, golden %a; valid %a, golden %a",
                          record->step, record->root, want->root, record->loss,
                          want->loss, record->valid_loss, want->valid_loss);
        compare_bytes(record->step);
        compare_chunks();
    }
    if (committed > sim.newest)
        sim_violation("committed",
                      "step %" PRIu64 " is called committed, its record is not there",
                      committed);
}

/* ---- the ring ---- */

static void check_filled(uint32_t slot)
{
    const struct cllm_geometry *g = &sim.geometry;
    const uint8_t *base = sim_object_base(SIM_OBJECT_RING, 0);
    uint64_t filled = sim.view.slots[slot].own.status.filled;
    uint64_t per_step = (uint64_t)g->lanes * g->microbatches;
    uint64_t from = cllm_max_u64(before.filled, sim.view.state->committed * per_step);
    const struct cllm_ring_slot *head = (const struct cllm_ring_slot *)(const void *)base;
    uint64_t slots = (uint64_t)g->ring_slots + g->ring_eval_slots;
    uint64_t row = (uint64_t)g->model.context + 1;

    if (!base || !before.writer->answer_good || sim.ring_damaged)
        return;
    for (uint64_t batch = from; batch < filled; batch++) {
        uint64_t at = batch % g->ring_slots;
        const uint32_t *tokens =
            (const uint32_t *)(const void *)(base + cllm_align_up(slots * sizeof *head,
                                                                  CLLM_PAGE)) +
            at * g->sequences * row;

        if (head[at].ready != batch + 1 || head[at].batch != batch)
            sim_violation("ring",
                          "batch %" PRIu64 " is called filled, slot %" PRIu64
                          " holds %" PRIu64,
                          batch, at, head[at].batch);
        for (uint32_t r = 0; r < g->sequences; r++) {
            uint32_t want[16];

            sim_tokens(false, batch * g->sequences + r, want);
            if (memcmp(tokens + r * row, want, row * sizeof *want) != 0)
                sim_violation("ring", "batch %" PRIu64 " has other tokens", batch);
        }
    }
}

/* ---- the two doors ---- */

static void before_control(uint64_t rel, uint64_t off)
{
    const struct cllm_header *h = sim.view.header;
    uint64_t in;

    if (rel == offsetof(struct cllm_header, ready)) {
        sim.after |= AFTER_READY;
        return;
    }
    if (!sim.have_view)
        return;
    sim.after_off = off;
    if (rel >= h->slots_off) {
        uint32_t slot = (uint32_t)((rel - h->slots_off) / sizeof(struct cllm_slot));

        if (slot >= sim.geometry.n_slots)
            return;
        in = (rel - h->slots_off) % sizeof(struct cllm_slot);
        for (uint32_t k = 0; k < 2; k++) {
            if (in == offsetof(struct cllm_slot, command.assignment) +
                          k * sizeof(struct cllm_assignment) +
                          offsetof(struct cllm_assignment, seq))
                sim.after |= AFTER_ASSIGN;
            if (in == offsetof(struct cllm_slot, own.report) +
                          k * sizeof(struct cllm_report) +
                          offsetof(struct cllm_report, seq))
                sim.after |= AFTER_REPORT;
        }
        if (in == offsetof(struct cllm_slot, own.status.hello_generation))
            sim.after |= AFTER_HELLO;
        if (in == offsetof(struct cllm_slot, command.reported))
            sim.after |= AFTER_TAKEN;
        if (in == offsetof(struct cllm_slot, own.status.filled) &&
            slot == sim.geometry.n_worker_slots) {
            before.filled = sim.view.slots[slot].own.status.filled;
            before.writer = sim.current;
            sim.after |= AFTER_FILLED;
        }
    } else if (rel >= h->chunks_off &&
               rel < h->chunks_off + sim.geometry.n_chunks * sizeof(struct cllm_chunk)) {
        in = (rel - h->chunks_off) % sizeof(struct cllm_chunk);
        if (in >= offsetof(struct cllm_chunk, sum))
            sim.after |= AFTER_CHUNK;
    } else if (rel >= h->lanes_off &&
               rel < h->lanes_off + sim.geometry.lanes * sizeof(struct cllm_lane)) {
        before.lane = sim.view.lane[(rel - h->lanes_off) / sizeof(struct cllm_lane)];
        sim.after |= AFTER_LANE;
    } else if (rel >= h->records_off && rel < h->records_off + CLLM_PAGE) {
        sim.after |= AFTER_RECORD;
    } else if (rel == h->state_off + offsetof(struct cllm_state, committed)) {
        sim.after_commit = sim.view.state->phase == CLLM_PHASE_COMMIT;
        sim.after |= AFTER_RECORD;
    }
}

void sim_check_before(uint64_t off, uint32_t bytes)
{
    const struct sim_object *object = sim_object_at(off);

    if (!sim_may_write(sim.current, off, bytes))
        sim_violation("memory", "%s may not write here", sim_process_name(sim.current));
    switch (object->kind) {
    case SIM_OBJECT_CONTROL:
        before_control(off - object->off, off);
        break;
    case SIM_OBJECT_PARAMS:
        if (sim.newest != SIM_NO_STEP && (sim.newest & 1) == object->index)
            sim_violation("committed bytes",
                          "%s writes version %u, which is step %" PRIu64,
                          sim_process_name(sim.current), object->index, sim.newest);
        for (uint32_t i = 1; i < SIM_PROCESSES; i++)
            if (sim.process[i].live && sim.process[i].reading == object->index + 1 &&
                sim.view.slots[sim.process[i].slot].own.status.holds_version ==
                    object->index + 1)
                sim_violation("pin", "%s writes version %u, which is being saved",
                              sim_process_name(sim.current), object->index);
        break;
    case SIM_OBJECT_NONE:
    case SIM_OBJECT_LANE:
    case SIM_OBJECT_FOLD:
    case SIM_OBJECT_RING:
    default:
        break;
    }
}

void sim_check_after(void)
{
    uint32_t after = sim.after;
    uint64_t rel, slot = 0, in = 0;
    const struct cllm_header *h = sim.view.header;

    sim.after = 0;
    if (after & AFTER_READY) {
        sim.scribbled = false; /* made anew */
        sim_check_attach();
    }
    if (!sim.have_view)
        return;
    rel = sim.after_off - (uint64_t)((uintptr_t)h - (uintptr_t)sim.arena);
    if (after &
        (AFTER_ASSIGN | AFTER_REPORT | AFTER_TAKEN | AFTER_FILLED | AFTER_HELLO)) {
        slot = (rel - h->slots_off) / sizeof(struct cllm_slot);
        in = (rel - h->slots_off) % sizeof(struct cllm_slot);
    }
    if (after & AFTER_ASSIGN)
        sim_check_post((uint32_t)slot,
                       (uint32_t)((in - offsetof(struct cllm_slot, command.assignment)) /
                                  sizeof(struct cllm_assignment)));
    if (after & AFTER_REPORT)
        sim_check_report((uint32_t)slot,
                         (uint32_t)((in - offsetof(struct cllm_slot, own.report)) /
                                    sizeof(struct cllm_report)));
    if (after & AFTER_HELLO)
        sim.process[1 + slot].greeted |=
            sim.view.slots[slot].own.status.hello_generation ==
            sim.process[1 + slot].generation;
    if (after & AFTER_TAKEN)
        sim_check_taken((uint32_t)slot);
    if (after & AFTER_FILLED)
        check_filled((uint32_t)slot);
    if (after & AFTER_LANE)
        sim_check_lane((uint32_t)((rel - h->lanes_off) / sizeof(struct cllm_lane)),
                       &before.lane);
    if (after & AFTER_RECORD)
        check_records();
    sim.after_commit = 0;
    if ((after & AFTER_CHUNK) && sim.newest != SIM_NO_STEP)
        compare_chunks();
}

void sim_check_attach(void)
{
    const struct sim_object *object = NULL;
    const struct cllm_header *header;

    for (uint32_t i = 1; i < SIM_OBJECTS; i++)
        if (sim.object[i].named && sim.object[i].kind == SIM_OBJECT_CONTROL)
            object = &sim.object[i];
    if (!object) {
        sim.have_view = false;
        sim.newest = SIM_NO_STEP;
        return;
    }
    header = (const struct cllm_header *)(const void *)(sim.arena + object->off);
    if (header->ready != CLLM_LAYOUT_MAGIC) {
        sim.have_view = false;
        sim.newest = SIM_NO_STEP;
        return;
    }
    look(object);
    check_records();
}

void sim_check_removal(void)
{
    if (sim.have_view && !sim.scribbled && sim.newest != SIM_NO_STEP && sim.newest > 0 &&
        !sim.checkpoint[sim.newest].there)
        sim_violation("lost",
                      "step %" PRIu64 " stands in memory alone, and that is removed",
                      sim.newest);
}

void sim_check_scribbled(void)
{
    sim.after = 0;
    if (sim.scribbled)
        sim.newest = SIM_NO_STEP;
}

void sim_check_reset(void)
{
    sim.after = 0;
    sim.newest = SIM_NO_STEP;
    sim.have_view = false;
}

void sim_check_all(void)
{
    if (!sim.have_view || sim.scribbled)
        return;
    check_records();
    if (sim.newest != SIM_NO_STEP) {
        compare_bytes(sim.newest);
        compare_chunks();
    }
}

void sim_check_end(int exit_code)
{
    bool stops = sim.plan.bad != SIM_END_WELL && !sim.plan.skip;
    uint32_t last = stops ? sim.plan.bad_step - 1 : sim.plan.steps;
    int want = !stops                              ? CLLM_EXIT_OK
               : sim.plan.bad == SIM_END_NONFINITE ? CLLM_EXIT_NONFINITE
                                                   : CLLM_EXIT_FAILURE;

    if (exit_code != want)
        sim_violation("exit", "Node Zero left with exit code %d, expected %d", exit_code,
                      want);
    if (sim.n_lines != last)
        sim_violation("journal", "%u lines, %u steps", sim.n_lines, last);
    if (last > 0 && !sim.checkpoint[last].there && !(stops && sim.saves_failed >= 3))
        sim_violation("checkpoint", "the last step was not saved");
    for (uint32_t step = 0; step <= sim.plan.steps; step++)
        if (sim.checkpoint[step].there)
            sim_house_verify_checkpoint(step);
    for (uint32_t i = 1; i < SIM_PROCESSES; i++)
        if (sim.process[i].exists)
            sim_violation("left behind", "%s still lives",
                          sim_process_name(&sim.process[i]));
    for (uint32_t i = 1; i < SIM_OBJECTS; i++)
        if (sim.object[i].named && !(stops && sim.saves_failed >= 3))
            sim_violation("left behind", "%s is still there", sim.object[i].name);
}
