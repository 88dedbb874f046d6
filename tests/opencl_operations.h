/*
 * tests/opencl_operations.h - the operations of a table, each as a function from arrays
 * and sizes: run by the reference and by a device, they must leave the same in the
 * arrays.
 */
#ifndef CLLM_TESTS_OPENCL_OPERATIONS_H
#define CLLM_TESTS_OPENCL_OPERATIONS_H

#include "compute/ops.h"

#define OPERATION_ARRAYS       8
#define N_OPERATIONS           15
#define N_OPERATION_ATTENTIONS 2

/* What an operation reads and writes: in the memory of the host or on the device. */
struct operation_arrays {
    float *at[OPERATION_ARRAYS];
    uint32_t *tokens;
    double *losses;
    size_t n;          /* elements of each */
    const float *from; /* (n), of the host: what is brought to an array */
};

struct operation_shape {
    size_t rows, cols, third;
    uint32_t vocab;
};

struct operation {
    const char *name;
    /* Returns a loss, or 0. */
    double (*run)(const struct cllm_ops *ops, const struct operation_arrays *a,
                  const struct operation_shape *s);
    bool exact;      /* moves values: their bits */
    bool of_ids;     /* has a row for each id of the vocabulary */
    bool of_columns; /* ids are its columns */
};

extern const struct operation operations[N_OPERATIONS];

/* Of sizes of their own. */
extern const struct operation operation_product;
extern const struct operation operation_attentions[N_OPERATION_ATTENTIONS];

/* Elements of each array that @operation needs, with some to spare. */
size_t operation_elements(const struct operation *operation,
                          const struct operation_shape *s);

/* The heads of an attention of that shape. */
struct cllm_attention operation_heads(const struct operation_shape *s);

#endif /* CLLM_TESTS_OPENCL_OPERATIONS_H */
