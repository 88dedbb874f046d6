/*
 * tests/prep_run.h - the program cllm-prep, run as people run it. CLLM_BIN names the
 * directory of programs (default build/release/bin).
 */
#ifndef CLLM_TESTS_PREP_RUN_H
#define CLLM_TESTS_PREP_RUN_H

#include <stdbool.h>

extern char prep_said[65536]; /* stdout and stderr of the last run */

/* Before the first run. False: the program is not there, and that has been said. */
bool prep_find(void);

/* Run "cllm-prep @arguments" by the shell in directory @dir; the exit code. */
int prep(const char *dir, const char *arguments);

/* The last run must have said @part. */
void assert_said(const char *part);

#endif /* CLLM_TESTS_PREP_RUN_H */
