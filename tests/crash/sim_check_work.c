/*
 * tests/crash/sim_check_work.c - the checker's own book of who holds which assignment,
 * who has answered, and which lanes are finished.
 */
#include <inttypes.h>
#include <string.h>

#include "shm/takeover.h"
#include "tests/crash/sim.h"

void *__real_memcpy(void *to, const void *from, size_t n);

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
    if (work->kind == CLLM_WORK_FOLD || work->kind == CLLM_WORK_UPDATE)
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
            return "a lane buffer is written while it is read";
    }
    if (is_sum(writer) && writer->fold_to != CLLM_NONE) {
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

void sim_check_post(uint32_t slot, uint32_t k)
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
            if ((sim.view.lane[l].state == CLLM_LANE_DONE ||
                 (sim.view.lane[l].state == CLLM_LANE_FOLDED &&
                  cllm_lanes_kept(&sim.geometry))) &&
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

void sim_check_report(uint32_t slot, uint32_t k)
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

void sim_check_taken(uint32_t slot)
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

/* The new Node Zero has given up a lane that it found finished, for a reason. */
static void forget_kept(uint32_t l)
{
    for (uint32_t i = 0; i < sim.n_kept; i++)
        if (sim.kept[i].lane == l)
            sim.kept[i].table = 0;
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

void sim_check_lane(uint32_t l, const struct cllm_lane *was)
{
    const struct cllm_lane *now = &sim.view.lane[l];

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

/* ---- what a new Node Zero finds ---- */

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

/* The open step has a lane that is truly not finite: once two say so, all of it is done
 * again after what is committed was verified. */
static bool is_done_twice(void)
{
    return sim.plan.bad == SIM_END_NONFINITE && sim.newest + 1 == sim.plan.bad_step;
}

void sim_check_adoption(void)
{
    sim.n_kept = 0;
    sim.kept_faults = sim.totals.faults + sim.totals.damages;
    sim_check_all();
    if (!sim.have_view || sim.view.state->wishes != 0 || sim.view.state->distrust != 0 ||
        sim.scribbled || sim.suspect || sim.newest == SIM_NO_STEP ||
        sim.view.state->lanes_of >> 1 != sim.newest + 2 ||
        sim.plan.wrong_slot != CLLM_NONE || sim.plan.audit != 0 || is_done_twice() ||
        sim.view.state->phase == CLLM_PHASE_VERIFY ||
        /* children leave and are not listened to, or memory is being removed */
        sim.view.state->run_state >= CLLM_RUN_STOPPING)
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
