/*
 * tests/test_prep_reader.c - files to pieces: nothing lost, documents where they begin,
 * tokens as if nothing had been cut, and any piece's end a place to begin again.
 */
#include "tests/formats_temp.h"

#include "formats/bpe_train.h"
#include "tests/packed.h"
#include "tools/prep_piece.h"

/* Cuts behind a newline. */
static size_t cut_lines(const void *context, const void *text, size_t bytes)
{
    const uint8_t *newline = memrchr(text, '\n', bytes);

    (void)context;
    return newline == NULL ? 0 : (size_t)(newline - (const uint8_t *)text) + 1;
}

static size_t cut_nowhere(const void *context, const void *text, size_t bytes)
{
    (void)context, (void)text, (void)bytes;
    return 0;
}

/* How a test reads. */
struct reading {
    const char *separator;
    cllm_prep_cut_fn cut;
    const void *context;
    size_t piece_bytes;
};

/* All pieces as text: "[" where a document begins, "{LINE:" before lines of JSON; places
 * behind each piece in @place, which may be NULL. @begin may be NULL. The caller frees.
 */
static char *read_all(const struct cllm_prep_input *input, const struct reading *how,
                      const struct cllm_prep_place *begin, struct cllm_prep_place *place,
                      size_t *n_pieces)
{
    const struct cllm_prep_place zero = {0};
    struct cllm_prep_piece piece = {.n_parts = 0};
    struct cllm_prep_bytes out = {0};
    struct cllm_prep_reader reader;
    char mark[32];
    int rc;

    cllm_prep_reader_init(&reader, input, how->separator, how->cut, how->context,
                          begin == NULL ? &zero : begin);
    reader.piece_bytes = how->piece_bytes;
    reader.cut_max = 4 * how->piece_bytes;
    reader.line_max = 1 << 20;
    *n_pieces = 0;
    while ((rc = cllm_prep_reader_next(&reader, &piece)) == 1) {
        for (size_t i = 0; i < piece.n_parts; i++) {
            const struct cllm_prep_part *part = &piece.part[i];
            (void)snprintf(mark, sizeof mark, "{%d:", (int)part->line);
            const char *text = part->jsonl ? mark : part->begins ? "[" : "";
            assert_true(part->n > 0);
            assert_int_equal(cllm_prep_bytes_add(&out, text, strlen(text)), 0);
            assert_int_equal(cllm_prep_bytes_add(&out, piece.text.at + part->at, part->n),
                             0);
        }
        if (place != NULL)
            place[*n_pieces] = piece.after;
        ++*n_pieces;
    }
    assert_int_equal(rc, 0);
    assert_int_equal(cllm_prep_bytes_add(&out, "", 1), 0);
    cllm_prep_reader_fini(&reader);
    cllm_prep_piece_fini(&piece);
    return (char *)out.at;
}

/* The input of file @name alone with this text. */
static void input_of(struct cllm_prep_input *input, const char *dir, const char *name,
                     const char *text)
{
    static char path[CLLM_FILE_PATH_BYTES];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    put_file(path, text, strlen(text));
    cllm_prep_input_init(input, dir, CLLM_PREP_FORMAT_AUTO);
    assert_int_equal(cllm_prep_input_add(input, path), 0);
}

static void pieces_are_the_documents_whatever_their_size(void **state)
{
    static const struct {
        const char *name, *separator, *text, *expected;
    } cases[] = {
        {"a", "", "one\ntwo\nthree\nfour", "[one\ntwo\nthree\nfour"},
        {"a", "", "\xef\xbb\xbfmarked\n", "[marked\n"},
        {"a", "--", "one\n--\ntwo\n\nx--\n--\r\n--\n\nthree\n--",
         "[one\n[two\n\nx--\n[\nthree\n"},
        {"a", "--", "--\n--\none\n---\n", "[one\n---\n"},
        {"a", "--", "one\r\n--\r\ntwo", "[one\r\n[two"},
        {"a", "--", "--", ""},
        {"a", "--", "one --\n-- two\n --\n", "[one --\n-- two\n --\n"},
    };

    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        struct cllm_prep_input input;
        input_of(&input, *state, cases[i].name, cases[i].text);
        for (size_t bytes = 1; bytes < 40; bytes++) {
            struct reading how = {cases[i].separator, cut_lines, NULL, bytes};
            size_t n;
            char *text = read_all(&input, &how, NULL, NULL, &n);
            /* A line longer than four pieces may be cut anywhere, a separator not. */
            assert_string_equal(text, cases[i].expected);
            free(text);
        }
        cllm_prep_input_fini(&input);
    }
}

static void lines_of_json_stay_whole_and_numbered(void **state)
{
    struct cllm_prep_input input;
    char lines[4096] = "";
    size_t n;

    for (int i = 0; i < 40; i++)
        (void)snprintf(lines + strlen(lines), sizeof lines - strlen(lines),
                       "{\"text\": \"%.*s\"}\n", i,
                       "0123456789012345678901234567890123456789");
    input_of(&input, *state, "a.jsonl", lines);
    struct reading how = {"", cut_nowhere, NULL, 1};
    char *text = read_all(&input, &how, NULL, NULL, &n);
    assert_int_equal(n, 40);
    assert_non_null(strstr(text, "{40:{\"text\": \"012345"));
    free(text);
    how.piece_bytes = 200;
    text = read_all(&input, &how, NULL, NULL, &n);
    assert_in_range(n, 6, 14);
    free(text);
    cllm_prep_input_fini(&input);
}

static void reading_begins_again_behind_any_piece(void **state)
{
    static const char plain[] = "one\ntwo\n--\nthree three three three\nfour\n--\nfive";
    static const char lines[] =
        "{\"text\": \"a\"}\n\n{\"text\": \"b\"}\n{\"text\": \"c\"}";
    uint8_t packed[sizeof plain + PACKED_ROOM];
    struct cllm_prep_input input;
    struct cllm_prep_place place[100];

    put_file(in(*state, "a"), plain, sizeof plain - 1);
    put_file(in(*state, "b"), packed, packed_gzip(packed, plain, sizeof plain - 1));
    put_file(in(*state, "c.jsonl"), lines, sizeof lines - 1);
    put_file(in(*state, "d"), packed, packed_zstd(packed, plain, sizeof plain - 1));
    cllm_prep_input_init(&input, in(*state, "none"), CLLM_PREP_FORMAT_AUTO);
    assert_int_equal(cllm_prep_input_add(&input, *state), 0);
    assert_int_equal(input.n_packed, 2);
    for (size_t bytes = 1; bytes < 200; bytes += 3) {
        for (size_t k = 0; k < 2; k++) {
            struct reading how = {"--", k == 0 ? cut_lines : cut_nowhere, NULL, bytes};
            size_t n, rest;
            char *all = read_all(&input, &how, NULL, place, &n);
            assert_in_range(n, 1, CLLM_LEN(place));
            for (size_t i = 0; i < n; i++) {
                char *tail = read_all(&input, &how, &place[i], NULL, &rest);
                assert_int_equal(rest, n - 1 - i);
                assert_string_equal(all + strlen(all) - strlen(tail), tail);
                free(tail);
            }
            free(all);
        }
    }
    cllm_prep_input_fini(&input);
}

/* Sound frames, then a damaged one. */
static void a_damaged_stream_is_refused_wherever_reading_begins(void **state)
{
    static const char plain[] = "one\ntwo\nthree three three three\nfour\nfive five\n";
    static const uint8_t bad[] = {0x28, 0xb5, 0x2f, 0xfd, 0, 0x74, 0x07, 0, 0};
    uint8_t packed[3 * (sizeof plain + PACKED_ROOM) + sizeof bad];
    const size_t whole = 3 * (sizeof plain - 1);
    size_t at = 0, n_begun = 0;

    for (int i = 0; i < 3; i++)
        at += packed_zstd(packed + at, plain, sizeof plain - 1);
    memcpy(packed + at, bad, sizeof bad);
    /* Adding it as an input would find the damage at once: it is so near. */
    char path[CLLM_FILE_PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/a", (const char *)*state);
    put_file(path, packed, at + sizeof bad);
    struct cllm_prep_file file = {.path = path, .bytes = at + sizeof bad};
    const struct cllm_prep_input input = {.file = &file, .n_files = 1};
    for (size_t bytes = 1; bytes < 60; bytes++) {
        struct cllm_prep_place place = {0};
        struct cllm_prep_piece piece = {.n_parts = 0};
        int rc = 1;
        /* Each piece by a reader of its own, as if every one were the last of a run. */
        while (rc == 1) {
            struct cllm_prep_reader reader;
            cllm_prep_reader_init(&reader, &input, "", cut_lines, NULL, &place);
            reader.piece_bytes = bytes;
            reader.cut_max = 4 * bytes;
            rc = cllm_prep_reader_next(&reader, &piece);
            for (size_t i = 0; rc == 1 && i < piece.text.n; i++)
                assert_int_equal(piece.text.at[i],
                                 plain[(place.off + i) % (sizeof plain - 1)]);
            if (rc == 1)
                assert_int_equal(piece.after.off, place.off + piece.text.n);
            place = piece.after;
            n_begun += rc == 1;
            cllm_prep_reader_fini(&reader);
        }
        assert_int_equal(rc, CLLM_EDATA);
        assert_error_says("the zstd stream is damaged");
        assert_true(place.off <= whole);
        cllm_prep_piece_fini(&piece);
    }
    assert_true(n_begun > 60); /* text came out before the damage */
}

/* A vocabulary of the text itself. */
static struct cllm_tokenizer *train(const char *pattern, const char *text, size_t n)
{
    struct cllm_tokenizer *tokenizer = NULL;
    struct cllm_bpe_counts *counts = NULL;

    assert_int_equal(cllm_bpe_counts_new(&counts, pattern, CLLM_BPE_COUNTS_CAP), 0);
    assert_int_equal(cllm_bpe_counts_add(counts, text, n), 0);
    assert_int_equal(cllm_bpe_train(counts, 600, NULL, NULL, &tokenizer), 0);
    cllm_bpe_counts_free(&counts);
    return tokenizer;
}

/* Text of words, marks and white space of every odd kind. */
static void fill_text(char *text, size_t n, uint32_t seed)
{
    static const char *const words[] = {"the",
                                        " the",
                                        " of",
                                        "\n",
                                        "\n\n",
                                        " ",
                                        "  ",
                                        "\t",
                                        "\r\n",
                                        "don't",
                                        " 12",
                                        "345",
                                        "!",
                                        " ?!",
                                        "\n ",
                                        " \n",
                                        "\xc2\xa0",
                                        "\xe3\x80\x80",
                                        "\xc3\xa9t\xc3\xa9",
                                        "\xf0\x9f\x98\x81",
                                        "\xff",
                                        "\xe2\x82",
                                        "'s",
                                        "...\n",
                                        "_x",
                                        "\n\n\n  x",
                                        "a\nb"};
    size_t at = 0;

    while (at < n) {
        seed = seed * 1103515245 + 12345;
        const char *word = words[(seed >> 16) % CLLM_LEN(words)];

        for (size_t i = 0; word[i] != '\0' && at < n; i++)
            text[at++] = word[i];
    }
}

/* The tokens of all pieces of @input. */
static struct cllm_prep_tokens encode_all(const struct cllm_prep_rules *rules,
                                          const struct cllm_tokenizer *tokenizer,
                                          size_t piece_bytes, size_t *n_pieces)
{
    const struct cllm_prep_place zero = {0};
    struct cllm_prep_tokens all = {.n = 0}, tokens = {.n = 0};
    struct cllm_prep_piece piece = {.n_parts = 0};
    struct cllm_prep_encoder encoder;
    struct cllm_prep_reader reader;

    assert_int_equal(cllm_prep_encoder_init(&encoder, rules, tokenizer, 0), 0);
    cllm_prep_reader_init(&reader, rules->input, "", cllm_prep_cut, tokenizer, &zero);
    reader.piece_bytes = piece_bytes;
    all.id = malloc(1 << 20);
    assert_non_null(all.id);
    *n_pieces = 0;
    while (cllm_prep_reader_next(&reader, &piece) == 1) {
        assert_int_equal(cllm_prep_encode(&encoder, &piece, &tokens), 0);
        memcpy(all.id + all.n, tokens.id, tokens.n * sizeof *tokens.id);
        all.n += tokens.n;
        all.tally.mistakes += tokens.tally.mistakes;
        ++*n_pieces;
    }
    cllm_prep_reader_fini(&reader);
    cllm_prep_piece_fini(&piece);
    cllm_prep_tokens_fini(&tokens);
    cllm_prep_encoder_fini(&encoder);
    return all;
}

static void cutting_changes_no_token(void **state)
{
    static const char *const patterns[] = {"bytes", "gpt2", "cl100k", "o200k"};
    static char text[20001];

    for (size_t i = 0; i < CLLM_LEN(patterns) * 6; i++) {
        struct cllm_tokenizer *tokenizer = NULL;
        struct cllm_prep_input input;
        size_t n_pieces;
        fill_text(text, sizeof text - 1, (uint32_t)i * 77 + 1);
        if (i % 4 == 0)
            assert_int_equal(cllm_tokenizer_load(&tokenizer, CLLM_TOKENIZER_BYTES), 0);
        else
            tokenizer = train(patterns[i % 4], text, sizeof text - 1);
        input_of(&input, *state, "a", text);
        struct cllm_prep_rules rules = {.input = &input,
                                        .invalid = i < 12 ? CLLM_PREP_INVALID_REPLACE
                                                          : CLLM_PREP_INVALID_BYTES};
        struct cllm_prep_tokens whole =
            encode_all(&rules, tokenizer, sizeof text + 1, &n_pieces);
        assert_int_equal(n_pieces, 1);
        for (size_t bytes = 50; bytes < 2000; bytes = bytes * 3 / 2) {
            struct cllm_prep_tokens cut = encode_all(&rules, tokenizer, bytes, &n_pieces);
            assert_true(n_pieces > 5);
            assert_int_equal(cut.n, whole.n);
            assert_memory_equal(cut.id, whole.id, whole.n * sizeof *whole.id);
            assert_int_equal(cut.tally.mistakes, whole.tally.mistakes);
            cllm_prep_tokens_fini(&cut);
        }
        cllm_prep_tokens_fini(&whole);
        cllm_prep_input_fini(&input);
        cllm_tokenizer_free(&tokenizer);
    }
}

static void a_line_of_json_without_an_end_is_refused(void **state)
{
    const struct cllm_prep_place zero = {0};
    struct cllm_prep_piece piece = {.n_parts = 0};
    struct cllm_prep_input input;
    struct cllm_prep_reader reader;
    char text[5000];

    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    memcpy(text, "{\"text\": \"a\"}\n", 14);
    input_of(&input, *state, "a.ndjson", text);
    cllm_prep_reader_init(&reader, &input, "", cut_lines, NULL, &zero);
    reader.piece_bytes = 100;
    reader.line_max = 1600;
    assert_int_equal(cllm_prep_reader_next(&reader, &piece), 1);
    assert_int_equal(cllm_prep_reader_next(&reader, &piece), CLLM_EDATA);
    assert_error_says("a.ndjson:2: the line is longer than 1600 bytes");
    cllm_prep_reader_fini(&reader);
    cllm_prep_piece_fini(&piece);
    cllm_prep_input_fini(&input);
}

static void a_file_that_changed_is_refused(void **state)
{
    const struct cllm_prep_place zero = {0};
    struct cllm_prep_piece piece = {.n_parts = 0};
    struct cllm_prep_input input;
    struct cllm_prep_reader reader;

    input_of(&input, *state, "a", "text\n");
    put_file(in(*state, "a"), "longer text\n", 12);
    cllm_prep_reader_init(&reader, &input, "", cut_lines, NULL, &zero);
    assert_int_equal(cllm_prep_reader_next(&reader, &piece), CLLM_EDATA);
    assert_error_says("has changed while it was read");
    cllm_prep_reader_fini(&reader);
    cllm_prep_piece_fini(&piece);
    cllm_prep_input_fini(&input);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(pieces_are_the_documents_whatever_their_size),
        T(lines_of_json_stay_whole_and_numbered),
        T(reading_begins_again_behind_any_piece),
        T(a_damaged_stream_is_refused_wherever_reading_begins),
        T(cutting_changes_no_token),
        T(a_line_of_json_without_an_end_is_refused),
        T(a_file_that_changed_is_refused),
    };

    return cmocka_run_group_tests_name("prep_reader", tests, NULL, NULL);
}
