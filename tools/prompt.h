/*
 * tools/prompt.h - what a model is to continue: text, standard input, or token ids.
 */
#ifndef CLLM_TOOLS_PROMPT_H
#define CLLM_TOOLS_PROMPT_H

#include "tools/lm.h"

struct cllm_prompt {
    const char *text; /* as asked for; "-": standard input; NULL: none */
    const char *ids;  /* instead: "1,403,407"; NULL: none */

    char *read; /* the text; heap, NULL without any */
    size_t bytes;
    uint32_t *tokens; /* heap */
    uint32_t n_tokens;
};

/* Read the text or the ids, and make tokens of them; without any of either the end of a
 * text, or a newline where there is no such token: a model needs something to begin from.
 * Returns 0 or a negative code with text; cllm_prompt_free() in any case. */
int cllm_prompt_read(struct cllm_prompt *prompt, const struct cllm_lm *lm);
void cllm_prompt_free(struct cllm_prompt *prompt);

#endif /* CLLM_TOOLS_PROMPT_H */
