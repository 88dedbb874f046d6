/*
 * compute/opencl/vector.cl - passes over elements: mixtures, dropout. Behind random.cl.
 */

/* out = a x + b y; out may be x or y. An item has VECTOR elements, the last one those that
 * are left. */
kernel void mixture(OUT(float, out), IN(float, x), IN(float, y), const ulong n, const float a,
                const float b)
{
    global float *to = AT(out);
    global const float *one = AT(x), *other = AT(y);
    ulong i = get_global_id(0) * VECTOR;

    if (i + VECTOR <= n)
        STORE(to + i, LOAD(one + i) * a + LOAD(other + i) * b);
    else
        for (; i < n; i++)
            to[i] = one[i] * a + other[i] * b;
}

/* ---- dropout ---- */

/*
 * out = add + x times 0 or the scale; without @adding no add. Of 128 elements an item has
 * those that are 32 apart: one block of random words. out may be x or add.
 */
kernel void dropout(OUT(float, out), IN(float, add), IN(float, x), const ulong n,
                    const ulong key, const ulong first, const uint threshold,
                    const float scale, const uint stream, const uint adding)
{
    global float *to = AT(out);
    global const float *more = AT(add), *from = AT(x);
    const ulong item = get_global_id(0);
    const ulong index = first / 4 + item, at = item / 32 * 128 + item % 32;
    uint word[4] = {(uint)index, (uint)(index >> 32), stream, 0};

    words_of_one(word, key);
    for (uint k = 0; k < 4; k++) {
        const ulong i = at + 32 * k;
        const float factor = word[k] < threshold ? 0.0f : scale;

        if (i >= n)
            return;
        to[i] = adding ? more[i] + from[i] * factor : from[i] * factor;
    }
}
