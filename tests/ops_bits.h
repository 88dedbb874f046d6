/*
 * tests/ops_bits.h - two tables of operations must give the same bits: on shapes that no
 * vector width divides, with denormals, infinities, NaN and -0.0.
 */
#ifndef CLLM_TESTS_OPS_BITS_H
#define CLLM_TESTS_OPS_BITS_H

#include "compute/ops.h"

enum { OPS_BITS_CONTEXT = 70 }; /* the most positions that attention meets */

/* Fails the test that runs at the first difference of @ops from @reference.
 * @products_alone: only what multiplies matrices. */
void ops_bits_check(const struct cllm_ops *reference, const struct cllm_ops *ops,
                    bool products_alone);

#endif /* CLLM_TESTS_OPS_BITS_H */
