/*
 * tests/crash/sim_roles.c - the children: the real loops of worker, loader and saver on
 * toy arithmetic.
 *
 * Real are how they take assignments and answer them, what a worker does for each kind of
 * work, how the loader fills the ring, how the saver pins a version and copies it. Toys
 * are the operations, here, and what is read and written, in sim_files.c.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "compute/threads.h"
#include "model/model.h"
#include "model/optimizer.h"
#include "shm/child.h"
#include "tests/crash/sim.h"
#include "worker/worker.h"

int sim_worker_main(int argc, char **argv);
int sim_loader_main(int argc, char **argv);
int sim_saver_main(int argc, char **argv);

void sim_run_child(struct sim_process *process)
{
    int code;

    /* exec takes a while */
    sim_sleep(sim.now_ns + sim_random() % (2 * CLLM_NS_PER_MS));
    switch (process->role) {
    case SIM_WORKER:
        code = sim_worker_main(process->argc, process->argv);
        break;
    case SIM_LOADER:
        code = sim_loader_main(process->argc, process->argv);
        break;
    case SIM_SAVER:
    case SIM_NODE_ZERO:
    default:
        code = sim_saver_main(process->argc, process->argv);
    }
    sim_message("exit", (uint64_t)code);
    sim_end(process, 0, code);
}

/* ---- shm/child.h ---- */

int cllm_child_init(struct cllm_child *child, enum cllm_role role, int argc, char **argv)
{
    const struct sim_process *self = sim.current;
    const struct cllm_command *command;

    (void)argc;
    (void)argv;
    *child = (struct cllm_child){.slot = self->slot,
                                 .generation = self->generation,
                                 .eventfd = 7001,
                                 .parent_pid = self->parent,
                                 .run_id = "sim",
                                 .config = sim.config};
    if (self->leaving)
        return cllm_err(-ESRCH, "Node Zero is gone");
    if (cllm_control_attach(&child->control, child->run_id, child->slot) !=
        CLLM_ATTACH_OK)
        return cllm_err(-ENOENT, "no run");
    command = &child->control.slots[child->slot].command;
    if (command->role != (uint32_t)role ||
        cllm_load_acquire(&command->generation) != child->generation)
        return cllm_err(-ESTALE, "another generation is expected");
    child->geometry = &child->control.header->geometry;
    return 0;
}

void cllm_child_check_parent(const struct cllm_child *child)
{
    const struct sim_process *self = sim.current;
    const struct cllm_command *command = &child->control.slots[child->slot].command;

    if (self->leaving || cllm_load_relaxed(&command->generation) != child->generation)
        sim_end(sim.current, 0, CLLM_EXIT_STOPPED);
}

int cllm_child_fail(struct cllm_child *child, int rc)
{
    (void)child;
    return cllm_exit_code(rc);
}

void cllm_child_fini(struct cllm_child *child)
{
    (void)child;
}

/* ---- the worker's arithmetic ---- */

static const uint64_t *words_of(const float *p)
{
    return (const uint64_t *)(const void *)p;
}

/* Into the worker's own memory: toy_stream() makes it events. */
static void toy_fold(float *dst, const float *acc, const float *const *lanes,
                     uint32_t n_lanes, size_t n)
{
    uint64_t *to = (uint64_t *)(void *)dst;

    for (size_t i = 0; i < n / 2; i++) {
        uint64_t sum = acc ? words_of(acc)[i] : words_of(lanes[0])[i];

        for (uint32_t l = acc ? 0 : 1; l < n_lanes; l++)
            sum = sim_fold_word(sum, words_of(lanes[l])[i]);
        to[i] = sum;
    }
}

static void toy_stream(float *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n / 2; i++)
        sim_store64((uint64_t *)(void *)to + i, words_of(from)[i]);
}

static double toy_sumsq(const float *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n / 2; i++)
        sum += sim_square(words_of(x)[i]);
    return sum;
}

static bool toy_is_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n / 2; i++)
        if (words_of(x)[i] == SIM_NAN_WORD)
            return false;
    return true;
}

int cllm_ops_pick(const struct cllm_ops **ops, enum cllm_isa isa,
                  enum cllm_precision precision)
{
    static const struct cllm_ops toy = {.name = "toy",
                                        .fold = toy_fold,
                                        .stream = toy_stream,
                                        .sumsq = toy_sumsq,
                                        .is_finite = toy_is_finite};

    (void)isa;
    (void)precision;
    *ops = &toy;
    return 0;
}

/* A simulated worker has one thread. */
void cllm_threads_run(cllm_threads_fn fn, void *ctx, uint32_t n_parts)
{
    for (uint32_t part = 0; part < n_parts; part++)
        fn(ctx, part, 0);
}

void cllm_threads_everywhere(cllm_threads_fn fn, void *ctx)
{
    fn(ctx, 0, 0);
}

int cllm_threads_start(uint32_t n, size_t scratch_elements)
{
    (void)n;
    (void)scratch_elements;
    return 0;
}

void cllm_threads_stop(void)
{
}

const struct cllm_ops *cllm_ops_threaded(const struct cllm_ops *base, size_t least)
{
    (void)least;
    return base;
}

size_t cllm_model_thread_bytes(uint32_t T)
{
    (void)T;
    return 0;
}

int cllm_device_open(struct cllm_worker *worker)
{
    (void)worker;
    return 0;
}

void cllm_device_close(struct cllm_worker *worker)
{
    (void)worker;
}

void cllm_device_introduce(struct cllm_worker *worker)
{
    (void)worker;
}

void cllm_device_tell_start(struct cllm_worker *worker)
{
    (void)worker;
}

/* No simulated worker has a device. */
const float *cllm_device_weights(struct cllm_worker *worker, const float *w,
                                 uint64_t step)
{
    (void)worker;
    (void)step;
    return w;
}

void cllm_device_fetch(struct cllm_worker *worker, float *dw)
{
    (void)worker;
    (void)dw;
}

void cllm_device_check(struct cllm_worker *worker)
{
    (void)worker;
}

int cllm_worker_self_test(const struct cllm_ops *ops, const struct cllm_ops *device,
                          enum cllm_arch arch, const struct cllm_config *config,
                          uint64_t *numerics)
{
    (void)config;
    (void)ops;
    (void)device;
    (void)arch;
    *numerics = SIM_NUMERICS;
    return 0;
}

/* What the current process does now; NULL: nothing that was posted. */
static const struct cllm_assignment *work_now(void)
{
    const struct sim_process *self = sim.current;

    for (uint32_t k = 0; k < CLLM_LEN(self->held); k++)
        if (self->held[k].active && self->held[k].seq == self->answered + 1)
            return &self->held[k].work;
    return NULL;
}

/* The lane that is wrong by itself: it kills, or is not finite, whoever computes it. */
static bool is_bad(const struct cllm_assignment *work)
{
    return work && work->kind == CLLM_WORK_LANE && work->lane == sim.plan.bad_lane &&
           work->step == sim.plan.bad_step;
}

/* Others must be there to outvote whoever errs. */
static bool in_company(void)
{
    uint32_t n = 0;

    for (uint32_t slot = 0; slot < sim.geometry.n_worker_slots; slot++)
        n += sim.view.slots[slot].command.state == CLLM_SLOT_IDLE ||
             sim.view.slots[slot].command.state == CLLM_SLOT_BUSY;
    return n >= 3;
}

/* A processor that errs: another bit, or a result that is not finite. */
static uint64_t err(uint64_t word)
{
    const struct cllm_assignment *work = work_now();

    if (sim.current->slot != sim.plan.wrong_slot || !work ||
        work->kind != CLLM_WORK_LANE || !in_company() || !sim_chance(sim.plan.wrong))
        return word;
    sim.totals.sdcs++;
    sim_trace(SIM_NOTE, sim.current, 0, 0, "errs");
    return sim_chance(64) ? SIM_NAN_WORD : word ^ (UINT64_C(1) << sim_random() % 64);
}

double cllm_model_forward_backward(struct cllm_model *model, const float *w, float *dw,
                                   const uint32_t *tokens)
{
    uint64_t hash = sim_token_hash(tokens);
    uint64_t *to = (uint64_t *)(void *)dw;
    uint32_t n = sim_words();
    bool bad = is_bad(work_now());

    for (uint32_t i = 0; i < n; i++) {
        uint64_t old = model->overwrite ? 0 : to[i];
        uint64_t word = sim_gradient_word(old, words_of(w)[i], hash, i);

        if (i + 1 == n)
            word = bad ? SIM_NAN_WORD : err(word);
        sim_store64(&to[i], word);
        if (i == n / 2 && model->progress)
            model->progress(model->progress_ctx);
        if (bad && sim.plan.bad == SIM_END_POISON) {
            sim.totals.poisoned++;
            sim.totals.faults++;
            sim.totals.crashes++;
            sim_end(sim.current, 11, 0);
        }
    }
    return sim_loss(words_of(w), tokens);
}

double cllm_model_loss(struct cllm_model *model, const float *w, const uint32_t *tokens)
{
    if (model->progress)
        model->progress(model->progress_ctx);
    return sim_loss(words_of(w), tokens);
}

/* Into the worker's own memory: toy_stream() makes it events. */
void cllm_model_initial_weights(const struct cllm_parameters *plan, float *w, uint64_t lo,
                                uint64_t hi, uint64_t seed)
{
    (void)plan;
    for (uint64_t i = lo / 2; i < hi / 2; i++)
        ((uint64_t *)(void *)w)[i - lo / 2] = sim_initial_word(seed, (uint32_t)i);
}

void cllm_optimizer_begin(struct cllm_optimizer_walk *walk,
                          struct cllm_optimizer *optimizer,
                          const struct cllm_update *update)
{
    (void)optimizer;
    walk->update = *update;
}

bool cllm_optimizer_is_whole(const struct cllm_optimizer *optimizer, uint64_t lo,
                             uint64_t hi)
{
    (void)optimizer;
    (void)lo;
    (void)hi;
    return false;
}

/* Into the worker's own memory, too. */
void cllm_optimizer_range(struct cllm_optimizer_walk *walk, uint64_t lo, uint64_t hi,
                          const float *g, float *w, float *m, float *v)
{
    const struct cllm_update *u = &walk->update;
    const float *from[3] = {u->w, u->m, u->v};
    float *to[3] = {w, m, v};

    for (uint32_t part = 0; part < 3; part++)
        for (uint64_t i = lo / 2; i < hi / 2; i++)
            ((uint64_t *)(void *)to[part])[i - lo / 2] =
                sim_update_word(words_of(from[part])[i], words_of(g)[i - lo / 2],
                                u->grad_scale, u->learning_rate, u->step, part);
}

double cllm_optimizer_sumsq(const struct cllm_optimizer *optimizer,
                            const struct cllm_ops *ops, const float *g, uint64_t lo,
                            uint64_t hi)
{
    (void)optimizer;
    return ops->sumsq(g, hi - lo);
}

/* ---- what a worker has mapped ---- */

static void bump_progress(void *ctx)
{
    struct cllm_worker *worker = ctx;

    sim_message("progress", 0);
    (void)atomic_fetch_add_explicit(&worker->child.control.own->status.progress, 1,
                                    memory_order_relaxed);
}

static int map_object(struct cllm_region *region, enum sim_object_kind kind,
                      uint32_t index, const char *run_id)
{
    char name[CLLM_REGION_NAME_BYTES];

    switch (kind) {
    case SIM_OBJECT_PARAMS:
        cllm_params_name(name, run_id, index);
        break;
    case SIM_OBJECT_FOLD:
        cllm_fold_name(name, run_id, index);
        break;
    case SIM_OBJECT_LANE:
    default:
        cllm_buffer_name(name, run_id, index);
    }
    return cllm_region_open(region, name, sizeof(uint64_t), CLLM_REGION_GUARDED);
}

int cllm_worker_map(struct cllm_worker *worker)
{
    const struct cllm_geometry *g = worker->child.geometry;
    const char *run_id = worker->child.run_id;
    int rc = 0;

    worker->plan.n_elements = g->n_elements;
    worker->buffer = calloc(g->n_buffers, sizeof *worker->buffer);
    for (uint32_t v = 0; rc == 0 && v < 2; v++)
        rc = map_object(&worker->params[v], SIM_OBJECT_PARAMS, v, run_id);
    for (uint32_t i = 0; rc == 0 && i < g->n_folds; i++)
        rc = map_object(&worker->fold[i], SIM_OBJECT_FOLD, i, run_id);
    for (uint32_t i = 0; rc == 0 && i < g->n_buffers; i++)
        rc = map_object(&worker->buffer[i], SIM_OBJECT_LANE, i, run_id);
    if (rc == 0)
        rc = cllm_ring_open(&worker->ring, run_id, g, false);
    worker->tokens = malloc(cllm_ring_batch_tokens(g) * sizeof *worker->tokens);
    worker->model.progress = bump_progress;
    worker->model.progress_ctx = worker;
    return rc;
}

void cllm_worker_unmap(struct cllm_worker *worker)
{
    (void)worker;
}

float *cllm_worker_params(const struct cllm_worker *worker, uint32_t version,
                          uint32_t part)
{
    CLLM_ASSERT(version < 2);
    CLLM_ASSERT(part < 3);
    return (float *)(void *)(worker->params[version].base +
                             part * cllm_vector_bytes(worker->child.geometry));
}

float *cllm_worker_fold(const struct cllm_worker *worker, uint32_t fold)
{
    CLLM_ASSERT(fold < worker->child.geometry->n_folds);
    return (float *)(void *)worker->fold[fold].base;
}
