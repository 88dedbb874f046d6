/*
 * compute/opencl/columns.cl - sums over rows: gradients of biases and of the weights of
 * norms. VECTOR columns to an item; PARTS items share them, each with every PARTS-th row,
 * and their sums are added as a tree.
 */
#define COLUMN_KERNEL kernel __attribute__((reqd_work_group_size(COLUMNS, PARTS, 1)))

/* The sum of what the items of a column have, to the first of them. */
static vec sum_of_parts(vec x, local vec *scratch)
{
#if PARTS > 1
    const uint column = get_local_id(0), part = get_local_id(1);

    scratch[part * COLUMNS + column] = x;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint width = PARTS / 2; width > 0; width /= 2) {
        if (part < width)
            scratch[part * COLUMNS + column] += scratch[(part + width) * COLUMNS + column];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    x = scratch[column];
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
    return x;
}

/* @count elements, at most VECTOR; the others are 0, so that no lane is undefined. */
static vec load_some(global const float *from, uint count)
{
#if VECTOR > 1
    float x[VECTOR];

    if (count == VECTOR)
        return LOAD(from);
    for (uint i = 0; i < VECTOR; i++)
        x[i] = i < count ? from[i] : 0.0f;
    return LOAD(x);
#else
    return count == 0 ? 0.0f : *from;
#endif
}

static void add_some(global float *to, vec x, uint count)
{
#if VECTOR > 1
    float rest[VECTOR];

    if (count == VECTOR) {
        STORE(to, LOAD(to) + x);
        return;
    }
    STORE(rest, x);
    for (uint i = 0; i < count; i++)
        to[i] += rest[i];
#else
    if (count > 0)
        *to += x;
#endif
}

/* Columns of this item: the first of them, and how many. */
#define COLUMN(cols)       (get_global_id(0) * VECTOR)
#define COLUMN_COUNT(cols) ((uint)(COLUMN(cols) < (cols) ? min((ulong)VECTOR, (cols) - COLUMN(cols)) : 0))

/* sum += sums of the columns of x (rows,cols). */
COLUMN_KERNEL void add_columns(OUT(float, sum), IN(float, x), const uint rows,
                               const uint cols)
{
    local vec scratch[COLUMNS * PARTS];
    const ulong c = COLUMN(cols);
    const uint count = COLUMN_COUNT(cols);
    global const float *from = AT(x) + c;
    vec total = (vec)(0.0f);

    for (uint r = get_local_id(1); r < rows; r += PARTS)
        total += load_some(from + r * (ulong)cols, count);
    total = sum_of_parts(total, scratch);
    if (get_local_id(1) == 0)
        add_some(AT(sum) + c, total, count);
}

/* dweight += dout n, dbias += dout, with n = (x - mean) rstd; @n columns of @cols. */
COLUMN_KERNEL void layernorm_weights(OUT(float, dweight), OUT(float, dbias),
                                     IN(float, dout), IN(float, x), IN(float, mean),
                                     IN(float, rstd), const uint rows, const uint cols,
                                     const uint n)
{
    local vec scratch[COLUMNS * PARTS];
    const ulong c = COLUMN(n);
    const uint count = COLUMN_COUNT(n);
    global const float *d = AT(dout) + c, *from = AT(x) + c, *m = AT(mean), *s = AT(rstd);
    vec weight = (vec)(0.0f), bias = (vec)(0.0f);

    for (uint r = get_local_id(1); r < rows; r += PARTS) {
        const vec dr = load_some(d + r * (ulong)cols, count);

        weight += dr * ((load_some(from + r * (ulong)cols, count) - m[r]) * s[r]);
        bias += dr;
    }
    weight = sum_of_parts(weight, scratch);
    bias = sum_of_parts(bias, scratch);
    if (get_local_id(1) == 0) {
        add_some(AT(dweight) + c, weight, count);
        add_some(AT(dbias) + c, bias, count);
    }
}

/* dweight += dout x rstd. */
COLUMN_KERNEL void rmsnorm_weights(OUT(float, dweight), IN(float, dout), IN(float, x),
                                   IN(float, rstd), const uint rows, const uint cols,
                                   const uint n)
{
    local vec scratch[COLUMNS * PARTS];
    const ulong c = COLUMN(n);
    const uint count = COLUMN_COUNT(n);
    global const float *d = AT(dout) + c, *from = AT(x) + c, *s = AT(rstd);
    vec weight = (vec)(0.0f);

    for (uint r = get_local_id(1); r < rows; r += PARTS)
        weight += load_some(d + r * (ulong)cols, count) *
                  (load_some(from + r * (ulong)cols, count) * s[r]);
    weight = sum_of_parts(weight, scratch);
    if (get_local_id(1) == 0)
        add_some(AT(dweight) + c, weight, count);
}
