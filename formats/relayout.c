/*
 * formats/relayout.c - transposition in tiles, rows in another order.
 */
#include "formats/relayout.h"

#include <string.h>

#define TILE 32 /* rows and columns that stay in the nearest cache both ways */

void cllm_relayout_transpose(float *restrict out, const float *restrict in, uint64_t rows,
                             uint64_t cols)
{
    for (uint64_t r = 0; r < rows; r += TILE) {
        for (uint64_t c = 0; c < cols; c += TILE) {
            uint64_t r_end = cllm_min_u64(r + TILE, rows);
            uint64_t c_end = cllm_min_u64(c + TILE, cols);

            for (uint64_t i = r; i < r_end; i++)
                for (uint64_t j = c; j < c_end; j++)
                    out[j * rows + i] = in[i * cols + j];
        }
    }
}

void cllm_relayout_interleave(float *restrict out, const float *restrict in,
                              uint64_t rows, uint64_t cols, uint64_t head)
{
    CLLM_ASSERT(head % 2 == 0 && rows % head == 0);
    for (uint64_t first = 0; first < rows; first += head)
        for (uint64_t i = 0; i < head; i++)
            memcpy(out + (first + i) * cols,
                   in + (first + i / 2 + (i % 2) * (head / 2)) * cols,
                   (size_t)cols * sizeof *out);
}

void cllm_relayout_split(float *restrict out, const float *restrict in, uint64_t rows,
                         uint64_t cols, uint64_t head)
{
    CLLM_ASSERT(head % 2 == 0 && rows % head == 0);
    for (uint64_t first = 0; first < rows; first += head)
        for (uint64_t i = 0; i < head; i++)
            memcpy(out + (first + i / 2 + (i % 2) * (head / 2)) * cols,
                   in + (first + i) * cols, (size_t)cols * sizeof *out);
}
