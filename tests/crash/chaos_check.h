/*
 * tests/crash/chaos_check.h - was anything lost? What must hold when a run has ended.
 */
#ifndef CLLM_TESTS_CRASH_CHAOS_CHECK_H
#define CLLM_TESTS_CRASH_CHAOS_CHECK_H

#include "tests/crash/chaos_run.h"

/*
 * Everything that must hold after a run that ended with exit code 0: the bits are
 * those of its kind; the journal names each step once, with the tokens it must have; the
 * last checkpoint stands at the last step and at its place in the data; nothing is left
 * in /dev/shm, no temporary file or directory; at most @faults crash records. False:
 * @text says what does not.
 */
bool chaos_check(const struct chaos_run *run, uint32_t faults, char *text, size_t bytes);

/* Lines of the run's log.txt that contain @word. */
uint32_t chaos_count_lines(const struct chaos_run *run, const char *word);

#endif /* CLLM_TESTS_CRASH_CHAOS_CHECK_H */
