/*
 * tools/shm_trouble.c - see cllm_shm_text_trouble() in tools/shm_text.h.
 *
 * What can be done is said as commands that can be pasted into a shell as they are.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/units.h"
#include "tools/shm_text.h"

/* "07:05:12", local time. */
static void clock_text(char out[16], int64_t unix_s)
{
    time_t t = (time_t)unix_s;
    struct tm tm;

    if (!localtime_r(&t, &tm) || strftime(out, 16, "%H:%M:%S", &tm) == 0)
        (void)snprintf(out, 16, "?");
}

/* @path as one word of a shell, quoted where it must be. */
static void put_word(FILE *out, const char *path)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789/._-+,:=@%";

    if (path[0] != '\0' && path[strspn(path, plain)] == '\0') {
        (void)fprintf(out, "%s", path);
        return;
    }
    (void)fprintf(out, "'");
    for (const char *c = path; *c != '\0'; c++)
        (void)fprintf(out, *c == '\'' ? "'\\''" : "%c", *c);
    (void)fprintf(out, "'");
}

/* Program @name as one calls it: from beside this one, as this one was called. */
static void put_program(FILE *out, const char *name)
{
    const char *own = program_invocation_name, *slash = strrchr(own, '/');
    char path[CLLM_PATH_BYTES + 16] = "";

    if (slash)
        (void)snprintf(path, sizeof path, "%.*s/%s", (int)(slash - own), own, name);
    put_word(out, slash && access(path, X_OK) == 0 ? path : name);
}

/* The command that goes on with the run. */
static void put_resume(FILE *out, const struct cllm_shm_view *view)
{
    char path[CLLM_PATH_BYTES + 16];

    put_program(out, "cllm-coord");
    (void)fprintf(out, " ");
    (void)snprintf(path, sizeof path, "%s/config.ini", view->header.run_dir);
    if (access(path, R_OK) == 0)
        put_word(out, path);
    else
        (void)fprintf(out, "CONFIG");
    (void)fprintf(out, " --resume\n");
}

/* What is left of a dead run, in one line. */
static void dead_remains(FILE *out, const struct cllm_shm_view *view)
{
    if (view->newest_record < 0)
        (void)fprintf(out, "  It had committed no step yet.\n");
    else if (view->root_agrees)
        (void)fprintf(
            out, "  Nothing is lost: step %" PRIu64 " is committed in this memory.\n",
            view->record[view->newest_record].step);
    else
        (void)fprintf(out,
                      "  Step %" PRIu64 " is committed, but the chunk table does not "
                      "agree with it.\n",
                      view->record[view->newest_record].step);
}

static void dead_trouble(FILE *out, const struct cllm_shm_view *view)
{
    char clock[16], age[CLLM_UNITS_BYTES], bytes[CLLM_UNITS_BYTES];
    uint64_t saved = cllm_load_relaxed(&view->state.saved_step);

    clock_text(clock, (view->taken_unix_ns - (int64_t)view->heartbeat_age_ns) /
                          (int64_t)CLLM_NS_PER_S);
    (void)fprintf(out, "  This run is DEAD: Node Zero, process %" PRIu64 ", is gone.\n",
                  view->pid);
    if (cllm_load_relaxed(&view->state.heartbeat_ns) != 0)
        (void)fprintf(out, "  Its last sign of life was at %s, %s ago.\n", clock,
                      cllm_format_duration(age, view->heartbeat_age_ns));
    dead_remains(out, view);
    (void)fprintf(out, "    go on:       ");
    put_resume(out, view);
    (void)fprintf(out, "    throw away:  ");
    put_program(out, "cllm-shm");
    (void)fprintf(out, " clean %s", view->id);
    (void)fprintf(out, "   (frees %s; ", cllm_format_bytes(bytes, view->run->bytes));
    if (saved > 0)
        (void)fprintf(out, "step %" PRIu64 " is on disk)\n", saved);
    else
        (void)fprintf(out, "no checkpoint is on disk)\n");
}

static void takeover_trouble(FILE *out, const struct cllm_shm_view *view)
{
    char age[CLLM_UNITS_BYTES], who[48] = "";

    if (view->guardian_pid != 0)
        (void)snprintf(who, sizeof who, ", process %" PRIu64 ",", view->guardian_pid);
    (void)fprintf(out,
                  "  Node Zero, process %" PRIu64
                  ", is gone; its guardian%s starts another.\n",
                  view->pid, who);
    if (view->heartbeat_age_ns > CLLM_SHM_HUNG_NS) {
        (void)fprintf(out, "  The last sign of life was %s ago",
                      cllm_format_duration(age, view->heartbeat_age_ns));
        if (view->guardian_pid != 0)
            (void)fprintf(out, "; if it is stopped: kill -CONT %" PRIu64,
                          view->guardian_pid);
        (void)fprintf(out, ".\n");
    }
    dead_remains(out, view);
}

void cllm_shm_text_trouble(FILE *out, const struct cllm_shm_view *view)
{
    char age[CLLM_UNITS_BYTES];

    switch (view->life) {
    case CLLM_SHM_DEAD:
        dead_trouble(out, view);
        break;
    case CLLM_SHM_TAKEOVER:
        takeover_trouble(out, view);
        break;
    case CLLM_SHM_HUNG:
        (void)cllm_format_duration(age, view->heartbeat_age_ns);
        (void)fprintf(out,
                      "  This run HANGS: Node Zero, process %" PRIu64
                      ", lives,\n  but its last heartbeat is %s old.\n",
                      view->pid, age);
        if (view->process_state == 'T' || view->process_state == 't')
            (void)fprintf(out, "    It is stopped; go on: kill -CONT %" PRIu64 "\n",
                          view->pid);
        else
            (void)fprintf(out,
                          "    It may be blocked in the system (state %c); "
                          "kill -9 %" PRIu64 " loses nothing.\n",
                          view->process_state, view->pid);
        break;
    default:
        if (view->reason[0] != '\0')
            (void)fprintf(out, "  %s\n", view->reason);
    }
}
