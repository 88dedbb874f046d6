/*
 * tests/crash/sim_check.c - the rules that hold at every instant, looked at store by
 * store.
 *
 * The checker keeps its own book of who holds which assignment and who has answered; it
 * never asks Node Zero. It only reads shared memory, and calls nothing that is
 * instrumented.
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "shm/chunk.h"
#include "shm/takeover.h"
#include "tests/crash/sim.h"

#define NOTHING UINT64_MAX

void *__real_memcpy(void *to, const void *from, size_t n);

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
        if (sim.newest != NOTHING)
            sim_violation("record", "no valid record is left, step %" PRIu64 " was there",
                          sim.newest);
        return;
    }
    if (sim.newest != NOTHING && record->step < sim.newest)
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

/* ---- who may still write what, and who reads it ---- */

static bool chunks_meet(const struct cllm_assignment *a, const struct cllm_assignment *b)
{
    return a->chunk_lo < b->chunk_hi && b->chunk_lo < a->chunk_hi;
}

static bool is_sum(const struct cllm_assignment *work)
{
    return work->kind == CLLM_WORK_FOLD || work->kind == CLLM_WORK_MERGE;
}

static bool is_version(const struct cllm_assignment *work)
{
    return work->kind == CLLM_WORK_UPDATE || work->kind == CLLM_WORK_COPY ||
           work->kind == CLLM_WORK_INIT || work->kind == CLLM_WORK_LOAD;
}

static bool reads_fold(const struct cllm_assignment *work, uint32_t fold)
{
    return ((is_sum(work) || work->kind == CLLM_WORK_UPDATE) &&
            work->fold_from == fold) ||
           (work->kind == CLLM_WORK_MERGE && work->fold_add == fold);
}

/* A lane reads a version too, but what comes of it goes to a buffer of its own, and its
 * report is late once another step is open: it may read what it likes. */
static bool reads_version(const struct cllm_assignment *work, uint32_t version)
{
    return (work->kind == CLLM_WORK_UPDATE || work->kind == CLLM_WORK_COPY ||
            work->kind == CLLM_WORK_VERIFY) &&
           work->version == version;
}

static bool reads_buffer(const struct cllm_assignment *work, uint32_t buffer)
{
    if (work->kind == CLLM_WORK_FOLD)
        for (uint32_t i = 0; i < work->lane_hi - work->lane_lo; i++)
            if (work->buffers[i] == buffer)
                return true;
    return false;
}

/* Do both write the same bytes from the same bytes? Then twice is as good as once. */
static bool same_work(const struct cllm_assignment *a, const struct cllm_assignment *b)
{
    return a->kind == b->kind && a->step == b->step && a->version == b->version &&
           a->target == b->target && a->fold_from == b->fold_from &&
           a->fold_to == b->fold_to && a->fold_add == b->fold_add &&
           a->lane_lo == b->lane_lo && a->lane_hi == b->lane_hi &&
           memcmp(&a->grad_scale, &b->grad_scale, sizeof a->grad_scale) == 0 &&
           memcmp(a->buffers, b->buffers, sizeof a->buffers) == 0;
}

/* What of @writer's writing spoils @other; NULL: nothing. */
static const char *spoils(const struct cllm_assignment *writer,
                          const struct cllm_assignment *other)
{
    if (writer->kind == CLLM_WORK_LANE) {
        if (other->kind == CLLM_WORK_LANE && other->buffer == writer->buffer)
            return "two write one lane buffer";
        if (reads_buffer(other, writer->buffer))
            return "a lane buffer is written while it is folded";
    }
    if (is_sum(writer)) {
        if (reads_fold(other, writer->fold_to) && chunks_meet(writer, other))
            return "a fold is written while it is read";
        if (is_sum(other) && other->fold_to == writer->fold_to &&
            chunks_meet(writer, other) && !same_work(writer, other))
            return "two write other things into one fold";
    }
    if (is_version(writer)) {
        if (reads_version(other, writer->target))
            return "a version is written while it is read";
        if (is_version(other) && other->target == writer->target &&
            chunks_meet(writer, other) && !same_work(writer, other))
            return "two write other things into one version";
    }
    return NULL;
}

static void check_again(uint64_t table, uint32_t l);

static void check_post(uint32_t slot, uint32_t k)
{
    const struct cllm_assignment *entry = &sim.view.slots[slot].command.assignment[k];
    struct sim_process *self = &sim.process[1 + slot];
    uint64_t seq = entry->seq;
    uint32_t at = 0;

    if (seq == 0)
        return;
    if (entry->kind == CLLM_WORK_LANE || entry->kind == CLLM_WORK_EVAL)
        check_again(cllm_lanes_of(entry->step, entry->kind == CLLM_WORK_EVAL),
                    entry->lane);
    if (entry->kind == CLLM_WORK_LANE)
        for (uint32_t l = 0; l < sim.geometry.lanes; l++)
            if (sim.view.lane[l].state == CLLM_LANE_DONE &&
                sim.view.lane[l].buffer == entry->buffer)
                sim_violation("buffers", "buffer %u of lane %u is given to lane %u",
                              entry->buffer, l, entry->lane);
    if (!self->live) {
        /* Whoever dies of a fault is blamed for what he is given afterwards. */
        sim.blamed |= self->exists && self->end_signal && self->end_code != 9;
        return;
    }
    if (!self->greeted)
        sim_violation("post", "%s is given work and has not said hello",
                      sim_process_name(self));
    for (uint32_t h = 0; h < CLLM_LEN(self->held); h++)
        if (self->held[h].active && (self->held[h].seq & 1) == (seq & 1))
            sim_violation("post",
                          "assignment %" PRIu64 " of slot %u overwrites %" PRIu64
                          ", which is not answered",
                          seq, slot, self->held[h].seq);
    for (uint32_t i = 1; i < SIM_PROCESSES; i++) {
        const struct sim_process *other = &sim.process[i];

        if (other == self || !other->live)
            continue;
        for (uint32_t h = 0; h < CLLM_LEN(other->held); h++) {
            const char *why;

            if (!other->held[h].active)
                continue;
            why = spoils(entry, &other->held[h].work);
            if (!why)
                why = spoils(&other->held[h].work, entry);
            if (why)
                sim_violation("writers",
                              "%s: %s is given %s %" PRIu64 " (lane %u, step %" PRIu64
                              "), %s has %s %" PRIu64 " (lane %u, step %" PRIu64
                              "), answered %" PRIu64,
                              why, sim_process_name(self), cllm_work_name(entry->kind),
                              seq, entry->lane, entry->step, sim_process_name(other),
                              cllm_work_name(other->held[h].work.kind),
                              other->held[h].seq, other->held[h].work.lane,
                              other->held[h].work.step, other->answered);
        }
    }
    while (at < CLLM_LEN(self->held) && self->held[at].active)
        at++;
    if (at == CLLM_LEN(self->held))
        sim_violation("post", "slot %u holds %u unanswered assignments", slot, at);
    (void)__real_memcpy(&self->held[at].work, entry, sizeof *entry);
    self->held[at].seq = seq;
    self->held[at].active = true;
}

static void check_report(uint32_t slot, uint32_t k)
{
    struct sim_process *self = &sim.process[1 + slot];
    uint64_t seq = sim.view.slots[slot].own.report[k].seq;

    if (seq == 0)
        return;
    for (uint32_t h = 0; h < CLLM_LEN(self->held); h++)
        if (self->held[h].active && self->held[h].seq == seq) {
            self->held[h].active = false;
            self->answer[seq & 1] = self->held[h];
        }
    self->answered = seq;
}

static void check_taken(uint32_t slot)
{
    const struct sim_process *process = &sim.process[1 + slot];
    uint64_t taken = sim.view.slots[slot].command.reported;

    if (taken > 0 && process->answered < taken)
        sim_violation("report",
                      "report %" PRIu64 " of slot %u was taken, %s gave %" PRIu64, taken,
                      slot, sim_process_name(process), process->answered);
}

/* ---- lanes ---- */

/* Does the report that @process gave last or before say how lane @l ended? */
static bool answers_lane(const struct sim_process *process, uint32_t k, uint32_t l)
{
    const struct cllm_assignment *work = &process->answer[k].work;
    uint64_t table = sim.view.state->lanes_of;
    uint32_t kind = table & 1 ? CLLM_WORK_EVAL : CLLM_WORK_LANE;

    return process->answer[k].seq != 0 && work->kind == kind && work->lane == l &&
           cllm_lanes_of(work->step, table & 1) == table;
}

static void check_done(uint32_t l)
{
    const struct cllm_lane *now = &sim.view.lane[l];
    const struct sim_process *process;

    for (uint32_t i = 0; i < sim.geometry.lanes && now->buffer != CLLM_NONE; i++)
        if (i != l && sim.view.lane[i].state == CLLM_LANE_DONE &&
            sim.view.lane[i].buffer == now->buffer)
            sim_violation("buffers", "lanes %u and %u have buffer %u", l, i, now->buffer);
    if (now->slot >= sim.geometry.n_worker_slots)
        sim_violation("work invented", "lane %u is done by nobody", l);
    process = &sim.process[1 + now->slot];
    for (uint32_t k = 0; k < 2; k++)
        if (answers_lane(process, k, l) && process->answer[k].work.buffer == now->buffer)
            return;
    sim_violation("work invented", "lane %u is done, %s has not said so", l,
                  sim_process_name(process));
}

/* Nobody computes the lane any more: has somebody finished it, and nobody listened? */
static void check_given_back(uint32_t l)
{
    for (uint32_t slot = 0; slot < sim.geometry.n_worker_slots; slot++) {
        const struct sim_process *process = &sim.process[1 + slot];
        const struct cllm_command *command = &sim.view.slots[slot].command;

        for (uint32_t k = 0; k < 2; k++)
            if (answers_lane(process, k, l) && process->answer_good &&
                process->parent == sim.process[0].pid &&
                process->generation == command->generation &&
                process->answer[k].seq > command->reported)
                sim_violation("work lost", "lane %u was finished by %s and is done again",
                              l, sim_process_name(process));
    }
}

/* The new Node Zero has given up a lane that it found finished, for a reason. */
static void forget_kept(uint32_t l)
{
    for (uint32_t i = 0; i < sim.n_kept; i++)
        if (sim.kept[i].lane == l)
            sim.kept[i].table = 0;
}

static void check_lane(uint32_t l)
{
    const struct cllm_lane *now = &sim.view.lane[l], *was = &before.lane;

    if (now->state == was->state)
        return;
    if (was->state == CLLM_LANE_DONE && now->state == CLLM_LANE_READY)
        forget_kept(l); /* its buffer was needed for the front of the fold */
    if (now->state == CLLM_LANE_FOLDED)
        for (uint32_t i = 0; i < l; i++)
            if (sim.view.lane[i].state != CLLM_LANE_FOLDED)
                sim_violation("fold order", "lane %u is folded before lane %u", l, i);
    if (now->state == CLLM_LANE_DONE)
        check_done(l);
    if (now->state == CLLM_LANE_READY &&
        (was->state == CLLM_LANE_ASSIGNED || was->state == CLLM_LANE_DUPLICATED))
        check_given_back(l);
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
        if (sim.newest != NOTHING && (sim.newest & 1) == object->index)
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
        check_post((uint32_t)slot,
                   (uint32_t)((in - offsetof(struct cllm_slot, command.assignment)) /
                              sizeof(struct cllm_assignment)));
    if (after & AFTER_REPORT)
        check_report((uint32_t)slot,
                     (uint32_t)((in - offsetof(struct cllm_slot, own.report)) /
                                sizeof(struct cllm_report)));
    if (after & AFTER_HELLO)
        sim.process[1 + slot].greeted |=
            sim.view.slots[slot].own.status.hello_generation ==
            sim.process[1 + slot].generation;
    if (after & AFTER_TAKEN)
        check_taken((uint32_t)slot);
    if (after & AFTER_FILLED)
        check_filled((uint32_t)slot);
    if (after & AFTER_LANE)
        check_lane((uint32_t)((rel - h->lanes_off) / sizeof(struct cllm_lane)));
    if (after & AFTER_RECORD)
        check_records();
    sim.after_commit = 0;
    if ((after & AFTER_CHUNK) && sim.newest != NOTHING)
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
        sim.newest = NOTHING;
        return;
    }
    header = (const struct cllm_header *)(const void *)(sim.arena + object->off);
    if (header->ready != CLLM_LAYOUT_MAGIC) {
        sim.have_view = false;
        sim.newest = NOTHING;
        return;
    }
    look(object);
    check_records();
}

void sim_check_removal(void)
{
    if (sim.have_view && !sim.scribbled && sim.newest != NOTHING && sim.newest > 0 &&
        !sim.checkpoint[sim.newest].there)
        sim_violation("lost",
                      "step %" PRIu64 " stands in memory alone, and that is removed",
                      sim.newest);
}

void sim_check_scribbled(void)
{
    sim.after = 0;
    if (sim.scribbled)
        sim.newest = NOTHING;
}

/* Is there a good report of @process, a child of the Node Zero that has just died, about
 * lane @l of the table as it is? */
static bool kept_report(const struct sim_process *process, uint32_t l)
{
    const struct cllm_own *own = &sim.view.slots[process->slot].own;

    for (uint32_t k = 0; k < 2; k++)
        if (answers_lane(process, k, l) && process->answer_good &&
            process->parent == sim.process[0].pid &&
            process->generation == sim.view.slots[process->slot].command.generation &&
            process->answer[k].seq > sim.view.slots[process->slot].command.reported &&
            own->report[k].seq == process->answer[k].seq &&
            (own->report[k].flags & CLLM_REPORT_FINITE) &&
            !(own->report[k].flags & CLLM_REPORT_BAD_BATCH))
            return true;
    return false;
}

void sim_check_adoption(void)
{
    sim.n_kept = 0;
    sim.kept_faults = sim.totals.faults + sim.totals.damages;
    sim_check_all();
    if (!sim.have_view || sim.view.state->wishes != 0 || sim.view.state->distrust != 0 ||
        sim.scribbled || sim.suspect || sim.newest == NOTHING ||
        sim.view.state->lanes_of >> 1 != sim.newest + 2 ||
        sim.plan.wrong_slot != CLLM_NONE || sim.plan.audit != 0 ||
        sim.view.state->phase == CLLM_PHASE_VERIFY)
        return;
    for (uint32_t l = 0; l < sim.geometry.lanes; l++) {
        bool done = sim.view.lane[l].state == CLLM_LANE_DONE ||
                    sim.view.lane[l].state == CLLM_LANE_FOLDED;

        for (uint32_t slot = 0; slot < sim.geometry.n_worker_slots && !done; slot++)
            done = kept_report(&sim.process[1 + slot], l);
        if (!done)
            continue;
        sim.kept[sim.n_kept].table = sim.view.state->lanes_of;
        sim.kept[sim.n_kept++].lane = l;
    }
}

/* Lane @l of the table is computed, perhaps once more. */
static void check_again(uint64_t table, uint32_t l)
{
    if (sim.totals.faults + sim.totals.damages != sim.kept_faults)
        return; /* a step that is done again after a fault signal */
    for (uint32_t i = 0; i < sim.n_kept; i++)
        if (sim.kept[i].table == table && sim.kept[i].lane == l)
            sim_violation("work lost",
                          "lane %u was finished before Node Zero died and is done again",
                          l);
}

void sim_check_reset(void)
{
    sim.after = 0;
    sim.newest = NOTHING;
    sim.have_view = false;
}

void sim_check_all(void)
{
    if (!sim.have_view || sim.scribbled)
        return;
    check_records();
    if (sim.newest != NOTHING) {
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

/* The tables as they stand. */
static void print_tables(void)
{
    static const char lane_letter[] = "e-adrDFP?";

    (void)printf("step %" PRIu64 " committed, phase %s; lanes ",
                 sim.view.state->committed, cllm_phase_name(sim.view.state->phase));
    for (uint32_t l = 0; l < sim.geometry.lanes; l++)
        (void)putchar(lane_letter[cllm_min_u64(sim.view.lane[l].state, 8)]);
    (void)printf("; chunks ");
    for (uint32_t c = 0; c < sim.geometry.n_chunks; c++)
        (void)putchar("oan?"[cllm_min_u64(sim.view.chunk[c].state, 3)]);
    (void)printf("\n");
    for (uint32_t slot = 0; slot < sim.geometry.n_slots; slot++) {
        const struct cllm_command *command = &sim.view.slots[slot].command;
        const struct sim_process *process = &sim.process[1 + slot];

        (void)printf("slot %u %s, %" PRIu64 " posted, %" PRIu64 " taken, %" PRIu64
                     " answered, filled %" PRIu64 ", %s%s%s%s\n",
                     slot, cllm_slot_state_name(command->state), command->posted,
                     command->reported, process->answered,
                     (uint64_t)sim.view.slots[slot].own.status.filled,
                     process->live ? "lives" : "dead",
                     process->stopped ? ", stopped" : "", process->hung ? ", hangs" : "",
                     process->leaving ? ", leaving" : "");
    }
}

void sim_violation(const char *check, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    sim.failed = check;
    sim_trace_print(40);
    if (sim.have_view)
        print_tables();
    (void)printf("VIOLATION %s: seed %" PRIu64 ", event %" PRIu64 "%s%s: %s\n", check,
                 sim.plan.seed, sim.events, sim.current ? ", " : "",
                 sim.current ? sim_process_name(sim.current) : "", text);
    (void)printf("caught after %" PRIu64 " events in %" PRIu64
                 " runs; again: sim --seed %" PRIu64 " --replay\n",
                 sim.totals.events + sim.events, sim.totals.runs + 1, sim.plan.seed);
    (void)fflush(stdout);
    exit(1);
}
