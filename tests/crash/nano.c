/*
 * tests/crash/nano.c - start, look, wait, end, compare.
 */
#include "tests/crash/nano.h"

#include <dirent.h>
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "tests/crash/run_copy.h"

#define POLL_NS  (CLLM_NS_PER_MS / 10)
#define GONE_NS  (120 * CLLM_NS_PER_S)
#define MAX_ARGS 64
#define CORPUS   14000 /* words */

static const char *const role_names[NANO_ROLES] = {
    [NANO_GUARDIAN] = "guardian", [NANO_NODE_ZERO] = "node-zero",
    [NANO_WORKER] = "worker",     [NANO_LOADER] = "loader",
    [NANO_SAVER] = "saver",
};

const char *nano_role_name(enum nano_role role)
{
    return role < NANO_ROLES ? role_names[role] : "nobody";
}

enum nano_role nano_role_of(const char *name)
{
    enum nano_role role = NANO_GUARDIAN;

    while (role < NANO_ROLES && strcmp(role_names[role], name) != 0)
        role++;
    return role;
}

static void pause_a_moment(void)
{
    struct timespec wait = cllm_timespec(POLL_NS);

    (void)nanosleep(&wait, NULL);
}

/* ---- start ---- */

/* In the child: a session of its own, output to @log, no signal blocked, CLLM_FAULTS as
 * @faults says if it does. No return. */
CLLM_NORETURN static void become(char *const argv[], const char *log, const char *faults,
                                 pid_t parent)
{
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    sigset_t none;

    (void)setsid();
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || fd < 0 || null < 0 || dup2(null, 0) < 0 ||
        dup2(fd, 1) < 0 || dup2(fd, 2) < 0 ||
        (faults && setenv(CLLM_FAULT_ENVIRONMENT, faults, 1) != 0))
        _exit(127);
    (void)execv(argv[0], argv);
    _exit(127);
}

static int spawn(char *const argv[], const char *log, const char *faults, pid_t *pid,
                 int *pidfd)
{
    pid_t parent = getpid();

    *pid = fork();
    if (*pid < 0)
        return cllm_err(-errno, "cannot start %s", argv[0]);
    if (*pid == 0)
        become(argv, log, faults, parent);
    *pidfd = (int)syscall(SYS_pidfd_open, *pid, 0);
    if (*pidfd >= 0)
        return 0;
    (void)kill(*pid, SIGKILL); /* ours, and not reaped yet */
    (void)waitpid(*pid, NULL, 0);
    return cllm_err(-errno, "cannot watch %s", argv[0]);
}

static void log_path(char out[CLLM_FILE_PATH_BYTES], const char *dir)
{
    (void)snprintf(out, CLLM_FILE_PATH_BYTES, "%.4000s.log", dir);
}

/* The arguments of cllm-coord, all of them in @text. */
struct arguments {
    char *argv[MAX_ARGS];
    uint32_t n;
    char text[4 * CLLM_FILE_PATH_BYTES];
    size_t used;
};

static void add(struct arguments *to, const char *what, const char *value)
{
    char *at = to->text + to->used;
    int n = snprintf(at, sizeof to->text - to->used, "%s%s", what, value);

    CLLM_ASSERT(n >= 0 && (size_t)n < sizeof to->text - to->used);
    CLLM_ASSERT(to->n + 1 < MAX_ARGS);
    to->used += (size_t)n + 1;
    to->argv[to->n++] = at;
}

static void add_option(struct arguments *to, const char *name, const char *value)
{
    add(to, "--set", "");
    add(to, name, value);
}

int nano_start(struct nano *nano, const struct nano_plan *plan)
{
    struct arguments *to = calloc(1, sizeof *to);
    char log[CLLM_FILE_PATH_BYTES], workers[16], pattern[CLLM_FILE_PATH_BYTES];
    int rc;

    *nano = (struct nano){.pidfd = -1};
    nano->control.slot = CLLM_NONE;
    if (!to)
        return cllm_err(-ENOMEM, "cannot start a run");
    (void)snprintf(nano->dir, sizeof nano->dir, "%s", plan->dir);
    cllm_run_id_of(nano->run_id, plan->dir);
    log_path(log, plan->dir);
    (void)snprintf(workers, sizeof workers, "%" PRIu32, plan->workers);
    add(to, plan->bin, "/cllm-coord");
    add(to, plan->config, "");
    add(to, "-n", "");
    add(to, workers, "");
    add_option(to, "run.dir=", plan->dir);
    (void)snprintf(pattern, sizeof pattern, "%.4000s/train_*.bin", plan->data);
    add_option(to, "data.train=", pattern);
    (void)snprintf(pattern, sizeof pattern, "%.4000s/val_*.bin", plan->data);
    add_option(to, "data.valid=", pattern);
    for (uint32_t i = 0; plan->set && plan->set[i]; i++)
        add_option(to, plan->set[i], "");
    if (plan->resume)
        add(to, "--resume", "");
    rc = spawn(to->argv, log, plan->faults, &nano->guardian, &nano->pidfd);
    free(to);
    if (rc != 0)
        *nano = (struct nano){.pidfd = -1};
    return rc;
}

/* ---- look ---- */

bool nano_attach(struct nano *nano, uint64_t timeout_ns)
{
    uint64_t until = cllm_now_ns() + timeout_ns;

    while (cllm_control_attach(&nano->control, nano->run_id, CLLM_NONE) !=
           CLLM_ATTACH_OK) {
        if (nano_ended(nano, 0) || cllm_now_ns() > until)
            return false;
        pause_a_moment();
    }
    return true;
}

bool nano_wait_step(struct nano *nano, uint64_t step, uint64_t timeout_ns)
{
    uint64_t until = cllm_now_ns() + timeout_ns;

    while (cllm_load_acquire(&nano->control.state->committed) < step) {
        if (nano_ended(nano, 0) || cllm_now_ns() > until)
            return false;
        pause_a_moment();
    }
    return true;
}

/* Every process that was started: what is there before it has said hello may still be the
 * program that started it. */
static bool all_up(const struct nano *nano)
{
    const struct cllm_control *control = &nano->control;

    for (uint32_t i = 0; i < control->header->geometry.n_slots; i++) {
        const struct cllm_slot *slot = &control->slots[i];

        if (slot->command.pid != 0 &&
            cllm_load_acquire(&slot->own.status.hello_generation) !=
                cllm_load_relaxed(&slot->command.generation))
            return false;
    }
    return true;
}

bool nano_wait_up(struct nano *nano, uint64_t timeout_ns)
{
    uint64_t until = cllm_now_ns() + timeout_ns;

    while (!all_up(nano)) {
        if (nano_ended(nano, 0) || cllm_now_ns() > until)
            return false;
        pause_a_moment();
    }
    return true;
}

int nano_disarm(const struct nano *nano)
{
    struct cllm_control control;
    int rc;

    if (cllm_control_adopt(&control, nano->run_id) != CLLM_ATTACH_OK)
        return cllm_err(-ENOENT, "run %s is not in memory", nano->run_id);
    rc = cllm_fault_arm(control.faults, "");
    cllm_control_detach(&control);
    return rc;
}

static enum nano_role role_in_slot(uint32_t role)
{
    switch (role) {
    case CLLM_ROLE_LOADER:
        return NANO_LOADER;
    case CLLM_ROLE_SAVER:
        return NANO_SAVER;
    default:
        return NANO_WORKER;
    }
}

uint32_t nano_processes(const struct nano *nano, struct nano_process *out, uint32_t cap)
{
    const struct cllm_control *control = &nano->control;
    uint32_t n = 0;

    if (n < cap && nano->guardian > 0)
        out[n++] = (struct nano_process){
            .role = NANO_GUARDIAN, .slot = CLLM_NONE, .pid = nano->guardian};
    if (!control->header)
        return n;
    if (n < cap && control->state->node_zero_pid != 0)
        out[n++] = (struct nano_process){.role = NANO_NODE_ZERO,
                                         .slot = CLLM_NONE,
                                         .pid = (pid_t)control->state->node_zero_pid};
    for (uint32_t i = 0; n < cap && i < control->header->geometry.n_slots; i++) {
        const struct cllm_command *command = &control->slots[i].command;

        if (command->pid == 0)
            continue;
        out[n++] =
            (struct nano_process){.role = role_in_slot(command->role),
                                  .slot = i,
                                  .generation = cllm_load_relaxed(&command->generation),
                                  .pid = (pid_t)command->pid};
    }
    return n;
}

struct nano_process nano_process(const struct nano *nano, enum nano_role role,
                                 uint32_t index)
{
    struct nano_process all[CLLM_MAX_WORKERS + 4];
    uint32_t n = nano_processes(nano, all, CLLM_LEN(all));

    for (uint32_t i = 0; i < n; i++)
        if (all[i].role == role && index-- == 0)
            return all[i];
    return (struct nano_process){.role = role, .slot = CLLM_NONE};
}

/* ---- wait and end ---- */

bool nano_ended(struct nano *nano, uint64_t timeout_ns)
{
    struct pollfd fd = {.fd = nano->pidfd, .events = POLLIN};

    if (nano->guardian == 0)
        return true;
    if (poll(&fd, 1, (int)cllm_div_up(timeout_ns, CLLM_NS_PER_MS)) <= 0 ||
        waitpid(nano->guardian, &nano->status, 0) != nano->guardian)
        return false;
    (void)close(nano->pidfd);
    nano->guardian = 0;
    nano->pidfd = -1;
    return true;
}

int nano_exit_code(const struct nano *nano)
{
    return WIFEXITED(nano->status) ? WEXITSTATUS(nano->status) : -1;
}

/* No lock file, or nobody holds it. */
static bool lock_is_free(const char *dir, const char *name)
{
    char path[CLLM_FILE_PATH_BYTES];
    bool is_free;
    int fd;

    if (cllm_file_join(path, dir, name) != 0)
        return false;
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR;
    is_free = flock(fd, LOCK_EX | LOCK_NB) == 0;
    (void)close(fd); /* lets go of it */
    return is_free;
}

bool nano_wait_gone(const char *dir, uint64_t timeout_ns)
{
    uint64_t until = cllm_now_ns() + timeout_ns;

    while (!lock_is_free(dir, "run.lock") || !lock_is_free(dir, "generation.lock")) {
        if (cllm_now_ns() > until)
            return false;
        pause_a_moment();
    }
    return true;
}

bool nano_kill(struct nano *nano)
{
    if (nano->guardian != 0) {
        (void)syscall(SYS_pidfd_send_signal, nano->pidfd, SIGKILL, NULL, 0);
        if (!nano_ended(nano, GONE_NS))
            return false;
    }
    return nano_wait_gone(nano->dir, GONE_NS);
}

void nano_remove(struct nano *nano)
{
    char log[CLLM_FILE_PATH_BYTES];

    if (nano->dir[0] == '\0')
        return;
    cllm_control_detach(&nano->control);
    if (!nano_kill(nano) || run_copy_remove(nano->dir) != 0)
        (void)fprintf(stderr, "%s: something of this run is left\n", nano->dir);
    log_path(log, nano->dir);
    (void)unlink(log);
    *nano = (struct nano){.pidfd = -1};
}

/* ---- data ---- */

/* A text with some order in it. */
static int write_corpus(const char *path)
{
    static const char *const word[15] = {"the",  "quick", "brown", "fox",   "jumps",
                                         "over", "a",     "lazy",  "dog",   "and",
                                         "then", "it",    "rests", "under", "trees"};
    uint32_t x = 12345;
    FILE *file = fopen(path, "we");
    int rc = file ? 0 : cllm_err(-errno, "cannot create %s", path);

    for (uint32_t i = 0; rc == 0 && i < CORPUS; i++) {
        x = (x * 1103515245u + 12345u) & 0x7fffffffu;
        if (fprintf(file, "%s%s", word[(x >> 16) % 15], i % 12 == 11 ? ".\n" : " ") < 0)
            rc = cllm_err(-EIO, "cannot write %s", path);
    }
    if (file && fclose(file) != 0 && rc == 0)
        rc = cllm_err(-errno, "cannot write %s", path);
    return rc;
}

int nano_make_data(const char *bin, const char *dir)
{
    char corpus[CLLM_FILE_PATH_BYTES], log[CLLM_FILE_PATH_BYTES];
    char program[CLLM_FILE_PATH_BYTES], to[CLLM_FILE_PATH_BYTES], option[] = "-o";
    char *argv[] = {program, option, to, corpus, NULL};
    int status = 0, pidfd = -1, rc = cllm_file_mkdirs(dir);
    pid_t pid;

    if (rc == 0)
        rc = cllm_file_join(corpus, dir, "corpus.txt");
    if (rc == 0)
        rc = cllm_file_join(log, dir, "prep.log");
    if (rc == 0)
        rc = cllm_file_join(program, bin, "cllm-prep");
    if (rc == 0)
        rc = write_corpus(corpus);
    if (rc != 0)
        return rc;
    (void)snprintf(to, sizeof to, "%s", dir);
    rc = spawn(argv, log, NULL, &pid, &pidfd);
    if (rc != 0)
        return rc;
    (void)close(pidfd);
    if (waitpid(pid, &status, 0) != pid || status != 0)
        return cllm_err(CLLM_EDATA, "cllm-prep failed; %s says why", log);
    return 0;
}

/* ---- bits ---- */

static int add_digest(struct cllm_sha256 *sha, const char *path, const char *name)
{
    char hex[CLLM_SHA256_HEX_BYTES];
    int rc = cllm_sha256_file(path, hex, NULL);

    if (rc != 0)
        return rc;
    cllm_sha256_add(sha, name, strlen(name) + 1);
    cllm_sha256_add(sha, hex, sizeof hex);
    return 0;
}

/* Every file of @dir, by name. */
static int add_files(struct cllm_sha256 *sha, const char *dir)
{
    struct dirent **entry = NULL;
    char path[CLLM_FILE_PATH_BYTES];
    int n = scandir(dir, &entry, NULL, alphasort);
    int rc = n < 0 ? cllm_err(-errno, "cannot list %s", dir) : 0;

    for (int i = 0; i < n; i++) {
        if (rc == 0 && entry[i]->d_name[0] != '.') {
            rc = cllm_file_join(path, dir, entry[i]->d_name);
            if (rc == 0)
                rc = add_digest(sha, path, entry[i]->d_name);
        }
        free(entry[i]);
    }
    free(entry);
    return rc;
}

int nano_bits(const char *dir, char hex[CLLM_SHA256_HEX_BYTES])
{
    struct cllm_sha256 sha = {0};
    uint8_t digest[CLLM_SHA256_BYTES];
    char path[CLLM_FILE_PATH_BYTES];
    int rc = cllm_sha256_begin(&sha);

    if (rc == 0)
        rc = cllm_file_join(path, dir, "journal.jsonl");
    if (rc == 0)
        rc = add_digest(&sha, path, "journal.jsonl");
    if (rc == 0)
        rc = cllm_file_join(path, dir, "checkpoints/last");
    if (rc == 0)
        rc = add_files(&sha, path);
    if (rc == 0) {
        cllm_sha256_end(&sha, digest);
        cllm_sha256_hex(hex, digest);
    }
    cllm_sha256_fini(&sha);
    return rc;
}
