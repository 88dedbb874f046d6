/*
 * coordinator/guardian.c - lock, start, wait, start again.
 */
#include "coordinator/guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "coordinator/children.h"
#include "formats/file.h"

#define RESTARTS       5 /* of Node Zero within RESTART_WINDOW */
#define RESTART_WINDOW (60 * CLLM_NS_PER_S)

/* Exclusive for as long as the guardian or Node Zero, which inherits it, lives. */
static int lock_run(const struct cllm_config *config, int *fd)
{
    char path[CLLM_FILE_PATH_BYTES], holder[32] = "";
    int rc = cllm_file_mkdirs(config->run_dir);

    if (rc == 0)
        rc = cllm_file_join(path, config->run_dir, "run.lock");
    if (rc != 0) {
        cllm_err_hint("[run] dir names a directory that this user may write");
        return rc;
    }
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0) {
        rc = cllm_err(-errno, "cannot open %s", path);
        cllm_err_hint("[run] dir names a directory that this user may write");
        return rc;
    }
    if (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t n = pread(*fd, holder, sizeof holder - 1, 0);

        holder[n > 0 ? strcspn(holder, "\n") : 0] = '\0';
        rc = cllm_err(CLLM_EREFUSED, "another coordinator drives the run in %s",
                      config->run_dir);
        cllm_err_detail("its pid is %s", holder[0] ? holder : "unknown");
        cllm_err_hint("stop it with kill %s, or choose another [run] dir",
                      holder[0] ? holder : "PID");
        return rc;
    }
    if (ftruncate(*fd, 0) != 0 || dprintf(*fd, "%d\n", (int)getpid()) < 0)
        return cllm_err(-errno, "cannot write %s", path);
    return 0;
}

static int open_signals(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGUSR1);
    (void)sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

/* argv + --node-zero (+ --resume when @again and not given); heap, the strings are
 * borrowed. */
static char **node_zero_arguments(char **argv, bool again)
{
    size_t n = 0;
    char **out;

    while (argv[n])
        n++;
    out = calloc(n + 3, sizeof *out);
    CLLM_ASSERT(out != NULL);
    memcpy(out, argv, n * sizeof *out);
    out[n++] = (char *)(uintptr_t) "--node-zero";
    if (again)
        out[n] = (char *)(uintptr_t) "--resume";
    return out;
}

/* Pass signals on until Node Zero has ended. A lost terminal is a request to stop. */
static void wait_for_end(const struct cllm_process *node_zero, int signal_fd)
{
    struct pollfd fds[2] = {{.fd = node_zero->pidfd, .events = POLLIN},
                            {.fd = signal_fd, .events = POLLIN}};

    for (;;) {
        struct signalfd_siginfo info;

        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[0].revents)
            return;
        if (fds[1].revents && read(signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
            cllm_process_signal(node_zero,
                                info.ssi_signo == SIGHUP ? SIGTERM : (int)info.ssi_signo);
    }
}

static int run_node_zero(char **argv, int lock_fd, int signal_fd, bool again,
                         struct cllm_ending *ending)
{
    struct cllm_spawn how = {.keep_fd = {lock_fd}, .keep_environment = true};
    struct cllm_process node_zero = {.pidfd = -1};
    char **arguments = node_zero_arguments(argv, again);
    char path[1024];
    int rc = cllm_binary_directory(path, sizeof path - sizeof "/cllm-coord");

    if (rc == 0) {
        (void)strncat(path, "/cllm-coord", sizeof path - strlen(path) - 1);
        rc = cllm_process_spawn(&node_zero, path, arguments, &how);
    }
    free(arguments);
    if (rc != 0)
        return rc;
    wait_for_end(&node_zero, signal_fd);
    cllm_process_reap(&node_zero, ending);
    return 0;
}

/* Node Zero was killed: may it be started once more? */
static bool within_budget(uint64_t *restarts, uint32_t *n)
{
    uint64_t now = cllm_now_ns();
    uint32_t recent = 0;

    restarts[*n % RESTARTS] = now;
    (*n)++;
    for (uint32_t i = 0; i < cllm_min_u64(*n, RESTARTS); i++)
        recent += now - restarts[i] < RESTART_WINDOW;
    return recent < RESTARTS;
}

int cllm_guardian(const struct cllm_config *config, char **argv)
{
    uint64_t restarts[RESTARTS];
    uint32_t n_restarts = 0;
    struct cllm_ending ending = {0};
    int lock_fd = -1, signal_fd;
    bool again = false;
    int rc = lock_run(config, &lock_fd);

    if (rc != 0)
        goto fail;
    signal_fd = open_signals();
    if (signal_fd < 0) {
        rc = cllm_err(-errno, "cannot wait for signals");
        goto fail;
    }
    /* Orphans of a killed Node Zero come here, and not to init. */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (;;) {
        rc = run_node_zero(argv, lock_fd, signal_fd, again, &ending);
        if (rc != 0)
            goto fail;
        if (!ending.by_signal)
            return ending.code;
        if (!within_budget(restarts, &n_restarts))
            break;
        cllm_warn("Node Zero was %s; a new one takes the run over from shared memory",
                  ending.text);
        again = true;
    }
    cllm_error("Node Zero was %s, %d times within %" PRIu64
               " s: giving up; --resume goes on",
               ending.text, RESTARTS, RESTART_WINDOW / CLLM_NS_PER_S);
    return CLLM_EXIT_BUDGET;
fail:
    cllm_err_print("cllm-coord");
    return cllm_exit_code(rc);
}
