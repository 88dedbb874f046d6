/*
 * tools/speaker.h - a model that writes on: what it was told and what it said, token
 * after token, and text that comes out in whole characters up to a stop string.
 *
 * Each token's random number is a function of the seed and of how many were drawn before,
 * so the same words to the same model give the same answers. A full context begins anew
 * with the later half of what stands in it.
 */
#ifndef CLLM_TOOLS_SPEAKER_H
#define CLLM_TOOLS_SPEAKER_H

#include <signal.h>

#include "formats/token_stream.h"
#include "model/sample.h"
#include "tools/lm.h"
#include "tools/stop.h"

struct cllm_speaker_wish {
    struct cllm_sample sample;
    float penalty;        /* of tokens that were there before; 1 = none */
    uint32_t penalty_for; /* only the last so many; 0 = all that the context holds */
    uint64_t seed;
    uint32_t n_tokens; /* of an answer, at most */
    struct cllm_stop stop;
};

enum cllm_speaker_end {
    CLLM_SPEAKER_LENGTH = 0, /* n_tokens were said */
    CLLM_SPEAKER_EOT,        /* the model ended the text */
    CLLM_SPEAKER_STOP,       /* a stop string came */
    CLLM_SPEAKER_INTERRUPTED
};

struct cllm_speaker {
    const struct cllm_lm *lm;
    struct cllm_speaker_wish wish;
    struct cllm_lm_reader reader;
    struct cllm_sample_candidate *candidates; // (V)
    float *penalised;                         // (V)
    uint32_t choices;  /* tokens that may be said: those the tokenizer has */
    uint32_t *history; /* all tokens; heap */
    uint64_t n_history, room;
    uint64_t n_drawn;
    const float *logits; /* of what comes next; NULL before the first token */
    struct cllm_token_stream stream;
    uint64_t read_tokens, read_ns, said_tokens, said_ns; /* what it took */
};

/* Called with text to show; returns 0 or a negative code with text, which ends the
 * answer. */
typedef int (*cllm_speaker_show_fn)(void *ctx, const char *text, size_t bytes);

/* Copies @wish; @lm and @ops must outlive the speaker. Returns 0 or a negative code with
 * text; then there is nothing to finish. */
int cllm_speaker_init(struct cllm_speaker *speaker, const struct cllm_lm *lm,
                      const struct cllm_ops *ops, const struct cllm_speaker_wish *wish);
void cllm_speaker_fini(struct cllm_speaker *speaker); /* safe on a zeroed one */

/* Tell it @n tokens below the vocabulary. Returns 0 or -ENOMEM with text. */
int cllm_speaker_read(struct cllm_speaker *speaker, const uint32_t *tokens, uint32_t n);

/*
 * Let it answer, once it was told something. @show may be NULL; *@interrupted (may be
 * NULL) is looked at after each token. Returns 0 or a negative code with text; *@end says
 * why it ended.
 */
int cllm_speaker_answer(struct cllm_speaker *speaker, cllm_speaker_show_fn show,
                        void *ctx, const volatile sig_atomic_t *interrupted,
                        enum cllm_speaker_end *end);

/* "length", "eot", "stop", "interrupted". */
const char *cllm_speaker_end_name(enum cllm_speaker_end end);

#endif /* CLLM_TOOLS_SPEAKER_H */
