/*
 * tests/crash/sim.c - many runs of the simulator, and what they add up to.
 *
 *   crash_sim [--seed N] [--runs N] [--events N] [--quick] [--replay]
 *
 * --seed is the first run's; the others follow. --events ends after so many. --replay
 * prints every event of one run.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/crash/sim.h"

struct sim sim;

int __real_clock_gettime(clockid_t clock, struct timespec *out);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);

static double wall(void)
{
    struct timespec now;

    (void)__real_clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void print_totals(double seconds)
{
    const struct sim_totals *t = &sim.totals;

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

int main(int argc, char **argv)
{
    static const struct option longopts[] = {
        {"seed", required_argument, NULL, 's'}, {"runs", required_argument, NULL, 'r'},
        {"events", required_argument, NULL, 'e'}, {"quick", no_argument, NULL, 'q'},
        {"replay", no_argument, NULL, 'p'},     {NULL, 0, NULL, 0}};
    uint64_t seed = 1, runs = UINT64_MAX, events = 2000000;
    double began = wall();
    int opt;

    while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
        switch (opt) {
        case 's':
            seed = strtoull(optarg, NULL, 10);
            break;
        case 'r':
            runs = strtoull(optarg, NULL, 10);
            events = UINT64_MAX;
            break;
        case 'e':
            events = strtoull(optarg, NULL, 10);
            break;
        case 'q':
            events = 8000000;
            break;
        case 'p':
            sim.verbose = true;
            runs = 1;
            break;
        default:
            return 2;
        }
    }
    sim.arena = __real_mmap(NULL, SIM_ARENA_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cllm_config_init(&sim.config);
    for (uint64_t i = 0; i < runs && sim.totals.events < events; i++)
        (void)sim_run(seed + i);
    print_totals(wall() - began);
    return 0;
}
