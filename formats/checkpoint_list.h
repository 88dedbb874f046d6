/*
 * formats/checkpoint_list.h - which checkpoints a directory holds, by name alone. Inner
 * header of checkpoint*.c.
 */
#ifndef CLLM_FORMATS_CHECKPOINT_LIST_H
#define CLLM_FORMATS_CHECKPOINT_LIST_H

#include "base/base.h"

struct cllm_checkpoint_list {
    uint32_t n;
    uint64_t *step; /* [n] newest first; heap, the caller frees; NULL after a failure */
};

/* The steps of all directories step-NNNNNNNNNN (with @temp: step-NNNNNNNNNN.tmp) in
 * @checkpoints. Returns 0 or a negative errno with text. */
int cllm_checkpoint_list(const char *checkpoints, bool temp,
                         struct cllm_checkpoint_list *list);

/* Is @name that of a checkpoint (@temp: of a temporary one)? Its step into @step. */
bool cllm_checkpoint_parse_name(const char *name, bool temp, uint64_t *step);

/* The step that link @name in @checkpoints points at. Returns 1; 0: no such link, or it
 * points elsewhere; a negative errno with text: it cannot be read. */
int cllm_checkpoint_linked(const char *checkpoints, const char *name, uint64_t *step);

#endif /* CLLM_FORMATS_CHECKPOINT_LIST_H */
