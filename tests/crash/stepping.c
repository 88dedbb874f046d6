/*
 * tests/crash/stepping.c - a training step survives a kill at every single instruction.
 *
 * A small run is started and one of its processes goes through one whole step an
 * instruction at a time (tests/crash/step_walk.h). After every instruction that changed
 * what others can see, everything is copied as if all had been killed there, and
 * cllm-coord --resume must end the copy with the bits of the run to which nothing
 * happened: journal, roots and weights.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "tests/crash/step_walk.h"

/* The step that is walked through: with a validation, while a save goes on. */
#define STEP       5
#define END_NS     (240 * CLLM_NS_PER_S)
#define QUICK_MIN  40 /* recoveries of each role, at least */
#define QUICK_MOST 100

#define SETTINGS                                                           \
    "run.lanes=4", "train.batch=4", "train.eval_batch=4", "train.steps=8", \
        "train.eval_every=5", "checkpoint.every=4", "run.restart_limit=1000"
static const char *const deep_settings[] = {SETTINGS, NULL};
static const char *const quick_settings[] = {SETTINGS, "model.width=8", NULL};

/* In the short form about one boundary of so many is resumed. A worker has as many as its
 * vectors are narrow: a thousand with AVX-512, four thousand in plain C. */
static const uint64_t quick_gap[NANO_ROLES] = {
    [NANO_NODE_ZERO] = 7, [NANO_WORKER] = 14, [NANO_LOADER] = 1, [NANO_SAVER] = 2};

struct options {
    char program[CLLM_FILE_PATH_BYTES], bin[CLLM_FILE_PATH_BYTES];
    const char *config, *dir;
    enum nano_role role; /* NANO_ROLES: all */
    uint64_t seed, from, to;
    uint32_t workers, jobs;
    bool quick;
};

static void usage(void)
{
    (void)fputs(
        "Usage: stepping [options]\n\n"
        "Steps processes of a small run through one training step, an instruction at a\n"
        "time, and resumes a copy of the run at every instant at which shared memory\n"
        "or the run's directory changed. Every copy must end with the same bits.\n\n"
        "      --quick        a sample of the instants: a few seconds a role\n"
        "      --role ROLE    node-zero, worker, loader or saver; all without it\n"
        "      --seed N       of what is sampled (default 1)\n"
        "      --from N, --to N\n"
        "                     resume these boundaries only\n"
        "      --workers N    of the run that is stepped (default 2; 1 to step a "
        "worker)\n"
        "      --jobs N       recoveries at a time (default 3)\n"
        "      --config FILE  (default configs/nano.ini)\n"
        "      --bin DIR      programs (default: ../../bin seen from this one)\n"
        "      --dir DIR      work here (default: a new directory in /dev/shm: nothing\n"
        "                     waits for a disk)\n",
        stdout);
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t n;

    errno = 0;
    n = strtoull(text, &end, 10);
    if (errno == 0 && end != text && *end == '\0')
        return n;
    (void)fprintf(stderr, "stepping: %s is no number\n", text);
    exit(CLLM_EXIT_USAGE);
}

static void find_programs(struct options *options)
{
    ssize_t n = readlink("/proc/self/exe", options->program, sizeof options->program - 1);
    char *end;

    if (n > 0)
        options->program[n] = '\0';
    (void)snprintf(options->bin, sizeof options->bin, "%.4000s", options->program);
    for (int up = 0; up < 3; up++) { /* BUILD/tests/crash/stepping */
        end = strrchr(options->bin, '/');
        if (end)
            *end = '\0';
    }
    (void)strncat(options->bin, "/bin", sizeof options->bin - strlen(options->bin) - 1);
}

static void parse(struct options *options, int argc, char **argv)
{
    static const struct option longopts[] = {
        {"quick", no_argument, NULL, 'q'},      {"role", required_argument, NULL, 'r'},
        {"seed", required_argument, NULL, 's'}, {"from", required_argument, NULL, 'f'},
        {"to", required_argument, NULL, 't'},   {"workers", required_argument, NULL, 'n'},
        {"jobs", required_argument, NULL, 'j'}, {"config", required_argument, NULL, 'c'},
        {"bin", required_argument, NULL, 'b'},  {"dir", required_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0},
    };
    int opt;

    while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
        switch (opt) {
        case 'q':
            options->quick = true;
            break;
        case 'r':
            options->role = nano_role_of(optarg);
            if (options->role == NANO_ROLES || options->role == NANO_GUARDIAN) {
                (void)fprintf(stderr, "stepping: no role %s\n", optarg);
                exit(CLLM_EXIT_USAGE);
            }
            break;
        case 's':
            options->seed = number(optarg);
            break;
        case 'f':
            options->from = number(optarg);
            break;
        case 't':
            options->to = number(optarg);
            break;
        case 'n':
            options->workers = (uint32_t)number(optarg);
            break;
        case 'j':
            options->jobs = (uint32_t)number(optarg);
            break;
        case 'c':
            options->config = optarg;
            break;
        case 'b':
            (void)snprintf(options->bin, sizeof options->bin, "%s", optarg);
            break;
        case 'd':
            options->dir = optarg;
            break;
        case 'h':
            usage();
            exit(CLLM_EXIT_OK);
        default:
            exit(CLLM_EXIT_USAGE);
        }
    }
    if (optind == argc && options->jobs >= 1 && options->jobs <= STEP_RECOVERY_JOBS)
        return;
    (void)fprintf(stderr, "stepping: bad usage; try --help\n");
    exit(CLLM_EXIT_USAGE);
}

/* ---- the run to which nothing happens ---- */

static int make_golden(struct step_recovery *recovery, const char *dir)
{
    struct nano_plan plan = recovery->plan;
    struct nano nano;
    int rc;

    plan.dir = dir;
    rc = nano_start(&nano, &plan);
    if (rc != 0)
        return rc;
    if (!nano_ended(&nano, END_NS) || nano_exit_code(&nano) != 0)
        return cllm_err(-EIO, "the undisturbed run failed; %s.log says why", dir);
    rc = nano_bits(dir, recovery->golden);
    nano_remove(&nano);
    return rc;
}

/* ---- report ---- */

static void tell(const struct step_walk *walk, const struct step_recovery *recovery,
                 uint64_t ns)
{
    const struct step_boundaries *boundaries = &walk->boundaries;

    (void)printf("# %s, from step %" PRIu64 " to %" PRIu64 ": %" PRIu64
                 " instructions stepped, %" PRIu64 " changed shared memory, %" PRIu64
                 " boundaries; %" PRIu64 " resumed, %" PRIu64 " known already; %" PRIu64
                 " mismatches\n",
                 nano_role_name(walk->plan.role), walk->committed_from,
                 walk->committed_to, walk->n_instructions, walk->n_changes, boundaries->n,
                 boundaries->n_resumed, boundaries->n_known, recovery->n_bad);
    (void)printf("#   %" PRIu64 " bodies at full speed, %" PRIu64
                 " instants in gradients\n",
                 walk->n_bodies, boundaries->n_samples);
    (void)printf("#   %.1f s; a recovery took %.0f ms, the longest %.0f ms\n#   where:",
                 (double)ns * 1e-9,
                 (double)recovery->total_ns * 1e-6 /
                     (double)cllm_max_u64(recovery->n_done, 1),
                 (double)recovery->longest_ns * 1e-6);
    for (uint32_t i = 0; i < boundaries->n_places; i++)
        (void)printf("%s %s %" PRIu64, i > 0 ? "," : "", boundaries->place[i].name,
                     boundaries->place[i].n);
    (void)printf("\n");
}

/* One role. True when all is well. */
static bool walk_role(const struct options *options, struct step_recovery *recovery,
                      enum nano_role role, const char *base)
{
    bool some = options->from > 1 || options->to < UINT64_MAX;
    bool sampled = options->quick && !some;
    const struct step_walk_plan plan = {
        .role = role,
        /* The loader is three steps ahead, and one must be left for it to fill. */
        .step = role == NANO_LOADER ? STEP - 1 : STEP,
        /* A worker that is alone does all there is to do. */
        .workers = options->workers != 0 ? options->workers
                   : role == NANO_WORKER ? 1
                                         : 2,
        .pick = {.seed = options->seed,
                 .gap = sampled ? quick_gap[role] : 0,
                 .most = sampled ? QUICK_MOST : 0,
                 .from = options->from,
                 .to = options->to}};
    uint64_t began = cllm_now_ns(), least = sampled ? QUICK_MIN : 1;
    struct step_walk *walk = calloc(1, sizeof *walk);
    char dir[CLLM_FILE_PATH_BYTES], again[2 * CLLM_FILE_PATH_BYTES];
    bool good;
    int rc;

    if (!walk)
        return false;
    (void)snprintf(dir, sizeof dir, "%.4000s/%s", base, nano_role_name(role));
    (void)snprintf(again, sizeof again, "%s%s --role %s --seed %" PRIu64,
                   options->program, options->quick ? " --quick" : "",
                   nano_role_name(role), options->seed);
    recovery->role = nano_role_name(role);
    recovery->again = again;
    recovery->n_done = recovery->n_bad = recovery->total_ns = recovery->longest_ns = 0;
    rc = step_walk(walk, &plan, recovery, dir);
    if (rc != 0)
        cllm_err_print("stepping");
    tell(walk, recovery, cllm_now_ns() - began);
    good = rc == 0 && recovery->n_bad == 0 && recovery->n_done >= least;
    (void)printf("%s - the %s may be killed at any instruction: %" PRIu64
                 " states, %" PRIu64 " mismatches\n",
                 good ? "ok" : "not ok", nano_role_name(role), recovery->n_done,
                 recovery->n_bad);
    (void)fflush(stdout);
    free(walk);
    return good;
}

static int run(const struct options *options, const char *base)
{
    char data[CLLM_FILE_PATH_BYTES], golden[CLLM_FILE_PATH_BYTES];
    struct step_recovery *recovery = calloc(1, sizeof *recovery);
    bool good = true;
    int rc;

    if (!recovery)
        return cllm_err(-ENOMEM, "cannot begin");
    (void)snprintf(data, sizeof data, "%.4000s/data", base);
    (void)snprintf(golden, sizeof golden, "%.4000s/golden", base);
    recovery->plan =
        (struct nano_plan){.bin = options->bin,
                           .config = options->config,
                           .data = data,
                           .workers = 1,
                           .set = options->quick ? quick_settings : deep_settings};
    recovery->base = base;
    recovery->n_jobs = options->jobs;
    rc = nano_make_data(options->bin, data);
    if (rc == 0)
        rc = make_golden(recovery, golden);
    for (enum nano_role role = NANO_NODE_ZERO; rc == 0 && role < NANO_ROLES; role++)
        if ((options->role == NANO_ROLES || options->role == role) && !step_interrupted)
            good = walk_role(options, recovery, role, base) && good;
    free(recovery);
    return rc != 0 ? rc : good && !step_interrupted ? 0 : -EBADMSG;
}

/* Asked to end, the walk ends at its next instruction and clears up. */
static void on_signal(int signal)
{
    (void)signal;
    step_interrupted = 1;
}

static void catch_signals(void)
{
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
}

int main(int argc, char **argv)
{
    struct options options = {.config = "configs/nano.ini",
                              .role = NANO_ROLES,
                              .seed = 1,
                              .from = 1,
                              .to = UINT64_MAX,
                              .jobs = 3};
    char base[CLLM_FILE_PATH_BYTES];
    int rc;

    catch_signals();
    find_programs(&options);
    parse(&options, argc, argv);
    (void)snprintf(base, sizeof base, "%.4000s/stepping.XXXXXX",
                   options.dir ? options.dir : "/dev/shm");
    if (!mkdtemp(base)) {
        (void)fprintf(stderr, "stepping: cannot make %s: %s\n", base, strerror(errno));
        return CLLM_EXIT_FAILURE;
    }
    rc = run(&options, base);
    if (rc != 0 && rc != -EBADMSG)
        cllm_err_print("stepping");
    if (rc == 0 || step_interrupted) {
        (void)cllm_file_remove_tree(base);
        return rc == 0 ? CLLM_EXIT_OK : CLLM_EXIT_INTERRUPTED;
    }
    (void)printf("# what is left to look at: %s\n", base);
    return CLLM_EXIT_FAILURE;
}
