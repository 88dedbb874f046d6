/*
 * tools/prep_input.h - the documents that cllm-prep reads: files, directories, stdin.
 *
 * A document is a regular file whose first 8 KiB look like text. Directories are walked
 * in sorted order; what is passed over there is counted by reason. A file that the user
 * named is never passed over silently: it is taken, noted as empty, or refused.
 */
#ifndef CLLM_TOOLS_PREP_INPUT_H
#define CLLM_TOOLS_PREP_INPUT_H

#include "base/base.h"
#include "formats/file.h"

struct cllm_prep_document {
    char *path;     /* heap */
    uint64_t off;   /* of the first byte taken: behind a byte order mark */
    uint64_t bytes; /* from there to the end of the file, at least 1 */
};

struct cllm_prep_source {
    const char *argument; /* as given */
    uint64_t documents, bytes;
};

struct cllm_prep_input {
    struct cllm_prep_document *document; /* [n_documents] in order; heap */
    size_t n_documents;
    struct cllm_prep_source *source; /* [n_sources]; heap */
    size_t n_sources;
    uint64_t bytes; /* of all documents */

    /* passed over */
    uint64_t n_hidden, n_binary, n_empty, n_special, n_marks;

    const char *out_dir;              /* stdin is spooled there; never walked */
    char spool[CLLM_FILE_PATH_BYTES]; /* "" = no stdin */
};

/* For zeroed memory plus @out_dir, an existing directory; it must outlive the input. */
void cllm_prep_input_init(struct cllm_prep_input *input, const char *out_dir);

/* Frees all and removes the spooled stdin. */
void cllm_prep_input_fini(struct cllm_prep_input *input);

/* Append file or directory @argument, or stdin for "-". Returns 0; CLLM_EDATA,
 * CLLM_ECONFIG or a negative errno with text. @argument must outlive the input. */
int cllm_prep_input_add(struct cllm_prep_input *input, const char *argument);

#endif /* CLLM_TOOLS_PREP_INPUT_H */
