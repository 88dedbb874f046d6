/*
 * compute/threads.c - the pool: parts are claimed from one word.
 *
 * The word holds the number of the run, the number of its parts and the next part. To
 * claim one is to exchange the word for one with the next part, which succeeds only while
 * the word is still what was read: whoever has slept through runs cannot claim a part of
 * an old one. The runner waits until as many parts are done as there are; nobody else is
 * waited for.
 */
#include "compute/threads.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <xmmintrin.h>

#include "base/arena.h"
#include "base/atomic.h"
#include "base/err.h"

/* A matrix product packs its blocks on the stack; what it never touches costs nothing. */
#define STACK_BYTES (8u << 20)
#define GUARD_BYTES (4u << 20) /* below it, wider than any frame */

#define SPINS       2000u /* some tens of microseconds: longer than between operations */
#define MXCSR_FLAGS 0x3fu /* sticky exception flags, not a mode */

static struct {
    uint32_t n; /* 0 = no pool */
    size_t scratch_elements, scratch_stride;
    struct cllm_arena scratch;
    pthread_t helper[CLLM_THREADS_MOST]; /* [0] unused */

    /* What is run: written while nobody holds a part, read by whoever does. */
    cllm_threads_fn fn;
    void *ctx;
    uint32_t mxcsr;
} pool;

/* What threads write besides, in lines of the cache apart. */
static struct {
    alignas(CLLM_CACHELINE) _Atomic uint64_t word; /* run << 32 | parts << 16 | next */
} claims;
static struct {
    alignas(CLLM_CACHELINE) _Atomic uint32_t run; /* where helpers sleep */
    _Atomic uint32_t sleepers;
    _Atomic bool stopping;
} helpers;
static struct {
    alignas(CLLM_CACHELINE) _Atomic uint32_t done; /* parts; where the runner sleeps */
    _Atomic bool waiting;                          /* it does, or is about to */
} runner;

static _Thread_local uint32_t this_thread;
static _Thread_local bool within; /* a part */

/* ---- sleeping ---- */

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    /* Whatever ends it, the caller looks again. */
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL);
}

static void futex_wake(_Atomic uint32_t *word, int n)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n);
}

/* ---- parts ---- */

static bool claim(uint32_t *part, uint32_t *n_parts)
{
    uint64_t word = cllm_load_acquire(&claims.word);

    do {
        *part = (uint32_t)(word & 0xffff);
        *n_parts = (uint32_t)(word >> 16 & 0xffff);
        if (*part >= *n_parts)
            return false;
        /* Acquire pairs with the release in cllm_threads_run(): fn, ctx, mxcsr. */
    } while (!atomic_compare_exchange_weak_explicit(
        &claims.word, &word, word + 1, memory_order_acquire, memory_order_acquire));
    return true;
}

/* Do parts until there are none left to claim. */
static void do_parts(void)
{
    uint32_t part, n_parts;

    within = true;
    while (claim(&part, &n_parts)) {
        uint32_t mxcsr = pool.mxcsr;

        if (this_thread != 0)
            _mm_setcsr(mxcsr);
        pool.fn(pool.ctx, part, this_thread);
        CLLM_ASSERT((_mm_getcsr() & ~MXCSR_FLAGS) == mxcsr);
        /* Releases what the part wrote. Whoever sees the last one done and nobody waiting
         * comes before the runner's last look: both are sequentially consistent. */
        if (atomic_fetch_add(&runner.done, 1) + 1 == n_parts &&
            atomic_load(&runner.waiting))
            futex_wake(&runner.done, 1);
    }
    within = false;
}

static void wait_for_parts(uint32_t n_parts)
{
    for (uint32_t spins = 0; cllm_load_acquire(&runner.done) < n_parts;) {
        uint32_t done;

        if (spins++ < SPINS) {
            _mm_pause();
            continue;
        }
        atomic_store(&runner.waiting, true);
        done = atomic_load(&runner.done);
        if (done < n_parts)
            futex_wait(&runner.done, done);
        atomic_store(&runner.waiting, false);
    }
}

static void run_alone(cllm_threads_fn fn, void *ctx, uint32_t n_parts)
{
    for (uint32_t part = 0; part < n_parts; part++)
        fn(ctx, part, this_thread);
}

void cllm_threads_run(cllm_threads_fn fn, void *ctx, uint32_t n_parts)
{
    uint64_t run;

    CLLM_ASSERT(n_parts <= 0xffff);
    if (pool.n <= 1 || n_parts <= 1 || within) {
        run_alone(fn, ctx, n_parts);
        return;
    }
    pool.fn = fn;
    pool.ctx = ctx;
    pool.mxcsr = _mm_getcsr() & ~MXCSR_FLAGS;
    cllm_store_relaxed(&runner.done, 0); /* every part of the last run is done */
    run = cllm_load_relaxed(&helpers.run) + 1u;
    cllm_store_release(&claims.word, run << 32 | (uint64_t)n_parts << 16);
    /* Who is about to sleep sees the new number, or is seen in sleepers. */
    (void)atomic_fetch_add(&helpers.run, 1);
    if (atomic_load(&helpers.sleepers) > 0)
        futex_wake(&helpers.run, (int)cllm_min_u64(n_parts, pool.n) - 1);
    do_parts();
    wait_for_parts(n_parts);
    pool.ctx = NULL; /* the caller's, who may go now */
}

/* ---- helpers ---- */

static void wait_for_run(uint32_t last)
{
    for (uint32_t spins = 0; spins < SPINS; spins++) {
        if (cllm_load_acquire(&helpers.run) != last)
            return;
        _mm_pause();
    }
    (void)atomic_fetch_add(&helpers.sleepers, 1);
    while (atomic_load(&helpers.run) == last)
        futex_wait(&helpers.run, last);
    (void)atomic_fetch_sub(&helpers.sleepers, 1);
}

static void *help(void *number)
{
    char name[16];

    this_thread = (uint32_t)(uintptr_t)number;
    (void)snprintf(name, sizeof name, "thread %u", this_thread);
    (void)pthread_setname_np(pthread_self(), name); /* for people */
    for (;;) {
        uint32_t run = cllm_load_acquire(&helpers.run);

        if (cllm_load_acquire(&helpers.stopping))
            return NULL;
        do_parts();
        wait_for_run(run);
    }
}

/* Signals from outside are for the first thread; a fault that is blocked would end the
 * process without a word. */
static void block_signals(sigset_t *before)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE,
                                 SIGABRT, SIGSYS, SIGTRAP};
    sigset_t set;

    (void)sigfillset(&set);
    for (size_t i = 0; i < CLLM_LEN(faults); i++)
        (void)sigdelset(&set, faults[i]);
    (void)pthread_sigmask(SIG_SETMASK, &set, before);
}

/* Threads from pool.n to @n - 1; pool.n says how many there are at the end. */
static int make_helpers(uint32_t n)
{
    pthread_attr_t attributes;
    sigset_t before;
    int rc = pthread_attr_init(&attributes);

    if (rc != 0)
        return -rc;
    rc = pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (rc == 0)
        rc = pthread_attr_setguardsize(&attributes, GUARD_BYTES);
    block_signals(&before);
    while (rc == 0 && pool.n < n) {
        rc = pthread_create(&pool.helper[pool.n], &attributes, help,
                            (void *)(uintptr_t)pool.n);
        pool.n += rc == 0;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return -rc;
}

int cllm_threads_start(uint32_t n, size_t scratch_elements)
{
    int rc = 0;

    CLLM_ASSERT(pool.n == 0 && n >= 1 && n <= CLLM_THREADS_MOST);
    pool.scratch_elements = scratch_elements;
    pool.scratch_stride = cllm_align_up(scratch_elements, CLLM_PAGE / sizeof(float));
    if (n > 1 && scratch_elements > 0)
        rc =
            cllm_arena_init(&pool.scratch, (n - 1) * pool.scratch_stride * sizeof(float));
    if (rc != 0)
        return rc;
    cllm_store_relaxed(&helpers.stopping, false);
    pool.n = 1;
    rc = make_helpers(n);
    if (rc == 0)
        return 0;
    rc = cllm_err(rc, "cannot start thread %u of %u", pool.n + 1, n);
    cllm_err_hint("[compute] threads = 1, or raise the limit of processes (ulimit -u)");
    cllm_threads_stop();
    return rc;
}

void cllm_threads_stop(void)
{
    if (pool.n == 0)
        return;
    cllm_store_release(&helpers.stopping, true);
    (void)atomic_fetch_add(&helpers.run, 1);
    futex_wake(&helpers.run, INT_MAX);
    for (uint32_t thread = 1; thread < pool.n; thread++)
        (void)pthread_join(pool.helper[thread], NULL);
    if (pool.scratch.base)
        cllm_arena_fini(&pool.scratch);
    pool.scratch = (struct cllm_arena){0};
    pool.n = 0;
}

uint32_t cllm_threads_count(void)
{
    return pool.n > 1 ? pool.n : 1;
}

float *cllm_threads_scratch(uint32_t thread)
{
    CLLM_ASSERT(thread >= 1 && thread < pool.n);
    return (float *)(void *)pool.scratch.base + (thread - 1) * pool.scratch_stride;
}

size_t cllm_threads_scratch_elements(void)
{
    return pool.scratch_elements;
}

/* ---- everywhere ---- */

struct everywhere {
    cllm_threads_fn fn;
    void *ctx;
    _Atomic uint32_t arrived;
};

/* Nobody leaves a part before all have one, so everybody has exactly one. */
static void meet(void *ctx, uint32_t part, uint32_t thread)
{
    struct everywhere *all = ctx;

    (void)part;
    all->fn(all->ctx, thread, thread);
    (void)atomic_fetch_add(&all->arrived, 1);
    while (atomic_load(&all->arrived) < cllm_threads_count())
        (void)sched_yield();
}

void cllm_threads_everywhere(cllm_threads_fn fn, void *ctx)
{
    struct everywhere all = {.fn = fn, .ctx = ctx};

    CLLM_ASSERT(!within);
    cllm_threads_run(meet, &all, cllm_threads_count());
}
