/*
 * formats/gpt2_names.c - one table of a block's tensors, written out for every layer.
 */
#include "formats/gpt2_names.h"

#include <stdio.h>
#include <stdlib.h>

/* A size in the table: how many times the width; 0 stands for "no second dimension". */
struct block_row {
    const char *name;
    uint32_t dim[2];
};

static const struct block_row block[] = {
    {"ln_1.weight", {1, 0}},        {"ln_1.bias", {1, 0}},
    {"attn.c_attn.weight", {1, 3}}, {"attn.c_attn.bias", {3, 0}},
    {"attn.c_proj.weight", {1, 1}}, {"attn.c_proj.bias", {1, 0}},
    {"ln_2.weight", {1, 0}},        {"ln_2.bias", {1, 0}},
    {"mlp.c_fc.weight", {1, 4}},    {"mlp.c_fc.bias", {4, 0}},
    {"mlp.c_proj.weight", {4, 1}},  {"mlp.c_proj.bias", {1, 0}},
};

/* Put tensor (@rows, @cols) at the next free place; @cols 0 makes it a vector. */
static void place(struct cllm_tensor_desc *desc, uint64_t *offset, uint64_t rows,
                  uint64_t cols)
{
    desc->rank = cols == 0 ? 1 : 2;
    desc->shape[0] = rows;
    desc->shape[1] = cols == 0 ? 1 : cols;
    desc->n_elements = desc->shape[0] * desc->shape[1];
    desc->offset = *offset;
    *offset = cllm_align_up(*offset + desc->n_elements, CLLM_GPT2_ALIGN);
}

struct cllm_tensor_desc *cllm_gpt2_tensors(uint32_t vocab, uint32_t context,
                                           uint32_t layers, uint32_t width, uint32_t *n)
{
    uint32_t count = 2 + layers * (uint32_t)CLLM_LEN(block) + 2;
    struct cllm_tensor_desc *tensors = calloc(count, sizeof *tensors);
    struct cllm_tensor_desc *desc = tensors;
    uint64_t offset = 0;

    *n = 0;
    if (tensors == NULL)
        return NULL;
    (void)snprintf(desc->name, sizeof desc->name, "transformer.wte.weight");
    place(desc++, &offset, vocab, width);
    (void)snprintf(desc->name, sizeof desc->name, "transformer.wpe.weight");
    place(desc++, &offset, context, width);
    for (uint32_t layer = 0; layer < layers; layer++) {
        for (size_t row = 0; row < CLLM_LEN(block); row++) {
            (void)snprintf(desc->name, sizeof desc->name, "transformer.h.%u.%s", layer,
                           block[row].name);
            place(desc++, &offset, (uint64_t)width * block[row].dim[0],
                  (uint64_t)width * block[row].dim[1]);
        }
    }
    (void)snprintf(desc->name, sizeof desc->name, "transformer.ln_f.weight");
    place(desc++, &offset, width, 0);
    (void)snprintf(desc->name, sizeof desc->name, "transformer.ln_f.bias");
    place(desc++, &offset, width, 0);
    CLLM_ASSERT((uint32_t)(desc - tensors) == count);
    *n = count;
    return tensors;
}

uint64_t cllm_gpt2_params(const struct cllm_tensor_desc *tensor, uint32_t n)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += tensor[i].n_elements;
    return sum;
}

uint64_t cllm_gpt2_vector_elements(const struct cllm_tensor_desc *tensor, uint32_t n)
{
    CLLM_ASSERT(n > 0);
    return cllm_align_up(tensor[n - 1].offset + tensor[n - 1].n_elements,
                         CLLM_GPT2_VECTOR_ALIGN);
}
