/*
 * compute/blocked.c - matrix products in blocks, with FMA instructions.
 *
 * After Goto and van de Geijn ("Anatomy of high-performance matrix multiplication", ACM
 * TOMS 34, 2008): B is packed into panels as wide as two vectors, which stay in the
 * caches while rows of A pass by in tiles whose sums stay in registers.
 *
 * Where all of A fits into the second-level cache, it is packed once, and runs of k
 * follow one another for each panel of B, while its columns of C are near. Else many
 * panels of B are kept, and rows of A come in blocks.
 *
 * What is read from memory is asked for long before, a few lines at a time: a CPU waits
 * for so few lines at once that many would keep the tiles from their own.
 *
 * Blocks are packed on the stack, at most two mebibytes of it: nothing is allocated,
 * nothing is kept.
 */
#include "compute/block_pack.h"

#if defined(__FMA__)

#    if HAS_PAIRS
#        define vector_pairs(x, y, sum) \
            _mm512_dpbf16_ps(sum, (__m512bh)(x), (__m512bh)(y))
#    else
#        define vector_pairs(x, y, sum) vector_fma(x, y, sum)
#    endif

enum {
#    if defined(__AVX512F__)
    ROWS = 12,           /* of a tile; 24 of 32 registers are sums */
    A_BLOCK = 264 * 256, /* of A, that a panel of B meets: in the second-level cache */
    A_MOST = 1024 * 256, /* of A, all that is packed: likewise */
#    else
    ROWS = 6, /* 12 of 16 */
    A_BLOCK = 96 * 256,
    A_MOST = 96 * 256,
#    endif
    UNIT = ROWS / 3,     /* tiles at the end have one or two of them */
    COLS = 2 * WIDTH,    /* of a tile */
    B_MOST = 1024 * 256, /* of B, that is packed at once */
    FEW_COLS = 128,      /* of which packing A costs more than it gains */
    SEGMENT = 64,        /* steps of k after which lines are asked for */
    LINES = 16,          /* so many at most: while they are under way other loads wait */
    LINE = 64            /* bytes */
};

/* What a tile is written to. */
struct target {
    float *c;
    const float *next; /* of the tile that follows: asked for */
    size_t ldc;
    struct start start; /* it is added to this */
};

/* What will be packed after some tiles is asked for while they are computed, because it
 * lies in memory or in a far cache: lines from @at to @end, then of the next of so many
 * @rows, @stride bytes apart. */
struct ahead {
    const char *at, *end;
    size_t bytes, stride, rows;
    size_t lines; /* at a time */
};

/* Of @strip, evenly while so many @tiles as deep are computed. */
static struct ahead ahead_of(const struct strip *strip, size_t depth, size_t tiles)
{
    size_t before = (uintptr_t)strip->x % LINE;
    size_t bytes = before + (strip->along ? depth : strip->count) * sizeof(float);
    struct ahead ahead = {.at = (const char *)strip->x - before,
                          .bytes = cllm_align_up(bytes, LINE),
                          .stride = strip->ld * sizeof(float),
                          .rows = strip->along ? strip->count : depth};

    ahead.end = ahead.at + ahead.bytes;
    ahead.lines = cllm_div_up(ahead.rows * (ahead.bytes / LINE),
                              tiles * cllm_div_up(depth, SEGMENT));
    ahead.lines = cllm_min_u64(ahead.lines, LINES);
    return ahead;
}

static inline __attribute__((always_inline)) void ask_for(struct ahead *ahead)
{
    for (size_t i = 0; i < ahead->lines && ahead->rows > 0; i++) {
        _mm_prefetch(ahead->at, _MM_HINT_T1);
        ahead->at += LINE;
        if (ahead->at >= ahead->end) {
            ahead->at += ahead->stride - ahead->bytes;
            ahead->end += ahead->stride;
            ahead->rows--;
        }
    }
}

/* ---- packing ---- */

static __attribute__((noinline)) void pack_rows(float *to, size_t units,
                                                const struct strip *rows, size_t depth,
                                                bool bf16)
{
    if (units == 3)
        pack_width(to, 3 * UNIT, rows, depth, bf16);
    else if (units == 2)
        pack_width(to, 2 * UNIT, rows, depth, bf16);
    else
        pack_width(to, UNIT, rows, depth, bf16);
}

static __attribute__((noinline)) void pack_cols(float *to, const struct strip *cols,
                                                size_t depth, bool bf16)
{
    pack_width(to, COLS, cols, depth, bf16);
}

/* ---- tiles ---- */

static inline __attribute__((always_inline)) void add_start(vector sum[ROWS][2],
                                                            const struct target *to,
                                                            size_t height)
{
    const float *old = to->start.add, *bias = to->start.bias;

    if (old != NULL && bias != NULL) {
        vector b0 = vector_load(bias), b1 = vector_load(bias + WIDTH);

#    pragma GCC unroll 16
        for (size_t i = 0; i < height; i++, old += to->ldc) {
            sum[i][0] = vector_add(vector_add(vector_load(old), b0), sum[i][0]);
            sum[i][1] = vector_add(vector_add(vector_load(old + WIDTH), b1), sum[i][1]);
        }
    } else if (old != NULL || bias != NULL) {
        size_t ld = old != NULL ? to->ldc : 0;

        old = old != NULL ? old : bias;
#    pragma GCC unroll 16
        for (size_t i = 0; i < height; i++, old += ld) {
            sum[i][0] = vector_add(vector_load(old), sum[i][0]);
            sum[i][1] = vector_add(vector_load(old + WIDTH), sum[i][1]);
        }
    }
}

/*
 * C (height,COLS) = start + @height rows of A, @row apart, their elements @step apart,
 * times a packed panel of B. Every third row has a pointer, from which the next two are
 * reached by the scales of an address: pointers to all rows do not fit in registers. The
 * innermost loop is short on purpose: unrolled it was slower on an Intel CPU with
 * AVX-512.
 */
static inline __attribute__((always_inline)) void compute_tile(
    const struct target *to, const float *a, size_t row, size_t step, const float *panel,
    size_t depth, struct ahead *wanted, size_t height, bool pairs)
{
    const float *third[ROWS / 3 + 1];
    struct ahead ahead = *wanted;
    vector sum[ROWS][2];
    const float *next = to->next;
    float *c = to->c;
    size_t ldc = to->ldc, p = 0, asked = 0;

#    pragma GCC unroll 16
    for (size_t i = 0; i < height; i++) {
        third[i / 3] = a + i / 3 * 3 * row;
        sum[i][0] = sum[i][1] = vector_zero();
    }
    while (p < depth) {
        size_t end = cllm_min_u64(p + SEGMENT, depth);

        ask_for(&ahead);
#    pragma GCC unroll 1
        for (; asked * depth < end * height; asked++, next += ldc) {
            _mm_prefetch((const char *)next, _MM_HINT_T1);
            _mm_prefetch((const char *)(next + COLS - 1), _MM_HINT_T1);
        }
#    pragma GCC unroll 1
        for (; p < end; p++) {
            const float *b = panel + p * COLS;
            vector b0 = vector_load(b), b1 = vector_load(b + WIDTH);

#    pragma GCC unroll 16
            for (size_t i = 0; i < height; i++) {
                vector x = vector_all(third[i / 3][i % 3 * row + p * step]);

                sum[i][0] =
                    pairs ? vector_pairs(x, b0, sum[i][0]) : vector_fma(x, b0, sum[i][0]);
                sum[i][1] =
                    pairs ? vector_pairs(x, b1, sum[i][1]) : vector_fma(x, b1, sum[i][1]);
            }
        }
    }
    *wanted = ahead;
    add_start(sum, to, height);
#    pragma GCC unroll 16
    for (size_t i = 0; i < height; i++, c += ldc) {
        vector_store(c, sum[i][0]);
        vector_store(c + WIDTH, sum[i][1]);
    }
}

typedef void (*tile_fn)(const struct target *to, const float *a, size_t lda,
                        const float *panel, size_t depth, struct ahead *ahead);

/* A as it lies, or in a packed panel, and both operands in panels of pairs. Functions of
 * their own, because their registers are all taken. */
#    define TILES(n)                                                                 \
        static __attribute__((noinline)) void straight_##n(                          \
            const struct target *to, const float *a, size_t lda, const float *panel, \
            size_t depth, struct ahead *ahead)                                       \
        {                                                                            \
            compute_tile(to, a, lda, 1, panel, depth, ahead, (n)*UNIT, false);       \
        }                                                                            \
        static __attribute__((noinline)) void packed_##n(                            \
            const struct target *to, const float *a, size_t lda, const float *panel, \
            size_t depth, struct ahead *ahead)                                       \
        {                                                                            \
            (void)lda;                                                               \
            compute_tile(to, a, 1, (n)*UNIT, panel, depth, ahead, (n)*UNIT, false);  \
        }                                                                            \
        static __attribute__((noinline)) void pairs_##n(                             \
            const struct target *to, const float *a, size_t lda, const float *panel, \
            size_t depth, struct ahead *ahead)                                       \
        {                                                                            \
            (void)lda;                                                               \
            compute_tile(to, a, 1, (n)*UNIT, panel, depth, ahead, (n)*UNIT, true);   \
        }

TILES(1)
TILES(2)
TILES(3)

static const tile_fn straight_tile[] = {straight_1, straight_2, straight_3};
static const tile_fn packed_tile[] = {packed_1, packed_2, packed_3};
static const tile_fn pairs_tile[] = {pairs_1, pairs_2, pairs_3};

/* @rows and @cols of a tile that hangs over the edge of C. */
static void put_edge(const struct target *to, const float *tile, size_t rows, size_t cols)
{
    for (size_t i = 0; i < rows; i++) {
        float *c = to->c + i * to->ldc;

        for (size_t j = 0; j < cols; j++)
            c[j] = is_start(&to->start)
                       ? start_value(&to->start, to->ldc, i, j) + tile[i * COLS + j]
                       : tile[i * COLS + j];
    }
}

/* ---- blocks ---- */

/* A product, and how it is cut. */
struct product {
    float *c;
    const float *a, *b;
    const struct cllm_matmul *shape;
    struct strides ld;
    struct start start;
    size_t rows, cols; /* of a block */
    size_t run;        /* of k, summed from zero */
    size_t deep;       /* a panel, of a whole run */
    bool whole;        /* all of A stays packed, and a block has one panel of B */
    bool pack_a;       /* else A is read where it lies */
    bool bf16;
};

/* Where a block begins, in rows, columns and k. */
struct place {
    size_t i, j, p;
};

struct block {
    struct target to;
    struct strip a, b; /* all rows and columns of the block */
    size_t depth;
    bool new_a, new_b;             /* nothing of them is packed yet */
    bool keep_b;                   /* side by side, for the blocks below */
    struct ahead later_a, later_b; /* what the block that follows will pack */
};

static struct strip part_of(const struct strip *whole, size_t at, size_t most)
{
    struct strip part = *whole;

    part.x += whole->along ? at * whole->ld : at;
    part.count = cllm_min_u64(most, whole->count - at);
    return part;
}

static struct block block_at(const struct product *x, const struct place *at)
{
    const struct cllm_matmul *shape = x->shape;
    const struct strip a = {.x = x->a + (shape->trans_a ? at->p * x->ld.a : at->p),
                            .ld = x->ld.a,
                            .count = shape->m,
                            .along = !shape->trans_a};
    const struct strip b = {.x = x->b + (shape->trans_b ? at->p : at->p * x->ld.b),
                            .ld = x->ld.b,
                            .count = shape->n,
                            .along = shape->trans_b};
    float *c = x->c + at->i * x->ld.c + at->j;

    return (struct block){
        .to = {.c = c,
               .ldc = x->ld.c,
               .start = at->p > 0 ? start_itself(c)
                                  : start_at(&x->start, x->ld.c, at->i, at->j)},
        .a = part_of(&a, at->i, x->rows),
        .b = part_of(&b, at->j, x->cols),
        .depth = cllm_min_u64(x->run, shape->k - at->p),
        .new_a = !x->whole || at->j == 0,
        .new_b = at->i == 0,
        .keep_b = x->rows < shape->m};
}

/* To the block that follows: the next rows, then the next run of k, then the next
 * columns. */
static bool step(const struct product *x, struct place *at)
{
    at->i += x->rows;
    if (at->i >= x->shape->m) {
        at->i = 0;
        at->p += x->run;
    }
    if (at->p >= x->shape->k) {
        at->p = 0;
        at->j += x->cols;
    }
    return at->j < x->shape->n;
}

/* What will be packed next: a panel of @whole from @at on. */
static struct ahead next_of(const struct strip *whole, size_t at, size_t most,
                            size_t depth, size_t tiles)
{
    struct strip next;

    if (at >= whole->count)
        return (struct ahead){0};
    next = part_of(whole, at, most);
    return ahead_of(&next, depth, tiles);
}

/* Rows @i of the block times panel @j of B. */
static void multiply_strip(const struct product *x, const struct block *block, size_t i,
                           size_t j, float *a_panel, const float *b_panel,
                           struct ahead *ahead)
{
    _Alignas(64) float tile[ROWS * COLS];
    const struct strip a = part_of(&block->a, i, ROWS);
    size_t units = cllm_div_up(a.count, UNIT);
    size_t cols = cllm_min_u64(COLS, block->b.count - j);
    size_t depth = depth_of_panel(block->depth, x->bf16);
    bool packed = x->pack_a || a.count % UNIT != 0;
    bool edge = a.count % UNIT != 0 || cols < COLS;
    struct target at = block->to, to;

    if (packed && block->new_a && j == 0)
        pack_rows(a_panel, units, &a, block->depth, x->bf16);
    at.c += i * at.ldc + j;
    at.start = start_at(&at.start, at.ldc, i, j);
    at.next = i + ROWS < block->a.count ? at.c + ROWS * at.ldc : block->to.c + j + COLS;
    to = edge ? (struct target){.c = tile, .next = tile, .ldc = COLS} : at;
    if (x->bf16 && HAS_PAIRS)
        pairs_tile[units - 1](&to, a_panel, 0, b_panel, depth, ahead);
    else if (packed)
        packed_tile[units - 1](&to, a_panel, 0, b_panel, depth, ahead);
    else
        straight_tile[units - 1](&to, a.x, a.ld, b_panel, depth, ahead);
    if (edge)
        put_edge(&at, tile, a.count, cols);
}

/* Operands are packed when they are first needed; what follows them is asked for. */
static void multiply_block(const struct product *x, struct block *block, float *a_panels,
                           float *b_panels)
{
    size_t tall = cllm_div_up(block->a.count, ROWS); /* in tiles */

    for (size_t j = 0; j < block->b.count; j += COLS) {
        float *b_panel = b_panels + (block->keep_b ? j * x->deep : 0);
        struct ahead next_b = {0}, *next = &next_b;

        if (block->new_b) {
            const struct strip b = part_of(&block->b, j, COLS);

            pack_cols(b_panel, &b, block->depth, x->bf16);
            next_b = next_of(&block->b, j + COLS, COLS, block->depth, tall);
        }
        if (next_b.rows == 0)
            next = block->later_a.rows > 0 ? &block->later_a : &block->later_b;
        for (size_t i = 0; i < block->a.count; i += ROWS) {
            struct ahead next_a = {0};

            if (x->pack_a && block->new_a && j == 0)
                next_a = next_of(&block->a, i + ROWS, ROWS, block->depth, 1);
            multiply_strip(x, block, i, j, a_panels + i * x->deep, b_panel,
                           next_a.rows > 0 ? &next_a : next);
        }
    }
}

static __attribute__((noinline)) void multiply(float *c, const float *a, const float *b,
                                               const struct cllm_matmul *shape, bool bf16)
{
    _Alignas(64) float b_panels[B_MOST], a_panels[A_MOST + WIDTH];
    size_t m = shape->m, n = shape->n, k = shape->k, high = cllm_align_up(m, ROWS);
    size_t run = cllm_min_u64(bf16 ? PAIR_DEPTH : DEPTH, cllm_max_u64(k, 1));
    size_t deep = depth_of_panel(run, bf16), rows = A_BLOCK / deep / ROWS * ROWS;
    struct product x = {
        .c = c,
        .a = a,
        .b = b,
        .shape = shape,
        .ld = strides_of(shape),
        .start = start_of(c, shape),
        .rows = m > 2 * n ? rows / 2 / ROWS * ROWS : rows, /* C in turns */
        .cols = B_MOST / deep / COLS * COLS,
        .run = run,
        .deep = deep,
        .whole = k > run && m >= rows / 2 && high * cllm_div_up(k, run) * deep <= A_MOST,
        .pack_a = shape->trans_a || bf16 || n > FEW_COLS,
        .bf16 = bf16};
    struct place at = {0}, next = {0};

    if (m <= FEW_ROWS && !bf16) {
        CLLM_KERNEL(multiply_rows)(c, a, b, shape);
        return;
    }
    if (x.whole) {
        x.rows = high;
        x.cols = COLS;
    }
    for (bool more = m > 0 && n > 0 && k > 0; more; at = next) {
        struct block block = block_at(&x, &at);

        more = step(&x, &next);
        if (more) {
            const struct block later = block_at(&x, &next);
            size_t tall = cllm_div_up(block.a.count, ROWS);
            size_t wide = cllm_div_up(block.b.count, COLS);

            if (later.new_a && x.pack_a)
                block.later_a = ahead_of(&later.a, later.depth, tall * wide);
            if (later.new_b)
                block.later_b = next_of(&later.b, 0, COLS, later.depth, tall);
        }
        multiply_block(&x, &block, a_panels + (x.whole ? at.p / run * deep * high : 0),
                       b_panels);
    }
}

void CLLM_KERNEL(matmul)(float *c, const float *a, const float *b,
                         const struct cllm_matmul *shape)
{
    multiply(c, a, b, shape, false);
}

void CLLM_KERNEL(matmul_bf16)(float *c, const float *a, const float *b,
                              const struct cllm_matmul *shape)
{
    unsigned normal = _mm_getcsr();

    _mm_setcsr(normal | DENORMALS_ARE_ZERO | FLUSH_TO_ZERO);
    multiply(c, a, b, shape, true);
    _mm_setcsr(normal);
}

#endif
