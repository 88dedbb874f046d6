/*
 * tests/test_mixture.c - lines of [data] mix: shares, order, refusals, the manifest; and
 * windows through the loader's functions.
 */
#include "tests/formats_temp.h"

#include "base/random.h"
#include "formats/mixture.h"
#include "loader/sampler.h"

#define WINDOW 10

/* A shard of @windows windows. */
static void put_shard(const char *dir, const char *name, uint32_t windows)
{
    struct cllm_shard_writer writer;

    assert_int_equal(cllm_shard_writer_begin(&writer, in(dir, name), 2), 0);
    for (uint32_t i = 0; i <= windows * WINDOW; i++)
        assert_int_equal(cllm_shard_writer_put(&writer, &(uint32_t){i % 200}, 1), 0);
    assert_int_equal(cllm_shard_writer_finish(&writer), 0);
}

/* Lines "NAME WEIGHT DIR/PATTERN", of which "@" in @text stands for DIR/. */
static uint32_t make_lines(char *lines[], const char *dir, const char *text)
{
    char *copy = strdup(text);
    uint32_t n = 0;

    assert_non_null(copy);
    for (char *rest = copy, *part; (part = strsep(&rest, "|")) != NULL;) {
        const char *at = strchr(part, '@');

        assert_true(n < CLLM_MIX_MAX);
        if (at == NULL)
            assert_non_null(lines[n] = strdup(part));
        else
            assert_true(asprintf(&lines[n], "%.*s%s/%s", (int)(at - part), part, dir,
                                 at + 1) > 0);
        n++;
    }
    free(copy);
    return n;
}

static int open_lines(struct cllm_mixture *mixture, const char *dir, const char *text)
{
    char *lines[CLLM_MIX_MAX];
    uint32_t n = make_lines(lines, dir, text);
    int rc = cllm_mixture_open(mixture, lines, n, WINDOW, CLLM_SHARD_AUTO);

    for (uint32_t i = 0; i < n; i++)
        free(lines[i]);
    return rc;
}

static void weights_are_reduced_and_parts_ordered(void **state)
{
    static const struct {
        const char *lines;
        uint32_t weight[3];
        const char *name[3];
    } row[] = {
        {"a 1 @a.bin|b 1 @b.bin|c 1 @c.bin", {1, 1, 1}, {"a", "b", "c"}},
        {"c 1 @c.bin|b 1 @b.bin|a 1 @a.bin", {1, 1, 1}, {"a", "b", "c"}},
        {"a 0.2 @a.bin|b 0.3 @b.bin|c 0.5 @c.bin", {5, 3, 2}, {"c", "b", "a"}},
        {"a 20 @a.bin|b 60 @b.bin|c 4 @c.bin", {15, 5, 1}, {"b", "a", "c"}},
        {"a 1000000000 @a.bin|b 1000000000 @b.bin|c 500000000 @c.bin",
         {2, 2, 1},
         {"a", "b", "c"}},
        {"a 0.000001 @a.bin|b\t0.000002\t@b.bin|c 1. @c.bin|", {0}, {NULL}},
    };

    put_shard(*state, "a.bin", 7);
    put_shard(*state, "b.bin", 11);
    put_shard(*state, "c.bin", 3);
    for (size_t i = 0; i < CLLM_LEN(row); i++) {
        struct cllm_mixture mixture;
        int rc = open_lines(&mixture, *state, row[i].lines);

        if (row[i].name[0] == NULL) {
            assert_int_equal(rc, CLLM_ECONFIG);
            continue;
        }
        assert_int_equal(rc, 0);
        assert_int_equal(mixture.mix.n, 3);
        for (uint32_t k = 0; k < 3; k++) {
            assert_string_equal(mixture.part[k].name, row[i].name[k]);
            assert_int_equal(mixture.mix.weight[k], row[i].weight[k]);
            assert_int_equal(mixture.part[k].n_windows, row[i].name[k][0] == 'a'   ? 7
                                                        : row[i].name[k][0] == 'b' ? 11
                                                                                   : 3);
        }
        cllm_mixture_close(&mixture);
    }
}

static void lines_of_one_name_are_one_data_set(void **state)
{
    struct cllm_mixture mixture;

    put_shard(*state, "a.bin", 7);
    put_shard(*state, "b.bin", 11);
    put_shard(*state, "c.bin", 3);
    assert_int_equal(open_lines(&mixture, *state, "x 2 @a.bin|y 1 @b.bin|x 2.0 @c.bin"),
                     0);
    assert_int_equal(mixture.mix.n, 2);
    assert_string_equal(mixture.part[0].name, "x");
    assert_int_equal(mixture.part[0].n_shards, 2);
    assert_int_equal(mixture.part[0].n_windows, 10);
    cllm_mixture_close(&mixture);
}

static void what_cannot_be_a_mixture_is_refused(void **state)
{
    static const struct {
        const char *lines;
        int rc;
        const char *says;
    } bad[] = {
        {"a", CLLM_ECONFIG, "is not NAME WEIGHT PATTERN"},
        {"a 1", CLLM_ECONFIG, "is not NAME WEIGHT PATTERN"},
        {"a 0 @a.bin", CLLM_ECONFIG, "is not NAME WEIGHT PATTERN"},
        {"a 0.0 @a.bin", CLLM_ECONFIG, "is not NAME WEIGHT PATTERN"},
        {"a -1 @a.bin", CLLM_ECONFIG, "is not NAME WEIGHT PATTERN"},
        {"a 1e3 @a.bin", CLLM_ECONFIG, "is not NAME WEIGHT PATTERN"},
        {"a nan @a.bin", CLLM_ECONFIG, "is not NAME WEIGHT PATTERN"},
        {"a .5 @a.bin", CLLM_ECONFIG, "is not NAME WEIGHT PATTERN"},
        {"a 1.0000001 @a.bin", CLLM_ECONFIG, "is not NAME WEIGHT PATTERN"},
        {"a 99999999999999999999 @a.bin", CLLM_ECONFIG, "is not NAME WEIGHT PATTERN"},
        {"a] 1 @a.bin", CLLM_ECONFIG, "is not NAME WEIGHT PATTERN"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 1 @a.bin", CLLM_ECONFIG, "is not NAME"},
        {"a 1 @a.bin|a 2 @b.bin", CLLM_ECONFIG, "two different weights"},
        {"a 1 @a.bin|b 2 @?.bin", CLLM_ECONFIG, "a.bin is in "},
        {"a 999999999 @a.bin|b 0.000001 @b.bin", CLLM_ECONFIG, "too many digits"},
        {"a 1 @nowhere.bin", CLLM_ECONFIG, "data set a of the mixture: no shard matches"},
        {"a 1 @a.bin|b 1 @short.bin", CLLM_EDATA, "shorter than the context"},
    };
    struct cllm_mixture mixture;

    put_shard(*state, "a.bin", 7);
    put_shard(*state, "b.bin", 11);
    put_shard(*state, "short.bin", 0);
    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        assert_int_equal(open_lines(&mixture, *state, bad[i].lines), bad[i].rc);
        assert_error_says(bad[i].says);
    }
}

static void the_manifest_says_it_all(void **state)
{
    struct cllm_mixture mixture, again, counted;
    uint64_t hash, hash_again;
    char *sections, *text;
    const char *at;

    put_shard(*state, "a.bin", 7);
    put_shard(*state, "b.bin", 11);
    assert_int_equal(open_lines(&mixture, *state, "a 0.25 @a.bin|b 0.75 @b.bin"), 0);
    sections = cllm_mixture_manifest(&mixture);
    assert_non_null(sections);
    assert_int_equal(strncmp(sections, "[train b 3]\n/", 13), 0);
    assert_true(asprintf(&text, "%s[valid]\nrest", sections) > 0);
    at = text;
    assert_int_equal(cllm_mixture_from_manifest(&again, &at, WINDOW), 0);
    assert_string_equal(at, "[valid]\nrest");
    at = text;
    assert_int_equal(cllm_mixture_parse(&counted, &at, WINDOW), 0);
    assert_string_equal(at, "[valid]\nrest");
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(again.mix.weight[i], mixture.mix.weight[i]);
        assert_string_equal(again.part[i].name, mixture.part[i].name);
        assert_int_equal(again.part[i].key, mixture.part[i].key);
        assert_int_equal(again.part[i].n_windows, mixture.part[i].n_windows);
        assert_int_equal(counted.part[i].n_windows, mixture.part[i].n_windows);
        assert_int_equal(counted.part[i].n_tokens, mixture.part[i].n_tokens);
        assert_int_equal(counted.part[i].data.n_shards, 0);
    }
    assert_int_equal(cllm_mixture_hash(&mixture, &hash), 0);
    assert_int_equal(cllm_mixture_hash(&again, &hash_again), 0);
    assert_int_equal(hash, hash_again);
    cllm_mixture_close(&mixture);
    cllm_mixture_close(&again);
    free(sections);
    free(text);
}

static void a_bad_manifest_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "[valid]\n",
        "[train",
        "[train]",
        "[train a]\n",
        "[train a 0]\n",
        "[train a 1.5]\n",
        "[train a 4294967296]\n",
        "[train a 99999999999]\n",
        "[train a 1\n[valid]\n",
        "[train a/b 1]\n[valid]\n",
        "[train a 1]\n[train b 2]\n[valid]\n",
        "[train a 4294967295]\n[train b 1]\n[valid]\n",
        "[train a 1]\n[train]\n[valid]\n",
        "[train a 1]\nrelative\t11\t2\t1046\n[valid]\n",
    };
    struct cllm_mixture mixture;

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        const char *text = bad[i];

        assert_int_equal(cllm_mixture_parse(&mixture, &text, WINDOW), CLLM_EDATA);
        assert_error_says("manifest of the data");
    }
}

static void each_window_comes_once_in_each_epoch_of_its_data_set(void **state)
{
    struct cllm_mixture mixture;
    uint32_t seen[2][16] = {{0}};
    uint64_t counts[CLLM_MIX_MAX];

    put_shard(*state, "a.bin", 7);
    put_shard(*state, "b.bin", 11);
    assert_int_equal(open_lines(&mixture, *state, "a 2 @a.bin|b 5 @b.bin"), 0);
    /* 77 windows of a are 11 epochs of 7; then b has had 192 or 193, 17.5 of 11 */
    for (uint64_t k = 0; k < 77 * 7 / 2; k++) {
        uint64_t rank, window;
        uint32_t d;

        cllm_mix_place(&mixture.mix, k, &d, &rank);
        window = cllm_sampler_window(cllm_sampler_seed(3, mixture.part[d].key),
                                     mixture.part[d].n_windows, rank);
        assert_true(window < mixture.part[d].n_windows);
        seen[d][window]++;
        /* nobody is an epoch ahead of anybody */
        assert_int_equal(seen[d][window], rank / mixture.part[d].n_windows + 1);
    }
    cllm_mix_count(&mixture.mix, 77 * 7 / 2, counts);
    assert_in_range(counts[1], 76, 78);
    cllm_mixture_close(&mixture);
}

static void data_sets_of_one_size_are_in_different_orders(void **state)
{
    uint64_t one = cllm_sampler_seed(3, 1), two = cllm_sampler_seed(3, 2), same = 0;

    (void)state;
    assert_int_equal(cllm_sampler_seed(3, 0), 3); /* a plain list */
    assert_true(cllm_sampler_seed(4, 1) != one);
    for (uint64_t q = 0; q < 1000; q++)
        same += cllm_sampler_window(one, 1000, q) == cllm_sampler_window(two, 1000, q);
    assert_true(same < 12); /* one by chance */
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(weights_are_reduced_and_parts_ordered),
        T(lines_of_one_name_are_one_data_set),
        T(what_cannot_be_a_mixture_is_refused),
        T(the_manifest_says_it_all),
        T(a_bad_manifest_is_refused),
        T(each_window_comes_once_in_each_epoch_of_its_data_set),
        T(data_sets_of_one_size_are_in_different_orders),
    };

    return cmocka_run_group_tests_name("mixture", tests, NULL, NULL);
}
