/*
 * tests/bpe_temp.h - small tokenizers for tests, and encoding in one call.
 */
#ifndef CLLM_TESTS_BPE_TEMP_H
#define CLLM_TESTS_BPE_TEMP_H

#include "tests/formats_temp.h"

#include "base/random.h"
#include "formats/bpe_train.h"
#include "formats/encoder.h"

/* Tokens of different kinds of text in a few lines. */
#define SAMPLE                                                                          \
    "In the beginning God created the heaven and the earth. And the earth was without " \
    "form, and void; and darkness was upon the face of the deep.\nIt's what they'll "   \
    "say "                                                                              \
    "they've said: I'm here, we're there, he'd known it can't be 1234567 or 3.14159!\n" \
    "for (int i = 0; i < n; i++) {\n    total += values[i] * 2;\n    the_end->next = "  \
    "i;\n}"                                                                             \
    "\nZwei Gr\u00fc\u00dfe aus M\u00fcnchen \u2014 \u4e16\u754c\u4f60\u597d\u3002 "    \
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \U0001F601\U0001F601 "   \
    "the "                                                                              \
    "the the  the   the\t\tand\r\nand and and\n\n"

/* Numbers by chance, the same in every run. */
struct draws {
    uint64_t key, index;
};

static inline uint32_t draw_below(struct draws *draws, uint32_t below)
{
    return (uint32_t)(cllm_random_u64(draws->key, CLLM_RANDOM_TEST, draws->index++) %
                      below);
}

/* A tokenizer of @vocab tokens trained on @text. */
static inline struct cllm_tokenizer *train_on(const char *text, uint32_t vocab,
                                              const char *pattern)
{
    struct cllm_bpe_counts *counts = NULL;
    struct cllm_tokenizer *tokenizer = NULL;

    assert_int_equal(cllm_bpe_counts_new(&counts, pattern, CLLM_BPE_COUNTS_CAP), 0);
    assert_int_equal(cllm_bpe_counts_add(counts, text, strlen(text)), 0);
    assert_int_equal(cllm_bpe_train(counts, vocab, NULL, NULL, &tokenizer), 0);
    cllm_bpe_counts_free(&counts);
    return tokenizer;
}

/* Ids of @text into @ids; returns how many. */
static inline size_t encode(struct cllm_encoder *encoder, const void *text, size_t bytes,
                            unsigned flags, uint32_t *ids)
{
    size_t n = 0;

    assert_int_equal(cllm_encoder_encode(encoder, text, bytes, flags, ids, &n), 0);
    assert_true(n <= bytes);
    return n;
}

/* The bytes of @n tokens, which must be those of @text. */
static inline void assert_decodes(const struct cllm_tokenizer *tokenizer,
                                  const uint32_t *ids, size_t n, const void *text,
                                  size_t bytes)
{
    const uint8_t *at = text;

    for (size_t i = 0; i < n; i++) {
        size_t part;
        const uint8_t *token = cllm_tokenizer_token(tokenizer, ids[i], &part);

        assert_true(part > 0 && part <= bytes);
        assert_memory_equal(token, at, part);
        at += part;
        bytes -= part;
    }
    assert_int_equal(bytes, 0);
}

#endif /* CLLM_TESTS_BPE_TEMP_H */
