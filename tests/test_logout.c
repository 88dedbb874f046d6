/*
 * tests/test_logout.c - whose shared memory a logout would take away.
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

#include "coordinator/logout.h"

static char root[256], running[300], linger[300], file[300], dir[300];
static const char *const config[] = {file, dir, NULL};
static const struct cllm_logout_paths paths = {running, linger, config};

static void write_text(const char *path, const char *text)
{
    FILE *out = fopen(path, "we");

    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

static void drop_in(const char *name, const char *text)
{
    char path[400];

    (void)mkdir(dir, 0700);
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    write_text(path, text);
}

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    (void)snprintf(root, sizeof root, "%.200s/cllm-logout.XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(root));
    (void)snprintf(running, sizeof running, "%s/seats", root);
    (void)snprintf(linger, sizeof linger, "%s/linger", root);
    (void)snprintf(file, sizeof file, "%s/logind.conf", root);
    (void)snprintf(dir, sizeof dir, "%s/logind.conf.d", root);
    assert_int_equal(mkdir(running, 0700), 0);
    return 0;
}

static int teardown(void **state)
{
    char command[400];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", root);
    assert_int_equal(system(command), 0);
    return 0;
}

static void without_a_word_it_removes(void **state)
{
    (void)state;
    assert_true(cllm_logout_removes(&paths, 1000, "ada"));
    assert_true(cllm_logout_removes(&paths, 1000, NULL));
}

static void system_users_are_spared(void **state)
{
    (void)state;
    assert_false(cllm_logout_removes(&paths, 0, "root"));
    assert_false(cllm_logout_removes(&paths, 999, "backup"));
}

static void without_logind_nothing_is_removed(void **state)
{
    (void)state;
    assert_int_equal(rmdir(running), 0);
    assert_false(cllm_logout_removes(&paths, 1000, "ada"));
}

static void one_who_lingers_keeps_it(void **state)
{
    char path[400];

    (void)state;
    assert_int_equal(mkdir(linger, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/ada", linger);
    write_text(path, "");
    assert_false(cllm_logout_removes(&paths, 1000, "ada"));
    assert_true(cllm_logout_removes(&paths, 1000, "bob"));
    assert_true(cllm_logout_removes(&paths, 1000, NULL));
}

static void the_configuration_is_understood(void **state)
{
    static const struct {
        const char *text;
        bool removes;
    } row[] = {
        {"", true},
        {"[Login]\nRemoveIPC=no\n", false},
        {"[Login]\n#RemoveIPC=no\n", true},
        {"[Login]\n  RemoveIPC = off\n", false},
        {"RemoveIPC=0\n", false},
        {"RemoveIPC=False\n", false},
        {"RemoveIPC=yes\n", true},
        {"RemoveIPC=no\nRemoveIPC=yes\n", true},
        {"RemoveIPCs=no\n", true},
        {"RemoveIPC=no", false},
        {"RemoveIPC=\nKillUserProcesses=no\n", true},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(row); i++) {
        write_text(file, row[i].text);
        if (cllm_logout_removes(&paths, 1000, "ada") != row[i].removes)
            fail_msg("misunderstood: %s", row[i].text);
    }
}

static void drop_ins_count_more_and_the_last_most(void **state)
{
    (void)state;
    write_text(file, "RemoveIPC=yes\n");
    drop_in("10-first.conf", "[Login]\nRemoveIPC=no\n");
    assert_false(cllm_logout_removes(&paths, 1000, "ada"));
    drop_in("20-second.conf", "[Login]\nRemoveIPC=yes\n");
    assert_true(cllm_logout_removes(&paths, 1000, "ada"));
    drop_in("30-third.conf", "[Login]\nRemoveIPC=no\n");
    drop_in("40-not-read.conf.bak", "[Login]\nRemoveIPC=yes\n");
    assert_false(cllm_logout_removes(&paths, 1000, "ada"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_a_word_it_removes, setup, teardown),
        cmocka_unit_test_setup_teardown(system_users_are_spared, setup, teardown),
        cmocka_unit_test_setup_teardown(without_logind_nothing_is_removed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(one_who_lingers_keeps_it, setup, teardown),
        cmocka_unit_test_setup_teardown(the_configuration_is_understood, setup, teardown),
        cmocka_unit_test_setup_teardown(drop_ins_count_more_and_the_last_most, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
