/*
 * tools/prep_output.h - what cllm-prep writes: train_NNN.bin, val_NNN.bin, dataset.json.
 *
 * The shards are planned before the first byte, all of a split nearly equally long, so
 * that none is too short to train on. dataset.json is written last: without it, the
 * directory is not finished.
 */
#ifndef CLLM_TOOLS_PREP_OUTPUT_H
#define CLLM_TOOLS_PREP_OUTPUT_H

#include "base/base.h"
#include "formats/sha256.h"
#include "formats/shard.h"
#include "tools/prep_input.h"

#define CLLM_PREP_MIN_TOKENS 129 /* in a split: one window of 128 tokens and a target */

struct cllm_prep_shard {
    char name[32];
    uint64_t n_tokens;
    uint64_t file_bytes;
    char sha256[CLLM_SHA256_HEX_BYTES];
};

struct cllm_prep_output {
    const char *dir;
    uint64_t n_train, n_val; /* tokens */
    uint32_t n_train_shards; /* the first of shard[]; validation shards follow */
    uint32_t n_shards;
    struct cllm_prep_shard *shard; /* [n_shards]; heap */
    uint32_t current;              /* shard being written */
    struct cllm_shard_writer writer;
    bool writing;
};

/* What becomes part of dataset.json besides the shards. */
struct cllm_prep_facts {
    const struct cllm_prep_input *input;
    const char *separator; /* as given, with its escapes */
    double val_fraction;
};

/* Are there outputs of an earlier run in @dir? With @force they are removed, otherwise
 * they are -EEXIST with text. */
int cllm_prep_output_clear(const char *dir, bool force);

/* Plan @n_tokens tokens: the last @val_fraction of them are the validation split; shards
 * of at most @shard_tokens. CLLM_EDATA with text when a split is too small. */
int cllm_prep_output_init(struct cllm_prep_output *output, const char *dir,
                          uint64_t n_tokens, double val_fraction, uint64_t shard_tokens);

/* The next bytes of the stream. */
int cllm_prep_output_put(struct cllm_prep_output *output, const uint8_t *bytes, size_t n);

/* After exactly the planned number of bytes: write dataset.json. */
int cllm_prep_output_finish(struct cllm_prep_output *output,
                            const struct cllm_prep_facts *facts);

/* After a failure: remove the shards that are complete, because the set is not. Keeps the
 * error text. */
void cllm_prep_output_undo(struct cllm_prep_output *output);

/* Frees all; a shard half written is removed. For zeroed memory a no-op. */
void cllm_prep_output_fini(struct cllm_prep_output *output);

#endif /* CLLM_TOOLS_PREP_OUTPUT_H */
