/*
 * formats/vocab.h - the tables of a byte pair encoding: tokens by id and by bytes, merges
 * by rank and by pair.
 *
 * Filled once by the readers of files or by training, then only read. Pairs are looked up
 * for every pair of neighbours in a text that is new, hence the inline function.
 */
#ifndef CLLM_FORMATS_VOCAB_H
#define CLLM_FORMATS_VOCAB_H

#include "formats/tokenizer.h"

struct cllm_vocab_token {
    uint32_t off;   /* of its bytes in cllm_vocab.bytes */
    uint16_t bytes; /* 0: an unused id */
    uint16_t type;  /* enum cllm_token_type; 0: an unused id */
};

struct cllm_vocab_merge {
    uint32_t left, right, id; /* tokens; the one they become */
};

/* What a pair of neighbours becomes, and when: the least rank first. */
struct cllm_vocab_pair {
    uint64_t key; /* left << 32 | right; UINT64_MAX: an empty slot */
    uint32_t rank, id;
};

struct cllm_vocab {
    uint8_t *bytes;
    size_t n_bytes, room_bytes;
    struct cllm_vocab_token *token; /* by id */
    uint32_t n_tokens, room_tokens;
    uint32_t n_used; /* ids that have a token */
    uint32_t *found; /* hash table: id + 1 of normal tokens by their bytes; 0 empty */
    uint32_t n_found, room_found;   /* room is a power of two, or 0 */
    struct cllm_vocab_merge *merge; /* by rank */
    uint32_t n_merges, room_merges;
    struct cllm_vocab_pair *pair; /* hash table by key */
    uint32_t n_pairs, room_pairs;
    uint32_t byte_id[256]; /* the token of each byte */
    uint32_t *added;       /* ids of special and added tokens, the longest first */
    uint32_t n_added;
    bool by_rank;     /* a rank file: any two neighbours merge whose bytes are a token */
    bool whole_first; /* a piece that is a token is that token, whatever the merges say */
};

/* All empty. */
void cllm_vocab_init(struct cllm_vocab *vocab);
void cllm_vocab_fini(struct cllm_vocab *vocab);

/* Token @id stands for @bytes bytes (1 to CLLM_TOKEN_MAX_BYTES) of @data. @id is below
 * CLLM_TOKENIZER_MAX. Returns 0; -EEXIST without text when the id is taken, or the bytes
 * of a normal token; -ENOMEM with text. */
int cllm_vocab_put(struct cllm_vocab *vocab, uint32_t id, const void *data, size_t bytes,
                   enum cllm_token_type type);

/* The normal token of these bytes, or CLLM_TOKEN_NONE. */
uint32_t cllm_vocab_find(const struct cllm_vocab *vocab, const void *data, size_t bytes);

/* A merge of the next rank, in the list and among the pairs. Returns 0; -EEXIST without
 * text when the pair has one; -ENOMEM with text. */
int cllm_vocab_add_merge(struct cllm_vocab *vocab, uint32_t left, uint32_t right,
                         uint32_t id);

/* The list alone, and the pairs alone, for a rank file, where they differ. A pair that is
 * there keeps what it has. */
int cllm_vocab_list_merge(struct cllm_vocab *vocab, uint32_t left, uint32_t right,
                          uint32_t id);
int cllm_vocab_add_pair(struct cllm_vocab *vocab, uint32_t left, uint32_t right,
                        uint32_t rank, uint32_t id);

/* Sort out special and added tokens, and see that every byte has a token: byte_id of what
 * has not been set is looked up. @name is for messages. Returns 0, CLLM_EDATA or -ENOMEM
 * with text. */
int cllm_vocab_finish(struct cllm_vocab *vocab, const char *name);

static inline const uint8_t *cllm_vocab_bytes(const struct cllm_vocab *vocab, uint32_t id)
{
    return vocab->bytes + vocab->token[id].off;
}

/* Where pair @key begins to be looked for in a table of @room slots. */
static inline uint32_t cllm_vocab_pair_slot(uint64_t key, uint32_t room)
{
    uint64_t mixed = (key ^ key >> 29) * 0x9E3779B97F4A7C15u;

    return (uint32_t)(mixed >> 32) & (room - 1);
}

/* The rank of the pair and what it becomes in @*id; UINT32_MAX: no merge. */
static inline uint32_t cllm_vocab_rank(const struct cllm_vocab *vocab, uint32_t left,
                                       uint32_t right, uint32_t *id)
{
    uint64_t key = (uint64_t)left << 32 | right;

    if (vocab->room_pairs == 0)
        return UINT32_MAX;
    for (uint32_t i = cllm_vocab_pair_slot(key, vocab->room_pairs);;
         i = (i + 1) & (vocab->room_pairs - 1)) {
        const struct cllm_vocab_pair *pair = &vocab->pair[i];

        if (pair->key == key) {
            *id = pair->id;
            return pair->rank;
        }
        if (pair->key == UINT64_MAX)
            return UINT32_MAX;
    }
}

#endif /* CLLM_FORMATS_VOCAB_H */
