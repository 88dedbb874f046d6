/*
 * tests/test_saver_load.c - cllm-saver brings a checkpoint back into shared memory.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "shm/chunk.h"
#include "tests/saver_run.h"

/* LOAD of all chunks, as many at a time as fit; the hashes of the answers are collected
 * in the chunk table as Node Zero does. */
static void load_all(struct saver_run *run, uint64_t step, uint32_t target)
{
    uint32_t n = run->control.header->geometry.n_chunks;
    uint32_t hi;

    for (uint32_t lo = 0; lo < n; lo = hi) {
        struct cllm_report report;

        hi = (uint32_t)cllm_min_u64(lo + CLLM_MAX_ASSIGN_CHUNKS, n);
        saver_run_load(run, step, target, lo, hi, &report);
        if (report.flags != 0)
            fail_msg("%s", saver_run_status(run)->last_words);
        for (uint32_t c = lo; c < hi; c++)
            run->control.chunk[c].sum[target] = report.result[c - lo].sum;
    }
}

static void loading_gives_back_every_byte(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    const struct cllm_geometry *geometry = &run->control.header->geometry;
    size_t bytes = cllm_params_bytes(geometry);
    uint8_t *expected = malloc(bytes);

    assert_non_null(expected);
    assert_true(geometry->n_chunks > CLLM_MAX_ASSIGN_CHUNKS);
    saver_run_commit(run, 3, 0);
    memcpy(expected, run->params[1].base, bytes);
    saver_run_start(run, 0);
    saver_run_assert_saved(run, 3);
    for (uint32_t target = 0; target < 2; target++) {
        memset(run->params[target].base, 0xa5, run->params[target].bytes);
        load_all(run, 3, target);
        assert_memory_equal(run->params[target].base, expected, bytes);
        assert_true(cllm_chunk_root(run->control.chunk, geometry->n_chunks, target) ==
                    run->control.record[1].root);
    }
    free(expected);
}

static void a_range_of_chunks_changes_nothing_around_it(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    const struct cllm_geometry *geometry = &run->control.header->geometry;
    const uint8_t *base = run->params[0].base;
    struct cllm_report report;

    saver_run_commit(run, 3, 0);
    saver_run_start(run, 0);
    saver_run_assert_saved(run, 3);
    memset(run->params[0].base, 0xa5, run->params[0].bytes);
    saver_run_load(run, 3, 0, 20, 22, &report);
    assert_int_equal(report.flags, 0);
    for (uint64_t i = 0; i < cllm_params_bytes(geometry); i++) {
        uint64_t chunk = i / sizeof(float) % geometry->n_elements / 1024;

        if (chunk < 20 || chunk > 21)
            assert_int_equal(base[i], 0xa5);
        else
            assert_int_equal(base[i], run->params[1].base[i]);
    }
    assert_true(report.result[0].sum == run->control.chunk[20].sum[1]);
    assert_true(report.result[1].sum == run->control.chunk[21].sum[1]);
}

static void assert_not_loaded(struct saver_run *run, uint64_t step, int error,
                              const char *words)
{
    struct cllm_report report;

    saver_run_load(run, step, 0, 0, 4, &report);
    assert_int_equal(report.flags, CLLM_REPORT_FAILED);
    assert_int_equal(report.error, error);
    if (strstr(saver_run_status(run)->last_words, words) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", words, saver_run_status(run)->last_words);
}

static void a_damaged_checkpoint_is_not_loaded(void **state)
{
    static const char *const file[] = {"model.safetensors", "optimizer.safetensors",
                                       "config.json", "run.json", "manifest.json"};
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;

    saver_run_commit(run, 3, 0);
    saver_run_start(run, 0);
    saver_run_assert_saved(run, 3);
    for (size_t i = 0; i < CLLM_LEN(file); i++) {
        char name[64];

        (void)snprintf(name, sizeof name, "step-0000000003/%s", file[i]);
        saver_run_flip_file(run, name, i < 2 ? 5001 : 20);
        assert_not_loaded(run, 3, CLLM_EDATA, "step-0000000003");
        saver_run_flip_file(run, name, i < 2 ? 5001 : 20);
    }
    load_all(run, 3, 0);
}

static void a_checkpoint_that_is_not_there_is_not_loaded(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;

    saver_run_start(run, 0);
    assert_not_loaded(run, 8, -ENOENT, "step-0000000008");
}

static void a_checkpoint_under_another_name_is_not_loaded(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    char from[CLLM_FILE_PATH_BYTES], to[CLLM_FILE_PATH_BYTES];

    saver_run_commit(run, 3, 0);
    saver_run_start(run, 0);
    saver_run_assert_saved(run, 3);
    saver_run_path(run, from, "step-0000000003");
    saver_run_path(run, to, "step-0000000004");
    assert_int_equal(rename(from, to), 0);
    assert_not_loaded(run, 4, CLLM_EDATA, "step");
}

static void a_checkpoint_of_another_model_is_not_loaded(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    struct saver_run_digest digest;
    char from[CLLM_FILE_PATH_BYTES], to[CLLM_FILE_PATH_BYTES];

    saver_fixture_golden(fixture, &saver_run_large, 3, 0, &digest);
    saver_run_start(run, 0);
    saver_run_path(&fixture->other, from, "step-0000000003");
    saver_run_path(run, to, "step-0000000003");
    assert_int_equal(rename(from, to), 0);
    assert_not_loaded(run, 3, CLLM_EDATA, "not the tensor of this run's model");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(loading_gives_back_every_byte,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_range_of_chunks_changes_nothing_around_it,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_checkpoint_is_not_loaded,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_checkpoint_that_is_not_there_is_not_loaded,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_checkpoint_under_another_name_is_not_loaded,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_checkpoint_of_another_model_is_not_loaded,
                                        saver_fixture_set_up, saver_fixture_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
