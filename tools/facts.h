/*
 * tools/facts.h - what this machine offers to CLLM, as (section, key, text) rows.
 *
 * Gathered by trying where that is harmless (an io_uring is made and closed), otherwise
 * by asking the kernel. What cannot be told is a row that says so: no fact is an error.
 */
#ifndef CLLM_TOOLS_FACTS_H
#define CLLM_TOOLS_FACTS_H

#include "base/base.h"

#define CLLM_FACTS_MAX 64

struct cllm_fact {
    const char *section, *key; /* stable: keys of the JSON output */
    char text[480];
};

struct cllm_facts {
    struct cllm_fact fact[CLLM_FACTS_MAX]; /* grouped by section */
    uint32_t n;
};

void cllm_facts_add(struct cllm_facts *facts, const char *section, const char *key,
                    const char *fmt, ...) CLLM_PRINTF(4, 5);

/* Everything about the machine. @data: a path whose direct I/O is asked about, or NULL.
 */
void cllm_facts_machine(struct cllm_facts *facts, const char *data);

#endif /* CLLM_TOOLS_FACTS_H */
