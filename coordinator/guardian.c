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
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "coordinator/children.h"
#include "coordinator/heartbeat.h"
#include "coordinator/nodezero.h"
#include "formats/file.h"
#include "shm/control.h"
#include "shm/keeper.h"

#define NOT_EXECUTED  127  /* exit code of a child whose exec failed */
#define RESTARTS_KEPT 1024 /* newest ends of Node Zero that the budget looks at */

#define LOCK_TRIES   100   /* who holds the lock may be about to end */
#define DYING_TRIES  12000 /* its processes are, on however busy a machine or disk */
#define LOCK_WAIT_NS (10 * CLLM_NS_PER_MS)
#define HOLDER_BYTES 32

/* The pid of the guardian that has or had the lock; "" when it has not said so yet. */
static void read_holder(int fd, char holder[HOLDER_BYTES])
{
    ssize_t n = pread(fd, holder, HOLDER_BYTES - 1, 0);

    holder[n > 0 ? n : 0] = '\0';
    holder[strcspn(holder, "\n")] = '\0';
}

/* Whether the lock will be free by itself: the guardian was killed, and Node Zero, which
 * goes with it, is not gone yet. */
static bool is_dying(int fd)
{
    char holder[HOLDER_BYTES];

    read_holder(fd, holder);
    return holder[0] && cllm_process_start_ticks(strtoull(holder, NULL, 10)) == 0;
}

static int refuse_second(const struct cllm_config *config, int fd)
{
    char holder[HOLDER_BYTES];
    int rc;

    read_holder(fd, holder);
    rc = cllm_err(CLLM_EREFUSED, "another coordinator drives the run in %s",
                  config->run_dir);
    cllm_err_detail("its pid is %s", holder[0] ? holder : "unknown");
    cllm_err_hint("stop it with kill %s, or choose another [run] dir",
                  holder[0] ? holder : "PID");
    return rc;
}

/* Exclusive for as long as the guardian or Node Zero, which inherits it, lives. */
static int lock_run(const struct cllm_config *config, int *fd)
{
    char path[CLLM_FILE_PATH_BYTES];
    int rc = cllm_file_mkdirs(config->run_dir);

    if (rc == 0)
        rc = cllm_file_join(path, config->run_dir, "run.lock");
    if (rc == 0) {
        *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (*fd < 0)
            rc = cllm_err(-errno, "cannot open %s", path);
    }
    if (rc != 0) {
        cllm_err_hint("[run] dir names a directory that this user may write");
        return rc;
    }
    for (uint32_t i = 0; (rc = cllm_file_lock(*fd, path)) != 0; i++) {
        struct timespec wait = cllm_timespec(LOCK_WAIT_NS);

        if (rc != -EWOULDBLOCK)
            return rc;
        if (i >= (is_dying(*fd) ? DYING_TRIES : LOCK_TRIES))
            return refuse_second(config, *fd);
        (void)nanosleep(&wait, NULL);
    }
    if (ftruncate(*fd, 0) != 0 || dprintf(*fd, "%d\n", (int)getpid()) < 0)
        return cllm_err(-errno, "cannot write %s", path);
    return 0;
}

/*
 * The configuration as it is now, for this Node Zero and those after it: what is edited
 * while the run goes on must not change it.
 */
static int freeze_config(const struct cllm_config *config,
                         char path[CLLM_FILE_PATH_BYTES])
{
    char *text = cllm_config_text(config);
    int rc;

    if (!text)
        return cllm_err(-ENOMEM, "cannot keep the configuration");
    rc = cllm_file_join(path, config->run_dir, "node-zero.ini");
    if (rc == 0)
        rc = cllm_file_replace(path, text, strlen(text));
    free(text);
    return rc;
}

static int open_signals(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGUSR1);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGCHLD); /* Node Zero was stopped */
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

/* What the guardian says stands in the run's log as well. A log that cannot be opened is
 * Node Zero's to report. */
static void open_log(const struct cllm_config *config)
{
    char path[CLLM_FILE_PATH_BYTES];

    if (cllm_file_join(path, config->run_dir, "log.txt") == 0)
        cllm_log_set_file(open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
}

/* What the guardian knows while it waits. */
struct watch {
    int lock_fd, signal_fd;
    char config_path[CLLM_FILE_PATH_BYTES];
    char program[1024];
    bool resume, allow_numerics_change;
    bool suspect; /* a Node Zero was ended by a fault signal: those after it distrust what
                     it left */
    bool
        stop; /* somebody asked to stop: successors of a killed Node Zero are asked too */
    struct cllm_heartbeat_watch heartbeat;
    struct cllm_keeper keeper;
    char why[96]; /* this Node Zero was ended by the guardian, because; "" = it was not */
};

static int spawn_node_zero(const struct watch *watch, struct cllm_process *node_zero,
                           int keeper_fd)
{
    const struct cllm_spawn how = {
        .keep_fd = {watch->lock_fd, watch->heartbeat.fd, keeper_fd}, .node_zero = true};
    char role[32], heartbeat[32], keeper[32];
    char resume[] = "--resume", allow[] = "--allow-numerics-change";
    char suspect[] = "--suspect";
    char program[sizeof watch->program], path[sizeof watch->config_path];
    char *argv[9] = {program, path, role, heartbeat, keeper, NULL};
    uint32_t n = 5;

    (void)snprintf(program, sizeof program, "%s", watch->program);
    (void)snprintf(path, sizeof path, "%s", watch->config_path);
    (void)snprintf(role, sizeof role, "--node-zero=%d", watch->lock_fd);
    (void)snprintf(heartbeat, sizeof heartbeat, "--heartbeat=%d", watch->heartbeat.fd);
    (void)snprintf(keeper, sizeof keeper, "--keeper=%d", keeper_fd);
    if (watch->resume)
        argv[n++] = resume;
    if (watch->allow_numerics_change)
        argv[n++] = allow;
    if (watch->suspect)
        argv[n++] = suspect;
    return cllm_process_spawn(node_zero, watch->program, argv, &how);
}

/* A lost terminal is a request to stop. */
static void pass_signal_on(struct watch *watch, const struct cllm_process *node_zero)
{
    struct signalfd_siginfo info;
    int signal;

    if (read(watch->signal_fd, &info, sizeof info) != (ssize_t)sizeof info ||
        info.ssi_signo == SIGCHLD)
        return;
    signal = info.ssi_signo == SIGHUP ? SIGTERM : (int)info.ssi_signo;
    watch->stop |= signal != SIGUSR1;
    cllm_process_signal(node_zero, signal);
}

/* Pass signals on and look after Node Zero until it has ended. */
static void wait_for_end(struct watch *watch, struct cllm_process *node_zero)
{
    struct pollfd fds[3] = {{.fd = node_zero->pidfd, .events = POLLIN},
                            {.fd = watch->signal_fd, .events = POLLIN},
                            {.events = POLLIN}};

    for (;;) {
        fds[2].fd = watch->keeper.socket;
        if (poll(fds, CLLM_LEN(fds), (int)(CLLM_HEARTBEAT_LOOK_NS / CLLM_NS_PER_MS)) < 0)
            continue;
        if (fds[0].revents)
            return;
        if (fds[1].revents)
            pass_signal_on(watch, node_zero);
        if (fds[2].revents)
            cllm_keeper_serve(&watch->keeper);
        if (watch->why[0] == '\0' &&
            cllm_heartbeat_watch_look(&watch->heartbeat, node_zero, watch->why,
                                      sizeof watch->why))
            cllm_process_signal(node_zero, SIGKILL);
    }
}

static int run_node_zero(struct watch *watch, struct cllm_ending *ending)
{
    struct cllm_process node_zero = {.pidfd = -1};
    int keeper_fd = -1;
    int rc = cllm_keeper_renew(&watch->keeper, &keeper_fd);

    if (rc != 0)
        return rc;
    cllm_heartbeat_watch_renew(&watch->heartbeat);
    watch->why[0] = '\0';
    rc = spawn_node_zero(watch, &node_zero, keeper_fd);
    (void)close(keeper_fd);
    if (rc != 0)
        return rc;
    cllm_fault(CLLM_FAULT_guardian_spawned);
    if (watch->stop)
        cllm_process_signal(&node_zero, SIGTERM);
    wait_for_end(watch, &node_zero);
    cllm_fault(CLLM_FAULT_guardian_watched);
    cllm_process_reap(&node_zero, ending);
    cllm_fault(CLLM_FAULT_guardian_reaped);
    watch->suspect |= ending->fault;
    watch->suspect |= cllm_process_reap_orphans();
    return 0;
}

/* When the newest Node Zeros ended. */
struct budget {
    uint64_t n, ended_ns[RESTARTS_KEPT];
};

/* Node Zero was killed: may it be started once more? The limit is that of its children.
 */
static bool within_budget(const struct cllm_config *config, struct budget *budget)
{
    uint64_t now = cllm_now_ns(), recent = 0;
    uint64_t window_ns = (uint64_t)(config->run_restart_window * 1e9);

    budget->ended_ns[budget->n++ % RESTARTS_KEPT] = now;
    for (uint64_t i = 0; i < cllm_min_u64(budget->n, RESTARTS_KEPT); i++)
        recent += now - budget->ended_ns[i] < window_ns;
    return recent <= config->run_restart_limit;
}

static int prepare(struct watch *watch, const struct cllm_config *config)
{
    int rc;

    /* First of all: from here on a stop is a request, and is passed on. */
    watch->signal_fd = open_signals();
    if (watch->signal_fd < 0)
        return cllm_err(-errno, "cannot wait for signals");
    rc = lock_run(config, &watch->lock_fd);
    if (rc == 0)
        rc = cllm_heartbeat_watch_init(&watch->heartbeat);
    cllm_fault(CLLM_FAULT_guardian_locked);
    if (rc == 0)
        rc = freeze_config(config, watch->config_path);
    cllm_fault(CLLM_FAULT_guardian_frozen);
    if (rc == 0)
        rc = cllm_binary_directory(watch->program,
                                   sizeof watch->program - sizeof "/cllm-coord");
    if (rc != 0)
        return rc;
    (void)strncat(watch->program, "/cllm-coord",
                  sizeof watch->program - strlen(watch->program) - 1);
    open_log(config);
    cllm_process_expect_children();
    /* Orphans of a killed Node Zero come here, and not to init. */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    return 0;
}

static void tell(const struct watch *watch, const struct cllm_ending *ending)
{
    static const char then[] = "a new one takes the run over from shared memory";

    cllm_log_status("%s", ""); /* what it left half drawn */
    if (watch->why[0] != '\0')
        cllm_warn("Node Zero stopped answering (%s): ended; %s", watch->why, then);
    else
        cllm_warn("Node Zero was %s; %s", ending->text, then);
}

int cllm_guardian(const struct cllm_config *config, const struct cllm_options *options)
{
    struct watch watch = {.lock_fd = -1,
                          .signal_fd = -1,
                          .resume = options->resume,
                          .allow_numerics_change = options->allow_numerics_change};
    struct budget budget = {0};
    struct cllm_ending ending = {0};
    bool reload;
    int rc;

    cllm_keeper_init(&watch.keeper);
    rc = prepare(&watch, config);
    while (rc == 0) {
        rc = run_node_zero(&watch, &ending);
        reload = rc == 0 && !ending.by_signal && ending.code == CLLM_EXIT_RELOAD;
        if (rc == 0 && !ending.by_signal && ending.code == NOT_EXECUTED) {
            rc = cllm_err(-ENOEXEC, "cannot execute %s", watch.program);
            cllm_err_hint("the system had no memory for it, or the file is damaged");
            break;
        }
        if (rc == 0 && !ending.by_signal && !reload)
            return ending.code;
        if (rc != 0 || !within_budget(config, &budget))
            break;
        if (reload)
            cllm_warn(
                "shared memory cannot be trusted and was removed; a new Node Zero goes "
                "on from the newest checkpoint");
        else
            tell(&watch, &ending);
        watch.resume = true;
        /* What is armed stays armed in shared memory; it is not armed anew. */
        (void)unsetenv(CLLM_FAULT_ENVIRONMENT);
    }
    if (rc != 0) {
        cllm_err_print("cllm-coord");
        return cllm_exit_code(rc);
    }
    cllm_error(
        "Node Zero ended too often (now: %s), more than [run] restart_limit = %" PRIu64
        " times within %g s: giving up; --resume goes on",
        ending.text, config->run_restart_limit, config->run_restart_window);
    return CLLM_EXIT_BUDGET;
}
