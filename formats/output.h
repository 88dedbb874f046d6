/*
 * formats/output.h - a file or directory that appears whole or not at all.
 *
 * It is made beside its name, as NAME.tmp, and gets the name when it is complete and
 * durable. What had the name before stays as it was until then, and is replaced only when
 * that was asked for.
 */
#ifndef CLLM_FORMATS_OUTPUT_H
#define CLLM_FORMATS_OUTPUT_H

#include "base/base.h"
#include "formats/file.h"

struct cllm_output {
    char path[CLLM_FILE_PATH_BYTES]; /* the name; "" in zeroed memory */
    char temp[CLLM_FILE_PATH_BYTES];
    int fd; /* of a file; -1 for a directory */
    bool replace;
};

/* Begin the file (or directory) @path; @bytes of a file are reserved, so that a full disk
 * is found now. Its parent is made. What has the name already is CLLM_EREFUSED with text,
 * unless @replace. A temporary of an earlier attempt is removed. */
int cllm_output_file(struct cllm_output *output, const char *path, uint64_t bytes,
                     bool replace);
int cllm_output_directory(struct cllm_output *output, const char *path, bool replace);

/* Durable, then renamed. Ends it in any case; after a failure nothing is left of it. */
int cllm_output_finish(struct cllm_output *output);

/* Drop it. For zeroed memory, and after finish, a no-op. */
void cllm_output_abort(struct cllm_output *output);

/* The file @to with the bytes of @from; durable. @to must not exist. */
int cllm_output_copy(const char *from, const char *to);

#endif /* CLLM_FORMATS_OUTPUT_H */
