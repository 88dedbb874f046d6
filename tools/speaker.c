/*
 * tools/speaker.c - see tools/speaker.h.
 */
#include "tools/speaker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/random.h"

#define FEED_MOST 512 /* tokens of a prompt between two looks at the clock */

int cllm_speaker_init(struct cllm_speaker *speaker, const struct cllm_lm *lm,
                      const struct cllm_ops *ops, const struct cllm_speaker_wish *wish)
{
    int rc;

    memset(speaker, 0, sizeof *speaker);
    speaker->lm = lm;
    speaker->wish = *wish;
    speaker->choices = cllm_lm_known(lm);
    cllm_token_stream_init(&speaker->stream, lm->tokenizer);
    speaker->candidates = calloc(lm->vocab, sizeof *speaker->candidates);
    speaker->penalised = calloc(lm->vocab, sizeof *speaker->penalised);
    rc = speaker->candidates == NULL || speaker->penalised == NULL
             ? cllm_err(-ENOMEM, "cannot generate text")
             : cllm_lm_reader_init(&speaker->reader, lm, ops, CLLM_LM_TEXT);
    if (rc != 0)
        cllm_speaker_fini(speaker);
    return rc;
}

void cllm_speaker_fini(struct cllm_speaker *speaker)
{
    cllm_lm_reader_fini(&speaker->reader);
    free(speaker->candidates);
    free(speaker->penalised);
    free(speaker->history);
    speaker->candidates = NULL;
    speaker->penalised = NULL;
    speaker->history = NULL;
}

static int remember(struct cllm_speaker *speaker, const uint32_t *tokens, uint32_t n)
{
    if (speaker->n_history + n > speaker->room) {
        uint64_t room = cllm_max_u64(2 * speaker->room, speaker->n_history + n + 1024);
        uint32_t *larger = realloc(speaker->history, room * sizeof *larger);

        if (larger == NULL)
            return cllm_err(-ENOMEM, "cannot remember %u more tokens", n);
        speaker->history = larger;
        speaker->room = room;
    }
    memcpy(speaker->history + speaker->n_history, tokens, n * sizeof *tokens);
    speaker->n_history += n;
    return 0;
}

/*
 * Feed the last @n tokens of the history; returns how many were fed. Where they do not
 * fit, the context begins anew: with its later half where it was full, with as much as it
 * holds for a long text.
 */
static uint64_t feed_last(struct cllm_speaker *speaker, uint64_t n)
{
    uint32_t context = speaker->lm->context;
    uint64_t fed;

    if (n > context - cllm_lm_position(&speaker->reader)) {
        cllm_lm_rewind(&speaker->reader, 0);
        n = cllm_min_u64(cllm_max_u64(n, context / 2),
                         cllm_min_u64(context, speaker->n_history));
        n = cllm_max_u64(n, 1);
    }
    fed = n;
    while (n > 0) {
        uint32_t part = (uint32_t)cllm_min_u64(n, FEED_MOST);

        speaker->logits = cllm_lm_feed(
            &speaker->reader, speaker->history + (speaker->n_history - n), part, NULL);
        n -= part;
    }
    return fed;
}

int cllm_speaker_read(struct cllm_speaker *speaker, const uint32_t *tokens, uint32_t n)
{
    uint64_t began = cllm_now_ns();
    int rc = remember(speaker, tokens, n);

    if (rc != 0)
        return rc;
    if (n > 0)
        speaker->read_tokens += feed_last(speaker, n);
    speaker->read_ns += cllm_now_ns() - began;
    return 0;
}

/* Choose the next token. */
static uint32_t draw(struct cllm_speaker *speaker)
{
    const struct cllm_speaker_wish *wish = &speaker->wish;
    uint64_t kept = wish->penalty_for > 0 ? wish->penalty_for : speaker->lm->context;
    uint64_t n = cllm_min_u64(kept, speaker->n_history);
    const float *logits = speaker->logits;
    float uniform = cllm_random_f32(wish->seed, CLLM_RANDOM_SAMPLE, speaker->n_drawn++);

    if (wish->penalty != 1.0f) {
        cllm_sample_penalise(speaker->penalised, logits, speaker->lm->vocab,
                             speaker->history + (speaker->n_history - n), (uint32_t)n,
                             wish->penalty);
        logits = speaker->penalised;
    }
    return cllm_sample_token(&wish->sample, logits, speaker->choices, uniform,
                             speaker->candidates);
}

/* What @token completes to @show. Returns 0, 1 at a stop string, or a negative code. */
static int show_token(struct cllm_speaker *speaker, uint32_t token,
                      cllm_speaker_show_fn show, void *ctx)
{
    uint32_t before = speaker->n_history < 2 ? CLLM_TOKEN_NONE
                                             : speaker->history[speaker->n_history - 2];
    char text[CLLM_TOKEN_STREAM_ROOM], room[1];
    const char *out;
    bool stopped;
    size_t n;
    int rc;

    if (!cllm_lm_speaks(speaker->lm))
        return 0;
    out = cllm_lm_text(speaker->lm, before, token, room, &n);
    n = cllm_token_stream_put_text(&speaker->stream, out, n, text);
    stopped = cllm_stop_put(&speaker->wish.stop, text, n, &out, &n);
    rc = show != NULL && n > 0 ? show(ctx, out, n) : 0;
    return rc != 0 ? rc : stopped;
}

/* What was held back for a character or a stop string that did not come. */
static int show_rest(struct cllm_speaker *speaker, cllm_speaker_show_fn show, void *ctx)
{
    char text[CLLM_TOKEN_STREAM_ROOM];
    const char *out;
    size_t n;
    int rc = 0;

    if (!cllm_lm_speaks(speaker->lm))
        return 0;
    n = cllm_token_stream_end(&speaker->stream, text);
    if (!cllm_stop_put(&speaker->wish.stop, text, n, &out, &n)) {
        rc = show != NULL && n > 0 ? show(ctx, out, n) : 0;
        cllm_stop_end(&speaker->wish.stop, &out, &n);
    }
    return rc == 0 && show != NULL && n > 0 ? show(ctx, out, n) : rc;
}

static int answer(struct cllm_speaker *speaker, cllm_speaker_show_fn show, void *ctx,
                  const volatile sig_atomic_t *interrupted, enum cllm_speaker_end *end)
{
    *end = CLLM_SPEAKER_LENGTH;
    for (uint32_t i = 0; i < speaker->wish.n_tokens; i++) {
        uint32_t token;
        int rc;

        if (interrupted != NULL && *interrupted) {
            *end = CLLM_SPEAKER_INTERRUPTED;
            break;
        }
        token = draw(speaker);
        rc = remember(speaker, &token, 1);
        if (rc != 0)
            return rc;
        speaker->said_tokens++;
        (void)feed_last(speaker, 1);
        if (cllm_lm_ends(speaker->lm, token)) {
            *end = CLLM_SPEAKER_EOT;
            break;
        }
        rc = show_token(speaker, token, show, ctx);
        if (rc < 0)
            return rc;
        if (rc > 0) {
            *end = CLLM_SPEAKER_STOP;
            return 0;
        }
    }
    return show_rest(speaker, show, ctx);
}

int cllm_speaker_answer(struct cllm_speaker *speaker, cllm_speaker_show_fn show,
                        void *ctx, const volatile sig_atomic_t *interrupted,
                        enum cllm_speaker_end *end)
{
    uint64_t began = cllm_now_ns();
    int rc;

    CLLM_ASSERT(speaker->logits != NULL);
    rc = answer(speaker, show, ctx, interrupted, end);
    speaker->said_ns += cllm_now_ns() - began;
    return rc;
}

const char *cllm_speaker_end_name(enum cllm_speaker_end end)
{
    static const char *const names[] = {"length", "eot", "stop", "interrupted"};

    CLLM_ASSERT(end < CLLM_LEN(names));
    return names[end];
}
