/*
 * tests/bench_embedding.c - what the numbering of a vocabulary is to the embedding: the
 * same text under two numberings, look-ups and their gradient.
 *
 *   bench_embedding WIDTH BEFORE AFTER [SEQUENCES [CONTEXT]]
 *
 * BEFORE and AFTER are shards of the same text (cllm-prep without and with --renumber).
 * Micro-batches of windows, the same of both, in turns; before each one 16 MiB of other
 * memory are walked through, as the blocks of a model do between two look-ups. Told are
 * medians of processor time for a token, and how many pages of 4 KiB of the table a
 * micro-batch touches, which is a matter of counting.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/random.h"
#include "compute/ops.h"
#include "formats/shard.h"

#define ROUNDS      300
#define OTHER_BYTES ((size_t)16 << 20)
#define PAGE_BYTES  4096

struct side {
    const char *path;
    struct cllm_shard shard;
    uint32_t *tokens;                         // (B,T) of the micro-batch
    double forward[ROUNDS], backward[ROUNDS]; /* ns a token */
    double pages;                             /* sum over micro-batches */
};

struct bench {
    size_t C, B, T, V;
    const struct cllm_ops *ops;
    float *table, *gradient; // (V,C)
    float *rows;             // (B,T,C)
    uint8_t *touched;        /* by page */
    uint8_t *other;
};

static double cpu_ns(void)
{
    struct timespec at;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return (double)at.tv_sec * 1e9 + (double)at.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return left < right ? -1 : left > right;
}

static double median(double *of)
{
    qsort(of, ROUNDS, sizeof *of, compare);
    return of[ROUNDS / 2];
}

static void *take(size_t bytes)
{
    void *memory = aligned_alloc(PAGE_BYTES, cllm_align_up(bytes, PAGE_BYTES));

    if (memory == NULL) {
        (void)fprintf(stderr, "bench_embedding: out of memory\n");
        exit(1);
    }
    memset(memory, 0, cllm_align_up(bytes, PAGE_BYTES));
    return memory;
}

/* Ids are below this. */
static size_t ids_of(const struct cllm_shard *shard)
{
    uint32_t tokens[4096];
    size_t most = 0;

    for (uint64_t at = 0; at < shard->n_tokens; at += CLLM_LEN(tokens)) {
        uint64_t n = cllm_min_u64(CLLM_LEN(tokens), shard->n_tokens - at);

        if (cllm_shard_read(shard, at, n, tokens) < 0) {
            cllm_err_print("bench_embedding");
            exit(1);
        }
        for (uint64_t i = 0; i < n; i++)
            most = cllm_max_u64(most, (size_t)tokens[i] + 1);
    }
    return most;
}

static void count_pages(struct bench *bench, struct side *side)
{
    size_t bytes = bench->C * sizeof *bench->table;
    size_t n_pages = cllm_div_up(bench->V * bytes, PAGE_BYTES);

    memset(bench->touched, 0, n_pages);
    for (size_t i = 0; i < bench->B * bench->T; i++) {
        size_t first = side->tokens[i] * bytes;

        for (size_t page = first / PAGE_BYTES; page <= (first + bytes - 1) / PAGE_BYTES;
             page++)
            bench->touched[page] = 1;
    }
    for (size_t page = 0; page < n_pages; page++)
        side->pages += bench->touched[page];
}

/* Whatever the caches held of the table, they hold less of it afterwards. */
static void walk(struct bench *bench)
{
    for (size_t i = 0; i < OTHER_BYTES; i += CLLM_CACHELINE)
        bench->other[i]++;
}

static void run(struct bench *bench, struct side *side, uint32_t round)
{
    size_t N = bench->B * bench->T;
    double begun;

    for (size_t b = 0; b < bench->B; b++) {
        uint64_t draw = cllm_random_u64(1, CLLM_RANDOM_TEST, round * bench->B + b);
        uint64_t at = draw % (side->shard.n_tokens - bench->T);

        if (cllm_shard_read(&side->shard, at, bench->T, side->tokens + b * bench->T) <
            0) {
            cllm_err_print("bench_embedding");
            exit(1);
        }
    }
    count_pages(bench, side);
    walk(bench);
    begun = cpu_ns();
    bench->ops->embedding(bench->rows, side->tokens, bench->T, bench->table, NULL,
                          bench->V, bench->B, bench->T, bench->C);
    side->forward[round] = (cpu_ns() - begun) / (double)N;
    walk(bench);
    begun = cpu_ns();
    bench->ops->embedding_backward(bench->gradient, NULL, side->tokens, bench->T,
                                   bench->rows, bench->V, bench->B, bench->T, bench->C);
    side->backward[round] = (cpu_ns() - begun) / (double)N;
}

int main(int argc, char **argv)
{
    static struct side sides[2];
    struct bench bench = {.B = 8, .T = 128, .ops = cllm_ops_select()};

    if (argc < 4) {
        (void)fprintf(stderr, "bench_embedding WIDTH BEFORE AFTER [SEQUENCES "
                              "[CONTEXT]]\n");
        return 2;
    }
    bench.C = strtoul(argv[1], NULL, 10);
    bench.B = argc > 4 ? strtoul(argv[4], NULL, 10) : bench.B;
    bench.T = argc > 5 ? strtoul(argv[5], NULL, 10) : bench.T;
    if (bench.C == 0 || bench.B == 0 || bench.T == 0)
        return 2;
    for (uint32_t i = 0; i < 2; i++) {
        sides[i].path = argv[2 + i];
        if (cllm_shard_open(&sides[i].shard, sides[i].path) < 0) {
            cllm_err_print("bench_embedding");
            return 1;
        }
        if (sides[i].shard.n_tokens <= bench.T)
            return 2;
        sides[i].tokens = take(bench.B * bench.T * sizeof *sides[i].tokens);
        bench.V = cllm_max_u64(bench.V, ids_of(&sides[i].shard));
    }
    bench.table = take(bench.V * bench.C * sizeof *bench.table);
    bench.gradient = take(bench.V * bench.C * sizeof *bench.gradient);
    bench.rows = take(bench.B * bench.T * bench.C * sizeof *bench.rows);
    bench.touched =
        take(cllm_div_up(bench.V * bench.C * sizeof *bench.table, PAGE_BYTES));
    bench.other = take(OTHER_BYTES);
    for (uint32_t round = 0; round < ROUNDS; round++)
        for (uint32_t i = 0; i < 2; i++)
            run(&bench, &sides[(i + round) % 2], round);
    (void)printf("%zu ids, width %zu, micro-batches of %zu x %zu tokens\n", bench.V,
                 bench.C, bench.B, bench.T);
    for (uint32_t i = 0; i < 2; i++) {
        (void)printf(
            "%s  %.0f of %zu pages  look-up %.1f ns a token  gradient %.1f ns\n",
            i == 0 ? "before" : "after ", sides[i].pages / ROUNDS,
            (size_t)cllm_div_up(bench.V * bench.C * sizeof *bench.table, PAGE_BYTES),
            median(sides[i].forward), median(sides[i].backward));
        cllm_shard_close(&sides[i].shard);
        free(sides[i].tokens);
    }
    free(bench.table);
    free(bench.gradient);
    free(bench.rows);
    free(bench.touched);
    free(bench.other);
    return 0;
}
