/*
 * tests/test_bpe_train.c - counting pieces in parts and by threads, training against the
 * plainest way, ties, limits, and what is saved.
 */
#include "tests/bpe_temp.h"

#include <errno.h>

#include "formats/tokenizer_parts.h"

static struct cllm_bpe_counts *count(const char *text)
{
    struct cllm_bpe_counts *counts = NULL;

    assert_int_equal(cllm_bpe_counts_new(&counts, "gpt2", CLLM_BPE_COUNTS_CAP), 0);
    assert_int_equal(cllm_bpe_counts_add(counts, text, strlen(text)), 0);
    return counts;
}

/* How often the piece @text was counted. */
static uint64_t count_of(const struct cllm_bpe_counts *counts, const char *text)
{
    for (uint32_t i = 0; i < cllm_bpe_counts_size(counts); i++) {
        struct cllm_bpe_piece piece = cllm_bpe_counts_piece(counts, i);

        if (piece.n_bytes == strlen(text) &&
            memcmp(piece.bytes, text, piece.n_bytes) == 0)
            return piece.count;
    }
    return 0;
}

static void pieces_are_counted(void **state)
{
    struct cllm_bpe_counts *counts = count("the the cat, the\xFF\xFF cat's the  x");

    (void)state;
    assert_int_equal(count_of(counts, "the"), 1);
    assert_int_equal(count_of(counts, " the"), 3);
    assert_int_equal(count_of(counts, " cat"), 2);
    assert_int_equal(count_of(counts, "'s"), 1);
    assert_int_equal(count_of(counts, " x"), 1);
    /* "," and " " and the bytes that are no characters have no pairs */
    assert_int_equal(cllm_bpe_counts_size(counts), 5);
    cllm_bpe_counts_free(&counts);
}

/* Text of words that are more or less frequent. */
static char *make_text(uint64_t key, size_t n_words, uint32_t n_letters)
{
    struct draws draws = {.key = key};
    char *text = malloc(n_words * 16 + 1);
    size_t used = 0;

    assert_non_null(text);
    for (size_t i = 0; i < n_words; i++) {
        /* short numbers are more frequent than long ones */
        uint32_t word = draw_below(&draws, 1u << (1 + draw_below(&draws, 10)));

        text[used++] = i % 17 == 16 ? '\n' : ' ';
        do {
            text[used++] = (char)('a' + word % n_letters);
            word /= n_letters;
        } while (word > 0);
    }
    text[used] = '\0';
    return text;
}

/* Byte pair encoding with everything counted anew for each merge. @*n_merges is in how
 * many there may be, and out how many there are. */
struct plain_word {
    uint32_t token[32];
    uint32_t n;
    uint64_t count;
};

static void train_plainly(const struct cllm_bpe_counts *counts,
                          const struct cllm_vocab *bytes, struct cllm_vocab_merge *merge,
                          uint32_t *n_merges)
{
    enum { TOKENS = 400 };
    static uint64_t count[TOKENS][TOKENS];
    uint32_t n_words = cllm_bpe_counts_size(counts), n = 0;
    struct plain_word *word = calloc(n_words, sizeof *word);

    assert_non_null(word);
    assert_true(256 + *n_merges <= TOKENS);
    for (uint32_t i = 0; i < n_words; i++) {
        struct cllm_bpe_piece piece = cllm_bpe_counts_piece(counts, i);

        assert_true(piece.n_bytes <= 32);
        for (uint32_t k = 0; k < piece.n_bytes; k++)
            word[i].token[k] = bytes->byte_id[piece.bytes[k]];
        word[i].n = piece.n_bytes;
        word[i].count = piece.count;
    }
    while (n < *n_merges) {
        uint32_t left = 0, right = 0, made = 256 + n;

        memset(count, 0, sizeof count);
        for (uint32_t i = 0; i < n_words; i++) {
            for (uint32_t k = 1; k < word[i].n; k++)
                count[word[i].token[k - 1]][word[i].token[k]] += word[i].count;
        }
        for (uint32_t a = 0; a < made; a++) {
            for (uint32_t b = 0; b < made; b++) {
                if (count[a][b] > count[left][right]) {
                    left = a;
                    right = b;
                }
            }
        }
        if (count[left][right] < 2)
            break;
        merge[n++] = (struct cllm_vocab_merge){left, right, made};
        for (uint32_t i = 0; i < n_words; i++) {
            uint32_t used = 0;

            for (uint32_t k = 0; k < word[i].n; k++) {
                bool both = k + 1 < word[i].n && word[i].token[k] == left &&
                            word[i].token[k + 1] == right;
                word[i].token[used++] = both ? made : word[i].token[k];
                k += both;
            }
            word[i].n = used;
        }
    }
    free(word);
    *n_merges = n;
}

static void training_is_the_plainest_way_done_faster(void **state)
{
    (void)state;
    for (uint32_t letters = 1; letters <= 4; letters++) {
        for (uint64_t key = 0; key < 6; key++) {
            char *text = make_text(key, 300, letters + 1);
            struct cllm_bpe_counts *counts = count(text);
            struct cllm_tokenizer *tokenizer = NULL;
            struct cllm_vocab_merge merge[120];
            uint32_t n_merges = CLLM_LEN(merge);

            assert_int_equal(
                cllm_bpe_train(counts, 257 + n_merges, NULL, NULL, &tokenizer), 0);
            train_plainly(counts, &tokenizer->vocab, merge, &n_merges);
            assert_int_equal(cllm_tokenizer_merges(tokenizer), n_merges);
            assert_int_equal(cllm_tokenizer_size(tokenizer), 257 + n_merges);
            assert_memory_equal(tokenizer->vocab.merge, merge, n_merges * sizeof *merge);
            cllm_tokenizer_free(&tokenizer);
            cllm_bpe_counts_free(&counts);
            free(text);
        }
    }
}

static void the_vocabulary_does_not_depend_on_threads_or_order(void **state)
{
    char *text = make_text(9, 4000, 5);
    size_t bytes = strlen(text);
    char whole[CLLM_SHA256_HEX_BYTES] = "";

    (void)state;
    for (size_t n_parts = 1; n_parts <= 7; n_parts += 2) {
        struct cllm_bpe_counts *counts[7] = {NULL};
        struct cllm_tokenizer *tokenizer = NULL;
        size_t at = 0;

        for (size_t i = 0; i < n_parts; i++)
            assert_int_equal(cllm_bpe_counts_new(&counts[i], "gpt2", CLLM_BPE_COUNTS_CAP),
                             0);
        for (size_t i = 0; at < bytes; i++) {
            size_t n = n_parts == 1 || bytes - at < 100
                           ? bytes - at
                           : cllm_bpe_counts_cut(counts[0], text + at, 100);

            assert_true(n > 0);
            assert_int_equal(cllm_bpe_counts_add(counts[i % n_parts], text + at, n), 0);
            at += n;
        }
        for (size_t i = n_parts - 1; i > 0; i--)
            assert_int_equal(cllm_bpe_counts_merge(counts[i - 1], counts[i]), 0);
        assert_int_equal(cllm_bpe_train(counts[0], 400, NULL, NULL, &tokenizer), 0);
        if (n_parts == 1)
            memcpy(whole, cllm_tokenizer_hash(tokenizer), sizeof whole);
        assert_string_equal(cllm_tokenizer_hash(tokenizer), whole);
        cllm_tokenizer_free(&tokenizer);
        for (size_t i = 0; i < n_parts; i++)
            cllm_bpe_counts_free(&counts[i]);
    }
    free(text);
}

static void of_equals_the_pair_with_the_smaller_ids_is_first(void **state)
{
    /* ids: '!' is 0, ... 'a' is 64, 'b' 65, 'x' 87, 'y' 88 */
    struct cllm_tokenizer *tokenizer = train_on("xy\nab\nxa\nxy\nab\nxa\n", 260, "gpt2");
    static const uint32_t expected[3][2] = {{64, 65}, {87, 64}, {87, 88}};

    (void)state;
    assert_int_equal(cllm_tokenizer_merges(tokenizer), 3);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t left, right;

        cllm_tokenizer_merge(tokenizer, i, &left, &right);
        assert_int_equal(left, expected[i][0]);
        assert_int_equal(right, expected[i][1]);
    }
    cllm_tokenizer_free(&tokenizer);
}

static void a_corpus_without_pairs_gives_a_smaller_vocabulary(void **state)
{
    static const char *const texts[] = {"", "a b c", "\xFF\xFE", "abcdefghij"};

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(texts); i++) {
        struct cllm_tokenizer *tokenizer = train_on(texts[i], 300, "gpt2");

        assert_int_equal(cllm_tokenizer_size(tokenizer), 257);
        assert_int_equal(cllm_tokenizer_eot(tokenizer), 256);
        cllm_tokenizer_free(&tokenizer);
    }
}

static void memory_is_bounded_and_its_end_is_told(void **state)
{
    struct cllm_bpe_counts *counts = NULL;
    char word[16];
    int rc = 0;

    (void)state;
    assert_int_equal(cllm_bpe_counts_new(&counts, "gpt2", 32 * 1024), 0);
    for (int i = 0; rc == 0 && i < 100000; i++) {
        (void)snprintf(word, sizeof word, " a%c%c%c", 'a' + i % 26, 'a' + i / 26 % 26,
                       'a' + i / 676 % 26);
        rc = cllm_bpe_counts_add(counts, word, strlen(word));
    }
    assert_int_equal(rc, -E2BIG);
    assert_in_range(cllm_bpe_counts_size(counts), 800, 1024);
    assert_int_equal(cllm_bpe_counts_add(counts, " aaaa", 5), 0); /* known */
    cllm_bpe_counts_free(&counts);
}

static void a_long_piece_is_counted_in_parts(void **state)
{
    enum { BYTES = 100000 };
    struct cllm_bpe_counts *counts = NULL;
    char *text = malloc(BYTES);

    (void)state;
    assert_non_null(text);
    memset(text, 'z', BYTES);
    assert_int_equal(cllm_bpe_counts_new(&counts, "gpt2", CLLM_BPE_COUNTS_CAP), 0);
    assert_int_equal(cllm_bpe_counts_add(counts, text, BYTES), 0);
    assert_int_equal(cllm_bpe_counts_size(counts), 2);
    assert_int_equal(cllm_bpe_counts_piece(counts, 0).n_bytes, CLLM_BPE_PIECE_BYTES);
    assert_int_equal(cllm_bpe_counts_piece(counts, 0).count,
                     BYTES / CLLM_BPE_PIECE_BYTES);
    assert_int_equal(cllm_bpe_counts_piece(counts, 1).n_bytes,
                     BYTES % CLLM_BPE_PIECE_BYTES);
    cllm_bpe_counts_free(&counts);
    free(text);
}

static int stop_at(void *context, uint32_t n_tokens)
{
    uint32_t *seen = context;

    *seen = n_tokens;
    return n_tokens >= 320;
}

static void progress_can_stop_it(void **state)
{
    char *text = make_text(1, 2000, 6);
    struct cllm_bpe_counts *counts = count(text);
    struct cllm_tokenizer *tokenizer = NULL;
    uint32_t seen = 0;

    (void)state;
    assert_int_equal(cllm_bpe_train(counts, 500, stop_at, &seen, &tokenizer), -EINTR);
    assert_int_equal(seen, 320);
    assert_null(tokenizer);
    cllm_bpe_counts_free(&counts);
    free(text);
}

static void impossible_wishes_are_refused(void **state)
{
    struct cllm_bpe_counts *counts = count("the the");
    struct cllm_bpe_counts *other = NULL;
    struct cllm_tokenizer *tokenizer = NULL;

    (void)state;
    assert_int_equal(cllm_bpe_train(counts, 256, NULL, NULL, &tokenizer), CLLM_ECONFIG);
    assert_error_says("257");
    assert_int_equal(cllm_bpe_train(counts, 1u << 31, NULL, NULL, &tokenizer),
                     CLLM_ECONFIG);
    assert_int_equal(cllm_bpe_counts_new(&other, "custom", 1 << 20), CLLM_ECONFIG);
    assert_error_says("no pattern \"custom\"");
    cllm_bpe_counts_free(&counts);
}

static void what_is_trained_is_saved_and_is_the_same_when_loaded(void **state)
{
    static const char *const patterns[] = {"gpt2", "cl100k", "qwen2", "o200k"};
    static const char *const files[] = {"", "tokenizer.json", "vocab.json", "merges.txt"};

    for (size_t k = 0; k < CLLM_LEN(patterns); k++) {
        struct cllm_tokenizer *tokenizer = train_on(SAMPLE, 420, patterns[k]);

        assert_int_equal(cllm_tokenizer_save(tokenizer, *state), 0);
        /* vocab.json and merges.txt cannot name a pattern */
        for (size_t i = 0; i < (k == 0 ? CLLM_LEN(files) : 2); i++) {
            struct cllm_tokenizer *loaded = NULL;

            if (cllm_tokenizer_load(&loaded, in(*state, files[i])) != 0)
                fail_msg("%s: %s", files[i], cllm_err_text());
            assert_string_equal(cllm_tokenizer_hash(loaded),
                                cllm_tokenizer_hash(tokenizer));
            assert_string_equal(cllm_tokenizer_pattern_name(loaded), patterns[k]);
            assert_int_equal(cllm_tokenizer_eot(loaded), cllm_tokenizer_eot(tokenizer));
            cllm_tokenizer_free(&loaded);
        }
        cllm_tokenizer_free(&tokenizer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_counted),
        cmocka_unit_test(training_is_the_plainest_way_done_faster),
        cmocka_unit_test(the_vocabulary_does_not_depend_on_threads_or_order),
        cmocka_unit_test(of_equals_the_pair_with_the_smaller_ids_is_first),
        cmocka_unit_test(a_corpus_without_pairs_gives_a_smaller_vocabulary),
        cmocka_unit_test(memory_is_bounded_and_its_end_is_told),
        cmocka_unit_test(a_long_piece_is_counted_in_parts),
        cmocka_unit_test(progress_can_stop_it),
        cmocka_unit_test(impossible_wishes_are_refused),
        cmocka_unit_test_setup_teardown(
            what_is_trained_is_saved_and_is_the_same_when_loaded, temp_setup,
            temp_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
