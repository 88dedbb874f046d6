/*
 * tests/crash/sim.c - many runs of the simulator, and what they add up to.
 *
 *   sim [--seed N] [--runs N] [--events N] [--jobs N] [--quick] [--replay]
 *
 * --seed is the first run's; the others follow. --events ends after so many, --runs after
 * so many runs. --jobs shares the events among processes, each with seeds of its own.
 * --replay prints every event of one run.
 */
#include "tests/crash/sim.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define QUICK_EVENTS 40000000
#define JOB_SEEDS    UINT64_C(1000000000)

struct sim sim;

int __real_clock_gettime(clockid_t clock, struct timespec *out);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);

static double wall(void)
{
    struct timespec now;

    (void)__real_clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void print_totals(const struct sim_totals *t, double seconds)
{
    (void)printf("%" PRIu64 " runs, %" PRIu64 " events, %" PRIu64 " crashes (%" PRIu64
                 " of Node Zero, %" PRIu64 " of them while it adopted; %" PRIu64
                 " of everybody), %" PRIu64 " stops and hangs, %" PRIu64
                 " went on later, %" PRIu64 " fault signals\n",
                 t->runs, t->events, t->crashes, t->nz_crashes, t->nested, t->trees,
                 t->stops, t->zombies, t->faults);
    (void)printf("%" PRIu64 " commits, %" PRIu64 " checkpoints, %" PRIu64
                 " reboots, %" PRIu64 " stops by people, %" PRIu64
                 " forks failed, %" PRIu64 " rings lost; 0 violations\n",
                 t->commits, t->saves, t->reboots, t->resumes, t->fork_failures,
                 t->lost_rings);
    (void)printf("%.1f s, %.2f million events a second\n", seconds,
                 (double)t->events / seconds * 1e-6);
}

struct plan {
    uint64_t seed, runs, events;
    uint32_t jobs;
};

static void simulate(const struct plan *plan)
{
    sim.arena = __real_mmap(NULL, SIM_ARENA_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cllm_config_init(&sim.config);
    for (uint64_t i = 0; i < plan->runs && sim.totals.events < plan->events; i++)
        sim_run(plan->seed + i);
}

/* Likewise in @plan->jobs processes; false: one of them has found something. */
static bool simulate_in_jobs(const struct plan *plan)
{
    struct plan part = *plan;
    struct sim_totals *totals =
        __real_mmap(NULL, plan->jobs * sizeof *totals, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool good = totals != MAP_FAILED;
    int status;

    part.events = plan->events / plan->jobs;
    part.runs = plan->runs / plan->jobs;
    (void)fflush(stdout);
    for (uint32_t j = 0; good && j < plan->jobs; j++) {
        pid_t pid = fork();

        good = pid >= 0;
        part.seed = plan->seed + j * JOB_SEEDS;
        if (pid != 0)
            continue;
        simulate(&part);
        totals[j] = sim.totals;
        exit(0);
    }
    while (wait(&status) > 0)
        good &= status == 0;
    for (uint32_t j = 0; good && j < plan->jobs; j++)
        for (size_t i = 0; i < sizeof *totals / sizeof(uint64_t); i++)
            ((uint64_t *)(void *)&sim.totals)[i] +=
                ((const uint64_t *)(const void *)&totals[j])[i];
    return good;
}

static bool parse(struct plan *plan, int argc, char **argv)
{
    static const struct option longopts[] = {{"seed", required_argument, NULL, 's'},
                                             {"runs", required_argument, NULL, 'r'},
                                             {"events", required_argument, NULL, 'e'},
                                             {"jobs", required_argument, NULL, 'j'},
                                             {"quick", no_argument, NULL, 'q'},
                                             {"replay", no_argument, NULL, 'p'},
                                             {NULL, 0, NULL, 0}};
    int opt;

    while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
        switch (opt) {
        case 's':
            plan->seed = strtoull(optarg, NULL, 10);
            break;
        case 'r':
            plan->runs = strtoull(optarg, NULL, 10);
            plan->events = UINT64_MAX;
            break;
        case 'e':
            plan->events = strtoull(optarg, NULL, 10);
            break;
        case 'j':
            plan->jobs = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'q':
            plan->events = QUICK_EVENTS;
            break;
        case 'p':
            sim.verbose = true;
            plan->runs = 1;
            plan->events = UINT64_MAX;
            break;
        default:
            return false;
        }
    }
    return plan->jobs >= 1 && plan->jobs <= 64 && optind == argc;
}

int main(int argc, char **argv)
{
    struct plan plan = {.seed = 1, .runs = UINT64_MAX, .events = QUICK_EVENTS, .jobs = 1};
    double began = wall();
    bool good = true;

    if (!parse(&plan, argc, argv)) {
        (void)fprintf(stderr, "usage: sim [--seed N] [--runs N] [--events N] [--jobs N] "
                              "[--quick] [--replay]\n");
        return 2;
    }
    if (plan.jobs > 1)
        good = simulate_in_jobs(&plan);
    else
        simulate(&plan);
    if (good)
        print_totals(&sim.totals, wall() - began);
    return good ? 0 : 1;
}
