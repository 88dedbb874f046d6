/*
 * compute/opencl/norm.cl - layer and root mean square normalisation and what of their
 * gradients goes back into rows; that of weights is in columns.cl. A group for each row.
 */

/* ---- layer normalisation ---- */

ROW_KERNEL void layernorm(OUT(float, out), OUT(float, mean), OUT(float, rstd),
                          IN(float, x), IN(float, weight), IN(float, bias),
                          const float epsilon, const uint cols)
{
    local float scratch[GROUP];
    const ulong row = get_group_id(0);
    global float *to = AT(out) + row * cols;
    global const float *from = AT(x) + row * cols, *w = AT(weight), *b = AT(bias);
    vec total = (vec)(0.0f);
    float rest = 0.0f, m, s;

    FOR_VECTORS(c, cols)
        total += LOAD(from + c);
    FOR_REST(c, cols)
        rest += from[c];
    m = sum_of_group(sum_of_lanes(total) + rest, scratch) / (float)cols;
    total = (vec)(0.0f);
    rest = 0.0f;
    /* In two passes: x^2 - mean^2 would cancel. */
    FOR_VECTORS(c, cols) {
        const vec d = LOAD(from + c) - m;

        total += d * d;
    }
    FOR_REST(c, cols)
        rest += (from[c] - m) * (from[c] - m);
    s = sum_of_group(sum_of_lanes(total) + rest, scratch) / (float)cols;
    s = 1.0f / sqrt(s + epsilon);
    FOR_VECTORS(c, cols)
        STORE(to + c, (LOAD(from + c) - m) * s * LOAD(w + c) + LOAD(b + c));
    FOR_REST(c, cols)
        to[c] = (from[c] - m) * s * w[c] + b[c];
    if (get_local_id(0) == 0) {
        AT(mean)[row] = m;
        AT(rstd)[row] = s;
    }
}

/* With n = (x - mean) rstd and g = dout weight: dx += rstd (g - mean(g) - n mean(g n)). */
ROW_KERNEL void layernorm_backward(OUT(float, dx), IN(float, dout), IN(float, x),
                                   IN(float, mean), IN(float, rstd), IN(float, weight),
                                   const uint cols)
{
    local float scratch[GROUP];
    const ulong row = get_group_id(0);
    global float *to = AT(dx) + row * cols;
    global const float *from = AT(x) + row * cols, *d = AT(dout) + row * cols;
    global const float *w = AT(weight);
    const float m = AT(mean)[row], s = AT(rstd)[row];
    vec total = (vec)(0.0f), product = (vec)(0.0f);
    float rest = 0.0f, product_rest = 0.0f, mean_g, mean_gn;

    FOR_VECTORS(c, cols) {
        const vec g = LOAD(d + c) * LOAD(w + c);

        total += g;
        product += g * ((LOAD(from + c) - m) * s);
    }
    FOR_REST(c, cols) {
        rest += d[c] * w[c];
        product_rest += d[c] * w[c] * ((from[c] - m) * s);
    }
    mean_g = sum_of_group(sum_of_lanes(total) + rest, scratch) / (float)cols;
    mean_gn =
        sum_of_group(sum_of_lanes(product) + product_rest, scratch) / (float)cols;
    FOR_VECTORS(c, cols) {
        const vec n = (LOAD(from + c) - m) * s;

        STORE(to + c,
              LOAD(to + c) + s * (LOAD(d + c) * LOAD(w + c) - mean_g - n * mean_gn));
    }
    FOR_REST(c, cols)
        to[c] += s * (d[c] * w[c] - mean_g - (from[c] - m) * s * mean_gn);
}

/* ---- root mean square ---- */

ROW_KERNEL void rmsnorm(OUT(float, out), OUT(float, rstd), IN(float, x),
                        IN(float, weight), const float epsilon, const uint cols)
{
    local float scratch[GROUP];
    const ulong row = get_group_id(0);
    global float *to = AT(out) + row * cols;
    global const float *from = AT(x) + row * cols, *w = AT(weight);
    vec total = (vec)(0.0f);
    float rest = 0.0f, s;

    FOR_VECTORS(c, cols)
        total += LOAD(from + c) * LOAD(from + c);
    FOR_REST(c, cols)
        rest += from[c] * from[c];
    s = sum_of_group(sum_of_lanes(total) + rest, scratch) / (float)cols;
    s = 1.0f / sqrt(s + epsilon);
    FOR_VECTORS(c, cols)
        STORE(to + c, LOAD(from + c) * s * LOAD(w + c));
    FOR_REST(c, cols)
        to[c] = from[c] * s * w[c];
    if (get_local_id(0) == 0)
        AT(rstd)[row] = s;
}

/* With n = x rstd and g = dout weight: dx += rstd (g - n mean(g n)). */
ROW_KERNEL void rmsnorm_backward(OUT(float, dx), IN(float, dout), IN(float, x),
                                 IN(float, rstd), IN(float, weight), const uint cols)
{
    local float scratch[GROUP];
    const ulong row = get_group_id(0);
    global float *to = AT(dx) + row * cols;
    global const float *from = AT(x) + row * cols, *d = AT(dout) + row * cols;
    global const float *w = AT(weight);
    const float s = AT(rstd)[row];
    vec product = (vec)(0.0f);
    float rest = 0.0f, mean_gn;

    FOR_VECTORS(c, cols)
        product += LOAD(d + c) * LOAD(w + c) * (LOAD(from + c) * s);
    FOR_REST(c, cols)
        rest += d[c] * w[c] * (from[c] * s);
    mean_gn = sum_of_group(sum_of_lanes(product) + rest, scratch) / (float)cols;
    FOR_VECTORS(c, cols)
        STORE(to + c, LOAD(to + c) + s * (LOAD(d + c) * LOAD(w + c) -
                                          LOAD(from + c) * s * mean_gn));
    FOR_REST(c, cols)
        to[c] += s * (d[c] * w[c] - from[c] * s * mean_gn);
}
