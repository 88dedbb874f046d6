/*
 * formats/bpe.c - merging by search, and by heap.
 */
#include "formats/bpe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SHORT_BYTES 64
#define NOWHERE     UINT32_MAX

void cllm_bpe_scratch_fini(struct cllm_bpe_scratch *scratch)
{
    free(scratch->words);
    *scratch = (struct cllm_bpe_scratch){0};
}

/* The first of @n ranks that is the least. */
static size_t least(const uint32_t *rank, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        best = rank[i] < rank[best] ? i : best;
    return best;
}

static size_t merge_short(const struct cllm_vocab *vocab, size_t n, uint32_t limit,
                          uint32_t *ids)
{
    uint32_t rank[SHORT_BYTES]; /* of the pair (i, i + 1) */
    uint32_t made[SHORT_BYTES] = {0};

    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = cllm_vocab_rank(vocab, ids[i], ids[i + 1], &made[i]);
    while (n > 1) {
        size_t i = least(rank, n - 1);

        if (rank[i] >= limit)
            break;
        ids[i] = made[i];
        n--;
        memmove(ids + i + 1, ids + i + 2, (n - i - 1) * sizeof *ids);
        if (i + 1 < n) {
            memmove(rank + i + 1, rank + i + 2, (n - i - 2) * sizeof *rank);
            memmove(made + i + 1, made + i + 2, (n - i - 2) * sizeof *made);
            rank[i] = cllm_vocab_rank(vocab, ids[i], ids[i + 1], &made[i]);
        }
        if (i > 0)
            rank[i - 1] = cllm_vocab_rank(vocab, ids[i - 1], ids[i], &made[i - 1]);
    }
    return n;
}

/* A long piece: tokens in a doubly linked list by position, pairs in a heap. */
struct list {
    const struct cllm_vocab *vocab;
    uint32_t limit;
    uint32_t *id;          /* by position; the caller's ids */
    uint32_t *prev, *next; /* positions; NOWHERE at the ends */
    uint32_t *rank;        /* of the pair that begins here; NOWHERE: none */
    uint32_t *made;        /* what that pair becomes */
    uint64_t *heap;        /* rank << 32 | position: the least is the next merge */
    size_t n_heap;
};

static void sift_up(uint64_t *heap, size_t i)
{
    uint64_t item = heap[i];

    for (; i > 0 && heap[(i - 1) / 2] > item; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = item;
}

static void sift_down(uint64_t *heap, size_t n, uint64_t item)
{
    size_t i = 0;

    for (size_t child = 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= item)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = item;
}

static uint64_t pop(struct list *list)
{
    uint64_t top = list->heap[0];

    list->n_heap--;
    if (list->n_heap > 0)
        sift_down(list->heap, list->n_heap, list->heap[list->n_heap]);
    return top;
}

/* Look the pair up that begins at @at. What the heap holds of an earlier pair there is
 * known by its rank, which is another one. */
static void look(struct list *list, uint32_t at)
{
    uint32_t next = list->next[at];

    list->rank[at] = NOWHERE;
    if (next == NOWHERE)
        return;
    uint32_t rank =
        cllm_vocab_rank(list->vocab, list->id[at], list->id[next], &list->made[at]);
    if (rank >= list->limit)
        return;
    list->rank[at] = rank;
    list->heap[list->n_heap] = (uint64_t)rank << 32 | at;
    sift_up(list->heap, list->n_heap++);
}

static void merge_all(struct list *list)
{
    while (list->n_heap > 0) {
        uint64_t top = pop(list);
        uint32_t at = (uint32_t)top;

        if (list->rank[at] != (uint32_t)(top >> 32))
            continue;
        uint32_t gone = list->next[at];
        list->id[at] = list->made[at];
        list->rank[gone] = NOWHERE;
        list->next[at] = list->next[gone];
        if (list->next[at] != NOWHERE)
            list->prev[list->next[at]] = at;
        look(list, at);
        if (list->prev[at] != NOWHERE)
            look(list, list->prev[at]);
    }
}

static int merge_long(const struct cllm_vocab *vocab, struct cllm_bpe_scratch *scratch,
                      size_t bytes, uint32_t limit, uint32_t *ids, size_t *n)
{
    /* Each merge takes one pair from the heap and puts back two at most: a heap of twice
     * the length is enough, in words of 64 bits. */
    size_t words = 4 * bytes + 2 * 2 * bytes;

    if (bytes >= NOWHERE)
        return -ENOMEM;
    if (words > scratch->room) {
        free(scratch->words);
        scratch->words = malloc(words * sizeof *scratch->words);
        scratch->room = scratch->words != NULL ? words : 0;
        if (scratch->words == NULL)
            return -ENOMEM;
    }
    struct list list = {.vocab = vocab,
                        .limit = limit,
                        .id = ids,
                        .heap = (uint64_t *)(void *)scratch->words,
                        .prev = scratch->words + 4 * bytes,
                        .next = scratch->words + 5 * bytes,
                        .rank = scratch->words + 6 * bytes,
                        .made = scratch->words + 7 * bytes};
    for (uint32_t i = 0; i < bytes; i++) {
        list.prev[i] = i > 0 ? i - 1 : NOWHERE;
        list.next[i] = i + 1 < bytes ? i + 1 : NOWHERE;
    }
    for (uint32_t i = 0; i < bytes; i++)
        look(&list, i);
    merge_all(&list);
    *n = 0;
    for (uint32_t i = 0; i != NOWHERE; i = list.next[i])
        ids[(*n)++] = ids[i];
    return 0;
}

int cllm_bpe_merge(const struct cllm_vocab *vocab, struct cllm_bpe_scratch *scratch,
                   const uint8_t *piece, size_t bytes, uint32_t limit, uint32_t *ids,
                   size_t *n)
{
    for (size_t i = 0; i < bytes; i++)
        ids[i] = vocab->byte_id[piece[i]];
    if (bytes > SHORT_BYTES)
        return merge_long(vocab, scratch, bytes, limit, ids, n);
    *n = merge_short(vocab, bytes, limit, ids);
    return 0;
}
