/*
 * saver/piece.h - the tensors that a range of the parameter vector touches.
 *
 *     struct cllm_piece piece = cllm_piece_begin(tensors, n_tensors, lo, hi);
 *     while (cllm_piece_next(&piece))
 *         elements [piece.tensor_off, + piece.n) of tensors[piece.tensor]
 *         are elements [piece.range_off, + piece.n) of the range
 */
#ifndef CLLM_SAVER_PIECE_H
#define CLLM_SAVER_PIECE_H

#include "base/parameters.h"

struct cllm_piece {
    uint32_t tensor; /* index */
    uint64_t tensor_off, range_off, n;

    const struct cllm_tensor *tensors;
    uint32_t n_tensors, next;
    uint64_t lo, hi;
};

/* Elements [@lo, @hi) of the vector; @tensors in the order of the vector. */
struct cllm_piece cllm_piece_begin(const struct cllm_tensor *tensors, uint32_t n_tensors,
                                   uint64_t lo, uint64_t hi);

/* Step to the next piece; false when there is none. Pieces come in the order of the
 * vector and are never empty. */
bool cllm_piece_next(struct cllm_piece *piece);

#endif /* CLLM_SAVER_PIECE_H */
