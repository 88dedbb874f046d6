/*
 * tests/crash/alloc_fail.h - what a program linked with alloc_fail.c is to do.
 *
 * The plan lies in a file "alloc_fail" beside the program (the environment of children is
 * scrubbed) and is shared by all processes of a run, so that the n-th allocation is the
 * n-th of all processes of a role, whoever was started again. Without the file nothing
 * fails.
 */
#ifndef CLLM_TESTS_CRASH_ALLOC_FAIL_H
#define CLLM_TESTS_CRASH_ALLOC_FAIL_H

#include "base/base.h"

#define ALLOC_FAIL_FILE  "alloc_fail"
#define ALLOC_FAIL_ROLES 8 /* indices are those of enum nano_role */

struct alloc_fail_plan {
    uint64_t count[ALLOC_FAIL_ROLES]; /* allocations so far, atomically */
    uint64_t failed;                  /* of them, likewise */
    uint64_t n;                       /* which fails, from 1; 0 = none */
    uint32_t role;
    uint32_t persist; /* 1: those that follow fail as well */
};

#endif /* CLLM_TESTS_CRASH_ALLOC_FAIL_H */
