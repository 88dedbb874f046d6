/*
 * formats/checkpoint.h - checkpoint directories: step-0000001000/ and how they come to
 * be.
 *
 *     model.safetensors      the weights, Hugging Face names
 *     config.json            Hugging Face configuration
 *     optimizer.safetensors  m.<name> of all tensors, then v.<name>
 *     run.json               step, cursor, fingerprint, root hash, losses
 *     tokenizer.json ...     the vocabulary, when the run has one
 *     manifest.json          bytes and hashes of the others; written last
 *
 * Of a run that trains adapters (base/lora.h) there are, instead of the weights,
 *
 *     adapter_model.safetensors    adapter_config.json    as peft has them
 *
 * and the moments are theirs; the weights beneath them are in the run's base/
 * (formats/adapter.h), their hash in run.json.
 *
 * All depend on the training alone: not on time, host, paths or worker count, so
 * two runs of the same bits give the same directory. A checkpoint is written as
 * step-NNNNNNNNNN.tmp, made durable, then renamed; a directory without that suffix is
 * complete, or it does not verify.
 *
 *     begin -> [write model, optimizer] -> describe -> commit -> link "last" -> prune
 */
#ifndef CLLM_FORMATS_CHECKPOINT_H
#define CLLM_FORMATS_CHECKPOINT_H

#include "base/base.h"
#include "base/lora.h"
#include "formats/file.h"
#include "formats/mixture.h"
#include "formats/safetensors.h"

#define CLLM_CHECKPOINT_MODEL     "model.safetensors"
#define CLLM_CHECKPOINT_CONFIG    "config.json"
#define CLLM_CHECKPOINT_OPTIMIZER "optimizer.safetensors"
#define CLLM_CHECKPOINT_RUN       "run.json"
#define CLLM_CHECKPOINT_MANIFEST  "manifest.json"
#define CLLM_CHECKPOINT_HEX_BYTES 65         /* fingerprint and hashes: up to 64 digits */
#define CLLM_CHECKPOINT_STEP_MAX  9999999999 /* ten digits in the name */

/* A data set of a mixture. */
struct cllm_checkpoint_part {
    char name[CLLM_MIXTURE_NAME_BYTES];
    uint64_t windows;   /* that it has */
    uint64_t sequences; /* of the training order that came from it; epochs with windows */
};

struct cllm_checkpoint_info {
    /* run.json */
    uint64_t step;
    uint64_t cursor; /* sequences of the training order consumed */
    uint64_t tokens; /* trained on */
    char fingerprint[CLLM_CHECKPOINT_HEX_BYTES]; /* of the numerics; lower-case hex */
    char root[CLLM_CHECKPOINT_HEX_BYTES];        /* of the parameters; lower-case hex */
    char data[CLLM_CHECKPOINT_HEX_BYTES]; /* cllm_dataset_hash() of the training data */
    double train_loss;                    /* nats a token; NaN = none */
    double valid_loss;                    /* newest validation; NaN = none */
    double best_loss;                     /* least validation loss so far; NaN = none */
    uint64_t valid_step, best_step;       /* 0 with NaN */
    uint32_t n_parts;                     /* 0: a plain list of shards */
    struct cllm_checkpoint_part part[CLLM_MIX_MAX];
    uint64_t base; /* hash of the weights beneath adapters; nothing without */

    /* adapter_config.json */
    struct cllm_lora lora; /* rank 0: the model's own weights were trained */

    /* config.json */
    struct cllm_model_config model; /* completed */
    double init_range;              /* deviation of the initial weights, 0.02 */
};

/* ---- writing (the saver) ---- */

/* The name of the file with the weights: of the model, or of its adapters. */
const char *cllm_checkpoint_weights(const struct cllm_lora *lora);

/* "step-0000001000" or, with @temp, "step-0000001000.tmp". */
void cllm_checkpoint_name(char name[32], uint64_t step, bool temp);

/* Make an empty temporary directory for @step in @checkpoints (made when missing); one
 * left by a dead process is removed first. @temp gets its path. */
int cllm_checkpoint_begin(const char *checkpoints, uint64_t step,
                          char temp[CLLM_FILE_PATH_BYTES]);

/* Create @name in @temp with room for the whole file (posix_fallocate, so that a full
 * disk is found now) and the plan's header written. Returns an fd that the caller fills
 * at plan->data_off, fsyncs and closes; or a negative errno with text. */
int cllm_checkpoint_create(const char *temp, const char *name,
                           const struct cllm_safetensors_plan *plan);

/* What is known of a file that was written. */
struct cllm_checkpoint_digest {
    const char *name;
    uint64_t bytes;
    char hash[CLLM_CHECKPOINT_HEX_BYTES]; /* of tensors XXH3-128, else SHA-256 */
};

/* Write config.json, adapter_config.json, run.json and manifest.json: each is fsynced,
 * then the directory. Files of which nothing is @known (@n_known of them are) are read
 * for their hash. */
int cllm_checkpoint_describe(const char *temp, const struct cllm_checkpoint_info *info,
                             const struct cllm_checkpoint_digest *known,
                             uint32_t n_known);

/* Parts of it, for who needs them alone. */
int cllm_checkpoint_write_config(const char *dir,
                                 const struct cllm_checkpoint_info *info);
int cllm_checkpoint_write_run(const char *dir, const struct cllm_checkpoint_info *info);
int cllm_checkpoint_write_manifest(const char *dir,
                                   const struct cllm_checkpoint_digest *known,
                                   uint32_t n_known);

/* Give the temporary directory of @step its final name, durably, if it verifies (without
 * a second look at the tensors' hashes). One of that name that is there already (a run
 * redone from an older checkpoint) is exchanged and removed. */
int cllm_checkpoint_commit(const char *checkpoints, uint64_t step);

/* Point the link @name ("last", "best") in @checkpoints at @step's directory. */
int cllm_checkpoint_link(const char *checkpoints, const char *name, uint64_t step);

/*
 * Remove all but the @keep (at least 1) newest checkpoints and those that `best` and
 * `last` point at, and all temporary directories. @removed (may be NULL) counts.
 *
 * Those newer than `last` are left alone and not counted: the run was resumed from an
 * older one, because they do not verify. They are replaced when training comes to their
 * steps, or pruned when it has passed them.
 */
int cllm_checkpoint_prune(const char *checkpoints, uint32_t keep, uint32_t *removed);

/* ---- reading ---- */

/*
 * Is the checkpoint in @dir whole? Manifest in its exact form, every file's size,
 * config.json and run.json, both safetensors files' structure, names and shapes against
 * the configuration; @deep: every file's hash too. Returns 0; CLLM_EDATA with text for
 * a bad one; a negative errno with text when it cannot be read. @info (may be NULL) is
 * filled on success.
 */
int cllm_checkpoint_verify(const char *dir, bool deep, struct cllm_checkpoint_info *info);

/* The newest directory in @checkpoints that verifies (deep), into @dir. Those passed over
 * are named with the reason through cllm_warn(). With text: -ENOENT when there is no
 * checkpoint at all, CLLM_EDATA when there are some and none of them verifies. */
int cllm_checkpoint_newest(const char *checkpoints, char dir[CLLM_FILE_PATH_BYTES]);

struct cllm_checkpoint {
    char dir[CLLM_FILE_PATH_BYTES];
    struct cllm_checkpoint_info info;
    struct cllm_safetensors model; /* or adapters */
    struct cllm_safetensors optimizer;
};

/*
 * Open a checkpoint, verified deep. @path is a checkpoint directory, or a run directory,
 * or a run's checkpoints directory; of those, the one that `last` points at, or else the
 * newest that verifies. On failure nothing is left to close.
 */
int cllm_checkpoint_open(struct cllm_checkpoint *checkpoint, const char *path);
void cllm_checkpoint_close(struct cllm_checkpoint *checkpoint);

/* All @count elements of tensor @name into @out: a Hugging Face name, or "m."/"v." and
 * one for the optimizer's. A missing name or another count is CLLM_EDATA with text. */
int cllm_checkpoint_read(const struct cllm_checkpoint *checkpoint, const char *name,
                         float *out, uint64_t count);

#endif /* CLLM_FORMATS_CHECKPOINT_H */
