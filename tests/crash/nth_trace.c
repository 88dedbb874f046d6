/*
 * tests/crash/nth_trace.c - who is who, count, fail, reap.
 */
#include "tests/crash/nth_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

#define MOST_PROCESSES 256
#define LINGER_NS      (240 * CLLM_NS_PER_S) /* after the guardian everybody ends */
#define OPTIONS                                                           \
    (PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |     \
     PTRACE_O_TRACEEXEC | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD | \
     PTRACE_O_EXITKILL)

const struct nth_class nth_class[] = {
    {"memory", {SYS_mmap, SYS_mremap, SYS_brk}, {ENOMEM}, true},
    {"protect", {SYS_mprotect, SYS_madvise}, {ENOMEM}, true},
    {"open", {SYS_openat, SYS_open}, {EMFILE, ENOENT, EACCES}, true},
    {"read", {NTH_READ, SYS_pread64}, {EIO, EINTR, NTH_SHORT}, true},
    {"write", {SYS_write, SYS_pwrite64}, {EIO, ENOSPC, EINTR, NTH_SHORT}, true},
    {"sync", {SYS_fsync, SYS_fdatasync}, {EIO}, true},
    {"reserve", {SYS_fallocate, SYS_ftruncate}, {ENOSPC}, true},
    {"fork", {SYS_fork, SYS_vfork, SYS_clone, SYS_clone3}, {EAGAIN}, true},
    {"exec", {SYS_execve}, {EAGAIN, ENOMEM}, true},
    {"wait",
     {SYS_epoll_wait, SYS_epoll_pwait, SYS_waitid, SYS_wait4, SYS_poll},
     {EINTR},
     0},
    {"sleep", {SYS_futex, SYS_clock_nanosleep, SYS_nanosleep}, {EINTR}, false},
    {"descriptor",
     {SYS_epoll_create1, SYS_eventfd2, SYS_socket, SYS_pidfd_open, SYS_timerfd_create,
      SYS_signalfd4, SYS_memfd_create, SYS_pipe2},
     {EMFILE, ENOMEM},
     true},
    {"register", {SYS_epoll_ctl, SYS_fcntl, SYS_dup, SYS_dup2, SYS_dup3}, {ENOMEM}, true},
    {"name",
     {SYS_rename, SYS_renameat2, SYS_mkdir, SYS_mkdirat, SYS_symlink, SYS_symlinkat},
     {ENOSPC, EIO},
     true},
    {"remove", {SYS_unlink, SYS_unlinkat, SYS_rmdir}, {EIO, EACCES}, true},
    {"list", {SYS_getdents64, SYS_newfstatat, SYS_fstat, SYS_stat}, {EIO}, true},
    {"lock", {SYS_flock}, {ENOLCK, EINTR}, true},
    {"uring",
     {SYS_io_uring_setup, SYS_io_uring_register, SYS_io_uring_enter},
     {ENOMEM, EINTR, EAGAIN},
     true},
    {"signals", {SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_prctl}, {EINVAL}, true},
};
const uint32_t nth_n_classes = CLLM_LEN(nth_class);

/* ---- the traced ---- */

struct process {
    pid_t pid, parent;
    enum nano_role role;
};

struct tree {
    struct process process[MOST_PROCESSES];
    uint32_t n; /* that live */
    pid_t guardian;
    bool began, guardian_ended; /* the first program runs; it has ended */
    const struct nth_fault *fault;
    struct nth_outcome *out;
};

static volatile sig_atomic_t rang;

static void ring(int signal)
{
    (void)signal;
    rang = 1;
}

static struct process *find(struct tree *tree, pid_t pid)
{
    for (uint32_t i = 0; i < tree->n; i++)
        if (tree->process[i].pid == pid)
            return &tree->process[i];
    return NULL;
}

static struct process *enter(struct tree *tree, pid_t pid)
{
    struct process *process = find(tree, pid);

    if (process)
        return process;
    CLLM_ASSERT(tree->n < MOST_PROCESSES);
    process = &tree->process[tree->n++];
    *process = (struct process){.pid = pid, .role = NANO_NODE_ZERO};
    return process;
}

/* A program was begun: its name says who it is. */
static void know(struct tree *tree, struct process *process)
{
    static const struct {
        const char *name;
        enum nano_role role;
    } known[] = {{"/cllm-worker", NANO_WORKER},
                 {"/cllm-loader", NANO_LOADER},
                 {"/cllm-saver", NANO_SAVER}};
    char link[64], exe[CLLM_FILE_PATH_BYTES];
    ssize_t n;

    (void)snprintf(link, sizeof link, "/proc/%d/exe", (int)process->pid);
    n = readlink(link, exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = '\0';
    tree->began = true;
    process->role = process->pid == tree->guardian ? NANO_GUARDIAN : NANO_NODE_ZERO;
    for (size_t i = 0; i < CLLM_LEN(known); i++)
        if (strstr(exe, known[i].name))
            process->role = known[i].role;
}

/* ---- a call ---- */

static bool has(const struct nth_class *class, uint64_t call)
{
    for (size_t i = 0; i < CLLM_LEN(class->call) && class->call[i] != 0; i++)
        if (call ==
            (class->call[i] == NTH_READ ? (uint64_t)SYS_read : (uint64_t) class->call[i]))
            return true;
    return false;
}

static void fail_call(struct tree *tree, pid_t pid, struct user_regs_struct *regs)
{
    const struct nth_fault *fault = tree->fault;

    /* Only waiting is interrupted: FUTEX_WAIT and FUTEX_WAIT_BITSET. */
    if (regs->orig_rax == SYS_futex && (regs->rsi & 0x7f) != 0 && (regs->rsi & 0x7f) != 9)
        return;
    if (fault->error == NTH_SHORT) {
        if (regs->rdx < 2)
            return;
        regs->rdx /= 2;
    } else {
        /* brk() says no by an end that is below what was asked for, not by an error. */
        regs->rax = regs->orig_rax == SYS_brk ? 0 : (uint64_t) - (int64_t)fault->error;
        regs->orig_rax = UINT64_MAX; /* no call is made */
    }
    if (ptrace(PTRACE_SETREGS, pid, NULL, regs) == 0)
        tree->out->injected++;
}

static void at_call(struct tree *tree, const struct process *process)
{
    const struct nth_fault *fault = tree->fault;
    struct user_regs_struct regs;

    if (!tree->began || ptrace(PTRACE_GETREGS, process->pid, NULL, &regs) != 0)
        return;
    for (uint32_t i = 0; i < nth_n_classes; i++) {
        uint64_t count;

        if (!has(&nth_class[i], regs.orig_rax))
            continue;
        count = ++tree->out->count[process->role][i];
        if (fault && fault->class == &nth_class[i] && fault->role == process->role &&
            (count == fault->n || (fault->persist && count > fault->n)))
            fail_call(tree, process->pid, &regs);
        return;
    }
}

/* ---- stops ---- */

static void ended(struct tree *tree, struct process *process, int status)
{
    if (process->pid == tree->guardian) {
        tree->out->status = status;
        tree->guardian_ended = true;
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL &&
        WTERMSIG(status) != SIGTERM) {
        tree->out->signal = WTERMSIG(status);
        tree->out->crash = process->role;
    }
    *process = tree->process[--tree->n];
}

/* The file in which @pid stands before a signal. */
static void note_module(struct tree *tree, pid_t pid)
{
    char path[64], line[1024];
    struct user_regs_struct regs;
    unsigned long from, to;
    FILE *maps;

    (void)snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    maps = fopen(path, "re");
    if (maps && ptrace(PTRACE_GETREGS, pid, NULL, &regs) == 0)
        while (fgets(line, sizeof line, maps))
            if (sscanf(line, "%lx-%lx", &from, &to) == 2 && regs.rip >= from &&
                regs.rip < to)
                (void)sscanf(line, "%*s %*s %*s %*s %*s %255s", tree->out->module);
    if (maps)
        (void)fclose(maps); /* read only */
}

/* What happened to @process, which stands; returns the signal that it goes on with. */
static int stopped(struct tree *tree, struct process *process, int status)
{
    unsigned long child = 0;
    int signal = WSTOPSIG(status);

    switch (status >> 16) {
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
    case PTRACE_EVENT_CLONE:
        if (ptrace(PTRACE_GETEVENTMSG, process->pid, NULL, &child) == 0)
            enter(tree, (pid_t)child)->parent = process->pid;
        return 0;
    case PTRACE_EVENT_EXEC:
        know(tree, process);
        return 0;
    case PTRACE_EVENT_SECCOMP:
        at_call(tree, process);
        return 0;
    default: /* a new child begins with SIGSTOP; nobody sends one here */
        if (signal == SIGSEGV || signal == SIGBUS)
            note_module(tree, process->pid);
        return signal == SIGTRAP || signal == SIGSTOP ? 0 : signal;
    }
}

static void kill_all(struct tree *tree)
{
    for (uint32_t i = 0; i < tree->n; i++)
        (void)kill(tree->process[i].pid, SIGKILL); /* not reaped yet: still that one */
}

/* Until the last has ended. */
static void follow(struct tree *tree, uint64_t limit_ns)
{
    uint64_t until = cllm_now_ns() + limit_ns;
    bool lingers = false;

    while (tree->n > 0) {
        int status, signal;
        struct process *process;
        pid_t pid = waitpid(-1, &status, __WALL);

        if (rang && cllm_now_ns() > until) {
            *(lingers ? &tree->out->stays : &tree->out->hang) = true;
            kill_all(tree);
            until = cllm_now_ns() + limit_ns;
        }
        rang = 0;
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid < 0)
            return;
        process = enter(tree, pid);
        if (!WIFSTOPPED(status)) {
            ended(tree, process, status);
            if (tree->guardian_ended && !lingers) {
                lingers = true;
                until = cllm_now_ns() + LINGER_NS;
            }
            continue;
        }
        signal = stopped(tree, process, status);
        (void)ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)signal);
    }
}

/* ---- begin ---- */

static void add(struct sock_filter *filter, uint32_t *n, struct sock_filter one)
{
    filter[(*n)++] = one;
}

/* Stop at the calls of @only, or of every class. */
static bool enter_filter(const struct nth_class *only)
{
    struct sock_filter filter[256];
    struct sock_fprog program = {.filter = filter};
    uint32_t n = 0;

    add(filter, &n,
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                     offsetof(struct seccomp_data, nr)));
    for (uint32_t i = 0; i < nth_n_classes; i++) {
        const struct nth_class *class = &nth_class[i];

        if (only && only != class)
            continue;
        for (size_t j = 0; j < CLLM_LEN(class->call) && class->call[j] != 0; j++) {
            uint32_t call =
                class->call[j] == NTH_READ ? SYS_read : (uint32_t) class->call[j];

            add(filter, &n,
                (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
            add(filter, &n,
                (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
        }
    }
    add(filter, &n, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    program.len = (unsigned short)n;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* In the child; no return. */
CLLM_NORETURN static void become(char *const argv[], const char *log,
                                 const struct nth_class *only, bool trace_calls)
{
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void)setsid();
    if (fd < 0 || null < 0 || dup2(null, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0 ||
        ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 || raise(SIGSTOP) != 0 ||
        (trace_calls && !enter_filter(only)))
        _exit(127);
    (void)execv(argv[0], argv);
    _exit(127);
}

static void alarm_every(time_t seconds)
{
    struct itimerval every = {.it_interval = {.tv_sec = seconds},
                              .it_value = {.tv_sec = seconds}};

    (void)setitimer(ITIMER_REAL, &every, NULL);
}

int nth_trace_run(struct nth_outcome *out, char *const argv[], const char *log,
                  const struct nth_fault *fault, bool trace_calls, uint64_t limit_ns)
{
    struct tree tree = {.fault = fault, .out = out};
    struct sigaction action = {.sa_handler = ring};
    int status;

    *out = (struct nth_outcome){.status = -1};
    (void)sigaction(SIGALRM, &action, NULL);
    tree.guardian = fork();
    if (tree.guardian < 0)
        return cllm_err(-errno, "cannot start %s", argv[0]);
    if (tree.guardian == 0)
        become(argv, log, fault ? fault->class : NULL, trace_calls);
    if (waitpid(tree.guardian, &status, __WALL) != tree.guardian || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, tree.guardian, NULL, (void *)(uintptr_t)OPTIONS) != 0)
        return cllm_err(-errno, "cannot trace %s", argv[0]);
    enter(&tree, tree.guardian)->role = NANO_GUARDIAN;
    (void)ptrace(PTRACE_CONT, tree.guardian, NULL, NULL);
    alarm_every(1);
    follow(&tree, limit_ns);
    alarm_every(0);
    return 0;
}
