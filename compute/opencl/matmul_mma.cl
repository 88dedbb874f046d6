/*
 * compute/opencl/matmul_mma.cl - C = start + op(A) op(B) on tensor cores: operands of
 * bf16, as pack_bf16.cl leaves them, sums of f32. Behind ptx.cl or ptx_emulated.cl.
 *
 * A group computes TILE_M x TILE_N of C, each of its warps WARP_M x WARP_N of that, in
 * tiles of 16 x 8. STAGES pieces of both operands, 32 of k long, are in local memory: one
 * is multiplied while the others are on their way. Packed blocks are as local memory has
 * them, so that copying is copying.
 *
 * A row of local memory is 32 of k: 64 bytes, four pieces. Two rows fill the 128 bytes of
 * all banks; with pieces exchanged as pack_bf16.cl does, the same piece of eight rows
 * meets every bank once.
 *
 * An element's sum goes over k from 0, in sixteens whose inner order is the device's and
 * the same for every tile: sizes of tiles leave the bits alone.
 */
#define STEP    32
#define WARPS_M (TILE_M / WARP_M)
#define WARPS_N (TILE_N / WARP_N)
#define THREADS (32 * WARPS_M * WARPS_N)
#define SUMS_M  (WARP_M / 16)
#define SUMS_N  (WARP_N / 8)
#define PIECES  ((TILE_M + TILE_N) * 4) /* of 16 bytes, in a stage */
#define COPIES  (PIECES / THREADS)

#if PIECES % THREADS != 0 || WARP_N % 16 != 0 || TILE_M % 64 != 0 || TILE_N % 64 != 0
#    error "items copy as many pieces each, B's tiles are loaded in pairs, blocks are whole"
#endif

/* Begin to copy step @step of this group's lines of both operands; behind the last step
 * nothing. */
static void copy_step(struct machine *machine, local uint4 *stage, global const uint4 *a,
                      global const uint4 *b, uint step, uint steps)
{
    UNROLL
    for (uint i = 0; step < steps && i < COPIES; i++) {
        const uint at = get_local_id(0) + i * THREADS, block = at / 256;
        const bool of_a = block < TILE_M / 64;
        const ulong line_block = of_a ? block : block - TILE_M / 64;

        copy_later(machine, stage + at,
                   (of_a ? a : b) + (line_block * steps + step) * 256 + at % 256);
    }
    end_copies(machine);
}

/* Where piece @piece of line @line lies. */
static local const uint4 *piece_of(local const uint4 *tile, uint line, uint piece)
{
    return tile + line * 4 + (piece ^ (line / 2 % 4));
}

/* sum += a b for 16 of k, of which the first is piece @first of a line. */
static void multiply(struct machine *machine, float4 sum[SUMS_M][SUMS_N],
                     local const uint4 *a, local const uint4 *b, uint first)
{
    const uint lane = machine->lane;
    uint4 x[SUMS_M], y[SUMS_N / 2];

    UNROLL
    for (uint i = 0; i < SUMS_M; i++)
        x[i] = load_matrices(machine, piece_of(a, i * 16 + lane % 16, first + lane / 16));
    UNROLL
    for (uint j = 0; j < SUMS_N / 2; j++)
        y[j] = load_matrices(machine, piece_of(b, j * 16 + lane / 16 * 8 + lane % 8,
                                               first + lane / 8 % 2));
    UNROLL
    for (uint i = 0; i < SUMS_M; i++)
        UNROLL
        for (uint j = 0; j < SUMS_N / 2; j++) {
            sum[i][2 * j] = multiply_add(machine, sum[i][2 * j], x[i], y[j].xy);
            sum[i][2 * j + 1] = multiply_add(machine, sum[i][2 * j + 1], x[i], y[j].zw);
        }
}

kernel __attribute__((reqd_work_group_size(THREADS, 1, 1)))
void matmul_mma(OUT(float, c), IN(uint, a), IN(uint, b), IN(float, add), IN(float, bias),
                const uint m, const uint n, const uint steps, const uint ldc,
                const uint form)
{
    local uint4 tiles[STAGES * PIECES];
    const uint first_m = get_group_id(1) * TILE_M, first_n = get_group_id(0) * TILE_N;
    const uint warp = get_local_id(0) / 32;
    const uint warp_m = warp / WARPS_N * WARP_M, warp_n = warp % WARPS_N * WARP_N;
    global const uint4 *of_a =
        (global const uint4 *)AT(a) + (ulong)first_m / 64 * steps * 256;
    global const uint4 *of_b =
        (global const uint4 *)AT(b) + (ulong)first_n / 64 * steps * 256;
    float4 sum[SUMS_M][SUMS_N];
    MACHINE(machine, tiles);
    const uint row = first_m + warp_m + machine.lane / 4;
    const uint column = first_n + warp_n + machine.lane % 4 * 2;

    UNROLL
    for (uint i = 0; i < SUMS_M; i++)
        UNROLL
        for (uint j = 0; j < SUMS_N; j++)
            sum[i][j] = (float4)(0.0f);
    for (uint step = 0; step < STAGES - 1; step++)
        copy_step(&machine, tiles + step * PIECES, of_a, of_b, step, steps);
    for (uint step = 0; step < steps; step++) {
        local const uint4 *a_tile = tiles + step % STAGES * PIECES;
        local const uint4 *b_tile = a_tile + TILE_M * 4;

        wait_copies(&machine);
        /* All copies of this step are there, and nobody reads the stage of the last. */
        barrier(CLK_LOCAL_MEM_FENCE);
        copy_step(&machine, tiles + (step + STAGES - 1) % STAGES * PIECES, of_a, of_b,
                  step + STAGES - 1, steps);
        UNROLL
        for (uint piece = 0; piece < STEP / 8; piece += 2)
            multiply(&machine, sum, a_tile + warp_m * 4, b_tile + warp_n * 4, piece);
    }
    UNROLL
    for (uint i = 0; i < SUMS_M; i++)
        UNROLL
        for (uint j = 0; j < SUMS_N; j++) {
            const float part[4] = {sum[i][j].x, sum[i][j].y, sum[i][j].z, sum[i][j].w};

            UNROLL
            for (uint e = 0; e < 4; e++) {
                const uint r = row + i * 16 + e / 2 * 8, s = column + j * 8 + e % 2;

                if (r < m && s < n)
                    AT(c)[r * (ulong)ldc + s] = part[e] + START(r, s);
            }
        }
}
