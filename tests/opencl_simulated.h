/*
 * tests/opencl_simulated.h - transfers as oclgrind can follow them.
 *
 * oclgrind (21.10 and what came after it until 2026) keeps a shadow of every buffer that
 * knows which bytes have been written. But a write, fill or copy of the host replaces the
 * shadow of the whole buffer by one of just the bytes of that command: all that was
 * written before, and what lies beyond, then counts as uninitialised for good, and what
 * kernels write there later is not noted either. Arrays here are parts of buffers, so
 * that nothing but false reports would be left.
 *
 * What kernels store is noted rightly. Hence, in a simulator, what the host writes goes
 * to the beginning of one buffer, which nothing else is in, and a kernel brings it to its
 * place; fills are kernels, too. The kernels under test are what they are
 * everywhere, and nothing is suppressed. It is even stricter than a device: the zeros
 * that a reserved array begins with are not written, so that a kernel that reads what no
 * kernel and no transfer has written is found.
 *
 * Which kernels were launched, and how they were compiled, goes to the file that
 * $CLLM_OPENCL_LAUNCHED names, a line each: "NAME OPTIONS". So scripts/check-oclgrind.sh
 * can tell a kernel without reports from one that nobody has run.
 */
#ifndef CLLM_TESTS_OPENCL_SIMULATED_H
#define CLLM_TESTS_OPENCL_SIMULATED_H

#include "base/base.h"

/* Whether this test runs in a simulator: $CLLM_OPENCL_SIMULATED says so. */
bool cllm_opencl_simulated(void);

/* From here on; before each time that a device is opened. What the simulator finds goes
 * to $OCLGRIND_LOG with a dot and a number, one for each time. */
void cllm_opencl_simulate(void);

/* In a simulator, a line for who waits: @what, and the seconds since the last call. */
void cllm_opencl_simulated_done(const char *what);

#endif /* CLLM_TESTS_OPENCL_SIMULATED_H */
