/*
 * tools/shm_view.c - see tools/shm_view.h.
 *
 * The copy is taken again when a step was committed meanwhile, a few times at most: a
 * picture that is a little torn is better than a tool that waits for a quiet moment.
 */
#include "tools/shm_view.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "shm/chunk.h"
#include "tools/shm_life.h"
#include "tools/shm_slot.h"

#define TRIES 8

/* Processor time of process @pid so far, ns; 0 when it cannot be told. */
static uint64_t processor_ns(uint64_t pid)
{
    char path[64], text[512];
    unsigned long long user, system;
    const char *at;
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof path, "/proc/%" PRIu64 "/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof text - 1);
    (void)close(fd); /* read only */
    text[n > 0 ? n : 0] = '\0';
    at = strrchr(text, ')'); /* the name before it may hold anything */
    if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                      &user, &system) != 2)
        return 0;
    return (user + system) * (CLLM_NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* Length of the UTF-8 sequence at @s, 0 when it is broken, overlong or a surrogate. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
    uint32_t code;
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

    if (s[0] > 0xf4 || n > left)
        return 0;
    code = n > 1 ? s[0] & (0x7fu >> n) : s[0];
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (s[i] & 0x3fu);
    }
    if ((n == 3 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) ||
        (n == 4 && (code < 0x10000 || code > 0x10ffff)))
        return 0;
    return n;
}

void cllm_shm_clean_text(char *to, size_t to_bytes, const char *from, size_t from_bytes)
{
    size_t bytes = strnlen(from, from_bytes), used = 0, i = 0;

    while (i < bytes) {
        const unsigned char *s = (const unsigned char *)from + i;
        size_t n = utf8_length(s, bytes - i);
        /* C0, DEL and C1: a terminal would obey them */
        bool control =
            n == 1 ? s[0] < 0x20 || s[0] == 0x7f : n == 2 && s[0] == 0xc2 && s[1] < 0xa0;
        bool kept = n > 0 && !control;
        size_t out = kept ? n : 1;

        if (used + out >= to_bytes)
            break;
        if (kept)
            memcpy(to + used, s, n);
        else
            to[used] = '?';
        used += out;
        i += n > 0 ? n : 1;
    }
    to[used] = '\0';
}

/* A text of a private copy, made printable in its place. */
static void clean_field(char *field, size_t bytes)
{
    char text[CLLM_PATH_BYTES];

    CLLM_ASSERT(bytes <= sizeof text);
    cllm_shm_clean_text(text, bytes, field, bytes);
    memcpy(field, text, strlen(text) + 1);
}

static double from_bits(uint64_t bits)
{
    double value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static int allocate(struct cllm_shm_view *view)
{
    const struct cllm_geometry *g = &view->header.geometry;

    view->n_lanes = g->lanes;
    view->n_chunks = g->n_chunks;
    view->n_slots = g->n_slots;
    view->lane = calloc(view->n_lanes ? view->n_lanes : 1, sizeof *view->lane);
    view->chunk = calloc(view->n_chunks ? view->n_chunks : 1, sizeof *view->chunk);
    view->slot = aligned_alloc(CLLM_CACHELINE,
                               (view->n_slots ? view->n_slots : 1) * sizeof *view->slot);
    if (!view->lane || !view->chunk || !view->slot)
        return cllm_err(-ENOMEM, "cannot copy the state of run %s", view->id);
    memset(view->slot, 0, view->n_slots * sizeof *view->slot);
    return 0;
}

/* Events whose seq was the same before and after the copy, newest first. */
static void copy_events(struct cllm_shm_view *view, const struct cllm_control *control)
{
    view->n_events = 0;
    for (uint32_t i = 0; i < CLLM_N_EVENTS; i++) {
        const struct cllm_event *from = &control->event[i];
        /* acquire: pairs with the release in cllm_control_event() */
        uint64_t seq = cllm_load_acquire(&from->seq);
        struct cllm_event event;
        uint32_t at;

        memcpy(&event, from, sizeof event);
        cllm_fence_acquire();
        if (seq == 0 || cllm_load_relaxed(&from->seq) != seq)
            continue;
        cllm_store_relaxed(&event.seq, seq);
        clean_field(event.text, sizeof event.text);
        for (at = view->n_events; at > 0; at--) {
            if (cllm_load_relaxed(&view->event[at - 1].seq) > seq)
                break;
            memcpy(&view->event[at], &view->event[at - 1], sizeof event);
        }
        memcpy(&view->event[at], &event, sizeof event);
        view->n_events++;
    }
}

static void copy_once(struct cllm_shm_view *view, const struct cllm_control *control)
{
    memcpy(&view->state, control->state, sizeof view->state);
    memcpy(view->record, control->record, sizeof view->record);
    memcpy(view->lane, control->lane, view->n_lanes * sizeof *view->lane);
    memcpy(view->chunk, control->chunk, view->n_chunks * sizeof *view->chunk);
    for (uint32_t i = 0; i < view->n_slots; i++) {
        memcpy(&view->slot[i].command, &control->slots[i].command,
               sizeof view->slot[i].command);
        memcpy(&view->slot[i].status, &control->slots[i].own.status,
               sizeof view->slot[i].status);
    }
    copy_events(view, control);
}

static void copy_steadily(struct cllm_shm_view *view, const struct cllm_control *control)
{
    view->torn = true;
    for (int i = 0; i < TRIES && view->torn; i++) {
        /* acquire: pairs with the release of Node Zero's commit */
        uint64_t committed = cllm_load_acquire(&control->state->committed);
        uint32_t phase = cllm_load_relaxed(&control->state->phase);

        copy_once(view, control);
        cllm_fence_acquire();
        view->torn = cllm_load_relaxed(&control->state->committed) != committed ||
                     cllm_load_relaxed(&control->state->phase) != phase;
    }
}

static void check_records(struct cllm_shm_view *view)
{
    const struct cllm_step_record *newest;

    view->newest_record = -1;
    for (int i = 0; i < 2; i++) {
        const struct cllm_step_record *record = &view->record[i];

        view->record_valid[i] = record->sum == cllm_step_record_sum(record) &&
                                (record->step & 1) == (uint64_t)i;
        if (view->record_valid[i] &&
            (view->newest_record < 0 ||
             record->step > view->record[view->newest_record].step))
            view->newest_record = i;
    }
    if (view->newest_record < 0)
        return;
    newest = &view->record[view->newest_record];
    view->root_agrees = cllm_chunk_root(view->chunk, view->n_chunks,
                                        (uint32_t)(newest->step & 1)) == newest->root;
}

static void count_states(struct cllm_shm_view *view)
{
    for (uint32_t i = 0; i < view->n_lanes; i++) {
        uint32_t state = view->lane[i].state;

        view->lanes_in[state < CLLM_LANE_LAST ? state : CLLM_LANE_LAST]++;
    }
    for (uint32_t i = 0; i < view->n_chunks; i++) {
        uint32_t state = view->chunk[i].state;

        view->chunks_in[state < CLLM_CHUNK_LAST ? state : CLLM_CHUNK_LAST]++;
    }
}

static void count_workers(struct cllm_shm_view *view)
{
    for (uint32_t i = 0; i < view->n_slots; i++)
        view->n_workers += view->slot[i].command.role == CLLM_ROLE_WORKER &&
                           view->slot[i].command.state != CLLM_SLOT_EMPTY;
}

/* Wall times lie between 1970 and now, whatever a damaged object says: what is computed
 * with them later must not overflow. */
static void clamp_times(struct cllm_shm_view *view)
{
    int64_t now = view->taken_unix_ns, now_s = now / 1000000000;

    for (uint32_t i = 0; i < view->n_events; i++) {
        int64_t *at = &view->event[i].unix_ns;

        *at = *at < 0 ? 0 : *at > now ? now : *at;
    }
    if (view->header.created_unix_s < 0 || view->header.created_unix_s > now_s)
        view->header.created_unix_s = now_s;
    view->heartbeat_age_ns = cllm_min_u64(view->heartbeat_age_ns, (uint64_t)now);
}

/* In doubles: what a damaged page says may be too much for an integer. */
double cllm_shm_time_all(const struct cllm_shm_time *time)
{
    return (double)time->lane + (double)time->fold + (double)time->update +
           (double)time->eval + (double)time->wait_data + (double)time->wait_schedule;
}

static void sum_times(struct cllm_shm_view *view)
{
    for (uint32_t i = 0; i < view->n_slots; i++) {
        const struct cllm_shm_time *its = &view->slot[i].time;

        if (view->slot[i].command.role != CLLM_ROLE_WORKER || !view->slot[i].said_hello)
            continue;
        view->time.lane += its->lane;
        view->time.fold += its->fold;
        view->time.update += its->update;
        view->time.eval += its->eval;
        view->time.wait_data += its->wait_data;
        view->time.wait_schedule += its->wait_schedule;
    }
}

static void derive_times(struct cllm_shm_view *view)
{
    uint64_t started = cllm_load_relaxed(&view->state.started_ns);
    uint64_t heartbeat = cllm_load_relaxed(&view->state.heartbeat_ns);
    uint64_t end = view->life == CLLM_SHM_LIVE ? view->taken_ns : heartbeat;
    double worker_ns;

    view->elapsed_ns = started != 0 && end > started ? end - started : 0;
    worker_ns = (double)view->elapsed_ns * view->n_workers;
    view->wait_data_share =
        worker_ns > 0 ? (double)cllm_load_relaxed(&view->state.wait_data_ns) / worker_ns
                      : -1.0;
    view->node_zero_share =
        view->life == CLLM_SHM_LIVE && view->elapsed_ns > 0
            ? (double)processor_ns(view->pid) / (double)view->elapsed_ns
            : -1.0;
}

static int take_control(struct cllm_shm_view *view, const struct cllm_control *control)
{
    int rc;

    memcpy(&view->header, control->header, sizeof view->header);
    clean_field(view->header.run_id, sizeof view->header.run_id);
    clean_field(view->header.run_dir, sizeof view->header.run_dir);
    clean_field(view->header.boot_id, sizeof view->header.boot_id);
    rc = allocate(view);
    if (rc != 0)
        return rc;
    copy_steadily(view, control);
    view->has_control = true;
    cllm_shm_life_judge(view, control);
    view->loss = from_bits(cllm_load_relaxed(&view->state.loss_bits));
    view->valid_loss = from_bits(cllm_load_relaxed(&view->state.valid_bits));
    view->tokens_per_s = from_bits(cllm_load_relaxed(&view->state.tokens_per_s_bits));
    if (cllm_load_relaxed(&view->state.committed) == 0)
        view->loss = (double)NAN; /* zeroed memory is no loss */
    if (cllm_load_relaxed(&view->state.valid_bits) == 0)
        view->valid_loss = (double)NAN;
    check_records(view);
    count_states(view);
    count_workers(view);
    clamp_times(view);
    derive_times(view);
    for (uint32_t i = 0; i < view->n_slots; i++) {
        clean_field(view->slot[i].command.obituary,
                    sizeof view->slot[i].command.obituary);
        clean_field(view->slot[i].status.kernels, sizeof view->slot[i].status.kernels);
        clean_field(view->slot[i].command.device, sizeof view->slot[i].command.device);
        clean_field(view->slot[i].status.device.name,
                    sizeof view->slot[i].status.device.name);
        clean_field(view->slot[i].status.last_words,
                    sizeof view->slot[i].status.last_words);
        cllm_shm_slot_derive(view, i);
    }
    sum_times(view);
    return 0;
}

/* The maker of a control object that is not finished may still be at work. */
static void judge_half_made(struct cllm_shm_view *view)
{
    char name[CLLM_REGION_NAME_BYTES];
    struct cllm_region region = {0};
    int64_t age_s = view->taken_unix_ns / 1000000000 - view->run->newest_unix_s;
    uint64_t ticks = 0;

    cllm_region_name(name, view->id, "control");
    if (cllm_region_open(&region, name, sizeof(struct cllm_header), CLLM_REGION_READ) ==
        0) {
        const struct cllm_header *header = (const void *)region.base;

        view->pid = header->creator_pid;
        ticks = header->creator_start_ticks;
        cllm_region_close(&region);
    }
    if (ticks != 0 && cllm_process_start_ticks(view->pid) == ticks)
        view->process_state = cllm_shm_process_state(view->pid);
    if (view->process_state != '\0' && view->process_state != 'Z') {
        view->life = CLLM_SHM_STARTING;
        (void)snprintf(view->reason, sizeof view->reason,
                       "process %" PRIu64 " is making it right now", view->pid);
    } else if (ticks == 0 && age_s < CLLM_SHM_YOUNG_S) {
        view->life = CLLM_SHM_STARTING;
        (void)snprintf(view->reason, sizeof view->reason,
                       "made %" PRId64 " s ago and not finished yet", age_s);
    } else {
        view->life = CLLM_SHM_HALF_MADE;
        (void)snprintf(view->reason, sizeof view->reason,
                       "the process that made it ended before it was finished; nothing "
                       "was trained in it; cllm-shm clean %s removes it",
                       view->id);
    }
}

/* A view of nothing yet. */
static void begin(struct cllm_shm_view *view, const struct cllm_shm_run *run)
{
    struct timespec wall;

    *view = (struct cllm_shm_view){.run = run, .newest_record = -1};
    (void)snprintf(view->id, sizeof view->id, "%s", run->id);
    view->loss = view->valid_loss = view->tokens_per_s = (double)NAN;
    view->taken_ns = cllm_now_ns();
    (void)clock_gettime(CLOCK_REALTIME, &wall);
    view->taken_unix_ns = (int64_t)wall.tv_sec * 1000000000 + wall.tv_nsec;
}

int cllm_shm_view_copy(struct cllm_shm_view *view, const struct cllm_shm_run *run,
                       const struct cllm_control *control)
{
    int rc;

    begin(view, run);
    rc = take_control(view, control);
    if (rc != 0)
        cllm_shm_view_fini(view);
    return rc;
}

int cllm_shm_view_take(struct cllm_shm_view *view, const struct cllm_shm_run *run)
{
    enum cllm_attach attach = CLLM_ATTACH_NONE;
    struct cllm_control control;
    int rc = 0;

    begin(view, run);
    if (run->has_control)
        attach = cllm_control_attach(&control, run->id, CLLM_NONE);
    switch (attach) {
    case CLLM_ATTACH_OK:
        rc = take_control(view, &control);
        cllm_control_detach(&control);
        break;
    case CLLM_ATTACH_NOT_YET:
        judge_half_made(view);
        break;
    case CLLM_ATTACH_BAD:
    case CLLM_ATTACH_ERROR:
        view->life = CLLM_SHM_BAD;
        cllm_shm_clean_text(view->reason, sizeof view->reason, cllm_err_text(),
                            sizeof view->reason);
        break;
    case CLLM_ATTACH_NONE:
        view->life = run->has_control ? CLLM_SHM_GONE : CLLM_SHM_LEFTOVER;
        (void)snprintf(view->reason, sizeof view->reason, "%s",
                       run->has_control
                           ? "the run ended a moment ago"
                           : "objects of a run whose control object is gone");
        break;
    }
    if (rc != 0)
        cllm_shm_view_fini(view);
    return rc;
}

void cllm_shm_view_fini(struct cllm_shm_view *view)
{
    free(view->lane);
    free(view->chunk);
    free(view->slot);
    *view = (struct cllm_shm_view){0};
}
