/*
 * coordinator/saving.c - due, posted, saved.
 */
#include "coordinator/saving.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/units.h"
#include "shm/slot.h"

#define RETRY_NS        (10 * CLLM_NS_PER_S) /* after a failure; doubles */
#define RETRY_DOUBLINGS 5

void cllm_saving_init(struct cllm_saving *saving, struct cllm_control *control,
                      uint32_t slot)
{
    *saving = (struct cllm_saving){.control = control, .slot = slot};
}

void cllm_saving_request(struct cllm_saving *saving, uint64_t step)
{
    CLLM_ASSERT(saving->due[step & 1] == 0 || saving->due[step & 1] == step);
    saving->due[step & 1] = step;
    cllm_fault(CLLM_FAULT_saving_due);
}

static const struct cllm_status *status_of(const struct cllm_saving *saving)
{
    return &saving->control->slots[saving->slot].own.status;
}

/* The older of the two that are due; 0 = none. */
static uint64_t next_due(const struct cllm_saving *saving)
{
    uint64_t a = saving->due[0], b = saving->due[1];

    if (a == 0 || b == 0)
        return a | b;
    return cllm_min_u64(a, b);
}

void cllm_saving_tend(struct cllm_saving *saving, bool ready)
{
    uint64_t step = next_due(saving);
    const struct cllm_assignment work = {.kind = CLLM_WORK_SAVE,
                                         .step = step,
                                         .version = (uint32_t)(step & 1),
                                         .lane = CLLM_NONE,
                                         .buffer = CLLM_NONE};

    if (step == 0 || saving->posted != 0 || !ready ||
        cllm_slot_outstanding(saving->control, saving->slot) > 0)
        return;
    saving->due[step & 1] = 0;
    saving->posted = step;
    (void)cllm_slot_post(saving->control, saving->slot, &work);
    cllm_fault(CLLM_FAULT_saving_posted);
}

bool cllm_saving_pins(const struct cllm_saving *saving, uint32_t version)
{
    const struct cllm_status *status = status_of(saving);

    if (saving->due[version] != 0)
        return true;
    if (saving->posted == 0 || (saving->posted & 1) != version)
        return false;
    /*
     * The saver stores holds_version before saving_step, so that saving_step with nothing
     * held means that it has read all. acquire: pairs with its release.
     */
    return cllm_load_acquire(&status->saving_step) != saving->posted ||
           cllm_load_acquire(&status->holds_version) != 0;
}

void cllm_saving_hurry(struct cllm_saving *saving, uint32_t version)
{
    if (saving->hurry_since == 0) {
        saving->hurry_since = cllm_now_ns();
        cllm_store_relaxed(&saving->control->state->hurry_version, version + 1);
        cllm_fault(CLLM_FAULT_saving_hurry);
    }
}

void cllm_saving_hurry_over(struct cllm_saving *saving)
{
    if (saving->hurry_since == 0)
        return;
    (void)atomic_fetch_add_explicit(&saving->control->state->wait_saver_ns,
                                    cllm_now_ns() - saving->hurry_since,
                                    memory_order_relaxed);
    saving->hurry_since = 0;
    cllm_store_relaxed(&saving->control->state->hurry_version, 0);
}

void cllm_saving_take(struct cllm_saving *saving, const struct cllm_report *report)
{
    const struct cllm_status *status = status_of(saving);
    char took[CLLM_UNITS_BYTES], line[240];
    uint64_t step = saving->posted;
    uint64_t wait_ns;

    saving->posted = 0;
    if (!(report->flags & CLLM_REPORT_FAILED)) {
        saving->failures = 0;
        cllm_fault(CLLM_FAULT_saving_taken);
        cllm_store_relaxed(&saving->control->state->saved_step, step);
        cllm_fault(CLLM_FAULT_saving_stored);
        (void)snprintf(line, sizeof line,
                       "checkpoint of step %" PRIu64 " is durable (%s)", step,
                       cllm_format_duration(took, report->busy_ns));
        cllm_debug("%s", line);
        cllm_control_event(saving->control, line);
        return;
    }
    saving->failures++;
    (void)snprintf(saving->failure, sizeof saving->failure,
                   "cannot save step %" PRIu64 ": %.250s", step, status->last_words);
    cllm_warn("%s; training goes on, older checkpoints are untouched", saving->failure);
    cllm_control_event(saving->control, saving->failure);
    wait_ns = RETRY_NS << cllm_min_u64(saving->failures - 1, RETRY_DOUBLINGS);
    saving->retry_ns = cllm_now_ns() + wait_ns;
}

bool cllm_saving_retry(const struct cllm_saving *saving, uint64_t now_ns)
{
    return saving->failures > 0 && cllm_saving_idle(saving) && now_ns >= saving->retry_ns;
}

bool cllm_saving_revoke(struct cllm_saving *saving, bool intact)
{
    bool lost = saving->posted != 0 && !intact;

    if (saving->posted != 0 && intact)
        saving->due[saving->posted & 1] = saving->posted;
    saving->posted = 0;
    return lost;
}

bool cllm_saving_idle(const struct cllm_saving *saving)
{
    return saving->posted == 0 && saving->due[0] == 0 && saving->due[1] == 0;
}
