/*
 * tests/shm_run.c - see tests/shm_run.h.
 */
#include "tests/shm_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "shm/chunk.h"
#include "shm/ring.h"

char shm_run_id[32];
char shm_run_dir[64];

struct cllm_geometry shm_run_geometry(void)
{
    return (struct cllm_geometry){
        .model = {.vocab = 256, .context = 15, .layers = 2, .heads = 2, .width = 16},
        .n_params = 11264,
        .n_elements = 11264,
        .lanes = 12,
        .microbatches = 1,
        .sequences = 2,
        .eval_microbatches = 1,
        .steps = 1000,
        .seed = 7,
        .chunk_elements = 4096,
        .n_chunks = 3,
        .n_groups = 1,
        .n_buffers = 4,
        .n_folds = 2,
        .n_slots = 5,
        .n_worker_slots = 3,
        .ring_steps = 2,
        .ring_slots = 24,
        .ring_eval_slots = 12,
    };
}

static uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void write_record(struct cllm_control *control, uint64_t step)
{
    struct cllm_step_record *record = &control->record[step & 1];

    *record = (struct cllm_step_record){.step = step,
                                        .loss = 2.1034,
                                        .valid_loss = 2.25,
                                        .valid_step = 100,
                                        .best_loss = 2.25,
                                        .best_step = 100};
    record->root = cllm_chunk_root(control->chunk, 3, (uint32_t)(step & 1));
    record->sum = cllm_step_record_sum(record);
}

static void write_lanes(struct cllm_control *control)
{
    static const uint32_t states[12] = {
        CLLM_LANE_FOLDED, CLLM_LANE_FOLDED,   CLLM_LANE_FOLDED,   CLLM_LANE_DONE,
        CLLM_LANE_DONE,   CLLM_LANE_ASSIGNED, CLLM_LANE_ASSIGNED, CLLM_LANE_READY,
        CLLM_LANE_READY,  CLLM_LANE_READY,    CLLM_LANE_EMPTY,    CLLM_LANE_EMPTY,
    };

    for (uint32_t i = 0; i < 12; i++)
        control->lane[i] = (struct cllm_lane){.state = states[i],
                                              .slot = i & 1,
                                              .buffer = i % 4,
                                              .loss = 50.0,
                                              .tokens = 30,
                                              .grad_sum = i};
    for (uint32_t i = 0; i < 3; i++)
        control->chunk[i].sum[0] = control->chunk[i].sum[1] = 1000 + i;
}

/* Worker 0 computes lane 5, worker 1 folds, worker 2 was killed, loader and saver idle.
 */
static void write_slots(struct cllm_control *control)
{
    static const uint32_t states[5] = {CLLM_SLOT_BUSY, CLLM_SLOT_BUSY, CLLM_SLOT_COOLDOWN,
                                       CLLM_SLOT_IDLE, CLLM_SLOT_IDLE};

    for (uint32_t i = 0; i < 5; i++) {
        struct cllm_command *command = &control->slots[i].command;
        struct cllm_status *status = &control->slots[i].own.status;

        command->state = states[i];
        command->pid = 4000 + i;
        cllm_store_relaxed(&command->generation, 1);
        cllm_store_relaxed(&status->hello_generation, 1);
        cllm_store_relaxed(&status->lanes_done, 62 + i);
        cllm_store_relaxed(&status->lane_ns, 96 * CLLM_NS_PER_S);
        cllm_store_relaxed(&status->fold_ns, CLLM_NS_PER_S / 2);
        cllm_store_relaxed(&status->update_ns, CLLM_NS_PER_S);
        cllm_store_relaxed(&status->eval_ns, CLLM_NS_PER_S / 2);
        command->wait_data_ns = CLLM_NS_PER_S;
        cllm_store_relaxed(&status->idle_ns, 2 * CLLM_NS_PER_S);
    }
    control->slots[0].command.posted = 7;
    control->slots[0].command.reported = 6;
    control->slots[0].command.assignment[1] = (struct cllm_assignment){
        .kind = CLLM_WORK_LANE, .lane = 5, .step = SHM_RUN_STEP + 1};
    cllm_store_relaxed(&control->slots[0].command.assignment[1].seq, 7);
    control->slots[1].command.posted = 2;
    control->slots[1].command.reported = 1;
    control->slots[1].command.assignment[0] = (struct cllm_assignment){
        .kind = CLLM_WORK_FOLD, .lane_lo = 3, .lane_hi = 5, .chunk_hi = 3};
    cllm_store_relaxed(&control->slots[1].command.assignment[0].seq, 2);
    control->slots[2].command.deaths = 1;
    (void)snprintf(control->slots[2].command.obituary, 160,
                   "killed by SIGKILL in lane 5 of step 119");
    (void)snprintf(control->slots[3].own.status.kernels, 64, "io_uring, O_DIRECT");
    cllm_store_relaxed(&control->slots[3].own.status.filled, (SHM_RUN_STEP + 2) * 12);
}

static void write_state(struct cllm_control *control)
{
    struct cllm_state *state = control->state;

    cllm_store_relaxed(&state->committed, SHM_RUN_STEP);
    cllm_store_relaxed(&state->run_state, CLLM_RUN_RUNNING);
    cllm_store_relaxed(&state->phase, CLLM_PHASE_COMPUTE);
    cllm_store_relaxed(&state->heartbeat_ns, cllm_now_ns());
    cllm_store_relaxed(&state->started_ns, cllm_now_ns() - 100 * CLLM_NS_PER_S);
    state->node_zero_pid = (uint32_t)getpid();
    state->node_zero_start_ticks = cllm_process_start_ticks((uint64_t)getpid());
    cllm_store_relaxed(&state->loss_bits, bits_of(2.1034));
    cllm_store_relaxed(&state->valid_bits, bits_of(2.25));
    cllm_store_relaxed(&state->valid_step, 100);
    cllm_store_relaxed(&state->tokens_per_s_bits, bits_of(41230.0));
    cllm_store_relaxed(&state->eta_ns, 184 * CLLM_NS_PER_S);
    cllm_store_relaxed(&state->saved_step, 100);
    cllm_store_relaxed(&state->deaths, 1);
    cllm_store_relaxed(&state->wait_data_ns, 12 * CLLM_NS_PER_MS);
    cllm_store_relaxed(&state->folded, 3);
}

void shm_run_make(const char *run_id, bool publish)
{
    struct cllm_control_plan plan = {.run_id = run_id,
                                     .run_dir = shm_run_dir,
                                     .config = "[run]\n",
                                     .manifest = "",
                                     .geometry = shm_run_geometry()};
    struct cllm_control control;
    struct cllm_ring ring;

    assert_int_equal(cllm_control_create(&control, &plan), 0);
    assert_int_equal(cllm_objects_create(run_id, &plan.geometry), 0);
    write_lanes(&control);
    write_slots(&control);
    write_state(&control);
    write_record(&control, SHM_RUN_STEP - 1);
    write_record(&control, SHM_RUN_STEP);
    for (int i = 0; i < CLLM_N_EVENTS + 3; i++)
        cllm_control_event(&control, i == CLLM_N_EVENTS + 2
                                         ? "worker 2 was killed by SIGKILL"
                                         : "an older event");
    assert_int_equal(cllm_ring_open(&ring, run_id, &plan.geometry, true), 0);
    for (uint64_t batch = SHM_RUN_STEP * 12; batch < (SHM_RUN_STEP + 1) * 12; batch++) {
        memset(cllm_ring_begin(&ring, batch), 1, ring.batch_tokens * sizeof(uint32_t));
        cllm_ring_publish(&ring, batch, 1);
    }
    (void)cllm_ring_begin(&ring, CLLM_BATCH_EVAL | 3);
    cllm_ring_publish(&ring, CLLM_BATCH_EVAL | 3, 1);
    cllm_ring_close(&ring);
    if (publish)
        cllm_control_publish(&control);
    cllm_control_detach(&control);
}

void shm_run_make_dead(const char *run_id, bool publish, bool old)
{
    struct cllm_control control;
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        shm_run_make(run_id, publish);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    if (!publish)
        return;
    assert_int_equal(cllm_control_adopt(&control, run_id), CLLM_ATTACH_OK);
    if (old)
        cllm_store_relaxed(&control.state->heartbeat_ns,
                           cllm_now_ns() - 182 * CLLM_NS_PER_S);
    cllm_control_detach(&control);
}

static int remove_ours(const char *name, uint64_t bytes, void *ctx)
{
    char path[CLLM_REGION_NAME_BYTES + 1], ours[64];

    (void)bytes, (void)ctx;
    (void)snprintf(ours, sizeof ours, "-t%d", (int)getpid());
    if (strstr(name, ours)) {
        (void)snprintf(path, sizeof path, "/%s", name);
        (void)cllm_region_unlink(path);
    }
    return 0;
}

static int count_ours(const char *name, uint64_t bytes, void *ctx)
{
    char ours[64];

    (void)bytes;
    (void)snprintf(ours, sizeof ours, "-t%d", (int)getpid());
    *(int *)ctx += strstr(name, ours) != NULL;
    return 0;
}

int shm_run_n_left(void)
{
    int n = 0;

    assert_int_equal(cllm_region_list(count_ours, &n), 0);
    return n;
}

int shm_run_setup(void **state)
{
    (void)state;
    (void)snprintf(shm_run_id, sizeof shm_run_id, "t%d-demo", (int)getpid());
    (void)snprintf(shm_run_dir, sizeof shm_run_dir, "/tmp/cllm-t%d-demo", (int)getpid());
    return 0;
}

int shm_run_teardown(void **state)
{
    (void)state;
    return cllm_region_list(remove_ours, NULL);
}

void shm_run_take(struct cllm_shm_runs *runs, struct cllm_shm_view *view)
{
    const struct cllm_shm_run *run;

    assert_int_equal(cllm_shm_runs_scan(runs), 0);
    run = cllm_shm_runs_find(runs, shm_run_id);
    assert_non_null(run);
    assert_int_equal(cllm_shm_view_take(view, run), 0);
}

void shm_run_drop(struct cllm_shm_runs *runs, struct cllm_shm_view *view)
{
    cllm_shm_view_fini(view);
    cllm_shm_runs_fini(runs);
}
