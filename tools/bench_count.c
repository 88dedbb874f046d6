/*
 * tools/bench_count.c - see tools/bench_count.h.
 *
 * Counters of a slot are raised when a piece of work ends. Moments right after a commit,
 * when no lane is half done, lose next to nothing by that.
 */
#include "tools/bench_count.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"

const char *const cllm_bench_phase_names[CLLM_BENCH_PHASES] = {
    "compute", "eval", "fold", "update", "wait_data", "wait_schedule", "rest"};
const char *const cllm_bench_phase_texts[CLLM_BENCH_PHASES] = {
    "compute", "validation", "fold", "update", "wait for data", "wait for work", "rest"};

/* Nanoseconds that @pid has had a CPU; in clock ticks where the kernel tells no more. */
static uint64_t cpu_ns_of(uint64_t pid)
{
    unsigned long long user = 0, system = 0, ns = 0;
    char path[64], text[1024] = "";
    const char *after;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%" PRIu64 "/schedstat", pid);
    file = fopen(path, "re");
    if (file) {
        int n = fscanf(file, "%llu", &ns);

        (void)fclose(file); /* read only */
        if (n == 1)
            return ns;
    }
    (void)snprintf(path, sizeof path, "/proc/%" PRIu64 "/stat", pid);
    file = fopen(path, "re");
    if (!file)
        return 0;
    (void)fread(text, 1, sizeof text - 1, file); /* nothing read: an empty text */
    (void)fclose(file);                          /* read only */
    after = strrchr(text, ')'); /* the name before it may hold anything */
    if (!after ||
        sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
               &system) != 2)
        return 0;
    return (user + system) * (CLLM_NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

static void add_process(struct cllm_bench_count *count, enum cllm_role role,
                        uint32_t slot, uint64_t pid)
{
    CLLM_ASSERT(count->n_processes < CLLM_BENCH_MAX_PROCESSES);
    count->process[count->n_processes++] = (struct cllm_bench_process){
        .role = role, .slot = slot, .pid = pid, .cpu_ns = pid ? cpu_ns_of(pid) : 0};
}

static void take_worker(struct cllm_bench_count *count, const struct cllm_slot *slot)
{
    const struct cllm_status *status = &slot->own.status;
    uint64_t *ns = count->phase_ns[count->n_workers++];
    uint64_t idle = cllm_load_relaxed(&status->idle_ns);

    ns[CLLM_BENCH_COMPUTE] = cllm_load_relaxed(&status->lane_ns);
    ns[CLLM_BENCH_EVAL] = cllm_load_relaxed(&status->eval_ns);
    ns[CLLM_BENCH_FOLD] = cllm_load_relaxed(&status->fold_ns);
    ns[CLLM_BENCH_UPDATE] = cllm_load_relaxed(&status->update_ns);
    ns[CLLM_BENCH_WAIT_DATA] = cllm_min_u64(slot->command.wait_data_ns, idle);
    ns[CLLM_BENCH_WAIT_SCHEDULE] = idle - ns[CLLM_BENCH_WAIT_DATA];
    count->chunks_folded += cllm_load_relaxed(&status->chunks_folded);
}

void cllm_bench_count_take(struct cllm_bench_count *count,
                           const struct cllm_control *control)
{
    const struct cllm_geometry *g = &control->header->geometry;
    const struct cllm_state *state = control->state;
    uint32_t workers = cllm_load_relaxed(&state->workers);

    *count = (struct cllm_bench_count){
        .ns = cllm_now_ns(),
        .step = cllm_load_acquire(&state->committed), /* pairs with Node Zero's commit */
        .wait_saver_ns = cllm_load_relaxed(&state->wait_saver_ns),
        .deaths = cllm_load_relaxed(&state->deaths)};
    add_process(count, CLLM_ROLE_NONE, CLLM_NONE, state->guardian_pid);
    add_process(count, CLLM_ROLE_NONE, 0, state->node_zero_pid);
    for (uint32_t s = 0; s < g->n_slots; s++) {
        const struct cllm_command *command = &control->slots[s].command;

        if (s < g->n_worker_slots && (s >= workers || s >= CLLM_MAX_WORKERS))
            continue;
        if (command->role == CLLM_ROLE_WORKER)
            take_worker(count, &control->slots[s]);
        if (command->role != CLLM_ROLE_NONE)
            add_process(count, command->role, s, command->pid);
    }
}

int cllm_bench_count_since(struct cllm_bench_count *to,
                           const struct cllm_bench_count *from)
{
    uint64_t span = to->ns - from->ns;

    if (to->deaths != from->deaths || to->n_workers != from->n_workers ||
        to->n_processes != from->n_processes)
        return cllm_err(CLLM_EREFUSED, "a process of the run died while it was measured");
    for (uint32_t w = 0; w < to->n_workers; w++) {
        uint64_t known = 0;

        for (int p = 0; p < CLLM_BENCH_REST; p++) {
            /* Waits for data may be counted later than the idleness that they are. */
            to->phase_ns[w][p] -= cllm_min_u64(from->phase_ns[w][p], to->phase_ns[w][p]);
            known += to->phase_ns[w][p];
        }
        to->phase_ns[w][CLLM_BENCH_REST] = span - cllm_min_u64(known, span);
    }
    for (uint32_t i = 0; i < to->n_processes; i++)
        to->process[i].cpu_ns -=
            cllm_min_u64(from->process[i].cpu_ns, to->process[i].cpu_ns);
    to->chunks_folded -= from->chunks_folded;
    to->wait_saver_ns -= from->wait_saver_ns;
    to->step -= from->step;
    to->ns = span;
    return 0;
}

uint64_t cllm_bench_pss(uint64_t pid)
{
    unsigned long long kib = 0;
    char path[64], line[256];
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%" PRIu64 "/smaps_rollup", pid);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Pss: %llu kB", &kib) == 1)
            break;
    if (file)
        (void)fclose(file); /* read only */
    return kib * 1024;
}
