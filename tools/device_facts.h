/*
 * tools/device_facts.h - the devices of this machine, as rows of cllm-info.
 */
#ifndef CLLM_TOOLS_DEVICE_FACTS_H
#define CLLM_TOOLS_DEVICE_FACTS_H

#include "tools/facts.h"

/* A row for each device that cllm-devices tells of, or one that says why there is none.
 * It is given some seconds. */
void cllm_device_facts_add(struct cllm_facts *facts);

/* The same from its answer: for the above, and for tests. */
void cllm_device_facts_read(struct cllm_facts *facts, const char *answer, size_t bytes);

#endif /* CLLM_TOOLS_DEVICE_FACTS_H */
