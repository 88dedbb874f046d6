/*
 * tools/bench_child.h - processes that tools start: cllm-bench a training run, and copies
 * of itself that measure the machine all at once; cllm-info the one that loads drivers.
 */
#ifndef CLLM_TOOLS_BENCH_CHILD_H
#define CLLM_TOOLS_BENCH_CHILD_H

#include <sys/types.h>

#include "base/base.h"

#define CLLM_BENCH_TOGETHER_MAX 256 /* processes of cllm_bench_together() */

struct cllm_bench_child {
    pid_t pid; /* 0 = none */
    int pidfd;
};

/* SIGINT, SIGTERM and SIGPIPE only set a flag from now on, so that nothing is left
 * behind. */
void cllm_bench_catch_signals(void);

/* 0, or -EINTR with text when one of them has come. */
int cllm_bench_interrupted(void);

/*
 * Start program @name of this program's directory in a process group of its own, with
 * both outputs appended to file @log. Should this process die, it is asked to end
 * (SIGTERM). Returns 0 or a negative code with text.
 */
int cllm_bench_child_start(struct cllm_bench_child *child, const char *name,
                           char *const argv[], const char *log);

/* Sleep until it ends or @timeout_ns passes; true when it has ended (it is reaped then).
 */
bool cllm_bench_child_wait(struct cllm_bench_child *child, uint64_t timeout_ns);

/* End it at once, and reap it. For no child a no-op. */
void cllm_bench_child_kill(struct cllm_bench_child *child);

/*
 * Start it with nothing to read and its errors dropped, and take what it writes into
 * @answer (room, with a NUL behind *@bytes). Returns 0 when it has ended of its own
 * accord with exit code 0, before @timeout_ns passed; else a negative code with text, and
 * it is no more.
 */
int cllm_bench_child_ask(const char *name, char *const argv[], uint64_t timeout_ns,
                         char *answer, size_t room, size_t *bytes);

/* What one process of many does: @prepare first, then, when all are prepared, @run. */
struct cllm_bench_task {
    void (*prepare)(void *ctx);
    double (*run)(void *ctx);
    void *ctx; /* each process has a copy of what it points at */
};

/* Run @task in @n processes at once; *@sum becomes the sum of what they return. Returns 0
 * or a negative code with text. */
int cllm_bench_together(const struct cllm_bench_task *task, uint32_t n, double *sum);

#endif /* CLLM_TOOLS_BENCH_CHILD_H */
