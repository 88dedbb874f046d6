/*
 * tests/crash/sim_violation.c - what is printed when a rule is broken: the last events,
 * the tables, and how to see it again.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/crash/sim.h"

/* The tables as they stand. */
static void print_tables(void)
{
    static const char lane_letter[] = "e-adrDFP?";

    (void)printf("step %" PRIu64 " committed, phase %s; lanes ",
                 sim.view.state->committed, cllm_phase_name(sim.view.state->phase));
    for (uint32_t l = 0; l < sim.geometry.lanes; l++)
        (void)putchar(lane_letter[cllm_min_u64(sim.view.lane[l].state, 8)]);
    (void)printf("; chunks ");
    for (uint32_t c = 0; c < sim.geometry.n_chunks; c++)
        (void)putchar("oan?"[cllm_min_u64(sim.view.chunk[c].state, 3)]);
    (void)printf("\n");
    for (uint32_t slot = 0; slot < sim.geometry.n_slots; slot++) {
        const struct cllm_command *command = &sim.view.slots[slot].command;
        const struct sim_process *process = &sim.process[1 + slot];

        (void)printf("slot %u %s, %" PRIu64 " posted, %" PRIu64 " taken, %" PRIu64
                     " answered, filled %" PRIu64 ", %s%s%s%s\n",
                     slot, cllm_slot_state_name(command->state), command->posted,
                     command->reported, process->answered,
                     (uint64_t)sim.view.slots[slot].own.status.filled,
                     process->live ? "lives" : "dead",
                     process->stopped ? ", stopped" : "", process->hung ? ", hangs" : "",
                     process->leaving ? ", leaving" : "");
    }
}

void sim_violation(const char *check, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    sim.failed = check;
    sim_trace_print(40);
    if (sim.have_view)
        print_tables();
    (void)printf("VIOLATION %s: seed %" PRIu64 ", event %" PRIu64 "%s%s: %s\n", check,
                 sim.plan.seed, sim.events, sim.current ? ", " : "",
                 sim.current ? sim_process_name(sim.current) : "", text);
    (void)printf("caught after %" PRIu64 " events in %" PRIu64
                 " runs; again: sim --seed %" PRIu64 " --replay\n",
                 sim.totals.events + sim.events, sim.totals.runs + 1, sim.plan.seed);
    (void)fflush(stdout);
    exit(1);
}
