/*
 * tests/test_renumber.c - tokens under other ids: the same pieces, whatever the
 * tokenizer.
 */
#include "tests/bpe_temp.h"
#include "tests/foreign.h"

#include "formats/tokenizer_parts.h"

#define TEXT_BYTES 4000

/* Any permutation of the tokens that there are. */
static uint32_t *shuffled(const struct cllm_tokenizer *tokenizer, uint64_t key)
{
    uint32_t n = cllm_tokenizer_size(tokenizer), used = 0;
    uint32_t *place = malloc(n * sizeof *place), *free_one = malloc(n * sizeof *free_one);
    struct draws draws = {.key = key};

    assert_non_null(place);
    assert_non_null(free_one);
    for (uint32_t id = 0; id < n; id++) {
        place[id] = CLLM_TOKEN_NONE;
        if (cllm_tokenizer_type(tokenizer, id) != CLLM_TOKEN_UNUSED) {
            free_one[used] = used;
            used++;
        }
    }
    for (uint32_t id = 0; id < n; id++) {
        if (cllm_tokenizer_type(tokenizer, id) == CLLM_TOKEN_UNUSED)
            continue;
        uint32_t i = draw_below(&draws, used);
        place[id] = free_one[i];
        free_one[i] = free_one[--used];
    }
    free(free_one);
    return place;
}

static void assert_same_ids(struct cllm_encoder *a, struct cllm_encoder *b,
                            const uint32_t *place, const void *text, size_t bytes,
                            unsigned flags)
{
    static uint32_t one[TEXT_BYTES], two[TEXT_BYTES];
    size_t n = encode(a, text, bytes, flags, one);

    assert_int_equal(encode(b, text, bytes, flags, two), n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(two[i], place[one[i]]);
}

/* Texts of both kinds through both tokenizers. */
static void assert_same_pieces(const struct cllm_tokenizer *from,
                               const struct cllm_tokenizer *to, const uint32_t *place)
{
    struct cllm_encoder *a = NULL, *b = NULL;
    struct draws draws = {.key = 7};
    uint8_t noise[TEXT_BYTES];
    char marked[256];

    assert_int_equal(cllm_encoder_new(&a, from), 0);
    assert_int_equal(cllm_encoder_new(&b, to), 0);
    assert_same_ids(a, b, place, SAMPLE, strlen(SAMPLE), CLLM_ENCODE_PLAIN);
    (void)snprintf(marked, sizeof marked, "the%s and %s", CLLM_TOKENIZER_EOT,
                   CLLM_TOKENIZER_EOT);
    assert_same_ids(a, b, place, marked, strlen(marked), CLLM_ENCODE_PLAIN);
    assert_same_ids(a, b, place, marked, strlen(marked), CLLM_ENCODE_SPECIAL);
    for (int round = 0; round < 50; round++) {
        size_t n = draw_below(&draws, sizeof noise);
        for (size_t i = 0; i < n; i++)
            noise[i] = (uint8_t)draw_below(&draws, 256);
        assert_same_ids(a, b, place, noise, n, CLLM_ENCODE_PLAIN);
    }
    cllm_encoder_free(&a);
    cllm_encoder_free(&b);
}

static void assert_tokens_moved(const struct cllm_tokenizer *from,
                                const struct cllm_tokenizer *to, const uint32_t *place)
{
    for (uint32_t id = 0; id < cllm_tokenizer_size(from); id++) {
        size_t n = 0, m = 0;

        if (cllm_tokenizer_type(from, id) == CLLM_TOKEN_UNUSED)
            continue;
        const uint8_t *one = cllm_tokenizer_token(from, id, &n);
        const uint8_t *two = cllm_tokenizer_token(to, place[id], &m);
        assert_int_equal(n, m);
        assert_memory_equal(one, two, n);
        assert_int_equal(cllm_tokenizer_type(from, id),
                         cllm_tokenizer_type(to, place[id]));
    }
}

/* Renumber, use, save, load, and use again; @exact: what is loaded has the same hash. */
static void check(const struct cllm_tokenizer *from, const char *dir, bool exact)
{
    struct cllm_tokenizer *to = NULL, *loaded = NULL;
    uint32_t *place = shuffled(from, 3);

    assert_int_equal(cllm_tokenizer_renumber(&to, from, place), 0);
    assert_string_not_equal(cllm_tokenizer_hash(to), cllm_tokenizer_hash(from));
    assert_tokens_moved(from, to, place);
    assert_same_pieces(from, to, place);
    if (cllm_tokenizer_eot(from) != CLLM_TOKEN_NONE)
        assert_int_equal(cllm_tokenizer_eot(to), place[cllm_tokenizer_eot(from)]);
    assert_int_equal(cllm_tokenizer_save(to, dir), 0);
    assert_int_equal(cllm_tokenizer_load(&loaded, dir), 0);
    if (exact)
        assert_string_equal(cllm_tokenizer_hash(loaded), cllm_tokenizer_hash(to));
    assert_same_pieces(from, loaded, place);
    cllm_tokenizer_free(&loaded);
    /* The older pair of files alone has the ids as well. */
    assert_int_equal(unlink(in(dir, CLLM_TOKENIZER_JSON)), 0);
    assert_int_equal(cllm_tokenizer_load(&loaded, dir), 0);
    assert_same_pieces(from, loaded, place);
    cllm_tokenizer_free(&loaded);
    cllm_tokenizer_free(&to);
    free(place);
}

static void a_trained_vocabulary_keeps_its_pieces(void **state)
{
    struct cllm_tokenizer *tokenizer = train_on(SAMPLE SAMPLE SAMPLE, 400, "gpt2");

    assert_int_not_equal(cllm_tokenizer_eot(tokenizer), CLLM_TOKEN_NONE);
    check(tokenizer, *state, true);
    cllm_tokenizer_free(&tokenizer);
}

static void bytes_become_a_vocabulary_without_merges(void **state)
{
    struct cllm_tokenizer *tokenizer = NULL;

    assert_int_equal(cllm_tokenizer_load(&tokenizer, CLLM_TOKENIZER_BYTES), 0);
    check(tokenizer, *state, true);
    cllm_tokenizer_free(&tokenizer);
}

/* 256 bytes in their order and some tokens more; as a file, it becomes a list of merges,
 * which is another rule with the same results. */
static void a_rank_file_keeps_its_pieces(void **state)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct cllm_tokenizer *tokenizer = NULL;
    FILE *out = fopen(in(*state, "ranks"), "w");

    assert_non_null(out);
    for (unsigned byte = 0; byte < 256; byte++)
        assert_true(fprintf(out, "%c%c== %u\n", digits[byte >> 2], digits[byte << 4 & 63],
                            byte) > 0);
    assert_true(fputs("dGg= 256\nIHRo 257\nIHRoZQ== 258\nYW4= 259\nIGFu 260\n"
                      "IGFuZA== 261\n",
                      out) >= 0); /* th, " th", " the", an, " an", " and" */
    assert_int_equal(fclose(out), 0);
    assert_int_equal(cllm_tokenizer_load(&tokenizer, in(*state, "ranks")), 0);
    check(tokenizer, *state, false);
    cllm_tokenizer_free(&tokenizer);
}

/* Ids with holes, tokens that are added but not special, pieces taken whole. */
static void holes_are_closed_and_added_tokens_stay_added(void **state)
{
    struct cllm_tokenizer *tokenizer = NULL, *to = NULL;
    uint32_t *place;
    json_t *root = NULL, *vocab = NULL;
    struct cllm_tokenizer *trained = train_on(SAMPLE, 300, "cl100k");
    char *text;
    size_t n = 0;

    assert_int_equal(cllm_tokenizer_save(trained, *state), 0);
    assert_int_equal(cllm_json_load(in(*state, CLLM_TOKENIZER_JSON), 1 << 20, &root), 0);
    vocab = json_object_get(json_object_get(root, "model"), "vocab");
    assert_int_equal(json_object_set_new(vocab, "zzqq", json_integer(777)), 0);
    json_t *added = json_object_get(root, "added_tokens");
    assert_int_equal(
        json_array_append_new(
            added, json_pack("{sisssb}", "id", 900, "content", "<tool>", "special", 0)),
        0);
    assert_int_equal(
        json_object_set_new(json_object_get(root, "model"), "ignore_merges", json_true()),
        0);
    text = cllm_json_dump(root, &n);
    assert_non_null(text);
    put_file(in(*state, CLLM_TOKENIZER_JSON), text, n);
    free(text);
    json_decref(root);
    assert_int_equal(cllm_tokenizer_load(&tokenizer, in(*state, CLLM_TOKENIZER_JSON)), 0);
    assert_int_equal(cllm_tokenizer_size(tokenizer), 901);
    place = shuffled(tokenizer, 5);
    assert_int_equal(cllm_tokenizer_renumber(&to, tokenizer, place), 0);
    assert_int_equal(cllm_tokenizer_size(to), cllm_tokenizer_size(trained) + 2);
    assert_tokens_moved(tokenizer, to, place);
    assert_same_pieces(tokenizer, to, place);
    assert_int_equal(cllm_tokenizer_special(to, "<tool>"), place[900]);
    assert_string_equal(cllm_tokenizer_pattern_name(to), "cl100k");
    free(place);
    cllm_tokenizer_free(&to);
    cllm_tokenizer_free(&tokenizer);
    cllm_tokenizer_free(&trained);
}

static void places_follow_frequency_and_equals_keep_their_order(void **state)
{
    struct cllm_tokenizer *tokenizer = NULL;
    uint64_t count[256] = {0};
    uint32_t place[256];

    (void)state;
    assert_int_equal(cllm_tokenizer_load(&tokenizer, CLLM_TOKENIZER_BYTES), 0);
    count['e'] = 10;
    count['a'] = 10;
    count[255] = UINT64_MAX;
    count['z'] = 1;
    assert_int_equal(cllm_tokenizer_places(tokenizer, count, place), 0);
    assert_int_equal(place[255], 0);
    assert_int_equal(place['a'], 1);
    assert_int_equal(place['e'], 2);
    assert_int_equal(place['z'], 3);
    assert_int_equal(place[0], 4);
    assert_int_equal(place['b'], 'b' + 4 - 1); /* behind what was moved from before it */
    assert_int_equal(place[254], 255);
    cllm_tokenizer_free(&tokenizer);
}

static void gpt2s_vocabulary_keeps_its_pieces(void **state)
{
    struct cllm_tokenizer *tokenizer = NULL;
    const char *dir = foreign("gpt2");

    if (dir == NULL)
        skip();
    assert_int_equal(cllm_tokenizer_load(&tokenizer, dir), 0);
    check(tokenizer, *state, true);
    cllm_tokenizer_free(&tokenizer);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_trained_vocabulary_keeps_its_pieces),
        T(bytes_become_a_vocabulary_without_merges),
        T(a_rank_file_keeps_its_pieces),
        T(holes_are_closed_and_added_tokens_stay_added),
        T(places_follow_frequency_and_equals_keep_their_order),
        T(gpt2s_vocabulary_keeps_its_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
