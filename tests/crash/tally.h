/*
 * tests/crash/tally.h - a campaign's arguments, its clock, and what it counts.
 *
 *     PROGRAM [--quick] [--seed N] [--seconds N] [--replay NAME]
 *
 * A failure prints what was seen and the line that shows it again. The last line of a
 * program is "N passed, N failed", and its exit status says the same.
 */
#ifndef CLLM_TESTS_CRASH_TALLY_H
#define CLLM_TESTS_CRASH_TALLY_H

#include "base/base.h"

struct tally {
    const char *program;
    bool quick;
    uint64_t seed;
    uint64_t seconds;   /* of the random part; 0 = as the program likes */
    const char *replay; /* NULL = everything */
    uint64_t begin_ns;
    uint64_t passed, failed;
    char now[256]; /* the case that is being tried, as --replay takes it */
};

/* Read the arguments; --help and mistakes end the program. */
void tally_begin(struct tally *tally, int argc, char **argv, const char *what);

/* Name the case that begins. False: --replay names another one, do not try it. */
bool tally_case(struct tally *tally, const char *fmt, ...) CLLM_PRINTF(2, 3);

/* The present case is wrong: count it and say what was seen. Returns false. */
bool tally_fail(struct tally *tally, const char *fmt, ...) CLLM_PRINTF(2, 3);

/* Has the random part used its @seconds (or what --seconds says)? */
bool tally_time_is_up(const struct tally *tally, uint64_t seconds);

/* The last line; returns the exit status. */
int tally_end(const struct tally *tally);

/* ---- reasons of refusals ---- */

/* Count @text under the kind of reason it gives; print the table. */
void tally_reason(const char *text);
void tally_print_reasons(void);

#endif /* CLLM_TESTS_CRASH_TALLY_H */
