/*
 * tests/crash/sim_hooks.c - what the compiler calls before each access of the real code.
 *
 * The sources under test are compiled with the instrumentation that ThreadSanitizer uses,
 * and these functions stand where its library would. Every store to shared memory, of any
 * size and by any way (plain, atomic, memcpy, memset, a whole struct), is an event; so is
 * every atomic load from it. Plain loads may be a place to switch.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/crash/sim.h"

#define TICK_NS 300 /* an event takes so long */

void *__real_memcpy(void *to, const void *from, size_t n);
void *__real_memmove(void *to, const void *from, size_t n);
void *__real_memset(void *to, int byte, size_t n);

static inline bool shared(const void *address)
{
    return (uint64_t)((uintptr_t)address - (uintptr_t)sim.arena) < SIM_ARENA_BYTES;
}

static inline uint64_t offset_of(const void *address)
{
    return (uint64_t)((uintptr_t)address - (uintptr_t)sim.arena);
}

/* Put back what a store of several words had not reached when its process was ended. */
static void forget_tear(struct sim_process *process)
{
    process->tear_bytes = 0;
}

static void event(enum sim_event_kind kind, uint64_t off, uint32_t bytes)
{
    struct sim_process *self = sim.current;

    if (sim.after != 0)
        sim_check_after();
    sim.events++;
    sim.now_ns += TICK_NS;
    self->events++;
    self->cpu_ns += TICK_NS;
    if (sim.events >= sim.fuse)
        sim_decide(kind, off, bytes);
    if (self->tear_bytes != 0)
        forget_tear(self);
}

static void before_store(void *address, uint32_t bytes)
{
    uint64_t off = offset_of(address);

    if (off >= SIM_ARENA_BYTES || !sim.current)
        return;
    event(SIM_STORE, off, bytes);
    if (sim.plan.stall != 0 && !sim.quiet)
        sim_stall(off);
    sim_trace(SIM_STORE, sim.current, off, bytes, NULL);
    sim_check_before(off, bytes);
}

static void before_load(const void *address)
{
    uint64_t off = offset_of(address);

    if (off >= SIM_ARENA_BYTES || !sim.current)
        return;
    if (sim.events + 1 < sim.fuse) {
        /* Not counted, but time passes and the fuse burns. */
        sim.fuse--;
        return;
    }
    event(SIM_LOAD, off, 8);
}

/* A struct assignment: the compiler writes it in pieces that have no hooks of their own.
 * What was there is kept, so that a death at the next event may leave half of it. */
static void before_range(void *address, size_t bytes)
{
    struct sim_process *self = sim.current;
    uint64_t off = offset_of(address);

    if (off >= SIM_ARENA_BYTES || !self)
        return;
    before_store(address, (uint32_t)bytes);
    if (bytes > 8 && bytes <= sizeof self->tear_old) {
        self->tear_off = off;
        self->tear_newest = sim.newest;
        self->tear_root = sim.newest_root;
        self->tear_bytes = (uint32_t)bytes;
        (void)__real_memcpy(self->tear_old, sim.arena + off, bytes);
    }
}

void sim_store64(void *address, uint64_t value)
{
    before_store(address, 8);
    (void)__real_memcpy(address, &value, sizeof value);
}

void sim_message(const char *what, uint64_t value)
{
    if (!sim.current)
        return;
    event(SIM_MESSAGE, 0, 0);
    if (sim.plan.stall != 0 && !sim.quiet)
        sim_stall(SIM_NOWHERE);
    sim_trace(SIM_MESSAGE, sim.current, 0, value, what);
}

/* ---- the library's functions that write memory ---- */

/* Word by word, so that a death leaves a part. */
static void copy_shared(uint8_t *to, const uint8_t *from, size_t n)
{
    size_t i = 0;

    while (i < n) {
        size_t piece = 8 - ((uintptr_t)(to + i) & 7);

        if (piece > n - i)
            piece = n - i;
        before_store(to + i, (uint32_t)piece);
        (void)__real_memcpy(to + i, from + i, piece);
        i += piece;
    }
}

void *__wrap_memcpy(void *to, const void *from, size_t n);
void *__wrap_memmove(void *to, const void *from, size_t n);
void *__wrap_memset(void *to, int byte, size_t n);
int __wrap_snprintf(char *out, size_t n, const char *fmt, ...) CLLM_PRINTF(3, 4);

void *__wrap_memcpy(void *to, const void *from, size_t n)
{
    if (sim.current && n > 0) {
        if (shared(to)) {
            copy_shared(to, from, n);
            return to;
        }
        if (shared(from)) {
            before_load(from);
            if (sim.plan.stall != 0 && !sim.quiet)
                sim_stall(SIM_NOWHERE);
        }
    }
    return __real_memcpy(to, from, n);
}

void *__wrap_memmove(void *to, const void *from, size_t n)
{
    if (sim.current && n > 0 && shared(to)) {
        copy_shared(to, from, n);
        return to;
    }
    return __real_memmove(to, from, n);
}

void *__wrap_memset(void *to, int byte, size_t n)
{
    uint8_t word[8];
    size_t i = 0;

    if (!sim.current || !shared(to))
        return __real_memset(to, byte, n);
    (void)__real_memset(word, byte, sizeof word);
    while (i < n) {
        size_t piece = 8 - ((uintptr_t)((uint8_t *)to + i) & 7);

        if (piece > n - i)
            piece = n - i;
        before_store((uint8_t *)to + i, (uint32_t)piece);
        (void)__real_memcpy((uint8_t *)to + i, word, piece);
        i += piece;
    }
    return to;
}

int __wrap_snprintf(char *out, size_t n, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    int written;

    va_start(ap, fmt);
    if (sim.current && n > 0 && shared(out)) {
        written = vsnprintf(text, n < sizeof text ? n : sizeof text, fmt, ap);
        if (written >= 0)
            copy_shared((uint8_t *)out, (uint8_t *)text,
                        ((size_t)written < n ? (size_t)written : n - 1) + 1);
    } else {
        written = vsnprintf(out, n, fmt, ap);
    }
    va_end(ap);
    return written;
}

/* ---- the compiler's hooks ---- */

/* Their names are the compiler's. */
void __tsan_init(void);
void __tsan_func_entry(void *pc);
void __tsan_func_exit(void);

void __tsan_init(void)
{
}

void __tsan_func_entry(void *pc)
{
    (void)pc;
}

void __tsan_func_exit(void)
{
}

#define HOOKS(size)                                   \
    void __tsan_read##size(void *address);            \
    void __tsan_write##size(void *address);           \
    void __tsan_unaligned_read##size(void *address);  \
    void __tsan_unaligned_write##size(void *address); \
    void __tsan_volatile_read##size(void *address);   \
    void __tsan_volatile_write##size(void *address);  \
    void __tsan_read##size(void *address)             \
    {                                                 \
        before_load(address);                         \
    }                                                 \
    void __tsan_write##size(void *address)            \
    {                                                 \
        before_store(address, size);                  \
    }                                                 \
    void __tsan_unaligned_read##size(void *address)   \
    {                                                 \
        before_load(address);                         \
    }                                                 \
    void __tsan_unaligned_write##size(void *address)  \
    {                                                 \
        before_store(address, size);                  \
    }                                                 \
    void __tsan_volatile_read##size(void *address)    \
    {                                                 \
        before_load(address);                         \
    }                                                 \
    void __tsan_volatile_write##size(void *address)   \
    {                                                 \
        before_store(address, size);                  \
    }

HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

void __tsan_read_range(void *address, size_t bytes);
void __tsan_write_range(void *address, size_t bytes);

void __tsan_read_range(void *address, size_t bytes)
{
    (void)bytes;
    (void)address; /* not between the hook of a range and its bytes */
}

void __tsan_write_range(void *address, size_t bytes)
{
    before_range(address, bytes);
}

void *__tsan_memcpy(void *to, const void *from, size_t n);
void *__tsan_memmove(void *to, const void *from, size_t n);
void *__tsan_memset(void *to, int byte, size_t n);

void *__tsan_memcpy(void *to, const void *from, size_t n)
{
    return __wrap_memcpy(to, from, n);
}

void *__tsan_memmove(void *to, const void *from, size_t n)
{
    return __wrap_memmove(to, from, n);
}

void *__tsan_memset(void *to, int byte, size_t n)
{
    return __wrap_memset(to, byte, n);
}

/* ---- atomics ---- */

void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_signal_fence(int order);

void __tsan_atomic_thread_fence(int order)
{
    (void)order;
}

void __tsan_atomic_signal_fence(int order)
{
    (void)order;
}

/* Read, change and write at once. */
#define REPLACE(bits, type, name, value)                          \
    type __tsan_atomic##bits##_##name(type *a, type v, int order) \
    {                                                             \
        type old;                                                 \
                                                                  \
        (void)order;                                              \
        before_store(a, sizeof(type));                            \
        old = *a;                                                 \
        *a = (type)(value);                                       \
        return old;                                               \
    }

#define ATOMICS(bits, type)                                                            \
    type __tsan_atomic##bits##_load(const type *a, int order);                         \
    void __tsan_atomic##bits##_store(type *a, type v, int order);                      \
    type __tsan_atomic##bits##_exchange(type *a, type v, int order);                   \
    type __tsan_atomic##bits##_fetch_add(type *a, type v, int order);                  \
    type __tsan_atomic##bits##_fetch_sub(type *a, type v, int order);                  \
    type __tsan_atomic##bits##_fetch_and(type *a, type v, int order);                  \
    type __tsan_atomic##bits##_fetch_or(type *a, type v, int order);                   \
    int __tsan_atomic##bits##_compare_exchange_strong(type *a, type *expected, type v, \
                                                      int order, int failure);         \
    int __tsan_atomic##bits##_compare_exchange_weak(type *a, type *expected, type v,   \
                                                    int order, int failure);           \
    type __tsan_atomic##bits##_load(const type *a, int order)                          \
    {                                                                                  \
        (void)order;                                                                   \
        before_load(a);                                                                \
        return *a;                                                                     \
    }                                                                                  \
    void __tsan_atomic##bits##_store(type *a, type v, int order)                       \
    {                                                                                  \
        (void)order;                                                                   \
        before_store(a, sizeof(type));                                                 \
        *a = v;                                                                        \
    }                                                                                  \
    REPLACE(bits, type, exchange, v)                                                   \
    REPLACE(bits, type, fetch_add, old + v)                                            \
    REPLACE(bits, type, fetch_sub, old - v)                                            \
    REPLACE(bits, type, fetch_and, old &v)                                             \
    REPLACE(bits, type, fetch_or, old | v)                                             \
    int __tsan_atomic##bits##_compare_exchange_strong(type *a, type *expected, type v, \
                                                      int order, int failure)          \
    {                                                                                  \
        (void)order;                                                                   \
        (void)failure;                                                                 \
        before_store(a, sizeof(type));                                                 \
        if (*a == *expected) {                                                         \
            *a = v;                                                                    \
            return 1;                                                                  \
        }                                                                              \
        *expected = *a;                                                                \
        return 0;                                                                      \
    }                                                                                  \
    int __tsan_atomic##bits##_compare_exchange_weak(type *a, type *expected, type v,   \
                                                    int order, int failure)            \
    {                                                                                  \
        return __tsan_atomic##bits##_compare_exchange_strong(a, expected, v, order,    \
                                                             failure);                 \
    }

ATOMICS(8, uint8_t)
ATOMICS(16, uint16_t)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)
