/*
 * tools/eval_choices.c - the context is fed once for each example, each ending from
 * there.
 */
#include "tools/eval_choices.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

enum { PLAIN, BY_BYTE, BY_TOKEN, LOSS, N_VALUES };
_Static_assert(N_VALUES <= CLLM_TALLY_VALUES, "room in a tally");

/* Tokens of an example. */
struct text {
    uint32_t *tokens; /* heap */
    uint32_t n;
};
struct example {
    const struct cllm_choice *choice;
    struct text context, ending[CLLM_CHOICE_ENDINGS];
    double *losses; /* scratch: of the longest ending; heap */
};

struct questions {
    const struct cllm_lm *lm;
    const struct cllm_choices *choices;
    const char *name;
    struct example example[CLLM_EVAL_BLOCK_MOST];
};

static void forget(struct example *example)
{
    free(example->context.tokens);
    for (uint32_t i = 0; i < CLLM_CHOICE_ENDINGS; i++)
        free(example->ending[i].tokens);
    free(example->losses);
    *example = (struct example){.choice = NULL};
}

/* @text, a space before it, as tokens. */
static int encode_ending(const struct cllm_lm *lm, struct text *out, const char *text)
{
    char *spaced = NULL;
    int rc;

    if (asprintf(&spaced, " %s", text) < 0)
        return cllm_err(-ENOMEM, "cannot encode an ending");
    rc = cllm_lm_encode(lm, spaced, strlen(spaced), &out->tokens, &out->n);
    free(spaced);
    return rc;
}

static int encode_example(const struct questions *questions, struct example *example,
                          uint64_t number)
{
    const struct cllm_choice *choice = &questions->choices->choice[number];
    uint32_t longest = 1, room;
    int rc = cllm_lm_encode(questions->lm, choice->context, strlen(choice->context),
                            &example->context.tokens, &example->context.n);

    example->choice = choice;
    for (uint32_t i = 0; rc == 0 && i < choice->n; i++) {
        rc = encode_ending(questions->lm, &example->ending[i], choice->ending[i]);
        longest = (uint32_t)cllm_max_u64(longest, example->ending[i].n);
    }
    if (rc != 0)
        return rc;
    if (longest >= questions->lm->context)
        return cllm_err(CLLM_EDATA,
                        "%s: example %" PRIu64 ": an ending has %u tokens, the model's "
                        "context %u",
                        questions->name, number + 1, longest, questions->lm->context);
    example->losses = calloc(longest, sizeof *example->losses);
    if (example->losses == NULL)
        return cllm_err(-ENOMEM, "cannot evaluate an example");
    room = questions->lm->context - longest;
    if (example->context.n > room) {
        memmove(example->context.tokens,
                example->context.tokens + (example->context.n - room),
                room * sizeof *example->context.tokens);
        example->context.n = room;
    }
    return 0;
}

static int prepare(void *ctx, uint64_t first, uint32_t n)
{
    struct questions *questions = ctx;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        forget(&questions->example[i]);
        rc = encode_example(questions, &questions->example[i], first + i);
    }
    return rc;
}

static void evaluate(void *ctx, uint32_t i, struct cllm_lm_reader *reader, double *values)
{
    struct questions *questions = ctx;
    struct example *example = &questions->example[i];
    const struct cllm_choice *choice = example->choice;
    double loss[CLLM_CHOICE_ENDINGS] = {0}, least[3] = {0};
    uint32_t best[3] = {0};
    const float *logits;

    cllm_lm_rewind(reader, 0);
    logits = cllm_lm_feed(reader, example->context.tokens, example->context.n, NULL);
    for (uint32_t e = 0; e < choice->n; e++)
        loss[e] = cllm_lm_token_loss(reader, logits, example->ending[e].tokens[0]);
    for (uint32_t e = 0; e < choice->n; e++) {
        const struct text *ending = &example->ending[e];
        double per[3];

        cllm_lm_rewind(reader, example->context.n);
        if (ending->n > 1)
            (void)cllm_lm_feed(reader, ending->tokens, ending->n, example->losses);
        for (uint32_t t = 0; t + 1 < ending->n; t++)
            loss[e] += example->losses[t];
        per[PLAIN] = loss[e];
        per[BY_BYTE] = loss[e] / (double)strlen(choice->ending[e]);
        per[BY_TOKEN] = loss[e] / ending->n;
        for (uint32_t k = PLAIN; k <= BY_TOKEN; k++) {
            if (e > 0 && per[k] >= least[k])
                continue;
            least[k] = per[k];
            best[k] = e;
        }
    }
    for (uint32_t k = PLAIN; k <= BY_TOKEN; k++)
        values[k] = best[k] == choice->label ? 1 : 0;
    values[LOSS] = loss[choice->label];
}

int cllm_eval_choices(struct cllm_eval_choices *out, const struct cllm_eval *eval,
                      const struct cllm_choices *choices, const char *name)
{
    struct questions *questions = calloc(1, sizeof *questions);
    struct cllm_eval_work work = {.ctx = questions,
                                  .use = CLLM_LM_TEXT,
                                  .what = "examples",
                                  .shown = LOSS,
                                  .per_item = 1,
                                  .prepare = prepare,
                                  .item = evaluate};
    struct cllm_tally tally;
    char identity[256];
    int rc;

    if (questions == NULL)
        return cllm_err(-ENOMEM, "cannot evaluate the examples");
    questions->lm = eval->lm;
    questions->choices = choices;
    questions->name = name;
    (void)snprintf(
        identity, sizeof identity,
        "cllm-eval 1 choices %" PRIu64 " file %016" PRIx64 " model %s tokenizer %.16s",
        choices->n, choices->hash, eval->lm->weights,
        eval->lm->tokenizer ? cllm_tokenizer_hash(eval->lm->tokenizer) : "none");
    rc = cllm_tally_open(&tally, eval->state, identity, choices->n, N_VALUES);
    if (rc == 0) {
        rc = cllm_eval_run(eval, &tally, &work);
        *out = (struct cllm_eval_choices){
            .examples = choices->n,
            .plain = (uint64_t)cllm_tally_sum(&tally, PLAIN),
            .by_byte = (uint64_t)cllm_tally_sum(&tally, BY_BYTE),
            .by_token = (uint64_t)cllm_tally_sum(&tally, BY_TOKEN),
            .loss = cllm_tally_sum(&tally, LOSS)};
        cllm_tally_close(&tally);
    }
    for (uint32_t i = 0; i < CLLM_EVAL_BLOCK_MOST; i++)
        forget(&questions->example[i]);
    free(questions);
    return rc;
}
