/*
 * tests/gpt_double.c - one sequence at a time; see the header.
 */
#include "tests/gpt_double.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crystal.h"
#include "base/random.h"

/* What a block computes for one sequence. */
struct tape {
    double *x, *n1, *q, *k, *v; // (T,C) each
    double *p;                  // (H,T,T)
    double *a, *x2, *n2;        // (T,C)
    double *f, *g;              // (T,4C)
};

struct run {
    const struct cllm_parameters *plan;
    const double *w;
    double *dw;
    size_t T, C, H, F, L, V;
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

static uint64_t offset(const struct run *run, size_t layer, const char *name)
{
    const struct cllm_tensor *tensor;
    char full[CLLM_TENSOR_NAME_BYTES];

    if (layer < run->L)
        (void)snprintf(full, sizeof full, "transformer.h.%zu.%s", layer, name);
    else
        (void)snprintf(full, sizeof full, "transformer.%s", name);
    tensor = cllm_parameters_find(run->plan, full);
    CLLM_ASSERT(tensor != NULL);
    return tensor->off;
}

/* y (T,to) += x (T,from) W[:, first .. first + to) + bias; W has @width columns. */
static void product(const struct run *run, double *y, const double *x, size_t layer,
                    const char *w_name, const char *b_name, size_t from, size_t width,
                    size_t first, size_t to)
{
    const double *w = run->w + offset(run, layer, w_name);
    const double *b = run->w + offset(run, layer, b_name);

    for (size_t t = 0; t < run->T; t++)
        for (size_t j = 0; j < to; j++) {
            double sum = b[first + j];

            for (size_t i = 0; i < from; i++)
                sum += x[t * from + i] * w[i * width + first + j];
            y[t * to + j] += sum;
        }
}

/* The same backwards: dx += dy W^T, and the gradients of W and bias. */
static void unproduct(const struct run *run, double *dx, const double *dy,
                      const double *x, size_t layer, const char *w_name,
                      const char *b_name, size_t from, size_t width, size_t first,
                      size_t to)
{
    uint64_t w_off = offset(run, layer, w_name), b_off = offset(run, layer, b_name);
    const double *w = run->w + w_off;
    double *dw = run->dw + w_off, *db = run->dw + b_off;

    for (size_t t = 0; t < run->T; t++)
        for (size_t j = 0; j < to; j++) {
            double d = dy[t * to + j];

            db[first + j] += d;
            for (size_t i = 0; i < from; i++) {
                dx[t * from + i] += d * w[i * width + first + j];
                dw[i * width + first + j] += d * x[t * from + i];
            }
        }
}

static void moments(const double *x, size_t n, double epsilon, double *mean,
                    double *deviation)
{
    double variance = 0;

    *mean = 0;
    for (size_t i = 0; i < n; i++)
        *mean += x[i];
    *mean /= (double)n;
    for (size_t i = 0; i < n; i++)
        variance += (x[i] - *mean) * (x[i] - *mean);
    *deviation = sqrt(variance / (double)n + epsilon);
}

static void normalise(const struct run *run, double *y, const double *x, size_t layer,
                      const char *w_name, const char *b_name)
{
    const double *w = run->w + offset(run, layer, w_name);
    const double *b = run->w + offset(run, layer, b_name);
    size_t C = run->C;

    for (size_t t = 0; t < run->T; t++) {
        double mean, deviation;

        moments(x + t * C, C, run->plan->config.norm_epsilon, &mean, &deviation);
        for (size_t i = 0; i < C; i++)
            y[t * C + i] = (x[t * C + i] - mean) / deviation * w[i] + b[i];
    }
}

/* By the chain rule through mean and deviation, term by term. */
static void unnormalise(const struct run *run, double *dx, const double *dy,
                        const double *x, size_t layer, const char *w_name,
                        const char *b_name)
{
    uint64_t w_off = offset(run, layer, w_name), b_off = offset(run, layer, b_name);
    size_t C = run->C;

    for (size_t t = 0; t < run->T; t++) {
        const double *row = x + t * C, *d = dy + t * C;
        double mean, s, dmean = 0, ds = 0;

        moments(row, C, run->plan->config.norm_epsilon, &mean, &s);
        for (size_t i = 0; i < C; i++) {
            double dn = d[i] * run->w[w_off + i]; /* of (x - mean) / s */

            run->dw[w_off + i] += d[i] * (row[i] - mean) / s;
            run->dw[b_off + i] += d[i];
            ds -= dn * (row[i] - mean) / (s * s);
            dmean -= dn / s;
            dx[t * C + i] += dn / s;
        }
        for (size_t i = 0; i < C; i++)
            dx[t * C + i] += dmean / (double)C + ds * (row[i] - mean) / (s * (double)C);
    }
}

static const double root = 0.79788456080286535588; /* sqrt(2 / pi) */

static double gelu(double x)
{
    return 0.5 * x * (1 + tanh(root * (x + 0.044715 * x * x * x)));
}

static double gelu_slope(double x)
{
    double t = tanh(root * (x + 0.044715 * x * x * x));

    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x);
}

/* What query @t of head @h gives key @j besides their product, and what it is a multiple
 * of. */
static double bias(const struct run *run, size_t layer, size_t h, size_t t, size_t j)
{
    return run->plan->config.crystalline_bias
               ? run->w[offset(run, run->L, "crystalline_bias") + layer * run->H + h] *
                     cllm_crystal_similarity(run->tokens[t], run->tokens[j])
               : 0;
}

static void unbias(const struct run *run, size_t layer, size_t h, size_t t, size_t j,
                   double d)
{
    if (run->plan->config.crystalline_bias)
        run->dw[offset(run, run->L, "crystalline_bias") + layer * run->H + h] +=
            d * cllm_crystal_similarity(run->tokens[t], run->tokens[j]);
}

float gpt_double_dropout;
uint64_t gpt_double_key;

double gpt_double_factor(size_t layer, size_t head, size_t T, size_t t, size_t j)
{
    /* Rows are filled up to 128; site 3 of the block is the probabilities'. */
    uint64_t element = (head * T + t) * ((T + 127) / 128 * 128) + j, key;
    uint32_t word[4];

    if (gpt_double_dropout <= 0)
        return 1;
    key = cllm_random_u64(gpt_double_key, CLLM_RANDOM_DROPOUT, UINT64_C(3) << 32 | layer);
    cllm_random_block(word, key, CLLM_RANDOM_DROPOUT, element / 128 * 32 + element % 32);
    if (word[element % 128 / 32] < (uint32_t)((double)gpt_double_dropout * 0x1p32))
        return 0;
    return 1 / (1 - (double)gpt_double_dropout);
}

static double factor(const struct run *run, size_t layer, size_t h, size_t t, size_t j)
{
    return gpt_double_factor(layer, run->b * run->H + h, run->T, t, j);
}

static void attend(const struct run *run, struct tape *tape, size_t layer)
{
    size_t T = run->T, C = run->C, D = C / run->H;

    for (size_t h = 0; h < run->H; h++)
        for (size_t t = 0; t < T; t++) {
            double *p = tape->p + (h * T + t) * T, sum = 0;

            for (size_t j = 0; j <= t; j++) {
                double score = 0;

                for (size_t d = h * D; d < (h + 1) * D; d++)
                    score += tape->q[t * C + d] * tape->k[j * C + d];
                sum += p[j] = exp(score / sqrt((double)D) + bias(run, layer, h, t, j));
            }
            for (size_t j = 0; j <= t; j++) {
                p[j] /= sum;
                for (size_t d = h * D; d < (h + 1) * D; d++)
                    tape->a[t * C + d] +=
                        p[j] * factor(run, layer, h, t, j) * tape->v[j * C + d];
            }
        }
}

static void unattend(const struct run *run, const struct tape *tape, const double *da,
                     double *dq, double *dk, double *dv, size_t layer)
{
    size_t T = run->T, C = run->C, D = C / run->H;
    double *dp = zeros(T);

    for (size_t h = 0; h < run->H; h++)
        for (size_t t = 0; t < T; t++) {
            const double *p = tape->p + (h * T + t) * T;
            double mean = 0;

            for (size_t j = 0; j <= t; j++) {
                double f = factor(run, layer, h, t, j);

                dp[j] = 0;
                for (size_t d = h * D; d < (h + 1) * D; d++) {
                    dp[j] += f * da[t * C + d] * tape->v[j * C + d];
                    dv[j * C + d] += p[j] * f * da[t * C + d];
                }
                mean += p[j] * dp[j];
            }
            for (size_t j = 0; j <= t; j++)
                unbias(run, layer, h, t, j, p[j] * (dp[j] - mean));
            for (size_t j = 0; j <= t; j++)
                for (size_t d = h * D; d < (h + 1) * D; d++) {
                    double ds = p[j] * (dp[j] - mean) / sqrt((double)D);

                    dq[t * C + d] += ds * tape->k[j * C + d];
                    dk[j * C + d] += ds * tape->q[t * C + d];
                }
        }
    free(dp);
}

/* Fill @tape from tape->x; returns the next block's input. */
static double *forward_block(const struct run *run, struct tape *tape, size_t layer)
{
    size_t T = run->T, C = run->C;
    double *next = zeros(T * C);
    double **all[] = {&tape->n1, &tape->q,  &tape->k, &tape->v,
                      &tape->a,  &tape->x2, &tape->n2};

    for (size_t i = 0; i < CLLM_LEN(all); i++)
        *all[i] = zeros(T * C);
    tape->p = zeros(run->H * T * T);
    tape->f = zeros(T * run->F);
    tape->g = zeros(T * run->F);
    normalise(run, tape->n1, tape->x, layer, "ln_1.weight", "ln_1.bias");
    for (size_t part = 0; part < 3; part++)
        product(run,
                part == 0   ? tape->q
                : part == 1 ? tape->k
                            : tape->v,
                tape->n1, layer, "attn.c_attn.weight", "attn.c_attn.bias", C, 3 * C,
                part * C, C);
    attend(run, tape, layer);
    memcpy(tape->x2, tape->x, T * C * sizeof *next);
    product(run, tape->x2, tape->a, layer, "attn.c_proj.weight", "attn.c_proj.bias", C, C,
            0, C);
    normalise(run, tape->n2, tape->x2, layer, "ln_2.weight", "ln_2.bias");
    product(run, tape->f, tape->n2, layer, "mlp.c_fc.weight", "mlp.c_fc.bias", C, run->F,
            0, run->F);
    for (size_t i = 0; i < T * run->F; i++)
        tape->g[i] = gelu(tape->f[i]);
    memcpy(next, tape->x2, T * C * sizeof *next);
    product(run, next, tape->g, layer, "mlp.c_proj.weight", "mlp.c_proj.bias", run->F, C,
            0, C);
    return next;
}

/* @dx (T,C): in the gradient of the block's output, out that of its input. */
static void backward_block(const struct run *run, const struct tape *tape, double *dx,
                           size_t layer)
{
    size_t T = run->T, C = run->C;
    double *df = zeros(T * run->F), *dn = zeros(T * C), *da = zeros(T * C);
    double *d[3] = {zeros(T * C), zeros(T * C), zeros(T * C)};

    unproduct(run, df, dx, tape->g, layer, "mlp.c_proj.weight", "mlp.c_proj.bias", run->F,
              C, 0, C);
    for (size_t i = 0; i < T * run->F; i++)
        df[i] *= gelu_slope(tape->f[i]);
    unproduct(run, dn, df, tape->n2, layer, "mlp.c_fc.weight", "mlp.c_fc.bias", C, run->F,
              0, run->F);
    unnormalise(run, dx, dn, tape->x2, layer, "ln_2.weight", "ln_2.bias");
    unproduct(run, da, dx, tape->a, layer, "attn.c_proj.weight", "attn.c_proj.bias", C, C,
              0, C);
    unattend(run, tape, da, d[0], d[1], d[2], layer);
    memset(dn, 0, T * C * sizeof *dn);
    for (size_t part = 0; part < 3; part++)
        unproduct(run, dn, d[part], tape->n1, layer, "attn.c_attn.weight",
                  "attn.c_attn.bias", C, 3 * C, part * C, C);
    unnormalise(run, dx, dn, tape->x, layer, "ln_1.weight", "ln_1.bias");
    free(df);
    free(dn);
    free(da);
    for (size_t part = 0; part < 3; part++)
        free(d[part]);
}

static void tape_free(struct tape *tape)
{
    free(tape->x);
    free(tape->n1);
    free(tape->q);
    free(tape->k);
    free(tape->v);
    free(tape->p);
    free(tape->a);
    free(tape->x2);
    free(tape->n2);
    free(tape->f);
    free(tape->g);
}

double gpt_double_smoothing;

void gpt_double_target(double *q, uint32_t target, size_t V)
{
    double all = 0;

    memset(q, 0, V * sizeof *q);
    q[target] = 1 - gpt_double_smoothing;
    for (size_t v = 0; gpt_double_smoothing > 0 && v < V; v++)
        all += cllm_crystal_similarity(target, (uint32_t)v);
    for (size_t v = 0; gpt_double_smoothing > 0 && v < V; v++)
        q[v] += gpt_double_smoothing * cllm_crystal_similarity(target, (uint32_t)v) / all;
}

/* Loss of the positions from the last norm @n; its gradient goes to @dn and the output
 * matrix. @logits (T,V) gets the logits. */
static double loss_of(const struct run *run, const double *n, const uint32_t *targets,
                      double *logits, double *dn)
{
    uint64_t head = cllm_parameters_have(run->plan, CLLM_TENSOR_HEAD_W)
                        ? cllm_parameters_off(run->plan, CLLM_TENSOR_HEAD_W, 0)
                        : offset(run, run->L, "wte.weight");
    double loss = 0, *q = zeros(run->V);

    for (size_t t = 0; t < run->T; t++) {
        double *row = logits + t * run->V, sum = 0;

        for (size_t v = 0; v < run->V; v++) {
            row[v] = 0;
            for (size_t c = 0; c < run->C; c++)
                row[v] += n[t * run->C + c] * run->w[head + v * run->C + c];
            sum += exp(row[v]);
        }
        gpt_double_target(q, targets[t], run->V);
        for (size_t v = 0; v < run->V; v++)
            loss += q[v] * (log(sum) - row[v]);
        for (size_t v = 0; dn != NULL && v < run->V; v++) {
            double d = exp(row[v]) / sum - q[v];

            for (size_t c = 0; c < run->C; c++) {
                dn[t * run->C + c] += d * run->w[head + v * run->C + c];
                run->dw[head + v * run->C + c] += d * n[t * run->C + c];
            }
        }
    }
    free(q);
    return loss;
}

static double one_sequence(struct run *run, const uint32_t *tokens, double *logits)
{
    size_t T = run->T, C = run->C;
    uint64_t wte = offset(run, run->L, "wte.weight");
    uint64_t wpe = offset(run, run->L, "wpe.weight");
    double *x = zeros(T * C), *n = zeros(T * C), *dn = zeros(T * C), *dx = zeros(T * C);
    double loss;

    run->tokens = tokens;
    for (size_t i = 0; i < T * C; i++)
        x[i] = run->w[wte + tokens[i / C] * C + i % C] + run->w[wpe + i];
    for (size_t layer = 0; layer < run->L; layer++) {
        run->tape[layer].x = x;
        x = forward_block(run, &run->tape[layer], layer);
    }
    normalise(run, n, x, run->L, "ln_f.weight", "ln_f.bias");
    loss = loss_of(run, n, tokens + 1, logits, run->dw != NULL ? dn : NULL);
    if (run->dw != NULL) {
        unnormalise(run, dx, dn, x, run->L, "ln_f.weight", "ln_f.bias");
        for (size_t layer = run->L; layer-- > 0;)
            backward_block(run, &run->tape[layer], dx, layer);
        for (size_t i = 0; i < T * C; i++) {
            run->dw[wte + tokens[i / C] * C + i % C] += dx[i];
            run->dw[wpe + i] += dx[i];
        }
    }
    for (size_t layer = 0; layer < run->L; layer++)
        tape_free(&run->tape[layer]);
    free(x);
    free(n);
    free(dn);
    free(dx);
    return loss;
}

double gpt_double_loss(const struct cllm_parameters *plan, const double *w, double *dw,
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
