/*
 * tests/test_log.c - one write for each line, levels, the log file's form, and nothing
 * for terminals where there is no terminal.
 */
#include "base/log.h"

#include <fcntl.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
    int saved; /* the real stderr */
    int read_fd;
} capture;

/* A pipe in packet mode (O_DIRECT) keeps each write() apart. */
static void capture_begin(void)
{
    int fd[2];

    assert_int_equal(pipe2(fd, O_DIRECT | O_NONBLOCK), 0);
    capture.saved = dup(STDERR_FILENO);
    assert_true(capture.saved >= 0 && dup2(fd[1], STDERR_FILENO) >= 0);
    (void)close(fd[1]);
    capture.read_fd = fd[0];
}

/* The next write, "" when there is none. */
static void captured(char *out, size_t bytes)
{
    ssize_t n = read(capture.read_fd, out, bytes - 1);

    out[n > 0 ? n : 0] = '\0';
}

static void capture_end(void)
{
    assert_true(dup2(capture.saved, STDERR_FILENO) >= 0);
    (void)close(capture.saved);
    (void)close(capture.read_fd);
}

static void each_line_is_one_write_with_its_level(void **state)
{
    char line[4096];

    (void)state;
    capture_begin();
    cllm_log_init("test", CLLM_LOG_INFO);
    cllm_info("step %d", 5);
    cllm_warn("slow");
    cllm_error("gone");
    cllm_debug("not wanted");
    captured(line, sizeof line);
    assert_string_equal(line, "step 5\n");
    captured(line, sizeof line);
    assert_string_equal(line, "warning: slow\n");
    captured(line, sizeof line);
    assert_string_equal(line, "error: gone\n");
    captured(line, sizeof line);
    assert_string_equal(line, "");
    capture_end();
}

static void a_line_that_is_too_long_is_cut_and_still_ends(void **state)
{
    static char text[5000], line[8192];

    (void)state;
    memset(text, 'y', sizeof text - 1);
    capture_begin();
    cllm_log_init("test", CLLM_LOG_INFO);
    cllm_info("%s", text);
    captured(line, sizeof line);
    assert_int_equal(strlen(line), 1024);
    assert_int_equal(line[1023], '\n');
    captured(line, sizeof line);
    assert_string_equal(line, "");
    capture_end();
}

static void without_a_terminal_there_is_no_status_line_and_no_colour(void **state)
{
    char line[4096];

    (void)state;
    capture_begin();
    cllm_log_init("test", CLLM_LOG_INFO);
    assert_false(cllm_log_is_terminal());
    cllm_log_status("50 %%");
    captured(line, sizeof line);
    assert_string_equal(line, "");
    cllm_error("gone");
    captured(line, sizeof line);
    assert_null(strchr(line, '\033'));
    capture_end();
}

static void the_log_file_has_date_level_and_role(void **state)
{
    char path[] = "/tmp/cllm-log-XXXXXX";
    int fd = mkstemp(path);
    char line[4096];
    regex_t form;
    ssize_t n;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    capture_begin();
    cllm_log_init("worker 3", CLLM_LOG_INFO);
    cllm_log_set_file(fd);
    cllm_warn("slow");
    cllm_log_set_file(-1);
    cllm_warn("not there");
    capture_end();
    n = pread(fd, line, sizeof line - 1, 0);
    assert_true(n > 0);
    line[n] = '\0';
    assert_int_equal(regcomp(&form,
                             "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
                             "\\.[0-9]{3}Z warning worker 3: slow\n$",
                             REG_EXTENDED),
                     0);
    assert_int_equal(regexec(&form, line, 0, NULL, 0), 0);
    regfree(&form);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_line_is_one_write_with_its_level),
        cmocka_unit_test(a_line_that_is_too_long_is_cut_and_still_ends),
        cmocka_unit_test(without_a_terminal_there_is_no_status_line_and_no_colour),
        cmocka_unit_test(the_log_file_has_date_level_and_role),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
