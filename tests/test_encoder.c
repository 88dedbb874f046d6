/*
 * tests/test_encoder.c - text to tokens and back: any bytes, long pieces, special tokens,
 * cuts; merges against the plainest way of doing them.
 */
#include "tests/bpe_temp.h"

#include "formats/bpe.h"
#include "formats/token_stream.h"
#include "formats/tokenizer_parts.h"

static const char *const patterns[] = {"gpt2", "cl100k", "qwen2", "o200k"};

/* Of random texts: all that decides about pieces, and bytes that are no characters. */
static const char *const parts[] = {
    "a",    "s",    "the",      " ",    "  ",     "\n",     "\r",         "\t",
    "1",    "23",   "!",        "'",    "'ll",    "/",      "\u00e9",     "\u4e16",
    "\x80", "\xE4", "\xF0\x9F", "\xFF", "\u3000", "\u00a0", "\U0001F601", "and",
};

static size_t random_text(struct draws *draws, uint8_t *text, size_t n_parts)
{
    size_t used = 0;

    for (size_t i = 0; i < n_parts; i++) {
        const char *part = parts[draw_below(draws, CLLM_LEN(parts))];

        used = (size_t)(stpcpy((char *)text + used, part) - (char *)text);
    }
    return used;
}

static void a_byte_is_a_token_of_the_byte_level_tokenizer(void **state)
{
    struct cllm_tokenizer *tokenizer = NULL;
    struct cllm_encoder *encoder = NULL;
    uint8_t text[256];
    uint32_t ids[256];

    (void)state;
    assert_int_equal(cllm_tokenizer_load(&tokenizer, "bytes"), 0);
    assert_int_equal(cllm_tokenizer_size(tokenizer), 256);
    assert_int_equal(cllm_tokenizer_eot(tokenizer), CLLM_TOKEN_NONE);
    assert_string_equal(cllm_tokenizer_kind_name(tokenizer), "bytes");
    assert_string_equal(cllm_tokenizer_pattern_name(tokenizer), "none");
    assert_int_equal(cllm_encoder_new(&encoder, tokenizer), 0);
    for (int i = 0; i < 256; i++)
        text[i] = (uint8_t)(255 - i);
    assert_int_equal(encode(encoder, text, 256, CLLM_ENCODE_SPECIAL, ids), 256);
    for (uint32_t i = 0; i < 256; i++)
        assert_int_equal(ids[i], 255 - i);
    assert_decodes(tokenizer, ids, 256, text, 256);
    assert_int_equal(cllm_tokenizer_cut(tokenizer, text, 100), 100);
    cllm_encoder_free(&encoder);
    cllm_tokenizer_free(&tokenizer);
    assert_null(tokenizer);
}

static void any_bytes_come_back(void **state)
{
    /* CLLM_LONG=1: a million of them */
    uint32_t n_texts = getenv("CLLM_LONG") != NULL ? 1000000 : 20000;
    struct draws draws;
    uint8_t text[512];
    uint32_t ids[512];

    (void)state;
    for (size_t k = 0; k < CLLM_LEN(patterns); k++) {
        struct cllm_tokenizer *tokenizer = train_on(SAMPLE, 400, patterns[k]);
        struct cllm_encoder *encoder = NULL;

        assert_int_equal(cllm_encoder_new(&encoder, tokenizer), 0);
        draws = (struct draws){.key = 7 + 100 * (uint64_t)k};
        for (uint32_t i = 0; i < n_texts / CLLM_LEN(patterns); i++) {
            size_t bytes = draw_below(&draws, 100);

            if (i % 2 == 0)
                bytes = random_text(&draws, text, bytes / 2);
            else
                for (size_t at = 0; at < bytes; at++)
                    text[at] = (uint8_t)draw_below(&draws, 256);
            size_t n = encode(encoder, text, bytes, i & CLLM_ENCODE_SPECIAL, ids);
            assert_decodes(tokenizer, ids, n, text, bytes);
        }
        cllm_encoder_free(&encoder);
        cllm_tokenizer_free(&tokenizer);
    }
}

/* The plainest way: the leftmost pair of least rank, again and again. */
static size_t merge_plainly(const struct cllm_vocab *vocab, const uint8_t *piece,
                            size_t bytes, uint32_t *ids)
{
    for (size_t i = 0; i < bytes; i++)
        ids[i] = vocab->byte_id[piece[i]];
    for (;;) {
        uint32_t best = UINT32_MAX, made = 0, id = 0;
        size_t at = 0;

        for (size_t i = 0; i + 1 < bytes; i++) {
            uint32_t rank = cllm_vocab_rank(vocab, ids[i], ids[i + 1], &id);
            if (rank < best) {
                best = rank;
                made = id;
                at = i;
            }
        }
        if (best == UINT32_MAX)
            return bytes;
        ids[at] = made;
        memmove(ids + at + 1, ids + at + 2, (bytes - at - 2) * sizeof *ids);
        bytes--;
    }
}

static void short_and_long_pieces_merge_as_the_plainest_way_does(void **state)
{
    static const char letters[] = "the and aaaa";
    struct cllm_tokenizer *tokenizer =
        train_on("the the and then andand thethe aaaa aaaaaa aa aaa aaaaaaaaaaaa a aaaa\n"
                 "the aaand tthee hehehe nananana theandthe aaaaaaaa\n",
                 330, "gpt2");
    struct cllm_bpe_scratch scratch = {0};
    struct draws draws;
    uint8_t piece[400];
    uint32_t ids[400], expected[400];
    size_t n = 0;

    (void)state;
    draws = (struct draws){.key = 11 + 100 * (uint64_t)0};
    for (int round = 0; round < 4000; round++) {
        size_t bytes = 1 + draw_below(&draws, round % 2 == 0 ? 80 : 400);

        for (size_t i = 0; i < bytes; i++)
            piece[i] = (uint8_t)letters[draw_below(&draws, sizeof letters - 1)];
        assert_int_equal(cllm_bpe_merge(&tokenizer->vocab, &scratch, piece, bytes,
                                        UINT32_MAX, ids, &n),
                         0);
        assert_int_equal(n, merge_plainly(&tokenizer->vocab, piece, bytes, expected));
        assert_memory_equal(ids, expected, n * sizeof *ids);
    }
    cllm_bpe_scratch_fini(&scratch);
    cllm_tokenizer_free(&tokenizer);
}

static void a_piece_from_the_cache_is_the_piece_computed(void **state)
{
    struct cllm_tokenizer *tokenizer = train_on(SAMPLE, 500, "gpt2");
    struct cllm_encoder *warm = NULL, *cold = NULL;
    struct draws draws;
    uint8_t text[2048];
    uint32_t ids[2048], expected[2048];

    (void)state;
    assert_int_equal(cllm_encoder_new(&warm, tokenizer), 0);
    draws = (struct draws){.key = 3 + 100 * (uint64_t)0};
    for (int i = 0; i < 200; i++) {
        size_t bytes = random_text(&draws, text, 300);
        size_t n = encode(warm, text, bytes, 0, ids);

        assert_int_equal(cllm_encoder_new(&cold, tokenizer), 0);
        assert_int_equal(encode(cold, text, bytes, 0, expected), n);
        assert_memory_equal(ids, expected, n * sizeof *ids);
        cllm_encoder_free(&cold);
    }
    cllm_encoder_free(&warm);
    cllm_tokenizer_free(&tokenizer);
}

static void where_text_may_be_cut_the_tokens_are_the_same(void **state)
{
    struct draws draws;
    uint8_t text[512];
    uint32_t whole[512], cut[512];
    uint32_t n_cuts = 0;

    (void)state;
    for (size_t k = 0; k < CLLM_LEN(patterns); k++) {
        struct cllm_tokenizer *tokenizer = train_on(SAMPLE, 450, patterns[k]);
        struct cllm_encoder *encoder = NULL;

        assert_int_equal(cllm_encoder_new(&encoder, tokenizer), 0);
        draws = (struct draws){.key = 5 + 100 * (uint64_t)k};
        for (int i = 0; i < 40000; i++) {
            size_t bytes = random_text(&draws, text, 1 + draw_below(&draws, 16));
            size_t view = 1 + draw_below(&draws, (uint32_t)bytes);
            size_t at = cllm_tokenizer_cut(tokenizer, text, view);

            assert_in_range(at, 0, view);
            if (at == 0)
                continue;
            size_t n = encode(encoder, text, bytes, 0, whole);
            size_t head = encode(encoder, text, at, 0, cut);
            size_t rest = encode(encoder, text + at, bytes - at, 0, cut + head);
            assert_int_equal(head + rest, n);
            assert_memory_equal(cut, whole, n * sizeof *cut);
            n_cuts++;
        }
        cllm_encoder_free(&encoder);
        cllm_tokenizer_free(&tokenizer);
    }
    assert_true(n_cuts > 20000);
}

static void special_tokens_are_text_unless_they_are_allowed(void **state)
{
    static const char text[] = "the end<|endoftext|><|endoftext|>and <|endoftext";
    struct cllm_tokenizer *tokenizer = train_on(SAMPLE, 400, "gpt2");
    struct cllm_encoder *encoder = NULL;
    uint32_t ids[64];
    uint32_t eot = cllm_tokenizer_eot(tokenizer);
    size_t bytes = strlen(text), n_eot = 0;

    (void)state;
    assert_int_equal(eot, cllm_tokenizer_size(tokenizer) - 1);
    assert_int_equal(cllm_tokenizer_type(tokenizer, eot), CLLM_TOKEN_CONTROL);
    assert_int_equal(cllm_tokenizer_special(tokenizer, "<|endoftext|>"), eot);
    assert_int_equal(cllm_tokenizer_special(tokenizer, "<|endoftext"), CLLM_TOKEN_NONE);
    assert_int_equal(cllm_encoder_new(&encoder, tokenizer), 0);
    size_t n = encode(encoder, text, bytes, CLLM_ENCODE_PLAIN, ids);
    for (size_t i = 0; i < n; i++)
        assert_int_not_equal(ids[i], eot);
    assert_decodes(tokenizer, ids, n, text, bytes);
    n = encode(encoder, text, bytes, CLLM_ENCODE_SPECIAL, ids);
    for (size_t i = 0; i < n; i++)
        n_eot += ids[i] == eot;
    assert_int_equal(n_eot, 2);
    assert_decodes(tokenizer, ids, n, text, bytes);
    assert_int_equal(encode(encoder, text, 0, CLLM_ENCODE_SPECIAL, ids), 0);
    cllm_encoder_free(&encoder);
    cllm_tokenizer_free(&tokenizer);
}

static void a_stream_shows_whole_characters_and_loses_nothing(void **state)
{
    struct cllm_tokenizer *tokenizer = NULL;
    struct cllm_token_stream stream;
    struct draws draws;
    char out[CLLM_TOKEN_STREAM_ROOM];
    uint8_t text[512], shown[512];

    (void)state;
    assert_int_equal(cllm_tokenizer_load(&tokenizer, "bytes"), 0);
    cllm_token_stream_init(&stream, tokenizer);
    static const uint8_t face[] = {0xF0, 0x9F, 0x98, 0x81};
    for (int i = 0; i < 3; i++)
        assert_int_equal(cllm_token_stream_put(&stream, face[i], out), 0);
    assert_int_equal(cllm_token_stream_put(&stream, face[3], out), 4);
    assert_memory_equal(out, face, 4);
    /* half a character, and then something else */
    assert_int_equal(cllm_token_stream_put(&stream, 0xE4, out), 0);
    assert_int_equal(cllm_token_stream_put(&stream, 'a', out), 2);
    assert_memory_equal(out,
                        "\xE4"
                        "a",
                        2);
    draws = (struct draws){.key = 13 + 100 * (uint64_t)0};
    for (int i = 0; i < 5000; i++) {
        size_t bytes = random_text(&draws, text, draw_below(&draws, 12));
        size_t used = 0;

        for (size_t at = 0; at < bytes; at++) {
            size_t n = cllm_token_stream_put(&stream, text[at], out);
            memcpy(shown + used, out, n);
            used += n;
            assert_true(at + 1 - used <= 3);
        }
        size_t n = cllm_token_stream_end(&stream, out);
        memcpy(shown + used, out, n);
        assert_int_equal(used + n, bytes);
        assert_memory_equal(shown, text, bytes);
    }
    cllm_tokenizer_free(&tokenizer);
}

static void a_megabyte_of_one_letter_takes_no_time(void **state)
{
    enum { BYTES = 1 << 20 };
    struct cllm_tokenizer *tokenizer =
        train_on("aaaaaaaa aaaaaaaa aaaa aaaa", 262, "gpt2");
    struct cllm_encoder *encoder = NULL;
    char *text = malloc(BYTES);
    uint32_t *ids = malloc(BYTES * sizeof *ids);

    (void)state;
    assert_non_null(text);
    assert_non_null(ids);
    memset(text, 'a', BYTES);
    assert_int_equal(cllm_encoder_new(&encoder, tokenizer), 0);
    size_t n = encode(encoder, text, BYTES, 0, ids);
    assert_in_range(n, BYTES / 8, BYTES / 4);
    assert_decodes(tokenizer, ids, n, text, BYTES);
    cllm_encoder_free(&encoder);
    cllm_tokenizer_free(&tokenizer);
    free(ids);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_byte_is_a_token_of_the_byte_level_tokenizer),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(short_and_long_pieces_merge_as_the_plainest_way_does),
        cmocka_unit_test(a_piece_from_the_cache_is_the_piece_computed),
        cmocka_unit_test(where_text_may_be_cut_the_tokens_are_the_same),
        cmocka_unit_test(special_tokens_are_text_unless_they_are_allowed),
        cmocka_unit_test(a_stream_shows_whole_characters_and_loses_nothing),
        cmocka_unit_test(a_megabyte_of_one_letter_takes_no_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
