/*
 * formats/checkpoint_json.h - the three texts of a checkpoint: config.json, run.json and
 * manifest.json. Inner header of checkpoint*.c; others use formats/checkpoint.h.
 */
#ifndef CLLM_FORMATS_CHECKPOINT_JSON_H
#define CLLM_FORMATS_CHECKPOINT_JSON_H

#include "base/base.h"
#include "formats/checkpoint.h"

/* Read and check @dir's config.json into the model fields of @info. Returns 0, CLLM_EDATA
 * or a negative errno with text. */
int cllm_checkpoint_read_config(const char *dir, struct cllm_checkpoint_info *info);

/* The same of run.json and the other fields. */
int cllm_checkpoint_read_run(const char *dir, struct cllm_checkpoint_info *info);

/* Hold @dir's files against its manifest.json: form, names, sizes, SHA-256 of the two
 * small files and, with @deep, of the tensors. */
int cllm_checkpoint_check_manifest(const char *dir, bool deep);

#endif /* CLLM_FORMATS_CHECKPOINT_JSON_H */
