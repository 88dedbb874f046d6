/*
 * compute/opencl/rope.cl - rotated positions: pairs of elements of queries and keys turned
 * by an angle that grows with the position. An item for each pair; dimension 1 is rows.
 */
kernel void rope(OUT(float, qkv), IN(float, table), const uint T, const uint D,
                 const uint row, const uint pairs, const uint first,
                 const float direction)
{
    const uint pair = get_global_id(0), half_size = D / 2;
    const ulong r = first + get_global_id(1);
    global const float *angle = AT(table) + r % T * D;
    global float *at;
    float cosine, sine, a, b;

    if (pair >= pairs)
        return;
    at = AT(qkv) + r * row + pair / half_size * D + pair % half_size;
    cosine = angle[pair % half_size];
    sine = direction * angle[half_size + pair % half_size];
    a = at[0];
    b = at[half_size];
    at[0] = a * cosine - b * sine;
    at[half_size] = b * cosine + a * sine;
}
