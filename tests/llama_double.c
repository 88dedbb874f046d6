/*
 * tests/llama_double.c - see tests/llama_double.h.
 */
#include "tests/llama_double.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/crystal.h"
#include "tests/gpt_double.h"

/* What a block leaves for the way back; of one sequence. */
struct tape {
    double *x, *n1;     // (T,C)
    double *q;          // (T,H D), turned
    double *k, *v;      // (T,KV D), keys turned
    double *p;          // (H,T,T)
    double *a;          // (T,H D)
    double *x2, *n2;    // (T,C)
    double *g, *u, *gu; // (T,F): gate, up, silu(gate) up
};

struct run {
    const struct cllm_parameters *plan;
    const double *w;
    double *dw;
    size_t T, C, H, KV, D, F, L, V;
    struct tape *tape;      // (L)
    const uint32_t *tokens; // (T) of the sequence
    size_t b;               /* which it is */
};

static double *zeros(size_t n)
{
    double *x = calloc(n, sizeof *x);

    CLLM_ASSERT(x != NULL);
    return x;
}

static uint64_t off(const struct run *run, enum cllm_tensor_kind kind, size_t layer)
{
    return cllm_parameters_off(run->plan, kind, (uint32_t)layer);
}

/* y (T,to) += x (T,from) W^T, W at @w (to,from). */
static void product(const struct run *run, double *y, const double *x, uint64_t w,
                    size_t from, size_t to)
{
    for (size_t t = 0; t < run->T; t++)
        for (size_t j = 0; j < to; j++)
            for (size_t i = 0; i < from; i++)
                y[t * to + j] += x[t * from + i] * run->w[w + j * from + i];
}

/* The same backwards: dx += dy W, and W's gradient. */
static void unproduct(const struct run *run, double *dx, const double *dy,
                      const double *x, uint64_t w, size_t from, size_t to)
{
    for (size_t t = 0; t < run->T; t++)
        for (size_t j = 0; j < to; j++)
            for (size_t i = 0; i < from; i++) {
                dx[t * from + i] += dy[t * to + j] * run->w[w + j * from + i];
                run->dw[w + j * from + i] += dy[t * to + j] * x[t * from + i];
            }
}

static double length_of(const struct run *run, const double *x)
{
    double square = 0;

    for (size_t i = 0; i < run->C; i++)
        square += x[i] * x[i];
    return sqrt(square / (double)run->C + run->plan->config.norm_epsilon);
}

static void normalise(const struct run *run, double *y, const double *x, uint64_t w)
{
    for (size_t t = 0; t < run->T; t++) {
        double length = length_of(run, x + t * run->C);

        for (size_t i = 0; i < run->C; i++)
            y[t * run->C + i] = x[t * run->C + i] / length * run->w[w + i];
    }
}

/* By the chain rule through the length. */
static void unnormalise(const struct run *run, double *dx, const double *dy,
                        const double *x, uint64_t w)
{
    size_t C = run->C;

    for (size_t t = 0; t < run->T; t++) {
        const double *row = x + t * C, *d = dy + t * C;
        double length = length_of(run, row), dlength = 0;

        for (size_t i = 0; i < C; i++) {
            dlength -= d[i] * run->w[w + i] * row[i] / (length * length);
            dx[t * C + i] += d[i] * run->w[w + i] / length;
            run->dw[w + i] += d[i] * row[i] / length;
        }
        for (size_t i = 0; i < C; i++)
            dx[t * C + i] += dlength * row[i] / (length * (double)C);
    }
}

/* Turn @heads heads of every position by its angle, or back. */
static void turn(const struct run *run, double *x, size_t heads, double direction)
{
    const struct cllm_model_config *config = &run->plan->config;
    size_t half = run->D / 2;

    for (size_t t = 0; t < run->T; t++)
        for (size_t h = 0; h < heads; h++)
            for (size_t i = 0; i < half; i++) {
                double *a = x + (t * heads + h) * run->D + i, *b = a + half, kept = *a;
                double angle = direction * (double)t / config->rope_factor /
                               pow(config->rope_theta, 2 * (double)i / (double)run->D);

                *a = kept * cos(angle) - *b * sin(angle);
                *b = *b * cos(angle) + kept * sin(angle);
            }
}

/* The learned bias of head @h, times the similarity; and its gradient. */
static double bias(const struct run *run, size_t layer, size_t h, size_t t, size_t j)
{
    return run->plan->config.crystalline_bias
               ? run->w[off(run, CLLM_TENSOR_CRYSTALLINE, 0) + layer * run->H + h] *
                     cllm_crystal_similarity(run->tokens[t], run->tokens[j])
               : 0;
}

static void unbias(const struct run *run, size_t layer, size_t h, size_t t, size_t j,
                   double d)
{
    if (run->plan->config.crystalline_bias)
        run->dw[off(run, CLLM_TENSOR_CRYSTALLINE, 0) + layer * run->H + h] +=
            d * cllm_crystal_similarity(run->tokens[t], run->tokens[j]);
}

static double factor(const struct run *run, size_t layer, size_t h, size_t t, size_t j)
{
    return gpt_double_factor(layer, run->b * run->H + h, run->T, t, j);
}

static void attend(const struct run *run, struct tape *tape, size_t layer)
{
    size_t T = run->T, D = run->D, Q = run->H * D, K = run->KV * D;

    for (size_t h = 0; h < run->H; h++)
        for (size_t t = 0; t < T; t++) {
            double *p = tape->p + (h * T + t) * T, sum = 0;
            const double *q = tape->q + t * Q + h * D;
            size_t g = h * run->KV / run->H * D;

            for (size_t j = 0; j <= t; j++) {
                double score = 0;

                for (size_t d = 0; d < D; d++)
                    score += q[d] * tape->k[j * K + g + d];
                sum += p[j] = exp(score / sqrt((double)D) + bias(run, layer, h, t, j));
            }
            for (size_t j = 0; j <= t; j++) {
                p[j] /= sum;
                for (size_t d = 0; d < D; d++)
                    tape->a[t * Q + h * D + d] +=
                        p[j] * factor(run, layer, h, t, j) * tape->v[j * K + g + d];
            }
        }
}

static void unattend(const struct run *run, const struct tape *tape, const double *da,
                     double *dq, double *dk, double *dv, size_t layer)
{
    size_t T = run->T, D = run->D, Q = run->H * D, K = run->KV * D;
    double *dp = zeros(T);

    for (size_t h = 0; h < run->H; h++)
        for (size_t t = 0; t < T; t++) {
            const double *p = tape->p + (h * T + t) * T, *d = da + t * Q + h * D;
            size_t g = h * run->KV / run->H * D;
            double mean = 0;

            for (size_t j = 0; j <= t; j++) {
                double f = factor(run, layer, h, t, j);

                dp[j] = 0;
                for (size_t i = 0; i < D; i++) {
                    dp[j] += f * d[i] * tape->v[j * K + g + i];
                    dv[j * K + g + i] += p[j] * f * d[i];
                }
                mean += p[j] * dp[j];
            }
            for (size_t j = 0; j <= t; j++)
                unbias(run, layer, h, t, j, p[j] * (dp[j] - mean));
            for (size_t j = 0; j <= t; j++)
                for (size_t i = 0; i < D; i++) {
                    double ds = p[j] * (dp[j] - mean) / sqrt((double)D);

                    dq[t * Q + h * D + i] += ds * tape->k[j * K + g + i];
                    dk[j * K + g + i] += ds * tape->q[t * Q + h * D + i];
                }
        }
    free(dp);
}

static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

static void tape_alloc(const struct run *run, struct tape *tape)
{
    size_t T = run->T;

    tape->n1 = zeros(T * run->C);
    tape->q = zeros(T * run->H * run->D);
    tape->k = zeros(T * run->KV * run->D);
    tape->v = zeros(T * run->KV * run->D);
    tape->p = zeros(run->H * T * T);
    tape->a = zeros(T * run->H * run->D);
    tape->x2 = zeros(T * run->C);
    tape->n2 = zeros(T * run->C);
    tape->g = zeros(T * run->F);
    tape->u = zeros(T * run->F);
    tape->gu = zeros(T * run->F);
}

static void tape_free(struct tape *tape)
{
    double *all[] = {tape->x, tape->n1, tape->q,  tape->k, tape->v, tape->p,
                     tape->a, tape->x2, tape->n2, tape->g, tape->u, tape->gu};

    for (size_t i = 0; i < CLLM_LEN(all); i++)
        free(all[i]);
}

/* Fill @tape from tape->x; returns the next block's input. */
static double *forward_block(const struct run *run, struct tape *tape, size_t layer)
{
    size_t T = run->T, C = run->C, Q = run->H * run->D, K = run->KV * run->D, F = run->F;
    double *next = zeros(T * C);

    tape_alloc(run, tape);
    normalise(run, tape->n1, tape->x, off(run, CLLM_TENSOR_NORM1_W, layer));
    product(run, tape->q, tape->n1, off(run, CLLM_TENSOR_Q_W, layer), C, Q);
    product(run, tape->k, tape->n1, off(run, CLLM_TENSOR_K_W, layer), C, K);
    product(run, tape->v, tape->n1, off(run, CLLM_TENSOR_V_W, layer), C, K);
    turn(run, tape->q, run->H, 1);
    turn(run, tape->k, run->KV, 1);
    attend(run, tape, layer);
    memcpy(tape->x2, tape->x, T * C * sizeof *next);
    product(run, tape->x2, tape->a, off(run, CLLM_TENSOR_ATTN_W, layer), Q, C);
    normalise(run, tape->n2, tape->x2, off(run, CLLM_TENSOR_NORM2_W, layer));
    product(run, tape->g, tape->n2, off(run, CLLM_TENSOR_GATE_W, layer), C, F);
    product(run, tape->u, tape->n2, off(run, CLLM_TENSOR_FC_W, layer), C, F);
    for (size_t i = 0; i < T * F; i++)
        tape->gu[i] = tape->g[i] * logistic(tape->g[i]) * tape->u[i];
    memcpy(next, tape->x2, T * C * sizeof *next);
    product(run, next, tape->gu, off(run, CLLM_TENSOR_PROJ_W, layer), F, C);
    return next;
}

/* @dx: in the gradient of the block's output, out that of the middle. */
static void backward_mlp(const struct run *run, const struct tape *tape, double *dx,
                         size_t layer)
{
    size_t T = run->T, C = run->C, F = run->F;
    double *dgu = zeros(T * F), *dg = zeros(T * F), *du = zeros(T * F);
    double *dn = zeros(T * C);

    unproduct(run, dgu, dx, tape->gu, off(run, CLLM_TENSOR_PROJ_W, layer), F, C);
    for (size_t i = 0; i < T * F; i++) {
        double s = logistic(tape->g[i]);

        du[i] = dgu[i] * tape->g[i] * s;
        dg[i] = dgu[i] * tape->u[i] * s * (1 + tape->g[i] * (1 - s));
    }
    unproduct(run, dn, dg, tape->n2, off(run, CLLM_TENSOR_GATE_W, layer), C, F);
    unproduct(run, dn, du, tape->n2, off(run, CLLM_TENSOR_FC_W, layer), C, F);
    unnormalise(run, dx, dn, tape->x2, off(run, CLLM_TENSOR_NORM2_W, layer));
    free(dgu);
    free(dg);
    free(du);
    free(dn);
}

/* From the middle's gradient to the input's. */
static void backward_attention(const struct run *run, const struct tape *tape, double *dx,
                               size_t layer)
{
    size_t T = run->T, C = run->C, Q = run->H * run->D, K = run->KV * run->D;
    double *da = zeros(T * Q), *dq = zeros(T * Q), *dk = zeros(T * K);
    double *dv = zeros(T * K), *dn = zeros(T * C);

    unproduct(run, da, dx, tape->a, off(run, CLLM_TENSOR_ATTN_W, layer), Q, C);
    unattend(run, tape, da, dq, dk, dv, layer);
    turn(run, dq, run->H, -1);
    turn(run, dk, run->KV, -1);
    unproduct(run, dn, dq, tape->n1, off(run, CLLM_TENSOR_Q_W, layer), C, Q);
    unproduct(run, dn, dk, tape->n1, off(run, CLLM_TENSOR_K_W, layer), C, K);
    unproduct(run, dn, dv, tape->n1, off(run, CLLM_TENSOR_V_W, layer), C, K);
    unnormalise(run, dx, dn, tape->x, off(run, CLLM_TENSOR_NORM1_W, layer));
    free(da);
    free(dq);
    free(dk);
    free(dv);
    free(dn);
}

/* Loss of the positions from the last norm @n; its gradient goes to @dn and the output
 * matrix. @logits (T,V) gets the logits. */
static double loss_of(const struct run *run, const double *n, const uint32_t *targets,
                      double *logits, double *dn)
{
    bool own = cllm_parameters_have(run->plan, CLLM_TENSOR_HEAD_W);
    uint64_t head = off(run, own ? CLLM_TENSOR_HEAD_W : CLLM_TENSOR_EMBEDDING, 0);
    double loss = 0, *dlogits = zeros(run->T * run->V), *q = zeros(run->V);

    memset(logits, 0, run->T * run->V * sizeof *logits);
    product(run, logits, n, head, run->C, run->V);
    for (size_t t = 0; t < run->T; t++) {
        const double *row = logits + t * run->V;
        double sum = 0;

        for (size_t v = 0; v < run->V; v++)
            sum += exp(row[v]);
        gpt_double_target(q, targets[t], run->V);
        for (size_t v = 0; v < run->V; v++) {
            loss += q[v] * (log(sum) - row[v]);
            dlogits[t * run->V + v] = exp(row[v]) / sum - q[v];
        }
    }
    if (dn != NULL)
        unproduct(run, dn, dlogits, n, head, run->C, run->V);
    free(dlogits);
    free(q);
    return loss;
}

static double one_sequence(struct run *run, const uint32_t *tokens, double *logits)
{
    size_t T = run->T, C = run->C;
    uint64_t embedding = off(run, CLLM_TENSOR_EMBEDDING, 0);
    uint64_t norm = off(run, CLLM_TENSOR_NORM_W, 0);
    double *x = zeros(T * C), *n = zeros(T * C), *dn = zeros(T * C), *dx = zeros(T * C);
    double loss;

    run->tokens = tokens;
    for (size_t i = 0; i < T * C; i++)
        x[i] = run->w[embedding + tokens[i / C] * C + i % C];
    for (size_t layer = 0; layer < run->L; layer++) {
        run->tape[layer].x = x;
        x = forward_block(run, &run->tape[layer], layer);
    }
    normalise(run, n, x, norm);
    loss = loss_of(run, n, tokens + 1, logits, run->dw != NULL ? dn : NULL);
    if (run->dw != NULL) {
        unnormalise(run, dx, dn, x, norm);
        for (size_t layer = run->L; layer-- > 0;) {
            backward_mlp(run, &run->tape[layer], dx, layer);
            backward_attention(run, &run->tape[layer], dx, layer);
        }
        for (size_t i = 0; i < T * C; i++)
            run->dw[embedding + tokens[i / C] * C + i % C] += dx[i];
    }
    for (size_t layer = 0; layer < run->L; layer++)
        tape_free(&run->tape[layer]);
    free(x);
    free(n);
    free(dn);
    free(dx);
    return loss;
}

double llama_double_loss(const struct cllm_parameters *plan, const double *w, double *dw,
                         uint32_t B, uint32_t T, const uint32_t *tokens, double *logits)
{
    const struct cllm_model_config *config = &plan->config;
    size_t V = config->vocab;
    struct run run = {.plan = plan,
                      .w = w,
                      .dw = dw,
                      .T = T,
                      .C = config->width,
                      .H = config->heads,
                      .KV = config->kv_heads,
                      .D = config->head_size,
                      .F = config->hidden,
                      .L = config->layers,
                      .V = V,
                      .tape = calloc(config->layers, sizeof *run.tape)};
    double *own = zeros(T * V), loss = 0;

    CLLM_ASSERT(run.tape != NULL);
    for (run.b = 0; run.b < B; run.b++)
        loss += one_sequence(&run, tokens + run.b * (T + 1),
                             logits != NULL ? logits + run.b * T * V : own);
    free(run.tape);
    free(own);
    return loss;
}
