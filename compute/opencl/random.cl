/*
 * compute/opencl/random.cl - the random numbers of base/random.c: functions of a key and of
 * an index, no state.
 *
 * Philox4x32-10 (Salmon and others: "Parallel random numbers: as easy as 1, 2, 3"). In: a
 * block's index, the stream, 0; out: the block's four words.
 */
#define DEFINE_WORDS(name, T)                                            \
    static void name(T *w, ulong key)                                    \
    {                                                                    \
        uint k0 = (uint)key, k1 = (uint)(key >> 32);                     \
                                                                         \
        for (int i = 0; i < 10; i++) {                                   \
            const T m0 = (T)(0xD2511F53u), m1 = (T)(0xCD9E8D57u);        \
            const T high0 = mul_hi(w[0], m0), low0 = w[0] * m0;          \
            const T high1 = mul_hi(w[2], m1), low1 = w[2] * m1;          \
                                                                         \
            w[0] = high1 ^ w[1] ^ (T)(k0);                               \
            w[1] = low1;                                                 \
            w[2] = high0 ^ w[3] ^ (T)(k1);                               \
            w[3] = low0;                                                 \
            k0 += 0x9E3779B9u;                                           \
            k1 += 0xBB67AE85u;                                           \
        }                                                                \
    }

DEFINE_WORDS(words_of_one, uint)
