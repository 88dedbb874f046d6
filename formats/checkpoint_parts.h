/*
 * formats/checkpoint_parts.h - the data sets of a mixture in run.json: "mixture", an
 * array of {"name", "windows", "sequences"}, absent for a plain list. Inner header of
 * checkpoint*.c.
 */
#ifndef CLLM_FORMATS_CHECKPOINT_PARTS_H
#define CLLM_FORMATS_CHECKPOINT_PARTS_H

#include "formats/checkpoint.h"
#include "formats/json.h"

/* Those of @info into @run. False when memory was out. */
bool cllm_checkpoint_put_parts(json_t *run, const struct cllm_checkpoint_info *info);

/* Those of @run into @info. Returns 0, or CLLM_EDATA with text; @path is for messages. */
int cllm_checkpoint_get_parts(const json_t *run, const char *path,
                              struct cllm_checkpoint_info *info);

#endif /* CLLM_FORMATS_CHECKPOINT_PARTS_H */
