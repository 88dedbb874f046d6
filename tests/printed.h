/*
 * tests/printed.h - what cllm_err_print() writes to stderr, hint included.
 */
#ifndef CLLM_TESTS_PRINTED_H
#define CLLM_TESTS_PRINTED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"

/* The error, which is forgotten with that, as the program "prog" prints it. */
static inline void printed(char *out, size_t bytes)
{
    int saved = dup(STDERR_FILENO);
    int pipe_fd[2];
    ssize_t n;

    assert_int_equal(pipe(pipe_fd), 0);
    assert_true(saved >= 0 && dup2(pipe_fd[1], STDERR_FILENO) >= 0);
    cllm_err_print("prog");
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    (void)close(saved);
    (void)close(pipe_fd[1]);
    n = read(pipe_fd[0], out, bytes - 1);
    assert_true(n >= 0);
    out[n] = '\0';
    (void)close(pipe_fd[0]);
}

/* It must hold @part. */
static inline void assert_printed(const char *part)
{
    char text[4096];

    printed(text, sizeof text);
    if (strstr(text, part) == NULL)
        fail_msg("'%s' is not in: %s", part, text);
}

#endif /* CLLM_TESTS_PRINTED_H */
