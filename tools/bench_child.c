/*
 * tools/bench_child.c - see tools/bench_child.h.
 */
#include "tools/bench_child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

static volatile sig_atomic_t caught;

static void on_signal(int signal)
{
    caught = signal;
}

void cllm_bench_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGPIPE, &action, NULL); /* whoever read what is printed has left */
}

int cllm_bench_interrupted(void)
{
    return caught ? cllm_err(-EINTR, "ended by a signal") : 0;
}

/* Path of program @name beside this one. */
static int find_program(char path[PATH_MAX], const char *name)
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    size_t room;
    char *end;
    int rc;

    if (n < 0)
        return cllm_err(-errno, "cannot find out where this program is");
    path[n] = '\0';
    end = strrchr(path, '/') + 1;
    room = (size_t)(path + PATH_MAX - end);
    if ((size_t)snprintf(end, room, "%s", name) >= room)
        return cllm_err(-ENAMETOOLONG, "cannot start %s", name);
    if (access(path, X_OK) == 0)
        return 0;
    rc = cllm_err(-errno, "cannot run %s", path);
    cllm_err_hint("the programs of CLLM stand in one directory: make, or make install");
    return rc;
}

/* Between fork and exec. Does not return. */
CLLM_NORETURN static void become(const char *path, char *const argv[], int out, int err,
                                 pid_t parent)
{
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent || dup2(out, STDOUT_FILENO) < 0 ||
        dup2(err, STDERR_FILENO) < 0)
        _exit(127);
    (void)execv(path, argv);
    _exit(127);
}

/* With @out and @err for its outputs, which stay the caller's. */
static int start(struct cllm_bench_child *child, const char *path, char *const argv[],
                 int out, int err)
{
    pid_t parent = getpid();
    int rc;

    child->pid = fork();
    if (child->pid == 0)
        become(path, argv, out, err, parent);
    if (child->pid < 0) {
        child->pid = 0;
        return cllm_err(-errno, "cannot start %s", path);
    }
    /* Nobody else reaps it: its pid is its own until we do. */
    child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    if (child->pidfd >= 0)
        return 0;
    rc = cllm_err(-errno, "cannot watch %s", path);
    cllm_bench_child_kill(child);
    return rc;
}

int cllm_bench_child_start(struct cllm_bench_child *child, const char *name,
                           char *const argv[], const char *log)
{
    char path[PATH_MAX];
    int fd, rc = find_program(path, name);

    *child = (struct cllm_bench_child){.pidfd = -1};
    if (rc != 0)
        return rc;
    fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return cllm_err(-errno, "cannot write %s", log);
    rc = start(child, path, argv, fd, fd);
    (void)close(fd); /* nothing was written through it here */
    return rc;
}

static void reap(struct cllm_bench_child *child)
{
    while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (child->pidfd >= 0)
        (void)close(child->pidfd); /* nothing to lose */
    *child = (struct cllm_bench_child){.pidfd = -1};
}

bool cllm_bench_child_wait(struct cllm_bench_child *child, uint64_t timeout_ns)
{
    struct timespec timeout = cllm_timespec(timeout_ns);
    struct pollfd poll = {.fd = child->pidfd, .events = POLLIN};

    if (ppoll(&poll, 1, &timeout, NULL) <= 0) /* a signal: the caller looks */
        return false;
    reap(child);
    return true;
}

void cllm_bench_child_kill(struct cllm_bench_child *child)
{
    if (child->pid == 0)
        return;
    (void)kill(child->pid, SIGKILL);
    reap(child);
}

/* ---- an answer ---- */

/* What is written to @fd until it is closed, or @until, or there is no more room. */
static int take_answer(int fd, uint64_t until, char *answer, size_t room, size_t *bytes)
{
    for (*bytes = 0; *bytes < room - 1;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        uint64_t now = cllm_now_ns();
        struct timespec left = cllm_timespec(until > now ? until - now : 0);
        ssize_t n;

        if (until <= now)
            return -ETIMEDOUT;
        if (ppoll(&ready, 1, &left, NULL) <= 0)
            continue;
        n = read(fd, answer + *bytes, room - 1 - *bytes);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            break;
        *bytes += n > 0 ? (size_t)n : 0;
    }
    answer[*bytes] = '\0';
    return 0;
}

/* How @child ended, by @until: 0, or a negative code with text. */
static int how_it_ended(struct cllm_bench_child *child, const char *name, uint64_t until)
{
    struct pollfd poll = {.fd = child->pidfd, .events = POLLIN};
    uint64_t now = cllm_now_ns();
    struct timespec left = cllm_timespec(until > now ? until - now : 0);
    int status = 0;

    if (ppoll(&poll, 1, &left, NULL) <= 0)
        return cllm_err(-ETIMEDOUT, "%s does not end", name);
    while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
        ;
    (void)close(child->pidfd); /* nothing to lose */
    *child = (struct cllm_bench_child){.pidfd = -1};
    if (WIFSIGNALED(status))
        return cllm_err(-EIO, "%s was ended by signal %d", name, WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        return cllm_err(-EIO, "%s ended with exit code %d", name, WEXITSTATUS(status));
    return 0;
}

int cllm_bench_child_ask(const char *name, char *const argv[], uint64_t timeout_ns,
                         char *answer, size_t room, size_t *bytes)
{
    uint64_t until = cllm_now_ns() + timeout_ns;
    struct cllm_bench_child child = {.pidfd = -1};
    char path[PATH_MAX];
    int ends[2], nothing, rc = find_program(path, name);

    if (rc != 0)
        return rc;
    nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nothing < 0)
        return cllm_err(-errno, "cannot open /dev/null");
    if (pipe2(ends, O_CLOEXEC) != 0) {
        rc = cllm_err(-errno, "cannot ask %s", name);
        (void)close(nothing);
        return rc;
    }
    rc = start(&child, path, argv, ends[1], nothing);
    (void)close(ends[1]); /* the child has its own */
    (void)close(nothing);
    if (rc == 0) {
        rc = take_answer(ends[0], until, answer, room, bytes);
        rc = rc == 0 ? how_it_ended(&child, name, until)
                     : cllm_err(rc, "%s does not answer", name);
    }
    (void)close(ends[0]); /* read only */
    cllm_bench_child_kill(&child);
    return rc;
}

/* ---- many at once ---- */

struct channels {
    int ready[2];  /* a byte from each that is prepared */
    int gate[2];   /* nobody writes: open when the parent has closed it */
    int result[2]; /* a double from each */
};

static void close_all(struct channels *channels)
{
    int *fd = channels->ready;

    for (size_t i = 0; i < sizeof *channels / sizeof *fd; i++)
        if (fd[i] >= 0)
            (void)close(fd[i]); /* pipes of our own */
}

CLLM_NORETURN static void take_part(const struct cllm_bench_task *task,
                                    const struct channels *channels)
{
    char byte = 0;
    double result;

    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)close(channels->gate[1]); /* or the gate would never open */
    task->prepare(task->ctx);
    if (write(channels->ready[1], &byte, 1) != 1 ||
        read(channels->gate[0], &byte, 1) != 0)
        _exit(1);
    result = task->run(task->ctx);
    _exit(write(channels->result[1], &result, sizeof result) == sizeof result ? 0 : 1);
}

/* Read @bytes, or find that all who could write them are gone. */
static bool read_all(int fd, void *to, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = read(fd, (char *)to + done, bytes - done);

        if (n <= 0) /* a signal ends the program anyway */
            return false;
        done += (size_t)n;
    }
    return true;
}

/* The parent's side, when @n processes have been started. */
static int collect(struct channels *channels, uint32_t n, double *sum)
{
    double result;
    char byte;

    for (uint32_t i = 0; i < n; i++)
        if (!read_all(channels->ready[0], &byte, 1))
            return -EIO;
    (void)close(channels->gate[1]); /* go */
    channels->gate[1] = -1;
    for (uint32_t i = 0; i < n; i++) {
        if (!read_all(channels->result[0], &result, sizeof result))
            return -EIO;
        *sum += result;
    }
    return 0;
}

int cllm_bench_together(const struct cllm_bench_task *task, uint32_t n, double *sum)
{
    struct channels channels = {{-1, -1}, {-1, -1}, {-1, -1}};
    pid_t pid[CLLM_BENCH_TOGETHER_MAX];
    uint32_t started = 0;
    int rc = 0;

    CLLM_ASSERT(n <= CLLM_LEN(pid));
    *sum = 0.0;
    if (pipe2(channels.ready, O_CLOEXEC) != 0 || pipe2(channels.gate, O_CLOEXEC) != 0 ||
        pipe2(channels.result, O_CLOEXEC) != 0)
        rc = cllm_err(-errno, "cannot measure in %u processes", n);
    while (rc == 0 && started < n) {
        pid[started] = fork();
        if (pid[started] == 0)
            take_part(task, &channels);
        if (pid[started] < 0)
            rc = cllm_err(-errno, "cannot start %u processes that measure", n);
        else
            started++;
    }
    for (int i = 0; i < 2 && rc == 0; i++) {
        int *fd = i == 0 ? &channels.ready[1] : &channels.result[1];

        (void)close(*fd); /* so that their end is seen */
        *fd = -1;
    }
    if (rc == 0 && collect(&channels, n, sum) != 0)
        rc = cllm_bench_interrupted() != 0
                 ? -EINTR
                 : cllm_err(-EIO, "a process that measures the machine has died");
    for (uint32_t i = 0; i < started; i++) {
        if (rc != 0)
            (void)kill(pid[i], SIGKILL);
        while (waitpid(pid[i], NULL, 0) < 0 && errno == EINTR)
            ;
    }
    close_all(&channels);
    return rc;
}
