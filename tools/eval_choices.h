/*
 * tools/eval_choices.h - how often a model finds the right ending of multiple-choice
 * examples (formats/choice.h) the likeliest.
 *
 * An ending's loss is the sum over its tokens, a space and the ending behind the context.
 * The ending of the least loss is chosen; or of the least loss a byte, or a token, which
 * does not favour short endings. Of equals the first. What of a context does not fit
 * before the longest ending is left out at its beginning.
 */
#ifndef CLLM_TOOLS_EVAL_CHOICES_H
#define CLLM_TOOLS_EVAL_CHOICES_H

#include "formats/choice.h"
#include "tools/eval_work.h"

struct cllm_eval_choices {
    uint64_t examples;
    uint64_t plain, by_byte, by_token; /* of them right */
    double loss;                       /* of the right endings: sum, nats */
};

/* Returns 0, CLLM_EDATA or a negative errno with text. */
int cllm_eval_choices(struct cllm_eval_choices *out, const struct cllm_eval *eval,
                      const struct cllm_choices *choices, const char *name);

#endif /* CLLM_TOOLS_EVAL_CHOICES_H */
