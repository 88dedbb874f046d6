/*
 * coordinator/node_events.c - the one place where Node Zero sleeps.
 */
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "coordinator/node.h"

#define TURN_NS      (50 * CLLM_NS_PER_MS) /* a turn at least so often */
#define EVENT_SIGNAL UINT32_MAX
#define EVENT_BELL   (UINT32_MAX - 1)
#define EVENT_SOCKET (UINT32_MAX - 2)

static int watch(struct cllm_node *nz, int fd, uint32_t tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = tag};

    if (epoll_ctl(nz->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return cllm_err(-errno, "cannot watch descriptor %d", fd);
    return 0;
}

/* A file system without sockets is no reason not to train. */
static int open_control_socket(struct cllm_node *nz)
{
    if (cllm_control_socket_open(&nz->control_socket, nz->plan.run_dir) != 0) {
        cllm_warn("%s; cllm-ctl cannot steer this run, signals can", cllm_err_text());
        return 0;
    }
    return watch(nz, nz->control_socket.epoll_fd, EVENT_SOCKET);
}

int cllm_node_open_events(struct cllm_node *nz)
{
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t set;
    int rc;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGUSR1);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    /* In a background process group of its terminal it may still write to it. */
    (void)sigaction(SIGTTOU, &ignore, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL);
    nz->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    nz->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    nz->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (nz->epoll_fd < 0 || nz->event_fd < 0 || nz->signal_fd < 0)
        return cllm_err(-errno, "cannot open the event loop");
    rc = watch(nz, nz->signal_fd, EVENT_SIGNAL);
    if (rc == 0)
        rc = watch(nz, nz->event_fd, EVENT_BELL);
    return rc != 0 ? rc : open_control_socket(nz);
}

static void on_signal(struct cllm_node *nz)
{
    struct signalfd_siginfo info;

    while (read(nz->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        char name[16];

        (void)cllm_signal_name((int)info.ssi_signo, name);
        if (info.ssi_signo == SIGUSR1) {
            cllm_info("%s: checkpoint at the end of this step", name);
            cllm_node_want_save(nz);
        } else if (nz->stops++ == 0) {
            cllm_info(
                "%s: finishing the step, saving, leaving; once more to leave at once",
                name);
            cllm_node_stop(nz);
        } else {
            cllm_info("%s: leaving at once", name);
            nz->ending = CLLM_ENDING_NOW;
            nz->exit_code = CLLM_EXIT_INTERRUPTED;
        }
    }
}

static int turn_timeout_ms(const struct cllm_node *nz)
{
    uint64_t now = cllm_now_ns();
    uint64_t until = cllm_min_u64(now + TURN_NS, cllm_team_next_due(&nz->team));

    return until > now ? (int)cllm_div_up(until - now, CLLM_NS_PER_MS) : 0;
}

void cllm_node_wait(struct cllm_node *nz)
{
    struct epoll_event event[32];
    int n = epoll_wait(nz->epoll_fd, event, CLLM_LEN(event), turn_timeout_ms(nz));
    uint64_t rings;

    for (int i = 0; i < n; i++) {
        if (event[i].data.u32 == EVENT_SIGNAL)
            on_signal(nz);
        else if (event[i].data.u32 == EVENT_BELL)
            (void)!read(nz->event_fd, &rings, sizeof rings); /* or rung by nobody */
        else if (event[i].data.u32 != EVENT_SOCKET)
            cllm_node_bury(nz, event[i].data.u32);
    }
    /* In every turn: its clients have deadlines. */
    cllm_control_socket_tend(&nz->control_socket, cllm_now_ns(), cllm_node_answer, nz);
    cllm_store_relaxed(&nz->control.state->heartbeat_ns, cllm_now_ns());
    cllm_heartbeat_beat(&nz->heartbeat, cllm_now_ns());
}
