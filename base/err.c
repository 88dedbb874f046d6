/*
 * base/err.c - the one error text of each thread.
 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local struct cllm_err_text self;

/* @tail after what @text holds, cut where the room ends. */
static void append(char *text, size_t bytes, const char *tail)
{
    size_t len = strlen(text);
    size_t n = cllm_min_u64(strlen(tail), bytes - 1 - len);

    memcpy(text + len, tail, n);
    text[len + n] = '\0';
}

#undef cllm_err /* the function itself */
int cllm_err(int rc, const char *fmt, ...)
{
    char text[sizeof self.text]; /* the arguments may point into the old text */
    va_list ap;

    CLLM_ASSERT(rc < 0);
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (rc > CLLM_EREFUSED) {
        append(text, sizeof text, ": ");
        append(text, sizeof text, strerror(-rc));
    }
    memcpy(self.text, text, sizeof text);
    self.detail[0] = '\0';
    self.hint[0] = '\0';
    return rc;
}

void cllm_err_add(const char *fmt, ...)
{
    char text[sizeof self.text];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    append(text, sizeof text, ": ");
    append(text, sizeof text, self.text);
    memcpy(self.text, text, sizeof text);
}

void cllm_err_detail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(self.detail, sizeof self.detail, fmt, ap);
    va_end(ap);
}

void cllm_err_hint(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(self.hint, sizeof self.hint, fmt, ap);
    va_end(ap);
}

const char *cllm_err_text(void)
{
    return self.text;
}

void cllm_err_print(const char *program)
{
    if (self.text[0] == '\0')
        return;
    (void)fprintf(stderr, "%s: %s\n", program, self.text);
    if (self.detail[0] != '\0')
        (void)fprintf(stderr, "  detail: %s\n", self.detail);
    if (self.hint[0] != '\0')
        (void)fprintf(stderr, "  hint: %s\n", self.hint);
    self.text[0] = '\0';
}

void cllm_err_save(struct cllm_err_text *out)
{
    *out = self;
}

void cllm_err_restore(const struct cllm_err_text *text)
{
    self = *text;
}

int cllm_exit_code(int rc)
{
    switch (rc) {
    case 0:
        return CLLM_EXIT_OK;
    case CLLM_ECONFIG:
        return CLLM_EXIT_USAGE;
    case CLLM_EDATA:
        return CLLM_EXIT_DATA;
    case CLLM_EBUDGET:
        return CLLM_EXIT_BUDGET;
    case CLLM_ENONFINITE:
        return CLLM_EXIT_NONFINITE;
    case CLLM_ESTOPPED:
        return CLLM_EXIT_STOPPED;
    case CLLM_EDEVICE:
        return CLLM_EXIT_DEVICE;
    default:
        return CLLM_EXIT_FAILURE;
    }
}
