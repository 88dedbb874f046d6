/*
 * compute/opencl/embedding.cl - looking up tokens, and the gradient.
 *
 * The gradient of a token's row is the sum over the places where it stands, in their
 * order, whoever computes it: the group of the first of these places. The others find the
 * token before their own place and do nothing. That takes comparisons in the square of
 * the number of places, which are few beside products, but no atomics and no sorting.
 */

/* out (B,T,C) = wte[token] + wpe[t], without @placed the token alone. A group for each
 * row of out. */
ROW_KERNEL void embedding(OUT(float, out), IN(uint, tokens), IN(float, wte),
                          IN(float, wpe), const uint stride, const uint T, const uint C,
                          const uint placed)
{
    const ulong row = get_group_id(0);
    const uint t = row % T;
    global float *to = AT(out) + row * C;
    global const float *token = AT(wte) + AT(tokens)[row / T * stride + t] * (ulong)C;
    global const float *place = AT(wpe) + (placed ? t * (ulong)C : 0);

    if (!placed) {
        FOR_VECTORS(c, C)
            STORE(to + c, LOAD(token + c));
        FOR_REST(c, C)
            to[c] = token[c];
        return;
    }
    FOR_VECTORS(c, C)
        STORE(to + c, LOAD(token + c) + LOAD(place + c));
    FOR_REST(c, C)
        to[c] = token[c] + place[c];
}

static uint token_at(global const uint *tokens, uint stride, uint T, uint i)
{
    return tokens[i / T * (ulong)stride + i % T];
}

/* dwte[token] += dout. A group for each of @n rows of dout. */
ROW_KERNEL void embedding_tokens(OUT(float, dwte), IN(uint, tokens), IN(float, dout),
                                 const uint stride, const uint T, const uint C,
                                 const uint n)
{
    global const uint *ids = AT(tokens);
    global const float *d = AT(dout);
    const uint own = get_group_id(0), id = token_at(ids, stride, T, own);
    global float *to = AT(dwte) + id * (ulong)C;

    for (uint i = 0; i < own; i++)
        if (token_at(ids, stride, T, i) == id)
            return;
    for (uint i = own; i < n; i++) {
        global const float *from = d + i * (ulong)C;

        if (token_at(ids, stride, T, i) != id)
            continue;
        FOR_VECTORS(c, C)
            STORE(to + c, LOAD(to + c) + LOAD(from + c));
        FOR_REST(c, C)
            to[c] += from[c];
    }
}

/* dwpe[t] += dout. A group for each position. */
ROW_KERNEL void embedding_places(OUT(float, dwpe), IN(float, dout), const uint B,
                                 const uint T, const uint C)
{
    const ulong t = get_group_id(0);
    global float *to = AT(dwpe) + t * C;
    global const float *from = AT(dout) + t * C;

    for (uint b = 0; b < B; b++, from += (ulong)T * C) {
        FOR_VECTORS(c, C)
            STORE(to + c, LOAD(to + c) + LOAD(from + c));
        FOR_REST(c, C)
            to[c] += from[c];
    }
}

/* targets (B,T) of tokens (B,T+1): what follows each. @n of them. */
kernel void next_tokens(OUT(uint, targets), IN(uint, tokens), const uint T, const uint n)
{
    const uint i = get_global_id(0);

    if (i < n)
        AT(targets)[i] = AT(tokens)[i + i / T + 1];
}
