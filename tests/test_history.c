/*
 * tests/test_history.c - tools/history.h: losses kept, read from metrics, put in columns.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/history.h"

static struct cllm_history history;

static int setup(void **state)
{
    (void)state;
    memset(&history, 0, sizeof history);
    return 0;
}

static void steps_only_go_forward_and_losses_are_numbers(void **state)
{
    (void)state;
    cllm_history_add(&history, 5, 2.0);
    cllm_history_add(&history, 5, 3.0);
    cllm_history_add(&history, 4, 3.0);
    cllm_history_add(&history, 6, (double)NAN);
    cllm_history_add(&history, 7, (double)INFINITY);
    cllm_history_add(&history, 8, 1.0);
    assert_int_equal(history.n, 2);
    assert_int_equal(history.step[1], 8);
}

static void a_full_history_keeps_the_whole_run(void **state)
{
    double column[10], low, high;
    uint64_t last = 5 * CLLM_HISTORY_MAX;

    (void)state;
    for (uint64_t step = 1; step <= last; step++)
        cllm_history_add(&history, step, (double)step);
    assert_true(history.n <= CLLM_HISTORY_MAX);
    assert_int_equal(history.step[history.n - 1], last);
    assert_int_equal(cllm_history_columns(&history, column, 10, &low, &high), 10);
    for (int i = 0; i < 10; i++) {
        double middle = ((double)i + 0.5) / 10.0 * (double)last;

        assert_true(fabs(column[i] - middle) < 0.02 * (double)last);
    }
    assert_true(low == column[0] && high == column[9]);
}

static void few_losses_give_few_columns_and_gaps_repeat(void **state)
{
    double column[8], low, high;

    (void)state;
    assert_int_equal(cllm_history_columns(&history, column, 8, &low, &high), 0);
    cllm_history_add(&history, 1, 4.0);
    cllm_history_add(&history, 2, 3.0);
    cllm_history_add(&history, 100, 1.0);
    assert_int_equal(cllm_history_columns(&history, column, 8, &low, &high), 3);
    assert_true(column[0] == 3.5 && column[1] == 3.5 && column[2] == 1.0);
}

static void odd_lines_of_the_metrics_are_passed_over(void **state)
{
    char dir[] = "/tmp/cllm-history-XXXXXX", path[64];
    FILE *file;

    (void)state;
    assert_non_null(mkdtemp(dir));
    cllm_history_load(&history, dir); /* no file */
    assert_int_equal(history.n, 0);
    (void)snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    file = fopen(path, "we");
    assert_non_null(file);
    (void)fputs("cut\": 1}\n{\"step\": 3, \"loss\": 2.5, \"more\": \"x\"}\n\n[1]\n"
                "{\"step\": 4}\n{\"loss\": 1.0}\n{\"step\": \"5\", \"loss\": 1.0}\n"
                "{\"step\": 6, \"loss\": null}\n{\"step\": 7, \"loss\": 2.25}\n"
                "{\"step\": 8, \"lo",
                file);
    assert_int_equal(fclose(file), 0);
    cllm_history_load(&history, dir);
    assert_int_equal(history.n, 2);
    assert_int_equal(history.step[1], 7);
    assert_true(history.loss[0] == 2.5 && history.loss[1] == 2.25);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(steps_only_go_forward_and_losses_are_numbers, setup),
        cmocka_unit_test_setup(a_full_history_keeps_the_whole_run, setup),
        cmocka_unit_test_setup(few_losses_give_few_columns_and_gaps_repeat, setup),
        cmocka_unit_test_setup(odd_lines_of_the_metrics_are_passed_over, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
