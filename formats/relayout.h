/*
 * formats/relayout.h - the same matrix as another format stores it.
 *
 * Matrices are row-major; @rows and @cols are those of the input. @out and @in do not
 * overlap.
 *
 * Rotated positions turn pairs of a head's elements. Hugging Face pairs element i with
 * i + D/2 (a head's rows are split in half); llama.cpp, llama2.c and Meta pair 2i with
 * 2i + 1 (interleaved). Going from one to the other reorders the rows of the matrices of
 * queries and keys within each head; the results of attention are the same.
 */
#ifndef CLLM_FORMATS_RELAYOUT_H
#define CLLM_FORMATS_RELAYOUT_H

#include "base/base.h"

/* How a format's matrix comes from Hugging Face's. */
enum cllm_relayout {
    CLLM_RELAYOUT_SAME = 0,
    CLLM_RELAYOUT_TRANSPOSED,  /* (in,out) and (out,in) */
    CLLM_RELAYOUT_INTERLEAVED, /* rows of heads, split in half and interleaved */
};

/* (rows,cols) -> (cols,rows) */
void cllm_relayout_transpose(float *out, const float *in, uint64_t rows, uint64_t cols);

/* Rows of heads of @head rows each: from halves to interleaved, and back. @head is even
 * and divides @rows. */
void cllm_relayout_interleave(float *out, const float *in, uint64_t rows, uint64_t cols,
                              uint64_t head);
void cllm_relayout_split(float *out, const float *in, uint64_t rows, uint64_t cols,
                         uint64_t head);

#endif /* CLLM_FORMATS_RELAYOUT_H */
