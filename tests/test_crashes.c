/*
 * tests/test_crashes.c - what Node Zero keeps of children that died of a fault signal.
 */
#include "coordinator/crashes.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/control_temp.h"
#include "tests/deaths.h"

static struct cllm_control node_zero;

static int setup(void **state)
{
    (void)state;
    control_temp_make(&node_zero);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    control_temp_remove(&node_zero);
    return 0;
}

/* As cllm_team_bury() does. */
static struct cllm_ending keep(int signo, pid_t pid)
{
    struct cllm_ending ending = {.by_signal = true, .code = signo, .fault = true};

    (void)snprintf(ending.text, sizeof ending.text, "killed by signal %d", signo);
    node_zero.slots[DEATHS_SLOT].command.pid = (uint32_t)pid;
    cllm_crashes_keep(&node_zero, DEATHS_SLOT, "/programs", &ending);
    return ending;
}

static uint32_t count_lines(const char *path, const char *text)
{
    char line[512];
    uint32_t n = 0;
    FILE *in = fopen(path, "re");

    assert_non_null(in);
    while (fgets(line, sizeof line, in))
        n += strstr(line, text) != NULL;
    (void)fclose(in);
    return n;
}

static void the_newest_hundred_files_are_kept(void **state)
{
    char dir[] = "/tmp/cllm-test-crash-XXXXXX", path[128];
    struct cllm_crash_record record;
    struct cllm_ending ending;
    uint32_t n_left = 0;

    (void)state;
    (void)deaths_wait(&node_zero, die_by_protected_write, &record);
    assert_non_null(mkdtemp(dir));
    (void)snprintf(node_zero.header->run_dir, sizeof node_zero.header->run_dir, "%s",
                   dir);
    for (uint32_t i = 1; i <= CLLM_CRASHES_KEPT + 5; i++) {
        ending = keep(SIGSEGV, (pid_t)record.pid);
        assert_int_equal(ending.crash, i);
    }
    assert_int_equal(strncmp(ending.where, "write to params1+0xd014 ", 24), 0);
    (void)snprintf(path, sizeof path, "%s/crash/%u.txt", dir, ending.crash);
    assert_int_equal(count_lines(path, "killed by signal 11: write to params1+0xd014"),
                     1);
    assert_int_equal(count_lines(path, "addr2line -Cfpie /programs/test_crashes 0x"), 1);
    assert_int_equal(count_lines(path, "work: lane, lane 7, step 12, assignment 5"), 1);

    /* A record of another process, or of another signal, is not this one's. */
    ending = keep(SIGBUS, (pid_t)record.pid);
    assert_string_equal(ending.where, "");
    ending = keep(SIGSEGV, (pid_t)record.pid + 1);
    assert_string_equal(ending.where, "");
    (void)snprintf(path, sizeof path, "%s/crash/%u.txt", dir, ending.crash);
    assert_int_equal(count_lines(path, "record: none"), 1);
    for (uint32_t i = 1; i <= CLLM_CRASHES_KEPT + 7; i++) {
        (void)snprintf(path, sizeof path, "%s/crash/%u.txt", dir, i);
        n_left += unlink(path) == 0;
    }
    assert_int_equal(n_left, CLLM_CRASHES_KEPT);
    (void)snprintf(path, sizeof path, "%s/crash", dir);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void a_run_directory_that_is_gone_does_no_harm(void **state)
{
    struct cllm_crash_record record;
    struct cllm_ending ending;

    (void)state;
    (void)deaths_wait(&node_zero, die_by_division, &record);
    ending = keep(SIGFPE, (pid_t)record.pid); /* its directory is /nowhere */
    assert_int_equal(ending.crash, 0);
    assert_non_null(strstr(ending.where, "integer division by zero at test_crashes+0x"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_newest_hundred_files_are_kept),
        TEST(a_run_directory_that_is_gone_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
