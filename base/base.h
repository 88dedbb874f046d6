/*
 * base/base.h - the words every file uses: limits, alignment, the assert that stays on.
 *
 * CLLM_ASSERT is for bugs: a broken promise of our own code. It is compiled into release
 * builds, says what broke and where, and aborts. What a user or the system can cause is
 * never asserted; it is reported through base/err.h.
 */
#ifndef CLLM_BASE_BASE_H
#define CLLM_BASE_BASE_H

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLLM_VERSION "0.1.0"

#define CLLM_CACHELINE 64
#define CLLM_PAGE      4096

#define CLLM_LEN(array)    (sizeof(array) / sizeof((array)[0]))
#define CLLM_PRINTF(f, a)  __attribute__((format(printf, f, a)))
#define CLLM_NORETURN      __attribute__((noreturn))
#define CLLM_UNUSED        __attribute__((unused))
#define CLLM_MUST_CHECK    __attribute__((warn_unused_result))
#define CLLM_STRINGIFY_(x) #x
#define CLLM_STRINGIFY(x)  CLLM_STRINGIFY_(x)

/* Abort with the broken condition; on in every build. The condition has no side
 * effects. */
#define CLLM_ASSERT(cond) \
    ((cond) ? (void)0 : cllm_assert_failed(#cond, __FILE__, __LINE__, __func__))

CLLM_NORETURN void cllm_assert_failed(const char *cond, const char *file, int line,
                                      const char *func);

/* Called with the text of a failed assert before the abort; one hook for each process.
 * It must be async-signal-safe. Roles use it to leave the text in their shared page. */
typedef void (*cllm_assert_hook_fn)(const char *text);
void cllm_assert_set_hook(cllm_assert_hook_fn hook);

/* @n rounded up to a multiple of @align, a power of two. */
static inline uint64_t cllm_align_up(uint64_t n, uint64_t align)
{
    return (n + align - 1) & ~(align - 1);
}

static inline uint64_t cllm_div_up(uint64_t n, uint64_t d)
{
    return (n + d - 1) / d;
}

static inline uint64_t cllm_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t cllm_max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif /* CLLM_BASE_BASE_H */
