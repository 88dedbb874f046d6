/*
 * tests/test_saver.c - cllm-saver as a process: what it writes, what it keeps, and the
 * memory that it refuses to write.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "saver/piece.h"
#include "shm/chunk.h"
#include "tests/saver_run.h"

static void assert_link(const struct saver_run *run, const char *name, const char *target)
{
    char path[CLLM_FILE_PATH_BYTES], found[256] = "";

    saver_run_path(run, path, name);
    assert_true(readlink(path, found, sizeof found - 1) > 0);
    assert_string_equal(found, target);
}

/* ---- pieces ---- */

static void the_pieces_of_all_chunks_are_every_tensor_once(void **state)
{
    static const uint64_t chunk_elements[] = {1, 7, 16, 1024, 100000};
    struct saver_fixture *fixture = *state;
    const struct saver_run *run = &fixture->run;
    uint64_t end = run->control.header->geometry.n_elements;

    for (size_t i = 0; i < CLLM_LEN(chunk_elements); i++) {
        uint64_t *seen = calloc(run->plan.n_tensors, sizeof *seen);

        assert_non_null(seen);
        for (uint64_t lo = 0; lo < end; lo += chunk_elements[i]) {
            uint64_t hi = cllm_min_u64(lo + chunk_elements[i], end);
            struct cllm_piece piece =
                cllm_piece_begin(run->plan.tensors, run->plan.n_tensors, lo, hi);

            while (cllm_piece_next(&piece)) {
                assert_true(piece.n > 0);
                assert_true(piece.range_off + piece.n <= hi - lo);
                assert_int_equal(piece.tensor_off, seen[piece.tensor]);
                assert_int_equal(run->plan.tensors[piece.tensor].off + piece.tensor_off,
                                 lo + piece.range_off);
                seen[piece.tensor] += piece.n;
            }
        }
        for (uint32_t t = 0; t < run->plan.n_tensors; t++)
            assert_int_equal(seen[t], run->plan.tensors[t].count);
        free(seen);
    }
}

/* ---- saving ---- */

static void a_saved_step_verifies_and_holds_the_bits(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    const struct cllm_geometry *geometry = &run->control.header->geometry;
    const float *vector = (const float *)(const void *)run->params[1].base;
    struct cllm_checkpoint checkpoint;

    saver_run_commit(run, 3, 3);
    saver_run_start(run, 0);
    saver_run_assert_saved(run, 3);
    assert_link(run, "last", "step-0000000003");
    assert_link(run, "best", "step-0000000003");
    assert_int_equal(saver_run_count(run), 3);
    assert_int_equal(cllm_load_relaxed(&saver_run_status(run)->saved_bytes),
                     3 * geometry->n_params * sizeof(float));

    assert_int_equal(cllm_checkpoint_open(&checkpoint, run->dir), 0);
    assert_int_equal(checkpoint.info.step, 3);
    assert_int_equal(checkpoint.info.cursor, 21);
    assert_int_equal(checkpoint.info.tokens, 21 * 17);
    assert_string_equal(checkpoint.info.fingerprint, "0000000000abcdef0000000000001122");
    assert_string_equal(checkpoint.info.data, "0000000000003344");
    assert_true(checkpoint.info.train_loss == 3.5 / 4);
    assert_int_equal(checkpoint.info.best_step, 3);
    assert_int_equal(checkpoint.info.model.width, 36);
    for (uint32_t t = 0; t < run->plan.n_tensors; t++) {
        static const char *const prefix[3] = {"", "m.", "v."};
        const struct cllm_tensor *tensor = &run->plan.tensors[t];
        float *values = malloc(tensor->count * sizeof *values);

        assert_non_null(values);
        for (uint32_t part = 0; part < 3; part++) {
            char name[80];

            (void)snprintf(name, sizeof name, "%s%s", prefix[part], tensor->name);
            assert_int_equal(
                cllm_checkpoint_read(&checkpoint, name, values, tensor->count), 0);
            assert_memory_equal(values,
                                vector + part * geometry->n_elements + tensor->off,
                                tensor->count * sizeof *values);
        }
        free(values);
    }
    cllm_checkpoint_close(&checkpoint);
    assert_int_equal(saver_run_leave(run), 0);
}

static void two_runs_of_the_same_bits_write_the_same_bytes(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    struct saver_run_digest first, second;

    saver_fixture_golden(fixture, &saver_run_small, 4, 0, &first);
    saver_run_commit(run, 4, 0);
    saver_run_start(run, 0);
    saver_run_assert_saved(run, 4);
    saver_run_digest(run, 4, &second);
    saver_run_assert_same(&first, &second);
}

static void old_checkpoints_go_and_the_best_stays(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;

    saver_run_start(run, 0);
    for (uint64_t step = 1; step <= 5; step++) {
        saver_run_commit(run, step, step < 2 ? 0 : 2);
        saver_run_assert_saved(run, step);
    }
    assert_link(run, "best", "step-0000000002");
    assert_link(run, "last", "step-0000000005");
    assert_true(saver_run_has(run, "step-0000000002"));
    assert_true(saver_run_has(run, "step-0000000004"));
    assert_true(saver_run_has(run, "step-0000000005"));
    assert_int_equal(saver_run_count(run), 5);
}

static void a_checkpoint_that_is_there_already_is_kept(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    char path[CLLM_FILE_PATH_BYTES];
    struct stat before, after;

    saver_run_commit(run, 2, 0);
    saver_run_start(run, 0);
    saver_run_assert_saved(run, 2);
    saver_run_path(run, path, "step-0000000002/model.safetensors");
    assert_int_equal(stat(path, &before), 0);
    saver_run_assert_saved(run, 2);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
}

static void a_damaged_checkpoint_of_that_step_is_replaced(void **state)
{
    static const char *const file[] = {"model.safetensors", "optimizer.safetensors",
                                       "config.json", "run.json", "manifest.json"};
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    struct saver_run_digest good, again;

    saver_run_commit(run, 2, 0);
    saver_run_start(run, 0);
    saver_run_assert_saved(run, 2);
    saver_run_digest(run, 2, &good);
    for (size_t i = 0; i < CLLM_LEN(file); i++) {
        char name[64];

        (void)snprintf(name, sizeof name, "step-0000000002/%s", file[i]);
        saver_run_flip_file(run, name, i < 2 ? 5001 : 20);
        saver_run_assert_saved(run, 2);
        saver_run_digest(run, 2, &again);
        saver_run_assert_same(&good, &again);
        assert_int_equal(saver_run_count(run), 2);
    }
}

static void a_checkpoint_of_other_bits_is_replaced(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    struct saver_run_digest first, second;
    float *w = (float *)(void *)run->params[0].base;

    saver_run_commit(run, 2, 0);
    saver_run_start(run, 0);
    saver_run_assert_saved(run, 2);
    saver_run_digest(run, 2, &first);
    w[100] = 42.0f;
    run->control.chunk[0].sum[0] =
        cllm_chunk_sum(w, w + run->control.header->geometry.n_elements,
                       w + 2 * run->control.header->geometry.n_elements,
                       saver_run_small.chunk_elements, 0);
    run->control.record[0].root =
        cllm_chunk_root(run->control.chunk, run->control.header->geometry.n_chunks, 0);
    run->control.record[0].sum = cllm_step_record_sum(&run->control.record[0]);
    saver_run_assert_saved(run, 2);
    saver_run_digest(run, 2, &second);
    assert_string_not_equal(first.hex[0], second.hex[0]);
    assert_string_equal(first.hex[2], second.hex[2]);
}

/* ---- the pin ---- */

/* At a fault point that is armed with stop. */
static void wait_until_stopped(const struct saver_run *run)
{
    int status = 0;

    assert_int_equal(waitpid(run->pid, &status, WUNTRACED), run->pid);
    assert_true(WIFSTOPPED(status));
}

/* Asked before the first chunk, and after some are written. */
static void a_hurried_saver_lets_go_and_writes_the_same_bytes(void **state)
{
    const struct cllm_assignment work = {.kind = CLLM_WORK_SAVE, .step = 5, .version = 1};
    struct saver_fixture *fixture = *state;
    struct saver_run *run = saver_fixture_open_other(fixture, &saver_run_large);
    const struct cllm_status *status = saver_run_status(run);
    struct saver_run_digest calm, hurried;
    struct cllm_report report;

    saver_run_start(run, 0);
    saver_run_commit(run, 5, 0);
    saver_run_assert_saved(run, 5);
    assert_int_equal(cllm_load_relaxed(&status->copied_bytes), 0);
    saver_run_digest(run, 5, &calm);
    for (int begun = 0; begun < 2; begun++) {
        assert_int_equal(
            cllm_fault_arm(run->control.faults,
                           begun ? "save_chunk:stop:2,save_free:stop" : "save_free:stop"),
            1 + begun);
        saver_run_flip_file(run, "step-0000000005/model.safetensors", 5000);
        saver_run_commit(run, 5, 0);
        cllm_store_release(&run->control.state->hurry_version, begun ? 0 : 2);
        saver_run_post(run, &work);
        if (begun) {
            wait_until_stopped(run);
            cllm_store_release(&run->control.state->hurry_version, 2);
            assert_int_equal(kill(run->pid, SIGCONT), 0);
        }
        wait_until_stopped(run);
        assert_int_equal(cllm_load_acquire(&status->saving_step), 5);
        assert_int_equal(cllm_load_acquire(&status->holds_version), 0);
        /* As the next update would, at the first moment it may. */
        memset(run->params[1].base, 0xff, run->params[1].bytes);
        assert_int_equal(kill(run->pid, SIGCONT), 0);
        saver_run_wait(run, &report);
        assert_int_equal(report.flags, 0);
        saver_run_digest(run, 5, &hurried);
        saver_run_assert_same(&calm, &hurried);
    }
    assert_true(cllm_load_relaxed(&status->copied_bytes) >
                cllm_params_bytes(&run->control.header->geometry));
}

static void hurry_for_the_other_version_changes_nothing(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;

    saver_run_commit(run, 5, 0);
    saver_run_start(run, 0);
    cllm_store_release(&run->control.state->hurry_version, 1);
    saver_run_assert_saved(run, 5);
    assert_int_equal(cllm_load_relaxed(&saver_run_status(run)->copied_bytes), 0);
}

/* ---- memory that is not what the workers wrote ---- */

static void a_flipped_bit_in_memory_is_not_saved(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    const struct cllm_geometry *geometry = &run->control.header->geometry;
    uint64_t bytes = geometry->n_elements * sizeof(float);
    uint32_t last = geometry->n_chunks - 1;
    struct saver_run_digest before, after;
    const struct {
        uint64_t off; /* in the params object */
        uint32_t chunk;
    } flips[] = {
        {0, 0},
        {4096 * 33 + 17, 33},
        {bytes + 4096 * 5, 5},             /* a first moment */
        {2 * bytes + 4096 * 68 + 100, 68}, /* a second moment */
        {bytes - 1, last},                 /* behind the last tensor: in no file */
    };

    saver_run_start(run, 0);
    saver_run_commit(run, 1, 0);
    saver_run_assert_saved(run, 1);
    saver_run_digest(run, 1, &before);
    saver_run_commit(run, 2, 0);
    for (size_t i = 0; i < CLLM_LEN(flips); i++) {
        char words[32];

        (void)snprintf(words, sizeof words, "chunk %u of version 0", flips[i].chunk);
        run->params[0].base[flips[i].off] ^= 0x01;
        saver_run_assert_refused(run, 2, -EBADMSG,
                                 CLLM_REPORT_FAILED | CLLM_REPORT_BAD_SUM, words);
        run->params[0].base[flips[i].off] ^= 0x01;
        assert_int_equal(saver_run_count(run), 2);
    }
    saver_run_digest(run, 1, &after);
    saver_run_assert_same(&before, &after);
    saver_run_assert_saved(run, 2);
    assert_string_equal(saver_run_status(run)->last_words, "");
}

static void a_bad_record_or_chunk_table_is_not_saved(void **state)
{
    const uint32_t bad_sum = CLLM_REPORT_FAILED | CLLM_REPORT_BAD_SUM;
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;

    saver_run_commit(run, 2, 0);
    saver_run_start(run, 0);
    run->control.record[0].cursor++;
    saver_run_assert_refused(run, 2, -EBADMSG, bad_sum, "no valid record of step 2");
    run->control.record[0].cursor--;
    saver_run_assert_refused(run, 4, -EBADMSG, bad_sum, "no valid record of step 4");
    run->control.chunk[7].sum[0] ^= 1;
    saver_run_assert_refused(run, 2, -EBADMSG, bad_sum, "not those of step 2");
    run->control.chunk[7].sum[0] ^= 1;
    saver_run_assert_saved(run, 2);
}

static void work_that_is_not_the_savers_is_refused(void **state)
{
    const struct cllm_assignment strange[] = {
        {.kind = CLLM_WORK_UPDATE},
        {.kind = CLLM_WORK_LAST},
        {.kind = CLLM_WORK_SAVE, .step = 2, .version = 1},
        {.kind = CLLM_WORK_SAVE, .step = 2, .version = 7},
        {.kind = CLLM_WORK_LOAD, .step = 2, .target = 2, .chunk_hi = 1},
        {.kind = CLLM_WORK_LOAD, .step = 2, .chunk_lo = 1, .chunk_hi = 1},
        {.kind = CLLM_WORK_LOAD, .step = 2, .chunk_hi = 65},
        {.kind = CLLM_WORK_LOAD, .step = 2, .chunk_lo = 69, .chunk_hi = 1000},
    };
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;

    saver_run_commit(run, 2, 0);
    saver_run_start(run, 0);
    saver_run_assert_saved(run, 2);
    for (size_t i = 0; i < CLLM_LEN(strange); i++) {
        struct cllm_report report;

        saver_run_post(run, &strange[i]);
        saver_run_wait(run, &report);
        assert_int_equal(report.flags, CLLM_REPORT_FAILED);
        assert_int_equal(report.error, -EINVAL);
    }
    assert_int_equal(saver_run_leave(run), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_pieces_of_all_chunks_are_every_tensor_once,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_saved_step_verifies_and_holds_the_bits,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(two_runs_of_the_same_bits_write_the_same_bytes,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(old_checkpoints_go_and_the_best_stays,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_checkpoint_that_is_there_already_is_kept,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_checkpoint_of_that_step_is_replaced,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_checkpoint_of_other_bits_is_replaced,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_hurried_saver_lets_go_and_writes_the_same_bytes,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(hurry_for_the_other_version_changes_nothing,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_flipped_bit_in_memory_is_not_saved,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_bad_record_or_chunk_table_is_not_saved,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(work_that_is_not_the_savers_is_refused,
                                        saver_fixture_set_up, saver_fixture_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
