/*
 * coordinator/progress.c - step lines, status line, summary.
 */
#include "coordinator/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"

#define STATUS_NS (250 * CLLM_NS_PER_MS)

static double seconds(uint64_t ns)
{
    return (double)ns / (double)CLLM_NS_PER_S;
}

static void publish_f64(_Atomic uint64_t *bits, double value)
{
    uint64_t word;

    memcpy(&word, &value, sizeof word);
    cllm_store_relaxed(bits, word);
}

void cllm_progress_init(struct cllm_progress *progress, const struct cllm_config *config,
                        const struct cllm_control *control,
                        const struct cllm_step_record *record, uint64_t now_ns)
{
    const struct cllm_state *state = control->state;

    *progress =
        (struct cllm_progress){.config = config,
                               .began_wait_ns = cllm_load_relaxed(&state->wait_data_ns),
                               .began_deaths = cllm_load_relaxed(&state->deaths),
                               .began_redone = cllm_load_relaxed(&state->lanes_redone),
                               .began_ns = now_ns,
                               .began_step = record->step,
                               .began_tokens = record->tokens,
                               .line_ns = now_ns,
                               .line_tokens = record->tokens};
}

/* Time that the remaining steps will take at the pace of this process so far. */
static uint64_t eta_ns(const struct cllm_progress *progress,
                       const struct cllm_step_record *record, uint64_t now_ns)
{
    uint64_t done = record->step - progress->began_step;
    uint64_t left = progress->config->train_steps - record->step;

    return done == 0 ? 0
                     : (uint64_t)((double)(now_ns - progress->began_ns) / (double)done *
                                  (double)left);
}

static void print_line(struct cllm_progress *progress,
                       const struct cllm_step_record *record,
                       const struct cllm_metrics *metrics, uint64_t eta)
{
    char rate[CLLM_UNITS_BYTES], left[CLLM_UNITS_BYTES], valid[40] = "";

    if (metrics->evaluated)
        (void)snprintf(valid, sizeof valid, "  valid %.4f%s", record->valid_loss,
                       record->best_step == record->step ? " (best)" : "");
    cllm_info("step %*" PRIu64 "/%" PRIu64
              "  loss %.4f  lr %.2e  norm %.2f  %s tok/s  eta %s%s",
              progress->config->train_steps >= 10000 ? 6 : 4, record->step,
              progress->config->train_steps, record->loss, (double)record->learning_rate,
              record->grad_norm,
              cllm_format_count(rate, (uint64_t)progress->tokens_per_s),
              cllm_format_duration(left, eta), valid);
}

void cllm_progress_step(struct cllm_progress *progress, struct cllm_control *control,
                        const struct cllm_step_record *record,
                        const struct cllm_metrics *metrics, uint64_t now_ns)
{
    struct cllm_state *state = control->state;
    uint64_t eta = eta_ns(progress, record, now_ns);
    bool due = record->step % progress->config->run_log_every == 0 ||
               record->step == progress->config->train_steps || metrics->evaluated ||
               record->step == progress->began_step + 1;

    publish_f64(&state->loss_bits, record->loss);
    publish_f64(&state->valid_bits, record->valid_loss);
    cllm_store_relaxed(&state->valid_step, record->valid_step);
    cllm_store_relaxed(&state->eta_ns, eta);
    if (!due)
        return;
    if (now_ns > progress->line_ns)
        progress->tokens_per_s = (double)(record->tokens - progress->line_tokens) /
                                 seconds(now_ns - progress->line_ns);
    progress->line_ns = now_ns;
    progress->line_tokens = record->tokens;
    publish_f64(&state->tokens_per_s_bits, progress->tokens_per_s);
    print_line(progress, record, metrics, eta);
}

/* "w0 lane 7", "w1 fold", "w2 starting" */
static size_t describe_worker(char *out, size_t bytes, const struct cllm_control *control,
                              uint32_t slot)
{
    const struct cllm_slot *s = &control->slots[slot];
    uint32_t work = cllm_load_relaxed(&s->own.status.work);
    int n;

    if (s->command.state != CLLM_SLOT_BUSY && s->command.state != CLLM_SLOT_IDLE)
        n = snprintf(out, bytes, "  w%u %s", slot,
                     cllm_slot_state_name(s->command.state));
    else if (work == CLLM_WORK_LANE || work == CLLM_WORK_EVAL)
        n = snprintf(out, bytes, "  w%u %s %u", slot, cllm_work_name(work),
                     cllm_load_relaxed(&s->own.status.lane));
    else
        n = snprintf(out, bytes, "  w%u %s", slot,
                     work == CLLM_WORK_NONE ? "idle" : cllm_work_name(work));
    return n < 0 ? 0 : cllm_min_u64((uint64_t)n, bytes - 1);
}

void cllm_progress_status(struct cllm_progress *progress,
                          const struct cllm_control *control, uint32_t workers,
                          uint64_t now_ns)
{
    uint64_t step = cllm_load_relaxed(&control->state->committed) + 1;
    uint64_t total = progress->config->train_steps;
    char bar[21], doing[320] = "";
    size_t used = 0;

    if (!cllm_log_is_terminal() || now_ns - progress->status_ns < STATUS_NS)
        return;
    progress->status_ns = now_ns;
    for (uint32_t i = 0; i < 20; i++)
        bar[i] = i < step * 20 / (total + 1) ? '#' : '.';
    bar[20] = '\0';
    for (uint32_t w = 0; w < workers && w < 12; w++)
        used += describe_worker(doing + used, sizeof doing - used, control, w);
    cllm_log_status("[%s] step %" PRIu64 "/%" PRIu64 " %s%s", bar, step, total,
                    cllm_phase_name(cllm_load_relaxed(&control->state->phase)), doing);
}

void cllm_progress_summary(const struct cllm_progress *progress,
                           const struct cllm_control *control, uint32_t workers,
                           uint64_t now_ns)
{
    double span = seconds(cllm_max_u64(now_ns - progress->began_ns, 1));
    const struct cllm_state *state = control->state;
    double wait =
        seconds(cllm_load_relaxed(&state->wait_data_ns) - progress->began_wait_ns);
    char took[CLLM_UNITS_BYTES], tokens[CLLM_UNITS_BYTES], rate[CLLM_UNITS_BYTES];
    struct cllm_step_record record;
    uint64_t trained;

    if (!cllm_control_newest_record(control, &record) ||
        record.step < progress->began_step)
        return;
    trained = record.tokens - progress->began_tokens;
    uint64_t steps = record.step - progress->began_step;
    uint64_t deaths = cllm_load_relaxed(&state->deaths) - progress->began_deaths;
    uint64_t redone = cllm_load_relaxed(&state->lanes_redone) - progress->began_redone;
    cllm_info("%" PRIu64
              " step%s in %s: %s tokens, %s tok/s; workers waited for data %.3f s "
              "(%.2f %%), %" PRIu64 " process%s died, %" PRIu64 " lane%s done again",
              steps, cllm_plural(steps),
              cllm_format_duration(took, now_ns - progress->began_ns),
              cllm_format_count(tokens, trained),
              cllm_format_count(rate, (uint64_t)((double)trained / span)), wait,
              100.0 * wait / (span * workers), deaths, cllm_plural_es(deaths), redone,
              cllm_plural(redone));
}
