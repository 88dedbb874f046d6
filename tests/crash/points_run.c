/*
 * tests/crash/points_run.c - see tests/crash/points_run.h.
 */
#include "tests/crash/points_run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/checkpoint.h"
#include "formats/file.h"

const char *const points_kept[POINTS_KEPT] = {
    "checkpoints/last/" CLLM_CHECKPOINT_MODEL,
    "checkpoints/last/" CLLM_CHECKPOINT_OPTIMIZER,
    "checkpoints/last/" CLLM_CHECKPOINT_CONFIG,
    "checkpoints/last/" CLLM_CHECKPOINT_RUN,
    "checkpoints/last/" CLLM_CHECKPOINT_MANIFEST,
    "journal.jsonl",
};

/* Short, with everything in it: several checkpoints, some of them removed again. */
static const char *const settings[] = {
    "train.steps=12",     "checkpoint.every=3",     "checkpoint.keep=2",
    "train.eval_every=6", "run.restart_limit=1000", "run.log_every=1000",
};

struct points_place points_place;

/* ---- processes ---- */

void points_put(char *out, size_t bytes, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(out, bytes, fmt, args);
    va_end(args);
    CLLM_ASSERT(n >= 0 && (size_t)n < bytes);
}

void points_give_up(const char *what)
{
    (void)fprintf(stderr, "points: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* Start @argv with both outputs at the end of @log, and CLLM_FAULTS=@faults. */
static pid_t start(char *const argv[], const char *log, const char *faults)
{
    pid_t pid = fork();
    int fd;

    if (pid < 0)
        points_give_up("fork");
    if (pid > 0)
        return pid;
    fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
        _exit(126);
    if (faults ? setenv(CLLM_FAULT_ENVIRONMENT, faults, 1) != 0
               : unsetenv(CLLM_FAULT_ENVIRONMENT) != 0)
        _exit(126);
    (void)execv(argv[0], argv);
    _exit(127);
}

/* Wait for the end of @pid, and of orphans. False: it had to be killed. */
static bool finish(pid_t pid, int *status)
{
    struct pollfd fd = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    bool ended =
        poll(&fd, 1, points_place.deep ? POINTS_DEEP_LIMIT_MS : POINTS_LIMIT_MS) > 0;

    (void)close(fd.fd);
    if (!ended)
        (void)kill(pid, SIGKILL);
    if (waitpid(pid, status, 0) != pid)
        points_give_up("waitpid");
    /* Who was killed drags the others along: nobody holds the run's memory any more. */
    while (waitpid(-1, NULL, ended ? WNOHANG : 0) > 0)
        continue;
    return ended;
}

void points_must(char *const argv[])
{
    char log[320];
    int status;

    points_put(log, sizeof log, "%s/helpers.txt", points_place.work);
    if (!finish(start(argv, log, NULL), &status) || status != 0) {
        (void)fprintf(stderr, "points: %s failed\n", argv[0]);
        exit(2);
    }
}

/* ---- a run ---- */

void points_run_name(struct points_run *run, const char *name, enum family family)
{
    *run = (struct points_run){.family = family};
    points_put(run->dir, sizeof run->dir, "%s/points-%u-%s", points_place.work,
               points_place.job, name);
    points_put(run->log, sizeof run->log, "%s.txt", run->dir);
}

/* @text with the working directory in the place of its %s. */
static void expand(char *out, size_t bytes, const char *text)
{
    const char *at = strstr(text, "%s");

    if (at)
        points_put(out, bytes, "%.*s%s%s", (int)(at - text), text, points_place.work,
                   at + 2);
    else
        points_put(out, bytes, "%s", text);
}

bool points_run_live(struct points_run *run, bool resume, const char *faults)
{
    char program[1100], config[1100], set[] = "--set", n[] = "-n", two[] = "2";
    char go_on[] = "--resume", dir[400], train[400], valid[400];
    char value[CLLM_LEN(settings)][32], own[4][400];
    const char *const *special = points_settings(run->family);
    char *argv[40] = {program, config, n, two};
    int argc = 4;

    points_put(program, sizeof program, "%s/cllm-coord", points_place.bin);
    points_put(config, sizeof config, "%s/configs/nano.ini", points_place.root);
    points_put(dir, sizeof dir, "run.dir=%s", run->dir);
    points_put(train, sizeof train, "data.train=%s/data/train_*.bin", points_place.work);
    points_put(valid, sizeof valid, "data.valid=%s/data/val_*.bin", points_place.work);
    for (size_t i = 0; i < CLLM_LEN(settings); i++) {
        points_put(value[i], sizeof value[i], "%s", settings[i]);
        argv[argc++] = set;
        argv[argc++] = value[i];
    }
    argv[argc++] = set;
    argv[argc++] = dir;
    argv[argc++] = set;
    argv[argc++] = train;
    argv[argc++] = set;
    argv[argc++] = valid;
    for (size_t i = 0; special[i]; i++) {
        expand(own[i], sizeof own[i], special[i]);
        argv[argc++] = set;
        argv[argc++] = own[i];
    }
    if (resume)
        argv[argc++] = go_on;
    argv[argc] = NULL;
    return finish(start(argv, run->log, faults), &run->status);
}

bool points_run_clean(const struct points_run *run)
{
    char program[1100], word[] = "clean", dir[320], log[320];
    char *argv[] = {program, word, dir, NULL};
    int status;

    points_put(program, sizeof program, "%s/cllm-shm", points_place.bin);
    points_put(dir, sizeof dir, "%s", run->dir);
    points_put(log, sizeof log, "%s/helpers.txt", points_place.work);
    return finish(start(argv, log, NULL), &status) && status == 0;
}

/* What an unlink that failed has left: it was named. Nothing says any more whose it is,
 * so that cllm-shm would wait for a minute. */
static void remove_named(const struct points_run *run)
{
    static const char words[] = "cannot remove shared memory ";
    char *text = NULL, name[100];

    if (cllm_file_read(run->log, 1u << 20, &text, NULL) != 0)
        return;
    for (const char *at = strstr(text, words); at; at = strstr(at + 1, words))
        if (sscanf(at + sizeof words - 1, "%99[^: \n]", name) == 1)
            (void)shm_unlink(name);
    free(text);
}

void points_run_remove_socket(const struct points_run *run)
{
    char socket[CLLM_FILE_PATH_BYTES];

    if (cllm_file_join(socket, run->dir, "control.sock") == 0)
        (void)unlink(socket);
}

void points_run_remove(const struct points_run *run)
{
    (void)points_run_clean(run);
    remove_named(run);
    points_run_remove_socket(run);
    if (cllm_file_remove_tree(run->dir) != 0)
        cllm_err_print("points"); /* it will be seen at the end */
    (void)unlink(run->log);
}

bool points_run_bits(const struct points_run *run, struct points_bits *bits)
{
    for (size_t i = 0; i < POINTS_KEPT; i++) {
        char path[CLLM_FILE_PATH_BYTES];

        if (cllm_file_join(path, run->dir, points_kept[i]) != 0 ||
            cllm_sha256_file(path, bits->hex[i], NULL) != 0)
            return false;
    }
    return true;
}
