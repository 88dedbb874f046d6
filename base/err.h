/*
 * base/err.h - operating failures: a negative code and a text that grows on its way up.
 *
 * The function that meets the failure calls cllm_err() where the facts are; callers that
 * know more put a line in front with cllm_err_add(); main() prints the whole once with
 * cllm_err_print(). Each thread has an error text of its own; a thread that fails for
 * another gives it away with cllm_err_save().
 *
 *     cllm-coord: cannot start the run: cannot create lane buffer 3: No space left on
 * device detail: posix_fallocate(/cllm-0-demo-lane3, 512 MiB) hint: df /dev/shm, or lower
 * [run] lane_buffers
 */
#ifndef CLLM_BASE_ERR_H
#define CLLM_BASE_ERR_H

#include "base/base.h"

/* Codes beyond errno, for failures that have an exit code of their own (the enum
 * below). */
enum {
    CLLM_EREFUSED = -10001,   /* something else must be done first; the text says what */
    CLLM_ECONFIG = -10002,    /* usage or configuration */
    CLLM_EDATA = -10003,      /* a shard or checkpoint is bad */
    CLLM_EBUDGET = -10004,    /* restart budget spent */
    CLLM_ENONFINITE = -10005, /* loss or gradient not finite, beyond policy */
    CLLM_ESTOPPED = -10006,   /* somebody asked to stop; what was begun is undone */
    CLLM_EDEVICE = -10007,    /* a device cannot be opened, or fails */
};

/* Exit codes of every program. */
enum {
    CLLM_EXIT_OK = 0,
    CLLM_EXIT_FAILURE = 1,
    CLLM_EXIT_USAGE = 2,
    CLLM_EXIT_DATA = 3,
    CLLM_EXIT_BUDGET = 4,
    CLLM_EXIT_NONFINITE = 5,
    CLLM_EXIT_DEVICE = 6,
    CLLM_EXIT_STOPPED = 75, /* stopped after a checkpoint: run again with --resume */
    CLLM_EXIT_RELOAD = 76,  /* Node Zero to its guardian: begin again from a checkpoint */
    CLLM_EXIT_INTERRUPTED = 130 /* second interrupt */
};

/*
 * Start a new error: forget the old text, record "message: strerror(-rc)" (no strerror
 * part for CLLM_E* codes). @rc is negative. Returns @rc, so that `return cllm_err(...)`
 * reads well.
 */
int cllm_err(int rc, const char *fmt, ...) CLLM_PRINTF(2, 3);

/* What cllm_err() asserts, told to compilers and analysers: who calls it has failed. */
static inline int cllm_err_negative(int rc)
{
    if (rc >= 0)
        __builtin_unreachable();
    return rc;
}
#define cllm_err(...) cllm_err_negative(cllm_err(__VA_ARGS__))

/* Puts "what I was doing: " before the text. */
void cllm_err_add(const char *fmt, ...) CLLM_PRINTF(1, 2);

/* The call and its arguments. */
void cllm_err_detail(const char *fmt, ...) CLLM_PRINTF(1, 2);

/* A sentence on how to mend it. */
void cllm_err_hint(const char *fmt, ...) CLLM_PRINTF(1, 2);

/* The first line only; "" when there is none. Valid until the next call here. */
const char *cllm_err_text(void);

/* All of it, to stderr; forgets it afterwards. */
void cllm_err_print(const char *program);

/* The text of this thread, and its return in another one. */
struct cllm_err_text {
    char text[1024], detail[512], hint[512];
};
void cllm_err_save(struct cllm_err_text *out);
void cllm_err_restore(const struct cllm_err_text *text);

/* 0 or a negative code -> exit code. */
int cllm_exit_code(int rc);

#endif /* CLLM_BASE_ERR_H */
