/*
 * tools/prep_report.h - what cllm-prep says while it works and when it is done.
 */
#ifndef CLLM_TOOLS_PREP_REPORT_H
#define CLLM_TOOLS_PREP_REPORT_H

#include "tools/prep_output.h"

struct cllm_prep_progress {
    const char *what; /* is being done */
    uint64_t begun_ns, shown_ns;
    uint64_t first, total; /* bytes: where it begins and ends */
};

/* Begin at @first of @total bytes. */
void cllm_prep_progress_begin(struct cllm_prep_progress *progress, const char *what,
                              uint64_t first, uint64_t total);

/* A bar on a terminal, ten times a second; elsewhere a line every five seconds. */
void cllm_prep_progress_show(struct cllm_prep_progress *progress, uint64_t done);

/* The bar goes; a line says how fast it was. */
void cllm_prep_progress_end(struct cllm_prep_progress *progress);

/* What is read and what was passed over. */
void cllm_prep_report_input(const struct cllm_prep_input *input);

/* What became of the text, and what was written. */
void cllm_prep_report_output(const struct cllm_prep_output *output,
                             const struct cllm_prep_facts *facts);

#endif /* CLLM_TOOLS_PREP_REPORT_H */
