/*
 * tools/prep_output.h - what cllm-prep leaves: train_NNN.bin, val_NNN.bin, the
 * tokenizer's files, dataset.json.
 *
 * The shards are planned before the first is written, all of a split nearly equally long,
 * so that none is too short to train on. dataset.json is written last: without it, the
 * directory is not finished.
 */
#ifndef CLLM_TOOLS_PREP_OUTPUT_H
#define CLLM_TOOLS_PREP_OUTPUT_H

#include "tools/prep_stream.h"

#define CLLM_PREP_MIN_TOKENS 129 /* in a split: one window of 128 tokens and a target */

struct cllm_prep_plan {
    char name[CLLM_MANIFEST_NAME_BYTES];
    uint64_t n_tokens;
};

struct cllm_prep_output {
    const char *dir;
    uint64_t n_train, n_val; /* tokens */
    const uint32_t *place;   /* by id: the one that shards have; NULL: the same */
    uint32_t n_train_shards; /* the first of shard[]; validation shards follow */
    uint32_t n_shards;
    struct cllm_prep_plan *shard; /* [n_shards]; heap */
};

/* What becomes part of dataset.json besides the shards. */
struct cllm_prep_facts {
    const struct cllm_prep_input *input;
    const struct cllm_prep_state *state;
    const struct cllm_tokenizer *tokenizer;
    const struct cllm_prep_split *split;
    const char *separator; /* as given, with its escapes; NULL: the end-of-text token */
    double val_fraction;
    uint32_t token_bytes;
    bool renumbered; /* the tokenizer's ids are new ones, by frequency */
};

/* Is there something of an earlier run in @dir? With @force it is removed, otherwise it
 * is -EEXIST with text. */
int cllm_prep_output_clear(const char *dir, bool force);

/* Plan @n_train + @n_val tokens, in shards of at most @shard_tokens. @n_val may be 0 if
 * not @validate. CLLM_EDATA with text when a split is too small. */
int cllm_prep_output_init(struct cllm_prep_output *output, const char *dir,
                          uint64_t n_train, uint64_t n_val, bool validate,
                          uint64_t shard_tokens);

/* Write the next shard, number state->n_shards, and add it to @state. Returns 0 or a
 * negative code with text. */
int cllm_prep_output_next(const struct cllm_prep_output *output,
                          const struct cllm_prep_stream *stream,
                          struct cllm_prep_state *state);

/* Are the shards of @state, which a process before this one wrote, still there? */
int cllm_prep_output_check(const struct cllm_prep_output *output,
                           const struct cllm_prep_state *state);

/* After the last shard: the tokenizer's files and dataset.json. */
int cllm_prep_output_finish(const struct cllm_prep_output *output,
                            const struct cllm_prep_facts *facts);

/* For zeroed memory a no-op. */
void cllm_prep_output_fini(struct cllm_prep_output *output);

#endif /* CLLM_TOOLS_PREP_OUTPUT_H */
