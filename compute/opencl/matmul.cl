/*
 * compute/opencl/matmul.cl - C = start + op(A) op(B), tiles shared in local memory.
 *
 * A group of items computes TILE_M x TILE_N of C, each of them ITEM_M x ITEM_N, 1, 4 or 8
 * either way: tiles of 8 x 8 and 16 x 16 with one element each for small products, 64 x 64
 * and 128 x 128 above. The next TILE_K of both operands are on their way from global
 * memory while the last are multiplied. An element's sum goes over k in order.
 *
 * A CPU, which has no local memory and splits a kernel at each barrier, gets
 * matmul_cpu.cl instead.
 */
#define ITEMS_M (TILE_M / ITEM_M)
#define ITEMS_N (TILE_N / ITEM_N)
#define ITEMS   (ITEMS_M * ITEMS_N)
#define FETCH_A (TILE_M * TILE_K / ITEMS)
#define FETCH_B (TILE_N * TILE_K / ITEMS)

#if TILE_M * TILE_K % ITEMS != 0 || TILE_N * TILE_K % ITEMS != 0
#    error "items fetch as many elements each"
#endif

/* Element i of an item is number PLACE in its tile: four side by side, the next four as
 * far off as all items reach, so that items read local memory without conflicts. */
#if ITEM_M == 1
#    define PLACE_M(item, i) (item)
#else
#    define PLACE_M(item, i) ((i) / 4 * (ITEMS_M * 4) + (item) * 4 + (i) % 4)
#endif
#if ITEM_N == 1
#    define PLACE_N(item, i) (item)
#else
#    define PLACE_N(item, i) ((i) / 4 * (ITEMS_N * 4) + (item) * 4 + (i) % 4)
#endif

/* A gap behind each row, so that what is stored across rows meets other banks. */
#define GAP   4
#define ROW_A (TILE_M + GAP)
#define ROW_B (TILE_N + GAP)

/* An operand as it is stored: element (line,p) for line of m or n, p of k. */
struct operand {
    ulong per_line, per_p; /* elements from one to the next */
    uint lines;            /* m or n */
    bool along_p;          /* those are neighbours */
};

/* fetched[] = this item's share of the tile that begins at (line,p); 0 outside. */
#define DEFINE_FETCH(name, LINES, COUNT)                                               \
    static void name(float *fetched, global const float *x, struct operand o,          \
                     uint line, uint p, uint k, uint item)                             \
    {                                                                                  \
        UNROLL                                                                         \
        for (uint i = 0; i < COUNT; i++) {                                             \
            const uint at = item + i * ITEMS;                                          \
            const uint l = line + (o.along_p ? at / TILE_K : at % LINES);              \
            const uint q = p + (o.along_p ? at % TILE_K : at / LINES);                 \
                                                                                       \
            fetched[i] = l < o.lines && q < k                                          \
                             ? OPERAND(x[l * o.per_line + q * o.per_p])                \
                             : 0.0f;                                                   \
        }                                                                              \
    }                                                                                  \
                                                                                       \
    static void name##_done(local float *tile, const float *fetched, struct operand o, \
                            uint item)                                                 \
    {                                                                                  \
        UNROLL                                                                         \
        for (uint i = 0; i < COUNT; i++) {                                             \
            const uint at = item + i * ITEMS;                                          \
            const uint l = o.along_p ? at / TILE_K : at % LINES;                       \
            const uint q = o.along_p ? at % TILE_K : at / LINES;                       \
                                                                                       \
            tile[q * (LINES + GAP) + l] = fetched[i];                                  \
        }                                                                              \
    }

DEFINE_FETCH(fetch_a, TILE_M, FETCH_A)
DEFINE_FETCH(fetch_b, TILE_N, FETCH_B)

/* sum[][] += the product of what this item has of both tiles. */
static void multiply(float sum[ITEM_M][ITEM_N], local const float *a,
                     local const float *b, uint item_m, uint item_n)
{
    /* Not unrolled: a compiler (LLVM 15 in PoCL 3.1) then loses sums of 8 x 8. */
    for (uint p = 0; p < TILE_K; p++) {
        float x[ITEM_M], y[ITEM_N];

        UNROLL
        for (uint i = 0; i < ITEM_M; i++)
            x[i] = a[p * ROW_A + PLACE_M(item_m, i)];
        UNROLL
        for (uint j = 0; j < ITEM_N; j++)
            y[j] = b[p * ROW_B + PLACE_N(item_n, j)];
        UNROLL
        for (uint i = 0; i < ITEM_M; i++)
            UNROLL
            for (uint j = 0; j < ITEM_N; j++)
                sum[i][j] = fma(x[i], y[j], sum[i][j]);
    }
}

kernel __attribute__((reqd_work_group_size(ITEMS_N, ITEMS_M, 1)))
void matmul(MATMUL_PARAMETERS)
{
    local float tile_a[TILE_K * ROW_A], tile_b[TILE_K * ROW_B];
    const uint item_n = get_local_id(0), item_m = get_local_id(1);
    const uint item = item_m * ITEMS_N + item_n;
    const uint first_m = get_group_id(1) * TILE_M, first_n = get_group_id(0) * TILE_N;
    const bool ta = (form & TRANS_A) != 0, tb = (form & TRANS_B) != 0;
    const struct operand of_a = {ta ? 1 : lda, ta ? lda : 1, m, !ta};
    const struct operand of_b = {tb ? ldb : 1, tb ? 1 : ldb, n, tb};
    float sum[ITEM_M][ITEM_N], next_a[FETCH_A], next_b[FETCH_B];

    for (uint i = 0; i < ITEM_M; i++)
        for (uint j = 0; j < ITEM_N; j++)
            sum[i][j] = 0.0f;
    fetch_a(next_a, AT(a), of_a, first_m, 0, k, item);
    fetch_b(next_b, AT(b), of_b, first_n, 0, k, item);
    for (uint p = 0; p < k; p += TILE_K) {
        fetch_a_done(tile_a, next_a, of_a, item);
        fetch_b_done(tile_b, next_b, of_b, item);
        barrier(CLK_LOCAL_MEM_FENCE);
        fetch_a(next_a, AT(a), of_a, first_m, p + TILE_K, k, item);
        fetch_b(next_b, AT(b), of_b, first_n, p + TILE_K, k, item);
        multiply(sum, tile_a, tile_b, item_m, item_n);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    for (uint i = 0; i < ITEM_M; i++) {
        const uint row = first_m + PLACE_M(item_m, i);

        for (uint j = 0; j < ITEM_N; j++) {
            const uint column = first_n + PLACE_N(item_n, j);

            if (row < m && column < n)
                AT(c)[row * (ulong)ldc + column] =
                    sum[i][j] + START(row, column);
        }
    }
}
