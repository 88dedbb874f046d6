/*
 * compute/threaded.h - how operations are cut among threads. Inner header of threaded*.c.
 */
#ifndef CLLM_COMPUTE_THREADED_H
#define CLLM_COMPUTE_THREADED_H

#include "compute/threads.h"

/* @n things, @unit of them never apart, in parts. */
struct cllm_cut {
    size_t n, unit;
    uint32_t n_parts;
};

/* All of them together cost as much as @work elements. */
struct cllm_cut cllm_cut_of(size_t n, size_t unit, size_t work);

/* The first thing of @part, and how many it has. */
size_t cllm_cut_piece(const struct cllm_cut *cut, uint32_t part, size_t *count);

/* The table that does the pieces. */
const struct cllm_ops *cllm_threaded_base(void);

/* compute/threaded_rows.c: put its operations into @table. */
void cllm_threaded_rows(struct cllm_ops *table);

#endif /* CLLM_COMPUTE_THREADED_H */
