/*
 * tests/test_manifest.c - shards held against the dataset.json beside them.
 */
#include "tests/formats_temp.h"

#include "formats/manifest.h"

/* A shard of @n tokens, each @first + its index, modulo 1000. */
static void put_shard(const char *path, uint32_t first, size_t n)
{
    struct cllm_shard_writer writer;

    assert_int_equal(cllm_shard_writer_begin(&writer, path, 2), 0);
    for (size_t i = 0; i < n; i++) {
        uint32_t token = (first + (uint32_t)i) % 1000;
        assert_int_equal(cllm_shard_writer_put(&writer, &token, 1), 0);
    }
    assert_int_equal(cllm_shard_writer_finish(&writer), 0);
}

static json_t *entry_of(const char *path, const char *name)
{
    struct cllm_manifest_shard entry = {.name = ""};
    struct cllm_shard shard;

    assert_int_equal(cllm_shard_open(&shard, path), 0);
    (void)snprintf(entry.name, sizeof entry.name, "%s", name);
    entry.n_tokens = shard.n_tokens;
    assert_int_equal(cllm_manifest_edges(&shard, &entry.edges), 0);
    assert_int_equal(cllm_sha256_file(path, entry.sha256, &entry.file_bytes), 0);
    cllm_shard_close(&shard);
    json_t *json = cllm_manifest_pack(&entry);
    assert_non_null(json);
    return json;
}

/* A data set of two shards in *state. */
static int set_setup(void **state)
{
    if (temp_setup(state) != 0)
        return -1;
    put_shard(in(*state, "train_000.bin"), 0, 9000);
    put_shard(in(*state, "val_000.bin"), 500, 200);
    json_t *json = json_pack(
        "{s:s, s:i, s:{s:[o]}, s:{s:[o]}}", "format", "cllm-dataset", "version", 2,
        "train", "shards", entry_of(in(*state, "train_000.bin"), "train_000.bin"), "val",
        "shards", entry_of(in(*state, "val_000.bin"), "val_000.bin"));
    char *text = cllm_json_dump(json, NULL);
    put_file(in(*state, "dataset.json"), text, strlen(text));
    free(text);
    json_decref(json);
    return 0;
}

/* What the check says of both shards. */
static int check(const char *dir)
{
    struct cllm_shard shard[2];

    assert_int_equal(cllm_shard_open(&shard[0], in(dir, "train_000.bin")), 0);
    assert_int_equal(cllm_shard_open(&shard[1], in(dir, "val_000.bin")), 0);
    int rc = cllm_manifest_check(shard, 2);
    cllm_shard_close(&shard[0]);
    cllm_shard_close(&shard[1]);
    return rc;
}

static void a_whole_data_set_is_taken(void **state)
{
    assert_int_equal(check(*state), 0);
}

static void shards_without_a_manifest_are_taken(void **state)
{
    assert_int_equal(unlink(in(*state, "dataset.json")), 0);
    assert_int_equal(check(*state), 0);
}

static void a_data_set_that_is_not_finished_is_refused(void **state)
{
    assert_int_equal(unlink(in(*state, "dataset.json")), 0);
    assert_int_equal(cllm_file_mkdirs(in(*state, ".partial")), 0);
    assert_int_equal(check(*state), CLLM_EDATA);
    assert_error_says("is not finished");
}

static void another_size_is_refused(void **state)
{
    put_shard(in(*state, "train_000.bin"), 0, 9001);
    assert_int_equal(check(*state), CLLM_EDATA);
    assert_error_says("train_000.bin is not the shard that");
}

static void another_beginning_or_end_is_refused(void **state)
{
    static const long places[] = {CLLM_SHARD_HEADER_BYTES,
                                  CLLM_SHARD_HEADER_BYTES + 2 * 9000 - 2};

    for (size_t i = 0; i < CLLM_LEN(places); i++) {
        put_shard(in(*state, "train_000.bin"), 0, 9000);
        assert_int_equal(check(*state), 0);
        FILE *file = fopen(in(*state, "train_000.bin"), "r+b");
        assert_non_null(file);
        assert_int_equal(fseek(file, places[i], SEEK_SET), 0);
        assert_int_equal(fputc(0x7f, file), 0x7f);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(check(*state), CLLM_EDATA);
        assert_error_says("train_000.bin is not the shard that");
    }
}

static void a_shard_that_is_not_listed_is_refused(void **state)
{
    struct cllm_shard shard;

    put_shard(in(*state, "train_001.bin"), 0, 300);
    assert_int_equal(cllm_shard_open(&shard, in(*state, "train_001.bin")), 0);
    assert_int_equal(cllm_manifest_check(&shard, 1), CLLM_EDATA);
    assert_error_says("does not list train_001.bin");
    cllm_shard_close(&shard);
}

static void a_manifest_of_nonsense_is_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "dataset.json:"},
        {"{}", "\"format\": expected text, found nothing"},
        {"{\"format\": \"other\"}", "expected \"cllm-dataset\", found \"other\""},
        {"{\"format\": \"cllm-dataset\"}", "\"train\": expected an object"},
        {"{\"format\": \"cllm-dataset\", \"train\": {\"shards\": 1}}",
         "\"shards\": expected an array"},
        {"{\"format\": \"cllm-dataset\", \"train\": {\"shards\": [{\"name\": "
         "\"train_000.bin\"}]}}",
         "\"sha256\": expected text, found nothing"},
        {"{\"format\": \"cllm-dataset\", \"train\": {\"shards\": [{\"name\": "
         "\"train_000.bin\", \"sha256\": \"00\", \"edges\": \"x\", \"tokens\": 9000, "
         "\"bytes\": 19024}]}}",
         "expected hashes"},
    };

    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        put_file(in(*state, "dataset.json"), cases[i].text, strlen(cases[i].text));
        assert_int_equal(check(*state), CLLM_EDATA);
        assert_error_says(cases[i].says);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_whole_data_set_is_taken),
        T(shards_without_a_manifest_are_taken),
        T(a_data_set_that_is_not_finished_is_refused),
        T(another_size_is_refused),
        T(another_beginning_or_end_is_refused),
        T(a_shard_that_is_not_listed_is_refused),
        T(a_manifest_of_nonsense_is_refused),
    };

    return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
