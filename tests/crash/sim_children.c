/*
 * tests/crash/sim_children.c - what coordinator/children.h promises, of processes that
 * are coroutines.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "coordinator/children.h"
#include "tests/crash/sim.h"

static const char *argument(char *const argv[], const char *name)
{
    for (uint32_t i = 0; argv[i]; i++)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return NULL;
}

int cllm_process_spawn(struct cllm_process *process, const char *path, char *const argv[],
                       const struct cllm_spawn *how)
{
    const char *slot = argument(argv, "--slot"),
               *generation = argument(argv, "--generation");
    struct sim_process *child;

    (void)how;
    sim_message("fork", 0);
    if (!sim.quiet && sim_chance(sim.plan.fork_failures)) {
        sim.totals.fork_failures++;
        return cllm_err(-EAGAIN, "cannot start %s", path);
    }
    CLLM_ASSERT(slot && generation);
    child = &sim.process[1 + strtoul(slot, NULL, 10)];
    if (child->exists)
        sim_violation("processes", "slot %s has a process already: %s, %s", slot,
                      sim_process_name(child), child->live ? "alive" : "not reaped");
    child->role = strstr(path, "cllm-worker")   ? SIM_WORKER
                  : strstr(path, "cllm-loader") ? SIM_LOADER
                                                : SIM_SAVER;
    child->slot = (uint32_t)strtoul(slot, NULL, 10);
    child->generation = (uint32_t)strtoul(generation, NULL, 10);
    child->pid = sim.next_pid++;
    child->parent = sim.current->pid;
    child->argc = 0;
    for (uint32_t i = 0; i < CLLM_LEN(child->args) && argv[i]; i++) {
        (void)snprintf(child->args[i], sizeof child->args[i], "%s", argv[i]);
        child->argv[i] = child->args[i];
        child->argc++;
    }
    child->argv[child->argc] = NULL;
    sim_spawn(child);
    process->pid = (pid_t)child->pid;
    process->pidfd = SIM_FD_PROCESS + (int)child->pid;
    return 0;
}

void cllm_process_pin(const struct cllm_process *process, const cpu_set_t *cpus)
{
    (void)process; /* speed is not simulated */
    (void)cpus;
}

void cllm_process_signal(const struct cllm_process *process, int signal)
{
    struct sim_process *child = sim_by_pid((uint32_t)process->pid);

    sim_message("signal", (uint64_t)signal);
    if (!child || !child->live)
        return;
    if (signal == SIGCONT)
        sim_continue(child);
    else if (signal != 0)
        sim_end(child, signal, 0);
}

bool cllm_process_stopped(struct cllm_process *process)
{
    struct sim_process *child = sim_by_pid((uint32_t)process->pid);

    if (child && child->stop_news) {
        child->stop_news = false;
        process->stopped = child->stopped;
    }
    return process->stopped;
}

bool cllm_process_usage(const struct cllm_process *process, struct cllm_usage *usage)
{
    const struct sim_process *child = sim_by_pid((uint32_t)process->pid);

    if (!child)
        return false;
    *usage = (struct cllm_usage){.state = !child->live     ? 'Z'
                                          : child->stopped ? 'T'
                                          : child->hung    ? (child->spinning ? 'R' : 'S')
                                          : child->asleep  ? 'S'
                                                           : 'R',
                                 .cpu_ns = child->cpu_ns};
    if (child->hung && child->spinning)
        usage->cpu_ns += sim.now_ns - child->stop_since_ns;
    return true;
}

void cllm_process_reap(struct cllm_process *process, struct cllm_ending *ending)
{
    struct sim_process *child = sim_by_pid((uint32_t)process->pid);

    CLLM_ASSERT(child && !child->live);
    *ending =
        (struct cllm_ending){.by_signal = child->end_signal, .code = child->end_code};
    ending->fault = child->end_signal && child->end_code != SIGKILL;
    (void)snprintf(ending->text, sizeof ending->text, "ended %d", child->end_code);
    child->exists = false;
    *process = (struct cllm_process){.pidfd = -1};
}

bool cllm_process_reap_orphans(void)
{
    return false; /* the simulator has no guardian */
}

void cllm_process_expect_children(void)
{
}

bool cllm_process_ended(const struct cllm_process *process, int timeout_ms)
{
    const struct sim_process *child = sim_by_pid((uint32_t)process->pid);
    uint64_t until =
        timeout_ms < 0 ? SIM_FOREVER : sim.now_ns + (uint64_t)timeout_ms * CLLM_NS_PER_MS;

    while (child && child->exists && child->live && sim.now_ns < until)
        sim_sleep(until);
    return !child || !child->live;
}

const char *cllm_signal_name(int signal, char out[16])
{
    (void)snprintf(out, 16, "signal %d", signal);
    return out;
}

int cllm_binary_directory(char *out, size_t bytes)
{
    (void)snprintf(out, bytes, "/sim");
    return 0;
}
