/*
 * formats/vocab.c - growing arrays and two open hash tables, at most half full.
 */
#include "formats/vocab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"

#define ROOM_FIRST 1024

static int no_memory(void)
{
    return cllm_err(-ENOMEM, "cannot hold the tokenizer");
}

void cllm_vocab_init(struct cllm_vocab *vocab)
{
    *vocab = (struct cllm_vocab){0};
    memset(vocab->byte_id, 0xFF, sizeof vocab->byte_id); /* CLLM_TOKEN_NONE */
}

void cllm_vocab_fini(struct cllm_vocab *vocab)
{
    free(vocab->bytes);
    free(vocab->token);
    free(vocab->found);
    free(vocab->merge);
    free(vocab->pair);
    free(vocab->added);
    cllm_vocab_init(vocab);
}

/* Make room for token @id and @bytes bytes more. */
static int reserve(struct cllm_vocab *vocab, uint32_t id, size_t bytes)
{
    if (id >= vocab->room_tokens) {
        uint32_t room = vocab->room_tokens > 0 ? vocab->room_tokens : ROOM_FIRST;
        while (room <= id)
            room *= 2;
        struct cllm_vocab_token *token = calloc(room, sizeof *token);
        if (token == NULL)
            return no_memory();
        if (vocab->n_tokens > 0)
            memcpy(token, vocab->token, vocab->n_tokens * sizeof *token);
        free(vocab->token);
        vocab->token = token;
        vocab->room_tokens = room;
    }
    if (vocab->room_bytes - vocab->n_bytes < bytes) {
        size_t room = 2 * vocab->room_bytes + 4 * CLLM_TOKEN_MAX_BYTES;
        uint8_t *larger = realloc(vocab->bytes, room);
        if (larger == NULL)
            return no_memory();
        vocab->bytes = larger;
        vocab->room_bytes = room;
    }
    return 0;
}

/* The slot of these bytes: theirs, or the empty one where they belong. */
static uint32_t found_slot(const struct cllm_vocab *vocab, const void *data, size_t bytes)
{
    uint32_t mask = vocab->room_found - 1;
    uint32_t slot = (uint32_t)cllm_hash(data, bytes, 0) & mask;

    for (; vocab->found[slot] != 0; slot = (slot + 1) & mask) {
        uint32_t id = vocab->found[slot] - 1;

        if (vocab->token[id].bytes == bytes &&
            memcmp(cllm_vocab_bytes(vocab, id), data, bytes) == 0)
            break;
    }
    return slot;
}

static int grow_found(struct cllm_vocab *vocab)
{
    uint32_t *old = vocab->found;
    uint32_t n_old = vocab->room_found;
    uint32_t room = n_old > 0 ? 2 * n_old : ROOM_FIRST;
    uint32_t *found = calloc(room, sizeof *found);

    if (found == NULL)
        return no_memory();
    vocab->found = found;
    vocab->room_found = room;
    for (uint32_t i = 0; i < n_old; i++) {
        if (old[i] == 0)
            continue;
        uint32_t id = old[i] - 1;
        found[found_slot(vocab, cllm_vocab_bytes(vocab, id), vocab->token[id].bytes)] =
            id + 1;
    }
    free(old);
    return 0;
}

int cllm_vocab_put(struct cllm_vocab *vocab, uint32_t id, const void *data, size_t bytes,
                   enum cllm_token_type type)
{
    uint32_t slot = 0;

    CLLM_ASSERT(id < CLLM_TOKENIZER_MAX && bytes > 0 && bytes <= CLLM_TOKEN_MAX_BYTES);
    if (id < vocab->n_tokens && vocab->token[id].type != 0)
        return -EEXIST;
    int rc = reserve(vocab, id, bytes);
    if (rc == 0 && type == CLLM_TOKEN_NORMAL && 2 * vocab->n_found >= vocab->room_found)
        rc = grow_found(vocab);
    if (rc < 0)
        return rc;
    if (type == CLLM_TOKEN_NORMAL) {
        slot = found_slot(vocab, data, bytes);
        if (vocab->found[slot] != 0)
            return -EEXIST;
        vocab->found[slot] = id + 1;
        vocab->n_found++;
    }
    memcpy(vocab->bytes + vocab->n_bytes, data, bytes);
    vocab->token[id] = (struct cllm_vocab_token){.off = (uint32_t)vocab->n_bytes,
                                                 .bytes = (uint16_t)bytes,
                                                 .type = (uint16_t)type};
    vocab->n_bytes += bytes;
    vocab->n_used++;
    if (id >= vocab->n_tokens)
        vocab->n_tokens = id + 1;
    return 0;
}

uint32_t cllm_vocab_find(const struct cllm_vocab *vocab, const void *data, size_t bytes)
{
    if (vocab->room_found == 0 || bytes == 0 || bytes > CLLM_TOKEN_MAX_BYTES)
        return CLLM_TOKEN_NONE;
    uint32_t id = vocab->found[found_slot(vocab, data, bytes)] - 1;
    return id != CLLM_TOKEN_NONE && vocab->token[id].type == CLLM_TOKEN_NORMAL
               ? id
               : CLLM_TOKEN_NONE;
}

static uint32_t pair_slot(const struct cllm_vocab *vocab, uint64_t key)
{
    uint32_t i = cllm_vocab_pair_slot(key, vocab->room_pairs);

    while (vocab->pair[i].key != key && vocab->pair[i].key != UINT64_MAX)
        i = (i + 1) & (vocab->room_pairs - 1);
    return i;
}

static int grow_pairs(struct cllm_vocab *vocab)
{
    struct cllm_vocab_pair *old = vocab->pair;
    uint32_t n_old = vocab->room_pairs;
    uint32_t room = n_old > 0 ? 2 * n_old : ROOM_FIRST;
    struct cllm_vocab_pair *pair = malloc(room * sizeof *pair);

    if (pair == NULL)
        return no_memory();
    memset(pair, 0xFF, room * sizeof *pair);
    vocab->pair = pair;
    vocab->room_pairs = room;
    for (uint32_t i = 0; i < n_old; i++) {
        if (old[i].key != UINT64_MAX)
            pair[pair_slot(vocab, old[i].key)] = old[i];
    }
    free(old);
    return 0;
}

int cllm_vocab_add_pair(struct cllm_vocab *vocab, uint32_t left, uint32_t right,
                        uint32_t rank, uint32_t id)
{
    uint64_t key = (uint64_t)left << 32 | right;

    if (2 * vocab->n_pairs >= vocab->room_pairs) {
        int rc = grow_pairs(vocab);
        if (rc < 0)
            return rc;
    }
    struct cllm_vocab_pair *pair = &vocab->pair[pair_slot(vocab, key)];
    if (pair->key == key)
        return -EEXIST;
    *pair = (struct cllm_vocab_pair){.key = key, .rank = rank, .id = id};
    vocab->n_pairs++;
    return 0;
}

int cllm_vocab_list_merge(struct cllm_vocab *vocab, uint32_t left, uint32_t right,
                          uint32_t id)
{
    if (vocab->n_merges == vocab->room_merges) {
        uint32_t room = vocab->room_merges > 0 ? 2 * vocab->room_merges : ROOM_FIRST;
        struct cllm_vocab_merge *larger = realloc(vocab->merge, room * sizeof *larger);
        if (larger == NULL)
            return no_memory();
        vocab->merge = larger;
        vocab->room_merges = room;
    }
    vocab->merge[vocab->n_merges++] = (struct cllm_vocab_merge){left, right, id};
    return 0;
}

int cllm_vocab_add_merge(struct cllm_vocab *vocab, uint32_t left, uint32_t right,
                         uint32_t id)
{
    int rc = cllm_vocab_add_pair(vocab, left, right, vocab->n_merges, id);

    return rc < 0 ? rc : cllm_vocab_list_merge(vocab, left, right, id);
}

/* The longer first, so that the first that fits is the longest; equal ones by id. */
static int compare_added(const void *a, const void *b, void *context)
{
    const struct cllm_vocab *vocab = context;
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    uint16_t left_bytes = vocab->token[left].bytes;
    uint16_t right_bytes = vocab->token[right].bytes;

    if (left_bytes != right_bytes)
        return left_bytes > right_bytes ? -1 : 1;
    return left < right ? -1 : left > right;
}

static int list_added(struct cllm_vocab *vocab)
{
    uint32_t n = 0;

    for (uint32_t id = 0; id < vocab->n_tokens; id++)
        n += vocab->token[id].type > CLLM_TOKEN_NORMAL;
    free(vocab->added);
    vocab->n_added = 0;
    vocab->added = malloc((n > 0 ? n : 1) * sizeof *vocab->added);
    if (vocab->added == NULL)
        return no_memory();
    for (uint32_t id = 0; id < vocab->n_tokens; id++) {
        if (vocab->token[id].type > CLLM_TOKEN_NORMAL)
            vocab->added[vocab->n_added++] = id;
    }
    qsort_r(vocab->added, n, sizeof *vocab->added, compare_added, vocab);
    return 0;
}

int cllm_vocab_finish(struct cllm_vocab *vocab, const char *name)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t data = (uint8_t)byte;

        if (vocab->byte_id[byte] == CLLM_TOKEN_NONE)
            vocab->byte_id[byte] = cllm_vocab_find(vocab, &data, 1);
        if (vocab->byte_id[byte] != CLLM_TOKEN_NONE)
            continue;
        int rc = cllm_err(CLLM_EDATA, "%s: byte 0x%02X has no token", name, byte);
        cllm_err_detail("expected a token for each of the 256 bytes, found %u tokens, "
                        "none of them this one",
                        vocab->n_used);
        cllm_err_hint("byte-level vocabularies alone are read (GPT-2's kind)");
        return rc;
    }
    return list_added(vocab);
}
