/*
 * tools/prep_options.h - the command line of cllm-prep.
 */
#ifndef CLLM_TOOLS_PREP_OPTIONS_H
#define CLLM_TOOLS_PREP_OPTIONS_H

#include "tools/prep_input.h"
#include "tools/prep_text.h"

#define CLLM_PREP_PROGRAM         "cllm-prep"
#define CLLM_PREP_SEPARATOR_BYTES 256

struct cllm_prep_options {
    const char *out_dir;
    const char *tokenizer; /* "bytes" or a path; not with train_vocab */
    uint32_t train_vocab;  /* 0: none is trained */
    const char *pattern;   /* of the trained one */
    enum cllm_prep_format format;
    const char *text_key;
    const char *document_line;  /* --doc-sep; "" = none */
    const char *separator_text; /* as given; NULL: end of text, or "\n\n" for "bytes" */
    uint8_t separator[CLLM_PREP_SEPARATOR_BYTES];
    size_t separator_bytes;
    enum cllm_prep_invalid invalid;
    double val_fraction;
    uint64_t shard_tokens;
    uint32_t threads; /* 0: as many as there are processors */
    bool skip_bad, allow_special, renumber, force, quiet, verbose;
    int first_argument; /* of argv: what follows the options */
};

/* Fill @options from the command line. Returns 0; 1 when there is nothing left to do
 * (help, version); CLLM_ECONFIG with text, or without one when getopt has spoken. */
int cllm_prep_options_parse(struct cllm_prep_options *options, int argc, char **argv);

/* "Try --help" to stderr; the exit code. */
int cllm_prep_usage_error(void);

#endif /* CLLM_TOOLS_PREP_OPTIONS_H */
