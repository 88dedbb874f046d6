/*
 * model/optimizer.c - cut a range at the borders of tensors and hand the pieces to the
 * table, with the factors of their groups.
 */
#include "model/optimizer.h"

#include <string.h>

#include "base/hash.h"
#include "base/parameters.h"
#include "compute/elementary.h"

#define MUON_SIZE 0.2f /* of a step of AdamW: the root of its mean square */

/* A piece of a tensor: @n elements from @from on, their gradient at @g, to be written to
 * @w, @m and @v. */
struct piece {
    uint32_t tensor;
    uint64_t from, n;
    const float *g;
    float *w, *m, *v;
};

typedef void (*piece_fn)(const struct cllm_optimizer_walk *walk, const struct piece *p);

/* ---- factors ---- */

static const struct cllm_group *group_of(const struct cllm_optimizer_walk *walk,
                                         const struct piece *p)
{
    return &walk->optimizer->groups.of[p->tensor];
}

static float rate_of(const struct cllm_optimizer_walk *walk, const struct piece *p)
{
    return walk->update.learning_rate * group_of(walk, p)->rate;
}

static float decay_of(const struct cllm_optimizer_walk *walk, const struct piece *p)
{
    return walk->optimizer->settings.weight_decay * group_of(walk, p)->decay;
}

/* ---- pieces ---- */

static void clear(float *x, uint64_t n)
{
    memset(x, 0, n * sizeof *x);
}

static void update_adamw(const struct cllm_optimizer_walk *walk, const struct piece *p)
{
    const struct cllm_optimizer_settings *s = &walk->optimizer->settings;
    const struct cllm_update *u = &walk->update;
    const struct cllm_adamw_terms terms = {.learning_rate = rate_of(walk, p),
                                           .beta1 = s->beta1,
                                           .beta2 = s->beta2,
                                           .epsilon = s->epsilon,
                                           .weight_decay = decay_of(walk, p),
                                           .grad_scale = u->grad_scale,
                                           .correction1 = walk->correction1,
                                           .correction2 = walk->correction2};

    u->ops->adamw(p->w, p->m, p->v, u->w + p->from, u->m + p->from, u->v + p->from, p->g,
                  p->n, &terms);
}

static void update_lion(const struct cllm_optimizer_walk *walk, const struct piece *p)
{
    const struct cllm_optimizer_settings *s = &walk->optimizer->settings;
    const struct cllm_update *u = &walk->update;
    const struct cllm_lion_terms terms = {.learning_rate = rate_of(walk, p),
                                          .beta1 = s->lion_beta1,
                                          .beta2 = s->lion_beta2,
                                          .weight_decay = decay_of(walk, p),
                                          .grad_scale = u->grad_scale};

    u->ops->lion(p->w, p->m, u->w + p->from, u->m + p->from, p->g, p->n, &terms);
    clear(p->v, p->n);
}

static void update_sgd(const struct cllm_optimizer_walk *walk, const struct piece *p)
{
    const struct cllm_optimizer_settings *s = &walk->optimizer->settings;
    const struct cllm_update *u = &walk->update;
    const struct cllm_sgd_terms terms = {.learning_rate = rate_of(walk, p),
                                         .momentum = s->sgd_momentum,
                                         .weight_decay = decay_of(walk, p),
                                         .grad_scale = u->grad_scale,
                                         .nesterov = s->sgd_nesterov};

    u->ops->sgd(p->w, p->m, u->w + p->from, u->m + p->from, p->g, p->n, &terms);
    clear(p->v, p->n);
}

/* The direction is the whole matrix's, or the one kept of it; momentum is made again. */
static void update_muon(const struct cllm_optimizer_walk *walk, const struct piece *p)
{
    struct cllm_optimizer *optimizer = walk->optimizer;
    const struct cllm_tensor *tensor = &optimizer->plan->tensors[p->tensor];
    const struct cllm_update *u = &walk->update;
    const struct cllm_muon_source source = {.rows = tensor->shape[0],
                                            .cols = tensor->shape[1],
                                            .m = u->m + tensor->off,
                                            .g = u->whole + tensor->off,
                                            .momentum = optimizer->settings.muon_momentum,
                                            .grad_scale = u->grad_scale};
    float rate = rate_of(walk, p) * optimizer->settings.muon_rate;
    float size = MUON_SIZE * cllm_sqrtf((float)cllm_max_u64(source.rows, source.cols));
    float beta = source.momentum, rest = (1.0f - beta) * source.grad_scale;
    const float *direction = cllm_muon_direction(&optimizer->muon, u->ops, &source);

    u->ops->mix(p->m, u->m + p->from, p->g, beta, rest, p->n);
    u->ops->mix(p->w, u->w + p->from, direction + (p->from - tensor->off),
                1.0f - rate * decay_of(walk, p), -(rate * size), p->n);
    clear(p->v, p->n);
}

static void copy(const struct cllm_optimizer_walk *walk, const struct piece *p)
{
    memcpy(p->w, walk->update.w + p->from, p->n * sizeof *p->w);
    memcpy(p->m, walk->update.m + p->from, p->n * sizeof *p->m);
    memcpy(p->v, walk->update.v + p->from, p->n * sizeof *p->v);
}

/* ---- kinds ---- */

static const struct kind {
    const char *name;
    bool second; /* moment */
    piece_fn update;
} kinds[CLLM_N_OPTIMIZERS] = {
    [CLLM_OPTIMIZER_ADAMW] = {"adamw", true, update_adamw},
    [CLLM_OPTIMIZER_LION] = {"lion", false, update_lion},
    [CLLM_OPTIMIZER_SGD] = {"sgd", false, update_sgd},
    [CLLM_OPTIMIZER_MUON] = {"muon", false, update_muon},
};

const char *cllm_optimizer_name(enum cllm_optimizer_kind kind)
{
    CLLM_ASSERT((unsigned)kind < CLLM_N_OPTIMIZERS);
    return kinds[kind].name;
}

bool cllm_optimizer_has_second(enum cllm_optimizer_kind kind)
{
    CLLM_ASSERT((unsigned)kind < CLLM_N_OPTIMIZERS);
    return kinds[kind].second;
}

struct cllm_optimizer_settings cllm_optimizer_settings(const struct cllm_config *config)
{
    return (struct cllm_optimizer_settings){
        .kind = (enum cllm_optimizer_kind)config->train_optimizer,
        .weight_decay = (float)config->train_weight_decay,
        .beta1 = (float)config->train_beta1,
        .beta2 = (float)config->train_beta2,
        .epsilon = (float)config->train_epsilon,
        .lion_beta1 = (float)config->train_lion_beta1,
        .lion_beta2 = (float)config->train_lion_beta2,
        .sgd_momentum = (float)config->train_sgd_momentum,
        .sgd_nesterov = config->train_sgd_nesterov,
        .muon_momentum = (float)config->train_muon_momentum,
        .muon_rate = (float)config->train_muon_rate};
}

/* ---- tensors ---- */

enum cllm_optimizer_kind cllm_optimizer_of(const struct cllm_optimizer *optimizer,
                                           uint32_t tensor)
{
    const struct cllm_tensor *of = &optimizer->plan->tensors[tensor];

    CLLM_ASSERT(tensor < optimizer->plan->n_tensors);
    if (optimizer->settings.kind != CLLM_OPTIMIZER_MUON)
        return optimizer->settings.kind;
    return of->rank == 2 && of->layer != CLLM_NO_LAYER ? CLLM_OPTIMIZER_MUON
                                                       : CLLM_OPTIMIZER_ADAMW;
}

/* Is it the matrix as a whole that its update needs? */
static bool is_whole(const struct cllm_optimizer *optimizer, uint32_t tensor)
{
    return cllm_optimizer_of(optimizer, tensor) == CLLM_OPTIMIZER_MUON &&
           optimizer->groups.of[tensor].rate > 0;
}

int cllm_optimizer_init(struct cllm_optimizer *optimizer,
                        const struct cllm_parameters *plan,
                        const struct cllm_optimizer_settings *settings,
                        const struct cllm_config_list *groups)
{
    int rc;

    CLLM_ASSERT((unsigned)settings->kind < CLLM_N_OPTIMIZERS);
    *optimizer = (struct cllm_optimizer){.settings = *settings, .plan = plan};
    rc = cllm_groups_init(&optimizer->groups, plan, groups);
    if (rc != 0)
        return rc;
    for (uint32_t t = 0; t < plan->n_tensors; t++)
        if (is_whole(optimizer, t))
            cllm_muon_admit(&optimizer->muon, plan->tensors[t].shape[0],
                            plan->tensors[t].shape[1]);
    return 0;
}

void cllm_optimizer_fini(struct cllm_optimizer *optimizer)
{
    cllm_groups_fini(&optimizer->groups);
    *optimizer = (struct cllm_optimizer){0};
}

uint64_t cllm_optimizer_hash(const struct cllm_optimizer *optimizer, uint64_t sum)
{
    const struct cllm_optimizer_settings *s = &optimizer->settings;
    const float lion[] = {s->lion_beta1, s->lion_beta2};
    const float sgd[] = {s->sgd_momentum, s->sgd_nesterov ? 1.0f : 0.0f};
    const float muon[] = {s->muon_momentum, s->muon_rate};
    const char *name = cllm_optimizer_name(s->kind);

    if (s->kind != CLLM_OPTIMIZER_ADAMW)
        sum = cllm_hash(name, strlen(name), sum);
    if (s->kind == CLLM_OPTIMIZER_LION)
        sum = cllm_hash(lion, sizeof lion, sum);
    if (s->kind == CLLM_OPTIMIZER_SGD)
        sum = cllm_hash(sgd, sizeof sgd, sum);
    if (s->kind == CLLM_OPTIMIZER_MUON)
        sum = cllm_hash(muon, sizeof muon, sum);
    return cllm_groups_hash(&optimizer->groups, sum);
}

size_t cllm_optimizer_arena_bytes(const struct cllm_optimizer *optimizer)
{
    return cllm_muon_arena_bytes(&optimizer->muon);
}

void cllm_optimizer_take(struct cllm_optimizer *optimizer, struct cllm_arena *arena)
{
    cllm_muon_take(&optimizer->muon, arena);
}

/* ---- walking ---- */

/* By squaring, in double: a fixed number of roundings, no libm. */
static double power(double base, uint64_t exponent)
{
    double result = 1;

    for (; exponent > 0; exponent /= 2) {
        if (exponent % 2 == 1)
            result *= base;
        base *= base;
    }
    return result;
}

bool cllm_optimizer_is_whole(const struct cllm_optimizer *optimizer, uint64_t lo,
                             uint64_t hi)
{
    const struct cllm_parameters *plan = optimizer->plan;

    if (optimizer->settings.kind != CLLM_OPTIMIZER_MUON)
        return false;
    for (uint32_t t = 0; t < plan->n_tensors && plan->tensors[t].off < hi; t++)
        if (plan->tensors[t].off + plan->tensors[t].count > lo && is_whole(optimizer, t))
            return true;
    return false;
}

void cllm_optimizer_begin(struct cllm_optimizer_walk *walk,
                          struct cllm_optimizer *optimizer,
                          const struct cllm_update *update)
{
    const struct cllm_optimizer_settings *s = &optimizer->settings;

    CLLM_ASSERT(update->step > 0);
    *walk = (struct cllm_optimizer_walk){
        .optimizer = optimizer,
        .update = *update,
        .correction1 = (float)(1 / (1 - power((double)s->beta1, update->step))),
        .correction2 = (float)(1 / (1 - power((double)s->beta2, update->step)))};
    cllm_muon_begin(&optimizer->muon);
}

/* What lies between tensors: elements [from, to) of each. */
static void clear_gap(float *w, float *m, float *v, uint64_t from, uint64_t to)
{
    clear(w + from, to - from);
    clear(m + from, to - from);
    clear(v + from, to - from);
}

void cllm_optimizer_range(struct cllm_optimizer_walk *walk, uint64_t lo, uint64_t hi,
                          const float *g, float *w, float *m, float *v)
{
    const struct cllm_parameters *plan = walk->optimizer->plan;
    uint64_t done = lo;

    CLLM_ASSERT(lo <= hi && hi <= plan->n_elements);
    for (; walk->tensor < plan->n_tensors; walk->tensor++) {
        const struct cllm_tensor *tensor = &plan->tensors[walk->tensor];
        uint64_t from = cllm_max_u64(lo, tensor->off), end = tensor->off + tensor->count;
        uint64_t to = cllm_min_u64(hi, end);

        if (from < to) {
            const struct piece piece = {.tensor = walk->tensor,
                                        .from = from,
                                        .n = to - from,
                                        .g = g + (from - lo),
                                        .w = w + (from - lo),
                                        .m = m + (from - lo),
                                        .v = v + (from - lo)};

            if (done < from)
                clear_gap(w, m, v, done - lo, from - lo);
            if (group_of(walk, &piece)->rate > 0)
                kinds[cllm_optimizer_of(walk->optimizer, walk->tensor)].update(walk,
                                                                               &piece);
            else
                copy(walk, &piece);
            done = to;
        }
        if (end > hi)
            break;
    }
    if (done < hi)
        clear_gap(w, m, v, done - lo, hi - lo);
}

double cllm_optimizer_sumsq(const struct cllm_optimizer *optimizer,
                            const struct cllm_ops *ops, const float *g, uint64_t lo,
                            uint64_t hi)
{
    const struct cllm_parameters *plan = optimizer->plan;
    uint64_t from = lo;
    double sum = 0;

    for (uint32_t t = 0; optimizer->groups.frozen && t < plan->n_tensors; t++) {
        const struct cllm_tensor *tensor = &plan->tensors[t];
        uint64_t end = tensor->off + tensor->count;

        if (optimizer->groups.of[t].rate > 0 || end <= lo || tensor->off >= hi)
            continue;
        if (from < tensor->off)
            sum += ops->sumsq(g + (from - lo), tensor->off - from);
        from = end;
    }
    return from < hi ? sum + ops->sumsq(g + (from - lo), hi - from) : sum;
}
