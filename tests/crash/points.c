/*
 * tests/crash/points.c - every fault point of base/fault.def is met by a run, and the
 * run's last bits are those of a run that was left alone.
 *
 *   points [--deep] [--seconds N] [--seed S] [--only CASE] [--list] [--jobs N] BUILD
 *
 * The quick form lets each role die (SIGKILL) the first time it comes by each of its
 * points. The deep form also lets it die of other signals, leave, stop, hang and meet
 * errors, at the first and the seventh time, and in every scenario: some ten thousand
 * cases, in an order that the seed gives, until there are no more or the time is up. A
 * point that nobody comes by is a failure: it has no test.
 *
 * A case is SCENARIO/POINT:ACTION:N:ROLE, --only takes the beginning of one; a failure
 * prints the line that does it again.
 * Output is TAP. BUILD is the build directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "formats/checkpoint.h"
#include "formats/file.h"
#include "formats/sha256.h"
#include "tests/crash/points_cases.h"

/* Of one run. Who hangs in the first step has a minute of its own processor time, which
 * takes as long as a loaded machine likes; the quick form has nobody who hangs. */
#define LIMIT_MS      240000
#define DEEP_LIMIT_MS 900000
#define RESUMES       3 /* by hand, after a run that had to end */

/* What a run leaves: the files of its last checkpoint, and its journal. */
static const char *const kept[] = {
    "checkpoints/last/" CLLM_CHECKPOINT_MODEL,
    "checkpoints/last/" CLLM_CHECKPOINT_OPTIMIZER,
    "checkpoints/last/" CLLM_CHECKPOINT_CONFIG,
    "checkpoints/last/" CLLM_CHECKPOINT_RUN,
    "checkpoints/last/" CLLM_CHECKPOINT_MANIFEST,
    "journal.jsonl",
};

struct bits {
    char hex[CLLM_LEN(kept)][CLLM_SHA256_HEX_BYTES];
};

/* Short, with everything in it: several checkpoints, some of them removed again. */
static const char *const settings[] = {
    "train.steps=12",     "checkpoint.every=3",     "checkpoint.keep=2",
    "train.eval_every=6", "run.restart_limit=1000", "run.log_every=1000",
};

static struct {
    char bin[1024], work[256], root[1024], program[1024];
    struct bits golden[FAMILIES];
    const char *only;
    bool list, deep;
    uint64_t seed, until_ns;  /* no case begins later */
    uint32_t jobs, job;       /* processes that share the cases; which one this is */
    uint32_t n_cases, failed; /* all of them; those of this job that failed */
    struct point_case *cases; /* (n_cases) */
    _Atomic uint32_t *next;   /* of them, shared by the jobs */
} self;

/* ---- processes ---- */

static void put(char *out, size_t bytes, const char *fmt, ...) CLLM_PRINTF(3, 4);

static void put(char *out, size_t bytes, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(out, bytes, fmt, args);
    va_end(args);
    CLLM_ASSERT(n >= 0 && (size_t)n < bytes);
}

static void give_up(const char *what)
{
    (void)fprintf(stderr, "points: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* Start @argv with both outputs at the end of @log, and CLLM_FAULTS=@faults. */
static pid_t start(char *const argv[], const char *log, const char *faults)
{
    pid_t pid = fork();
    int fd;

    if (pid < 0)
        give_up("fork");
    if (pid > 0)
        return pid;
    fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
        _exit(126);
    if (faults ? setenv(CLLM_FAULT_ENVIRONMENT, faults, 1) != 0
               : unsetenv(CLLM_FAULT_ENVIRONMENT) != 0)
        _exit(126);
    (void)execv(argv[0], argv);
    _exit(127);
}

/* Wait for the end of @pid, and of orphans. False: it had to be killed. */
static bool finish(pid_t pid, int *status)
{
    struct pollfd fd = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    bool ended = poll(&fd, 1, self.deep ? DEEP_LIMIT_MS : LIMIT_MS) > 0;

    (void)close(fd.fd);
    if (!ended)
        (void)kill(pid, SIGKILL);
    if (waitpid(pid, status, 0) != pid)
        give_up("waitpid");
    /* Who was killed drags the others along: nobody holds the run's memory any more. */
    while (waitpid(-1, NULL, ended ? WNOHANG : 0) > 0)
        continue;
    return ended;
}

/* Run a helper program; anything but success ends this one. */
static void must(char *const argv[])
{
    char log[320];
    int status;

    put(log, sizeof log, "%s/helpers.txt", self.work);
    if (!finish(start(argv, log, NULL), &status) || status != 0) {
        (void)fprintf(stderr, "points: %s failed\n", argv[0]);
        exit(2);
    }
}

/* ---- a run ---- */

struct run {
    char dir[320], log[340];
    enum family family;
    int status;
};

static void name_run(struct run *run, const char *name, enum family family)
{
    *run = (struct run){.family = family};
    put(run->dir, sizeof run->dir, "%s/points-%u-%s", self.work, self.job, name);
    put(run->log, sizeof run->log, "%s.txt", run->dir);
}

/* @text with the working directory in the place of its %s. */
static void expand(char *out, size_t bytes, const char *text)
{
    const char *at = strstr(text, "%s");

    if (at)
        put(out, bytes, "%.*s%s%s", (int)(at - text), text, self.work, at + 2);
    else
        put(out, bytes, "%s", text);
}

/* One life of a coordinator. False: it did not come to its end in time. */
static bool coord(struct run *run, bool resume, const char *faults)
{
    char program[1100], config[1100], set[] = "--set", n[] = "-n", two[] = "2";
    char go_on[] = "--resume", dir[400], train[400], valid[400];
    char value[CLLM_LEN(settings)][32], own[4][400];
    const char *const *special = points_settings(run->family);
    char *argv[40] = {program, config, n, two};
    int argc = 4;

    put(program, sizeof program, "%s/cllm-coord", self.bin);
    put(config, sizeof config, "%s/configs/nano.ini", self.root);
    put(dir, sizeof dir, "run.dir=%s", run->dir);
    put(train, sizeof train, "data.train=%s/data/train_*.bin", self.work);
    put(valid, sizeof valid, "data.valid=%s/data/val_*.bin", self.work);
    for (size_t i = 0; i < CLLM_LEN(settings); i++) {
        put(value[i], sizeof value[i], "%s", settings[i]);
        argv[argc++] = set;
        argv[argc++] = value[i];
    }
    argv[argc++] = set;
    argv[argc++] = dir;
    argv[argc++] = set;
    argv[argc++] = train;
    argv[argc++] = set;
    argv[argc++] = valid;
    for (size_t i = 0; special[i]; i++) {
        expand(own[i], sizeof own[i], special[i]);
        argv[argc++] = set;
        argv[argc++] = own[i];
    }
    if (resume)
        argv[argc++] = go_on;
    argv[argc] = NULL;
    return finish(start(argv, run->log, faults), &run->status);
}

/* False: it could not be done, and perhaps there was nothing to remove. */
static bool clean_memory(const struct run *run)
{
    char program[1100], word[] = "clean", dir[320], log[320];
    char *argv[] = {program, word, dir, NULL};
    int status;

    put(program, sizeof program, "%s/cllm-shm", self.bin);
    put(dir, sizeof dir, "%s", run->dir);
    put(log, sizeof log, "%s/helpers.txt", self.work);
    return finish(start(argv, log, NULL), &status) && status == 0;
}

/* What an unlink that failed has left: it was named. Nothing says any more whose it is,
 * so that cllm-shm would wait for a minute. */
static void remove_named(const struct run *run)
{
    static const char words[] = "cannot remove shared memory ";
    char *text = NULL, name[100];

    if (cllm_file_read(run->log, 1u << 20, &text, NULL) != 0)
        return;
    for (const char *at = strstr(text, words); at; at = strstr(at + 1, words))
        if (sscanf(at + sizeof words - 1, "%99[^: \n]", name) == 1)
            (void)shm_unlink(name);
    free(text);
}

/* What a coordinator leaves when it dies. */
static void remove_socket(const struct run *run)
{
    char socket[CLLM_FILE_PATH_BYTES];

    if (cllm_file_join(socket, run->dir, "control.sock") == 0)
        (void)unlink(socket);
}

static void remove_run(const struct run *run)
{
    (void)clean_memory(run);
    remove_named(run);
    remove_socket(run);
    if (cllm_file_remove_tree(run->dir) != 0)
        cllm_err_print("points"); /* it will be seen at the end */
    (void)unlink(run->log);
}

static bool read_bits(const struct run *run, struct bits *bits)
{
    for (size_t i = 0; i < CLLM_LEN(kept); i++) {
        char path[CLLM_FILE_PATH_BYTES];

        if (cllm_file_join(path, run->dir, kept[i]) != 0 ||
            cllm_sha256_file(path, bits->hex[i], NULL) != 0)
            return false;
    }
    return true;
}

/* ---- scenarios ---- */

/* A run that leaves step 9 in shared memory and checkpoint 6 on the disk. */
static void leave_in_memory(struct run *run)
{
    if (!coord(run, false, "journal_written:exit=9:9") || !WIFEXITED(run->status) ||
        WEXITSTATUS(run->status) != 9) {
        (void)fprintf(stderr, "points: cannot prepare a run; see %s\n", run->log);
        exit(2);
    }
    remove_socket(run);
}

/* What a resume from disk needs of @from. */
static void copy_files(const struct run *from, const struct run *to)
{
    static const char *const names[] = {"checkpoints", "journal.jsonl", "metrics.jsonl"};

    if (mkdir(to->dir, 0700) != 0)
        give_up(to->dir);
    for (size_t i = 0; i < CLLM_LEN(names); i++) {
        char program[] = "/bin/cp", archive[] = "-a", source[400], target[400];
        char *argv[] = {program, archive, source, target, NULL};

        put(source, sizeof source, "%s/%s", from->dir, names[i]);
        put(target, sizeof target, "%s/%s", to->dir, names[i]);
        must(argv);
    }
}

static void damage(const struct run *run)
{
    char path[CLLM_FILE_PATH_BYTES];
    struct stat st;

    if (cllm_file_join(path, run->dir, kept[0]) != 0 || stat(path, &st) != 0 ||
        truncate(path, st.st_size - 1) != 0)
        give_up(path);
}

static void put_text(const char *dir, const char *name, const char *text)
{
    char path[CLLM_FILE_PATH_BYTES];

    if (cllm_file_join(path, dir, name) != 0 ||
        cllm_file_replace(path, text, strlen(text)) != 0)
        give_up(name);
}

/* Another run's lines and vocabulary. */
static void leave_rubbish(const struct run *run)
{
    char tokenizer[400];

    put(tokenizer, sizeof tokenizer, "%s/tokenizer", run->dir);
    if (cllm_file_mkdirs(tokenizer) != 0)
        give_up(tokenizer);
    put_text(tokenizer, "vocab.json", "{\"a\": 1}\n");
    put_text(run->dir, "journal.jsonl", "{\"step\":1,\"root\":\"0123456789abcdef\"}\n");
}

/* Everything that comes before the point is armed. True: then the run is resumed. */
static bool prepare(enum scenario which, struct run *run)
{
    static struct run half, whole; /* made once */

    switch (which) {
    case ADOPT:
        leave_in_memory(run);
        return true;
    case LOAD:
        if (half.dir[0] == '\0') {
            name_run(&half, "half", USUAL);
            leave_in_memory(&half);
            /* While who was killed still holds the run's lock, nothing is removed. */
            for (int i = 0; i < LIMIT_MS / 500 && !clean_memory(&half); i++)
                (void)nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
        }
        copy_files(&half, run);
        return true;
    case DAMAGED:
        if (whole.dir[0] == '\0') {
            name_run(&whole, "whole", USUAL);
            if (!coord(&whole, false, NULL) || whole.status != 0)
                give_up("cannot prepare a whole run");
        }
        copy_files(&whole, run);
        damage(run);
        return true;
    case IMPORT:
        leave_rubbish(run);
        return false;
    default:
        return false;
    }
}

/* ---- cases ---- */

static void show_log(const struct run *run)
{
    char *text = NULL, *rest = NULL;

    if (cllm_file_read(run->log, 1u << 20, &text, NULL) != 0)
        return;
    for (char *line = strtok_r(text, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest))
        (void)printf("#   %s\n", line);
    free(text);
}

/* Did the role come by the point for the nth time? */
static bool came_to_pass(const struct point_case *what, const struct run *run)
{
    char *text = NULL, line[128];
    bool found;

    put(line, sizeof line, "fault point %s in %s: ", cllm_fault_row(what->point)->name,
        cllm_fault_role_name(what->role));
    if (cllm_file_read(run->log, 1u << 20, &text, NULL) != 0)
        return false;
    found = strstr(text, line) != NULL;
    free(text);
    return found;
}

/* NULL: all is well; else what is wrong. */
static const char *try_case(const struct point_case *what, struct run *run,
                            bool *happened)
{
    const char *also = points_scenario(what->scenario)->also;
    bool survives = what->action->survived && what->role != CLLM_FAULT_GUARDIAN &&
                    !points_scenario(what->scenario)->ends;
    bool resume = prepare(what->scenario, run);
    struct bits bits;
    char text[256];

    put(text, sizeof text, "%s:%s:%u:%s%s%s", cllm_fault_row(what->point)->name,
        what->action->text, what->nth, cllm_fault_role_name(what->role), also ? "," : "",
        also ? also : "");
    *happened = true;
    if (!coord(run, resume, text))
        return "the run did not come to its end";
    *happened = came_to_pass(what, run);
    if (!*happened && what->required)
        return "nobody came by: the point has no test";
    if (run->status != 0 && survives)
        return "the run did not go on by itself";
    for (int i = 0; run->status != 0 && i < RESUMES; i++)
        if (!coord(run, true, NULL))
            return "the resumed run did not come to its end";
    if (run->status != 0)
        return "the run cannot be resumed";
    if (!read_bits(run, &bits))
        return cllm_err_text();
    return memcmp(&bits, &self.golden[run->family], sizeof bits) == 0
               ? NULL
               : "the bits are others";
}

static void do_case(const struct point_case *what, uint32_t number)
{
    const char *wrong;
    struct run run;
    bool happened;
    char name[32];

    put(name, sizeof name, "%u", number);
    name_run(&run, name, points_scenario(what->scenario)->family);
    wrong = try_case(what, &run, &happened);
    if (wrong) {
        self.failed++;
        (void)printf("not ok %u - %s\n# %s\n# again: %s %s--only %s %s/..\n", number,
                     what->name, wrong, self.program, self.deep ? "--deep " : "",
                     what->name, self.bin);
        show_log(&run);
    } else {
        (void)printf("ok %u - %s%s\n", number, what->name,
                     happened ? "" : " # SKIP nobody comes by");
    }
    (void)fflush(stdout);
    remove_run(&run);
}

/* ---- all of them ---- */

/* A text with some order in it, and the shards of it. */
static void make_data(void)
{
    static const char *const word[] = {"the",  "quick", "brown", "fox",   "jumps",
                                       "over", "a",     "lazy",  "dog",   "and",
                                       "then", "it",    "rests", "under", "old"};
    char text[320], program[1100], option[] = "-o", data[320];
    char words[] = "--train-vocab", size[] = "320";
    char *argv[7] = {program, option, data, text, NULL};
    uint64_t x = 12345;
    FILE *file;

    put(text, sizeof text, "%s/corpus.txt", self.work);
    put(data, sizeof data, "%s/data", self.work);
    put(program, sizeof program, "%s/cllm-prep", self.bin);
    file = fopen(text, "we");
    if (!file)
        give_up(text);
    for (int i = 0; i < 14000; i++) {
        x = (x * 1103515245 + 12345) % 2147483648U;
        (void)fprintf(file, "%s%s", word[x / 65536 % CLLM_LEN(word)],
                      i % 12 == 11 ? ".\n" : " ");
    }
    if (fclose(file) != 0)
        give_up(text);
    must(argv);
    put(data, sizeof data, "%s/words", self.work);
    argv[4] = words;
    argv[5] = size;
    must(argv);
}

/* A run that is left alone. */
static void train(struct run *run, const char *name, enum family family)
{
    name_run(run, name, family);
    if (!coord(run, false, NULL) || run->status != 0) {
        show_log(run);
        give_up("cannot make the undisturbed run");
    }
}

/* What the runs that begin from a model begin from; it has a vocabulary. */
static void make_model(void)
{
    char program[] = "/bin/cp", follow[] = "-rL", source[400], target[400];
    char *argv[] = {program, follow, source, target, NULL};
    struct run run;

    train(&run, "model", FROM_SEED);
    put(source, sizeof source, "%s/checkpoints/last", run.dir);
    put(target, sizeof target, "%s/model", self.work);
    must(argv);
    remove_run(&run);
}

static void make_golden(void)
{
    make_model();
    for (uint32_t f = 0; f < FAMILIES; f++) {
        struct run run;

        train(&run, "golden", (enum family)f);
        if (!read_bits(&run, &self.golden[f]))
            give_up(cllm_err_text());
        remove_run(&run);
    }
}

static void begin(const char *build)
{
    const char *tmp = getenv("TMPDIR");
    const struct rlimit no_core = {0, 0};

    put(self.bin, sizeof self.bin, "%s/bin", build);
    put(self.work, sizeof self.work, "%s/cllm-points.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(self.work) || !getcwd(self.root, sizeof self.root))
        give_up(self.work);
    (void)setrlimit(RLIMIT_CORE, &no_core);
    make_data();
    make_golden();
}

/* The next one's index, or UINT32_MAX. */
static uint32_t take_case(void)
{
    uint32_t i = UINT32_MAX;

    if (cllm_now_ns() < self.until_ns)
        i = atomic_fetch_add_explicit(self.next, 1, memory_order_relaxed);
    return i < self.n_cases ? i : UINT32_MAX;
}

/* Cases mostly wait: several processes share them. Returns the exit code. */
static int share_out(void)
{
    bool failed = false;
    uint32_t done;

    (void)fflush(stdout);
    for (self.job = 0; self.job < self.jobs; self.job++) {
        pid_t pid = fork();

        if (pid < 0)
            give_up("fork");
        if (pid > 0)
            continue;
        /* Children of a guardian that was killed come here. */
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
        for (uint32_t i = take_case(); i != UINT32_MAX; i = take_case())
            do_case(&self.cases[i], i + 1);
        _exit(self.failed > 0);
    }
    for (uint32_t i = 0; i < self.jobs; i++) {
        int status;

        if (wait(&status) < 0)
            give_up("wait");
        failed |= status != 0;
    }
    done = (uint32_t)cllm_min_u64(cllm_load_relaxed(self.next), self.n_cases);
    (void)printf("1..%u\n", done);
    if (done < self.n_cases)
        (void)printf("# %u of %u cases, seed %" PRIu64 "\n", done, self.n_cases,
                     self.seed);
    return failed;
}

static void usage(int code)
{
    (void)fputs("usage: points [--deep] [--seconds N] [--seed S] [--only CASE] [--list] "
                "[--jobs N] BUILD\n"
                "run it in the root of the source tree\n",
                code == 0 ? stdout : stderr);
    exit(code);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"deep", no_argument, NULL, 'd'},       {"seconds", required_argument, NULL, 't'},
        {"seed", required_argument, NULL, 's'}, {"only", required_argument, NULL, 'o'},
        {"list", no_argument, NULL, 'l'},       {"jobs", required_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0}};
    int opt, code;

    self.jobs = 3;
    self.seed = (uint64_t)time(NULL);
    self.until_ns = UINT64_MAX;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 'd')
            self.deep = true;
        else if (opt == 't')
            self.until_ns = cllm_now_ns() + strtoull(optarg, NULL, 10) * CLLM_NS_PER_S;
        else if (opt == 's')
            self.seed = strtoull(optarg, NULL, 10);
        else if (opt == 'o')
            self.only = optarg;
        else if (opt == 'l')
            self.list = true;
        else if (opt == 'j')
            self.jobs = (uint32_t)strtoul(optarg, NULL, 10);
        else
            usage(opt == 'h' ? 0 : 2);
    }
    if (optind + 1 != argc || self.jobs < 1 || self.jobs > 64)
        usage(2);
    put(self.program, sizeof self.program, "%s", argv[0]);
    self.cases = points_list(self.deep, self.only, &self.n_cases);
    if (!self.cases)
        give_up("cases");
    for (uint32_t i = 0; self.list && i < self.n_cases; i++)
        (void)puts(self.cases[i].name);
    if (self.list)
        return 0;
    if (self.n_cases == 0) {
        (void)fputs("points: there is no such case\n", stderr);
        return 2;
    }
    self.next =
        mmap(NULL, CLLM_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (self.next == MAP_FAILED)
        give_up("mmap");
    if (self.n_cases == 1)
        self.jobs = 1;
    if (self.deep)
        points_shuffle(self.cases, self.n_cases, self.seed);
    begin(argv[optind]);
    code = share_out();
    if (cllm_file_remove_tree(self.work) != 0)
        cllm_err_print("points");
    return code;
}
