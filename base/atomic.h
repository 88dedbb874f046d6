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
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define cllm_load_acquire(p)     atomic_load_explicit((p), memory_order_acquire)
#define cllm_load_relaxed(p)     atomic_load_explicit((p), memory_order_relaxed)
#define cllm_store_release(p, v) atomic_store_explicit((p), (v), memory_order_release)
#define cllm_store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)

/* Compiler and CPU: earlier stores are visible before later ones. */
#define cllm_fence_release() atomic_thread_fence(memory_order_release)
#define cllm_fence_acquire() atomic_thread_fence(memory_order_acquire)

/*
 * Records whose other side may be reading or writing them at this very moment are moved
 * word by word, relaxed: such a copy may be torn, which the record's own number or hash
 * tells; with plain loads and stores it would be undefined besides. The shared side is
 * aligned to 8, @bytes a multiple of 8.
 */
static inline void cllm_read_words(void *to, const void *shared, size_t bytes)
{
    const _Atomic uint64_t *from = (const _Atomic uint64_t *)shared;

    for (size_t i = 0; i < bytes / sizeof *from; i++) {
        uint64_t word = cllm_load_relaxed(&from[i]);

        memcpy((char *)to + i * sizeof word, &word, sizeof word);
    }
}

static inline void cllm_write_words(void *shared, const void *from, size_t bytes)
{
    _Atomic uint64_t *to = (_Atomic uint64_t *)shared;

    for (size_t i = 0; i < bytes / sizeof *to; i++) {
        uint64_t word;

        memcpy(&word, (const char *)from + i * sizeof word, sizeof word);
        cllm_store_relaxed(&to[i], word);
    }
}

static inline void cllm_clear_words(void *shared, size_t bytes)
{
    _Atomic uint64_t *to = (_Atomic uint64_t *)shared;

    for (size_t i = 0; i < bytes / sizeof *to; i++)
        cllm_store_relaxed(&to[i], 0);
}

/* Shared memory is only sound with address-free, lock-free atomics. */
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "32-bit atomics must be lock-free");
_Static_assert(ATOMIC_LONG_LOCK_FREE == 2, "64-bit atomics must be lock-free");

#endif /* CLLM_BASE_ATOMIC_H */
