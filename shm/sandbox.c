/*
 * shm/sandbox.c - limits, Landlock, seccomp, in this order: the later ones forbid what
 * the earlier ones need.
 *
 * Landlock has no library and young headers; its few constants stand here. The only file
 * that knows libseccomp.
 */
#include "shm/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/log.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    defined(CLLM_OWN_SYSCALLS)
#    define BUILT false
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
        __has_feature(memory_sanitizer)
#        define BUILT false
#    endif
#endif
#ifndef BUILT
#    define BUILT true
#endif

bool cllm_sandbox_built(void)
{
    return BUILT;
}

/* ---- limits ---- */

#define DESCRIPTORS 64 /* the saver has a dozen at most; what is open stays open */

static void limit(const char *what, __rlimit_resource_t resource, rlim_t most)
{
    struct rlimit value;

    if (getrlimit(resource, &value) != 0)
        return;
    value.rlim_max = value.rlim_max < most ? value.rlim_max : most;
    value.rlim_cur = value.rlim_max;
    if (setrlimit(resource, &value) != 0)
        cllm_debug("cannot limit %s: %s", what, strerror(errno));
}

/* Private writable memory of this process, as RLIMIT_DATA counts it; 0 = unknown. */
static uint64_t private_bytes(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    uint64_t kib = 0;
    char line[128];

    while (file && kib == 0 && fgets(line, sizeof line, file))
        (void)sscanf(line, "VmData: %" SCNu64 " kB", &kib);
    if (file)
        (void)fclose(file); /* read only */
    return kib * 1024;
}

static void give_up_privileges(void *ctx, uint32_t part, uint32_t thread)
{
    (void)ctx;
    (void)part;
    (void)thread;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        cllm_debug("cannot give up new privileges: %s", strerror(errno));
}

/* Limits are the process's; privileges, Landlock and seccomp each thread's own. */
static void in_each_thread(const struct cllm_sandbox *sandbox, cllm_sandbox_each_fn fn,
                           void *ctx)
{
    if (sandbox->everywhere)
        sandbox->everywhere(fn, ctx);
    else
        fn(ctx, 0, 0);
}

static void enter_limits(const struct cllm_sandbox *sandbox)
{
    uint64_t has = sandbox->private_bytes > 0 ? private_bytes() : 0;

    if (!sandbox->driver)
        limit("descriptors", RLIMIT_NOFILE, DESCRIPTORS);
    if (has > 0)
        limit("private memory", RLIMIT_DATA, has + sandbox->private_bytes);
    in_each_thread(sandbox, give_up_privileges, NULL);
}

/* ---- Landlock ---- */

#ifdef SYS_landlock_create_ruleset

#    define ASK_VERSION  1u /* flag of landlock_create_ruleset() */
#    define PATH_BENEATH 1  /* type of a rule */
#    define WRITE_FILE   (UINT64_C(1) << 1)
#    define READ_FILE    (UINT64_C(1) << 2)
#    define TRUNCATE     (UINT64_C(1) << 14)
#    define ALL_TCP      UINT64_C(3) /* bind, connect */
#    define ALL_SCOPES   UINT64_C(3) /* abstract sockets, signals */

struct ruleset {
    uint64_t files, tcp, scopes; /* what is forbidden unless a rule allows it */
};

struct rule {
    uint64_t allowed;
    int32_t fd;
} __attribute__((packed));

/* Rights on files that version @version of Landlock knows. */
static uint64_t file_rights(long version)
{
    uint64_t bits = version >= 5 ? 16 : version >= 3 ? 15 : version >= 2 ? 14 : 13;

    return (UINT64_C(1) << bits) - 1;
}

static bool allow(int ruleset, const char *path, uint64_t rights)
{
    struct rule rule = {.allowed = rights, .fd = open(path, O_PATH | O_CLOEXEC)};
    bool done = false;

    if (rule.fd >= 0) {
        done = syscall(SYS_landlock_add_rule, ruleset, PATH_BENEATH, &rule, 0) == 0;
        (void)close(rule.fd);
    }
    if (!done)
        cllm_debug("Landlock takes no rule for %s: %s", path, strerror(errno));
    return done;
}

/* The rules of @sandbox; false when one that is needed cannot be made. */
static bool allow_all(const struct cllm_sandbox *sandbox, int ruleset, uint64_t rights)
{
    bool done = true;

    if (sandbox->directory)
        done = allow(ruleset, sandbox->directory, rights);
    for (uint32_t i = 0; done && i < CLLM_LEN(sandbox->object); i++) {
        char path[320];

        if (!sandbox->object[i])
            continue;
        (void)snprintf(path, sizeof path, "/dev/shm%.250s", sandbox->object[i]);
        done = allow(ruleset, path, rights & (READ_FILE | WRITE_FILE));
    }
    if (done && sandbox->directory) /* for libraries; they do without */
        (void)allow(ruleset, "/dev/urandom", READ_FILE);
    return done;
}

struct restriction {
    int ruleset;
    _Atomic bool failed; /* in a thread */
};

static void restrict_thread(void *ctx, uint32_t part, uint32_t thread)
{
    struct restriction *restriction = ctx;

    (void)part;
    (void)thread;
    if (syscall(SYS_landlock_restrict_self, restriction->ruleset, 0) == 0)
        return;
    cllm_debug("no Landlock: %s", strerror(errno));
    cllm_store_relaxed(&restriction->failed, true);
}

static bool enter_landlock(const struct cllm_sandbox *sandbox)
{
    struct restriction restriction = {0};
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, ASK_VERSION);
    struct ruleset forbidden = {
        .files = file_rights(version),
        .tcp = version >= 4 ? ALL_TCP : 0,
        .scopes = version >= 6 ? ALL_SCOPES : 0,
    };
    size_t bytes = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    bool done;
    int ruleset;

    if (version < 1) {
        cllm_debug("no Landlock: %s", strerror(errno));
        return false;
    }
    if (sandbox->nameless && sandbox->object[0]) {
        cllm_debug("no Landlock: shared memory has no names");
        return false;
    }
    ruleset = (int)syscall(SYS_landlock_create_ruleset, &forbidden, bytes, 0);
    if (ruleset < 0) {
        cllm_debug("no Landlock: %s", strerror(errno));
        return false;
    }
    done = allow_all(sandbox, ruleset, forbidden.files);
    if (done) {
        restriction.ruleset = ruleset;
        in_each_thread(sandbox, restrict_thread, &restriction);
        done = !cllm_load_relaxed(&restriction.failed);
    }
    (void)close(ruleset);
    return done;
}

#else

static bool enter_landlock(const struct cllm_sandbox *sandbox)
{
    (void)sandbox;
    cllm_debug("no Landlock: built without it");
    return false;
}

#endif

/* ---- seccomp ---- */

/* Computing, waiting, writing to what is open, and ending, also by a fault. */
static const int for_all[] = {
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(poll),
    SCMP_SYS(close),
    SCMP_SYS(lseek),
    SCMP_SYS(fstat),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mprotect),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(futex),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(gettid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getrandom),
    SCMP_SYS(sched_yield),
    SCMP_SYS(getcpu),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(getrlimit),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(sysinfo), /* qsort() asks how much memory there is */
};

static const int for_loader[] = {
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(pread64),
    SCMP_SYS(fadvise64),
};

static const int for_saver[] = {
    SCMP_SYS(openat),    SCMP_SYS(open),       SCMP_SYS(newfstatat), SCMP_SYS(stat),
    SCMP_SYS(lstat),     SCMP_SYS(statx),      SCMP_SYS(statfs),     SCMP_SYS(fstatfs),
    SCMP_SYS(access),    SCMP_SYS(faccessat),  SCMP_SYS(faccessat2), SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),  SCMP_SYS(fallocate),  SCMP_SYS(ftruncate),  SCMP_SYS(fadvise64),
    SCMP_SYS(fsync),     SCMP_SYS(fdatasync),  SCMP_SYS(fcntl),      SCMP_SYS(getdents64),
    SCMP_SYS(readlink),  SCMP_SYS(readlinkat), SCMP_SYS(rename),     SCMP_SYS(renameat),
    SCMP_SYS(renameat2), SCMP_SYS(mkdir),      SCMP_SYS(mkdirat),    SCMP_SYS(rmdir),
    SCMP_SYS(unlink),    SCMP_SYS(unlinkat),   SCMP_SYS(symlink),    SCMP_SYS(symlinkat),
    SCMP_SYS(getcwd),
};

/* What no driver needs once it computes; the call fails. */
static const int not_for_drivers[] = {
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(fork),
    SCMP_SYS(vfork),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(pidfd_send_signal),
    SCMP_SYS(setuid),
    SCMP_SYS(setgid),
    SCMP_SYS(setreuid),
    SCMP_SYS(setregid),
    SCMP_SYS(setresuid),
    SCMP_SYS(setresgid),
    SCMP_SYS(setgroups),
    SCMP_SYS(capset),
    SCMP_SYS(chroot),
    SCMP_SYS(pivot_root),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(rename),
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(chmod),
    SCMP_SYS(fchmod),
    SCMP_SYS(fchmodat),
    SCMP_SYS(chown),
    SCMP_SYS(fchown),
    SCMP_SYS(fchownat),
    SCMP_SYS(link),
    SCMP_SYS(linkat),
    SCMP_SYS(truncate),
};

/* Signals to itself and to nobody else: how a fault ends. */
static const int to_itself[] = {
    SCMP_SYS(kill),
    SCMP_SYS(tgkill),
    SCMP_SYS(rt_tgsigqueueinfo),
};

static int add(scmp_filter_ctx filter, const int *list, size_t n)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, list[i], 0);
    return rc;
}

static int fill_for_driver(scmp_filter_ctx filter)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < CLLM_LEN(not_for_drivers); i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), not_for_drivers[i], 0);
    for (size_t i = 0; rc == 0 && i < CLLM_LEN(to_itself); i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), to_itself[i], 1,
                              SCMP_A0(SCMP_CMP_NE, (scmp_datum_t)getpid(), 0));
    return rc;
}

static int fill_filter(scmp_filter_ctx filter, enum cllm_role role)
{
    int rc = add(filter, for_all, CLLM_LEN(for_all));

    if (rc == 0 && role == CLLM_ROLE_LOADER)
        rc = add(filter, for_loader, CLLM_LEN(for_loader));
    if (rc == 0 && role == CLLM_ROLE_SAVER)
        rc = add(filter, for_saver, CLLM_LEN(for_saver));
    for (size_t i = 0; rc == 0 && i < CLLM_LEN(to_itself); i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, to_itself[i], 1,
                              SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
    /* To read a limit of its own; a new value would be the third argument. */
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
                              SCMP_A0(SCMP_CMP_EQ, 0, 0), SCMP_A2(SCMP_CMP_EQ, 0, 0));
    return rc;
}

/*
 * A trap and not a kill: the call is not made either, and the handler of SIGSYS leaves a
 * crash record before it ends the process.
 */
static bool enter_seccomp(const struct cllm_sandbox *sandbox)
{
    bool threads = sandbox->everywhere != NULL || sandbox->driver;
    scmp_filter_ctx filter =
        seccomp_init(sandbox->driver ? SCMP_ACT_ALLOW : SCMP_ACT_TRAP);
    int rc = -ENOMEM;

    if (filter) {
        (void)seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
        /* Mitigations against code that is not ours would slow computing down. */
        (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
        if (threads) /* all of them, at once */
            (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
        rc = sandbox->driver ? fill_for_driver(filter)
                             : fill_filter(filter, sandbox->role);
        if (rc == 0)
            rc = seccomp_load(filter);
        seccomp_release(filter);
    }
    if (rc != 0)
        cllm_debug("no seccomp: %s", strerror(-rc));
    return rc == 0;
}

/* ---- all together ---- */

void cllm_sandbox_enter(const struct cllm_sandbox *sandbox, char *text, size_t bytes)
{
    bool landlock = false, seccomp = false;
    size_t used = strnlen(text, bytes);

    if (!cllm_sandbox_built()) {
        cllm_debug("no sandbox: built with a sanitizer or coverage");
    } else if (!sandbox->off) {
        enter_limits(sandbox);
        landlock = !sandbox->driver && enter_landlock(sandbox);
        seccomp = enter_seccomp(sandbox);
    }
    (void)snprintf(text + used, bytes - used, ", %s",
                   landlock && seccomp ? "sandboxed"
                   : seccomp           ? "no landlock"
                   : landlock          ? "no seccomp"
                                       : "no sandbox");
}
