/*
 * tests/test_setting.c - tools/setting.h: a file of somebody's own is changed as asked,
 * or not at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "tools/setting.h"

#define TEXT "; mine\n[run]\nworkers = 4 ; four\n\n[train]\nsteps = 5\n"

static const struct cllm_setting settings[] = {
    {"run", "workers", "2"}, {"run", "pin", "yes"}, {"checkpoint", "keep", "3"}};

static char dir[CLLM_FILE_PATH_BYTES], path[CLLM_FILE_PATH_BYTES];

static void put(const char *text)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void assert_holds(const char *text)
{
    char *got = NULL;

    assert_int_equal(cllm_file_read(path, 1 << 20, &got, NULL), 0);
    assert_string_equal(got, text);
    free(got);
}

static int setup(void **state)
{
    const char *parent = getenv("TMPDIR");

    (void)state;
    (void)snprintf(dir, sizeof dir, "%s/cllm-setting.XXXXXX", parent ? parent : "/tmp");
    return mkdtemp(dir) ? cllm_file_join(path, dir, "my.ini") : -1;
}

static int teardown(void **state)
{
    (void)state;
    return cllm_file_remove_tree(dir);
}

static void settings_are_written_and_the_rest_stays(void **state)
{
    char real[CLLM_FILE_PATH_BYTES];
    struct stat st;

    (void)state;
    put(TEXT);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(cllm_setting_check(real, path), 0);
    assert_int_equal(cllm_setting_write(real, settings, CLLM_LEN(settings)), 0);
    assert_holds("; mine\n[run]\nworkers = 2 ; four\npin = yes\n\n[train]\nsteps = 5\n\n"
                 "[checkpoint]\nkeep = 3\n");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
}

static void a_link_stays_and_its_file_is_written(void **state)
{
    char link[CLLM_FILE_PATH_BYTES], real[CLLM_FILE_PATH_BYTES];
    struct stat st;

    (void)state;
    put(TEXT);
    assert_int_equal(cllm_file_join(link, dir, "link.ini"), 0);
    assert_int_equal(symlink("my.ini", link), 0);
    assert_int_equal(cllm_setting_check(real, link), 0);
    assert_int_equal(cllm_setting_write(real, settings, 1), 0);
    assert_holds("; mine\n[run]\nworkers = 2 ; four\n\n[train]\nsteps = 5\n");
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
}

static void a_value_that_is_refused_changes_nothing(void **state)
{
    static const struct cllm_setting bad[] = {{"run", "workers", "0"},
                                              {"run", "workers", "2 ; x"},
                                              {"run", "wrkers", "2"},
                                              {"runs", "workers", "2"},
                                              {"run", "workers", "2\nlanes = 3"}};

    (void)state;
    put(TEXT);
    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        assert_true(cllm_setting_write(path, &bad[i], 1) < 0);
        assert_string_not_equal(cllm_err_text(), "");
        assert_holds(TEXT);
    }
}

static void a_line_that_would_be_too_long_changes_nothing(void **state)
{
    static const struct cllm_setting longer = {"run", "workers", "12"};
    char text[300];

    (void)state;
    (void)snprintf(text, sizeof text, "[run]\nworkers = 4 ; %0171d\n", 0);
    put(text);
    assert_int_equal(cllm_setting_write(path, settings, 1), 0);
    (void)snprintf(text, sizeof text, "[run]\nworkers = 4 ; %0175d\n", 0);
    put(text); /* 190 bytes with the line end: the most */
    assert_int_equal(cllm_setting_write(path, settings, 1), 0);
    put(text);
    assert_int_equal(cllm_setting_write(path, &longer, 1), CLLM_ECONFIG);
    assert_holds(text);
}

static void what_cannot_be_replaced_is_left_as_it_is(void **state)
{
    char temporary[CLLM_FILE_PATH_BYTES];

    (void)state;
    put(TEXT);
    assert_int_equal(cllm_file_join(temporary, dir, "my.ini.tmp"), 0);
    assert_int_equal(mkdir(temporary, 0777), 0);
    assert_true(cllm_setting_write(path, settings, 1) < 0);
    assert_holds(TEXT);
}

static void what_is_no_file_of_ones_own_is_refused(void **state)
{
    char real[CLLM_FILE_PATH_BYTES];

    (void)state;
    assert_true(cllm_setting_check(real, path) < 0); /* not there */
    assert_int_equal(cllm_setting_check(real, dir), CLLM_ECONFIG);
    assert_int_equal(cllm_setting_check(real, "/dev/null"), CLLM_ECONFIG);
    if (geteuid() == 0)
        return; /* root may write everything */
    put(TEXT);
    assert_int_equal(chmod(path, 0444), 0);
    assert_true(cllm_setting_check(real, path) < 0);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(chmod(dir, 0555), 0);
    assert_true(cllm_setting_check(real, path) < 0);
    assert_int_equal(chmod(dir, 0755), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(settings_are_written_and_the_rest_stays, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_link_stays_and_its_file_is_written, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_value_that_is_refused_changes_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_line_that_would_be_too_long_changes_nothing,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_replaced_is_left_as_it_is, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_no_file_of_ones_own_is_refused, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
