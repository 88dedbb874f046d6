/*
 * tests/test_dataset.c - shards as windows, the manifest and the hash of the data.
 */
#include "tests/formats_temp.h"

#include <errno.h>
#include <sys/stat.h>

#include "formats/dataset.h"

/* A shard of @n tokens that all are @token. */
static void make_shard(const char *path, uint32_t n, uint8_t token)
{
    struct cllm_shard_writer writer;

    assert_int_equal(cllm_shard_writer_begin(&writer, path, 2), 0);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(cllm_shard_writer_put_bytes(&writer, &token, 1), 0);
    assert_int_equal(cllm_shard_writer_finish(&writer), 0);
}

static int open_one(struct cllm_dataset *dataset, const char *pattern, uint32_t window)
{
    char *copy = strdup(pattern);
    int rc = cllm_dataset_open(dataset, &copy, 1, window);

    free(copy);
    return rc;
}

static uint64_t hash_of(const char *pattern)
{
    struct cllm_dataset dataset;
    uint64_t hash = 0;

    assert_int_equal(open_one(&dataset, pattern, 4), 0);
    assert_int_equal(cllm_dataset_hash(&dataset, &hash), 0);
    cllm_dataset_close(&dataset);
    return hash;
}

static void every_window_lies_in_one_shard_and_none_is_lost(void **state)
{
    /* tokens -> windows of 10: (n - 1) / 10 */
    static const struct {
        const char *name;
        uint32_t n, windows;
    } shards[] = {
        {"a_2.bin", 11, 1}, {"a_10.bin", 20, 1}, {"b.bin", 21, 2}, {"c.bin", 100, 9}};
    struct cllm_dataset dataset;
    uint32_t shard;
    uint64_t off;

    for (size_t i = 0; i < CLLM_LEN(shards); i++)
        make_shard(in(*state, shards[i].name), shards[i].n, (uint8_t)i);
    assert_int_equal(open_one(&dataset, in(*state, "*.bin"), 10), 0);
    assert_int_equal(dataset.n_shards, 4);
    assert_int_equal(dataset.n_tokens, 152);
    assert_int_equal(dataset.n_windows, 13);
    /* strcmp: "a_10" comes before "a_2" */
    assert_non_null(strstr(dataset.shard[0].path, "a_10.bin"));
    assert_int_equal(dataset.shard[0].path[0], '/');
    static const uint32_t expected[13] = {0, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3};
    static const uint64_t offs[13] = {0, 0, 0, 10, 0, 10, 20, 30, 40, 50, 60, 70, 80};
    for (uint64_t window = 0; window < 13; window++) {
        cllm_dataset_locate(&dataset, window, &shard, &off);
        assert_int_equal(shard, expected[window]);
        assert_int_equal(off, offs[window]);
        assert_true(off + 10 + 1 <= dataset.shard[shard].n_tokens);
    }
    cllm_dataset_close(&dataset);
}

static void patterns_keep_their_order(void **state)
{
    struct cllm_dataset dataset;

    make_shard(in(*state, "a.bin"), 20, 1);
    make_shard(in(*state, "b.bin"), 20, 2);
    char *patterns[] = {strdup(in(*state, "b*")), strdup(in(*state, "a*"))};
    assert_int_equal(cllm_dataset_open(&dataset, patterns, 2, 5), 0);
    assert_non_null(strstr(dataset.shard[0].path, "/b.bin"));
    assert_non_null(strstr(dataset.shard[1].path, "/a.bin"));
    cllm_dataset_close(&dataset);
    free(patterns[0]);
    free(patterns[1]);
}

static void what_cannot_be_a_dataset_is_refused(void **state)
{
    struct cllm_dataset dataset;

    assert_int_equal(open_one(&dataset, in(*state, "*.bin"), 5), CLLM_ECONFIG);
    assert_error_says("no shard matches");
    assert_error_says("*.bin");
    assert_int_equal(cllm_dataset_open(&dataset, NULL, 0, 5), CLLM_ECONFIG);

    make_shard(in(*state, "a.bin"), 10, 1);
    char *twice[] = {strdup(in(*state, "a.bin")), strdup(in(*state, "*.bin"))};
    assert_int_equal(cllm_dataset_open(&dataset, twice, 2, 5), CLLM_ECONFIG);
    assert_error_says("given twice");
    free(twice[0]);
    free(twice[1]);

    assert_int_equal(open_one(&dataset, in(*state, "*.bin"), 9), 0);
    cllm_dataset_close(&dataset);
    assert_int_equal(open_one(&dataset, in(*state, "*.bin"), 10), CLLM_EDATA);
    assert_error_says("a.bin is shorter than the context");

    put_file(in(*state, "b.bin"), "text", 4);
    assert_int_equal(open_one(&dataset, in(*state, "*.bin"), 5), CLLM_EDATA);
    assert_error_says("b.bin");
    make_shard(in(*state, "c\td.bin"), 10, 1);
    assert_int_equal(open_one(&dataset, in(*state, "c*"), 5), CLLM_ECONFIG);
    assert_error_says("tabs");
}

static void tokens_are_checked_in_every_shard(void **state)
{
    struct cllm_dataset dataset;

    make_shard(in(*state, "a.bin"), 20, 10);
    make_shard(in(*state, "b.bin"), 20, 200);
    assert_int_equal(open_one(&dataset, in(*state, "*.bin"), 5), 0);
    assert_int_equal(cllm_dataset_check_tokens(&dataset, 201, 0), 0);
    assert_int_equal(cllm_dataset_check_tokens(&dataset, 200, 0), CLLM_EDATA);
    assert_error_says("b.bin: token 0");
    cllm_dataset_close(&dataset);
}

static void the_manifest_brings_the_same_dataset_back(void **state)
{
    struct cllm_dataset dataset, again;
    size_t bytes = 0, bytes_again = 0;

    make_shard(in(*state, "a.bin"), 20, 1);
    make_shard(in(*state, "b b.bin"), 31, 1);
    assert_int_equal(open_one(&dataset, in(*state, "*.bin"), 5), 0);
    char *text = cllm_dataset_manifest(&dataset, &bytes);
    assert_non_null(text);
    assert_int_equal(bytes, strlen(text));
    assert_non_null(strstr(text, "/a.bin\t20\t2\t1064\n"));
    assert_int_equal(cllm_dataset_from_manifest(&again, text, bytes, 5), 0);
    assert_int_equal(again.n_windows, dataset.n_windows);
    char *text_again = cllm_dataset_manifest(&again, &bytes_again);
    assert_string_equal(text, text_again);
    cllm_dataset_close(&again);
    cllm_dataset_close(&dataset);

    for (size_t cut = 0; cut < bytes; cut++) { /* whole lines are a shorter manifest */
        if (cut == 0 || text[cut - 1] != '\n')
            assert_true(cllm_dataset_from_manifest(&again, text, cut, 5) < 0);
    }
    make_shard(in(*state, "a.bin"), 21, 1);
    assert_int_equal(cllm_dataset_from_manifest(&again, text, bytes, 5), CLLM_EDATA);
    assert_error_says("has changed");
    free(text);
    free(text_again);
}

static void bad_manifest_lines_are_refused(void **state)
{
    static const char *const ends[] = {
        "\n",
        "\t20\n",
        "\t20\t2\n",
        "\t20\t2\t1064\t1\n",
        "\tx\t2\t1064\n",
        "\t-20\t2\t1064\n",
        "\t20 \t2\t1064\n",
        "\t20\t2\t\n",
        "\t18446744073709551636\t2\t1064\n",
    };
    struct cllm_dataset dataset;
    char line[CLLM_FILE_PATH_BYTES + 64];

    make_shard(in(*state, "a.bin"), 20, 1);
    for (size_t i = 0; i < CLLM_LEN(ends); i++) {
        int n = snprintf(line, sizeof line, "%s%s", in(*state, "a.bin"), ends[i]);
        assert_int_equal(cllm_dataset_from_manifest(&dataset, line, (size_t)n, 5),
                         CLLM_EDATA);
        assert_error_says("line 1");
    }
    assert_int_equal(cllm_dataset_from_manifest(&dataset, "a.bin\t20\t2\t1064\n", 17, 5),
                     CLLM_EDATA);
    /* A path that ends before its tab would name another file. */
    int n = snprintf(line, sizeof line, "%s/\t20\t2\t1064\n", in(*state, "a.bin"));
    line[strlen(in(*state, "a.bin"))] = '\0';
    assert_int_equal(cllm_dataset_from_manifest(&dataset, line, (size_t)n, 5),
                     CLLM_EDATA);
    assert_error_says("line 1");
}

static void the_hash_knows_the_data_but_not_the_directory(void **state)
{
    assert_int_equal(mkdir(in(*state, "x"), 0777), 0);
    assert_int_equal(mkdir(in(*state, "y"), 0777), 0);
    make_shard(in(*state, "x/a.bin"), 9000, 1);
    make_shard(in(*state, "y/a.bin"), 9000, 1);
    uint64_t hash = hash_of(in(*state, "x/*"));
    assert_true(hash == hash_of(in(*state, "y/*")));

    make_shard(in(*state, "y/a.bin"), 9001, 1); /* another length */
    assert_false(hash == hash_of(in(*state, "y/*")));
    make_shard(in(*state, "y/a.bin"), 9000, 2); /* other tokens */
    assert_false(hash == hash_of(in(*state, "y/*")));
    make_shard(in(*state, "y/a.bin"), 9000, 1);
    assert_int_equal(rename(in(*state, "y/a.bin"), in(*state, "y/b.bin")), 0);
    assert_false(hash == hash_of(in(*state, "y/*"))); /* another name */
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(every_window_lies_in_one_shard_and_none_is_lost),
        T(patterns_keep_their_order),
        T(what_cannot_be_a_dataset_is_refused),
        T(tokens_are_checked_in_every_shard),
        T(the_manifest_brings_the_same_dataset_back),
        T(bad_manifest_lines_are_refused),
        T(the_hash_knows_the_data_but_not_the_directory),
    };

    return cmocka_run_group_tests_name("dataset", tests, NULL, NULL);
}
