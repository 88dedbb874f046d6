/*
 * tools/shm_text.c - see tools/shm_text.h.
 *
 * Written for a stranger who finds a dead run: first what has become of it and what to
 * do, then how far it is, then who does what, then what happened last.
 */
#include "tools/shm_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/units.h"
#include "shm/takeover.h"
#include "tools/shm_life.h"
#include "tools/shm_slot.h"

#define LANES_IN_CELLS 48 /* more lanes than this are shown as counts */
#define CELLS_IN_LINE  24
#define SLOT_LINES     20 /* more workers than this: only those worth a line */
#define EVENT_LINES    8

/* A loss, or "-" when there is none yet. */
static const char *loss_text(char out[24], double loss)
{
    if (isfinite(loss))
        (void)snprintf(out, 24, "%.4f", loss);
    else
        (void)snprintf(out, 24, "%s", isnan(loss) ? "-" : "infinite");
    return out;
}

static const char *count_of(char out[CLLM_UNITS_BYTES], double n)
{
    return cllm_format_count(out, n >= 0 && n < 1e18 ? (uint64_t)n : 0);
}

/* Age of the run: since its control object was made. */
static uint64_t age_ns(const struct cllm_shm_view *view)
{
    int64_t since =
        view->has_control ? view->header.created_unix_s : view->run->newest_unix_s;
    int64_t age_s = view->taken_unix_ns / 1000000000 - since;

    return age_s > 0 && age_s < INT32_MAX ? (uint64_t)age_s * CLLM_NS_PER_S : 0;
}

const char *cllm_shm_text_bar(char *out, uint32_t width, double share)
{
    double filled = share > 0 ? share * width + 0.5 : 0.0;

    out[0] = '[';
    for (uint32_t i = 0; i < width; i++)
        out[i + 1] = (double)(i + 1) <= filled ? '#' : '.';
    out[width + 1] = ']';
    out[width + 2] = '\0';
    return out;
}

const char *cllm_shm_text_lane(char out[CLLM_SHM_CELL], const struct cllm_lane *lane)
{
    static const char letter[] = {
        [CLLM_LANE_EMPTY] = '.',    [CLLM_LANE_READY] = 'R',
        [CLLM_LANE_ASSIGNED] = 'a', [CLLM_LANE_DUPLICATED] = '2',
        [CLLM_LANE_RECHECK] = '?',  [CLLM_LANE_DONE] = 'D',
        [CLLM_LANE_FOLDED] = 'F',   [CLLM_LANE_POISONED] = 'X',
    };
    static_assert(sizeof letter == CLLM_LANE_LAST, "a letter for every lane state");

    if (lane->state == CLLM_LANE_ASSIGNED)
        (void)snprintf(out, CLLM_SHM_CELL, "a%u", lane->slot);
    else
        (void)snprintf(out, CLLM_SHM_CELL, "%c",
                       lane->state < CLLM_LANE_LAST ? letter[lane->state] : '!');
    return out;
}

/* Append to @out, which has @bytes; silently cut. */
static void append(char *out, size_t bytes, const char *fmt, ...) CLLM_PRINTF(3, 4);
static void append(char *out, size_t bytes, const char *fmt, ...)
{
    size_t used = strlen(out);
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(out + used, bytes - used, fmt, args);
    va_end(args);
}

void cllm_shm_text_lane_counts(char *out, size_t bytes, const struct cllm_shm_view *view)
{
    static const uint32_t order[] = {
        CLLM_LANE_FOLDED,     CLLM_LANE_DONE,     CLLM_LANE_ASSIGNED,
        CLLM_LANE_DUPLICATED, CLLM_LANE_RECHECK,  CLLM_LANE_READY,
        CLLM_LANE_EMPTY,      CLLM_LANE_POISONED, CLLM_LANE_LAST};

    out[0] = '\0';
    for (size_t i = 0; i < CLLM_LEN(order); i++)
        if (view->lanes_in[order[i]] > 0)
            append(out, bytes, "%s%u %s", out[0] ? ", " : "", view->lanes_in[order[i]],
                   cllm_lane_state_name(order[i]));
}

static void list_row(FILE *out, const struct cllm_shm_view *view)
{
    char bytes[CLLM_UNITS_BYTES], age[CLLM_UNITS_BYTES], steps[48] = "-",
                                                         workers[16] = "-";

    if (view->has_control) {
        (void)snprintf(steps, sizeof steps, "%" PRIu64 "/%" PRIu64,
                       cllm_load_relaxed(&view->state.committed),
                       view->header.geometry.steps);
        (void)snprintf(workers, sizeof workers, "%u", view->n_workers);
    }
    (void)fprintf(out, "%-20s %-10s %13s %7s %9s %7s  %s\n", view->id,
                  cllm_shm_life_name(view->life), steps, workers,
                  cllm_format_bytes(bytes, view->run->bytes),
                  cllm_format_duration(age, age_ns(view)),
                  view->has_control ? view->header.run_dir : view->reason);
}

void cllm_shm_text_list(FILE *out, const struct cllm_shm_view *views, uint32_t n_views)
{
    if (n_views == 0) {
        (void)fprintf(out, "no run is in shared memory\n");
        return;
    }
    (void)fprintf(out, "%-20s %-10s %13s %7s %9s %7s  %s\n", "RUN", "STATE", "STEP",
                  "WORKERS", "MEMORY", "AGE", "DIRECTORY");
    for (uint32_t i = 0; i < n_views; i++)
        list_row(out, &views[i]);
}

static void show_head(FILE *out, const struct cllm_shm_view *view)
{
    const struct cllm_geometry *g = &view->header.geometry;
    char age[CLLM_UNITS_BYTES], beat[CLLM_UNITS_BYTES], params[CLLM_UNITS_BYTES];

    (void)fprintf(out, "run %s: %s", view->id, cllm_shm_life_name(view->life));
    if (view->has_control && view->life != CLLM_SHM_STARTING)
        (void)fprintf(out, cllm_shm_life_headless(view) ? " (was %s)" : ", %s",
                      cllm_run_state_name(cllm_load_relaxed(&view->state.run_state)));
    (void)fprintf(out, "%s\n", view->torn ? " (busy: parts may be of two moments)" : "");
    cllm_shm_text_trouble(out, view);
    if (!view->has_control)
        return;
    (void)fprintf(out, "  directory  %s\n", view->header.run_dir);
    (void)fprintf(out,
                  "  Node Zero  process %" PRIu64
                  ", generation %u, heartbeat %s ago, run "
                  "made %s ago",
                  view->pid, cllm_load_relaxed(&view->state.node_zero_generation),
                  cllm_format_duration(beat, view->heartbeat_age_ns),
                  cllm_format_duration(age, age_ns(view)));
    if (view->node_zero_share >= 0)
        (void)fprintf(out, ", %.2f %% of a processor", 100.0 * view->node_zero_share);
    (void)fprintf(out, "\n");
    (void)fprintf(out,
                  "  model      %s parameters: %u layer%s, width %u, %u head%s, context "
                  "%u, vocabulary %u\n",
                  cllm_format_count(params, g->n_params), g->model.layers,
                  cllm_plural(g->model.layers), g->model.width, g->model.heads,
                  cllm_plural(g->model.heads), g->model.context, g->model.vocab);
    (void)fprintf(
        out,
        "  batch      %u lane%s x %u micro-batch%s x %u sequence%s; seed %" PRIu64 "\n",
        g->lanes, cllm_plural(g->lanes), g->microbatches, cllm_plural_es(g->microbatches),
        g->sequences, cllm_plural(g->sequences), g->seed);
}

static void show_progress(FILE *out, const struct cllm_shm_view *view)
{
    const struct cllm_state *state = &view->state;
    uint64_t step = cllm_load_relaxed(&state->committed);
    uint64_t steps = view->header.geometry.steps;
    uint64_t saved = cllm_load_relaxed(&state->saved_step);
    double share = steps ? (double)step / (double)steps : 0.0;
    char bar[32], a[24], b[24], c[24], units[CLLM_UNITS_BYTES], more[CLLM_UNITS_BYTES];
    char spent[CLLM_SHM_TIME];
    const struct cllm_step_record *newest =
        view->newest_record >= 0 ? &view->record[view->newest_record] : NULL;

    (void)fprintf(out, "\nprogress     step %" PRIu64 " of %" PRIu64 "  %s %.0f %%", step,
                  steps, cllm_shm_text_bar(bar, 20, share), 100.0 * share);
    if (view->life == CLLM_SHM_LIVE &&
        cllm_load_relaxed(&state->run_state) != CLLM_RUN_PAUSED)
        (void)fprintf(out, "  %s tokens/s  ETA %s", count_of(units, view->tokens_per_s),
                      cllm_format_duration(more, cllm_load_relaxed(&state->eta_ns)));
    (void)fprintf(out, "\n  loss       %s, validation %s", loss_text(a, view->loss),
                  loss_text(b, view->valid_loss));
    if (isfinite(view->valid_loss))
        (void)fprintf(out, " at step %" PRIu64, cllm_load_relaxed(&state->valid_step));
    if (newest && isfinite(newest->best_loss))
        (void)fprintf(out, ", best %s at step %" PRIu64, loss_text(c, newest->best_loss),
                      newest->best_step);
    if (saved > 0)
        (void)fprintf(out, "\n  on disk    checkpoint of step %" PRIu64 "\n", saved);
    else
        (void)fprintf(out, "\n  on disk    no checkpoint yet\n");
    if (cllm_shm_time_text(spent, &view->time)[0] != '\0')
        (void)fprintf(out, "  time       %s\n", spent);
    (void)fprintf(out, "  waits      workers for data %.1f ms",
                  (double)cllm_load_relaxed(&state->wait_data_ns) / 1e6);
    if (view->wait_data_share >= 0)
        (void)fprintf(out, " (%.2f %% of their time)", 100.0 * view->wait_data_share);
    (void)fprintf(out, ", updates for the saver %s\n",
                  cllm_format_duration(units, cllm_load_relaxed(&state->wait_saver_ns)));
    (void)fprintf(out,
                  "  deaths     %" PRIu64
                  " of child processes; lanes computed again: %" PRIu64 "\n",
                  cllm_load_relaxed(&state->deaths),
                  cllm_load_relaxed(&state->lanes_redone));
    if (cllm_load_relaxed(&state->mixed) != 0)
        (void)fprintf(out,
                      "  bits       this run's own: workers' numbers differ, and who "
                      "computes what is chance\n");
}

static void show_lane_cells(FILE *out, const struct cllm_shm_view *view)
{
    char cell[CLLM_SHM_CELL], counts[160];

    if (view->n_lanes > LANES_IN_CELLS) {
        cllm_shm_text_lane_counts(counts, sizeof counts, view);
        (void)fprintf(out, "  lanes      %s\n", counts);
        return;
    }
    for (uint32_t i = 0; i < view->n_lanes; i++) {
        if (i % CELLS_IN_LINE == 0)
            (void)fprintf(out, "%s  %-10s", i ? "\n" : "", i ? "" : "lanes");
        (void)fprintf(out, " %s", cllm_shm_text_lane(cell, &view->lane[i]));
    }
    (void)fprintf(out, "\n             F folded  D done  aN at slot N  R ready  "
                       ". waits for data  X poisoned\n");
}

static void show_step(FILE *out, const struct cllm_shm_view *view)
{
    uint64_t committed = cllm_load_relaxed(&view->state.committed);
    uint32_t phase = cllm_load_relaxed(&view->state.phase);

    (void)fprintf(
        out, "\nstep %" PRIu64 "%s %s; %u of %u lanes are in the fold\n", committed + 1,
        cllm_shm_life_headless(view) ? " was in phase" : ":", cllm_phase_name(phase),
        cllm_folded_lanes(cllm_load_relaxed(&view->state.folded)), view->n_lanes);
    show_lane_cells(out, view);
    (void)fprintf(out, "  chunks     %u: %u old, %u assigned, %u new\n", view->n_chunks,
                  view->chunks_in[CLLM_CHUNK_OLD], view->chunks_in[CLLM_CHUNK_ASSIGNED],
                  view->chunks_in[CLLM_CHUNK_NEW]);
}

/* Not the empty slots, nor of many workers those that do well. */
static bool worth_a_line(const struct cllm_shm_view *view, uint32_t slot)
{
    const struct cllm_command *command = &view->slot[slot].command;

    if (command->deaths > 0 || command->role != CLLM_ROLE_WORKER)
        return true;
    if (command->state == CLLM_SLOT_EMPTY)
        return false;
    return view->n_workers <= SLOT_LINES || slot < SLOT_LINES / 2 ||
           (command->state != CLLM_SLOT_IDLE && command->state != CLLM_SLOT_BUSY);
}

/* A duration, out of what a worker says of its device. */
static const char *time_of(char out[CLLM_UNITS_BYTES], const _Atomic uint64_t *ns)
{
    return cllm_format_duration(out, cllm_load_relaxed(ns));
}

/* How it started, and with a profile how busy its queues have been since. */
static void show_device_times(FILE *out, const struct cllm_device_status *device)
{
    char warm[CLLM_UNITS_BYTES], programs[CLLM_UNITS_BYTES];
    char kernels[CLLM_UNITS_BYTES], copies[CLLM_UNITS_BYTES], both[CLLM_UNITS_BYTES];

    (void)fprintf(out,
                  "         warm after %s, %s of it for programs: %" PRIu64
                  " compiled, %" PRIu64 " out of the cache\n",
                  time_of(warm, &device->warm_ns), time_of(programs, &device->program_ns),
                  cllm_load_relaxed(&device->builds), cllm_load_relaxed(&device->loads));
    if (cllm_load_relaxed(&device->kernel_ns) > 0)
        (void)fprintf(out, "         kernels ran for %s, transfers for %s, both for %s\n",
                      time_of(kernels, &device->kernel_ns),
                      time_of(copies, &device->copy_ns),
                      time_of(both, &device->overlap_ns));
}

/* A worker's device, and what has gone up and down since everything was warm. */
static void show_device(FILE *out, const struct cllm_shm_slot *slot)
{
    const struct cllm_device_status *device = &slot->status.device;
    char up[CLLM_UNITS_BYTES], down[CLLM_UNITS_BYTES], has[CLLM_UNITS_BYTES];

    if (slot->command.device_lost != 0)
        (void)fprintf(out, "       lost its device: the processor computes here now\n");
    if (slot->command.device[0] == '\0')
        return;
    (void)fprintf(out, "       device %s%s%s: %s up, %s down, %" PRIu64 " launches\n",
                  slot->command.device, device->name[0] != '\0' ? ", " : "", device->name,
                  cllm_format_bytes(up, cllm_load_relaxed(&device->up_bytes)),
                  cllm_format_bytes(down, cllm_load_relaxed(&device->down_bytes)),
                  cllm_load_relaxed(&device->launches));
    (void)fprintf(out,
                  "         buffers of %s; since it is warm %" PRIu64 " wanted, %" PRIu64
                  " reused, %" PRIu64 " made\n",
                  cllm_format_bytes(has, cllm_load_relaxed(&device->buffer_bytes)),
                  cllm_load_relaxed(&device->acquires), cllm_load_relaxed(&device->hits),
                  cllm_load_relaxed(&device->creates));
    show_device_times(out, device);
}

static void show_slot(FILE *out, const struct cllm_shm_view *view, uint32_t i)
{
    const struct cllm_shm_slot *slot = &view->slot[i];
    const struct cllm_command *command = &slot->command;
    char busy[16] = "-", done[CLLM_SHM_DOING];

    if (slot->busy_share >= 0)
        (void)snprintf(busy, sizeof busy, "%.0f %%", 100.0 * slot->busy_share);
    cllm_shm_slot_done(done, slot);
    (void)fprintf(out, "  %4u %-7s%-9s%8u%4u%7u %9s %6s  %s\n", i,
                  cllm_role_name(command->role), cllm_shm_slot_state(slot), command->pid,
                  cllm_load_relaxed(&command->generation), command->deaths, done, busy,
                  slot->doing);
    show_device(out, slot);
    if (command->obituary[0] != '\0')
        (void)fprintf(out, "       last death: %s\n", command->obituary);
    if (slot->status.last_words[0] != '\0')
        (void)fprintf(out, "       last words: %s\n", slot->status.last_words);
}

static void show_slots(FILE *out, const struct cllm_shm_view *view)
{
    uint32_t hidden = 0, empty = 0;

    (void)fprintf(out, "\n  %4s %-7s%-9s%8s%4s%7s %9s %6s  %s\n", "slot", "role", "state",
                  "pid", "gen", "deaths", "done", "busy",
                  cllm_shm_life_headless(view) ? "was doing" : "does");
    for (uint32_t i = 0; i < view->n_slots; i++) {
        if (worth_a_line(view, i))
            show_slot(out, view, i);
        else if (view->slot[i].command.state == CLLM_SLOT_EMPTY)
            empty++;
        else
            hidden++;
    }
    if (hidden > 0)
        (void)fprintf(out, "       and %u more worker%s, idle or busy, that never died\n",
                      hidden, cllm_plural(hidden));
    if (empty > 0)
        (void)fprintf(out, "       and %u empty slot%s for more workers\n", empty,
                      cllm_plural(empty));
}

static void show_records(FILE *out, const struct cllm_shm_view *view)
{
    char loss[24];

    (void)fprintf(out, "\nrecords      the newer valid one counts\n");
    for (int i = 0; i < 2; i++) {
        const struct cllm_step_record *record = &view->record[i];

        if (!view->record_valid[i]) {
            (void)fprintf(out, "  [%d]        not valid%s\n", i,
                          record->sum == 0 ? ": never written" : ": half written");
            continue;
        }
        (void)fprintf(out,
                      "  [%d]        step %" PRIu64 ", root %016" PRIx64 ", loss %s%s\n",
                      i, record->step, record->root, loss_text(loss, record->loss),
                      i != view->newest_record ? ""
                      : view->root_agrees      ? "  <- newest, agrees with the chunks"
                                               : "  <- newest, the chunks say OTHERWISE");
    }
}

/* Length of a part's name without the number at its end: "lane12" -> 4. */
static size_t stem(const char *part)
{
    size_t n = strlen(part);

    while (n > 0 && part[n - 1] >= '0' && part[n - 1] <= '9')
        n--;
    return n;
}

static void show_memory(FILE *out, const struct cllm_shm_view *view)
{
    const struct cllm_shm_run *run = view->run;
    char bytes[CLLM_UNITS_BYTES];
    uint32_t i = 0;

    (void)fprintf(out, "\nmemory       %s in %u object%s, /dev/shm/cllm-...-%s-*\n ",
                  cllm_format_bytes(bytes, run->bytes), run->n_objects,
                  cllm_plural(run->n_objects), run->id);
    while (i < run->n_objects) {
        const struct cllm_shm_object *first = &run->object[i];
        const char *part = first->name + first->part_off;
        uint32_t n = 1;

        while (i + n < run->n_objects && first[n].bytes == first->bytes &&
               stem(part) == stem(first[n].name + first[n].part_off) &&
               strncmp(part, first[n].name + first[n].part_off, stem(part)) == 0)
            n++;
        (void)cllm_format_bytes(bytes, first->bytes);
        if (n == 1)
            (void)fprintf(out, "  %s %s", part, bytes);
        else
            (void)fprintf(out, "  %s..%s %u x %s", part,
                          first[n - 1].name + first[n - 1].part_off + stem(part), n,
                          bytes);
        i += n;
    }
    (void)fprintf(out, "\n");
}

static void show_events(FILE *out, const struct cllm_shm_view *view)
{
    char age[CLLM_UNITS_BYTES];

    (void)fprintf(out, "\nlast events\n");
    if (view->n_events == 0)
        (void)fprintf(out, "  none\n");
    for (uint32_t i = 0; i < view->n_events && i < EVENT_LINES; i++) {
        int64_t ns = view->taken_unix_ns - view->event[i].unix_ns;

        (void)fprintf(out, "  %7s ago  %s\n",
                      cllm_format_duration(age, ns > 0 ? (uint64_t)ns : 0),
                      view->event[i].text);
    }
}

void cllm_shm_text_show(FILE *out, const struct cllm_shm_view *view)
{
    show_head(out, view);
    if (view->has_control) {
        show_progress(out, view);
        show_step(out, view);
        show_slots(out, view);
        show_records(out, view);
    }
    show_memory(out, view);
    if (view->has_control)
        show_events(out, view);
}
