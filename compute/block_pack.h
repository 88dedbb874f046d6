/*
 * compute/block_pack.h - operands of compute/blocked.c, packed into panels.
 *
 * Of f32 numbers, or rounded to bf16: two in a word, where an instruction takes pairs
 * (compute/pairs.h), else as f32 numbers in the order in which it would add them.
 */
#ifndef CLLM_COMPUTE_BLOCK_PACK_H
#define CLLM_COMPUTE_BLOCK_PACK_H

#include "compute/pairs.h"
#include "compute/panel.h"

#if defined(__FMA__)

/* Whether pairs of bf16 are multiplied and added in one instruction. CPUs with AMX do one
 * in the time of four multiply-adds. */
#    if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
#        define HAS_PAIRS true
#    else
#        define HAS_PAIRS false
#    endif

/* A panel of an operand where it lies: @count rows along k, or columns across. */
struct strip {
    const float *x;
    size_t ld, count;
    bool along;
};

/* How deep a panel is as a tile takes it. */
static inline size_t depth_of_panel(size_t depth, bool bf16)
{
    if (!bf16)
        return depth;
    return HAS_PAIRS ? (depth + 1) / 2 : cllm_align_up(depth, 2);
}

/* A panel (depth,width) of f32; what @strip lacks is 0. With sizes that the compiler
 * knows it is fast. */
static inline __attribute__((always_inline)) void pack_plain(float *to, size_t width,
                                                             const struct strip *strip,
                                                             size_t depth)
{
    bool whole = strip->count == width;

    if (strip->along && whole)
        pack_along(to, width, strip->x, strip->ld, width, depth);
    else if (strip->along)
        pack_along(to, width, strip->x, strip->ld, strip->count, depth);
    else if (whole)
        pack_across(to, width, strip->x, strip->ld, width, depth);
    else
        pack_across(to, width, strip->x, strip->ld, strip->count, depth);
}

#    if HAS_PAIRS

/* 16 words of each of 16 pairs of k, or of fewer. What is behind @width the next pair
 * writes over, or it is behind the panel. */
static inline __attribute__((always_inline)) void pack_words(float *to, size_t width,
                                                             const struct part *part)
{
    __m512i word[WORDS];

#        pragma GCC unroll 16
    for (size_t i = 0; i < WORDS; i++) {
        const struct halves row = load_row(part, i);

        word[i] = part->along ? round_halves(&row) : interleave(round_halves(&row));
    }
    if (part->along)
        transpose(word);
#        pragma GCC unroll 16
    for (size_t i = 0; i < WORDS; i++)
        if (2 * i < part->depth)
            _mm512_storeu_si512(to + i * width, word[i]);
}

static inline __attribute__((always_inline)) void pack_strip(float *to, size_t width,
                                                             const struct strip *strip,
                                                             bool along, size_t depth)
{
    const size_t wide = cllm_min_u64(width, WORDS);

    for (size_t p = 0; p < depth; p += 2 * WORDS)
        for (size_t i = 0; i < width; i += WORDS) {
            float *at = to + p / 2 * width + i;
            struct part part = {
                .x = strip->x + (along ? i * strip->ld + p : p * strip->ld + i),
                .ld = strip->ld,
                .n = cllm_min_u64(wide, strip->count - cllm_min_u64(strip->count, i)),
                .depth = depth - p,
                .along = along};

            if (part.n == wide && part.depth >= 2 * WORDS) {
                part.n = wide; /* known numbers: fewer questions */
                part.depth = 2 * WORDS;
                pack_words(at, width, &part);
            } else {
                pack_words(at, width, &part);
            }
        }
}

/* A panel of bf16 as the instruction takes them. Like pack_along() it may write behind
 * its end. */
static inline __attribute__((always_inline)) void pack_pairs(float *to, size_t width,
                                                             const struct strip *strip,
                                                             size_t depth)
{
    if (strip->along)
        pack_strip(to, width, strip, true, depth);
    else
        pack_strip(to, width, strip, false, depth);
}

#    else

/* A panel of bf16 as f32 numbers, the second of each pair first. A pair cut off by the
 * end of k has a zero. */
static inline __attribute__((always_inline)) void pack_pairs(float *to, size_t width,
                                                             const struct strip *strip,
                                                             size_t depth)
{
    float first[2 * WIDTH]; /* the compiler need not fear that they overlap */
    size_t even = cllm_align_up(depth, 2);

    pack_plain(to, width, strip, depth);
    if (depth % 2 != 0)
        memset(to + depth * width, 0, width * sizeof *to);
    for (size_t i = 0; i < even * width; i++)
        to[i] = cllm_f32_from_bits(round_bf16(to[i]));
    for (size_t p = 0; p < even; p += 2) {
        float *x = to + p * width;

        memcpy(first, x, width * sizeof *x);
        memcpy(x, x + width, width * sizeof *x);
        memcpy(x + width, first, width * sizeof *x);
    }
}

#    endif

static inline __attribute__((always_inline)) void pack_width(float *to, size_t width,
                                                             const struct strip *strip,
                                                             size_t depth, bool bf16)
{
    if (bf16)
        pack_pairs(to, width, strip, depth);
    else
        pack_plain(to, width, strip, depth);
}

#endif

#endif /* CLLM_COMPUTE_BLOCK_PACK_H */
