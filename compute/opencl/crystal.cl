/*
 * compute/opencl/crystal.cl - how similar token ids are (base/crystal.h): all pairs of a
 * sequence, for attention's learned bias, and targets smoothed by it.
 *
 * Ids are below 2^20. Numbers (id + 1), products of one with a rounded quotient and what
 * is left are whole numbers that f32 holds exactly, so that divisors are right although a
 * device may divide with some error.
 */
#define GCD_SHARE    0.7f
#define SPIRAL_SHARE 0.3f

#if VECTOR == 16
#    define NUMBERS(c) (convert_float16(LANES + (ivec)((int)(c))) + 1.0f)
#    define ANY(x)     any(x)
#else
#    define NUMBERS(c) ((float)((c) + 1))
#    define ANY(x)     (x)
#endif
#define ONE(x) (x)

/* Adding and taking away 1.5 2^23 rounds. */
#define ROUNDED(x) (((x) + 12582912.0f) - 12582912.0f)

/* Of two numbers with that divisor whose places are (dx,dy) apart. */
#define DEFINE_SIMILAR(name, T)                                       \
    static T name(T gcd, T most, T dx, T dy)                          \
    {                                                                 \
        return GCD_SHARE * (gcd / most) +                             \
               SPIRAL_SHARE / (1.0f + sqrt(dx * dx + dy * dy));       \
    }

DEFINE_SIMILAR(similar_one, float)
DEFINE_SIMILAR(similar_vec, vec)

/* ---- pairs ---- */

/* Euclid's algorithm, by the remainder nearest to 0, until the slowest lane is done. */
#define DEFINE_GCD(name, T, any_)                                     \
    static T name(T a, T b)                                           \
    {                                                                 \
        while (any_(b > (T)(0.0f))) {                                 \
            const T divisor = max(b, (T)(1.0f));                      \
            const T rest = fabs(a - ROUNDED(a / divisor) * divisor);  \
                                                                      \
            a = b > (T)(0.0f) ? b : a;                                \
            b = b > (T)(0.0f) ? rest : b;                             \
        }                                                             \
        return a;                                                     \
    }

DEFINE_GCD(gcd_one, float, ONE)
DEFINE_GCD(gcd_vec, vec, ANY)

/* The greatest r with r r <= n < 2^24. */
static uint root_of(uint n)
{
    uint r = (uint)sqrt((float)n);

    while (r * r > n)
        r--;
    while ((r + 1) * (r + 1) <= n)
        r++;
    return r;
}

/* points (3,stride): numbers of @n tokens from @from on, and their places on the spiral. */
kernel void crystal_points(OUT(float, points), IN(uint, tokens), const uint stride,
                           const uint from, const uint n)
{
    const uint i = get_global_id(0), at = from + i;
    uint number;
    int r, o, x, y;

    if (i >= n)
        return;
    number = AT(tokens)[at] + 1;
    r = (int)(root_of(number) + 1) / 2; /* of the ring, and along it */
    o = (int)number - (2 * r - 1) * (2 * r - 1);
    x = o < 2 * r ? r : o < 4 * r ? 3 * r - o : o < 6 * r ? -r : o - 7 * r;
    y = o < 2 * r ? o - r : o < 4 * r ? r : o < 6 * r ? 5 * r - o : -r;
    AT(points)[at] = (float)number;
    AT(points)[stride + at] = (float)x;
    AT(points)[2 * stride + at] = (float)y;
}

/* Row r of similar, @ld apart: token first + r and those up to itself. A group for each
 * row. */
ROW_KERNEL void crystal_pairs(OUT(float, similar), IN(float, points), const uint ld,
                              const uint stride, const uint first)
{
    const uint at = first + get_group_id(0), seen = at + 1;
    global float *to = AT(similar) + get_group_id(0) * (ulong)ld;
    global const float *number = AT(points), *px = number + stride, *py = px + stride;
    const float a = number[at], x = px[at], y = py[at];

    FOR_VECTORS(c, seen) {
        const vec b = LOAD(number + c), gcd = gcd_vec((vec)(a), b);

        STORE(to + c, similar_vec(gcd, max(b, (vec)(a)), LOAD(px + c) - x,
                                  LOAD(py + c) - y));
    }
    FOR_REST(c, seen)
        to[c] = similar_one(gcd_one(a, number[c]), max(number[c], a), px[c] - x,
                            py[c] - y);
}

/* dbeta[h] = the sum of what its queries gave, by_query (H,T). A group for each h. */
ROW_KERNEL void sum_biases(OUT(float, dbeta), IN(float, by_query), const uint T)
{
    local float scratch[GROUP];
    global const float *from = AT(by_query) + get_group_id(0) * (ulong)T;
    vec total = (vec)(0.0f);
    float rest = 0.0f;

    FOR_VECTORS(c, T)
        total += LOAD(from + c);
    FOR_REST(c, T)
        rest += from[c];
    rest = sum_of_group(sum_of_lanes(total) + rest, scratch);
    if (get_local_id(0) == 0)
        AT(dbeta)[get_group_id(0)] = rest;
}

/* ---- one id and all others ---- */

/* The powers of primes that divide a number up to 2^20, and these primes: its greatest
 * divisor in common with b is the product of the primes of those powers that divide b. */
#define FACTORS 20

static void factorise(uint a, local float *power, local float *prime, local uint *count)
{
    if (get_local_id(0) == 0) {
        uint n = 0;

        for (uint d = 2; d * d <= a; d += d == 2 ? 1 : 2)
            for (uint p = d; a % d == 0; p *= d, a /= d) {
                power[n] = (float)p;
                prime[n++] = (float)d;
            }
        if (a > 1)
            power[n] = prime[n] = (float)a;
        *count = a > 1 ? n + 1 : n;
    }
#if GROUP > 1
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
}

#define DEFINE_SHARED(name, T)                                                  \
    static T name(T b, local const float *power, local const float *prime,      \
                  uint n)                                                       \
    {                                                                           \
        T gcd = (T)(1.0f);                                                      \
                                                                                \
        for (uint i = 0; i < n; i++) {                                          \
            const float p = power[i], inverse = 1.0f / p;                       \
                                                                                \
            gcd = ROUNDED(b * inverse) * p == b ? gcd * prime[i] : gcd;         \
        }                                                                       \
        return gcd;                                                             \
    }

DEFINE_SHARED(shared_one, float)
DEFINE_SHARED(shared_vec, vec)

/* The similarities of ids from @c on, and of @c alone, to the one whose number a, place
 * (x,y) and factors the kernel has. */
#define SIMILAR_FROM(c)                                                                \
    similar_vec(shared_vec(NUMBERS(c), power, prime, factors), max(NUMBERS(c), (vec)(a)), \
                LOAD(px + (c)) - x, LOAD(py + (c)) - y)
#define SIMILAR_AT(c)                                                            \
    similar_one(shared_one((float)((c) + 1), power, prime, factors),             \
                max((float)((c) + 1), a), px[c] - x, py[c] - y)

/* c (V): similarities to @target, divided by their sum. One group. */
ROW_KERNEL void similarities(OUT(float, c), IN(float, place_x), IN(float, place_y),
                             const uint target, const uint V)
{
    local float scratch[GROUP], power[FACTORS], prime[FACTORS];
    local uint factors;
    global float *to = AT(c);
    global const float *px = AT(place_x), *py = AT(place_y);
    const float a = (float)(target + 1), x = px[target], y = py[target];
    vec total = (vec)(0.0f);
    float rest = 0.0f, inverse;

    factorise(target + 1, power, prime, &factors);
    FOR_VECTORS(j, V) {
        const vec c = SIMILAR_FROM(j);

        STORE(to + j, c);
        total += c;
    }
    FOR_REST(j, V) {
        to[j] = SIMILAR_AT(j);
        rest += to[j];
    }
    inverse = 1.0f / sum_of_group(sum_of_lanes(total) + rest, scratch);
    /* Each element by the item that wrote it. */
    FOR_VECTORS(j, V)
        STORE(to + j, LOAD(to + j) * inverse);
    FOR_REST(j, V)
        to[j] *= inverse;
}

/*
 * As cross_entropy() (loss.cl), with a share e of the target's mass at what is similar to
 * it, c: -log p(y) + e (z(y) - c . z). With logits z below the greatest, here z <= 0, none
 * of the three terms log sum, -(1 - e) z(y) and -e c . z is negative, so nothing cancels.
 * Similarities are computed anew for the gradient, p - q.
 */
ROW_KERNEL void smooth_cross_entropy(OUT(float, losses), OUT(float, logits),
                                     IN(uint, targets), IN(float, place_x),
                                     IN(float, place_y), const uint V,
                                     const uint backward, const float e)
{
    local float scratch[GROUP], power[FACTORS], prime[FACTORS];
    local uint factors;
    const ulong r = get_group_id(0);
    const uint target = AT(targets)[r];
    global float *row = AT(logits) + r * V;
    global const float *px = AT(place_x), *py = AT(place_y);
    const float of_target = row[target];
    const float a = (float)(target + 1), x = px[target], y = py[target];
    vec most = (vec)(-INFINITY), total = (vec)(0.0f), all = total, dot = total;
    float top = -INFINITY, rest = 0.0f, all_rest = 0.0f, dot_rest = 0.0f;
    float sum, mass, inverse, share;

#if GROUP > 1
    barrier(CLK_GLOBAL_MEM_FENCE); /* before of_target's place is written */
#endif
    factorise(target + 1, power, prime, &factors);
    FOR_VECTORS(c, V) {
        const vec z = LOAD(row + c);

        most = z > most ? z : most;
    }
    FOR_REST(c, V)
        top = row[c] > top ? row[c] : top;
    top = greatest_of_group(fmax(greatest_of_lanes(most), top), scratch);
    FOR_VECTORS(c, V) {
        const vec z = LOAD(row + c) - top, similar = SIMILAR_FROM(c), p = exp_vec(z);

        STORE(row + c, p);
        total += p;
        all += similar;
        dot += similar * z;
    }
    FOR_REST(c, V) {
        const float z = row[c] - top, similar = SIMILAR_AT(c), p = exp_one(z);

        row[c] = p;
        rest += p;
        all_rest += similar;
        dot_rest += similar * z;
    }
    sum = sum_of_group(sum_of_lanes(total) + rest, scratch);
    mass = sum_of_group(sum_of_lanes(all) + all_rest, scratch);
    dot_rest = sum_of_group(sum_of_lanes(dot) + dot_rest, scratch);
    if (get_local_id(0) == 0) {
        AT(losses)[2 * r] = log(sum);
        AT(losses)[2 * r + 1] = (1.0f - e) * (top - of_target) - e * (dot_rest / mass);
    }
    if (!backward)
        return;
    inverse = 1.0f / sum;
    share = e / mass;
    FOR_VECTORS(c, V) {
        STORE(row + c, LOAD(row + c) * inverse - SIMILAR_FROM(c) * share);
        if (target - c < VECTOR)
            row[target] -= 1.0f - e;
    }
    FOR_REST(c, V) {
        const float d = row[c] * inverse - SIMILAR_AT(c) * share;

        row[c] = c == target ? d - (1.0f - e) : d;
    }
}
