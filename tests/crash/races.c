/*
 * tests/crash/races.c - both sides of every shared record as threads on one mapping, for
 * ThreadSanitizer.
 *
 * Processes that share memory are out of its reach; threads that run the same functions
 * on the same bytes are not. Node Zero posts, harvests, commits and waits for pins;
 * workers say hello, take, answer, die and are replaced; the loader fills the ring, and
 * somebody who was given up reads it too late; the saver takes snapshots; a tool reads
 * the step records at any time. Besides, everything that is read must be whole.
 *
 *   make tsan-races; races [STEPS]
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "coordinator/saving.h"
#include "saver/snapshot.h"
#include "shm/chunk.h"
#include "shm/ring.h"
#include "shm/slot.h"
#include "tests/control_temp.h"

#define WORKERS 2
#define SAVER   4 /* slot */
#define LIVES   7 /* assignments that a worker answers before it is replaced */
#define WAIT_NS (CLLM_NS_PER_MS / 5)

static struct {
    struct cllm_control control; /* Node Zero's view */
    struct cllm_geometry geometry;
    struct cllm_ring ring;
    struct cllm_region params[2];
    uint64_t steps;
    _Atomic uint32_t done;   /* no more steps */
    _Atomic uint64_t filled; /* steps that the loader has filled */
    _Atomic uint64_t newest; /* that the tool has seen */
    _Atomic uint64_t too_late, in_time, snapshots, reports;
} all;

static void check(bool good, const char *what)
{
    if (good)
        return;
    (void)fprintf(stderr, "races: %s\n", what);
    _exit(1);
}

/* A child's view of the same bytes at the same addresses. */
static struct cllm_control child_of(uint32_t slot)
{
    struct cllm_control control = all.control;

    control.slot = slot;
    control.own = &control.slots[slot].own;
    control.crash = &control.slots[slot].crash;
    control.bell = &control.slots[slot].bell;
    return control;
}

static void pause_briefly(void)
{
    const struct timespec wait = cllm_timespec(WAIT_NS / 10);

    (void)nanosleep(&wait, NULL);
}

/* ---- the ring ---- */

static uint32_t token_of(uint64_t batch, uint64_t i)
{
    return (uint32_t)((batch * 31 + i * 7) % 251);
}

static bool batch_is_whole(uint64_t batch, const uint32_t *tokens)
{
    for (uint64_t i = 0; i < all.ring.batch_tokens; i++)
        if (tokens[i] != token_of(batch, i))
            return false;
    return true;
}

static void fill_batch(uint64_t batch)
{
    uint32_t *out = cllm_ring_begin(&all.ring, batch);

    for (uint64_t i = 0; i < all.ring.batch_tokens; i++)
        cllm_store_relaxed((_Atomic uint32_t *)&out[i], token_of(batch, i));
    cllm_ring_publish(&all.ring, batch, 1);
}

static void *load(void *arg)
{
    uint64_t per_step = (uint64_t)all.geometry.lanes * all.geometry.microbatches;

    (void)arg;
    for (uint64_t step = 0; step < all.steps; step++) {
        /* acquire: pairs with Node Zero's release after the step's record */
        while (step >=
               cllm_load_acquire(&all.control.state->committed) + all.geometry.ring_steps)
            pause_briefly();
        for (uint64_t b = step * per_step; b < (step + 1) * per_step; b++)
            if (!cllm_ring_has(&all.ring, b))
                fill_batch(b);
        cllm_store_release(&all.filled, step + 1);
    }
    return NULL;
}

/* Who was given up reads whenever it wakes: what it gets is whole or refused. */
static void *read_late(void *arg)
{
    uint64_t per_step = (uint64_t)all.geometry.lanes * all.geometry.microbatches;
    uint64_t random = 1;
    uint32_t tokens[64];

    (void)arg;
    while (!cllm_load_acquire(&all.done)) {
        uint64_t committed = cllm_load_acquire(&all.control.state->committed);
        uint64_t batch;

        random = random * UINT64_C(6364136223846793005) + 1;
        batch = (committed * per_step + (random >> 33) % per_step) -
                cllm_min_u64(committed, 1) * (random >> 60 & 1) * per_step;
        if (!cllm_ring_read(&all.ring, batch, tokens)) {
            (void)atomic_fetch_add(&all.too_late, 1);
            continue;
        }
        (void)atomic_fetch_add(&all.in_time, 1);
        check(batch_is_whole(batch, tokens),
              "a late reader got a batch that is not whole");
    }
    return NULL;
}

/* ---- workers ---- */

static void compute(const struct cllm_assignment *work, struct cllm_report *report)
{
    const struct cllm_geometry *g = &all.geometry;
    uint32_t tokens[64];

    for (uint32_t m = 0; m < g->microbatches; m++) {
        uint64_t batch = cllm_batch_number(g, work->step, work->lane, m);

        check(cllm_ring_read(&all.ring, batch, tokens) && batch_is_whole(batch, tokens),
              "a batch that is due is not there");
        report->tokens += (uint64_t)g->sequences * g->model.context;
    }
    report->flags = CLLM_REPORT_FINITE;
    report->loss = (double)work->step;
    report->grad_sum = work->step * 1000 + work->lane;
}

struct life {
    uint32_t slot, generation;
    int eventfd;
};

static void *work(void *arg)
{
    const struct life *life = arg;
    struct cllm_control control = child_of(life->slot);
    struct cllm_status *status = &control.own->status;
    struct cllm_assignment asked;
    uint64_t seq = 1;

    cllm_slot_say_hello(&control, life->generation, 77, "thread", life->eventfd);
    for (;; seq++) {
        struct cllm_report report;

        while (!cllm_slot_next(&control, life->generation, seq, &asked))
            cllm_slot_sleep(&control, WAIT_NS);
        if (asked.kind == CLLM_WORK_EXIT)
            break;
        cllm_slot_answer(&report, &asked);
        cllm_store_relaxed(&status->step, asked.step);
        cllm_store_relaxed(&status->lane, asked.lane);
        cllm_store_relaxed(&status->work, asked.kind);
        compute(&asked, &report);
        cllm_store_relaxed(&status->progress, cllm_load_relaxed(&status->progress) + 1);
        cllm_slot_report(&control, &report, seq, life->eventfd);
    }
    cllm_slot_last_words(&control, "left as asked");
    return NULL;
}

/* ---- the saver ---- */

static void save(struct cllm_control *control, const struct cllm_assignment *asked)
{
    struct cllm_snapshot snapshot;
    struct cllm_stretch stretch;
    int rc = cllm_snapshot_begin(&snapshot, control, -1, asked->step, asked->version);

    while (rc == 0 && (rc = cllm_snapshot_next(&snapshot, &stretch)) == 1)
        rc = 0;
    check(rc == 0, cllm_err_text());
    cllm_snapshot_end(&snapshot);
    (void)atomic_fetch_add(&all.snapshots, 1);
}

static void *serve_saves(void *arg)
{
    const struct life *life = arg;
    struct cllm_control control = child_of(life->slot);
    struct cllm_assignment asked;

    cllm_slot_say_hello(&control, life->generation, 0, "thread", -1);
    for (uint64_t seq = 1;; seq++) {
        struct cllm_report report;

        while (!cllm_slot_next(&control, life->generation, seq, &asked))
            cllm_slot_sleep(&control, WAIT_NS);
        if (asked.kind == CLLM_WORK_EXIT)
            return NULL;
        cllm_slot_answer(&report, &asked);
        save(&control, &asked);
        cllm_slot_last_words(&control, "");
        cllm_store_relaxed(&control.own->status.saving_step, 0);
        cllm_slot_report(&control, &report, seq, -1);
    }
}

/* ---- a tool ---- */

static void *look(void *arg)
{
    (void)arg;
    while (!cllm_load_acquire(&all.done)) {
        struct cllm_step_record record;
        /* acquire: pairs with Node Zero's release after the step's record */
        uint64_t committed = cllm_load_acquire(&all.control.state->committed);

        for (uint32_t slot = 0; slot < all.geometry.n_slots; slot++) {
            const struct cllm_status *status = &all.control.slots[slot].own.status;

            (void)cllm_load_relaxed(&status->progress);
            (void)cllm_load_acquire(&status->hello_generation);
        }
        if (committed == 0)
            continue;
        check(cllm_control_newest_record(&all.control, &record), "no record is valid");
        check(record.step >= committed,
              "the newest record is older than what is committed");
        check(record.tokens == record.step * 5, "a record is not whole");
        cllm_store_relaxed(&all.newest, record.step);
    }
    return NULL;
}

/* ---- Node Zero ---- */

struct node {
    struct life life[WORKERS + 1];
    pthread_t thread[WORKERS + 1];
    uint32_t answers[WORKERS]; /* of the present process */
    struct cllm_saving saving;
};

static void start(struct node *node, uint32_t i, void *(*body)(void *))
{
    struct life *life = &node->life[i];
    uint64_t numerics;
    char kernels[64];

    life->slot = i < WORKERS ? i : SAVER;
    life->generation = cllm_slot_renew(&all.control, life->slot);
    check(pthread_create(&node->thread[i], NULL, body, life) == 0, "no thread");
    while (!cllm_slot_hello(&all.control, life->slot, &numerics, kernels))
        pause_briefly();
    check(numerics == (i < WORKERS ? 77 : 0), "a hello is not whole");
}

static void let_leave(struct node *node, uint32_t i)
{
    const struct cllm_assignment leave = {.kind = CLLM_WORK_EXIT};

    (void)cllm_slot_post(&all.control, node->life[i].slot, &leave);
    check(pthread_join(node->thread[i], NULL) == 0, "no end");
    cllm_slot_void(&all.control, node->life[i].slot);
}

/* Take what is there; returns how many lanes of @step are finished by it. */
static uint32_t harvest(struct node *node, uint64_t step)
{
    struct cllm_assignment asked;
    struct cllm_report report;
    uint32_t n = 0;

    for (uint32_t i = 0; i < WORKERS; i++) {
        enum cllm_harvest found;

        while ((found = cllm_slot_harvest(&all.control, i, &report, &asked)) ==
               CLLM_HARVEST_REPORT) {
            check(report.step == step && report.grad_sum == step * 1000 + report.lane,
                  "a report says something else");
            node->answers[i]++;
            n++;
            (void)atomic_fetch_add(&all.reports, 1);
        }
        check(found == CLLM_HARVEST_NONE, "a report is damaged");
    }
    while (cllm_slot_harvest(&all.control, SAVER, &report, &asked) == CLLM_HARVEST_REPORT)
        cllm_saving_take(&node->saving, &report);
    return n;
}

static void compute_step(struct node *node, uint64_t step)
{
    uint32_t given = 0, finished = 0;

    while (cllm_load_acquire(&all.filled) < step)
        pause_briefly();
    while (finished < all.geometry.lanes) {
        for (uint32_t i = 0; i < WORKERS; i++) {
            const struct cllm_assignment lane = {.kind = CLLM_WORK_LANE,
                                                 .step = step,
                                                 .version = (uint32_t)((step - 1) & 1),
                                                 .lane = given,
                                                 .buffer = 0};

            if (given == all.geometry.lanes ||
                cllm_slot_outstanding(&all.control, i) == 2)
                continue;
            (void)cllm_slot_post(&all.control, i, &lane);
            given++;
        }
        finished += harvest(node, step);
        cllm_store_relaxed(&all.control.state->heartbeat_ns, cllm_now_ns());
    }
}

/* The chunks of version step & 1 and the table, when the saver has let go of them. */
static void update(struct node *node, uint64_t step)
{
    uint32_t v = (uint32_t)(step & 1);
    float *base = (float *)(void *)all.params[v].base;
    uint64_t n = all.geometry.n_elements;

    while (cllm_saving_pins(&node->saving, v)) {
        cllm_saving_hurry(&node->saving, v);
        cllm_saving_tend(&node->saving, true);
        (void)harvest(node, step);
        pause_briefly();
    }
    cllm_saving_hurry_over(&node->saving);
    cllm_control_void_record(&all.control, v);
    for (uint32_t c = 0; c < all.geometry.n_chunks; c++) {
        struct cllm_chunk *chunk = &all.control.chunk[c];
        uint64_t lo = cllm_chunk_lo(&all.geometry, c);
        uint64_t count = cllm_chunk_hi(&all.geometry, c) - lo;

        chunk->state = CLLM_CHUNK_ASSIGNED;
        base[lo] = (float)step;
        chunk->sum[v] =
            cllm_chunk_sum(base + lo, base + n + lo, base + 2 * n + lo, count, c);
        chunk->state = CLLM_CHUNK_NEW;
    }
}

static void commit(struct node *node, uint64_t step)
{
    struct cllm_step_record record = {.step = step, .tokens = step * 5};

    record.root =
        cllm_chunk_root(all.control.chunk, all.geometry.n_chunks, (uint32_t)(step & 1));
    record.sum = cllm_step_record_sum(&record);
    cllm_control_put_record(&all.control, (uint32_t)(step & 1), &record);
    /* release: pairs with the acquire of the loader and of tools */
    cllm_store_release(&all.control.state->committed, step);
    if (step % 3 == 0)
        cllm_saving_request(&node->saving, step);
    cllm_saving_tend(&node->saving, true);
}

static void run_node_zero(void)
{
    struct node node = {0};
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    for (uint32_t i = 0; i <= WORKERS; i++)
        node.life[i].eventfd = null;
    cllm_saving_init(&node.saving, &all.control, SAVER);
    for (uint32_t i = 0; i <= WORKERS; i++)
        start(&node, i, i < WORKERS ? work : serve_saves);
    for (uint64_t step = 1; step <= all.steps; step++) {
        compute_step(&node, step);
        update(&node, step);
        commit(&node, step);
        for (uint32_t i = 0; i < WORKERS; i++)
            if (node.answers[i] >= LIVES) {
                let_leave(&node, i);
                node.answers[i] = 0;
                start(&node, i, work);
            }
    }
    while (!cllm_saving_idle(&node.saving)) {
        cllm_saving_tend(&node.saving, true);
        (void)harvest(&node, all.steps);
        pause_briefly();
    }
    for (uint32_t i = 0; i <= WORKERS; i++)
        let_leave(&node, i);
    (void)close(null); /* nothing was written that counts */
}

int main(int argc, char **argv)
{
    pthread_t loader, late, tool;
    char name[CLLM_REGION_NAME_BYTES];

    all.steps = argc > 1 ? strtoull(argv[1], NULL, 10) : 200;
    control_temp_make(&all.control);
    all.geometry = control_temp_geometry();
    all.geometry.steps = all.steps;
    check(cllm_ring_open(&all.ring, control_temp_id(), &all.geometry, true) == 0,
          "no ring");
    for (uint32_t v = 0; v < 2; v++) {
        cllm_params_name(name, control_temp_id(), v);
        check(cllm_region_open(&all.params[v], name, cllm_params_bytes(&all.geometry),
                               CLLM_REGION_READ_WRITE) == 0,
              "no parameters");
    }
    check(pthread_create(&loader, NULL, load, NULL) == 0, "no thread");
    check(pthread_create(&late, NULL, read_late, NULL) == 0, "no thread");
    check(pthread_create(&tool, NULL, look, NULL) == 0, "no thread");
    run_node_zero();
    cllm_store_release(&all.done, 1);
    (void)pthread_join(loader, NULL);
    (void)pthread_join(late, NULL);
    (void)pthread_join(tool, NULL);
    cllm_ring_close(&all.ring);
    for (uint32_t v = 0; v < 2; v++)
        cllm_region_close(&all.params[v]);
    control_temp_remove(&all.control);
    (void)printf("%" PRIu64 " steps, %" PRIu64 " reports, %" PRIu64 " snapshots, %" PRIu64
                 " late reads whole, %" PRIu64 " refused: no race, nothing torn\n",
                 all.steps, (uint64_t)all.reports, (uint64_t)all.snapshots,
                 (uint64_t)all.in_time, (uint64_t)all.too_late);
    return 0;
}
