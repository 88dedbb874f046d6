/*
 * coordinator/children.c - fork, exec, pidfd, reap.
 */
#include "coordinator/children.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

/* What a child sees of the environment: nothing else, whoever starts the run. */
static const char *const passed_on[] = {"PATH=/usr/local/bin:/usr/bin:/bin",
                                        "LANG=C.UTF-8"};

/* Of the user's own, if it is there: what kernels to use; and for who has a device where
 * drivers look for themselves and keep what they compile. */
static const char *const inherited[] = {
    "CLLM_ISA=", "CLLM_CACHE_DIR=",     "CLLM_OPENCL_",
    "HOME=",     "XDG_CACHE_HOME=",     "LD_LIBRARY_PATH=",
    "OCL_ICD_",  "OPENCL_VENDOR_PATH=", "CUDA_",
    "POCL_"};

enum { ENVIRONMENT = 64 };

static bool is_inherited(const char *variable, bool device)
{
    for (size_t i = 0; i < (device ? CLLM_LEN(inherited) : 1); i++)
        if (strncmp(variable, inherited[i], strlen(inherited[i])) == 0)
            return true;
    return false;
}

static void make_environment(char *out[ENVIRONMENT], bool device)
{
    size_t n = 0;

    for (; n < CLLM_LEN(passed_on); n++)
        out[n] = (char *)(uintptr_t)passed_on[n];
    for (size_t i = 0; environ[i] != NULL && n < ENVIRONMENT - 1; i++)
        if (is_inherited(environ[i], device))
            out[n++] = environ[i];
    out[n] = NULL;
}

const char *cllm_signal_name(int signal, char out[16])
{
    const char *name = sigabbrev_np(signal);

    if (name)
        (void)snprintf(out, 16, "SIG%s", name);
    else
        (void)snprintf(out, 16, "signal %d", signal);
    return out;
}

int cllm_binary_directory(char *out, size_t bytes)
{
    ssize_t n = readlink("/proc/self/exe", out, bytes - 1);
    char *slash;

    if (n < 0)
        return cllm_err(-errno, "cannot find out where this program is");
    out[n] = '\0';
    slash = strrchr(out, '/');
    if (slash)
        *slash = '\0';
    return 0;
}

/* Between fork and exec: async-signal-safe calls only. Does not return. */
CLLM_NORETURN static void become(const char *path, char *const argv[],
                                 char *const environment[], const struct cllm_spawn *how,
                                 pid_t parent, const char *oom)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t mask;
    int fd;

    for (int s = 1; s < NSIG; s++)
        (void)sigaction(s, &action, NULL);
    (void)sigemptyset(&mask);
    if (how->node_zero) {
        (void)sigaddset(&mask, SIGINT);
        (void)sigaddset(&mask, SIGTERM);
        (void)sigaddset(&mask, SIGUSR1);
    }
    (void)sigprocmask(SIG_SETMASK, &mask, NULL);
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(75);
    for (uint32_t i = 0; i < CLLM_SPAWN_FDS; i++)
        if (how->keep_fd[i] > 0)
            (void)fcntl(how->keep_fd[i], F_SETFD, 0);
    if (how->output > 0 && dup2(how->output, STDOUT_FILENO) < 0)
        _exit(127);
    /* Before the exec, so that all of its private memory is touched from there. */
    if (how->pinned) /* those CPUs may be gone: then it runs where it may */
        (void)sched_setaffinity(0, sizeof how->cpus, &how->cpus);
    fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, oom, strlen(oom)) < 0) {
        /* Lowering it needs privilege; going on is right. The exec closes fd. */
    }
    (void)execve(path, argv, environment);
    _exit(127);
}

int cllm_process_spawn(struct cllm_process *process, const char *path, char *const argv[],
                       const struct cllm_spawn *how)
{
    char *fixed[ENVIRONMENT], oom[16];
    pid_t parent = getpid();
    pid_t pid;

    if (access(path, X_OK) != 0) {
        int rc = cllm_err(-errno, "cannot run %s", path);

        cllm_err_hint(
            "the programs of CLLM stand in one directory: make, or make install");
        return rc;
    }
    (void)snprintf(oom, sizeof oom, "%d", how->oom_score);
    make_environment(fixed, how->device);
    pid = fork();
    if (pid < 0)
        return cllm_err(-errno, "cannot start %s", path);
    if (pid == 0)
        become(path, argv, how->node_zero ? environ : fixed, how, parent, oom);
    process->pid = pid;
    /* The child cannot be reaped by anybody else, so its pid is its own until we do. */
    process->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process->pidfd < 0) {
        int rc = cllm_err(-errno, "cannot watch process %d", (int)pid);

        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        process->pid = 0;
        return rc;
    }
    (void)fcntl(process->pidfd, F_SETFD, FD_CLOEXEC);
    return 0;
}

void cllm_process_pin(const struct cllm_process *process, const cpu_set_t *cpus)
{
    struct dirent *entry;
    char path[64];
    cpu_set_t all;
    DIR *tasks;

    if (process->pid == 0)
        return;
    if (!cpus && sched_getaffinity(0, sizeof all, &all) == 0)
        cpus = &all;
    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)process->pid);
    tasks = opendir(path);
    while (tasks && cpus && (entry = readdir(tasks)) != NULL) {
        pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);

        if (thread > 0) /* not "." */
            (void)sched_setaffinity(thread, sizeof *cpus, cpus);
    }
    if (tasks)
        (void)closedir(tasks); /* read only */
}

void cllm_process_signal(const struct cllm_process *process, int signal)
{
    if (process->pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, process->pidfd, signal, NULL, 0);
}

bool cllm_process_stopped(struct cllm_process *process)
{
    siginfo_t info = {0};

    /* Several changes may wait: the last one counts. */
    while (process->pid != 0 &&
           waitid(P_PID, (id_t)process->pid, &info, WSTOPPED | WCONTINUED | WNOHANG) ==
               0 &&
           info.si_pid != 0) {
        process->stopped = info.si_code == CLD_STOPPED;
        info.si_pid = 0;
    }
    return process->stopped;
}

/* The text of /proc/PID/@file; false when it cannot be read. */
static bool read_proc(pid_t pid, const char *file, char *text, size_t bytes)
{
    char path[64];
    ssize_t n = -1;
    int fd;

    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = read(fd, text, bytes - 1);
        (void)close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

bool cllm_process_usage(const struct cllm_process *process, struct cllm_usage *usage)
{
    unsigned long long user, system;
    const char *after, *tracer;
    char text[4096];

    if (process->pid == 0 || !read_proc(process->pid, "stat", text, sizeof text))
        return false;
    after = strrchr(text, ')'); /* the name before it may hold anything */
    if (!after ||
        sscanf(after + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
               &usage->state, &user, &system) != 3)
        return false;
    usage->cpu_ns = (user + system) * (CLLM_NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
    if (!read_proc(process->pid, "status", text, sizeof text))
        return false;
    tracer = strstr(text, "TracerPid:");
    usage->traced = tracer && strtol(tracer + sizeof "TracerPid:" - 1, NULL, 10) != 0;
    return true;
}

/* Signals of a process that may have written anything before it ended. */
static bool is_fault(int signal)
{
    return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL ||
           signal == SIGFPE || signal == SIGABRT || signal == SIGSYS;
}

bool cllm_process_reap_orphans(void)
{
    bool fault = false;
    int status;

    while (waitpid(-1, &status, WNOHANG) > 0)
        fault |= WIFSIGNALED(status) && is_fault(WTERMSIG(status));
    return fault;
}

void cllm_process_expect_children(void)
{
    const struct sigaction action = {.sa_handler = SIG_DFL};

    /* Inherited SIG_IGN (nohup, some supervisors) would reap them behind our back. */
    (void)sigaction(SIGCHLD, &action, NULL);
}

bool cllm_process_ended(const struct cllm_process *process, int timeout_ms)
{
    struct pollfd fd = {.fd = process->pidfd, .events = POLLIN};

    return process->pid == 0 || poll(&fd, 1, timeout_ms) > 0;
}

void cllm_process_reap(struct cllm_process *process, struct cllm_ending *ending)
{
    siginfo_t info;
    char name[16];
    int rc;

    memset(&info, 0, sizeof info);
    do {
        rc = waitid(P_PID, (id_t)process->pid, &info, WEXITED);
    } while (rc != 0 && errno == EINTR);
    CLLM_ASSERT(rc == 0);
    *ending = (struct cllm_ending){.by_signal = info.si_code != CLD_EXITED,
                                   .code = info.si_status};
    if (ending->by_signal) {
        ending->fault = is_fault(info.si_status);
        (void)snprintf(ending->text, sizeof ending->text, "killed by %s",
                       cllm_signal_name(info.si_status, name));
    } else {
        (void)snprintf(ending->text, sizeof ending->text, "exit code %d", info.si_status);
    }
    (void)close(process->pidfd);
    *process = (struct cllm_process){.pidfd = -1};
}
