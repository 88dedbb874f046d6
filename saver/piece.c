/*
 * saver/piece.c - cut a range of the vector at the tensors' ends.
 */
#include "saver/piece.h"

struct cllm_piece cllm_piece_begin(const struct cllm_tensor *tensors, uint32_t n_tensors,
                                   uint64_t lo, uint64_t hi)
{
    uint32_t first = 0, end = n_tensors;

    /* The first tensor that ends behind lo; the ends are sorted. */
    while (first < end) {
        uint32_t middle = first + (end - first) / 2;

        if (tensors[middle].off + tensors[middle].count <= lo)
            first = middle + 1;
        else
            end = middle;
    }
    return (struct cllm_piece){
        .tensors = tensors, .n_tensors = n_tensors, .next = first, .lo = lo, .hi = hi};
}

bool cllm_piece_next(struct cllm_piece *piece)
{
    const struct cllm_tensor *tensor;
    uint64_t from, to;

    if (piece->next == piece->n_tensors)
        return false;
    tensor = &piece->tensors[piece->next];
    from = cllm_max_u64(tensor->off, piece->lo);
    to = cllm_min_u64(tensor->off + tensor->count, piece->hi);
    if (from >= to)
        return false;
    piece->tensor = piece->next++;
    piece->tensor_off = from - tensor->off;
    piece->range_off = from - piece->lo;
    piece->n = to - from;
    return true;
}
