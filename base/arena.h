/*
 * base/arena.h - one block of zeroed private memory, handed out in order, never given
 * back.
 *
 * Sized before the first step; a sealed arena refuses to hand out more, so that nothing
 * can run out of memory in the middle of a run. Every piece is 64-byte aligned, because
 * alignment is an input to floating-point results (vector kernels peel unaligned heads).
 */
#ifndef CLLM_BASE_ARENA_H
#define CLLM_BASE_ARENA_H

#include "base/base.h"

struct cllm_arena {
    uint8_t *base;
    size_t bytes; /* size of the block */
    size_t used;
    bool sealed;
};

/* Map @bytes of zeroed memory (rounded up to pages). Returns 0 or a negative errno with
 * text. */
int cllm_arena_init(struct cllm_arena *arena, size_t bytes);
void cllm_arena_fini(struct cllm_arena *arena);

/* @bytes, 64-byte aligned. Too much, or after the seal: an assert, because sizes are
 * planned. */
void *cllm_arena_take(struct cllm_arena *arena, size_t bytes);
void cllm_arena_seal(struct cllm_arena *arena);

#endif /* CLLM_BASE_ARENA_H */
