/*
 * coordinator/node_end.c - how a run ends: nothing that is committed is lost.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "coordinator/node.h"

#define DISMISS_MS 5000
#define LAST_SAVE_NS \
    (120 * CLLM_NS_PER_S) /* a run that ends in error waits so long for it */

void cllm_node_announce(struct cllm_node *nz, enum cllm_log_level level, const char *text)
{
    cllm_log(level, "%s", text);
    cllm_control_event(&nz->control, text);
}

void cllm_node_fail(struct cllm_node *nz, int rc)
{
    if (nz->ending >= CLLM_ENDING_SAVE)
        return;
    (void)snprintf(nz->reason, sizeof nz->reason, "%s", cllm_err_text());
    cllm_log_status("%s", "");
    cllm_err_print("cllm-coord");
    cllm_control_event(&nz->control, nz->reason);
    nz->ending = CLLM_ENDING_SAVE;
    nz->ending_ns = cllm_now_ns();
    nz->exit_code = cllm_exit_code(rc);
}

uint64_t cllm_node_committed(const struct cllm_node *nz)
{
    return cllm_load_relaxed(&nz->control.state->committed);
}

bool cllm_node_at_end(struct cllm_node *nz)
{
    uint64_t saved = cllm_load_relaxed(&nz->control.state->saved_step);

    if (nz->ending == CLLM_ENDING_NOW)
        return true;
    if (nz->ending != CLLM_ENDING_SAVE)
        return false;
    if (cllm_node_committed(nz) > saved && cllm_saving_idle(&nz->saving) &&
        nz->saving.failures < 3)
        cllm_saving_request(&nz->saving, cllm_node_committed(nz));
    if (cllm_saving_idle(&nz->saving))
        return true;
    return nz->reason[0] != '\0' && cllm_now_ns() - nz->ending_ns > LAST_SAVE_NS;
}

void cllm_node_finish(struct cllm_node *nz)
{
    uint64_t saved = cllm_load_relaxed(&nz->control.state->saved_step);
    bool durable = saved >= cllm_node_committed(nz);
    char line[240];

    cllm_log_status("%s", "");
    cllm_team_dismiss(&nz->team, nz->ending == CLLM_ENDING_NOW ? 0 : DISMISS_MS);
    if (nz->progress.began_ns != 0)
        cllm_progress_summary(&nz->progress, &nz->control, &nz->step.record,
                              nz->team.workers, cllm_now_ns());
    if (durable && saved > 0)
        (void)snprintf(line, sizeof line, "step %" PRIu64 " is in %.160s/checkpoints",
                       saved, nz->plan.run_dir);
    else
        (void)snprintf(line, sizeof line, "step %" PRIu64 " is the newest checkpoint",
                       saved);
    cllm_node_announce(nz, CLLM_LOG_INFO, line);
    cllm_store_relaxed(&nz->control.state->run_state, CLLM_RUN_ENDED);
    if (durable || nz->ending == CLLM_ENDING_NOW) {
        cllm_objects_unlink(nz->plan.run_id, &nz->control.header->geometry);
        return;
    }
    cllm_warn("steps %" PRIu64 " to %" PRIu64
              " exist in shared memory alone: it is kept; "
              "--resume goes on from it",
              saved + 1, cllm_node_committed(nz));
}
