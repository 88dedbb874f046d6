/*
 * base/base.c - what happens when one of our own promises is broken.
 */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    cllm_assert_hook_fn hook;
} self;

void cllm_assert_set_hook(cllm_assert_hook_fn hook)
{
    self.hook = hook;
}

void cllm_assert_failed(const char *cond, const char *file, int line, const char *func)
{
    char text[256];
    int n = snprintf(text, sizeof text, "%s:%d: %s: assertion failed: %s\n", file, line,
                     func, cond);

    if (n > 0) {
        size_t len = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;

        /* Not stdio: the process may be broken in any way; one write says it. */
        if (write(STDERR_FILENO, text, len) < 0) {
            /* Nobody to tell; the hook may still keep the text. */
        }
    }
    if (self.hook)
        self.hook(text);
    abort();
}
