/*
 * tests/crash/sim_trace.c - the last events of a run, in words.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/crash/sim.h"

#define KEPT 64

int __real_snprintf(char *out, size_t n, const char *fmt, ...) CLLM_PRINTF(3, 4);
void *__real_memcpy(void *to, const void *from, size_t n);

static struct {
    struct entry {
        uint64_t event, off, value, now_ns;
        enum sim_event_kind kind;
        uint32_t role, pid, slot, generation;
        const char *text;
        char copy[96];
    } entry[KEPT];
    uint64_t n;
} self;

static const char *const kind_name[] = {"store", "load",  "turn",  "does", "KILL", "STOP",
                                        "GO ON", "FAULT", "START", "END",  "says"};

void sim_trace_reset(void)
{
    self.n = 0;
}

/* ---- an address in words ---- */

struct field {
    uint64_t off, bytes;
    const char *name;
};

#define FIELD(type, member)                                                        \
    {                                                                              \
        offsetof(struct type, member), sizeof(((struct type *)0)->member), #member \
    }

static const char *field_of(const struct field *field, uint32_t n, uint64_t off)
{
    for (uint32_t i = 0; i < n; i++)
        if (off >= field[i].off && off < field[i].off + field[i].bytes)
            return field[i].name;
    return "?";
}

static void name_slot(uint64_t in, char *out, size_t n)
{
    static const struct field command[] = {
        FIELD(cllm_command, role),       FIELD(cllm_command, state),
        FIELD(cllm_command, generation), FIELD(cllm_command, pid),
        FIELD(cllm_command, deaths),     FIELD(cllm_command, posted),
        FIELD(cllm_command, reported),   FIELD(cllm_command, since_ns),
        FIELD(cllm_command, obituary),
    };
    static const struct field status[] = {
        FIELD(cllm_status, hello_generation), FIELD(cllm_status, progress),
        FIELD(cllm_status, filled),           FIELD(cllm_status, eval_ready),
        FIELD(cllm_status, saving_step),      FIELD(cllm_status, holds_version),
        FIELD(cllm_status, last_words),
    };
    uint64_t slot = in / sizeof(struct cllm_slot);

    in %= sizeof(struct cllm_slot);
    if (in >= offsetof(struct cllm_slot, own.report)) {
        in -= offsetof(struct cllm_slot, own.report);
        (void)__real_snprintf(
            out, n, "slot %u report[%u]%s", (unsigned)slot,
            (unsigned)(in / sizeof(struct cllm_report)),
            in % sizeof(struct cllm_report) == offsetof(struct cllm_report, seq) ? ".seq"
                                                                                 : "");
    } else if (in >= offsetof(struct cllm_slot, own)) {
        (void)__real_snprintf(
            out, n, "slot %u status.%s", (unsigned)slot,
            field_of(status, CLLM_LEN(status), in - offsetof(struct cllm_slot, own)));
    } else if (in >= offsetof(struct cllm_slot, command.assignment)) {
        in -= offsetof(struct cllm_slot, command.assignment);
        (void)__real_snprintf(out, n, "slot %u assignment[%u]%s", (unsigned)slot,
                              (unsigned)(in / sizeof(struct cllm_assignment)),
                              in % sizeof(struct cllm_assignment) ==
                                      offsetof(struct cllm_assignment, seq)
                                  ? ".seq"
                                  : "");
    } else {
        (void)__real_snprintf(out, n, "slot %u command.%s", (unsigned)slot,
                              field_of(command, CLLM_LEN(command), in));
    }
}

static void name_control(uint64_t rel, char *out, size_t n)
{
    static const struct field state[] = {
        FIELD(cllm_state, committed),     FIELD(cllm_state, run_state),
        FIELD(cllm_state, phase),         FIELD(cllm_state, heartbeat_ns),
        FIELD(cllm_state, saved_step),    FIELD(cllm_state, deaths),
        FIELD(cllm_state, folded),        FIELD(cllm_state, hurry_version),
        FIELD(cllm_state, lanes_redone),  FIELD(cllm_state, workers),
        FIELD(cllm_state, wait_saver_ns), FIELD(cllm_state, wait_data_ns),
        FIELD(cllm_state, wishes),        FIELD(cllm_state, lanes_of),
        FIELD(cllm_state, lanes_late),
    };
    static const struct field lane[] = {
        FIELD(cllm_lane, state),       FIELD(cllm_lane, slot),
        FIELD(cllm_lane, generation),  FIELD(cllm_lane, buffer),
        FIELD(cllm_lane, seq),         FIELD(cllm_lane, loss),
        FIELD(cllm_lane, tokens),      FIELD(cllm_lane, grad_sum),
        FIELD(cllm_lane, crashes),     FIELD(cllm_lane, opinion),
        FIELD(cllm_lane, n_opinions),  FIELD(cllm_lane, sum),
        FIELD(cllm_lane, assigned_ns), FIELD(cllm_lane, audited),
    };
    static const struct field chunk[] = {
        FIELD(cllm_chunk, state),       FIELD(cllm_chunk, slot), FIELD(cllm_chunk, seq),
        FIELD(cllm_chunk, sum_squares), FIELD(cllm_chunk, sum),  FIELD(cllm_chunk, check),
    };
    const struct cllm_header *h = sim.view.header;

    if (!h || rel < CLLM_PAGE)
        (void)__real_snprintf(out, n, "header + %u", (unsigned)rel);
    else if (rel >= h->slots_off && rel < h->config_off)
        name_slot(rel - h->slots_off, out, n);
    else if (rel >= h->chunks_off && rel < h->events_off)
        (void)__real_snprintf(
            out, n, "chunk %u .%s",
            (unsigned)((rel - h->chunks_off) / sizeof(struct cllm_chunk)),
            field_of(chunk, CLLM_LEN(chunk),
                     (rel - h->chunks_off) % sizeof(struct cllm_chunk)));
    else if (rel >= h->lanes_off && rel < h->chunks_off)
        (void)__real_snprintf(out, n, "lane %u .%s",
                              (unsigned)((rel - h->lanes_off) / sizeof(struct cllm_lane)),
                              field_of(lane, CLLM_LEN(lane),
                                       (rel - h->lanes_off) % sizeof(struct cllm_lane)));
    else if (rel >= h->records_off && rel < h->lanes_off)
        (void)__real_snprintf(
            out, n, "record[%u] + %u",
            (unsigned)((rel - h->records_off) / sizeof(struct cllm_step_record)),
            (unsigned)((rel - h->records_off) % sizeof(struct cllm_step_record)));
    else if (rel >= h->state_off && rel < h->records_off)
        (void)__real_snprintf(out, n, "state.%s",
                              field_of(state, CLLM_LEN(state), rel - h->state_off));
    else
        (void)__real_snprintf(out, n, "control + %u", (unsigned)rel);
}

static void name_address(uint64_t off, char *out, size_t n)
{
    static const char *const part[] = {"?", "control", "params", "lane", "fold", "ring"};
    const struct sim_object *object = sim_object_at(off);

    if (object->kind == SIM_OBJECT_CONTROL)
        name_control(off - object->off, out, n);
    else
        (void)__real_snprintf(out, n, "%s%u + %u", part[object->kind], object->index,
                              (unsigned)(off - object->off));
}

/* ---- lines ---- */

static void print_entry(const struct entry *e)
{
    static const char *const role[] = {"node zero", "worker", "loader", "saver"};
    char who[48], what[160] = "";

    (void)__real_snprintf(who, sizeof who, "%s %u.%u", role[e->role],
                          e->role == SIM_NODE_ZERO ? e->pid : e->slot, e->generation);
    if (e->kind == SIM_STORE)
        name_address(e->off, what, sizeof what);
    else
        (void)__real_snprintf(what, sizeof what, "%s %" PRIu64,
                              e->text ? e->text : e->copy, e->value);
    (void)printf("%9" PRIu64 " %10.3f ms  %-14s %-6s %s\n", e->event,
                 (double)e->now_ns * 1e-6, who, kind_name[e->kind], what);
}

void sim_trace(enum sim_event_kind kind, const struct sim_process *process, uint64_t off,
               uint64_t value, const char *text)
{
    struct entry *e = &self.entry[self.n++ % KEPT];

    e->event = sim.events;
    e->now_ns = sim.now_ns;
    e->off = off;
    e->value = value;
    e->kind = kind;
    e->role = process ? (uint32_t)process->role : 0;
    e->pid = process ? process->pid : 0;
    e->slot = process ? process->slot : 0;
    e->generation = process ? process->generation : 0;
    e->text = text;
    if (kind == SIM_NOTE) {
        e->text = NULL;
        (void)__real_snprintf(e->copy, sizeof e->copy, "%s", text ? text : "");
    } else if (!text) {
        e->text = "";
    }
    if (sim.verbose)
        print_entry(e);
}

void sim_trace_print(uint32_t n)
{
    uint64_t from = self.n > n ? self.n - n : 0;

    if (sim.verbose)
        return;
    for (uint64_t i = from; i < self.n; i++)
        print_entry(&self.entry[i % KEPT]);
}
