/*
 * tools/ctl_answer.h - what a run answers over its control socket, for people.
 */
#ifndef CLLM_TOOLS_CTL_ANSWER_H
#define CLLM_TOOLS_CTL_ANSWER_H

#include <stdio.h>

#include "base/base.h"

/*
 * Show the answer of @bytes at @text on @out: its text, a line of status, or with @json
 * the object itself. Returns 0; the refusal that it holds, or what is wrong with it, as a
 * negative code with text.
 */
int cllm_ctl_answer(FILE *out, const char *text, size_t bytes, bool json);

#endif /* CLLM_TOOLS_CTL_ANSWER_H */
