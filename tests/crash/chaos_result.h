/*
 * tests/crash/chaos_result.h - what a campaign found, as a table for people and as a line
 * of JSON that is kept.
 */
#ifndef CLLM_TESTS_CRASH_CHAOS_RESULT_H
#define CLLM_TESTS_CRASH_CHAOS_RESULT_H

#include "tests/crash/chaos_battle.h"

struct chaos_result {
    const char *mode, *model;
    uint64_t seed;
    uint32_t workers;
    double seconds;
    char commit[64]; /* what is tested, by chaos_result_name_commit() */
    const struct chaos_score *score;
    const char
        *extra; /* further members of the JSON object, beginning with a comma, or "" */
};

/* git's name for the source, before it moves on; "unknown" where there is no git. */
void chaos_result_name_commit(struct chaos_result *result);

/* The table of cells and the sums, to stdout. */
void chaos_result_print(const struct chaos_result *result);

/* Append one line to @path. Returns 0 or a negative errno with text. */
int chaos_result_append(const struct chaos_result *result, const char *path);

#endif /* CLLM_TESTS_CRASH_CHAOS_RESULT_H */
