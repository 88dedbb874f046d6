/*
 * tests/test_sandbox.c - what each role can still do in its sandbox, and what not.
 *
 * Every trial is a forked child that enters and then tries one thing.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "compute/threads.h"
#include "shm/crash.h"
#include "shm/sandbox.h"
#include "tests/control_temp.h"

#define WORKER (1u << CLLM_ROLE_WORKER)
#define LOADER (1u << CLLM_ROLE_LOADER)
#define SAVER  (1u << CLLM_ROLE_SAVER)
#define ALL    (WORKER | LOADER | SAVER)

static const char *const role_name[] = {"", "worker", "loader", "saver"};

static char directory[256]; /* that a saver may write */
static char outside[256];   /* a file that it may not */
static int file_fd;         /* an open file */
static bool has_landlock;

static void enter(enum cllm_role role, char text[64])
{
    const struct cllm_sandbox sandbox = {
        .role = role,
        .private_bytes = role == CLLM_ROLE_WORKER ? 64u << 20 : 0,
        .directory = role == CLLM_ROLE_SAVER ? directory : NULL,
    };

    text[0] = '\0';
    cllm_sandbox_enter(&sandbox, text, 64);
}

/* cmocka catches faults in its own process; its children are to die of them. */
static void default_signals(void)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGABRT};

    const struct sigaction action = {.sa_handler = SIG_DFL};

    for (size_t i = 0; i < CLLM_LEN(faults); i++)
        (void)sigaction(faults[i], &action, NULL);
}

/* How a child ends that enters as @role and then does @what: 0 = it could. */
static int try_in_sandbox(enum cllm_role role, int (*what)(void))
{
    struct rlimit no_core = {0, 0};
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        char text[64];

        default_signals();
        (void)setrlimit(RLIMIT_CORE, &no_core);
        enter(role, text);
        _exit(what());
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    char text[64] = "";
    int status, ends[2];
    pid_t pid;

    (void)state;
    (void)snprintf(directory, sizeof directory, "%.200s/cllm-sandbox.XXXXXX",
                   tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(directory));
    (void)snprintf(outside, sizeof outside, "%.200s-outside", directory);
    file_fd = open(outside, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(file_fd >= 0);
    assert_int_equal(write(file_fd, "12345678", 8), 8);
    /* What does this machine have? */
    assert_int_equal(pipe(ends), 0);
    pid = fork();
    if (pid == 0) {
        enter(CLLM_ROLE_SAVER, text);
        _exit(write(ends[1], text, sizeof text) == (ssize_t)sizeof text ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], text, sizeof text), (ssize_t)sizeof text);
    (void)close(ends[0]);
    (void)close(ends[1]);
    (void)fprintf(stderr, "this machine:%s\n", text + 1);
    if (!cllm_sandbox_built())
        assert_string_equal(text, ", no sandbox");
    has_landlock = strcmp(text, ", sandboxed") == 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)close(file_fd);
    assert_int_equal(unlink(outside), 0);
    return rmdir(directory);
}

/* ---- what is tried: 0 = done, 1 = refused in another way than by a signal ---- */

static int do_open(void)
{
    return open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0;
}

static int do_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) < 0;
}

static int do_exec(void)
{
    char *const argv[] = {(char[]){"true"}, NULL};

    return execv("/bin/true", argv) != 0;
}

static int do_fork(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return pid < 0;
}

static int do_ptrace(void)
{
    return ptrace(PTRACE_SEIZE, getppid(), NULL, NULL) != 0;
}

static int do_kill_parent(void)
{
    return kill(getppid(), 0) != 0;
}

static int do_kill_all(void)
{
    return kill(-1, 0) != 0;
}

static int do_write_memory_of_another(void)
{
    char byte = 0;
    struct iovec here = {&byte, 1}, there = {&byte, 1};

    return syscall(SYS_process_vm_writev, getppid(), &here, 1, &there, 1, 0) != 1;
}

static int do_ring(void)
{
    char params[120] = {0};

    return syscall(SYS_io_uring_setup, 1, params) < 0;
}

static int do_memfd(void)
{
    return syscall(SYS_memfd_create, "x", 0) < 0;
}

static int do_raise_limit(void)
{
    struct rlimit limit = {1024, 1024};

    return setrlimit(RLIMIT_NOFILE, &limit) != 0;
}

static int do_priority(void)
{
    return setpriority(PRIO_PROCESS, 0, 19) != 0;
}

static int do_unlink(void)
{
    return unlink("/nowhere/at-all") != 0 && errno != ENOENT;
}

static int do_pread(void)
{
    char bytes[8];

    return pread(file_fd, bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes;
}

static int do_compute(void)
{
    struct timespec wait = {.tv_nsec = 1000};
    uint8_t *page =
        mmap(NULL, CLLM_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return 1;
    page[0] = 0xc3; /* a library makes code as it goes: a return */
    if (mprotect(page, CLLM_PAGE, PROT_READ | PROT_EXEC) != 0 ||
        munmap(page, CLLM_PAGE) != 0 || nanosleep(&wait, NULL) != 0)
        return 1;
    return cllm_now_ns() == 0 || getppid() == 0 || write(STDERR_FILENO, "", 0) != 0;
}

static int do_read_limit(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_STACK, &limit) != 0;
}

static int do_stop_and_go(void)
{
    return kill(getpid(), 0) != 0 || raise(SIGCONT) != 0;
}

static const struct {
    const char *what;
    int (*how)(void);
    unsigned allowed; /* roles that may; the others die of SIGSYS */
} trial[] = {
    {"compute", do_compute, ALL},
    {"read a limit", do_read_limit, ALL},
    {"send itself a signal", do_stop_and_go, ALL},
    {"read an open file", do_pread, LOADER | SAVER},
    {"make a socket", do_socket, 0},
    {"execute a program", do_exec, 0},
    {"fork", do_fork, 0},
    {"trace its parent", do_ptrace, 0},
    {"signal its parent", do_kill_parent, 0},
    {"signal everybody", do_kill_all, 0},
    {"write the memory of another", do_write_memory_of_another, 0},
    {"make a ring", do_ring, 0},
    {"make a memfd", do_memfd, 0},
    {"raise a limit", do_raise_limit, 0},
    {"change its priority", do_priority, 0},
    {"remove a file", do_unlink, SAVER},
};

static void each_role_can_do_its_work_and_nothing_else(void **state)
{
    (void)state;
    if (!cllm_sandbox_built())
        skip();
    for (size_t i = 0; i < CLLM_LEN(trial); i++) {
        for (int role = CLLM_ROLE_WORKER; role <= CLLM_ROLE_SAVER; role++) {
            int status = try_in_sandbox((enum cllm_role)role, trial[i].how);
            bool may = (trial[i].allowed & (1u << role)) != 0;

            if (may && status != 0)
                fail_msg("the %s cannot %s: status %x", role_name[role], trial[i].what,
                         (unsigned)status);
            if (!may && (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS))
                fail_msg("the %s can %s: status %x", role_name[role], trial[i].what,
                         (unsigned)status);
        }
    }
}

static void nobody_but_the_saver_opens_a_file(void **state)
{
    (void)state;
    if (!cllm_sandbox_built())
        skip();
    assert_int_equal(WTERMSIG(try_in_sandbox(CLLM_ROLE_WORKER, do_open)), SIGSYS);
    assert_int_equal(WTERMSIG(try_in_sandbox(CLLM_ROLE_LOADER, do_open)), SIGSYS);
}

/* What a checkpoint takes. */
static int do_save(void)
{
    char temporary[320], final[320], link[320];
    int fd;

    (void)snprintf(temporary, sizeof temporary, "%s/tmp", directory);
    (void)snprintf(final, sizeof final, "%s/final", directory);
    (void)snprintf(link, sizeof link, "%s/last", directory);
    if (mkdir(temporary, 0700) != 0 || rename(temporary, final) != 0)
        return 1;
    (void)snprintf(temporary, sizeof temporary, "%s/final/file", directory);
    fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, 5000) != 0 || pwrite(fd, "x", 1, 4000) != 1 ||
        fsync(fd) != 0 || close(fd) != 0 || symlink("final", link) != 0)
        return 1;
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0 || unlinkat(fd, "last", 0) != 0 || close(fd) != 0)
        return 1;
    return unlink(temporary) != 0 || rmdir(final) != 0;
}

static int do_open_outside(void)
{
    int fd = open(outside, O_RDONLY | O_CLOEXEC);

    return fd < 0 && errno == EACCES;
}

static int do_make_outside(void)
{
    char path[320];

    (void)snprintf(path, sizeof path, "%s-too", outside);
    return open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0 && errno == EACCES;
}

static int do_move_out(void)
{
    char inside[320], path[320];
    int fd;

    (void)snprintf(inside, sizeof inside, "%s/it", directory);
    (void)snprintf(path, sizeof path, "%s-it", outside);
    fd = open(inside, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || rename(inside, path) == 0 || (errno != EACCES && errno != EXDEV))
        return 0;
    return unlink(inside) == 0;
}

static void the_saver_saves_below_its_directory_alone(void **state)
{
    static int (*const refused[])(void) = {do_open_outside, do_make_outside, do_move_out,
                                           do_open};

    (void)state;
    if (!cllm_sandbox_built())
        skip();
    assert_int_equal(try_in_sandbox(CLLM_ROLE_SAVER, do_save), 0);
    if (!has_landlock)
        skip();
    for (size_t i = 0; i < CLLM_LEN(refused); i++) {
        int status = try_in_sandbox(CLLM_ROLE_SAVER, refused[i]);

        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 1);
    }
}

static int allocate(size_t bytes)
{
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0) == MAP_FAILED;
}

static int do_allocate_within(void)
{
    return allocate(32u << 20);
}

static int do_allocate_beyond(void)
{
    return allocate(128u << 20);
}

static void a_worker_has_a_budget_of_private_memory(void **state)
{
    (void)state;
    if (!cllm_sandbox_built())
        skip();
    assert_int_equal(try_in_sandbox(CLLM_ROLE_WORKER, do_allocate_within), 0);
    assert_int_equal(WEXITSTATUS(try_in_sandbox(CLLM_ROLE_WORKER, do_allocate_beyond)),
                     1);
}

/* ---- threads ---- */

static void (*only_in_thread)(void);

static void do_in_thread(void *ctx, uint32_t part, uint32_t thread)
{
    (void)ctx;
    (void)part;
    if (thread == 1)
        only_in_thread();
}

static void make_a_socket(void)
{
    (void)do_socket();
}

static void open_outside(void)
{
    if (do_open_outside() != 1)
        _exit(3);
}

static void sleep_and_compute(void)
{
    if (do_compute() != 0)
        _exit(3);
}

/* How a child ends of which the second of two threads does @what in a sandbox. */
static int try_in_thread(enum cllm_role role, void (*what)(void))
{
    struct rlimit no_core = {0, 0};
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        const struct cllm_sandbox sandbox = {
            .role = role,
            .directory = role == CLLM_ROLE_SAVER ? directory : NULL,
            .everywhere = cllm_threads_everywhere,
        };
        char text[64] = "";

        default_signals();
        (void)setrlimit(RLIMIT_CORE, &no_core);
        if (cllm_threads_start(2, 0) != 0)
            _exit(4);
        cllm_sandbox_enter(&sandbox, text, sizeof text);
        only_in_thread = what;
        cllm_threads_everywhere(do_in_thread, NULL);
        cllm_threads_stop();
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void every_thread_sits_in_the_sandbox(void **state)
{
    int status;

    (void)state;
    if (!cllm_sandbox_built())
        skip();
    assert_int_equal(try_in_thread(CLLM_ROLE_WORKER, sleep_and_compute), 0);
    status = try_in_thread(CLLM_ROLE_WORKER, make_a_socket);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSYS);
    if (has_landlock)
        assert_int_equal(try_in_thread(CLLM_ROLE_SAVER, open_outside), 0);
}

/* ---- crash records ---- */

static void fault_by_store(void)
{
    /* An address without a page, which no compiler can know. */
    uint8_t *page = mmap(NULL, CLLM_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    page[16] = 1;
}

static void fault_by_call(void)
{
    (void)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

static void fault_by_assert(void)
{
    CLLM_ASSERT(1 + 1 == 3);
}

static void a_fault_in_the_sandbox_leaves_its_record(void **state)
{
    static const struct {
        void (*fault)(void);
        int signo;
    } row[] = {
        {fault_by_store, SIGSEGV}, {fault_by_call, SIGSYS}, {fault_by_assert, SIGABRT}};
    struct cllm_control made;

    (void)state;
    if (!cllm_sandbox_built())
        skip();
    control_temp_make(&made);
    for (size_t i = 0; i < CLLM_LEN(row); i++) {
        struct rlimit no_core = {0, 0};
        struct cllm_crash_record record;
        int status;
        pid_t pid = fork();

        if (pid == 0) {
            struct cllm_control child;
            char text[64];

            default_signals();
            (void)setrlimit(RLIMIT_CORE, &no_core);
            if (freopen("/dev/null", "w", stderr) == NULL ||
                cllm_control_attach(&child, control_temp_id(), 1) != CLLM_ATTACH_OK)
                _exit(1);
            cllm_crash_init(&child, CLLM_ROLE_WORKER, (uint32_t)i);
            enter(CLLM_ROLE_WORKER, text);
            row[i].fault();
            _exit(2);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), row[i].signo);
        assert_true(cllm_crash_read(&made, 1, &record));
        assert_int_equal(record.signo, row[i].signo);
        assert_int_equal(record.generation, i);
    }
    control_temp_remove(&made);
}

/* ---- without ---- */

static void off_means_off_and_says_so(void **state)
{
    const struct cllm_sandbox off = {.role = CLLM_ROLE_WORKER, .off = true};
    char text[64] = "reference", small[12] = "reference";

    (void)state;
    cllm_sandbox_enter(&off, text, sizeof text);
    assert_string_equal(text, "reference, no sandbox");
    cllm_sandbox_enter(&off, small, sizeof small); /* no room: cut, not overrun */
    assert_string_equal(small, "reference, ");
    assert_int_equal(do_open(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_role_can_do_its_work_and_nothing_else),
        cmocka_unit_test(nobody_but_the_saver_opens_a_file),
        cmocka_unit_test(the_saver_saves_below_its_directory_alone),
        cmocka_unit_test(a_worker_has_a_budget_of_private_memory),
        cmocka_unit_test(every_thread_sits_in_the_sandbox),
        cmocka_unit_test(a_fault_in_the_sandbox_leaves_its_record),
        cmocka_unit_test(off_means_off_and_says_so),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
