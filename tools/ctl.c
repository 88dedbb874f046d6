/*
 * tools/ctl.c - cllm-ctl: steer a run that goes on, over its control socket.
 *
 * The run is found in shared memory as cllm-shm finds it, so that a dead one is named as
 * such. A Node Zero that was killed a moment ago has a successor soon: connecting is
 * tried again for as long as the run's guardian lives.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/local_socket.h"
#include "shm/control.h"
#include "tools/ctl_answer.h"
#include "tools/shm_runs.h"

#define PROGRAM      "cllm-ctl"
#define TIMEOUT_MS   10000
#define RETRY_NS     (50 * CLLM_NS_PER_MS)
#define ANSWER_BYTES 65536

struct request {
    const char *run, *command, *argument; /* argument: NULL = none */
    bool json;
};

static const struct {
    const char *name, *argument, *help;
} commands[] = {
    {"status", "", "step, loss, speed, workers"},
    {"workers", "N", "compute with N workers from now on; the bits stay the same"},
    {"checkpoint", "", "save at the end of this step"},
    {"pause", "", "finish this step, then compute nothing until resume"},
    {"resume", "", "go on"},
    {"stop", "", "finish this step, save, end with 75 (as SIGTERM)"},
};

static void print_help(void)
{
    (void)printf("Usage: " PROGRAM " [OPTION]... RUN COMMAND [N]\n"
                 "Steer a training run that goes on.\n\n");
    for (size_t i = 0; i < CLLM_LEN(commands); i++)
        (void)printf("  %-10s %-2s %s\n", commands[i].name, commands[i].argument,
                     commands[i].help);
    (void)printf("\nRUN is a run id, the beginning of one, or the run directory.\n\n"
                 "      --json      the answer as the run gave it; to standard output\n"
                 "      --help      this text\n"
                 "      --version   version\n\n"
                 "Exit code: 0 done; 1 no such run, dead, or refused; 2 usage.\n");
}

/* ---- the run ---- */

/* A run is there, but nobody drives it any more. */
static int say_dead(const struct cllm_control *control)
{
    int rc = cllm_err(CLLM_EREFUSED, "run %s is dead: nobody drives it any more",
                      control->header->run_id);

    cllm_err_detail("its Node Zero was process %u, in %s", control->state->node_zero_pid,
                    control->header->run_dir);
    cllm_err_hint("cllm-coord CONFIG.ini --resume goes on with it; cllm-shm show %s has "
                  "what is left",
                  control->header->run_id);
    return rc;
}

static bool guardian_lives(const struct cllm_control *control)
{
    const struct cllm_state *state = control->state;

    return state->guardian_pid != 0 && state->guardian_start_ticks != 0 &&
           cllm_process_start_ticks(state->guardian_pid) == state->guardian_start_ticks;
}

/* Connect to the run, or to the next Node Zero of it. Descriptor or negative code. */
static int reach(const struct cllm_control *control)
{
    uint64_t until = cllm_now_ns() + TIMEOUT_MS * CLLM_NS_PER_MS;
    struct timespec wait = cllm_timespec(RETRY_NS);

    for (;;) {
        bool alive = cllm_control_alive(control) || guardian_lives(control);
        int fd = alive ? cllm_local_socket_connect(control->header->run_dir,
                                                   CLLM_CONTROL_SOCKET_NAME, TIMEOUT_MS)
                       : say_dead(control);

        if (fd == -ENOENT)
            cllm_err_hint("the run is ending, or it could not make its socket (log.txt)");
        if ((fd != -ENOENT && fd != -ECONNREFUSED) || cllm_now_ns() >= until)
            return fd;
        (void)nanosleep(&wait, NULL);
    }
}

/* Find the run that a person means and connect to it. */
static int connect_run(const char *text, char id[CLLM_REGION_NAME_BYTES])
{
    struct cllm_shm_runs runs;
    const struct cllm_shm_run *run;
    struct cllm_control control;
    int rc = cllm_shm_runs_scan(&runs);

    if (rc != 0)
        return rc;
    run = cllm_shm_runs_find(&runs, text);
    if (run)
        (void)snprintf(id, CLLM_REGION_NAME_BYTES, "%s", run->id);
    cllm_shm_runs_fini(&runs);
    if (!run)
        return CLLM_EREFUSED;
    switch (cllm_control_attach(&control, id, CLLM_NONE)) {
    case CLLM_ATTACH_OK:
        rc = reach(&control);
        cllm_control_detach(&control);
        return rc;
    case CLLM_ATTACH_NONE:
        return cllm_err(CLLM_EREFUSED, "run %s has ended", id);
    case CLLM_ATTACH_NOT_YET:
        rc = cllm_err(CLLM_EREFUSED, "run %s is not there yet, or died as it began", id);
        cllm_err_hint("try again in a moment; cllm-shm show %s says more", id);
        return rc;
    case CLLM_ATTACH_BAD:
    case CLLM_ATTACH_ERROR:
    default:
        cllm_err_add("cannot look into run %s", id);
        return CLLM_EREFUSED;
    }
}

/* ---- request and answer ---- */

/* Read to the end of the stream. Returns bytes or a negative code with text. */
static ssize_t receive(int fd, char *out, size_t capacity, const char *id)
{
    size_t used = 0;
    ssize_t n;

    while (used < capacity) {
        n = recv(fd, out + used, capacity - used, 0);
        if (n == 0)
            return (ssize_t)used;
        if (n > 0) {
            used += (size_t)n;
        } else if (errno == EAGAIN) {
            int rc = cllm_err(CLLM_EREFUSED, "run %s does not answer", id);

            cllm_err_hint("is its Node Zero stopped? cllm-shm show %s", id);
            return rc;
        } else if (errno != EINTR) {
            return cllm_err(-errno, "cannot read the answer of run %s", id);
        }
    }
    return cllm_err(CLLM_EREFUSED, "run %s answers without end", id);
}

/* Ask, and show what comes back. */
static int ask(const struct request *request, int fd, const char *id)
{
    char *text, line[128];
    ssize_t n;
    int rc = 0;

    (void)snprintf(line, sizeof line, "%.60s%s%.60s\n", request->command,
                   request->argument ? " " : "",
                   request->argument ? request->argument : "");
    /* A refused peer is answered and let go unheard: there is something to read still. */
    if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0 && errno != EPIPE)
        return cllm_err(-errno, "cannot ask run %s", id);
    text = malloc(ANSWER_BYTES);
    if (!text)
        return cllm_err(-ENOMEM, "cannot read an answer");
    n = receive(fd, text, ANSWER_BYTES, id);
    if (n == 0) {
        rc = cllm_err(CLLM_EREFUSED, "run %s let go without an answer", id);
        cllm_err_hint("it was ending, or its Node Zero was killed just now; try again");
    } else if (n > 0) {
        rc = cllm_ctl_answer(stdout, text, (size_t)n, request->json);
    } else {
        rc = (int)n;
    }
    free(text);
    return rc;
}

static int steer(const struct request *request)
{
    char id[CLLM_REGION_NAME_BYTES];
    int fd = connect_run(request->run, id);
    int rc;

    if (fd < 0)
        return fd;
    rc = ask(request, fd, id);
    (void)close(fd);
    return rc;
}

/* ---- arguments ---- */

static int usage(const char *text, const char *what)
{
    (void)fprintf(stderr, PROGRAM ": %s%s\n", text, what);
    (void)fprintf(stderr, "Try '" PROGRAM " --help' for more information.\n");
    return 1 + CLLM_EXIT_USAGE;
}

/* RUN COMMAND [N]. 0 = go on, else the exit code + 1. */
static int read_words(struct request *request, int n, char **word)
{
    size_t i = 0;
    char *end;

    if (n < 2)
        return usage("say which run, and what to do: RUN COMMAND", "");
    request->run = word[0];
    request->command = word[1];
    request->argument = n > 2 ? word[2] : NULL;
    while (i < CLLM_LEN(commands) && strcmp(commands[i].name, word[1]) != 0)
        i++;
    if (i == CLLM_LEN(commands))
        return usage("no such command: ", word[1]);
    if (n > (commands[i].argument[0] != '\0' ? 3 : 2))
        return usage("too many arguments after ", word[1]);
    if (commands[i].argument[0] == '\0')
        return 0;
    if (!request->argument)
        return usage("a number is missing after ", word[1]);
    errno = 0;
    (void)strtoull(request->argument, &end, 10);
    if (errno != 0 || *end != '\0' || request->argument[0] < '0' ||
        request->argument[0] > '9')
        return usage("not a whole number: ", request->argument);
    return 0;
}

/* Options and words into @request. 0 = go on, else the exit code + 1. */
static int read_arguments(struct request *request, int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'j':
            request->json = true;
            break;
        case 'h':
            print_help();
            return 1 + CLLM_EXIT_OK;
        case 'V':
            (void)printf(PROGRAM " (cllm) " CLLM_VERSION "\n");
            return 1 + CLLM_EXIT_OK;
        default:
            (void)fprintf(stderr, "Try '" PROGRAM " --help' for more information.\n");
            return 1 + CLLM_EXIT_USAGE;
        }
    }
    return read_words(request, argc - optind, argv + optind);
}

int main(int argc, char **argv)
{
    struct request request = {0};
    int rc = read_arguments(&request, argc, argv);

    if (rc != 0)
        return rc - 1;
    rc = steer(&request);
    if (rc == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        rc = cllm_err(-errno, "cannot write to standard output");
    if (rc == 0)
        return CLLM_EXIT_OK;
    cllm_err_print(PROGRAM);
    return rc == CLLM_ECONFIG ? CLLM_EXIT_USAGE : CLLM_EXIT_FAILURE;
}
