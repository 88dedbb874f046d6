/*
 * formats/bpe_pairs.c - a hash table of pairs, and a heap over it that is put right late.
 */
#include "formats/bpe_pairs.h"

#include <errno.h>
#include <stdlib.h>

#define ROOM_FIRST 4096

void cllm_bpe_pairs_fini(struct cllm_bpe_pairs *pairs)
{
    for (uint32_t i = 0; i < pairs->n; i++)
        free(pairs->pair[i].word);
    free(pairs->pair);
    free(pairs->slot);
    free(pairs->heap);
    *pairs = (struct cllm_bpe_pairs){0};
}

static uint32_t first_slot(const struct cllm_bpe_pairs *pairs, uint32_t left,
                           uint32_t right)
{
    uint64_t key = (uint64_t)left << 32 | right;

    return (uint32_t)((key ^ key >> 29) * 0x9E3779B97F4A7C15u >> 32) &
           (pairs->n_slots - 1);
}

/* The slot of the pair, or the empty one where it belongs. */
static uint32_t find_slot(const struct cllm_bpe_pairs *pairs, uint32_t left,
                          uint32_t right)
{
    uint32_t at = first_slot(pairs, left, right);

    for (; pairs->slot[at] != 0; at = (at + 1) & (pairs->n_slots - 1)) {
        const struct cllm_bpe_pair *pair = &pairs->pair[pairs->slot[at] - 1];

        if (pair->left == left && pair->right == right)
            break;
    }
    return at;
}

static int grow(struct cllm_bpe_pairs *pairs)
{
    uint32_t room = pairs->room > 0 ? 2 * pairs->room : ROOM_FIRST;
    struct cllm_bpe_pair *larger = realloc(pairs->pair, room * sizeof *larger);

    if (larger == NULL)
        return -ENOMEM;
    pairs->pair = larger;
    uint32_t *slot = calloc(2 * (size_t)room, sizeof *slot);
    if (slot == NULL)
        return -ENOMEM;
    free(pairs->slot);
    pairs->slot = slot;
    pairs->n_slots = 2 * room;
    pairs->room = room;
    for (uint32_t i = 0; i < pairs->n; i++)
        slot[find_slot(pairs, larger[i].left, larger[i].right)] = i + 1;
    return 0;
}

int cllm_bpe_pairs_add(struct cllm_bpe_pairs *pairs, uint32_t left, uint32_t right,
                       uint32_t word, int64_t count)
{
    if (pairs->n == pairs->room) {
        int rc = grow(pairs);
        if (rc < 0)
            return rc;
    }
    uint32_t slot = find_slot(pairs, left, right);
    if (pairs->slot[slot] == 0) {
        pairs->pair[pairs->n++] = (struct cllm_bpe_pair){.left = left, .right = right};
        pairs->slot[slot] = pairs->n;
    }
    struct cllm_bpe_pair *pair = &pairs->pair[pairs->slot[slot] - 1];
    pair->count += count;
    if (pair->n_words > 0 && pair->word[pair->n_words - 1] == word)
        return 0;
    if (pair->n_words == pair->room_words) {
        uint32_t room = pair->room_words > 0 ? 2 * pair->room_words : 2;
        uint32_t *larger = realloc(pair->word, room * sizeof *larger);
        if (larger == NULL)
            return -ENOMEM;
        pair->word = larger;
        pair->room_words = room;
    }
    pair->word[pair->n_words++] = word;
    return 0;
}

void cllm_bpe_pairs_take(struct cllm_bpe_pairs *pairs, uint32_t left, uint32_t right,
                         int64_t count)
{
    uint32_t slot = find_slot(pairs, left, right);

    CLLM_ASSERT(pairs->slot[slot] != 0);
    pairs->pair[pairs->slot[slot] - 1].count -= count;
}

/* Whether @a is to be merged before @b. */
static bool is_before(const struct cllm_bpe_pairs *pairs, struct cllm_bpe_place a,
                      struct cllm_bpe_place b)
{
    const struct cllm_bpe_pair *left = &pairs->pair[a.pair];
    const struct cllm_bpe_pair *right = &pairs->pair[b.pair];

    if (a.count != b.count)
        return a.count > b.count;
    if (left->left != right->left)
        return left->left < right->left;
    return left->right < right->right;
}

static void sift_up(struct cllm_bpe_pairs *pairs, uint32_t i)
{
    struct cllm_bpe_place place = pairs->heap[i];

    for (; i > 0 && is_before(pairs, place, pairs->heap[(i - 1) / 2]); i = (i - 1) / 2)
        pairs->heap[i] = pairs->heap[(i - 1) / 2];
    pairs->heap[i] = place;
}

/* Put @place in from the top. */
static void sift_down(struct cllm_bpe_pairs *pairs, struct cllm_bpe_place place)
{
    struct cllm_bpe_place *heap = pairs->heap;
    uint32_t i = 0;

    for (uint32_t child = 1; child < pairs->n_heap; child = 2 * i + 1) {
        if (child + 1 < pairs->n_heap && is_before(pairs, heap[child + 1], heap[child]))
            child++;
        if (!is_before(pairs, heap[child], place))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = place;
}

int cllm_bpe_pairs_push(struct cllm_bpe_pairs *pairs, uint32_t from)
{
    for (uint32_t i = from; i < pairs->n; i++) {
        if (pairs->pair[i].count <= 0)
            continue;
        if (pairs->n_heap == pairs->room_heap) {
            uint32_t room = pairs->room_heap > 0 ? 2 * pairs->room_heap : ROOM_FIRST;
            struct cllm_bpe_place *larger = realloc(pairs->heap, room * sizeof *larger);
            if (larger == NULL)
                return -ENOMEM;
            pairs->heap = larger;
            pairs->room_heap = room;
        }
        pairs->heap[pairs->n_heap] = (struct cllm_bpe_place){pairs->pair[i].count, i};
        sift_up(pairs, pairs->n_heap++);
    }
    return 0;
}

bool cllm_bpe_pairs_pop(struct cllm_bpe_pairs *pairs, uint32_t *index)
{
    while (pairs->n_heap > 0) {
        struct cllm_bpe_place top = pairs->heap[0];
        int64_t count = pairs->pair[top.pair].count;

        if (top.count == count && count > 0) {
            *index = top.pair;
            pairs->n_heap--;
            if (pairs->n_heap > 0)
                sift_down(pairs, pairs->heap[pairs->n_heap]);
            return true;
        }
        top.count = count;
        if (count <= 0) {
            cllm_bpe_pairs_forget(pairs, top.pair);
            pairs->n_heap--;
            if (pairs->n_heap == 0)
                break;
            top = pairs->heap[pairs->n_heap];
        }
        sift_down(pairs, top);
    }
    return false;
}

void cllm_bpe_pairs_forget(struct cllm_bpe_pairs *pairs, uint32_t index)
{
    struct cllm_bpe_pair *pair = &pairs->pair[index];

    free(pair->word);
    pair->word = NULL;
    pair->n_words = pair->room_words = 0;
    pair->count = 0;
}
