/*
 * compute/opencl/attention.cl - causal self-attention and its gradient, tile by tile, no
 * T x T matrix (Dao: "FlashAttention-2").
 *
 * An item has VECTOR rows of its own, side by side: queries in the forward pass and for
 * their gradient, keys for that of keys and values, so that nobody adds to what is
 * another's. It goes through the rows on the other side, TILE at a time in their order, as
 * far as the diagonal. Where items share local memory, ITEMS of them have each tile
 * fetched there once (SHARE); a CPU has one item to a group and reads where the rows are.
 *
 * q, k and v of a head are strips of the rows of qkv; with D elements for each head and
 * the query's key g = h / group: q at h D, k at C + g D, v behind all k. D is an option of
 * the build. So are BIAS: to the scores of head h beta[h] times the similarity of the two
 * tokens is added, out of pairs that lie as compute/ops.h says, BLOCK queries together; and
 * DROP: probabilities are dropped behind the softmax, as struct cllm_dropout says, whoever
 * computes them. Behind random.cl.
 */
#if SHARE
#    define TILED local
#else
#    define TILED global
#endif

#define ROWS (ITEMS * VECTOR) /* of a group of items */
#define LAST_ROW (T - 1)

#define HEAD_KERNEL kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1)))

/* Where a head of a sequence lies; all in elements. */
struct head {
    uint b, h;
    ulong q, k, v;   /* of its first row in qkv */
    ulong out;       /* likewise in out */
    ulong lse;       /* of its first row in lse */
};

static struct head head_at(uint i, uint T, uint C, uint H, uint group, uint row)
{
    struct head head;
    const uint b = i / H, h = i % H;

    head.b = b;
    head.h = h;
    head.q = (ulong)b * T * row + h * D;
    head.k = (ulong)b * T * row + C + h / group * D;
    head.v = head.k + C / group;
    head.out = (ulong)b * T * C + h * D;
    head.lse = (ulong)i * T;
    return head;
}

/* own (D,VECTOR) = rows of x from @first on, @stride apart, side by side; behind the last
 * row that again. */
static void load_own(float *own, global const float *x, uint stride, uint first, uint T)
{
    for (uint i = 0; i < VECTOR; i++) {
        global const float *from = x + min(first + i, LAST_ROW) * (ulong)stride;

        for (uint d = 0; d < D; d++)
            own[d * VECTOR + i] = from[d];
    }
}

static void store_own(global float *x, const float *own, uint stride, uint first, uint T)
{
    for (uint i = 0; i < VECTOR; i++) {
        global float *to = x + (first + i) * (ulong)stride;

        if (first + i >= T)
            return;
        for (uint d = 0; d < D; d++)
            to[d] = own[d * VECTOR + i];
    }
}

/* Row @i of a tile that begins at row @first of x: where items find it. */
#if SHARE
#    define TILE_ROW(tile, x, stride, first, i) ((tile) + (i) * D)
#else
#    define TILE_ROW(tile, x, stride, first, i) \
        ((x) + min((first) + (i), LAST_ROW) * (ulong)(stride))
#endif

/* Rows of x from @first on into a tile; behind the last row that again. All items. */
static void fetch_tile(local float *tile, global const float *x, uint stride, uint first,
                       uint T)
{
#if SHARE
    for (uint i = get_local_id(0); i < TILE * D; i += ITEMS)
        tile[i] = x[min(first + i / D, LAST_ROW) * (ulong)stride + i % D];
#endif
}

static void tile_begins(void)
{
#if SHARE
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
}

/* dot[0..3] = own rows . four rows. */
static void dot_four(vec *dot, const float *own, TILED const float *r0,
                     TILED const float *r1, TILED const float *r2, TILED const float *r3)
{
    vec s0 = (vec)(0.0f), s1 = s0, s2 = s0, s3 = s0;

    UNROLL
    for (uint d = 0; d < D; d++) {
        const vec x = LOAD(own + d * VECTOR);

        s0 = x * r0[d] + s0;
        s1 = x * r1[d] + s1;
        s2 = x * r2[d] + s2;
        s3 = x * r3[d] + s3;
    }
    dot[0] = s0;
    dot[1] = s1;
    dot[2] = s2;
    dot[3] = s3;
}

/* own rows = own rows times keep + four rows, times weight[0..3] each. */
static void add_four(float *own, vec keep, const vec *weight, TILED const float *r0,
                     TILED const float *r1, TILED const float *r2, TILED const float *r3)
{
    const vec w0 = weight[0], w1 = weight[1], w2 = weight[2], w3 = weight[3];

    UNROLL
    for (uint d = 0; d < D; d++) {
        vec sum = LOAD(own + d * VECTOR) * keep;

        sum = w0 * r0[d] + sum;
        sum = w1 * r1[d] + sum;
        sum = w2 * r2[d] + sum;
        sum = w3 * r3[d] + sum;
        STORE(own + d * VECTOR, sum);
    }
}

/* ---- a learned bias ---- */

#if BIAS
#    define BIAS_IN IN(float, beta), IN(float, similar),

/* Where in similar what belongs to query @t of sequence @b begins. */
static ulong pairs_at(uint b, uint t, uint T)
{
    const uint block = t / BLOCK, last = LAST_ROW / BLOCK;
    const uint all = BLOCK * BLOCK * (last * (last + 1) / 2) + (T - last * BLOCK) * T;
    const uint keys = min((block + 1) * BLOCK, T);

    return b * (ulong)((all + 15) / 16 * 16) +
           BLOCK * BLOCK * (block * (block + 1) / 2) + (t - block * BLOCK) * keys;
}

/* Similarities of own queries from @first on, whose pairs begin at own[], to key @j; of a
 * key behind a query any other. */
static vec of_key(global const float *similar, const ulong *own, uint first, uint j,
                  uint T)
{
    float x[VECTOR];

    for (uint i = 0; i < VECTOR; i++)
        x[i] = similar[own[i] + min(j, min(first + i, LAST_ROW))];
    return LOAD(x);
}

/* The same of own keys from @first on to query @t, whose pairs begin at @pairs. */
static vec of_query(global const float *pairs, uint first, uint t)
{
    float x[VECTOR];

    if (first + VECTOR <= t + 1)
        return LOAD(pairs + first);
    for (uint i = 0; i < VECTOR; i++)
        x[i] = pairs[min(first + i, t)];
    return LOAD(x);
}
#else
#    define BIAS_IN
#endif

/* ---- what is dropped ---- */

#if DROP
#    define DROP_IN \
        const ulong key, const uint stream, const uint threshold, const float kept,
#    define DROP_INIT {key, stream, threshold, kept}

#    if VECTOR == 16
typedef uint16 uvec;
#        define AS_UINT(x) as_uint16(x)
#    else
typedef uint uvec;
#        define AS_UINT(x) ((uint)(x))
#    endif

DEFINE_WORDS(words_of_lanes, uvec)

struct drop {
    ulong key;
    uint stream, threshold;
    float kept; /* the factor of what is not dropped */
};

/* Elements from a query's probabilities to the next query's: whole blocks of words, each
 * for keys j, j + 32, j + 64 and j + 96. */
static ulong padded(uint T)
{
    return (T + 127) / 128 * 128;
}

/* Of own queries, @query and after, and keys @at and after, a multiple of 128: bit i of
 * bits[k] is set where key at + 32 k + i is kept. */
static void keep_of_queries(uvec *bits, struct drop drop, ulong query, uint at, uint T)
{
    uint low[VECTOR], high[VECTOR];

    for (uint i = 0; i < VECTOR; i++) {
        const ulong index = ((query + i) * padded(T) + at) / 4;

        low[i] = (uint)index;
        high[i] = (uint)(index >> 32);
    }
    for (uint k = 0; k < 4; k++)
        bits[k] = (uvec)(0);
    for (uint j = 0; j < 32; j++) {
        uvec word[4] = {LOAD(low) + (uvec)(j), LOAD(high), (uvec)(drop.stream), (uvec)(0)};

        words_of_lanes(word, drop.key);
        for (uint k = 0; k < 4; k++)
            bits[k] |= word[k] >= (uvec)(drop.threshold) ? (uvec)(1u << j) : (uvec)(0);
    }
}

/* Factors of own queries' probabilities of key @j. */
static vec factors_of_key(const uvec *bits, struct drop drop, uint j)
{
    return (bits[j / 32 % 4] >> (uvec)(j % 32) & (uvec)(1)) != (uvec)(0) ? (vec)(drop.kept)
                                                                       : (vec)(0.0f);
}

/* Factors of the probabilities that @query has of own keys, from @first on. */
static vec factors_of_query(struct drop drop, ulong query, uint first, uint T)
{
    const ulong index = (query * padded(T) + first / 128 * 128) / 4 + first % 32;
    uvec word[4] = {(uvec)((uint)index) + AS_UINT(LANES), (uvec)((uint)(index >> 32)),
                    (uvec)(drop.stream), (uvec)(0)};

    words_of_lanes(word, drop.key);
    return word[first / 32 % 4] >= (uvec)(drop.threshold) ? (vec)(drop.kept) : (vec)(0.0f);
}
#else
#    define DROP_IN
#endif

#define FOUR_ROWS(tile, x, stride, first, i)                                        \
    TILE_ROW(tile, x, stride, first, i), TILE_ROW(tile, x, stride, first, (i) + 1), \
        TILE_ROW(tile, x, stride, first, (i) + 2),                                  \
        TILE_ROW(tile, x, stride, first, (i) + 3)

static void set_own(float *own, float x)
{
    for (uint i = 0; i < D * VECTOR; i++)
        own[i] = x;
}

/* ---- forward ---- */

/* out (B,T,C), lse (B,H,T). Dimension 0: blocks of ROWS queries, the last first, since it
 * has the most to do; dimension 1: heads from @from on. */
HEAD_KERNEL void attention(OUT(float, out), OUT(float, lse), IN(float, qkv),
                           BIAS_IN DROP_IN const uint T, const uint C, const uint H,
                           const uint group, const uint row, const uint from,
                           const float scale)
{
#if SHARE
    local float keys[TILE * D], values[TILE * D];
#else
    local float *keys = 0, *values = 0;
#endif
    const struct head head = head_at(from + get_group_id(1), T, C, H, group, row);
    const uint block = (get_num_groups(0) - 1 - get_group_id(0)) * ROWS;
    const uint end = min(block + ROWS, T), first = block + get_local_id(0) * VECTOR;
    global const float *k = AT(qkv) + head.k, *v = AT(qkv) + head.v;
    const ivec own = (ivec)((int)first) + LANES;
    float q[D * VECTOR], sum[D * VECTOR], total[VECTOR], top[VECTOR];
    vec s[TILE], most = (vec)(-INFINITY), norm = (vec)(0.0f);
#if BIAS
    const float beta = AT(beta)[head.h];
    ulong pairs[VECTOR];

    for (uint i = 0; i < VECTOR; i++)
        pairs[i] = pairs_at(head.b, min(first + i, LAST_ROW), T);
#endif
#if DROP
    const struct drop drop = DROP_INIT;
    uvec bits[4];
#endif

    load_own(q, AT(qkv) + head.q, row, first, T);
    set_own(sum, 0.0f);
    for (uint at = 0; at < end; at += TILE) {
        vec before = most, keep;

#if DROP
        if (at % 128 == 0)
            keep_of_queries(bits, drop, head.lse + first, at, T);
#endif
        tile_begins();
        fetch_tile(keys, k, row, at, T);
        fetch_tile(values, v, row, at, T);
        tile_begins();
        for (uint j = 0; j < TILE; j += 4)
            dot_four(s + j, q, FOUR_ROWS(keys, k, row, at, j));
        for (uint j = 0; j < TILE; j++) {
            const ivec seen = (ivec)((int)(at + j)) <= own;

#if BIAS
            s[j] = s[j] * scale + of_key(AT(similar), pairs, first, at + j, T) * beta;
            s[j] = seen ? s[j] : (vec)(-INFINITY);
#else
            s[j] = seen ? s[j] * scale : (vec)(-INFINITY);
#endif
            most = s[j] > most ? s[j] : most;
        }
        keep = exp_vec(before - most);
        norm *= keep;
        for (uint j = 0; j < TILE; j++) {
            s[j] = exp_vec(s[j] - most);
            norm += s[j];
#if DROP
            s[j] *= factors_of_key(bits, drop, at + j);
#endif
        }
        for (uint j = 0; j < TILE; j += 4) {
            add_four(sum, keep, s + j, FOUR_ROWS(values, v, row, at, j));
            keep = (vec)(1.0f);
        }
    }
    for (uint d = 0; d < D; d++)
        STORE(sum + d * VECTOR, LOAD(sum + d * VECTOR) / norm);
    store_own(AT(out) + head.out, sum, C, first, T);
    STORE(total, norm);
    STORE(top, most);
    for (uint i = 0; i < VECTOR && first + i < T; i++)
        AT(lse)[head.lse + first + i] = top[i] + log(total[i]);
}

/* ---- backward ---- */

/* With P the probabilities, dP = dout v, times the factor of what is dropped or kept, and
 * dS = P (dP - dout.out) scale: dq = dS k. The
 * queries' part of dqkv; with a bias also what each query gives to its gradient, the sum
 * of dS / scale times the similarity, by_query (B,H,T). */
HEAD_KERNEL void attention_queries(OUT(float, dqkv), IN(float, dout), IN(float, qkv),
                                   IN(float, out), IN(float, lse),
#if BIAS
                                   OUT(float, by_query),
#endif
                                   BIAS_IN DROP_IN const uint T, const uint C,
                                   const uint H, const uint group, const uint row,
                                   const uint from, const float scale)
{
#if SHARE
    local float keys[TILE * D], values[TILE * D];
#else
    local float *keys = 0, *values = 0;
#endif
    const struct head head = head_at(from + get_group_id(1), T, C, H, group, row);
    const uint block = (get_num_groups(0) - 1 - get_group_id(0)) * ROWS;
    const uint end = min(block + ROWS, T), first = block + get_local_id(0) * VECTOR;
    global const float *k = AT(qkv) + head.k, *v = AT(qkv) + head.v;
    const ivec own = (ivec)((int)first) + LANES;
    float q[D * VECTOR], d_out[D * VECTOR], dq[D * VECTOR], of_row[VECTOR];
    vec dot = (vec)(0.0f), norm;
#if BIAS
    const float beta = AT(beta)[head.h];
    vec dbeta = (vec)(0.0f);
    ulong pairs[VECTOR];

    for (uint i = 0; i < VECTOR; i++)
        pairs[i] = pairs_at(head.b, min(first + i, LAST_ROW), T);
#endif
#if DROP
    const struct drop drop = DROP_INIT;
    uvec bits[4];
#endif

    load_own(dq, AT(out) + head.out, C, first, T);
    load_own(d_out, AT(dout) + head.out, C, first, T);
    for (uint d = 0; d < D; d++)
        dot = LOAD(dq + d * VECTOR) * LOAD(d_out + d * VECTOR) + dot;
    load_own(q, AT(qkv) + head.q, row, first, T);
    set_own(dq, 0.0f);
    for (uint i = 0; i < VECTOR; i++)
        of_row[i] = AT(lse)[head.lse + min(first + i, LAST_ROW)];
    norm = LOAD(of_row);
    for (uint at = 0; at < end; at += TILE) {
#if DROP
        if (at % 128 == 0)
            keep_of_queries(bits, drop, head.lse + first, at, T);
#endif
        tile_begins();
        fetch_tile(keys, k, row, at, T);
        fetch_tile(values, v, row, at, T);
        tile_begins();
        for (uint j = 0; j < TILE; j += 4) {
            vec s[4], dp[4];

            dot_four(s, q, FOUR_ROWS(keys, k, row, at, j));
            dot_four(dp, d_out, FOUR_ROWS(values, v, row, at, j));
            for (uint i = 0; i < 4; i++) {
                const ivec seen = (ivec)((int)(at + j + i)) <= own;
#if DROP
                dp[i] *= factors_of_key(bits, drop, at + j + i);
#endif
#if BIAS
                const vec like = of_key(AT(similar), pairs, first, at + j + i, T);
                const vec p = exp_vec(s[i] * scale + like * beta - norm);

                dp[i] = seen ? p * (dp[i] - dot) : (vec)(0.0f);
                dbeta += dp[i] * like;
                dp[i] *= scale;
#else
                const vec p = exp_vec(s[i] * scale - norm);

                dp[i] = seen ? p * (dp[i] - dot) * scale : (vec)(0.0f);
#endif
            }
            add_four(dq, (vec)(1.0f), dp, FOUR_ROWS(keys, k, row, at, j));
        }
    }
    store_own(AT(dqkv) + head.q, dq, row, first, T);
#if BIAS
    STORE(of_row, dbeta);
    for (uint i = 0; i < VECTOR && first + i < T; i++)
        AT(by_query)[head.lse + first + i] = of_row[i];
#endif
}

/* dk = dS^T q, dv = P^T dout, summed over the queries that share the key: heads in their
 * order. Dimension 0: blocks of ROWS keys; dimension 1: keys' heads from @from on. */
HEAD_KERNEL void attention_keys(OUT(float, dqkv), IN(float, dout), IN(float, qkv),
                                IN(float, out), IN(float, lse),
                                BIAS_IN DROP_IN const uint T, const uint C,
                                const uint H, const uint group, const uint row,
                                const uint from, const float scale)
{
#if SHARE
    local float queries[TILE * D], d_outs[TILE * D];
#else
    local float *queries = 0, *d_outs = 0;
#endif
    local float norms[TILE], dots[TILE];
    const uint block = get_group_id(0) * ROWS;
    const uint first = block + get_local_id(0) * VECTOR;
    const struct head of_keys =
        head_at((from + get_group_id(1)) * group, T, C, H, group, row);
    const ivec own = (ivec)((int)first) + LANES;
    float k[D * VECTOR], v[D * VECTOR], dk[D * VECTOR], dv[D * VECTOR];
#if DROP
    const struct drop drop = DROP_INIT;
#endif

    load_own(k, AT(qkv) + of_keys.k, row, first, T);
    load_own(v, AT(qkv) + of_keys.v, row, first, T);
    set_own(dk, 0.0f);
    set_own(dv, 0.0f);
    for (uint h = 0; h < group; h++) {
        const struct head head =
            head_at((from + get_group_id(1)) * group + h, T, C, H, group, row);
        global const float *q = AT(qkv) + head.q, *d_out = AT(dout) + head.out;
        global const float *o = AT(out) + head.out;
#if BIAS
        const float beta = AT(beta)[head.h];
#endif

        for (uint at = block / TILE * TILE; at < T; at += TILE) {
            tile_begins();
            fetch_tile(queries, q, row, at, T);
            fetch_tile(d_outs, d_out, C, at, T);
            for (uint i = get_local_id(0); i < TILE; i += ITEMS) {
                const uint t = min(at + i, LAST_ROW);
                float dot = 0.0f;

                for (uint d = 0; d < D; d++)
                    dot = o[t * (ulong)C + d] * d_out[t * (ulong)C + d] + dot;
                dots[i] = dot;
                norms[i] = AT(lse)[head.lse + t];
            }
            tile_begins();
            for (uint j = 0; j < TILE; j += 4) {
                vec s[4], dp[4];

                dot_four(s, k, FOUR_ROWS(queries, q, row, at, j));
                dot_four(dp, v, FOUR_ROWS(d_outs, d_out, C, at, j));
                for (uint i = 0; i < 4; i++) {
                    const uint t = at + j + i;
                    const ivec seen = own <= (ivec)((int)min(t, LAST_ROW));
#if BIAS
                    global const float *pairs =
                        AT(similar) + pairs_at(head.b, min(t, LAST_ROW), T);
                    const vec like = of_query(pairs, first, min(t, LAST_ROW));
                    const vec p = exp_vec(s[i] * scale + like * beta - norms[j + i]);
#else
                    const vec p = exp_vec(s[i] * scale - norms[j + i]);
#endif
#if DROP
                    const vec factor =
                        factors_of_query(drop, head.lse + min(t, LAST_ROW), first, T);
                    const vec ds = p * (dp[i] * factor - dots[j + i]) * scale;
                    const vec of_v = p * factor;
#else
                    const vec ds = p * (dp[i] - dots[j + i]) * scale, of_v = p;
#endif

                    s[i] = seen && (ivec)(t < T ? -1 : 0) ? of_v : (vec)(0.0f);
                    dp[i] = seen && (ivec)(t < T ? -1 : 0) ? ds : (vec)(0.0f);
                }
                add_four(dv, (vec)(1.0f), s, FOUR_ROWS(d_outs, d_out, C, at, j));
                add_four(dk, (vec)(1.0f), dp, FOUR_ROWS(queries, q, row, at, j));
            }
        }
    }
    store_own(AT(dqkv) + of_keys.k, dk, row, first, T);
    store_own(AT(dqkv) + of_keys.v, dv, row, first, T);
}
