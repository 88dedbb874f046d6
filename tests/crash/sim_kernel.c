/*
 * tests/crash/sim_kernel.c - what the kernel would do: the clock, descriptors, doorbells,
 * signals; a process of its own.
 *
 * The linker sends the calls of the real code here (--wrap). Of the file system there is
 * nothing: what Node Zero keeps on the disk stands in sim_house.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "tests/crash/sim.h"

#define FD_EPOLL  7000
#define FD_EVENT  7001
#define FD_SIGNAL 7002
#define FD_FILE   7003
#define FD_STAT   20000 /* + pid: /proc/PID/stat */

/* The names that --wrap makes. */
#define WRAP(type, name, ...)        \
    type __wrap_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

struct sim_process *sim_by_pid(uint32_t pid)
{
    for (uint32_t i = 0; i < SIM_PROCESSES; i++)
        if (sim.process[i].exists && sim.process[i].pid == pid)
            return &sim.process[i];
    return NULL;
}

/* ---- memory of a process, gone with it ---- */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t n);
void __real_free(void *p);

static void *heap_take(size_t n)
{
    struct sim_process *self = sim.current;
    uint64_t *head = (uint64_t *)(void *)(self->heap + self->heap_used);

    CLLM_ASSERT(self->heap_used + n + 32 <= (256u << 10));
    head[0] = n;
    self->heap_used += 16 + cllm_align_up(n, 16);
    return head + 2;
}

static bool in_heap(const void *p)
{
    for (uint32_t i = 0; i < SIM_PROCESSES; i++)
        if (sim.process[i].heap && (const uint8_t *)p >= sim.process[i].heap &&
            (const uint8_t *)p < sim.process[i].heap + (256u << 10))
            return true;
    return false;
}

WRAP(void *, malloc, size_t n)
{
    return sim.current ? heap_take(n) : __real_malloc(n);
}

WRAP(void *, calloc, size_t n, size_t size)
{
    void *p;

    if (!sim.current)
        return __real_calloc(n, size);
    p = heap_take(n * size);
    return memset(p, 0, n * size);
}

WRAP(void *, realloc, void *old, size_t n)
{
    void *p;

    if (!sim.current)
        return __real_realloc(old, n);
    p = heap_take(n);
    if (old)
        (void)memcpy(p, old, cllm_min_u64(n, ((const uint64_t *)old)[-2]));
    return p;
}

WRAP(void, free, void *p)
{
    if (p && !in_heap(p))
        __real_free(p);
}

WRAP(void *, mmap, void *at, size_t n, int prot, int flags, int fd, off_t off)
{
    (void)at;
    (void)prot;
    (void)flags;
    (void)fd;
    (void)off;
    return sim.current ? heap_take(n) : MAP_FAILED;
}

WRAP(int, munmap, void *at, size_t n)
{
    (void)at;
    (void)n;
    return 0;
}

/* ---- time ---- */

WRAP(int, clock_gettime, clockid_t clock, struct timespec *out)
{
    (void)clock;
    *out = cllm_timespec(sim.now_ns);
    return 0;
}

WRAP(time_t, time, time_t *out)
{
    time_t now = (time_t)(sim.now_ns / CLLM_NS_PER_S);

    if (out)
        *out = now;
    return now;
}

WRAP(int, nanosleep, const struct timespec *wait, struct timespec *left)
{
    (void)left;
    sim_message("nanosleep", (uint64_t)wait->tv_nsec);
    sim_sleep(sim.now_ns + (uint64_t)wait->tv_sec * CLLM_NS_PER_S +
              (uint64_t)wait->tv_nsec);
    return 0;
}

/* ---- doorbells: a count in the semaphore's own bytes ---- */

static struct sim_process *owner_of(const sem_t *bell)
{
    for (uint32_t i = 1; i < SIM_PROCESSES; i++)
        if (sim.process[i].live && sim.have_view &&
            bell == &sim.view.slots[sim.process[i].slot].bell.semaphore)
            return &sim.process[i];
    return NULL;
}

static uint32_t *count_of(sem_t *bell)
{
    return (uint32_t *)(void *)bell;
}

WRAP(int, sem_init, sem_t *bell, int shared, unsigned value)
{
    (void)shared;
    sim_message("sem_init", value);
    *count_of(bell) = value;
    return 0;
}

WRAP(int, sem_post, sem_t *bell)
{
    struct sim_process *sleeper;

    sim_message("ring", 0);
    if (!sim.quiet && sim_chance(sim.plan.ring_loss)) {
        sim.totals.lost_rings++;
        return 0;
    }
    *count_of(bell) += !sim.quiet && sim_chance(sim.plan.ring_loss) ? 2 : 1;
    sleeper = owner_of(bell);
    if (sleeper)
        sim_wake(sleeper);
    return 0;
}

WRAP(int, sem_trywait, sem_t *bell)
{
    if (*count_of(bell) == 0) {
        errno = EAGAIN;
        return -1;
    }
    --*count_of(bell);
    return 0;
}

WRAP(int, sem_clockwait, sem_t *bell, clockid_t clock, const struct timespec *until)
{
    uint64_t until_ns =
        (uint64_t)until->tv_sec * CLLM_NS_PER_S + (uint64_t)until->tv_nsec;

    (void)clock;
    sim_message("sleep", until_ns);
    if (*count_of(bell) == 0)
        sim_sleep(until_ns);
    if (*count_of(bell) == 0) {
        errno = ETIMEDOUT;
        return -1;
    }
    --*count_of(bell);
    return 0;
}

/* ---- Node Zero's descriptors ---- */

void sim_signal_node_zero(int signal)
{
    sim.signals |= 1u << signal;
    if (sim.process[0].live && (sim.signal_mask & (1u << signal)))
        sim_wake(&sim.process[0]);
}

WRAP(int, epoll_create1, int flags)
{
    (void)flags;
    memset(sim.watched, 0, sizeof sim.watched);
    return FD_EPOLL;
}

WRAP(int, eventfd, unsigned count, int flags)
{
    (void)flags;
    sim.event_count = count;
    return FD_EVENT;
}

WRAP(int, signalfd, int fd, const sigset_t *mask, int flags)
{
    (void)fd;
    (void)flags;
    sim.signal_mask = 0;
    for (int s = 1; s < 32; s++)
        if (sigismember(mask, s) == 1)
            sim.signal_mask |= 1u << s;
    return FD_SIGNAL;
}

WRAP(int, epoll_ctl, int epoll, int op, int fd, struct epoll_event *event)
{
    (void)epoll;
    for (uint32_t i = 0; i < CLLM_LEN(sim.watched); i++)
        if (op == EPOLL_CTL_ADD ? sim.watched[i].fd == 0 : sim.watched[i].fd == fd) {
            sim.watched[i].fd = op == EPOLL_CTL_DEL ? 0 : fd;
            if (event)
                sim.watched[i].data = event->data.u64;
            return 0;
        }
    errno = ENOENT;
    return -1;
}

static bool readable(int fd)
{
    if (fd == FD_EVENT)
        return sim.event_count > 0;
    if (fd == FD_SIGNAL)
        return (sim.signals & sim.signal_mask) != 0;
    if (fd > SIM_FD_PROCESS) {
        const struct sim_process *process = sim_by_pid((uint32_t)(fd - SIM_FD_PROCESS));

        return process && !process->live;
    }
    return false;
}

static int collect(struct epoll_event *out, int max)
{
    uint32_t first = (uint32_t)(sim_random() % CLLM_LEN(sim.watched));
    int n = 0;

    for (uint32_t i = 0; i < CLLM_LEN(sim.watched) && n < max; i++) {
        uint32_t at = (first + i) % CLLM_LEN(sim.watched);

        /* News may be seen a turn later. */
        if (sim.watched[at].fd == 0 || !readable(sim.watched[at].fd) ||
            (!sim.quiet && sim_chance(16)))
            continue;
        out[n++] =
            (struct epoll_event){.events = EPOLLIN, .data.u64 = sim.watched[at].data};
    }
    return n;
}

WRAP(int, epoll_wait, int epoll, struct epoll_event *out, int max, int timeout_ms)
{
    int n;

    (void)epoll;
    sim_message("epoll_wait", (uint64_t)(uint32_t)timeout_ms);
    n = collect(out, max);
    if (n > 0 || timeout_ms == 0)
        return n;
    sim_sleep(timeout_ms < 0 ? SIM_FOREVER
                             : sim.now_ns + (uint64_t)timeout_ms * CLLM_NS_PER_MS);
    return collect(out, max);
}

static ssize_t read_signal(struct signalfd_siginfo *out)
{
    uint32_t ready = sim.signals & sim.signal_mask;

    if (ready == 0) {
        errno = EAGAIN;
        return -1;
    }
    memset(out, 0, sizeof *out);
    out->ssi_signo = (uint32_t)__builtin_ctz(ready);
    sim.signals &= ~(UINT32_C(1) << out->ssi_signo);
    return (ssize_t)sizeof *out;
}

static ssize_t read_stat(uint32_t pid, char *out, size_t n)
{
    const struct sim_process *process = sim_by_pid(pid);
    int written;

    if (pid != sim.guardian_pid && (!process || !process->live))
        return 0;
    written = snprintf(out, n, "%u (cllm) S 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 %u 0 0\n",
                       pid, pid + 5);
    return written;
}

WRAP(ssize_t, read, int fd, void *out, size_t n)
{
    if (fd == FD_EVENT) {
        if (sim.event_count == 0) {
            errno = EAGAIN;
            return -1;
        }
        memcpy(out, &sim.event_count, sizeof sim.event_count);
        sim.event_count = 0;
        return 8;
    }
    if (fd == FD_SIGNAL)
        return read_signal(out);
    if (fd >= FD_STAT && fd < SIM_FD_PROCESS)
        return read_stat((uint32_t)(fd - FD_STAT), out, n);
    errno = EBADF;
    return -1;
}

WRAP(ssize_t, write, int fd, const void *bytes, size_t n)
{
    (void)bytes;
    if (fd == FD_EVENT) {
        sim_message("ring node zero", 0);
        if (!sim.quiet && sim_chance(sim.plan.ring_loss)) {
            sim.totals.lost_rings++;
            return (ssize_t)n;
        }
        sim.event_count++;
        sim_wake(&sim.process[0]);
    }
    return (ssize_t)n;
}

WRAP(int, open, const char *path, int flags, ...)
{
    unsigned pid;

    (void)flags;
    if (sscanf(path, "/proc/%u/stat", &pid) == 1)
        return FD_STAT + (int)pid;
    return FD_FILE;
}

WRAP(int, close, int fd)
{
    (void)fd;
    return 0;
}

WRAP(int, fcntl, int fd, int command, ...)
{
    (void)fd;
    (void)command;
    return 0;
}

WRAP(FILE *, fopen, const char *path, const char *mode)
{
    (void)path;
    (void)mode;
    errno = ENOENT;
    return NULL;
}

WRAP(int, sigprocmask, int how, const sigset_t *set, sigset_t *old)
{
    (void)how;
    (void)set;
    (void)old;
    return 0;
}

WRAP(int, sigaction, int signal, const struct sigaction *action, struct sigaction *old)
{
    (void)signal;
    (void)action;
    (void)old;
    return 0;
}

WRAP(int, setpriority, int which, id_t who, int priority)
{
    (void)which;
    (void)who;
    (void)priority;
    return 0;
}

WRAP(long, syscall, long number, ...)
{
    (void)number;
    return 0;
}

WRAP(int, setrlimit, int what, const struct rlimit *limit)
{
    (void)what;
    (void)limit;
    return 0;
}

/* ---- processes ---- */

WRAP(pid_t, getpid, void)
{
    return sim.current ? (pid_t)sim.current->pid : 1;
}

WRAP(pid_t, getppid, void)
{
    const struct sim_process *self = sim.current;

    if (self->role == SIM_NODE_ZERO)
        return (pid_t)sim.guardian_pid;
    return self->leaving ? 1 : (pid_t)self->parent;
}

CLLM_NORETURN WRAP(void, _exit, int code)
{
    sim_end(sim.current, 0, code);
    __builtin_unreachable();
}
