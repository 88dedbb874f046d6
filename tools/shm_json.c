/*
 * tools/shm_json.c - see tools/shm_json.h.
 */
#include "tools/shm_json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/err.h"
#include "shm/takeover.h"

/* json_object_set_new() takes the value over, also when it fails; a failure is out of
 * memory, and a missing key then says less than a crash would destroy. */
static void set(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value ? value : json_null());
}

/* JSON integers are signed here; counters beyond that are nonsense anyway. */
static void set_u64(json_t *object, const char *key, uint64_t value)
{
    set(object, key, value <= INT64_MAX ? json_integer((json_int_t)value) : json_null());
}

static void set_f64(json_t *object, const char *key, double value)
{
    set(object, key, isfinite(value) ? json_real(value) : json_null());
}

static void set_text(json_t *object, const char *key, const char *text)
{
    set(object, key, json_string(text));
}

static void set_hash(json_t *object, const char *key, uint64_t hash)
{
    char text[17];

    (void)snprintf(text, sizeof text, "%016" PRIx64, hash);
    set_text(object, key, text);
}

/* What every answer about one run begins with. */
static json_t *run_json(const struct cllm_shm_view *view)
{
    json_t *run = json_object();

    set_text(run, "run", view->id);
    set_text(run, "life", cllm_shm_life_name(view->life));
    set_text(run, "reason", view->reason);
    set_u64(run, "bytes", view->run->bytes);
    set_u64(run, "objects", view->run->n_objects);
    set_u64(run, "pid", view->pid);
    if (!view->has_control)
        return run;
    set_text(run, "directory", view->header.run_dir);
    set_text(run, "run_state",
             cllm_run_state_name(cllm_load_relaxed(&view->state.run_state)));
    set_text(run, "phase", cllm_phase_name(cllm_load_relaxed(&view->state.phase)));
    set(run, "created_unix_s", json_integer(view->header.created_unix_s));
    set_u64(run, "heartbeat_age_ns", view->heartbeat_age_ns);
    set_u64(run, "committed", cllm_load_relaxed(&view->state.committed));
    set_u64(run, "steps", view->header.geometry.steps);
    set_u64(run, "workers", view->n_workers);
    return run;
}

static json_t *geometry_json(const struct cllm_geometry *g)
{
    json_t *out = json_object();

    set(out, "arch", json_string(cllm_arch_names[g->model.arch % CLLM_N_ARCHS]));
    set_u64(out, "vocab", g->model.vocab);
    set_u64(out, "context", g->model.context);
    set_u64(out, "layers", g->model.layers);
    set_u64(out, "heads", g->model.heads);
    set_u64(out, "kv_heads", g->model.kv_heads);
    set_u64(out, "width", g->model.width);
    set_u64(out, "hidden", g->model.hidden);
    set_u64(out, "n_params", g->n_params);
    set_u64(out, "n_elements", g->n_elements);
    set_u64(out, "lanes", g->lanes);
    set_u64(out, "microbatches", g->microbatches);
    set_u64(out, "sequences", g->sequences);
    set_u64(out, "eval_microbatches", g->eval_microbatches);
    set_u64(out, "steps", g->steps);
    set(out, "seed", json_integer((json_int_t)g->seed));
    set_u64(out, "chunk_elements", g->chunk_elements);
    set_u64(out, "n_chunks", g->n_chunks);
    set_u64(out, "n_groups", g->n_groups);
    set_u64(out, "n_buffers", g->n_buffers);
    set_u64(out, "n_folds", g->n_folds);
    set_u64(out, "ring_steps", g->ring_steps);
    set_u64(out, "ring_slots", g->ring_slots);
    set_u64(out, "ring_eval_slots", g->ring_eval_slots);
    return out;
}

static json_t *time_json(const struct cllm_shm_time *time)
{
    json_t *out = json_object();

    set_u64(out, "lane_ns", time->lane);
    set_u64(out, "fold_ns", time->fold);
    set_u64(out, "update_ns", time->update);
    set_u64(out, "eval_ns", time->eval);
    set_u64(out, "wait_data_ns", time->wait_data);
    set_u64(out, "wait_schedule_ns", time->wait_schedule);
    return out;
}

static json_t *progress_json(const struct cllm_shm_view *view)
{
    const struct cllm_state *state = &view->state;
    json_t *out = json_object();

    set_f64(out, "loss", view->loss);
    set_f64(out, "valid_loss", view->valid_loss);
    set_u64(out, "valid_step", cllm_load_relaxed(&state->valid_step));
    set_f64(out, "tokens_per_s", view->tokens_per_s);
    set_u64(out, "eta_ns", cllm_load_relaxed(&state->eta_ns));
    set_u64(out, "elapsed_ns", view->elapsed_ns);
    set_u64(out, "saved_step", cllm_load_relaxed(&state->saved_step));
    set_u64(out, "deaths", cllm_load_relaxed(&state->deaths));
    set_u64(out, "lanes_redone", cllm_load_relaxed(&state->lanes_redone));
    set(out, "mixed", json_boolean(cllm_load_relaxed(&state->mixed) != 0));
    set_u64(out, "folded_lanes", cllm_folded_lanes(cllm_load_relaxed(&state->folded)));
    set_u64(out, "wait_data_ns", cllm_load_relaxed(&state->wait_data_ns));
    set_f64(out, "wait_data_share",
            view->wait_data_share >= 0 ? view->wait_data_share : (double)NAN);
    set_u64(out, "wait_saver_ns", cllm_load_relaxed(&state->wait_saver_ns));
    set(out, "time", time_json(&view->time));
    set_f64(out, "node_zero_share",
            view->node_zero_share >= 0 ? view->node_zero_share : (double)NAN);
    return out;
}

/* Of a worker with a device: what it is, and counters since everything was warm. */
static json_t *device_json(const struct cllm_shm_slot *slot)
{
    const struct cllm_device_status *device = &slot->status.device;
    json_t *out = json_object();

    set_text(out, "device", slot->command.device);
    set_text(out, "name", device->name);
    set_u64(out, "up_bytes", cllm_load_relaxed(&device->up_bytes));
    set_u64(out, "down_bytes", cllm_load_relaxed(&device->down_bytes));
    set_u64(out, "launches", cllm_load_relaxed(&device->launches));
    set_u64(out, "buffer_acquires", cllm_load_relaxed(&device->acquires));
    set_u64(out, "buffer_hits", cllm_load_relaxed(&device->hits));
    set_u64(out, "buffer_creates", cllm_load_relaxed(&device->creates));
    set_u64(out, "buffer_bytes", cllm_load_relaxed(&device->buffer_bytes));
    set_u64(out, "weights_put", cllm_load_relaxed(&device->weights_put));
    set_u64(out, "program_builds", cllm_load_relaxed(&device->builds));
    set_u64(out, "program_loads", cllm_load_relaxed(&device->loads));
    set_u64(out, "program_ns", cllm_load_relaxed(&device->program_ns));
    set_u64(out, "warm_ns", cllm_load_relaxed(&device->warm_ns));
    set_u64(out, "kernel_ns", cllm_load_relaxed(&device->kernel_ns));
    set_u64(out, "copy_ns", cllm_load_relaxed(&device->copy_ns));
    set_u64(out, "overlap_ns", cllm_load_relaxed(&device->overlap_ns));
    return out;
}

static json_t *slot_json(const struct cllm_shm_slot *slot, uint32_t index)
{
    const struct cllm_command *command = &slot->command;
    const struct cllm_status *status = &slot->status;
    json_t *out = json_object();

    set_u64(out, "slot", index);
    set_text(out, "role", cllm_role_name(command->role));
    set_text(out, "state", cllm_slot_state_name(command->state));
    set_u64(out, "pid", command->pid);
    set_u64(out, "generation", cllm_load_relaxed(&command->generation));
    set_u64(out, "deaths", command->deaths);
    set_text(out, "doing", slot->doing);
    set_text(out, "obituary", command->obituary);
    set_text(out, "last_words", status->last_words);
    set(out, "gone", json_boolean(slot->gone));
    set(out, "hello", json_boolean(slot->said_hello));
    set_text(out, "kernels", status->kernels);
    set_u64(out, "progress", cllm_load_relaxed(&status->progress));
    set_u64(out, "lanes_done", cllm_load_relaxed(&status->lanes_done));
    set_u64(out, "chunks_folded", cllm_load_relaxed(&status->chunks_folded));
    set_u64(out, "chunks_updated", cllm_load_relaxed(&status->chunks_updated));
    set_u64(out, "evals_done", cllm_load_relaxed(&status->evals_done));
    set_u64(out, "busy_ns", slot->busy_ns);
    set_u64(out, "idle_ns", cllm_load_relaxed(&status->idle_ns));
    set_u64(out, "wait_data_ns", command->wait_data_ns);
    if (command->role == CLLM_ROLE_WORKER) {
        set_f64(out, "busy_share",
                slot->busy_share >= 0 ? slot->busy_share : (double)NAN);
        set(out, "time", time_json(&slot->time));
    }
    if (command->device[0] != '\0')
        set(out, "device", device_json(slot));
    if (command->device_lost != 0)
        set(out, "device_lost", json_true());
    set_u64(out, "filled", cllm_load_relaxed(&status->filled));
    set_u64(out, "read_bytes", cllm_load_relaxed(&status->read_bytes));
    set_u64(out, "saved_bytes", cllm_load_relaxed(&status->saved_bytes));
    return out;
}

static json_t *record_json(const struct cllm_shm_view *view, int i)
{
    const struct cllm_step_record *record = &view->record[i];
    json_t *out = json_object();

    set(out, "valid", json_boolean(view->record_valid[i]));
    set(out, "newest", json_boolean(i == view->newest_record));
    if (!view->record_valid[i])
        return out;
    set_u64(out, "step", record->step);
    set_hash(out, "root", record->root);
    set_u64(out, "tokens", record->tokens);
    set_u64(out, "cursor", record->cursor);
    set_f64(out, "loss", record->loss);
    set_f64(out, "grad_norm", record->grad_norm);
    set_f64(out, "valid_loss", record->valid_loss);
    set_f64(out, "best_loss", record->best_loss);
    set_u64(out, "best_step", record->best_step);
    if (i == view->newest_record)
        set(out, "root_agrees", json_boolean(view->root_agrees));
    return out;
}

json_t *cllm_shm_json_list(const struct cllm_shm_view *views, uint32_t n_views)
{
    json_t *out = json_object(), *runs = json_array();

    for (uint32_t i = 0; i < n_views; i++)
        (void)json_array_append_new(runs, run_json(&views[i]));
    set(out, "runs", runs);
    return out;
}

/* The parts of "show" that need a control object that can be read. */
static void add_control(json_t *out, const struct cllm_shm_view *view)
{
    json_t *lanes = json_object(), *chunks = json_object(), *slots = json_array(),
           *records = json_array(), *events = json_array();

    set(out, "torn", json_boolean(view->torn));
    set_u64(out, "node_zero_generation",
            cllm_load_relaxed(&view->state.node_zero_generation));
    set(out, "geometry", geometry_json(&view->header.geometry));
    set(out, "progress", progress_json(view));
    for (uint32_t i = 0; i < CLLM_LANE_LAST; i++)
        set_u64(lanes, cllm_lane_state_name(i), view->lanes_in[i]);
    for (uint32_t i = 0; i < CLLM_CHUNK_LAST; i++)
        set_u64(chunks, cllm_chunk_state_name(i), view->chunks_in[i]);
    for (uint32_t i = 0; i < view->n_slots; i++)
        (void)json_array_append_new(slots, slot_json(&view->slot[i], i));
    for (int i = 0; i < 2; i++)
        (void)json_array_append_new(records, record_json(view, i));
    for (uint32_t i = 0; i < view->n_events; i++) {
        json_t *event = json_object();

        set_u64(event, "seq", cllm_load_relaxed(&view->event[i].seq));
        set(event, "unix_ns", json_integer(view->event[i].unix_ns));
        set_text(event, "text", view->event[i].text);
        (void)json_array_append_new(events, event);
    }
    set(out, "lanes_in_state", lanes);
    set(out, "chunks_in_state", chunks);
    set(out, "slots", slots);
    set(out, "records", records);
    set(out, "events", events);
}

json_t *cllm_shm_json_show(const struct cllm_shm_view *view)
{
    json_t *out = run_json(view), *memory = json_array();

    for (uint32_t i = 0; i < view->run->n_objects; i++) {
        json_t *object = json_object();

        set_text(object, "name", view->run->object[i].name);
        set_u64(object, "bytes", view->run->object[i].bytes);
        (void)json_array_append_new(memory, object);
    }
    set(out, "memory", memory);
    if (view->has_control)
        add_control(out, view);
    return out;
}

static json_t *lane_json(const struct cllm_lane *lane, uint32_t index)
{
    json_t *out = json_object();

    set_u64(out, "lane", index);
    set_text(out, "state", cllm_lane_state_name(lane->state));
    if (lane->state == CLLM_LANE_ASSIGNED || lane->state == CLLM_LANE_DUPLICATED ||
        lane->state == CLLM_LANE_DONE) {
        set_u64(out, "slot", lane->slot);
        set_u64(out, "generation", lane->generation);
        set_u64(out, "buffer", lane->buffer);
        set_u64(out, "seq", lane->seq);
    }
    if (lane->state == CLLM_LANE_DONE || lane->state == CLLM_LANE_FOLDED) {
        set_f64(out, "loss_sum", lane->loss);
        set_u64(out, "tokens", lane->tokens);
        set_hash(out, "grad_sum", lane->grad_sum);
    }
    set_u64(out, "crashes", lane->crashes);
    return out;
}

static json_t *chunk_json(const struct cllm_chunk *chunk, uint32_t index)
{
    json_t *out = json_object();

    set_u64(out, "chunk", index);
    set_text(out, "state", cllm_chunk_state_name(chunk->state));
    if (chunk->state == CLLM_CHUNK_ASSIGNED)
        set_u64(out, "slot", chunk->slot);
    set_f64(out, "sum_squares", chunk->sum_squares);
    set_hash(out, "sum_0", chunk->sum[0]);
    set_hash(out, "sum_1", chunk->sum[1]);
    return out;
}

json_t *cllm_shm_json_lanes(const struct cllm_shm_view *view, bool chunks)
{
    json_t *out = run_json(view), *lane_rows = json_array(), *chunk_rows;

    for (uint32_t i = 0; i < view->n_lanes; i++)
        (void)json_array_append_new(lane_rows, lane_json(&view->lane[i], i));
    set(out, "lanes", lane_rows);
    if (!chunks)
        return out;
    chunk_rows = json_array();
    for (uint32_t i = 0; i < view->n_chunks; i++)
        (void)json_array_append_new(chunk_rows, chunk_json(&view->chunk[i], i));
    set(out, "chunks", chunk_rows);
    return out;
}

json_t *cllm_shm_json_ring(const struct cllm_shm_view *view,
                           const struct cllm_shm_ring *ring)
{
    json_t *out = run_json(view), *rows = json_array();

    for (uint32_t i = 0; i < ring->n_rows; i++) {
        const struct cllm_shm_ring_row *from = &ring->row[i];
        json_t *row = json_object();

        set_u64(row, "slot", i);
        set_text(row, "state", cllm_shm_batch_name(from->state));
        set(row, "validation", json_boolean(from->validation));
        if (from->state != CLLM_SHM_BATCH_EMPTY) {
            set_u64(row, "batch", from->batch);
            set_u64(row, "lane", from->lane);
            set_u64(row, "microbatch", from->microbatch);
            set_u64(row, "generation", from->generation);
            if (!from->validation)
                set_u64(row, "step", from->step);
        }
        (void)json_array_append_new(rows, row);
    }
    set(out, "ring", rows);
    for (uint32_t i = 0; i < view->n_slots; i++)
        if (view->slot[i].command.role == CLLM_ROLE_LOADER)
            set(out, "loader", slot_json(&view->slot[i], i));
    return out;
}

int cllm_shm_json_print(json_t *json)
{
    int rc = json ? cllm_json_write(json, STDOUT_FILENO, "standard output")
                  : cllm_err(-ENOMEM, "cannot make the JSON text");

    json_decref(json);
    return rc;
}
