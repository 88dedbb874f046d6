/*
 * tests/test_prep_vocab.c - the vocabularies of cllm-prep: trained, given to another data
 * set, renumbered; and the end-of-text token between documents.
 */
#include "tests/formats_temp.h"

#include "formats/dataset.h"
#include "formats/json.h"
#include "formats/sha256.h"
#include "formats/tokenizer.h"
#include "tests/prep_run.h"

static void a_trained_vocabulary_lies_beside_the_shards(void **state)
{
    static char text[40001];
    static const char phrases[][8] = {"the end\n", "and some", " of that"};
    json_t *json = NULL, *tokenizer = NULL, *files = NULL;
    struct cllm_tokenizer *loaded = NULL;
    const char *hash = NULL, *name = NULL, *sha256 = NULL;
    uint64_t vocab = 0, bytes = 0;
    char hex[CLLM_SHA256_HEX_BYTES];

    for (size_t i = 0; i + 8 < sizeof text; i += 8)
        memcpy(text + i, phrases[i % 56 == 0 ? 0 : i % 24 == 0 ? 1 : 2], 8);
    put_file(in(*state, "a"), text, sizeof text - 1);
    put_file(in(*state, "b"), text, sizeof text - 1);
    assert_int_equal(prep(*state, "-o out --train-vocab 280 a b"), 0);
    assert_int_equal(cllm_json_load(in(*state, "out/dataset.json"), 1 << 20, &json), 0);
    assert_int_equal(cllm_json_get_u64(json, "d", "vocab", &vocab), 0);
    assert_int_equal(cllm_json_get_object(json, "d", "tokenizer", &tokenizer), 0);
    assert_int_equal(cllm_json_get_text(tokenizer, "d", "hash", &hash), 0);
    assert_int_equal(cllm_json_get_array(tokenizer, "d", "files", &files), 0);
    assert_int_equal(json_array_size(files), 3);
    for (size_t i = 0; i < 3; i++) {
        const json_t *file = json_array_get(files, i);
        assert_int_equal(cllm_json_get_text(file, "d", "name", &name), 0);
        assert_int_equal(cllm_json_get_text(file, "d", "sha256", &sha256), 0);
        char path[64];
        (void)snprintf(path, sizeof path, "out/%s", name);
        assert_int_equal(cllm_sha256_file(in(*state, path), hex, &bytes), 0);
        assert_string_equal(hex, sha256);
    }
    assert_int_equal(cllm_tokenizer_load(&loaded, in(*state, "out")), 0);
    assert_string_equal(cllm_tokenizer_hash(loaded), hash);
    assert_int_equal(cllm_tokenizer_size(loaded), vocab);
    assert_int_equal(access(in(*state, "out/.partial"), F_OK), -1);
    /* Given to another data set, it is the same, and so are the shards. */
    assert_int_equal(prep(*state, "-o again --tokenizer out a b"), 0);
    assert_same_file(in(*state, "out/train_000.bin"), in(*state, "again/train_000.bin"));
    assert_int_equal(prep(*state, "-o out --force --tokenizer out a b"), 2);
    assert_said("lies in the output directory");
    cllm_tokenizer_free(&loaded);
    json_decref(json);
}

/* a.jsonl: many short documents; the end-of-text token stands between them alone. */
static void documents_are_separated_by_the_end_of_text(void **state)
{
    static char lines[30000];
    struct cllm_tokenizer *tokenizer = NULL;
    struct cllm_dataset dataset;
    uint32_t eot, n_eot = 0, first = 0;

    for (int i = 0; i < 300; i++)
        (void)snprintf(lines + strlen(lines), sizeof lines - strlen(lines),
                       "{\"text\": \"document %d <|endoftext|> of many\"}\n", i);
    put_file(in(*state, "a.jsonl"), lines, strlen(lines));
    assert_int_equal(prep(*state, "-o out --train-vocab 270 a.jsonl"), 0);
    assert_said("whole documents");
    assert_int_equal(cllm_tokenizer_load(&tokenizer, in(*state, "out")), 0);
    eot = cllm_tokenizer_eot(tokenizer);
    char *pattern = strdup(in(*state, "out/*_*.bin"));
    assert_int_equal(cllm_dataset_open(&dataset, &pattern, 1, 1), 0);
    assert_int_equal(dataset.n_shards, 2);
    for (uint32_t k = 0; k < 2; k++) {
        for (uint64_t i = 0; i < dataset.shard[k].n_tokens; i++) {
            uint32_t token;
            assert_int_equal(cllm_shard_read(&dataset.shard[k], i, 1, &token), 0);
            n_eot += token == eot ? 1 : 0;
            first = k == 1 && i == 0 ? token : first;
        }
    }
    assert_int_equal(n_eot, 299);
    assert_int_not_equal(first, eot); /* validation begins with a document */
    cllm_dataset_close(&dataset);
    cllm_tokenizer_free(&tokenizer);
    free(pattern);
    /* As themselves: one more in each document. */
    assert_int_equal(
        prep(*state,
             "-o special --tokenizer out --allow-special --val-fraction 0 a.jsonl"),
        0);
    pattern = strdup(in(*state, "special/train_*.bin"));
    assert_int_equal(cllm_dataset_open(&dataset, &pattern, 1, 1), 0);
    n_eot = 0;
    for (uint64_t i = 0; i < dataset.shard[0].n_tokens; i++) {
        uint32_t token;
        assert_int_equal(cllm_shard_read(&dataset.shard[0], i, 1, &token), 0);
        n_eot += token == eot ? 1 : 0;
    }
    assert_int_equal(n_eot, 599);
    cllm_dataset_close(&dataset);
    free(pattern);
}

/* Count the ids of a shard; how many tokens it has. */
static uint64_t count_ids(const char *path, uint64_t *count, uint32_t n_ids)
{
    struct cllm_shard shard;
    uint32_t token = 0;

    assert_int_equal(cllm_shard_open(&shard, path), 0);
    uint64_t n = shard.n_tokens;
    for (uint64_t i = 0; i < n; i++) {
        assert_int_equal(cllm_shard_read(&shard, i, 1, &token), 0);
        assert_true(token < n_ids);
        count[token]++;
    }
    cllm_shard_close(&shard);
    return n;
}

/* The bytes that the tokens of shard @path stand for, as @tokenizer has them. */
static char *text_of_shard(const char *path, const struct cllm_tokenizer *tokenizer)
{
    struct cllm_shard shard;
    uint32_t token = 0;
    size_t n = 0, used = 0;

    assert_int_equal(cllm_shard_open(&shard, path), 0);
    char *text = calloc(1, shard.n_tokens * 64 + 1);
    assert_non_null(text);
    for (uint64_t i = 0; i < shard.n_tokens; i++) {
        assert_int_equal(cllm_shard_read(&shard, i, 1, &token), 0);
        const uint8_t *bytes = cllm_tokenizer_token(tokenizer, token, &n);
        assert_true(n <= 64);
        memcpy(text + used, bytes, n);
        used += n;
    }
    cllm_shard_close(&shard);
    return text;
}

/* @options: of the tokenizer. Ids fall with their frequency, and the text is the same. */
static void check_renumbered(const char *dir, const char *options)
{
    static const char *const shards[] = {"train_000.bin", "val_000.bin"};
    struct cllm_tokenizer *before = NULL, *after = NULL;
    json_t *json = NULL, *tokenizer = NULL;
    const char *how = NULL, *hash = NULL;
    uint64_t count[600] = {0}, last = UINT64_MAX;
    char command[256];

    (void)snprintf(command, sizeof command, "-o plain --force %s text", options);
    assert_int_equal(prep(dir, command), 0);
    (void)snprintf(command, sizeof command, "-o new --force --renumber %s text", options);
    assert_int_equal(prep(dir, command), 0);
    assert_said("renumbered: the first 256 ids have");
    assert_int_equal(cllm_json_load(in(dir, "new/dataset.json"), 1 << 20, &json), 0);
    assert_int_equal(cllm_json_get_object(json, "d", "tokenizer", &tokenizer), 0);
    assert_int_equal(cllm_json_get_text(tokenizer, "d", "renumbered", &how), 0);
    assert_string_equal(how, "frequency");
    assert_int_equal(cllm_json_get_text(tokenizer, "d", "hash", &hash), 0);
    assert_int_equal(
        cllm_tokenizer_load(&before, access(in(dir, "plain/vocab.json"), F_OK) == 0
                                         ? in(dir, "plain")
                                         : CLLM_TOKENIZER_BYTES),
        0);
    assert_int_equal(cllm_tokenizer_load(&after, in(dir, "new")), 0);
    assert_string_equal(cllm_tokenizer_hash(after), hash);
    assert_int_equal(cllm_tokenizer_size(after), cllm_tokenizer_size(before));
    (void)count_ids(in(dir, "new/train_000.bin"), count, cllm_tokenizer_size(after));
    for (uint32_t id = 0; id < cllm_tokenizer_size(after); id++) {
        assert_true(count[id] <= last);
        last = count[id];
    }
    for (size_t i = 0; i < CLLM_LEN(shards); i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "plain/%s", shards[i]);
        char *one = text_of_shard(in(dir, path), before);
        (void)snprintf(path, sizeof path, "new/%s", shards[i]);
        char *two = text_of_shard(in(dir, path), after);
        assert_string_equal(one, two);
        free(one);
        free(two);
    }
    /* Given to another data set, it makes the same shards. */
    assert_int_equal(prep(dir, "-o again --force --tokenizer new text"), 0);
    assert_same_file(in(dir, "new/train_000.bin"), in(dir, "again/train_000.bin"));
    cllm_tokenizer_free(&before);
    cllm_tokenizer_free(&after);
    json_decref(json);
}

static void ids_are_renumbered_by_frequency(void **state)
{
    char text[30001] = "";
    size_t used = 0;

    for (unsigned i = 0; used + 100 < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 i % 3 == 0 ? "zebra number %u\n" : "the zoo, %u ", i);
    put_file(in(*state, "text"), text, used);
    check_renumbered(*state, "--tokenizer bytes");
    check_renumbered(*state, "--train-vocab 300");
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_trained_vocabulary_lies_beside_the_shards),
        T(documents_are_separated_by_the_end_of_text),
        T(ids_are_renumbered_by_frequency),
    };

    if (!prep_find())
        return 1;
    return cmocka_run_group_tests_name("prep_vocab", tests, NULL, NULL);
}
