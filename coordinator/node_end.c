/*
 * coordinator/node_end.c - how a run ends: nothing that is committed is lost.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "coordinator/node.h"

#define DISMISS_MS 5000
/* The last save may stand still for so long. */
#define LAST_SAVE_NS (120 * CLLM_NS_PER_S)

void cllm_node_announce(struct cllm_node *nz, enum cllm_log_level level, const char *text)
{
    cllm_log(level, "%s", text);
    cllm_control_event(&nz->control, text);
}

void cllm_node_end(struct cllm_node *nz)
{
    if (nz->ending >= CLLM_ENDING_SAVE)
        return;
    nz->ending = CLLM_ENDING_SAVE;
    nz->save_progress_ns = cllm_now_ns();
    cllm_store_relaxed(&nz->control.state->run_state, CLLM_RUN_STOPPING);
}

void cllm_node_fail(struct cllm_node *nz, int rc)
{
    bool first = nz->reason[0] == '\0';

    (void)snprintf(nz->reason, sizeof nz->reason, "%s", cllm_err_text());
    cllm_log_status("%s", "");
    cllm_err_print("cllm-coord");
    cllm_control_event(&nz->control, nz->reason);
    if (first)
        nz->exit_code = cllm_exit_code(rc);
    /* Whoever keeps dying while the run is being saved will not save it. */
    if (nz->ending == CLLM_ENDING_SAVE && rc == CLLM_EBUDGET)
        nz->ending = CLLM_ENDING_NOW;
    else
        cllm_node_end(nz);
}

void cllm_node_give_up_memory(struct cllm_node *nz)
{
    cllm_node_fail(nz, CLLM_EDATA);
    nz->damaged = true;
    nz->ending = CLLM_ENDING_NOW;
    nz->exit_code = CLLM_EXIT_RELOAD;
}

uint64_t cllm_node_committed(const struct cllm_node *nz)
{
    return cllm_load_relaxed(&nz->control.state->committed);
}

/* Has the saver stood still for too long while everybody waits for it? */
static bool save_stuck(struct cllm_node *nz)
{
    uint64_t now = cllm_now_ns();
    uint64_t progress =
        cllm_load_relaxed(&cllm_node_status(nz, cllm_team_saver(&nz->team))->progress);

    if (progress != nz->save_progress) {
        nz->save_progress = progress;
        nz->save_progress_ns = now;
    }
    return now - nz->save_progress_ns > LAST_SAVE_NS;
}

bool cllm_node_at_end(struct cllm_node *nz)
{
    uint64_t saved = cllm_load_relaxed(&nz->control.state->saved_step);

    if (nz->ending == CLLM_ENDING_NOW)
        return true;
    if (nz->ending != CLLM_ENDING_SAVE)
        return false;
    if (cllm_node_committed(nz) > saved && cllm_saving_idle(&nz->saving) &&
        nz->saving.failures < CLLM_SAVING_FAILURES)
        cllm_saving_request(&nz->saving, cllm_node_committed(nz));
    return cllm_saving_idle(&nz->saving) || save_stuck(nz);
}

/* What is committed is in shared memory alone: it stays there, and people are told. */
static void keep_memory(struct cllm_node *nz, uint64_t saved)
{
    if (nz->exit_code == CLLM_EXIT_OK || nz->exit_code == CLLM_EXIT_STOPPED)
        nz->exit_code = CLLM_EXIT_FAILURE;
    if (nz->saving.failure[0] != '\0')
        cllm_error("%s", nz->saving.failure);
    if (nz->control.region.nameless) {
        cllm_warn("steps %" PRIu64 " to %" PRIu64 " existed in memory alone and are lost "
                  "(memfd, because /dev/shm was too small); --resume computes them again "
                  "from the newest checkpoint",
                  saved + 1, cllm_node_committed(nz));
        return;
    }
    cllm_warn("steps %" PRIu64 " to %" PRIu64
              " exist in shared memory alone, which is kept: "
              "--resume goes on from there, cllm-shm clean %s throws it away",
              saved + 1, cllm_node_committed(nz), nz->plan.run_id);
}

void cllm_node_finish(struct cllm_node *nz)
{
    uint64_t saved = cllm_load_relaxed(&nz->control.state->saved_step);
    bool durable = saved >= cllm_node_committed(nz);
    char line[240];

    cllm_log_status("%s", "");
    cllm_team_dismiss(&nz->team, nz->ending == CLLM_ENDING_NOW ? 0 : DISMISS_MS);
    cllm_progress_summary(&nz->progress, &nz->control, nz->team.workers, cllm_now_ns());
    if (saved > 0) {
        (void)snprintf(line, sizeof line,
                       "checkpoint of step %" PRIu64 " in %.160s/checkpoints", saved,
                       nz->plan.run_dir);
        cllm_node_announce(nz, CLLM_LOG_INFO, line);
    }
    cllm_fault(CLLM_FAULT_node_finish);
    cllm_store_relaxed(&nz->control.state->run_state, CLLM_RUN_ENDED);
    if (durable || nz->damaged)
        cllm_objects_unlink(nz->plan.run_id, &nz->control.header->geometry);
    else
        keep_memory(nz, saved);
}
