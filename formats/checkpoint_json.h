/*
 * formats/checkpoint_json.h - the three texts of a checkpoint: config.json, run.json and
 * manifest.json. Inner header of checkpoint*.c; others use formats/checkpoint.h.
 */
#ifndef CLLM_FORMATS_CHECKPOINT_JSON_H
#define CLLM_FORMATS_CHECKPOINT_JSON_H

#include "base/base.h"
#include "formats/checkpoint.h"
#include "formats/sha256.h"
#include "formats/tokenizer_files.h"

/* What a manifest may list: four that it must (with adapters five, the weights being
 * theirs), and the vocabulary's files that are there. */
#define CLLM_CHECKPOINT_OWN   6
#define CLLM_CHECKPOINT_FILES (CLLM_CHECKPOINT_OWN + CLLM_N_TOKENIZER_FILES)

/* What the manifest says of a file. */
struct cllm_checkpoint_file {
    bool listed;
    uint64_t bytes;
    char hash[CLLM_SHA256_HEX_BYTES]; /* 64 digits of a SHA-256 or 32 of XXH3-128 */
};

/* Read and check @dir's config.json into the model fields of @info. Returns 0, CLLM_EDATA
 * or a negative errno with text. */
int cllm_checkpoint_read_config(const char *dir, struct cllm_checkpoint_info *info);

/* The same of run.json and the other fields; where it tells of adapters, info->lora.rank
 * becomes 1 until their own file is read. */
int cllm_checkpoint_read_run(const char *dir, struct cllm_checkpoint_info *info);

/* What the functions above do with the @bytes of a file's text; @name is for messages. */
int cllm_checkpoint_parse_config(const char *text, size_t bytes, const char *name,
                                 struct cllm_checkpoint_info *info);
int cllm_checkpoint_parse_run(const char *text, size_t bytes, const char *name,
                              struct cllm_checkpoint_info *info);

/* The text of a manifest.json, into config, model, optimizer, run, adapters'
 * config and weights, and then as cllm_tokenizer_files has them. Either the model is
 * listed or both of the adapters'. Refused unless it is the very text that these values
 * make. Returns 0, CLLM_EDATA or -ENOMEM with text. */
int cllm_checkpoint_parse_manifest(
    const char *text, size_t bytes, const char *name,
    struct cllm_checkpoint_file out[CLLM_CHECKPOINT_FILES]);

/* Hold @dir's files against its manifest.json: form, names, sizes, hashes of the
 * small files and, with @deep, of all. */
int cllm_checkpoint_check_manifest(const char *dir, bool deep);

#endif /* CLLM_FORMATS_CHECKPOINT_JSON_H */
