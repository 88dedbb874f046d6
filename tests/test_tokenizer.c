/*
 * tests/test_tokenizer.c - every kind of file, read and refused; GPT-2's own vocabulary
 * against ids that reference encoders give.
 */
#include "tests/bpe_temp.h"
#include "tests/foreign.h"

#include <errno.h>

#include "formats/alphabet.h"
#include "formats/json.h"
#include "formats/sha256.h"

/* ---- files made for the purpose ---- */

/* vocab.json's text: the bytes, and "he" 256, "ll" 257, "hell" 258, "Ġhell" 259; at the
 * end @more. Heap. */
static char *vocab_text(const char *more)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);

    assert_non_null(out);
    (void)fprintf(out, "{");
    for (uint32_t place = 0; place < 256; place++) {
        uint8_t byte = cllm_alphabet_byte(place);
        char spelled[3];

        (void)cllm_alphabet_spell(&byte, 1, spelled);
        (void)fprintf(out, "\"%s%s\": %u, ", byte == '"' || byte == '\\' ? "\\" : "",
                      spelled, place);
    }
    (void)fprintf(out, "\"he\": 256, \"ll\": 257, \"hell\": 258, \"\u0120hell\": 259%s}",
                  more);
    assert_int_equal(fclose(out), 0);
    return text;
}

#define MERGES     "#version: 0.2\nh e\nl l\nhe ll\n\u0120 hell\n"
#define BYTE_LEVEL "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}"
#define EOT_ADDED  "[{\"id\": 260, \"content\": \"<|endoftext|>\", \"special\": true}]"
#define MERGES_OLD "[\"h e\", \"l l\", \"he ll\", \"\u0120 hell\"]"
#define MERGES_NEW \
    "[[\"h\",\"e\"], [\"l\",\"l\"], [\"he\",\"ll\"], [\"\u0120\",\"hell\"]]"

/* tokenizer.json's text. */
static char *json_text(const char *added, const char *pre, const char *model,
                       const char *merges)
{
    char *vocab = vocab_text("");
    char *text = NULL;

    assert_true(asprintf(&text,
                         "{\"added_tokens\": %s, \"pre_tokenizer\": %s, \"model\": {%s "
                         "\"vocab\": %s, \"merges\": %s}}",
                         added, pre, model, vocab, merges) > 0);
    free(vocab);
    return text;
}

static void put_text(const char *path, const char *text)
{
    put_file(path, text, strlen(text));
}

static struct cllm_tokenizer *load(const char *path)
{
    struct cllm_tokenizer *tokenizer = NULL;

    if (cllm_tokenizer_load(&tokenizer, path) != 0)
        fail_msg("%s: %s", path, cllm_err_text());
    return tokenizer;
}

/* The ids of @text are @n given ones. */
static void assert_ids(const struct cllm_tokenizer *tokenizer, const char *text,
                       unsigned flags, const uint32_t *expected, size_t n)
{
    struct cllm_encoder *encoder = NULL;
    size_t bytes = strlen(text);
    uint32_t *ids = malloc((bytes + 1) * sizeof *ids);

    assert_non_null(ids);
    assert_int_equal(cllm_encoder_new(&encoder, tokenizer), 0);
    size_t found = encode(encoder, text, bytes, flags, ids);
    for (size_t i = 0; i < found && i < n; i++) {
        if (ids[i] != expected[i])
            fail_msg("\"%s\": token %zu: expected %u, found %u", text, i, expected[i],
                     ids[i]);
    }
    assert_int_equal(found, n);
    assert_decodes(tokenizer, ids, found, text, bytes);
    cllm_encoder_free(&encoder);
    free(ids);
}
#define IDS(...) \
    (const uint32_t[]){__VA_ARGS__}, CLLM_LEN(((const uint32_t[]){__VA_ARGS__}))

static void the_same_tokenizer_comes_from_every_kind_of_file(void **state)
{
    static const char *const names[] = {"vocab.json", "encoder.json", "tokenizer.json",
                                        "merges.txt"};
    char *vocab = vocab_text(", \"<|endoftext|>\": 260");
    char *old = json_text(EOT_ADDED, BYTE_LEVEL, "\"type\": \"BPE\",", MERGES_OLD);
    char *new = json_text(EOT_ADDED, BYTE_LEVEL, "", MERGES_NEW);
    char hash[CLLM_SHA256_HEX_BYTES] = "";

    put_text(in(*state, "vocab.json"), vocab);
    put_text(in(*state, "encoder.json"), vocab);
    put_text(in(*state, "merges.txt"), MERGES);
    put_text(in(*state, "vocab.bpe"), MERGES);
    for (size_t i = 0; i < 5; i++) {
        const char *name = i < 4 ? names[i] : "tokenizer.json";

        put_text(in(*state, "tokenizer.json"), i < 4 ? old : new);
        struct cllm_tokenizer *tokenizer = load(in(*state, name));
        assert_int_equal(cllm_tokenizer_size(tokenizer), 261);
        assert_int_equal(cllm_tokenizer_eot(tokenizer), 260);
        assert_int_equal(cllm_tokenizer_merges(tokenizer), 4);
        assert_string_equal(cllm_tokenizer_kind_name(tokenizer), "bpe");
        assert_string_equal(cllm_tokenizer_pattern_name(tokenizer), "gpt2");
        assert_ids(tokenizer, " hello he", 0, IDS(259, 'o' - 33, 220, 256));
        if (i == 0)
            memcpy(hash, cllm_tokenizer_hash(tokenizer), sizeof hash);
        assert_string_equal(cllm_tokenizer_hash(tokenizer), hash);
        assert_int_equal(cllm_tokenizer_find(tokenizer, " hell", 5), 259);
        assert_int_equal(cllm_tokenizer_find(tokenizer, "hel", 3), CLLM_TOKEN_NONE);
        assert_int_equal(cllm_tokenizer_find(tokenizer, "<|endoftext|>", 13),
                         CLLM_TOKEN_NONE);
        char *spelled = cllm_tokenizer_spell(tokenizer, 259);
        assert_string_equal(spelled, "\u0120hell");
        free(spelled);
        cllm_tokenizer_free(&tokenizer);
    }
    free(vocab);
    free(old);
    free(new);
}

static void a_directory_is_looked_through_in_order(void **state)
{
    static const char *const steps[] = {"vocab.bpe", "merges.txt", "vocab.json",
                                        "tokenizer.json"};
    struct cllm_tokenizer *tokenizer = NULL;
    char *vocab = vocab_text("");
    char *json = json_text("[{\"id\": 300, \"content\": \"<|x|>\", \"special\": true}]",
                           BYTE_LEVEL, "", MERGES_OLD);
    const char *const texts[] = {"h e\n", MERGES, vocab, json};
    static const uint32_t sizes[] = {258, 261, 260, 301};

    assert_int_equal(cllm_tokenizer_load(&tokenizer, *state), CLLM_EDATA);
    assert_error_says("holds no tokenizer");
    for (size_t i = 0; i < CLLM_LEN(steps); i++) {
        put_text(in(*state, steps[i]), texts[i]);
        tokenizer = load(*state);
        assert_int_equal(cllm_tokenizer_size(tokenizer), sizes[i]);
        cllm_tokenizer_free(&tokenizer);
    }
    assert_int_equal(cllm_tokenizer_load(&tokenizer, in(*state, "none")), -ENOENT);
    assert_error_says("cannot load the tokenizer: cannot open");
    free(vocab);
    free(json);
}

static void unused_ids_and_added_tokens_are_told_apart(void **state)
{
    char *json =
        json_text("[{\"id\": 270, \"content\": \"<|im_end|>\", \"special\": true}, "
                  "{\"id\": 271, \"content\": \"hell fire\", \"special\": false}, "
                  "{\"id\": 272, \"content\": \"hell\\n\", \"special\": false}, "
                  "{\"id\": 273, \"content\": \"<|im_end|>!\", \"special\": true}]",
                  BYTE_LEVEL, "", MERGES_OLD);

    put_text(in(*state, "tokenizer.json"), json);
    free(json);
    struct cllm_tokenizer *tokenizer = load(*state);
    assert_int_equal(cllm_tokenizer_size(tokenizer), 274);
    assert_int_equal(cllm_tokenizer_eot(tokenizer), 270);
    assert_int_equal(cllm_tokenizer_type(tokenizer, 265), CLLM_TOKEN_UNUSED);
    assert_int_equal(cllm_tokenizer_type(tokenizer, 258), CLLM_TOKEN_NORMAL);
    assert_int_equal(cllm_tokenizer_type(tokenizer, 270), CLLM_TOKEN_CONTROL);
    assert_int_equal(cllm_tokenizer_type(tokenizer, 271), CLLM_TOKEN_USER);
    char *spelled = cllm_tokenizer_spell(tokenizer, 265);
    assert_string_equal(spelled, "[unused265]");
    free(spelled);
    spelled = cllm_tokenizer_spell(tokenizer, 271);
    assert_string_equal(spelled, "hell fire");
    free(spelled);
    /* added tokens always, special ones on demand, the longest of them */
    assert_ids(tokenizer, "hehell fire", 0, IDS(256, 271));
    assert_ids(tokenizer, "he<|im_end|>!he", CLLM_ENCODE_SPECIAL, IDS(256, 273, 256));
    assert_ids(tokenizer, "<|im_end|>he", CLLM_ENCODE_SPECIAL, IDS(270, 256));
    /* "hell fire" may lie where a cut would be */
    assert_int_equal(cllm_tokenizer_cut(tokenizer, "a b a b", 7), 0);
    assert_int_equal(cllm_tokenizer_save(tokenizer, *state), 0);
    struct cllm_tokenizer *again = load(*state);
    assert_string_equal(cllm_tokenizer_hash(again), cllm_tokenizer_hash(tokenizer));
    cllm_tokenizer_free(&again);
    cllm_tokenizer_free(&tokenizer);
}

static void whole_pieces_first_where_the_file_says_so(void **state)
{
    /* "hell" is a token; without the third merge only "ignore_merges" reaches it */
    static const char merges[] = "[\"h e\", \"l l\"]";
    char *json = json_text("[]", BYTE_LEVEL, "\"ignore_merges\": false,", merges);

    put_text(in(*state, "tokenizer.json"), json);
    free(json);
    struct cllm_tokenizer *tokenizer = load(*state);
    assert_ids(tokenizer, "hell hells", 0, IDS(256, 257, 220, 256, 257, 's' - 33));
    cllm_tokenizer_free(&tokenizer);
    json = json_text("[]", BYTE_LEVEL, "\"ignore_merges\": true,", merges);
    put_text(in(*state, "tokenizer.json"), json);
    free(json);
    tokenizer = load(*state);
    assert_ids(tokenizer, "hell hells hell", 0, IDS(258, 220, 256, 257, 's' - 33, 259));
    cllm_tokenizer_free(&tokenizer);
}

static void patterns_come_from_the_file(void **state)
{
    static const struct {
        const char *pre, *name;
    } cases[] = {
        {"{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", "
         "\"pattern\": "
         "{\"Regex\": \"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?"
         "\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r"
         "\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": \"Isolated\", \"invert\": "
         "false}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": "
         "false}]}",
         "cl100k"},
        {"{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", "
         "\"pattern\": "
         "{\"Regex\": \"\\\\w+|\\\\W\"}, \"behavior\": \"Removed\", \"invert\": true}, "
         "{\"type\": \"ByteLevel\", \"use_regex\": false}]}",
         "custom"},
        {"{\"type\": \"Sequence\", \"pretokenizers\": [" BYTE_LEVEL "]}", "gpt2"},
    };

    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        char *json = json_text("[]", cases[i].pre, "", MERGES_OLD);

        put_text(in(*state, "tokenizer.json"), json);
        free(json);
        struct cllm_tokenizer *tokenizer = load(*state);
        assert_string_equal(cllm_tokenizer_pattern_name(tokenizer), cases[i].name);
        assert_ids(tokenizer, "hell!", 0, IDS(258, 0));
        cllm_tokenizer_free(&tokenizer);
    }
}

static void what_cannot_be_done_exactly_is_refused_by_name(void **state)
{
    static const struct {
        const char *added, *pre, *model, *merges, *says;
    } cases[] = {
        {"[]", "null", "", "[]", "pre_tokenizer: expected ByteLevel"},
        {"[]", "{\"type\": \"Metaspace\"}", "", "[]",
         "pre_tokenizer: expected ByteLevel"},
        {"[]", "{\"type\": \"ByteLevel\", \"add_prefix_space\": true}", "", "[]",
         "\"add_prefix_space\": false"},
        {"[]", "{\"type\": \"ByteLevel\", \"use_regex\": false}", "", "[]",
         "ByteLevel with a pattern"},
        {"[]", BYTE_LEVEL, "\"type\": \"Unigram\",", "[]",
         "model.type: expected \"BPE\""},
        {"[]", BYTE_LEVEL, "\"dropout\": 0.1,", "[]", "model.dropout: expected null"},
        {"[]", BYTE_LEVEL, "\"byte_fallback\": true,", "[]", "byte_fallback"},
        {"[]", BYTE_LEVEL, "\"end_of_word_suffix\": \"</w>\",", "[]",
         "end_of_word_suffix"},
        {"[]", BYTE_LEVEL, "", "[\"h e\", \"x\"]", "model.merges[1]: expected \"a b\""},
        {"[]", BYTE_LEVEL, "", "[[\"h\", 1]]", "model.merges[0]"},
        {"[]", BYTE_LEVEL, "", "[\"he ll\", \"h h\"]",
         "model.merges[1]: expected the merge"},
        {"[]", BYTE_LEVEL, "", "[\"h e\", \"qu e\"]", "found \"qu\""},
        {"[]", BYTE_LEVEL, "", "[\"h e\", [\"h\", \"e\"]]", "each merge once"},
        {"{}", BYTE_LEVEL, "", "[]", "added_tokens: expected an array"},
        {"[7]", BYTE_LEVEL, "", "[]", "added_tokens[0]: expected an object"},
        {"[{\"content\": \"x\"}]", BYTE_LEVEL, "", "[]", "\"id\""},
        {"[{\"id\": 300, \"content\": \"x\", \"lstrip\": true}]", BYTE_LEVEL, "", "[]",
         "\"lstrip\": expected false"},
        {"[{\"id\": 9999999999, \"content\": \"x\"}]", BYTE_LEVEL, "", "[]",
         "an id below"},
        {"[{\"id\": 300, \"content\": \"\"}]", BYTE_LEVEL, "", "[]", "1 to 1024 bytes"},
        {"[{\"id\": 300, \"content\": \"x\"}, {\"id\": 300, \"content\": \"y\"}]",
         BYTE_LEVEL, "", "[]", "added_tokens[1]"},
        {"[{\"id\": 300, \"content\": \"he\"}]", BYTE_LEVEL, "", "[]",
         "the id of the added token, 300, found 256"},
    };
    struct cllm_tokenizer *tokenizer = NULL;

    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        char *json =
            json_text(cases[i].added, cases[i].pre, cases[i].model, cases[i].merges);

        put_text(in(*state, "tokenizer.json"), json);
        free(json);
        assert_int_equal(cllm_tokenizer_load(&tokenizer, *state), CLLM_EDATA);
        assert_error_says("tokenizer.json: ");
        assert_error_says(cases[i].says);
        assert_null(tokenizer);
    }
}

static void bad_lines_are_named(void **state)
{
    static const struct {
        const char *name, *text, *says;
    } cases[] = {
        {"merges.txt", "#version: 0.2\nh e\nhe\n", "merges.txt:3: expected two tokens"},
        {"merges.txt", "h e\n\nl l\n", "merges.txt:2: expected two tokens"},
        {"merges.txt", "h e l\n", "merges.txt:1: expected two tokens"},
        {"merges.txt", " e\n", "merges.txt:1"},
        {"merges.txt", "h e\nl l\nxx y\n", "merges.txt:3: expected bytes or tokens"},
        {"merges.txt", "h e\nh e\n", "merges.txt:2: expected a new token"},
        {"merges.txt", "h \x80\n", "merges.txt:1"},
        {"ranks", "IQ== 0\nIg==\n", "ranks:2: expected a token"},
        {"ranks", "IQ== 0\nIg== -1\n", "ranks:2: expected a token"},
        {"ranks", "IQ== 0\nI*== 1\n", "ranks:2: expected a token"},
        {"ranks", "IQ== 0\nIQ== 1\n", "ranks:2: expected each token and each rank once"},
        {"ranks", "IQ== 0\nIg== 0\n", "ranks:2: expected each token and each rank once"},
        {"ranks", "IQ== 0\nIg== 9999999\n", "ranks:2: expected a token"},
        {"ranks", "IQ== 0\nIg== 999999\n", "expected ranks without gaps"},
        {"ranks", "IQ== 0\nIg== 1\n", "byte 0x00 has no token"},
        {"vocab.json", "{\"a\": 0}", "byte 0x00 has no token"},
        {"vocab.json", "{\"a\": -1}", "\"a\": expected an id from 0 to"},
        {"vocab.json", "{\"a\": 100000}", "\"a\": expected an id from 0 to"},
        {"vocab.json", "{\"a\": \"b\"}", "\"a\": expected a token's id, found text"},
        {"vocab.json", "{\"a\": 1, \"b\": 1}", "an id of its own, found 1 again"},
        {"vocab.json", "{\"a b\": 1}", "alphabet of bytes"},
        {"vocab.json", "{\"\": 1}", "expected 1 to 1024 bytes, found none"},
        {"vocab.json", "{\"a\": 1", "vocab.json:1:"},
    };
    struct cllm_tokenizer *tokenizer = NULL;

    put_text(in(*state, "vocab.bpe"), "#version: 0.2\n");
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        put_text(in(*state, cases[i].name), cases[i].text);
        int rc = cllm_tokenizer_load(&tokenizer, in(*state, cases[i].name));
        if (rc != CLLM_EDATA)
            fail_msg("%s \"%s\": %d", cases[i].name, cases[i].text, rc);
        assert_error_says(cases[i].says);
        assert_null(tokenizer);
        assert_int_equal(unlink(in(*state, cases[i].name)), 0);
    }
    assert_int_equal(unlink(in(*state, "vocab.bpe")), 0);
    put_text(in(*state, "vocab.json"), "{\"a\": 0}");
    assert_int_equal(cllm_tokenizer_load(&tokenizer, in(*state, "vocab.json")),
                     CLLM_EDATA);
    assert_error_says("but not its merges");
}

/* A line of a rank file. */
static void put_rank(FILE *out, const uint8_t *token, size_t n, uint32_t rank)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < n; i += 3) {
        uint32_t bits = (uint32_t)token[i] << 16;
        bits |= i + 1 < n ? (uint32_t)token[i + 1] << 8 : 0;
        bits |= i + 2 < n ? token[i + 2] : 0;
        (void)fprintf(out, "%c%c%c%c", digits[bits >> 18], digits[bits >> 12 & 63],
                      i + 1 < n ? digits[bits >> 6 & 63] : '=',
                      i + 2 < n ? digits[bits & 63] : '=');
    }
    (void)fprintf(out, " %u\n", rank);
}

/* The bytes, then @more. */
static void put_ranks(const char *path, const char *const *more, uint32_t n_more)
{
    FILE *out = fopen(path, "w");

    assert_non_null(out);
    for (uint32_t rank = 0; rank < 256 + n_more; rank++) {
        const uint8_t byte[3] = {(uint8_t)rank};

        if (rank < 256)
            put_rank(out, byte, 1, rank);
        else
            put_rank(out, (const uint8_t *)more[rank - 256], strlen(more[rank - 256]),
                     rank);
    }
    assert_int_equal(fclose(out), 0);
}

static void a_rank_file_merges_by_the_rank_of_the_bytes(void **state)
{
    static const char *const more[] = {"ab", "cd", "bcd", "abcd", "zzz"};

    put_ranks(in(*state, "own.tiktoken"), more, CLLM_LEN(more));
    struct cllm_tokenizer *tokenizer = load(in(*state, "own.tiktoken"));
    assert_int_equal(cllm_tokenizer_size(tokenizer), 262);
    assert_int_equal(cllm_tokenizer_eot(tokenizer), 261);
    assert_string_equal(cllm_tokenizer_pattern_name(tokenizer), "gpt2");
    assert_ids(tokenizer, "abcd", 0, IDS(259));       /* a whole piece */
    assert_ids(tokenizer, "xabcd", 0, IDS('x', 259)); /* ab, cd, abcd */
    assert_ids(tokenizer, "xbcdx", 0, IDS('x', 258, 'x'));
    assert_ids(tokenizer, "zzz", 0, IDS(260)); /* no merge leads there */
    assert_ids(tokenizer, "zzzz", 0, IDS('z', 'z', 'z', 'z'));
    /* what others are told: ab = a+b, cd = c+d, bcd = b+cd, abcd = ab+cd; zzz has none */
    static const uint32_t merges[4][2] = {{'a', 'b'}, {'c', 'd'}, {'b', 257}, {256, 257}};
    assert_int_equal(cllm_tokenizer_merges(tokenizer), 4);
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t left, right;

        cllm_tokenizer_merge(tokenizer, i, &left, &right);
        assert_int_equal(left, merges[i][0]);
        assert_int_equal(right, merges[i][1]);
    }
    assert_int_equal(cllm_tokenizer_save(tokenizer, *state), 0);
    struct cllm_tokenizer *saved = load(*state);
    assert_ids(saved, "abcd xabcd zzz", 0, IDS(259, ' ', 'x', 259, ' ', 'z', 'z', 'z'));
    cllm_tokenizer_free(&saved);
    cllm_tokenizer_free(&tokenizer);
}

/* ---- GPT-2's own ---- */

#include "tests/gpt2_golden.h"

static void gpt2s_vocabulary_gives_the_reference_ids(void **state)
{
    const char *dir = foreign("gpt2");

    (void)state;
    if (dir == NULL)
        skip();
    struct cllm_tokenizer *tokenizer = load(dir);
    assert_int_equal(cllm_tokenizer_size(tokenizer), 50257);
    assert_int_equal(cllm_tokenizer_merges(tokenizer), 50000);
    assert_int_equal(cllm_tokenizer_eot(tokenizer), 50256);
    for (size_t i = 0; i < CLLM_LEN(golden); i++)
        assert_ids(tokenizer, golden[i].text, 0, golden[i].ids, golden[i].n_ids);
    struct cllm_tokenizer *alone = load(in(dir, "vocab.bpe"));
    assert_string_equal(cllm_tokenizer_hash(alone), cllm_tokenizer_hash(tokenizer));
    cllm_tokenizer_free(&alone);
    cllm_tokenizer_free(&tokenizer);
}

static void gpt2_survives_being_saved_in_every_form(void **state)
{
    static const char *const files[] = {"", "vocab.json", "merges.txt"};
    const char *dir = foreign("gpt2");

    if (dir == NULL)
        skip();
    struct cllm_tokenizer *tokenizer = load(dir);
    assert_int_equal(cllm_tokenizer_save(tokenizer, *state), 0);
    for (size_t i = 0; i < CLLM_LEN(files); i++) {
        struct cllm_tokenizer *again = load(in(*state, files[i]));
        assert_string_equal(cllm_tokenizer_hash(again), cllm_tokenizer_hash(tokenizer));
        cllm_tokenizer_free(&again);
    }
    cllm_tokenizer_free(&tokenizer);
}

static void gpt2_as_a_rank_file_has_the_same_ids_and_merges(void **state)
{
    const char *dir = foreign("gpt2");

    if (dir == NULL)
        skip();
    struct cllm_tokenizer *tokenizer = load(dir);
    const char *path = in(*state, "r50k.tiktoken");
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    for (uint32_t id = 0; id < 50256; id++) {
        size_t bytes;
        const uint8_t *token = cllm_tokenizer_token(tokenizer, id, &bytes);

        put_rank(out, token, bytes, id);
    }
    assert_int_equal(fclose(out), 0);
    struct cllm_tokenizer *ranks = load(path);
    assert_int_equal(cllm_tokenizer_size(ranks), 50257);
    assert_int_equal(cllm_tokenizer_eot(ranks), 50256);
    assert_string_equal(cllm_tokenizer_pattern_name(ranks), "gpt2");
    for (size_t i = 0; i < CLLM_LEN(golden); i++)
        assert_ids(ranks, golden[i].text, 0, golden[i].ids, golden[i].n_ids);
    assert_int_equal(cllm_tokenizer_merges(ranks), 50000);
    for (uint32_t i = 0; i < 50000; i++) {
        uint32_t left[2], right[2];

        cllm_tokenizer_merge(tokenizer, i, &left[0], &right[0]);
        cllm_tokenizer_merge(ranks, i, &left[1], &right[1]);
        assert_int_equal(left[1], left[0]);
        assert_int_equal(right[1], right[0]);
    }
    cllm_tokenizer_free(&ranks);
    cllm_tokenizer_free(&tokenizer);
}

/* All that @command writes; NULL when it fails. Heap. */
static char *output_of(const char *command, size_t *bytes)
{
    char *text = NULL;
    char block[65536];
    size_t n;
    FILE *in_stream = popen(command, "r");
    FILE *out = open_memstream(&text, bytes);

    assert_non_null(in_stream);
    assert_non_null(out);
    while ((n = fread(block, 1, sizeof block, in_stream)) > 0)
        assert_int_equal(fwrite(block, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
    if (pclose(in_stream) == 0)
        return text;
    free(text);
    return NULL;
}

/* The King James Bible, where Debian's bible-kjv is installed. */
static void gpt2s_vocabulary_gives_the_reference_ids_of_a_book(void **state)
{
    const char *dir = foreign("gpt2");
    struct cllm_encoder *encoder = NULL;
    char hash[CLLM_SHA256_HEX_BYTES];
    size_t bytes = 0;

    (void)state;
    if (dir == NULL)
        skip();
    char *text = output_of("bible -f gen1:1-rev22:21 2>/dev/null", &bytes);
    if (text == NULL)
        skip();
    struct cllm_tokenizer *tokenizer = load(dir);
    uint32_t *ids = malloc(bytes * sizeof *ids);
    uint16_t *narrow = malloc(bytes * sizeof *narrow);
    assert_non_null(ids);
    assert_non_null(narrow);
    assert_int_equal(cllm_encoder_new(&encoder, tokenizer), 0);
    size_t n = encode(encoder, text, bytes, 0, ids);
    for (size_t i = 0; i < n; i++)
        narrow[i] = (uint16_t)ids[i];
    assert_int_equal(n, 1169600);
    assert_int_equal(cllm_sha256_text(narrow, n * sizeof *narrow, hash), 0);
    assert_string_equal(
        hash, "8caf13b0b840a69494bd4f677ae80b6f9fa6bfdd7c1f5c64e42bb771be8d9a67");
    cllm_encoder_free(&encoder);
    cllm_tokenizer_free(&tokenizer);
    free(narrow);
    free(ids);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_same_tokenizer_comes_from_every_kind_of_file,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(a_directory_is_looked_through_in_order,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(unused_ids_and_added_tokens_are_told_apart,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(whole_pieces_first_where_the_file_says_so,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(patterns_come_from_the_file, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_done_exactly_is_refused_by_name,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(bad_lines_are_named, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(a_rank_file_merges_by_the_rank_of_the_bytes,
                                        temp_setup, temp_teardown),
        cmocka_unit_test(gpt2s_vocabulary_gives_the_reference_ids),
        cmocka_unit_test_setup_teardown(gpt2_survives_being_saved_in_every_form,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(gpt2_as_a_rank_file_has_the_same_ids_and_merges,
                                        temp_setup, temp_teardown),
        cmocka_unit_test(gpt2s_vocabulary_gives_the_reference_ids_of_a_book),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
