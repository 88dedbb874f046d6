/*
 * tests/crash/sim_run.c - one run: what the seed makes of it, the guardian, the end.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "coordinator/nodezero.h"
#include "tests/crash/sim.h"

static uint32_t pick(const uint32_t *table, uint32_t n)
{
    return table[sim_random() % n];
}
#define PICK(...)                         \
    pick((const uint32_t[]){__VA_ARGS__}, \
         sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static void plan_shape(struct sim_plan *plan)
{
    plan->lanes = PICK(12, 12, 12, 2, 2, 5, 5, 5, 24);
    plan->workers = 1 + (uint32_t)(sim_random() % 8);
    plan->worker_slots =
        (uint32_t)cllm_min_u64(SIM_MAX_WORKERS, plan->workers + sim_random() % 3);
    plan->chunks = 1 + (uint32_t)(sim_random() % SIM_MAX_CHUNKS);
    plan->last_chunk_words = 1 + (uint32_t)(sim_random() % SIM_CHUNK_WORDS);
    plan->buffers =
        PICK(0, 1) ? plan->lanes : (uint32_t)cllm_min_u64(plan->lanes, plan->workers + 2);
    plan->kept = plan->buffers == plan->lanes && plan->lanes <= 5 && PICK(0, 1);
    plan->steps = PICK(3, 3, 3, 4, 5, 6);
    plan->microbatches = PICK(1, 1, 2);
    plan->eval_every = PICK(0, 1, 2);
    plan->checkpoint_every = PICK(0, 1, 2, 3);
}

/* Every run has a kind of trouble of its own, so that one does not hide another: who is
 * killed all the time never gets as far as being stopped at the wrong moment. */
static void plan_faults(struct sim_plan *plan)
{
    plan->burst = PICK(3, 8, 30, 100);
    plan->children_only = sim_random() & 1;
    plan->stall = PICK(0, 0, 2, 8, 24);
    plan->slow_saves = PICK(0, 64, 200);
    switch (sim_random() % 9) {
    case 0:
    case 1:
        plan->kill_mean = PICK(10, 20, 40, 100);
        break;
    case 2:
        plan->nz_mean = PICK(100, 400, 1200);
        break;
    case 3:
    case 4:
        plan->stop_mean = PICK(20, 60, 150);
        plan->kill_mean = PICK(0, 0, 1000);
        plan->nz_mean = PICK(0, 0, 3000);
        break;
    case 5:
        plan->signal_mean = PICK(60, 200, 800);
        plan->kill_mean = PICK(0, 500);
        break;
    case 6:
        plan->tree_mean = PICK(300, 1000, 3000);
        plan->reboots = PICK(0, 1, 3);
        plan->kill_mean = PICK(0, 200);
        break;
    case 7: /* nobody dies, but everybody is late */
        plan->stall = PICK(16, 64);
        plan->slow_saves = 250;
        plan->checkpoint_every = 1;
        break;
    default:
        plan->kill_mean = PICK(50, 200, 800);
        plan->signal_mean = PICK(200, 1000);
        plan->stop_mean = PICK(100, 600);
        plan->tree_mean = PICK(0, 3000);
        plan->nz_mean = PICK(500, 2000);
        plan->reboots = PICK(0, 1);
    }
    plan->damage_mean = PICK(0, 0, 0, 300, 1000);
    plan->ring_loss = PICK(0, 10, 100);
    plan->fork_failures = PICK(0, 0, 20);
    plan->save_failures = PICK(0, 0, 64);
    plan->people = PICK(0, 0, 4);
    plan->quiet_at = 5000 + sim_random() % 100000;
    plan->bound = plan->quiet_at + 6000000;
}

/* Now and then something is wrong with the work itself. */
static void plan_trouble(struct sim_plan *plan)
{
    plan->spares = PICK(0, 0, 1, 2);
    plan->worker_slots = (uint32_t)cllm_min_u64(
        SIM_MAX_WORKERS, cllm_max_u64(plan->worker_slots, plan->workers + plan->spares));
    plan->spares =
        (uint32_t)cllm_min_u64(plan->spares, plan->worker_slots - plan->workers);
    plan->active = PICK(CLLM_MAX_WORKERS, CLLM_MAX_WORKERS, 3, 2, 1);
    plan->audit = PICK(0, 0, 0, 0, 4, 1);
    plan->wrong_slot = plan->bad_lane = plan->bad_step = CLLM_NONE;
    plan->flips = PICK(0, 0, 0, 0, 1);
    if (plan->flips > 0) {
        plan->tree_mean = plan->nz_mean = 0;
        plan->signal_mean = 500;
        plan->audit = PICK(plan->audit, 1); /* so that opinions differ */
        plan->stall = PICK(plan->stall, 16, 64);
    }
    switch (sim_random() % 8) {
    case 0:
    case 1:
        if (plan->workers + plan->spares < 3)
            break;
        plan->audit = 1;
        plan->wrong_slot = (uint32_t)(sim_random() % (plan->workers + plan->spares));
        plan->wrong = PICK(8, 64, 200);
        plan->kill_mean = plan->stop_mean = plan->signal_mean = plan->tree_mean = 0;
        plan->nz_mean = 0;
        plan->people = 0;
        break;
    case 2:
        plan->bad = sim_random() & 1 ? SIM_END_NONFINITE : SIM_END_POISON;
        plan->bad_lane = (uint32_t)(sim_random() % plan->lanes);
        plan->bad_step = 1 + (uint32_t)(sim_random() % plan->steps);
        plan->skip = sim_random() & 1;
        plan->signal_mean = plan->flips = 0;
        break;
    default:
        break;
    }
}

static void make_config(void)
{
    const struct sim_plan *plan = &sim.plan;
    struct cllm_config *config = &sim.config;

    config->train_steps = plan->steps;
    config->train_warmup = 2;
    config->train_eval_every = plan->eval_every > 0 ? plan->eval_every : 0;
    config->data_valid.n = plan->eval_every > 0;
    config->checkpoint_every = plan->checkpoint_every;
    config->checkpoint_best = plan->eval_every > 0;
    config->run_restart_limit = 1000000;
    config->run_restart_window = 1;
    config->train_clip = 1.0;
    config->run_spares = plan->spares;
    config->run_audit = plan->audit;
    config->run_on_nonfinite = plan->skip ? CLLM_POLICY_SKIP : CLLM_POLICY_STOP;
    config->run_on_poison = config->run_on_nonfinite;
}

static void make_geometry(void)
{
    const struct sim_plan *plan = &sim.plan;
    struct cllm_geometry *g = &sim.geometry;

    *g = (struct cllm_geometry){
        .model = {.vocab = 50, .context = 2, .layers = 1, .heads = 1, .width = 4},
        .lanes = plan->lanes,
        .microbatches = plan->microbatches,
        .sequences = 1 + (uint32_t)(plan->seed & 1),
        .eval_microbatches = plan->eval_every > 0,
        .steps = plan->steps,
        .seed = sim_mix(plan->seed, 1, 2),
        .chunk_elements = 2 * SIM_CHUNK_WORDS,
        .n_chunks = plan->chunks,
        .n_groups = (uint32_t)cllm_div_up(plan->lanes, CLLM_GROUP_LANES),
        .n_buffers = plan->buffers,
        .n_worker_slots = plan->worker_slots,
        .n_slots = plan->worker_slots + 2,
        .ring_steps = 2};
    g->n_elements = (plan->chunks - 1) * g->chunk_elements + 2 * plan->last_chunk_words;
    g->n_params = g->n_elements;
    g->n_folds = plan->kept ? 0 : g->n_groups > 1 ? 4 : 2;
    g->ring_slots = g->ring_steps * g->lanes * g->microbatches;
    g->ring_eval_slots = g->lanes * g->eval_microbatches;
}

/* ---- the guardian ---- */

void sim_start_node_zero(void)
{
    struct sim_process *process = &sim.process[0];

    sim_check_adoption();
    process->role = SIM_NODE_ZERO;
    process->slot = CLLM_NONE;
    process->pid = sim.next_pid++;
    process->generation = sim.starts++;
    process->parent = sim.guardian_pid;
    sim.signals = 0;
    sim.signal_mask = 0;
    sim_next_nz();
    sim_spawn(process);
}

void sim_node_zero_ended(struct sim_process *process)
{
    struct cllm_options options;
    int rc;

    memset(&options, 0, sizeof options);
    options.resume = sim.starts > 1;
    options.suspect = sim.suspect;
    sim_sleep(sim.now_ns + CLLM_NS_PER_MS);
    rc = cllm_node_zero(&sim.config, &options);
    sim_message("exit", (uint64_t)rc);
    if (rc == CLLM_EXIT_RELOAD)
        sim_end(process, 0, rc);
    if (rc == CLLM_EXIT_STOPPED ||
        (rc == CLLM_EXIT_FAILURE &&
         (sim.saves_failed >= 3 || (sim.blamed && sim.plan.bad == SIM_END_WELL)))) {
        /* As asked, with a full disk, or over a lane that looked like poison; somebody
         * starts it again. */
        sim.saves_failed = 0;
        sim.blamed = false;
        sim.totals.resumes++;
        sim.guardian_pid++;
        sim.suspect = false;
        sim_end(process, 0, rc);
    }
    sim_check_end(rc);
    sim.over = true;
    sim_end(process, 0, rc);
}

/* ---- a run ---- */

static void reset(uint64_t seed)
{
    struct sim_totals totals = sim.totals;
    struct cllm_config config = sim.config;
    uint8_t *arena = sim.arena;
    bool verbose = sim.verbose;
    uint8_t *stack[SIM_PROCESSES], *heap[SIM_PROCESSES];

    sim_memory_reset();
    for (uint32_t i = 0; i < SIM_PROCESSES; i++) {
        stack[i] = sim.process[i].stack;
        heap[i] = sim.process[i].heap;
    }
    memset(&sim, 0, sizeof sim);
    for (uint32_t i = 0; i < SIM_PROCESSES; i++) {
        sim.process[i].stack = stack[i];
        sim.process[i].heap = heap[i];
    }
    sim.totals = totals;
    sim.config = config;
    sim.arena = arena;
    sim.verbose = verbose;
    sim.random = seed * UINT64_C(0xd1342543de82ef95) + 1;
    sim.now_ns = 1000 * CLLM_NS_PER_S;
    sim.next_pid = 2000;
    sim.guardian_pid = 1000;
    sim.plan.seed = seed;
    sim_trace_reset();
    sim_check_reset();
}

static void print_plan(const struct sim_plan *plan)
{
    (void)printf("%u lanes, %u workers (%u at once) in %u slots, %u spares, %u chunks, "
                 "%u buffers%s, %u steps; audit %u, evaluation %u, checkpoints %u\n",
                 plan->lanes, plan->workers, plan->active, plan->worker_slots,
                 plan->spares, plan->chunks, plan->buffers,
                 plan->kept ? " kept until the update" : "", plan->steps, plan->audit,
                 plan->eval_every, plan->checkpoint_every);
    (void)printf(
        "means: turn %u, kill %u, node zero %u, fault %u, stop %u, tree %u, damage "
        "%u; in 256: stall %u, slow save %u; quiet at %llu\n",
        plan->burst, plan->kill_mean, plan->nz_mean, plan->signal_mean, plan->stop_mean,
        plan->tree_mean, plan->damage_mean, plan->stall, plan->slow_saves,
        (unsigned long long)plan->quiet_at);
}

void sim_run(uint64_t seed)
{
    reset(seed);
    plan_shape(&sim.plan);
    plan_faults(&sim.plan);
    plan_trouble(&sim.plan);
    make_config();
    make_geometry();
    sim_golden_make();
    if (sim.verbose)
        print_plan(&sim.plan);
    sim_start_node_zero();
    sim_loop();
    sim.totals.runs++;
    sim.totals.events += sim.events;
}
