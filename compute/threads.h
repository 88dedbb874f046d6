/*
 * compute/threads.h - several threads of one process at one operation.
 *
 * For models of which a machine's memory does not hold the activations as many times as
 * it has cores: fewer processes with more threads each. The bits are those of one thread,
 * because an operation is only ever cut where its elements do not meet
 * (compute/threaded.c).
 *
 * There is one pool in a process. Its threads are made once, with all that they need;
 * then nothing is allocated. Fork and join: cllm_threads_run() hands out parts to
 * whoever comes, itself included, and returns when all are done. It never waits for a
 * thread that has not begun a part, so that a busy machine costs a thread and not the
 * step. Threads without work spin for some microseconds, then they sleep.
 */
#ifndef CLLM_COMPUTE_THREADS_H
#define CLLM_COMPUTE_THREADS_H

#include "compute/ops.h"

#define CLLM_THREADS_MOST 64

/* One of the parts 0 to n_parts - 1, done in the thread @thread: 0 = the caller's. */
typedef void (*cllm_threads_fn)(void *ctx, uint32_t part, uint32_t thread);

/*
 * Start @n - 1 threads besides the calling one, 1 <= n <= CLLM_THREADS_MOST, each with
 * @scratch_elements f32 of its own. They block all signals that are not faults. The pool
 * must not be running. With @n = 1 no thread is made. Returns 0 or a negative errno with
 * text, and then there is no pool.
 */
int cllm_threads_start(uint32_t n, size_t scratch_elements);

/* End them; safe without a pool. Only between runs. */
void cllm_threads_stop(void);

/* How many there are, the first included; 1 without a pool. */
uint32_t cllm_threads_count(void);

/*
 * Do all @n_parts, at most 65535 of them, in any order and several at once, and return
 * when they are done; what they wrote is then visible. Threads round as the caller does
 * (MXCSR). Within a part, or without a pool, the calling thread does them all, in order.
 */
void cllm_threads_run(cllm_threads_fn fn, void *ctx, uint32_t n_parts);

/* Once in every thread, all at the same time; part = thread. */
void cllm_threads_everywhere(cllm_threads_fn fn, void *ctx);

/* The scratch of @thread, from 1 to count - 1, 64-byte aligned, and its elements. */
float *cllm_threads_scratch(uint32_t thread);
size_t cllm_threads_scratch_elements(void);

/* ---- compute/threaded.c ---- */

/*
 * A table that does the operations of @base with all threads of the pool and gives the
 * same bits; @base itself when there is one thread. An operation is cut into parts of at
 * least @least elements, or what costs as much; 0 = a size that pays. Attention needs
 * cllm_attention_scratch() elements of scratch in every thread. One such table at a time,
 * valid until the next call.
 */
const struct cllm_ops *cllm_ops_threaded(const struct cllm_ops *base, size_t least);

#endif /* CLLM_COMPUTE_THREADS_H */
