/*
 * tools/argument.h - numbers on a command line.
 */
#ifndef CLLM_TOOLS_ARGUMENT_H
#define CLLM_TOOLS_ARGUMENT_H

#include "base/base.h"

/* The whole number @text of option --@name, @min to @max, to @out; anything else is
 * CLLM_ECONFIG with text. */
int cllm_argument_whole(const char *name, const char *text, uint64_t min, uint64_t max,
                        uint64_t *out);

#endif /* CLLM_TOOLS_ARGUMENT_H */
