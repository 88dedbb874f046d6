/*
 * tests/bench_crystal.c - what the crystalline bias of attention costs: similarities of
 * all pairs, and attention without and with it.
 *
 *   bench_crystal [CONTEXT [SEQUENCES [HEADS [HEAD_SIZE]]]]
 *
 * Medians of processor time of rounds in turns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "compute/ops.h"
#include "tests/numbers.h"

enum { ROUNDS = 31, PARTS = 5, VOCAB = 50257 };

static const char *const names[PARTS] = {"similarities", "attention", "with bias",
                                         "attention backward", "with bias"};

static double cpu_ns(void)
{
    struct timespec at;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return (double)at.tv_sec * 1e9 + (double)at.tv_nsec;
}

static int compare_times(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return left < right ? -1 : left > right;
}

struct bench {
    const struct cllm_ops *ops;
    struct cllm_attention plain, biased;
    uint32_t *tokens;
    float *points, *similar;
    float *qkv, *dqkv, *out, *dout, *lse, *scratch;
};

static void compare_tokens(struct bench *x)
{
    size_t T = x->plain.T, stride = cllm_align_up(T, 16);

    for (size_t b = 0; b < x->plain.B; b++) {
        x->ops->crystal_points(x->points, stride, x->tokens + b * T, 0, T);
        for (size_t first = 0; first < T; first += CLLM_ATTENTION_BLOCK) {
            size_t rows = cllm_min_u64(CLLM_ATTENTION_BLOCK, T - first);

            x->ops->crystal_pairs(x->similar + b * cllm_attention_pairs(T) +
                                      cllm_attention_pairs_before(first),
                                  first + rows, x->points, stride, first, rows);
        }
    }
}

static void run(struct bench *x, int part)
{
    const struct cllm_attention *sizes = part % 2 == 0 ? &x->biased : &x->plain;

    if (part == 0)
        compare_tokens(x);
    else if (part < 3)
        x->ops->attention(x->ops, x->out, x->lse, x->qkv, x->scratch, sizes);
    else
        x->ops->attention_backward(x->ops, x->dqkv, x->dout, x->qkv, x->out, x->lse,
                                   x->scratch, sizes);
}

int main(int argc, char **argv)
{
    static double times[PARTS][ROUNDS];
    size_t size[4] = {128, 8, 4, 32};

    for (int i = 1; i < argc && i < 5; i++)
        size[i - 1] = cllm_max_u64(strtoul(argv[i], NULL, 10), 1);
    size_t T = size[0], B = size[1], H = size[2], C = size[2] * size[3], N = B * T;
    struct bench x = {.ops = cllm_ops_select(),
                      .plain = {.B = B, .T = T, .C = C, .H = H},
                      .tokens = calloc(N, sizeof *x.tokens),
                      .points = numbers_zero(3 * cllm_align_up(T, 16)),
                      .similar = numbers_zero(B * cllm_attention_pairs(T)),
                      .qkv = numbers_new(N * 3 * C, 1, 1.0f),
                      .dqkv = numbers_zero(N * 3 * C),
                      .out = numbers_zero(N * C),
                      .dout = numbers_new(N * C, 2, 1.0f),
                      .lse = numbers_zero(B * H * T),
                      .scratch = numbers_zero(cllm_attention_scratch(T))};
    float *beta = numbers_new(H, 3, 1.0f), *dbeta = numbers_zero(B * H);

    x.biased = x.plain;
    x.biased.beta = beta;
    x.biased.similar = x.similar;
    x.biased.dbeta = dbeta;
    for (size_t i = 0; i < N; i++)
        x.tokens[i] = (uint32_t)(cllm_random_u64(4, CLLM_RANDOM_TEST, i) % VOCAB);
    for (int round = 0; round < ROUNDS; round++)
        for (int part = 0; part < PARTS; part++) {
            double begun = cpu_ns();

            run(&x, part);
            times[part][round] = cpu_ns() - begun;
        }
    (void)printf("%zu sequences of %zu tokens, %zu heads of %zu\n", B, T, H, size[3]);
    for (int part = 0; part < PARTS; part++) {
        qsort(times[part], ROUNDS, sizeof times[part][0], compare_times);
        double ns = times[part][ROUNDS / 2];

        (void)printf("%-20s %9.3f ms, %6.2f ns a pair%s\n", names[part], ns / 1e6,
                     ns / (double)(B * T * (T + 1) / 2 * (part == 0 ? 1 : H)),
                     part == 0 ? "" : " and head");
    }
    free(x.tokens);
    free(x.points);
    free(x.similar);
    free(x.qkv);
    free(x.dqkv);
    free(x.out);
    free(x.dout);
    free(x.lse);
    free(x.scratch);
    free(beta);
    free(dbeta);
    return 0;
}
