/*
 * tools/prep_report.c - a bar, and lines of numbers.
 */
#include "tools/prep_report.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"

#define BAR_WIDTH 24

void cllm_prep_progress_begin(struct cllm_prep_progress *progress, const char *what,
                              uint64_t first, uint64_t total)
{
    *progress = (struct cllm_prep_progress){
        .what = what, .begun_ns = cllm_now_ns(), .first = first, .total = total};
    progress->shown_ns = progress->begun_ns;
}

/* Bytes a second since the beginning. */
static uint64_t rate_of(const struct cllm_prep_progress *progress, uint64_t done,
                        uint64_t now)
{
    uint64_t elapsed = cllm_max_u64(now - progress->begun_ns, 1);

    return (uint64_t)((double)(done - progress->first) * 1e9 / (double)elapsed);
}

void cllm_prep_progress_show(struct cllm_prep_progress *progress, uint64_t done)
{
    static const char marks[] = "########################";
    _Static_assert(sizeof marks == BAR_WIDTH + 1, "a full bar");
    char at[CLLM_UNITS_BYTES], total[CLLM_UNITS_BYTES], speed[CLLM_UNITS_BYTES],
        eta[CLLM_UNITS_BYTES];
    uint64_t now = cllm_now_ns();
    bool terminal = cllm_log_is_terminal();
    uint64_t pause = terminal ? CLLM_NS_PER_S / 10 : 5 * CLLM_NS_PER_S;

    if (now - progress->shown_ns < pause || progress->total == 0)
        return;
    progress->shown_ns = now;
    done = cllm_min_u64(done, progress->total);
    uint64_t rate = rate_of(progress, done, now);
    double share = (double)done / (double)progress->total;
    double left = rate > 0 ? (double)(progress->total - done) / (double)rate : 0;
    (void)cllm_format_bytes(at, done);
    (void)cllm_format_bytes(total, progress->total);
    (void)cllm_format_bytes(speed, rate);
    (void)cllm_format_duration(eta, (uint64_t)(left * 1e9));
    if (terminal)
        cllm_log_status("%s [%-*.*s] %3.0f %%  %s of %s  %s/s  ETA %s", progress->what,
                        BAR_WIDTH, (int)(share * BAR_WIDTH), marks, 100 * share, at,
                        total, speed, eta);
    else
        cllm_info("%s: %.0f %%, %s of %s, %s/s, ETA %s", progress->what, 100 * share, at,
                  total, speed, eta);
}

void cllm_prep_progress_end(struct cllm_prep_progress *progress)
{
    char time[CLLM_UNITS_BYTES], speed[CLLM_UNITS_BYTES];
    uint64_t now = cllm_now_ns();

    cllm_log_status("%s", "");
    if (progress->total > progress->first)
        cllm_info("%s: done in %s, %s/s", progress->what,
                  cllm_format_duration(time, now - progress->begun_ns),
                  cllm_format_bytes(speed, rate_of(progress, progress->total, now)));
}

void cllm_prep_report_input(const struct cllm_prep_input *input)
{
    char bytes[CLLM_UNITS_BYTES];
    const struct {
        uint64_t n;
        const char *what;
    } notes[] = {
        {input->n_binary, "binary (not text)"},
        {input->n_hidden, "hidden (name begins with a dot)"},
        {input->n_special, "neither files nor directories"},
        {input->n_empty, "empty"},
    };

    for (size_t i = 0; i < CLLM_LEN(notes); i++) {
        if (notes[i].n > 0)
            cllm_info("passed over: %" PRIu64 " %s", notes[i].n, notes[i].what);
    }
    if (input->n_marks > 0)
        cllm_info("dropped: %" PRIu64 " byte order mark%s", input->n_marks,
                  cllm_plural(input->n_marks));
    cllm_info("files: %zu, %s", input->n_files, cllm_format_bytes(bytes, input->bytes));
    if (input->n_packed > 0)
        cllm_info("packed: %" PRIu64 " of them", input->n_packed);
}

/* What was odd about the text. */
static void report_oddities(const struct cllm_prep_facts *facts)
{
    const struct cllm_prep_state *state = facts->state;

    if (state->mistakes > 0)
        cllm_warn("invalid UTF-8 at %" PRIu64 " place%s", state->mistakes,
                  cllm_plural(state->mistakes));
    if (state->bad > 0)
        cllm_warn("bad lines of JSON left out: %" PRIu64, state->bad);
    if (state->empty > 0)
        cllm_info("empty documents left out: %" PRIu64, state->empty);
}

void cllm_prep_report_output(const struct cllm_prep_output *output,
                             const struct cllm_prep_facts *facts)
{
    const struct cllm_prep_state *state = facts->state;
    char bytes[CLLM_UNITS_BYTES];

    report_oddities(facts);
    cllm_info("documents: %" PRIu64 ", %s of text, %.2f bytes a token", state->documents,
              cllm_format_bytes(bytes, state->bytes),
              (double)state->bytes / (double)cllm_max_u64(state->tokens, 1));
    cllm_info("vocabulary: %u", cllm_tokenizer_size(facts->tokenizer));
    cllm_info("train: %" PRIu64 " tokens, %u shard%s", output->n_train,
              output->n_train_shards, cllm_plural(output->n_train_shards));
    if (output->n_val > 0)
        cllm_info("validation: %" PRIu64 " tokens, the end of the text%s, %u shard%s",
                  output->n_val, facts->split->document ? ", whole documents" : "",
                  output->n_shards - output->n_train_shards,
                  cllm_plural(output->n_shards - output->n_train_shards));
    cllm_info("written: %s/dataset.json and the files it lists", output->dir);
}
