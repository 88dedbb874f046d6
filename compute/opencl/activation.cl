/*
 * compute/opencl/activation.cl - GELU in the tanh form, SwiGLU, and their gradients.
 *
 * 1/2 (1 + tanh(u)) is the logistic function of 2u, which keeps the relative accuracy of
 * large negative x that 1 + tanh loses.
 */
#define GATE_1  1.59576912f  /* 2 sqrt(2/pi) */
#define GATE_3  0.0713548163f /* 0.044715 of it */
#define SLOPE_2 0.214064449f /* 3 * 0.044715 of it */

/* Either for one element and for VECTOR of them. */
#define DEFINE_ACTIVATIONS(of, T)                                                      \
    static T logistic_##of(T x)                                                        \
    {                                                                                  \
        return 1.0f / (1.0f + exp_##of(-x));                                           \
    }                                                                                  \
    static T gelu_gate_##of(T x)                                                       \
    {                                                                                  \
        return logistic_##of(x * (GATE_1 + GATE_3 * (x * x)));                         \
    }                                                                                  \
    /* With s the gate: d/dx (x s) = s + x s (1 - s) 2u'. */                           \
    static T gelu_slope_##of(T x, T s)                                                 \
    {                                                                                  \
        return s + x * s * (1.0f - s) * (GATE_1 + SLOPE_2 * (x * x));                  \
    }                                                                                  \
    /* With s the logistic function of x: d/dx (x s) = s + x s (1 - s). */             \
    static T swish_slope_##of(T x, T s)                                                \
    {                                                                                  \
        return s + x * s * (1.0f - s);                                                 \
    }

DEFINE_ACTIVATIONS(one, float)
DEFINE_ACTIVATIONS(vec, vec)

kernel void gelu(OUT(float, out), IN(float, x), const ulong n)
{
    global float *to = AT(out);
    global const float *from = AT(x);
    ulong i = get_global_id(0) * VECTOR;

    if (i + VECTOR <= n)
        STORE(to + i, LOAD(from + i) * gelu_gate_vec(LOAD(from + i)));
    else
        for (; i < n; i++)
            to[i] = from[i] * gelu_gate_one(from[i]);
}

/* out = gelu(x), d becomes the gradient of x. */
kernel void gelu_backward(OUT(float, d), OUT(float, out), IN(float, x), const ulong n)
{
    global float *dx = AT(d), *to = AT(out);
    global const float *from = AT(x);
    ulong i = get_global_id(0) * VECTOR;

    if (i + VECTOR <= n) {
        const vec v = LOAD(from + i), s = gelu_gate_vec(v);

        STORE(to + i, v * s);
        STORE(dx + i, LOAD(dx + i) * gelu_slope_vec(v, s));
        return;
    }
    for (; i < n; i++) {
        const float v = from[i], s = gelu_gate_one(v);

        to[i] = v * s;
        dx[i] *= gelu_slope_one(v, s);
    }
}

kernel void swiglu(OUT(float, out), IN(float, gate), IN(float, up), const ulong n)
{
    global float *to = AT(out);
    global const float *g = AT(gate), *u = AT(up);
    ulong i = get_global_id(0) * VECTOR;

    if (i + VECTOR <= n)
        STORE(to + i, LOAD(g + i) * logistic_vec(LOAD(g + i)) * LOAD(u + i));
    else
        for (; i < n; i++)
            to[i] = g[i] * logistic_one(g[i]) * u[i];
}

/* out = swiglu(gate, up); d becomes the gradient of gate, dup that of up. */
kernel void swiglu_backward(OUT(float, d), OUT(float, dup), OUT(float, out),
                            IN(float, gate), IN(float, up), const ulong n)
{
    global float *dg = AT(d), *du = AT(dup), *to = AT(out);
    global const float *g = AT(gate), *u = AT(up);
    ulong i = get_global_id(0) * VECTOR;

    if (i + VECTOR <= n) {
        const vec v = LOAD(g + i), s = logistic_vec(v), of_out = LOAD(dg + i);

        STORE(to + i, v * s * LOAD(u + i));
        STORE(du + i, of_out * (v * s));
        STORE(dg + i, of_out * LOAD(u + i) * swish_slope_vec(v, s));
        return;
    }
    for (; i < n; i++) {
        const float v = g[i], s = logistic_one(v), of_out = dg[i];

        to[i] = v * s * u[i];
        du[i] = of_out * (v * s);
        dg[i] = of_out * u[i] * swish_slope_one(v, s);
    }
}
