/*
 * tools/bench_run.c - see tools/bench_run.h.
 *
 * The run is made for crashes, so it is ended by one: without a checkpoint that nobody
 * wants, and without a word in its log. What it leaves in shared memory goes the way of
 * `cllm-shm clean`.
 */
#include "tools/bench_run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/local_socket.h"
#include "tools/shm_clean.h"
#include "tools/shm_life.h"
#include "tools/shm_runs.h"

#define ATTACH_NS   (5 * CLLM_NS_PER_MS)
#define LEAST_NAP   (CLLM_NS_PER_MS / 2)
#define MOST_NAP    (50 * CLLM_NS_PER_MS)
#define NAPS_A_STEP 200                   /* so finely is the end of a step seen */
#define CLEAN_NS    (120 * CLLM_NS_PER_S) /* a dying run is gone sooner */
#define END_NS      CLLM_NS_PER_S         /* so long after its socket is a run there */
#define LOG_BYTES   480
#define LOG_LINES   6
#define ANSWER_MS   60000
#define MANY_STEPS  "1000000000"

/* The last lines of the coordinator's log, as the detail of the present error. */
static void add_log(const struct cllm_bench_run *run)
{
    char text[LOG_BYTES + 1];
    FILE *log = fopen(run->log, "re");
    uint32_t lines = 0;
    size_t bytes;

    if (!log)
        return;
    if (fseek(log, -(long)LOG_BYTES, SEEK_END) != 0)
        rewind(log); /* it is shorter */
    bytes = fread(text, 1, LOG_BYTES, log);
    (void)fclose(log); /* read only */
    while (bytes > 0 && text[bytes - 1] == '\n')
        bytes--;
    text[bytes] = '\0';
    while (bytes > 0 && (text[bytes - 1] != '\n' || ++lines < LOG_LINES))
        bytes--;
    cllm_err_detail("cllm-coord said: %s", text + bytes);
}

static int fail_ended(const struct cllm_bench_run *run)
{
    int rc = cllm_err(CLLM_EREFUSED, "the run ended before it was measured");

    add_log(run);
    return rc;
}

/* Sleep; an error when the run has ended or a signal has come. */
static int nap(struct cllm_bench_run *run, uint64_t ns)
{
    int rc = cllm_bench_interrupted();

    if (rc == 0 && cllm_bench_child_wait(&run->coordinator, ns))
        rc = fail_ended(run);
    return rc;
}

/* ---- start ---- */

/* Room for all options of cllm-coord. */
struct command_line {
    char *argv[2 * CLLM_BENCH_SETS + 32];
    char text[16][CLLM_FILE_PATH_BYTES + 32];
    uint32_t n, n_texts;
};

static void add_set(struct command_line *line, const char *assignment)
{
    CLLM_ASSERT(line->n + 3 < CLLM_LEN(line->argv));
    line->argv[line->n++] = (char *)(uintptr_t) "--set";
    line->argv[line->n++] = (char *)(uintptr_t)assignment; /* exec does not write */
}

static void add_text(struct command_line *line, const char *key, const char *value)
{
    char *text = line->text[line->n_texts++];

    CLLM_ASSERT(line->n_texts <= CLLM_LEN(line->text));
    (void)snprintf(text, sizeof line->text[0], "%s=%s", key, value);
    add_set(line, text);
}

/* What may be overridden stands before the user's options, what may not behind them. */
static void build(struct command_line *line, const struct cllm_bench_run *run,
                  const struct cllm_bench_job *job, uint32_t workers,
                  uint64_t checkpoint_every)
{
    char number[24];

    line->argv[line->n++] = (char *)(uintptr_t) "cllm-coord";
    line->argv[line->n++] = (char *)(uintptr_t)job->config_path;
    add_text(line, "train.eval_every", "0");
    add_text(line, "checkpoint.best", "no");
    add_text(line, "checkpoint.keep", "1");
    for (uint32_t i = 0; i < job->n_sets; i++)
        add_set(line, job->set[i]);
    add_text(line, "run.dir", run->dir);
    add_text(line, "data.train", job->data->train); /* instead of the file's list */
    add_text(line, "data.valid", job->data->valid);
    add_text(line, "train.steps", MANY_STEPS);
    (void)snprintf(number, sizeof number, "%" PRIu64, checkpoint_every);
    add_text(line, "checkpoint.every", number);
    (void)snprintf(number, sizeof number, "%u", workers);
    add_text(line, "run.workers", workers > 0 ? number : "auto");
}

/* Map the control object as soon as it is there. */
static int attach(struct cllm_bench_run *run)
{
    int rc = 0;

    while (rc == 0 && !run->attached) {
        struct cllm_shm_runs runs;
        const struct cllm_shm_run *found;

        rc = nap(run, ATTACH_NS);
        if (rc != 0)
            break;
        rc = cllm_shm_runs_scan(&runs);
        if (rc != 0)
            break;
        found = cllm_shm_runs_find(&runs, run->dir);
        run->attached = found && cllm_control_attach(&run->control, found->id,
                                                     CLLM_NONE) == CLLM_ATTACH_OK;
        cllm_shm_runs_fini(&runs);
    }
    return rc;
}

/* Are all workers there? */
static bool is_complete(const struct cllm_bench_run *run)
{
    uint32_t workers = cllm_load_relaxed(&run->control.state->workers);

    for (uint32_t w = 0; w < workers; w++) {
        uint32_t state = run->control.slots[w].command.state;

        if (state != CLLM_SLOT_IDLE && state != CLLM_SLOT_BUSY)
            return false;
    }
    return true;
}

static uint64_t committed(const struct cllm_bench_run *run)
{
    return cllm_load_relaxed(&run->control.state->committed);
}

/* Wait until @step is committed; learn on the way how long a step takes. */
static int reach(struct cllm_bench_run *run, uint64_t step)
{
    uint64_t began = cllm_now_ns(), from = committed(run), now = from;
    uint64_t ns =
        cllm_min_u64(cllm_max_u64(run->step_ns / NAPS_A_STEP, LEAST_NAP), MOST_NAP);
    int rc = 0;

    while (rc == 0 && now < step) {
        rc = nap(run, ns);
        now = committed(run);
    }
    if (now > from)
        run->step_ns = (cllm_now_ns() - began) / (now - from);
    return rc;
}

int cllm_bench_run_start(struct cllm_bench_run *run, const struct cllm_bench_job *job,
                         uint32_t workers, uint64_t checkpoint_every, uint64_t warmup)
{
    static struct command_line line;
    int rc;

    *run = (struct cllm_bench_run){.coordinator = {.pidfd = -1}};
    line = (struct command_line){0};
    rc = cllm_file_join(run->log, job->data->dir, "coord.log");
    if (rc == 0)
        rc = cllm_file_join(run->dir, job->data->dir, "run");
    if (rc == 0)
        rc = cllm_file_mkdirs(run->dir);
    if (rc != 0) {
        run->dir[0] = '\0';
        return rc;
    }
    build(&line, run, job, workers, checkpoint_every);
    rc = cllm_bench_child_start(&run->coordinator, "cllm-coord", line.argv, run->log);
    if (rc == 0)
        rc = attach(run);
    while (rc == 0 && !is_complete(run))
        rc = nap(run, ATTACH_NS);
    if (rc == 0)
        rc = reach(run, committed(run) + 1); /* with starting up: no measure of a step */
    if (rc == 0)
        rc = reach(run, cllm_max_u64(warmup, committed(run) + 1));
    if (rc == 0)
        memcpy(run->kernels, run->control.slots[0].own.status.kernels,
               sizeof run->kernels - 1);
    return rc;
}

/* ---- measure ---- */

int cllm_bench_run_measure(struct cllm_bench_run *run, uint64_t steps,
                           struct cllm_bench_count *count)
{
    struct cllm_bench_count before;
    int rc;

    cllm_bench_count_take(&before, &run->control);
    rc = reach(run, before.step + steps);
    if (rc != 0)
        return rc;
    cllm_bench_count_take(count, &run->control);
    return cllm_bench_count_since(count, &before);
}

/* ---- pause ---- */

/* Give the run a command of cllm-ctl, which it does not refuse. */
static int command(struct cllm_bench_run *run, const char *line)
{
    int fd = cllm_local_socket_connect(run->dir, CLLM_CONTROL_SOCKET_NAME, ANSWER_MS);
    char answer[256];
    ssize_t n = 0;
    int ended, rc = fd < 0 ? fd : 0;

    if (rc == 0 && send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
        rc = -errno;
    if (rc == 0)
        n = recv(fd, answer, sizeof answer, 0);
    if (rc == 0 && n <= 0)
        rc = n < 0 ? -errno : -ECONNRESET;
    if (fd >= 0)
        (void)close(fd);
    if (rc == 0)
        return 0;
    ended = nap(run, END_NS); /* is it that the run is gone? */
    return ended != 0 ? ended : cllm_err(rc, "cannot pause the run that is measured");
}

int cllm_bench_run_hold(struct cllm_bench_run *run)
{
    int rc = command(run, "pause\n");

    while (rc == 0 &&
           cllm_load_relaxed(&run->control.state->run_state) != CLLM_RUN_PAUSED)
        rc = nap(run, LEAST_NAP);
    return rc;
}

int cllm_bench_run_go_on(struct cllm_bench_run *run)
{
    uint64_t step = committed(run);
    int rc = command(run, "resume\n");

    return rc == 0 ? reach(run, step + 1) : rc;
}

/* ---- end ---- */

/*
 * Remove the run's shared memory, when its last process has let go of it. Node Zero dies
 * with its guardian, and its children with it, but later: before they are gone, one may
 * still make an object or a file.
 */
static int clean(const char *dir)
{
    uint64_t until = cllm_now_ns() + CLEAN_NS;
    struct timespec pause = cllm_timespec(ATTACH_NS);
    int rc;

    while ((cllm_shm_life_locked(dir, "run.lock") ||
            cllm_shm_life_locked(dir, "generation.lock")) &&
           cllm_now_ns() < until)
        (void)nanosleep(&pause, NULL); /* cut short: asked the sooner */
    do {
        struct cllm_shm_runs runs;
        const struct cllm_shm_run *found;

        rc = cllm_shm_runs_scan(&runs);
        if (rc != 0)
            return rc;
        found = cllm_shm_runs_find(&runs, dir);
        if (found)
            rc = cllm_shm_clean_run(found, false);
        cllm_shm_runs_fini(&runs);
        if (rc != 0)
            (void)nanosleep(&pause, NULL); /* cut short: asked the sooner */
    } while (rc != 0 && cllm_now_ns() < until);
    return rc;
}

int cllm_bench_run_end(struct cllm_bench_run *run)
{
    char path[CLLM_FILE_PATH_BYTES];
    struct cllm_err_text why;
    int rc = 0;

    if (run->dir[0] == '\0')
        return 0;
    cllm_err_save(&why); /* what it ends for, if it does not end well */
    cllm_bench_child_kill(&run->coordinator);
    if (run->attached)
        cllm_control_detach(&run->control);
    rc = clean(run->dir);
    if (rc == 0)
        rc = cllm_file_join(path, run->dir, CLLM_CONTROL_SOCKET_NAME);
    if (rc == 0 && unlink(path) != 0 && errno != ENOENT)
        rc = cllm_err(-errno, "cannot remove %s", path);
    if (rc == 0)
        rc = cllm_file_remove_tree(run->dir);
    if (rc == 0 && unlink(run->log) != 0 && errno != ENOENT)
        rc = cllm_err(-errno, "cannot remove %s", run->log);
    if (rc == 0)
        cllm_err_restore(&why);
    *run = (struct cllm_bench_run){.coordinator = {.pidfd = -1}};
    return rc;
}
