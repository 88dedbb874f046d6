/*
 * compute/opencl/pack_bf16.cl - an operand of a product, f32, as bf16 in the order in
 * which matmul_mma.cl reads it.
 *
 * Blocks of 64 lines and 32 of k, filled up with zeros, so that nobody who reads has to
 * look where the matrix ends. A block is 256 pieces of 16 bytes: 8 neighbours along k of
 * one line. Piece p of a line lies at place p ^ (line / 2 % 4): eight lines that are read
 * at once then meet all banks of local memory (see matmul_mma.cl).
 *
 * out (line blocks, steps, 64, 4, 8).
 */
#define BLOCK_PIECES 256

kernel void pack_bf16(OUT(uint, out), IN(float, x), const uint lines, const uint k,
                      const uint steps, const uint ld, const uint along_k)
{
    const ulong block = get_global_id(0) / BLOCK_PIECES;
    const uint at = get_global_id(0) % BLOCK_PIECES;
    /* Neighbouring items read neighbours, whichever they are. */
    const uint line = along_k ? at / 4 : at % 64, piece = along_k ? at % 4 : at / 64;
    const ulong l = block / steps * 64 + line, q = block % steps * 32 + piece * 8;
    global uint *to = AT(out) + (block * BLOCK_PIECES + line * 4 +
                                 (piece ^ (line / 2 % 4))) * 4;
    uint bits[8];

    for (uint i = 0; i < 8; i++) {
        float value = 0.0f;

        if (l < lines && q + i < k)
            value = AT(x)[along_k ? l * ld + q + i : (q + i) * ld + l];
        bits[i] = as_uint(round_bf16(value)) >> 16;
    }
    for (uint i = 0; i < 4; i++)
        to[i] = bits[2 * i] | bits[2 * i + 1] << 16;
}
