/*
 * base/atomic.h - C11 atomics under short names that say their ordering.
 *
 * "Pairs with": a release store makes every earlier write of its process visible to
 * whoever reads the value with acquire. Each use of either names its partner in a
 * comment. Relaxed access carries a value and orders nothing.
 */
#ifndef CLLM_BASE_ATOMIC_H
#define CLLM_BASE_ATOMIC_H

#include <stdatomic.h>
#include <stdint.h>

#define cllm_load_acquire(p)     atomic_load_explicit((p), memory_order_acquire)
#define cllm_load_relaxed(p)     atomic_load_explicit((p), memory_order_relaxed)
#define cllm_store_release(p, v) atomic_store_explicit((p), (v), memory_order_release)
#define cllm_store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)

/* Compiler and CPU: earlier stores are visible before later ones. */
#define cllm_fence_release() atomic_thread_fence(memory_order_release)
#define cllm_fence_acquire() atomic_thread_fence(memory_order_acquire)

/* Shared memory is only sound with address-free, lock-free atomics. */
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "32-bit atomics must be lock-free");
_Static_assert(ATOMIC_LONG_LOCK_FREE == 2, "64-bit atomics must be lock-free");

#endif /* CLLM_BASE_ATOMIC_H */
