/*
 * formats/gpt2_names.h - which tensors a GPT-2 checkpoint holds, and where the parameter
 * vector has them.
 *
 * The saver and the tools must know the tensors without knowing the model's arithmetic;
 * this table is all they get. model/gpt.h plans the same vector for the workers, and a
 * test holds the two against each other.
 *
 * Each tensor begins at a multiple of CLLM_GPT2_ALIGN elements; what lies between the
 * tensors, and after the last, is zero and is not in files. Conv1D weights are (in, out)
 * in the vector and in the file alike. The output matrix is the token embedding and is
 * not written twice.
 */
#ifndef CLLM_FORMATS_GPT2_NAMES_H
#define CLLM_FORMATS_GPT2_NAMES_H

#include "base/base.h"

#define CLLM_TENSOR_NAME_BYTES 64
#define CLLM_GPT2_ALIGN        16   /* elements: one cache line */
#define CLLM_GPT2_VECTOR_ALIGN 1024 /* elements: the whole vector */

struct cllm_tensor_desc {
    char name[CLLM_TENSOR_NAME_BYTES]; /* as in Hugging Face files */
    uint32_t rank;                     /* 1 or 2 */
    uint64_t shape[2];                 /* shape[1] is 1 at rank 1 */
    uint64_t n_elements;               /* product of the shape */
    uint64_t offset;                   /* of element 0 in the parameter vector */
};

/*
 * The tensors of a model of vocabulary V = @vocab, @context T, @layers and @width C, in
 * the order of the vector. Sizes are those that the configuration allows
 * (base/options.def).
 * *@n is their number. Heap, the caller frees; NULL when memory is out.
 */
struct cllm_tensor_desc *cllm_gpt2_tensors(uint32_t vocab, uint32_t context,
                                           uint32_t layers, uint32_t width, uint32_t *n);

/* Trained numbers: the sum of all n_elements. */
uint64_t cllm_gpt2_params(const struct cllm_tensor_desc *tensor, uint32_t n);

/* Length of the parameter vector in elements, a multiple of CLLM_GPT2_VECTOR_ALIGN. */
uint64_t cllm_gpt2_vector_elements(const struct cllm_tensor_desc *tensor, uint32_t n);

#endif /* CLLM_FORMATS_GPT2_NAMES_H */
