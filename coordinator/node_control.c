/*
 * coordinator/node_control.c - what people ask over the control socket, and the answers.
 *
 * Nothing in here changes a bit of the result: how many workers there are, when they rest
 * and when a checkpoint is written is not part of it. What lasts (workers, pause, stop)
 * stands in the state page, so that a killed Node Zero's successor keeps it.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/units.h"
#include "coordinator/node.h"

#define WISH(nz) (&(nz)->control.state->wishes)

bool cllm_node_pause_wanted(const struct cllm_node *nz)
{
    return (cllm_load_relaxed(WISH(nz)) & CLLM_WISH_PAUSE) != 0;
}

void cllm_node_want_save(struct cllm_node *nz)
{
    nz->save_now = true;
    cllm_store_relaxed(WISH(nz), cllm_load_relaxed(WISH(nz)) | CLLM_WISH_SAVE);
}

void cllm_node_stop(struct cllm_node *nz)
{
    if (nz->ending != CLLM_ENDING_NO)
        return;
    nz->ending = CLLM_ENDING_STEP;
    nz->exit_code = CLLM_EXIT_STOPPED;
}

uint32_t cllm_node_active(const struct cllm_node *nz)
{
    return (uint32_t)cllm_min_u64(nz->team.workers, nz->plan.active);
}

void cllm_node_want_workers(struct cllm_node *nz, uint32_t workers)
{
    cllm_team_want(&nz->team, workers);
    nz->step.workers = cllm_node_active(nz);
    cllm_store_relaxed(&nz->control.state->workers, workers);
    cllm_store_relaxed(&nz->control.state->active, nz->step.workers);
}

/* ---- answers ---- */

/* JSON has no NaN: null. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static double load_f64(const _Atomic uint64_t *bits)
{
    union {
        uint64_t bits;
        double value;
    } word = {.bits = cllm_load_relaxed(bits)};

    return word.value;
}

static uint32_t count_ready(const struct cllm_node *nz)
{
    uint32_t n = 0;

    for (uint32_t slot = 0; slot < cllm_team_loader(&nz->team); slot++)
        n += cllm_team_ready(&nz->team, slot);
    return n;
}

static json_t *answer_status(const struct cllm_node *nz)
{
    const struct cllm_state *state = nz->control.state;
    const struct cllm_geometry *g = &nz->control.header->geometry;
    struct cllm_step_record record;
    bool any = cllm_control_newest_record(&nz->control, &record);
    uint64_t up_ns = cllm_now_ns() - cllm_load_relaxed(&state->started_ns);

    return json_pack(
        "{s:b, s:s, s:s, s:I, s:I, s:s, s:s, s:b, s:o, s:o, s:I, s:o, s:f, s:I, s:i, "
        "s:i, s:i, s:i, s:I, s:I, s:f}",
        "ok", 1, "run", nz->plan.run_id, "dir", nz->plan.run_dir, "step",
        (json_int_t)cllm_node_committed(nz), "steps", (json_int_t)g->steps, "state",
        nz->ending != CLLM_ENDING_NO
            ? cllm_run_state_name(CLLM_RUN_STOPPING)
            : cllm_run_state_name(cllm_load_relaxed(&state->run_state)),
        "phase", cllm_phase_name(cllm_load_relaxed(&state->phase)), "paused",
        (int)cllm_node_pause_wanted(nz), "loss", number(any ? record.loss : (double)NAN),
        "valid", number(any ? record.valid_loss : (double)NAN), "valid_step",
        (json_int_t)(any ? record.valid_step : 0), "best",
        number(any ? record.best_loss : (double)NAN), "tokens_per_s",
        nz->held ? 0.0 : load_f64(&state->tokens_per_s_bits), "saved_step",
        (json_int_t)cllm_load_relaxed(&state->saved_step), "workers",
        (int)nz->team.workers, "workers_ready", (int)count_ready(nz), "worker_slots",
        (int)g->n_worker_slots, "lane_buffers", (int)g->n_buffers, "deaths",
        (json_int_t)cllm_load_relaxed(&state->deaths), "pid",
        (json_int_t)state->node_zero_pid, "up_s", (double)up_ns * 1e-9);
}

static json_t *done(const char *text)
{
    return json_pack("{s:b, s:s}", "ok", 1, "text", text);
}

/* Say what was asked, where the run says what happens to it; and answer the same. */
static json_t *agree(struct cllm_node *nz, const char *text)
{
    char line[200];

    (void)snprintf(line, sizeof line, "as asked: %s", text);
    cllm_node_announce(nz, CLLM_LOG_INFO, line);
    return done(text);
}

static json_t *answer_workers(struct cllm_node *nz, uint64_t workers)
{
    const struct cllm_geometry *g = &nz->control.header->geometry;
    uint32_t before = nz->team.workers;
    char text[160];

    if (workers < 1 || workers + nz->team.spares > g->n_worker_slots)
        return cllm_control_socket_refuse(true,
                                          "this run takes 1 to %u workers, not %" PRIu64,
                                          g->n_worker_slots - nz->team.spares, workers);
    if (workers == before)
        return done("that many workers are wanted already");
    cllm_node_want_workers(nz, (uint32_t)workers);
    (void)snprintf(text, sizeof text, "%u worker%s instead of %u", nz->team.workers,
                   cllm_plural(nz->team.workers), before);
    if (cllm_node_active(nz) > g->n_buffers)
        (void)snprintf(text, sizeof text,
                       "%u workers instead of %u; %u lane buffers let %u of them compute "
                       "at once",
                       nz->team.workers, before, g->n_buffers, g->n_buffers);
    else if (cllm_node_active(nz) < workers)
        (void)snprintf(text, sizeof text,
                       "%u workers instead of %u; in turns, %u at once", nz->team.workers,
                       before, cllm_node_active(nz));
    return agree(nz, text);
}

static json_t *answer_checkpoint(struct cllm_node *nz)
{
    cllm_node_want_save(nz);
    return agree(nz, nz->held ? "checkpoint now" : "checkpoint at the end of this step");
}

static json_t *answer_pause(struct cllm_node *nz)
{
    if (cllm_node_pause_wanted(nz))
        return done(nz->held ? "paused already" : "pausing already");
    cllm_store_relaxed(WISH(nz), cllm_load_relaxed(WISH(nz)) | CLLM_WISH_PAUSE);
    return agree(nz, "pausing at the end of this step");
}

static json_t *answer_resume(struct cllm_node *nz)
{
    if (!cllm_node_pause_wanted(nz))
        return done("not paused");
    cllm_store_relaxed(WISH(nz),
                       cllm_load_relaxed(WISH(nz)) & ~(uint32_t)CLLM_WISH_PAUSE);
    return agree(nz, "going on");
}

static json_t *answer_stop(struct cllm_node *nz)
{
    if (nz->ending != CLLM_ENDING_NO)
        return done("stopping already");
    cllm_store_relaxed(WISH(nz), cllm_load_relaxed(WISH(nz)) | CLLM_WISH_STOP);
    cllm_node_stop(nz);
    return agree(nz,
                 nz->held ? "saving, leaving" : "finishing the step, saving, leaving");
}

json_t *cllm_node_answer(void *ctx, const struct cllm_control_socket_request *request)
{
    struct cllm_node *nz = ctx;

    if (request->command == CLLM_CONTROL_STATUS)
        return answer_status(nz);
    if (request->command == CLLM_CONTROL_STOP)
        return answer_stop(nz);
    if (nz->ending != CLLM_ENDING_NO)
        return cllm_control_socket_refuse(false, "the run is stopping");
    switch (request->command) {
    case CLLM_CONTROL_WORKERS:
        return answer_workers(nz, request->number);
    case CLLM_CONTROL_CHECKPOINT:
        return answer_checkpoint(nz);
    case CLLM_CONTROL_PAUSE:
        return answer_pause(nz);
    case CLLM_CONTROL_RESUME:
        return answer_resume(nz);
    case CLLM_CONTROL_STATUS:
    case CLLM_CONTROL_STOP:
    case CLLM_CONTROL_LAST:
    default:
        return cllm_control_socket_refuse(false, "not done");
    }
}
