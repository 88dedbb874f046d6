/*
 * tools/shm_text.h - runs as text for people: tables of 80 columns where they fit.
 */
#ifndef CLLM_TOOLS_SHM_TEXT_H
#define CLLM_TOOLS_SHM_TEXT_H

#include <stdio.h>

#include "tools/shm_ring.h"
#include "tools/shm_view.h"

#define CLLM_SHM_CELL 16

/* One line for each of @n_views runs, under a heading. */
void cllm_shm_text_list(FILE *out, const struct cllm_shm_view *views, uint32_t n_views);

/* The whole picture of one run on one screen. */
void cllm_shm_text_show(FILE *out, const struct cllm_shm_view *view);

/* Every lane; every chunk too when @chunks. */
void cllm_shm_text_lanes(FILE *out, const struct cllm_shm_view *view, bool chunks);

/* Every slot of the batch ring, and what the loader says. */
void cllm_shm_text_ring(FILE *out, const struct cllm_shm_view *view,
                        const struct cllm_shm_ring *ring);

/* What is wrong with a run and what one can do about it; nothing for a live one. */
void cllm_shm_text_trouble(FILE *out, const struct cllm_shm_view *view);

/* One lane: "F" folded, "D" done, "a2" at slot 2, "R" ready, "." empty, "X", "?". */
const char *cllm_shm_text_lane(char out[CLLM_SHM_CELL], const struct cllm_lane *lane);

/* "12 folded, 3 done, 1 assigned": lanes by state, those that there are. */
void cllm_shm_text_lane_counts(char *out, size_t bytes, const struct cllm_shm_view *view);

/* A bar of @width cells, @share of them filled: "[####......]"; @out has width + 3. */
const char *cllm_shm_text_bar(char *out, uint32_t width, double share);

#endif /* CLLM_TOOLS_SHM_TEXT_H */
