/*
 * formats/bpe_train.c - merge the most frequent pair in the words that have it, count
 * what changed, and again.
 *
 * A merge looks at those words alone, and in them at the neighbours of each place alone,
 * so the whole takes time in proportion to the pieces, not to pieces times merges.
 */
#include "formats/bpe_train.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/alphabet.h"
#include "formats/bpe_pairs.h"
#include "formats/tokenizer_parts.h"

#define COUNT_MIN      2  /* a pair that occurs once is no rule */
#define PROGRESS_EVERY 64 /* tokens */

/* A piece as tokens. */
struct word {
    uint64_t off; /* of its tokens */
    uint32_t n;
    int64_t count;
};

struct training {
    struct word *word;
    uint32_t n_words;
    uint32_t *token; /* of all words */
    struct cllm_bpe_pairs pairs;
    struct cllm_vocab *vocab; /* of the tokenizer to be */
};

static int no_memory(void)
{
    return cllm_err(-ENOMEM, "cannot train a vocabulary");
}

static void fini(struct training *training)
{
    free(training->word);
    free(training->token);
    cllm_bpe_pairs_fini(&training->pairs);
}

/* Pieces as words of bytes, and their pairs. */
static int begin(struct training *training, const struct cllm_bpe_counts *counts)
{
    uint64_t n_tokens = 0;
    uint32_t n = cllm_bpe_counts_size(counts);

    for (uint32_t i = 0; i < n; i++)
        n_tokens += cllm_bpe_counts_piece(counts, i).n_bytes;
    training->word = malloc((n > 0 ? n : 1) * sizeof *training->word);
    training->token = malloc((n_tokens > 0 ? n_tokens : 1) * sizeof *training->token);
    if (training->word == NULL || training->token == NULL)
        return no_memory();
    n_tokens = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct cllm_bpe_piece piece = cllm_bpe_counts_piece(counts, i);
        uint32_t *token = training->token + n_tokens;

        training->word[i] = (struct word){
            .off = n_tokens, .n = piece.n_bytes, .count = (int64_t)piece.count};
        for (uint32_t k = 0; k < piece.n_bytes; k++) {
            token[k] = training->vocab->byte_id[piece.bytes[k]];
            if (k > 0 && cllm_bpe_pairs_add(&training->pairs, token[k - 1], token[k], i,
                                            (int64_t)piece.count) != 0)
                return no_memory();
        }
        n_tokens += piece.n_bytes;
    }
    training->n_words = n;
    return cllm_bpe_pairs_push(&training->pairs, 0) != 0 ? no_memory() : 0;
}

/* @left and @right become @made wherever they stand together in word @index, from left to
 * right, and their neighbours are counted anew. */
static int merge_word(struct training *training, uint32_t index, uint32_t left,
                      uint32_t right, uint32_t made)
{
    struct word *word = &training->word[index];
    struct cllm_bpe_pairs *pairs = &training->pairs;
    uint32_t *token = training->token + word->off;
    uint32_t n = 0;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < word->n; i++) {
        if (i + 1 == word->n || token[i] != left || token[i + 1] != right) {
            token[n++] = token[i];
            continue;
        }
        if (n > 0) {
            cllm_bpe_pairs_take(pairs, token[n - 1], left, word->count);
            rc = cllm_bpe_pairs_add(pairs, token[n - 1], made, index, word->count);
        }
        if (rc == 0 && i + 2 < word->n) {
            cllm_bpe_pairs_take(pairs, right, token[i + 2], word->count);
            rc = cllm_bpe_pairs_add(pairs, made, token[i + 2], index, word->count);
        }
        token[n++] = made;
        i++;
    }
    word->n = n;
    return rc < 0 ? no_memory() : 0;
}

/* The next token, out of pair @index. Returns 1; 0 when its bytes are a token already,
 * which two ways of merging can lead to: the pair is passed over. */
static int merge_pair(struct training *training, uint32_t index)
{
    struct cllm_vocab *vocab = training->vocab;
    struct cllm_bpe_pair pair = training->pairs.pair[index];
    uint32_t from = training->pairs.n;
    uint32_t made = vocab->n_tokens;
    uint8_t bytes[CLLM_TOKEN_MAX_BYTES];
    size_t n_left = vocab->token[pair.left].bytes;
    size_t n_right = vocab->token[pair.right].bytes;

    _Static_assert(CLLM_BPE_PIECE_BYTES <= CLLM_TOKEN_MAX_BYTES, "a token is in a piece");
    memcpy(bytes, cllm_vocab_bytes(vocab, pair.left), n_left);
    memcpy(bytes + n_left, cllm_vocab_bytes(vocab, pair.right), n_right);
    int rc = cllm_vocab_put(vocab, made, bytes, n_left + n_right, CLLM_TOKEN_NORMAL);
    if (rc == -EEXIST) {
        cllm_bpe_pairs_forget(&training->pairs, index);
        return 0;
    }
    if (rc == 0)
        rc = cllm_vocab_add_merge(vocab, pair.left, pair.right, made);
    for (uint32_t i = 0; rc == 0 && i < pair.n_words; i++)
        rc = merge_word(training, pair.word[i], pair.left, pair.right, made);
    if (rc < 0)
        return rc;
    cllm_bpe_pairs_forget(&training->pairs, index);
    return cllm_bpe_pairs_push(&training->pairs, from) != 0 ? no_memory() : 1;
}

/* Merges until there are @n_tokens tokens, or pairs are too rare. */
static int train(struct training *training, uint32_t n_tokens,
                 cllm_bpe_progress_fn progress, void *context)
{
    const struct cllm_vocab *vocab = training->vocab;
    uint32_t index;

    while (vocab->n_tokens < n_tokens && cllm_bpe_pairs_pop(&training->pairs, &index)) {
        if (training->pairs.pair[index].count < COUNT_MIN)
            break;
        int rc = merge_pair(training, index);
        if (rc < 0)
            return rc;
        if (progress != NULL && vocab->n_tokens % PROGRESS_EVERY == 0 &&
            progress(context, vocab->n_tokens) != 0)
            return cllm_err(-EINTR, "training the vocabulary was stopped");
    }
    return 0;
}

static int add_bytes(struct cllm_vocab *vocab)
{
    int rc = 0;

    for (uint32_t place = 0; rc == 0 && place < 256; place++) {
        uint8_t byte = cllm_alphabet_byte(place);

        vocab->byte_id[byte] = place;
        rc = cllm_vocab_put(vocab, place, &byte, 1, CLLM_TOKEN_NORMAL);
    }
    return rc;
}

int cllm_bpe_train(const struct cllm_bpe_counts *counts, uint32_t vocab,
                   cllm_bpe_progress_fn progress, void *context,
                   struct cllm_tokenizer **out)
{
    struct cllm_tokenizer *tokenizer = NULL;
    struct training training = {0};

    if (vocab < CLLM_BPE_VOCAB_MIN || vocab > CLLM_TOKENIZER_MAX)
        return cllm_err(CLLM_ECONFIG,
                        "a vocabulary has %d to %u tokens (256 bytes, <|endoftext|>), "
                        "found %u",
                        CLLM_BPE_VOCAB_MIN, CLLM_TOKENIZER_MAX, vocab);
    int rc = cllm_tokenizer_new(&tokenizer, CLLM_TOKENIZER_KIND_BPE);
    if (rc < 0)
        return rc;
    training.vocab = &tokenizer->vocab;
    rc = add_bytes(training.vocab);
    if (rc == 0)
        rc = begin(&training, counts);
    if (rc == 0)
        rc = train(&training, vocab - 1, progress, context);
    fini(&training);
    if (rc == 0)
        rc = cllm_vocab_put(&tokenizer->vocab, tokenizer->vocab.n_tokens,
                            CLLM_TOKENIZER_EOT, strlen(CLLM_TOKENIZER_EOT),
                            CLLM_TOKEN_CONTROL);
    if (rc == 0)
        rc = cllm_tokenizer_set_pattern(
            tokenizer, cllm_pattern_find(cllm_bpe_counts_pattern(counts)));
    if (rc == 0)
        rc = cllm_tokenizer_finish(tokenizer, "the trained vocabulary");
    if (rc < 0)
        cllm_tokenizer_free(&tokenizer);
    else
        *out = tokenizer;
    return rc;
}
