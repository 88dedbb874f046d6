/*
 * formats/bpe_pairs.h - pairs of neighbouring tokens while a vocabulary is trained: how
 * often each occurs, in which words, and which is the most frequent.
 *
 * Counts of a pair grow until it is pushed and only shrink afterwards. So its place in
 * the heap is never too low, and it is enough to put it right when it comes to the top.
 */
#ifndef CLLM_FORMATS_BPE_PAIRS_H
#define CLLM_FORMATS_BPE_PAIRS_H

#include "base/base.h"

struct cllm_bpe_pair {
    uint32_t left, right; /* tokens */
    int64_t count;
    uint32_t *word; /* words that have, or had, the pair; ascending, each once */
    uint32_t n_words, room_words;
};

struct cllm_bpe_pairs {
    struct cllm_bpe_pair *pair;
    uint32_t n, room;
    uint32_t *slot; /* hash table: pair + 1; 0 is empty */
    uint32_t n_slots;
    struct cllm_bpe_place {
        int64_t count; /* when it was put here */
        uint32_t pair;
    } * heap;
    uint32_t n_heap, room_heap;
};

/* Zeroed memory is an empty one. */
void cllm_bpe_pairs_fini(struct cllm_bpe_pairs *pairs);

/* Pair (@left, @right) occurs @count times more in @word. Words come in ascending order.
 * Returns 0, or -ENOMEM without text. */
int cllm_bpe_pairs_add(struct cllm_bpe_pairs *pairs, uint32_t left, uint32_t right,
                       uint32_t word, int64_t count);

/* It occurs @count times less; it must be there. */
void cllm_bpe_pairs_take(struct cllm_bpe_pairs *pairs, uint32_t left, uint32_t right,
                         int64_t count);

/* Into the heap with pairs @from and later. Returns 0, or -ENOMEM without text. */
int cllm_bpe_pairs_push(struct cllm_bpe_pairs *pairs, uint32_t from);

/* Out of the heap: the most frequent pair, of equals the one with the smaller left, then
 * the smaller right token. False when none is left that occurs. */
bool cllm_bpe_pairs_pop(struct cllm_bpe_pairs *pairs, uint32_t *index);

/* Pair @index is merged: it occurs no more, its list of words is released. */
void cllm_bpe_pairs_forget(struct cllm_bpe_pairs *pairs, uint32_t index);

#endif /* CLLM_FORMATS_BPE_PAIRS_H */
