/*
 * base/arena.c - anonymous pages, bumped.
 */
#include "base/arena.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/err.h"

int cllm_arena_init(struct cllm_arena *arena, size_t bytes)
{
    size_t mapped = cllm_align_up(cllm_max_u64(bytes, 1), CLLM_PAGE);
    void *base =
        mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (base == MAP_FAILED)
        return cllm_err(-errno, "cannot get %zu bytes of private memory", mapped);
    /* Large scratch in huge pages where the kernel allows it; refusal costs only
     * speed. */
    (void)madvise(base, mapped, MADV_HUGEPAGE);
    *arena = (struct cllm_arena){.base = base, .bytes = mapped};
    return 0;
}

void cllm_arena_fini(struct cllm_arena *arena)
{
    if (arena->base)
        (void)munmap(arena->base, arena->bytes);
    *arena = (struct cllm_arena){0};
}

void *cllm_arena_take(struct cllm_arena *arena, size_t bytes)
{
    size_t need = cllm_align_up(bytes, CLLM_CACHELINE);
    void *piece = arena->base + arena->used;

    CLLM_ASSERT(!arena->sealed);
    CLLM_ASSERT(bytes <= arena->bytes); /* so that rounding up cannot overflow */
    CLLM_ASSERT(need <= arena->bytes - arena->used);
    arena->used += need;
    return piece;
}

void cllm_arena_seal(struct cllm_arena *arena)
{
    arena->sealed = true;
}
