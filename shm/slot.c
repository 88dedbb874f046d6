/*
 * shm/slot.c - post, take, answer, harvest.
 */
#include "shm/slot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/hash.h"

static uint64_t assignment_sum(const struct cllm_assignment *work, uint64_t seq)
{
    return cllm_hash(work, offsetof(struct cllm_assignment, sum), seq);
}

static uint64_t report_sum(const struct cllm_report *report, uint64_t seq)
{
    return cllm_hash(report, offsetof(struct cllm_report, sum), seq);
}

static uint64_t hello_sum(const struct cllm_status *status, uint32_t generation)
{
    uint64_t sum = cllm_hash(&status->pid, sizeof status->pid, generation);

    sum = cllm_hash(&status->numerics, sizeof status->numerics, sum);
    return cllm_hash(status->kernels, sizeof status->kernels, sum);
}

/* A record whose last member is its atomic seq: copy all but the seq, then set it. */
static void read_assignment(struct cllm_assignment *to,
                            const struct cllm_assignment *shared)
{
    cllm_read_words(to, shared, offsetof(struct cllm_assignment, seq));
}

/* ---- Node Zero's side ---- */

uint32_t cllm_slot_renew(struct cllm_control *control, uint32_t slot)
{
    struct cllm_command *command = &control->slots[slot].command;
    uint32_t generation = cllm_load_relaxed(&command->generation) + 1;

    for (uint32_t k = 0; k < 2; k++)
        cllm_store_relaxed(&command->assignment[k].seq, 0);
    command->posted = 0;
    command->reported = 0;
    cllm_fault(CLLM_FAULT_slot_renew);
    /* release: the child reads it after exec; reports of the old generation are void from
     * here */
    cllm_store_release(&command->generation, generation);
    cllm_fault(CLLM_FAULT_slot_renewed);
    return generation;
}

void cllm_slot_ring(struct cllm_control *control, uint32_t slot)
{
    if (cllm_fault_error(CLLM_FAULT_bell_ring) != 0)
        return;
    /* EOVERFLOW means that it rings already. */
    (void)sem_post(&control->slots[slot].bell.semaphore);
}

uint32_t cllm_slot_outstanding(const struct cllm_control *control, uint32_t slot)
{
    const struct cllm_command *command = &control->slots[slot].command;

    /* More than two only where the page is damaged. */
    return (uint32_t)cllm_min_u64(command->posted - command->reported, 2);
}

const struct cllm_assignment *cllm_slot_unanswered(const struct cllm_control *control,
                                                   uint32_t slot, uint32_t i)
{
    const struct cllm_command *command = &control->slots[slot].command;

    if (i >= cllm_slot_outstanding(control, slot))
        return NULL;
    return &command->assignment[(command->reported + 1 + i) & 1];
}

void cllm_slot_void(struct cllm_control *control, uint32_t slot)
{
    control->slots[slot].command.posted = control->slots[slot].command.reported;
}

uint64_t cllm_slot_post(struct cllm_control *control, uint32_t slot,
                        const struct cllm_assignment *work)
{
    struct cllm_command *command = &control->slots[slot].command;
    uint64_t seq = command->posted + 1;
    struct cllm_assignment *entry = &command->assignment[seq & 1];
    struct cllm_assignment filled;

    CLLM_ASSERT(cllm_slot_outstanding(control, slot) < 2);
    memcpy(&filled, work, offsetof(struct cllm_assignment, seq));
    filled.generation = cllm_load_relaxed(&command->generation);
    filled.sum = assignment_sum(&filled, seq);
    cllm_store_relaxed(&entry->seq, 0);
    cllm_fence_release();
    cllm_fault(CLLM_FAULT_post_cleared);
    cllm_write_words(entry, &filled, offsetof(struct cllm_assignment, seq));
    command->posted = seq;
    cllm_fault(CLLM_FAULT_post_filled);
    /* release: pairs with the acquire in cllm_slot_next() */
    cllm_store_release(&entry->seq, seq);
    cllm_fault(CLLM_FAULT_post_stored);
    cllm_slot_ring(control, slot);
    cllm_fault(CLLM_FAULT_post_rung);
    return seq;
}

/* Is @report a possible answer to @asked? It comes from a process that may be broken. */
static bool answers(const struct cllm_control *control, const struct cllm_report *report,
                    const struct cllm_assignment *asked)
{
    const struct cllm_geometry *g = &control->header->geometry;
    uint64_t rows =
        asked->kind == CLLM_WORK_EVAL ? g->eval_microbatches : g->microbatches;
    bool lane = asked->kind == CLLM_WORK_LANE || asked->kind == CLLM_WORK_EVAL;
    bool computed = (report->flags & (CLLM_REPORT_BAD_BATCH | CLLM_REPORT_FAILED)) == 0;

    if (lane && (asked->lane >= g->lanes ||
                 (computed && report->tokens != rows * g->sequences * g->model.context)))
        return false;
    return report->kind == asked->kind && report->generation == asked->generation &&
           report->step == asked->step && report->lane == asked->lane &&
           report->buffer == asked->buffer && report->chunk_lo == asked->chunk_lo &&
           report->chunk_hi == asked->chunk_hi;
}

enum cllm_harvest cllm_slot_harvest(struct cllm_control *control, uint32_t slot,
                                    struct cllm_report *out,
                                    struct cllm_assignment *asked)
{
    struct cllm_command *command = &control->slots[slot].command;
    uint64_t seq = command->reported + 1;
    const struct cllm_report *entry = &control->slots[slot].own.report[seq & 1];

    if (command->reported == command->posted)
        return CLLM_HARVEST_NONE;
    /* acquire: pairs with the release in cllm_slot_report() */
    if (cllm_load_acquire(&entry->seq) != seq ||
        entry->generation != cllm_load_relaxed(&command->generation))
        return CLLM_HARVEST_NONE;
    cllm_fault(CLLM_FAULT_harvest_seen);
    cllm_read_words(out, entry, offsetof(struct cllm_report, seq));
    read_assignment(asked, &command->assignment[seq & 1]);
    if (out->sum != report_sum(out, seq) || !answers(control, out, asked))
        return CLLM_HARVEST_BAD;
    cllm_fault(CLLM_FAULT_harvest_checked);
    cllm_store_relaxed(&asked->seq, seq);
    command->reported = seq;
    cllm_fault(CLLM_FAULT_harvest_taken);
    return CLLM_HARVEST_REPORT;
}

bool cllm_slot_hello(const struct cllm_control *control, uint32_t slot,
                     uint64_t *numerics, char kernels[64])
{
    const struct cllm_status *status = &control->slots[slot].own.status;
    uint32_t generation = cllm_load_relaxed(&control->slots[slot].command.generation);

    /* acquire: pairs with the release in cllm_slot_say_hello() */
    if (cllm_load_acquire(&status->hello_generation) != generation)
        return false;
    if (status->hello_sum != hello_sum(status, generation))
        return false;
    *numerics = status->numerics;
    memcpy(kernels, status->kernels, 64);
    kernels[63] = '\0';
    return true;
}

/* ---- the child's side ---- */

static void ring_node_zero(int fd)
{
    const uint64_t one = 1;

    if (cllm_fault_error(CLLM_FAULT_zero_ring) != 0)
        return;
    /* Node Zero looks at every slot on a timer as well: a lost ring costs time, not
     * truth. */
    if (fd >= 0 && write(fd, &one, sizeof one) < 0)
        return;
}

void cllm_slot_say_hello(struct cllm_control *control, uint32_t generation,
                         uint64_t numerics, const char *kernels, int eventfd)
{
    struct cllm_own *own = control->own;
    char device[CLLM_DEVICE_BYTES];

    memcpy(device, own->status.device.name, sizeof device);
    cllm_clear_words(own, sizeof *own); /* Node Zero may look at it meanwhile */
    cllm_fault(CLLM_FAULT_hello_cleared);
    memcpy(own->status.device.name, device, sizeof device);
    own->status.pid = (uint32_t)getpid();
    own->status.numerics = numerics;
    (void)snprintf(own->status.kernels, sizeof own->status.kernels, "%s", kernels);
    own->status.hello_sum = hello_sum(&own->status, generation);
    cllm_store_relaxed(&own->status.lane, CLLM_NONE);
    cllm_fault(CLLM_FAULT_hello_filled);
    /* release: pairs with the acquire in cllm_slot_hello() */
    cllm_store_release(&own->status.hello_generation, generation);
    cllm_fault(CLLM_FAULT_hello_stored);
    ring_node_zero(eventfd);
    cllm_fault(CLLM_FAULT_hello_rung);
}

bool cllm_slot_next(const struct cllm_control *control, uint32_t generation, uint64_t seq,
                    struct cllm_assignment *out)
{
    const struct cllm_command *command = &control->slots[control->slot].command;
    const struct cllm_assignment *entry = &command->assignment[seq & 1];

    /* acquire: pairs with the release in cllm_slot_post() */
    if (cllm_load_acquire(&entry->seq) != seq)
        return false;
    read_assignment(out, entry);
    if (out->generation != generation || out->sum != assignment_sum(out, seq))
        return false;
    cllm_store_relaxed(&out->seq, seq);
    cllm_fault(CLLM_FAULT_next_taken);
    return true;
}

void cllm_slot_sleep(struct cllm_control *control, uint64_t timeout_ns)
{
    struct timespec until = cllm_timespec(cllm_now_ns() + timeout_ns);

    cllm_fault(CLLM_FAULT_sleep_begin);
    while (sem_clockwait(&control->bell->semaphore, CLOCK_MONOTONIC, &until) != 0 &&
           errno == EINTR)
        continue;
    /* Rings that came together are one ring. */
    while (sem_trywait(&control->bell->semaphore) == 0)
        continue;
    cllm_fault(CLLM_FAULT_sleep_end);
}

void cllm_slot_answer(struct cllm_report *report, const struct cllm_assignment *work)
{
    memset(report, 0, sizeof *report);
    report->kind = work->kind;
    report->generation = work->generation;
    report->step = work->step;
    report->lane = work->lane;
    report->buffer = work->buffer;
    report->chunk_lo = work->chunk_lo;
    report->chunk_hi = work->chunk_hi;
}

void cllm_slot_report(struct cllm_control *control, struct cllm_report *report,
                      uint64_t seq, int eventfd)
{
    struct cllm_report *entry = &control->own->report[seq & 1];

    report->sum = report_sum(report, seq);
    cllm_store_relaxed(&entry->seq, 0);
    cllm_fence_release();
    cllm_fault(CLLM_FAULT_report_cleared);
    cllm_write_words(entry, report, offsetof(struct cllm_report, seq));
    cllm_fault(CLLM_FAULT_report_filled);
    /* release: pairs with the acquire in cllm_slot_harvest() */
    cllm_store_release(&entry->seq, seq);
    cllm_fault(CLLM_FAULT_report_stored);
    ring_node_zero(eventfd);
    cllm_fault(CLLM_FAULT_report_rung);
}

void cllm_slot_last_words(struct cllm_control *control, const char *text)
{
    char *words = control->own->status.last_words;
    size_t n = 0;

    while (text[n] != '\0' && text[n] != '\n' &&
           n + 1 < sizeof control->own->status.last_words) {
        words[n] = text[n];
        n++;
    }
    words[n] = '\0';
}
