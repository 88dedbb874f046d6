/*
 * tools/prep_input.h - the files that cllm-prep reads: named ones, directories, stdin.
 *
 * A file is taken when the first 8 KiB of it, unpacked, look like text. Directories are
 * walked in sorted order; what is passed over there is counted by reason. A file that the
 * user named is never passed over silently: it is taken, noted as empty, or refused.
 */
#ifndef CLLM_TOOLS_PREP_INPUT_H
#define CLLM_TOOLS_PREP_INPUT_H

#include "base/base.h"
#include "formats/file.h"

enum cllm_prep_format {
    CLLM_PREP_FORMAT_AUTO = 0, /* .jsonl and .ndjson, perhaps packed, are JSON lines */
    CLLM_PREP_FORMAT_TEXT,
    CLLM_PREP_FORMAT_JSONL
};

struct cllm_prep_file {
    char *path;      /* heap */
    uint32_t source; /* argument that named it, or a directory above it */
    bool jsonl;      /* a document is a line; otherwise the file is one, or parts of it */
    uint64_t bytes;  /* of the file, packed as it is; at least 1 */
    int64_t mtime_ns; /* when it was listed; of stdin 0 */
};

struct cllm_prep_source {
    const char *argument; /* as given */
    uint64_t files;
};

struct cllm_prep_input {
    struct cllm_prep_file *file; /* [n_files] in order; heap */
    size_t n_files;
    struct cllm_prep_source *source; /* [n_sources]; heap */
    size_t n_sources;
    uint64_t bytes; /* of all files */

    /* passed over */
    uint64_t n_hidden, n_binary, n_empty, n_special;
    uint64_t n_marks, n_packed; /* taken: with a byte order mark; gzip or zstd */

    enum cllm_prep_format format;
    const char *out_dir;              /* stdin is spooled there; never walked */
    char spool[CLLM_FILE_PATH_BYTES]; /* "" = no stdin */
    char spool_sha256[65];
};

/* For zeroed memory plus @out_dir, an existing directory; it must outlive the input. */
void cllm_prep_input_init(struct cllm_prep_input *input, const char *out_dir,
                          enum cllm_prep_format format);

/* Frees all and removes the spooled stdin. */
void cllm_prep_input_fini(struct cllm_prep_input *input);

/* Append file or directory @argument, or stdin for "-". Returns 0; CLLM_EDATA,
 * CLLM_ECONFIG or a negative errno with text. @argument must outlive the input. */
int cllm_prep_input_add(struct cllm_prep_input *input, const char *argument);

/* Is @fd, which was opened for @file, still what was listed? 0, or CLLM_EDATA with
 * text. */
int cllm_prep_input_unchanged(const struct cllm_prep_file *file, int fd);

#endif /* CLLM_TOOLS_PREP_INPUT_H */
