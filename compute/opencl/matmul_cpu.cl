/*
 * compute/opencl/matmul_cpu.cl - C = start + op(A) op(B) for devices that are CPUs.
 *
 * An item, alone in its group, computes BLOCK_M x BLOCK_N of C: it packs BLOCK_K of both
 * operands into panels that stay in its caches, in the order in which they are read
 * (Goto, van de Geijn: "Anatomy of high-performance matrix multiplication"), then 6 x 16
 * elements at a time are summed in registers. An element's sum goes over k in order, in
 * runs of BLOCK_K.
 */
#define STRIP_M 6
#define STRIP_N 16

#if BLOCK_M % STRIP_M != 0 || BLOCK_N % STRIP_N != 0
#    error "blocks are whole strips"
#endif

/* packed (strips, depth, STRIP_M) from A's rows @row on; rows beyond m as 0. */
static void pack_a(local float *packed, global const float *a, uint row, uint rows,
                   uint p, uint depth, uint lda, bool trans)
{
    for (uint strip = 0; strip < rows; strip += STRIP_M, packed += depth * STRIP_M) {
        const uint filled = min((uint)STRIP_M, rows - strip);

        for (uint i = filled; i < STRIP_M; i++)
            for (uint q = 0; q < depth; q++)
                packed[q * STRIP_M + i] = 0.0f;
        if (trans) {
            for (uint q = 0; q < depth; q++)
                for (uint i = 0; i < filled; i++)
                    packed[q * STRIP_M + i] =
                        OPERAND(a[(p + q) * (ulong)lda + row + strip + i]);
            continue;
        }
        for (uint i = 0; i < filled; i++)
            for (uint q = 0; q < depth; q++)
                packed[q * STRIP_M + i] =
                    OPERAND(a[(row + strip + i) * (ulong)lda + p + q]);
    }
}

/* packed (strips, depth, STRIP_N) from B's columns @column on; beyond n 0. */
static void pack_b(local float *packed, global const float *b, uint column, uint columns,
                   uint p, uint depth, uint ldb, bool trans)
{
    for (uint strip = 0; strip < columns; strip += STRIP_N, packed += depth * STRIP_N) {
        const uint filled = min((uint)STRIP_N, columns - strip);

        for (uint j = filled; j < STRIP_N; j++)
            for (uint q = 0; q < depth; q++)
                packed[q * STRIP_N + j] = 0.0f;
        if (trans) {
            for (uint j = 0; j < filled; j++)
                for (uint q = 0; q < depth; q++)
                    packed[q * STRIP_N + j] =
                        OPERAND(b[(column + strip + j) * (ulong)ldb + p + q]);
            continue;
        }
        if (filled == STRIP_N) {
            for (uint q = 0; q < depth; q++)
                vstore16(
                    OPERAND_VEC(vload16(0, b + (p + q) * (ulong)ldb + column + strip)), q,
                    packed);
            continue;
        }
        for (uint q = 0; q < depth; q++)
            for (uint j = 0; j < filled; j++)
                packed[q * STRIP_N + j] =
                    OPERAND(b[(p + q) * (ulong)ldb + column + strip + j]);
    }
}

/* sum (STRIP_M,16) = the product of two strips. */
static void multiply(float16 *sum, local const float *a, local const float *b, uint depth)
{
    float16 s0 = (float16)(0.0f), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0;

    for (uint q = 0; q < depth; q++, a += STRIP_M) {
        const float16 x = vload16(q, b);

        s0 += a[0] * x;
        s1 += a[1] * x;
        s2 += a[2] * x;
        s3 += a[3] * x;
        s4 += a[4] * x;
        s5 += a[5] * x;
    }
    sum[0] = s0;
    sum[1] = s1;
    sum[2] = s2;
    sum[3] = s3;
    sum[4] = s4;
    sum[5] = s5;
}

/* to (rows,columns) = sum + what is there, or at the beginning what the form says. */
static void finish(MATMUL_PARAMETERS, const float16 *sum, uint row, uint column,
                   uint rows, uint columns, uint begin)
{
    for (uint i = 0; i < rows; i++) {
        global float *to = AT(c) + (row + i) * (ulong)ldc + column;
        float one[STRIP_N];

        if (columns == STRIP_N) {
            float16 start = (float16)(0.0f);

            if (!begin)
                start = vload16(0, to);
            else if (form & ADD)
                start = vload16(0, AT(add) + (row + i) * (ulong)ldc + column);
            if (begin && (form & BIAS))
                start += vload16(0, AT(bias) + column);
            vstore16(start + sum[i], 0, to);
            continue;
        }
        vstore16(sum[i], 0, one);
        for (uint j = 0; j < columns; j++)
            to[j] = (begin ? START(row + i, column + j) : to[j]) + one[j];
    }
}

kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void matmul(MATMUL_PARAMETERS)
{
    local float packed_a[BLOCK_M * BLOCK_K], packed_b[BLOCK_N * BLOCK_K];
    const uint row = get_group_id(1) * BLOCK_M, column = get_group_id(0) * BLOCK_N;
    const uint rows = min((uint)BLOCK_M, m - row);
    const uint columns = min((uint)BLOCK_N, n - column);

    for (uint p = 0; p < k; p += BLOCK_K) {
        const uint depth = min((uint)BLOCK_K, k - p);

        pack_a(packed_a, AT(a), row, rows, p, depth, lda,
               (form & TRANS_A) != 0);
        pack_b(packed_b, AT(b), column, columns, p, depth, ldb,
               (form & TRANS_B) != 0);
        for (uint j = 0; j < columns; j += STRIP_N)
            for (uint i = 0; i < rows; i += STRIP_M) {
                float16 sum[STRIP_M];

                multiply(sum, packed_a + i * depth, packed_b + j * depth, depth);
                finish(c_buffer, c_first, a_buffer, a_first, b_buffer, b_first,
                       add_buffer, add_first, bias_buffer, bias_first, m, n, k, lda, ldb,
                       ldc, form, sum, row + i, column + j,
                       min((uint)STRIP_M, rows - i), min((uint)STRIP_N, columns - j),
                       p == 0);
            }
    }
}
