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
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "formats/file.h"
#include "tests/crash/points_cases.h"
#include "tests/crash/points_run.h"

#define RESUMES 3 /* by hand, after a run that had to end */

static struct {
    char program[1024];
    struct points_bits golden[FAMILIES];
    const char *only;
    bool list;
    uint64_t seed, until_ns;  /* no case begins later */
    uint32_t jobs;            /* processes that share the cases */
    uint32_t n_cases, failed; /* all of them; those of this job that failed */
    struct point_case *cases; /* (n_cases) */
    _Atomic uint32_t *next;   /* of them, shared by the jobs */
} self;

/* ---- scenarios ---- */

/* A run that leaves step 9 in shared memory and checkpoint 6 on the disk. */
static void leave_in_memory(struct points_run *run)
{
    if (!points_run_live(run, false, "journal_written:exit=9:9") ||
        !WIFEXITED(run->status) || WEXITSTATUS(run->status) != 9) {
        (void)fprintf(stderr, "points: cannot prepare a run; see %s\n", run->log);
        exit(2);
    }
    points_run_remove_socket(run);
}

/* What a resume from disk needs of @from. */
static void copy_files(const struct points_run *from, const struct points_run *to)
{
    static const char *const names[] = {"checkpoints", "journal.jsonl", "metrics.jsonl"};

    if (mkdir(to->dir, 0700) != 0)
        points_give_up(to->dir);
    for (size_t i = 0; i < CLLM_LEN(names); i++) {
        char program[] = "/bin/cp", archive[] = "-a", source[400], target[400];
        char *argv[] = {program, archive, source, target, NULL};

        points_put(source, sizeof source, "%s/%s", from->dir, names[i]);
        points_put(target, sizeof target, "%s/%s", to->dir, names[i]);
        points_must(argv);
    }
}

static void damage(const struct points_run *run)
{
    char path[CLLM_FILE_PATH_BYTES];
    struct stat st;

    if (cllm_file_join(path, run->dir, points_kept[0]) != 0 || stat(path, &st) != 0 ||
        truncate(path, st.st_size - 1) != 0)
        points_give_up(path);
}

static void put_text(const char *dir, const char *name, const char *text)
{
    char path[CLLM_FILE_PATH_BYTES];

    if (cllm_file_join(path, dir, name) != 0 ||
        cllm_file_replace(path, text, strlen(text)) != 0)
        points_give_up(name);
}

/* Another run's lines and vocabulary. */
static void leave_rubbish(const struct points_run *run)
{
    char tokenizer[400];

    points_put(tokenizer, sizeof tokenizer, "%s/tokenizer", run->dir);
    if (cllm_file_mkdirs(tokenizer) != 0)
        points_give_up(tokenizer);
    put_text(tokenizer, "vocab.json", "{\"a\": 1}\n");
    put_text(run->dir, "journal.jsonl", "{\"step\":1,\"root\":\"0123456789abcdef\"}\n");
}

/* Everything that comes before the point is armed. True: then the run is resumed. */
static bool prepare(enum scenario which, struct points_run *run)
{
    static struct points_run half, whole; /* made once */

    switch (which) {
    case ADOPT:
        leave_in_memory(run);
        return true;
    case LOAD:
        if (half.dir[0] == '\0') {
            points_run_name(&half, "half", USUAL);
            leave_in_memory(&half);
            /* While who was killed still holds the run's lock, nothing is removed. */
            for (int i = 0; i < POINTS_LIMIT_MS / 500 && !points_run_clean(&half); i++)
                (void)nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
        }
        copy_files(&half, run);
        return true;
    case DAMAGED:
        if (whole.dir[0] == '\0') {
            points_run_name(&whole, "whole", USUAL);
            if (!points_run_live(&whole, false, NULL) || whole.status != 0)
                points_give_up("cannot prepare a whole run");
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

static void show_log(const struct points_run *run)
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
static bool came_to_pass(const struct point_case *what, const struct points_run *run)
{
    char *text = NULL, line[128];
    bool found;

    points_put(line, sizeof line,
               "fault point %s in %s: ", cllm_fault_row(what->point)->name,
               cllm_fault_role_name(what->role));
    if (cllm_file_read(run->log, 1u << 20, &text, NULL) != 0)
        return false;
    found = strstr(text, line) != NULL;
    free(text);
    return found;
}

/* NULL: all is well; else what is wrong. */
static const char *try_case(const struct point_case *what, struct points_run *run,
                            bool *happened)
{
    const char *also = points_scenario(what->scenario)->also;
    bool survives = what->action->survived && what->role != CLLM_FAULT_GUARDIAN &&
                    !points_scenario(what->scenario)->ends;
    bool resume = prepare(what->scenario, run);
    struct points_bits bits;
    char text[256];

    points_put(text, sizeof text, "%s:%s:%u:%s%s%s", cllm_fault_row(what->point)->name,
               what->action->text, what->nth, cllm_fault_role_name(what->role),
               also ? "," : "", also ? also : "");
    *happened = true;
    if (!points_run_live(run, resume, text))
        return "the run did not come to its end";
    *happened = came_to_pass(what, run);
    if (!*happened && what->required)
        return "nobody came by: the point has no test";
    if (run->status != 0 && survives)
        return "the run did not go on by itself";
    for (int i = 0; run->status != 0 && i < RESUMES; i++)
        if (!points_run_live(run, true, NULL))
            return "the resumed run did not come to its end";
    if (run->status != 0)
        return "the run cannot be resumed";
    if (!points_run_bits(run, &bits))
        return cllm_err_text();
    return memcmp(&bits, &self.golden[run->family], sizeof bits) == 0
               ? NULL
               : "the bits are others";
}

static void do_case(const struct point_case *what, uint32_t number)
{
    const char *wrong;
    struct points_run run;
    bool happened;
    char name[32];

    points_put(name, sizeof name, "%u", number);
    points_run_name(&run, name, points_scenario(what->scenario)->family);
    wrong = try_case(what, &run, &happened);
    if (wrong) {
        self.failed++;
        (void)printf("not ok %u - %s\n# %s\n# again: %s %s--only %s %s/..\n", number,
                     what->name, wrong, self.program, points_place.deep ? "--deep " : "",
                     what->name, points_place.bin);
        show_log(&run);
    } else {
        (void)printf("ok %u - %s%s\n", number, what->name,
                     happened ? "" : " # SKIP nobody comes by");
    }
    (void)fflush(stdout);
    points_run_remove(&run);
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

    points_put(text, sizeof text, "%s/corpus.txt", points_place.work);
    points_put(data, sizeof data, "%s/data", points_place.work);
    points_put(program, sizeof program, "%s/cllm-prep", points_place.bin);
    file = fopen(text, "we");
    if (!file)
        points_give_up(text);
    for (int i = 0; i < 14000; i++) {
        x = (x * 1103515245 + 12345) % 2147483648U;
        (void)fprintf(file, "%s%s", word[x / 65536 % CLLM_LEN(word)],
                      i % 12 == 11 ? ".\n" : " ");
    }
    if (fclose(file) != 0)
        points_give_up(text);
    points_must(argv);
    points_put(data, sizeof data, "%s/words", points_place.work);
    argv[4] = words;
    argv[5] = size;
    points_must(argv);
}

/* A run that is left alone. */
static void train(struct points_run *run, const char *name, enum family family)
{
    points_run_name(run, name, family);
    if (!points_run_live(run, false, NULL) || run->status != 0) {
        show_log(run);
        points_give_up("cannot make the undisturbed run");
    }
}

/* What the runs that begin from a model begin from; it has a vocabulary. */
static void make_model(void)
{
    char program[] = "/bin/cp", follow[] = "-rL", source[400], target[400];
    char *argv[] = {program, follow, source, target, NULL};
    struct points_run run;

    train(&run, "model", FROM_SEED);
    points_put(source, sizeof source, "%s/checkpoints/last", run.dir);
    points_put(target, sizeof target, "%s/model", points_place.work);
    points_must(argv);
    points_run_remove(&run);
}

static void make_golden(void)
{
    make_model();
    for (uint32_t f = 0; f < FAMILIES; f++) {
        struct points_run run;

        train(&run, "golden", (enum family)f);
        if (!points_run_bits(&run, &self.golden[f]))
            points_give_up(cllm_err_text());
        points_run_remove(&run);
    }
}

static void begin(const char *build)
{
    const char *tmp = getenv("TMPDIR");
    const struct rlimit no_core = {0, 0};

    points_put(points_place.bin, sizeof points_place.bin, "%s/bin", build);
    points_put(points_place.work, sizeof points_place.work, "%s/cllm-points.XXXXXX",
               tmp ? tmp : "/tmp");
    if (!mkdtemp(points_place.work) ||
        !getcwd(points_place.root, sizeof points_place.root))
        points_give_up(points_place.work);
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
    for (points_place.job = 0; points_place.job < self.jobs; points_place.job++) {
        pid_t pid = fork();

        if (pid < 0)
            points_give_up("fork");
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
            points_give_up("wait");
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
            points_place.deep = true;
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
    points_put(self.program, sizeof self.program, "%s", argv[0]);
    self.cases = points_list(points_place.deep, self.only, &self.n_cases);
    if (!self.cases)
        points_give_up("cases");
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
        points_give_up("mmap");
    if (self.n_cases == 1)
        self.jobs = 1;
    if (points_place.deep)
        points_shuffle(self.cases, self.n_cases, self.seed);
    begin(argv[optind]);
    code = share_out();
    if (cllm_file_remove_tree(points_place.work) != 0)
        cllm_err_print("points");
    return code;
}
