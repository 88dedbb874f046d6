/*
 * compute/blocked.c - matrix products in blocks, with FMA instructions.
 *
 * After Goto and van de Geijn ("Anatomy of high-performance matrix multiplication", ACM
 * TOMS 34, 2008): B is packed into panels as wide as two vectors, which stay in the
 * caches while rows of A pass by in tiles whose sums stay in registers.
 *
 * Blocks are packed on the stack, a good mebibyte of it: nothing is allocated, nothing is
 * kept.
 */
#include "compute/panel.h"

#if defined(__FMA__)

/* Multiply-adds of pairs of bf16 in one instruction. CPUs with AMX do one in the time of
 * four multiply-adds. */
#    if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
#        define HAS_PAIRS true
#        define vector_pairs(x, y, sum) \
            _mm512_dpbf16_ps(sum, (__m512bh)(x), (__m512bh)(y))
#    else
#        define HAS_PAIRS               false
#        define vector_pairs(x, y, sum) vector_fma(x, y, sum)
#    endif

enum {
#    if defined(__AVX512F__)
    ROWS = 12, /* of a tile; 24 of 32 registers are sums */
#    else
    ROWS = 6, /* 12 of 16 */
#    endif
    UNIT = ROWS / 3,  /* tiles at the end have one or two of them */
    COLS = 2 * WIDTH, /* of a tile */
    ROW_BLOCK = 96,   /* rows of A that a panel of B meets: in the second-level cache */
    COL_BLOCK = 1024, /* columns of B that are packed at once */
    FEW_COLS = 128,   /* of which packing A costs more than it gains */
    SEGMENT = 16,     /* steps of k after which lines are asked for */
    LINES = 4,        /* so many */
    LINE = 64         /* bytes */
};

/* What a tile is written to. */
struct target {
    float *c;
    const float *next; /* of the tile that follows: asked for */
    size_t ldc;
    bool add; /* to what is there; otherwise it is overwritten */
};

/* A panel of an operand where it lies: @count rows along k, or columns across. */
struct strip {
    const float *x;
    size_t ld, count;
    bool along;
};

/* What will be packed after some tiles is asked for while they are computed, because it
 * lies in memory or in a far cache: lines from @at to @end, then of the next of so many
 * @rows, @stride bytes apart. */
struct ahead {
    const char *at, *end;
    size_t bytes, stride, rows;
};

static struct ahead ahead_of(const struct strip *strip, size_t depth)
{
    size_t before = (uintptr_t)strip->x % LINE;
    size_t bytes = before + (strip->along ? depth : strip->count) * sizeof(float);
    struct ahead ahead = {.at = (const char *)strip->x - before,
                          .bytes = cllm_align_up(bytes, LINE),
                          .stride = strip->ld * sizeof(float),
                          .rows = strip->along ? strip->count : depth};

    ahead.end = ahead.at + ahead.bytes;
    return ahead;
}

static inline __attribute__((always_inline)) void ask_for(struct ahead *ahead)
{
    for (size_t i = 0; i < LINES && ahead->rows > 0; i++) {
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

/* How deep a panel is as a tile takes it. */
static size_t depth_of_panel(size_t depth, bool bf16)
{
    if (!bf16)
        return depth;
    return HAS_PAIRS ? (depth + 1) / 2 : cllm_align_up(depth, 2);
}

/*
 * A packed panel (depth,width) becomes pairs of bf16, in place: as the instruction takes
 * them, two in an element, the second in the upper half; else one after the other, the
 * second first. A pair cut off by the end of k has a zero.
 */
static inline __attribute__((always_inline)) void make_pairs(float *panel, size_t width,
                                                             size_t depth)
{
    float first[COLS]; /* the compiler need not fear that they overlap */
    size_t even = cllm_align_up(depth, 2);

    if (depth % 2 != 0)
        memset(panel + depth * width, 0, width * sizeof *panel);
    for (size_t i = 0; i < even * width; i++)
        panel[i] = cllm_f32_from_bits(round_bf16(panel[i]));
    for (size_t p = 0; p < even; p += 2) {
        float *x = panel + p * width, *to = panel + p / 2 * width;

        memcpy(first, x, width * sizeof *x);
        if (HAS_PAIRS) {
            for (size_t i = 0; i < width; i++)
                first[i] = cllm_f32_from_bits(cllm_f32_bits(first[i]) >> 16 |
                                              cllm_f32_bits(x[width + i]));
            memcpy(to, first, width * sizeof *x);
        } else {
            memcpy(x, x + width, width * sizeof *x);
            memcpy(x + width, first, width * sizeof *x);
        }
    }
}

/* A panel (depth,width) of A or B; what @strip lacks is 0. With sizes that the compiler
 * knows it is fast. */
static inline __attribute__((always_inline)) void pack_width(float *to, size_t width,
                                                             const struct strip *strip,
                                                             size_t depth, bool bf16)
{
    bool whole = strip->count == width;

    if (strip->along && whole)
        pack_along(to, width, strip->x, strip->ld, width, depth);
    else if (strip->along)
        pack_along(to, width, strip->x, strip->ld, strip->count, depth);
    else if (whole)
        pack_across(to, width, strip->x, strip->ld, width, depth);
    else
        pack_across(to, width, strip->x, strip->ld, strip->count, depth);
    if (bf16)
        make_pairs(to, width, depth);
}

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

/*
 * C (height,COLS) = or += @height rows of A, @row apart, their elements @step apart,
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
    float *c = to->c;
    size_t ldc = to->ldc, p = 0;

#    pragma GCC unroll 16
    for (size_t i = 0; i < height; i++) {
        third[i / 3] = a + i / 3 * 3 * row;
        sum[i][0] = sum[i][1] = vector_zero();
    }
#    pragma GCC unroll 1
    for (size_t i = 0; i < height; i++) {
        _mm_prefetch((const char *)(to->next + i * ldc), _MM_HINT_T1);
        _mm_prefetch((const char *)(to->next + i * ldc + COLS - 1), _MM_HINT_T1);
    }
    while (p < depth) {
        size_t end = cllm_min_u64(p + SEGMENT, depth);

        ask_for(&ahead);
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
    if (to->add) {
        const float *old = c;

#    pragma GCC unroll 16
        for (size_t i = 0; i < height; i++, old += ldc) {
            sum[i][0] = vector_add(vector_load(old), sum[i][0]);
            sum[i][1] = vector_add(vector_load(old + WIDTH), sum[i][1]);
        }
    }
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
            c[j] = to->add ? c[j] + tile[i * COLS + j] : tile[i * COLS + j];
    }
}

/* ---- blocks ---- */

struct block {
    struct target to;
    struct strip a, b; /* all rows and columns of the block */
    size_t depth;
    bool pack_a, pack_b; /* else A is read where it lies; panels of B are there */
    bool keep_b;         /* side by side, for the blocks below */
    bool bf16;
};

static struct strip part_of(const struct strip *whole, size_t at, size_t most)
{
    struct strip part = *whole;

    part.x += whole->along ? at * whole->ld : at;
    part.count = cllm_min_u64(most, whole->count - at);
    return part;
}

/* What will be packed next: a panel of @whole from @at on. */
static struct ahead next_of(const struct strip *whole, size_t at, size_t most,
                            size_t depth)
{
    struct strip next;

    if (at >= whole->count)
        return (struct ahead){0};
    next = part_of(whole, at, most);
    return ahead_of(&next, depth);
}

/* Rows @i of the block times panel @j of B. */
static void multiply_strip(const struct block *x, size_t i, size_t j, float *a_panel,
                           const float *b_panel, struct ahead *ahead)
{
    _Alignas(64) float tile[ROWS * COLS];
    const struct strip a = part_of(&x->a, i, ROWS);
    size_t units = cllm_div_up(a.count, UNIT), cols = cllm_min_u64(COLS, x->b.count - j);
    size_t depth = depth_of_panel(x->depth, x->bf16);
    bool packed = x->pack_a || a.count % UNIT != 0;
    bool edge = a.count % UNIT != 0 || cols < COLS;
    struct target at = x->to, to;

    if (packed && j == 0)
        pack_rows(a_panel, units, &a, x->depth, x->bf16);
    at.c += i * at.ldc + j;
    at.next = i + ROWS < x->a.count ? at.c + ROWS * at.ldc : x->to.c + j + COLS;
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
static void multiply_block(const struct block *x, float *a_panels, float *b_panels)
{
    for (size_t j = 0; j < x->b.count; j += COLS) {
        float *b_panel = b_panels + (x->keep_b ? j * DEPTH : 0);
        struct ahead next_b = {0};

        if (x->pack_b) {
            const struct strip b = part_of(&x->b, j, COLS);

            pack_cols(b_panel, &b, x->depth, x->bf16);
            next_b = next_of(&x->b, j + COLS, COLS, x->depth);
        }
        for (size_t i = 0; i < x->a.count; i += ROWS) {
            struct ahead next_a = {0};

            if (x->pack_a && j == 0)
                next_a = next_of(&x->a, i + ROWS, ROWS, x->depth);
            multiply_strip(x, i, j, a_panels + i * DEPTH, b_panel,
                           next_a.rows > 0 ? &next_a : &next_b);
        }
    }
}

static __attribute__((noinline)) void multiply(float *c, const float *a, const float *b,
                                               const struct cllm_matmul *shape, bool bf16)
{
    _Alignas(64) float b_panels[DEPTH * COL_BLOCK], a_panels[DEPTH * ROW_BLOCK + WIDTH];
    const struct strides ld = strides_of(shape);
    size_t m = shape->m, n = shape->n, k = shape->k;
    size_t rows = m > 2 * n ? ROW_BLOCK / 2 : ROW_BLOCK; /* fewer rows of C in turns */

    if (m <= FEW_ROWS && !bf16) {
        CLLM_KERNEL(multiply_rows)(c, a, b, shape);
        return;
    }
    for (size_t j = 0; j < n; j += COL_BLOCK) {
        for (size_t p = 0; p < k; p += DEPTH) {
            const struct strip all_a = {.x = a + (shape->trans_a ? p * ld.a : p),
                                        .ld = ld.a,
                                        .count = m,
                                        .along = !shape->trans_a};
            const struct strip all_b = {.x = b + (shape->trans_b ? p : p * ld.b),
                                        .ld = ld.b,
                                        .count = n,
                                        .along = shape->trans_b};
            struct block block = {.to = {.ldc = ld.c, .add = shape->accumulate || p > 0},
                                  .b = part_of(&all_b, j, COL_BLOCK),
                                  .depth = cllm_min_u64(DEPTH, k - p),
                                  .pack_a = shape->trans_a || bf16 || n > FEW_COLS,
                                  .keep_b = rows < m,
                                  .bf16 = bf16};

            for (size_t i = 0; i < m; i += rows) {
                block.to.c = c + i * ld.c + j;
                block.a = part_of(&all_a, i, rows);
                block.pack_b = i == 0;
                multiply_block(&block, a_panels, b_panels);
            }
        }
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
