/*
 * tests/crash/nth.c - the n-th system call fails, the n-th allocation fails.
 *
 * For every role, every class of calls and every error that it can give, the first call
 * fails, the second, and so on to the last one that a small run makes; alone, or with all
 * that follow. Then the same with allocations, in programs linked for it. Whatever fails,
 * the run ends with the same bits or says why it stopped and can go on
 * (tests/crash/nth_run.h).
 *
 * The cases are tried in rounds, one of each kind in a round and in an order that the
 * seed gives, until there are no more or the time is up.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/file.h"
#include "tests/crash/nth_run.h"
#include "tests/crash/tally.h"

#define QUICK_SECONDS 12
#define DEEP_SECONDS  540
#define QUICK_JOBS    2
#define DEEP_JOBS     4 /* many of them wait for a retry */
#define MOST_CASES    100000

struct test_case {
    struct nth_fault fault;
    uint64_t round, order;
};

/* What the jobs share. */
struct shared {
    uint64_t next, tried, untouched, ended, resumed, passed, failed;
};

struct campaign {
    struct tally tally;
    struct test_case *cases; /* heap, (n_cases) */
    uint64_t n_cases, random;
    struct shared *shared;
    char root[256], bin[512], alloc[512];
};

static uint64_t draw(struct campaign *campaign)
{
    uint64_t x = campaign->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* "saver:write:ENOSPC:3+": the third and all that follow. */
static void name_of(const struct nth_fault *fault, char out[96])
{
    const char *error =
        fault->error == NTH_SHORT ? "short" : strerrorname_np(fault->error);

    (void)snprintf(out, 96, "%s:%s:%s:%" PRIu64 "%s", nano_role_name(fault->role),
                   fault->class ? fault->class->name : "allocation",
                   error ? error : "error", fault->n, fault->persist ? "+" : "");
}

/* ---- cases ---- */

/* n = 1 ... @count of one kind, each in a round of its own. */
static void add_kind(struct campaign *campaign, struct nth_fault fault, uint64_t count)
{
    uint64_t first = campaign->n_cases;

    for (fault.n = 1; fault.n <= count && campaign->n_cases < MOST_CASES; fault.n++)
        campaign->cases[campaign->n_cases++] =
            (struct test_case){.fault = fault, .order = draw(campaign)};
    for (uint64_t i = first; i < campaign->n_cases; i++) {
        uint64_t j = i + draw(campaign) % (campaign->n_cases - i);
        struct test_case one = campaign->cases[i];

        campaign->cases[i] = campaign->cases[j];
        campaign->cases[j] = one;
        campaign->cases[i].round = i - first;
    }
}

/*
 * May this call fail from the n-th on? One that is interrupted for ever has its caller
 * call for ever, and Node Zero tries to start a child until the system lets it. In the
 * short form no save, which is tried for two minutes.
 */
static bool may_persist(const struct campaign *campaign, const struct nth_fault *fault)
{
    bool starts = strcmp(fault->class->name, "fork") == 0 ||
                  strcmp(fault->class->name, "descriptor") == 0;

    if (!fault->class->stays || fault->error == EINTR)
        return false;
    if (fault->role == NANO_NODE_ZERO && starts && fault->error != EMFILE)
        return false;
    return !campaign->tally.quick || fault->role != NANO_SAVER;
}

static void add_class(struct campaign *campaign, const struct nth_class *class,
                      enum nano_role role, uint64_t count)
{
    for (size_t i = 0; i < CLLM_LEN(class->error) && class->error[i] != 0; i++) {
        struct nth_fault fault = {.role = role, .class = class, .error = class->error[i]};

        add_kind(campaign, fault, count);
        fault.persist = true;
        if (may_persist(campaign, &fault))
            add_kind(campaign, fault, count);
    }
}

static int by_round(const void *a, const void *b)
{
    const struct test_case *x = a, *y = b;

    if (x->round != y->round)
        return x->round < y->round ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static void make_cases(struct campaign *campaign, const struct nth_outcome *out,
                       const struct alloc_fail_plan *plan)
{
    for (uint32_t role = 0; role < NANO_ROLES; role++) {
        struct nth_fault fault = {.role = (enum nano_role)role, .error = ENOMEM};

        for (uint32_t i = 0; i < nth_n_classes; i++)
            add_class(campaign, &nth_class[i], fault.role, out->count[role][i]);
        add_kind(campaign, fault, plan->count[role]);
        fault.persist = true;
        if (!(campaign->tally.quick && role == NANO_SAVER))
            add_kind(campaign, fault, plan->count[role]);
    }
    qsort(campaign->cases, campaign->n_cases, sizeof campaign->cases[0], by_round);
}

static void print_counts(const struct nth_outcome *out,
                         const struct alloc_fail_plan *plan)
{
    (void)printf("%-12s", "calls");
    for (uint32_t role = 0; role < NANO_ROLES; role++)
        (void)printf(" %10s", nano_role_name((enum nano_role)role));
    for (uint32_t i = 0; i < nth_n_classes; i++) {
        (void)printf("\n%-12s", nth_class[i].name);
        for (uint32_t role = 0; role < NANO_ROLES; role++)
            (void)printf(" %10" PRIu64, out->count[role][i]);
    }
    (void)printf("\n%-12s", "allocation");
    for (uint32_t role = 0; role < NANO_ROLES; role++)
        (void)printf(" %10" PRIu64, plan->count[role]);
    (void)printf("\n");
}

/* ---- a job ---- */

static const char *const programs[] = {"cllm-coord", "cllm-worker", "cllm-loader",
                                       "cllm-saver"};

/* The programs and their plan in a directory of this job's own. */
static int make_alloc_bin(const struct campaign *campaign, struct nth_run *run)
{
    char from[1024], to[1024];
    void *at;
    int fd;

    (void)snprintf(run->alloc_bin, sizeof run->alloc_bin, "%.400s/job-%d",
                   campaign->alloc, (int)getpid());
    if (cllm_file_mkdirs(run->alloc_bin) != 0)
        return -EIO;
    for (size_t i = 0; i < CLLM_LEN(programs); i++) {
        (void)snprintf(from, sizeof from, "%s/bin/%s", campaign->alloc, programs[i]);
        (void)snprintf(to, sizeof to, "%s/%s", run->alloc_bin, programs[i]);
        if (link(from, to) != 0)
            return cllm_err(-errno, "cannot link %s to %s", to, from);
    }
    (void)snprintf(to, sizeof to, "%s/" ALLOC_FAIL_FILE, run->alloc_bin);
    fd = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 || ftruncate(fd, sizeof *run->plan) != 0)
        return cllm_err(-errno, "cannot create %s", to);
    at = mmap(NULL, sizeof *run->plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (at == MAP_FAILED)
        return cllm_err(-errno, "cannot map %s", to);
    run->plan = at;
    return 0;
}

static int begin_run(const struct campaign *campaign, struct nth_run *run)
{
    int rc;

    *run = (struct nth_run){0};
    (void)snprintf(run->work, sizeof run->work, "%s/job-%d", campaign->root,
                   (int)getpid());
    (void)snprintf(run->data, sizeof run->data, "%.400s/data", run->work);
    (void)snprintf(run->bin, sizeof run->bin, "%s", campaign->bin);
    rc = cllm_file_mkdirs(run->work);
    if (rc == 0)
        rc = make_alloc_bin(campaign, run);
    return rc == 0 ? nth_run_begin(run) : rc;
}

static void end_run(struct nth_run *run)
{
    if (run->plan)
        (void)munmap(run->plan, sizeof *run->plan);
    (void)cllm_file_remove_tree(run->alloc_bin);
    (void)cllm_file_remove_tree(run->work);
}

static void raise_by(uint64_t *counter, uint64_t by)
{
    (void)__atomic_add_fetch(counter, by, __ATOMIC_RELAXED);
}

static void try_one(struct campaign *campaign, struct nth_run *run,
                    const struct nth_fault *fault)
{
    struct nth_verdict verdict;
    char name[96];

    name_of(fault, name);
    if (!tally_case(&campaign->tally, "%s", name))
        return;
    nth_run_try(run, fault, &verdict);
    raise_by(&campaign->shared->tried, 1);
    raise_by(&campaign->shared->untouched, verdict.untouched);
    raise_by(&campaign->shared->ended, verdict.ended && !verdict.untouched);
    raise_by(&campaign->shared->resumed, verdict.resumed && !verdict.untouched);
    if (verdict.wrong[0] != '\0')
        (void)tally_fail(&campaign->tally, "%s", verdict.wrong);
    else
        campaign->tally.passed++;
}

/* In a child: case after case. */
static int work(struct campaign *campaign)
{
    struct tally *tally = &campaign->tally;
    struct nth_run run;
    int rc = begin_run(campaign, &run);

    while (rc == 0 &&
           (tally->replay ||
            !tally_time_is_up(tally, tally->quick ? QUICK_SECONDS : DEEP_SECONDS))) {
        uint64_t i = __atomic_fetch_add(&campaign->shared->next, 1, __ATOMIC_RELAXED);

        if (i >= campaign->n_cases)
            break;
        try_one(campaign, &run, &campaign->cases[i].fault);
    }
    if (rc != 0)
        (void)tally_fail(tally, "%s", cllm_err_text());
    raise_by(&campaign->shared->passed, tally->passed);
    raise_by(&campaign->shared->failed, tally->failed);
    end_run(&run);
    return 0;
}

/* ---- all ---- */

static int run_jobs(struct campaign *campaign)
{
    uint32_t jobs = campaign->tally.quick ? QUICK_JOBS : DEEP_JOBS;
    int status, rc = 0;

    (void)fflush(stdout);
    for (uint32_t i = 0; i < jobs && rc == 0; i++) {
        pid_t pid = fork();

        if (pid < 0)
            rc = cllm_err(-errno, "cannot start a job");
        if (pid == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            rc = work(campaign);
            (void)fflush(stdout);
            _exit(rc);
        }
    }
    while (waitpid(-1, &status, 0) > 0)
        if (status != 0)
            raise_by(&campaign->shared->failed, 1);
    return rc;
}

static int begin(struct campaign *campaign, const char *program)
{
    const char *tmp = getenv("TMPDIR");
    char build[400];
    char *end;

    if (!realpath(program, campaign->root))
        return cllm_err(-errno, "cannot find %s", program);
    (void)snprintf(build, sizeof build, "%s", campaign->root);
    for (int up = 0; up < 3; up++) { /* BUILD/tests/crash/nth */
        end = strrchr(build, '/');
        if (end)
            *end = '\0';
    }
    (void)snprintf(campaign->bin, sizeof campaign->bin, "%s/bin", build);
    (void)snprintf(campaign->alloc, sizeof campaign->alloc, "%s/alloc", build);
    (void)snprintf(campaign->root, sizeof campaign->root, "%.200s/cllm-nth.XXXXXX",
                   tmp ? tmp : "/tmp");
    if (!mkdtemp(campaign->root))
        return cllm_err(-errno, "cannot create %s", campaign->root);
    campaign->cases = calloc(MOST_CASES, sizeof *campaign->cases);
    campaign->shared = mmap(NULL, sizeof *campaign->shared, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!campaign->cases || campaign->shared == MAP_FAILED)
        return cllm_err(-ENOMEM, "cannot begin");
    return 0;
}

static int count_cases(struct campaign *campaign)
{
    struct nth_outcome out;
    struct nth_run run;
    int rc = begin_run(campaign, &run);

    if (rc == 0)
        rc = nth_run_count(&run, &out);
    if (rc == 0) {
        make_cases(campaign, &out, run.plan);
        print_counts(&out, run.plan);
    }
    end_run(&run);
    return rc;
}

int main(int argc, char **argv)
{
    struct campaign campaign = {0};
    struct tally *tally = &campaign.tally;
    const struct shared *shared;
    int rc;

    tally_begin(
        tally, argc, argv,
        "Runs a small run again and again, each time with another system call or\n"
        "allocation failing. Run it from the root of the tree.");
    campaign.random = tally->seed;
    rc = begin(&campaign, "/proc/self/exe");
    if (rc == 0)
        rc = count_cases(&campaign);
    if (rc == 0)
        rc = run_jobs(&campaign);
    if (rc != 0)
        cllm_err_print(argv[0]);
    shared = campaign.shared;
    if (rc == 0) {
        (void)printf("%" PRIu64 " of %" PRIu64 " cases: %" PRIu64 " untouched, %" PRIu64
                     " went on, %" PRIu64 " stopped and resumed\n",
                     shared->tried, campaign.n_cases, shared->untouched, shared->ended,
                     shared->resumed);
        tally->passed = shared->passed;
        tally->failed = shared->failed;
    }
    if (campaign.root[0] != '\0')
        (void)cllm_file_remove_tree(campaign.root);
    free(campaign.cases);
    return tally_end(tally);
}
