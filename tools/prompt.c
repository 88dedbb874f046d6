/*
 * tools/prompt.c - see tools/prompt.h.
 */
#include "tools/prompt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define PROMPT_LIMIT (16u << 20)

/* All of standard input into heap memory. */
static int read_input(char **text, size_t *bytes)
{
    char *all = malloc(PROMPT_LIMIT + 1);

    *bytes = 0;
    if (all == NULL)
        return cllm_err(-ENOMEM, "cannot read the prompt");
    *bytes = fread(all, 1, PROMPT_LIMIT + 1, stdin);
    if (ferror(stdin) || *bytes > PROMPT_LIMIT) {
        free(all);
        return cllm_err(*bytes > PROMPT_LIMIT ? -EFBIG : -EIO,
                        "cannot read the prompt from standard input");
    }
    *text = all;
    return 0;
}

/* "1,403,407" to tokens below @vocab; heap. */
static int parse_ids(const char *text, uint32_t vocab, uint32_t **tokens, uint32_t *n)
{
    const char *at = text;

    *n = 0;
    *tokens = calloc(strlen(text) / 2 + 1, sizeof **tokens);
    if (*tokens == NULL)
        return cllm_err(-ENOMEM, "cannot keep the prompt");
    for (;; at++) {
        char *end;
        unsigned long id = strtoul(at, &end, 10);

        if (end == at || at[0] < '0' || at[0] > '9' || id >= vocab ||
            (*end != ',' && *end != '\0')) {
            free(*tokens);
            *tokens = NULL;
            return cllm_err(CLLM_ECONFIG,
                            "cannot use --prompt-ids=%s: expected numbers from 0 to %u "
                            "with commas between them",
                            text, vocab - 1);
        }
        (*tokens)[(*n)++] = (uint32_t)id;
        at = end;
        if (*at == '\0')
            return 0;
    }
}

/* A model needs something to begin from: the end of a text, or a line's. */
static int begin_of_text(const struct cllm_lm *lm, uint32_t **tokens, uint32_t *n)
{
    uint32_t begin = cllm_lm_begin(lm);

    if (begin == CLLM_TOKEN_NONE)
        return cllm_lm_encode(lm, "\n", 1, tokens, n);
    *tokens = malloc(sizeof **tokens);
    if (*tokens == NULL)
        return cllm_err(-ENOMEM, "cannot keep the prompt");
    (*tokens)[0] = begin;
    *n = 1;
    return 0;
}

int cllm_prompt_read(struct cllm_prompt *prompt, const struct cllm_lm *lm)
{
    int rc = 0;

    if (prompt->ids != NULL)
        return parse_ids(prompt->ids, lm->vocab, &prompt->tokens, &prompt->n_tokens);
    if (prompt->text != NULL && strcmp(prompt->text, "-") == 0) {
        rc = read_input(&prompt->read, &prompt->bytes);
    } else if (prompt->text != NULL) {
        prompt->read = strdup(prompt->text);
        prompt->bytes = strlen(prompt->text);
        if (prompt->read == NULL)
            rc = cllm_err(-ENOMEM, "cannot keep the prompt");
    }
    if (rc != 0)
        return rc;
    if (prompt->bytes > 0)
        return cllm_lm_encode(lm, prompt->read, prompt->bytes, &prompt->tokens,
                              &prompt->n_tokens);
    return begin_of_text(lm, &prompt->tokens, &prompt->n_tokens);
}

void cllm_prompt_free(struct cllm_prompt *prompt)
{
    free(prompt->read);
    free(prompt->tokens);
    prompt->read = NULL;
    prompt->tokens = NULL;
}
