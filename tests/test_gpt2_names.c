/*
 * tests/test_gpt2_names.c - the tensor table of checkpoints: known sizes, no overlap, and
 * the same plan as the model's.
 */
#include "formats/gpt2_names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/gpt.h"

struct size {
    uint32_t vocab, context, layers, heads, width;
    uint64_t params; /* 0: not known from elsewhere */
};

/* Counts of the public models; the last ones have widths that are no multiple of 16. */
static const struct size sizes[] = {
    {50257, 1024, 12, 12, 768, 124439808},
    {50257, 1024, 24, 16, 1024, 354823168},
    {50257, 1024, 48, 25, 1600, 1557611200},
    {256, 128, 4, 8, 256, 0},
    {700, 17, 3, 2, 36, 0},
    {256, 64, 1, 5, 20, 0},
    {17, 3, 2, 2, 6, 0},
    {2, 1, 1, 1, 1, 0},
};

static const struct cllm_tensor_desc *find(const struct cllm_tensor_desc *tensor,
                                           uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(tensor[i].name, name) == 0)
            return &tensor[i];
    return NULL;
}

static void public_models_have_their_published_number_of_parameters(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(sizes); i++) {
        const struct size *size = &sizes[i];
        uint32_t n;
        struct cllm_tensor_desc *tensor =
            cllm_gpt2_tensors(size->vocab, size->context, size->layers, size->width, &n);

        assert_non_null(tensor);
        assert_int_equal(n, 4 + 12 * size->layers);
        if (size->params > 0)
            assert_int_equal(cllm_gpt2_params(tensor, n), size->params);
        free(tensor);
    }
}

static void tensors_are_aligned_and_do_not_overlap(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(sizes); i++) {
        const struct size *size = &sizes[i];
        uint64_t end = 0;
        uint32_t n;
        struct cllm_tensor_desc *tensor =
            cllm_gpt2_tensors(size->vocab, size->context, size->layers, size->width, &n);

        assert_non_null(tensor);
        for (uint32_t t = 0; t < n; t++) {
            assert_int_equal(tensor[t].offset % 16, 0);
            assert_true(tensor[t].offset >= end);
            assert_true(tensor[t].offset < end + 16);
            assert_int_equal(tensor[t].n_elements,
                             tensor[t].shape[0] * tensor[t].shape[1]);
            assert_true(tensor[t].rank == 2 || tensor[t].shape[1] == 1);
            end = tensor[t].offset + tensor[t].n_elements;
        }
        assert_int_equal(cllm_gpt2_vector_elements(tensor, n) % 1024, 0);
        assert_true(cllm_gpt2_vector_elements(tensor, n) >= end);
        assert_true(cllm_gpt2_vector_elements(tensor, n) < end + 1024);
        free(tensor);
    }
}

static void names_and_shapes_are_those_of_hugging_face(void **state)
{
    static const struct {
        const char *name;
        uint32_t rank;
        uint64_t shape[2];
    } expected[] = {
        {"transformer.wte.weight", 2, {50257, 768}},
        {"transformer.wpe.weight", 2, {1024, 768}},
        {"transformer.h.0.ln_1.weight", 1, {768, 1}},
        {"transformer.h.0.ln_1.bias", 1, {768, 1}},
        {"transformer.h.11.attn.c_attn.weight", 2, {768, 2304}},
        {"transformer.h.11.attn.c_attn.bias", 1, {2304, 1}},
        {"transformer.h.3.attn.c_proj.weight", 2, {768, 768}},
        {"transformer.h.3.attn.c_proj.bias", 1, {768, 1}},
        {"transformer.h.5.ln_2.weight", 1, {768, 1}},
        {"transformer.h.5.ln_2.bias", 1, {768, 1}},
        {"transformer.h.7.mlp.c_fc.weight", 2, {768, 3072}},
        {"transformer.h.7.mlp.c_fc.bias", 1, {3072, 1}},
        {"transformer.h.9.mlp.c_proj.weight", 2, {3072, 768}},
        {"transformer.h.9.mlp.c_proj.bias", 1, {768, 1}},
        {"transformer.ln_f.weight", 1, {768, 1}},
        {"transformer.ln_f.bias", 1, {768, 1}},
    };
    uint32_t n;
    struct cllm_tensor_desc *tensor = cllm_gpt2_tensors(50257, 1024, 12, 768, &n);

    (void)state;
    assert_non_null(tensor);
    for (size_t i = 0; i < CLLM_LEN(expected); i++) {
        const struct cllm_tensor_desc *found = find(tensor, n, expected[i].name);

        assert_non_null(found);
        assert_int_equal(found->rank, expected[i].rank);
        assert_int_equal(found->shape[0], expected[i].shape[0]);
        assert_int_equal(found->shape[1], expected[i].shape[1]);
    }
    assert_null(find(tensor, n, "lm_head.weight"));
    free(tensor);
}

static void the_models_plan_is_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(sizes); i++) {
        const struct size *size = &sizes[i];
        const struct cllm_gpt_config config = {.vocab = size->vocab,
                                               .context = size->context,
                                               .layers = size->layers,
                                               .heads = size->heads,
                                               .width = size->width};
        struct cllm_gpt_plan plan;
        uint32_t n;
        struct cllm_tensor_desc *tensor =
            cllm_gpt2_tensors(size->vocab, size->context, size->layers, size->width, &n);

        assert_non_null(tensor);
        assert_int_equal(cllm_gpt_plan_init(&plan, &config), 0);
        assert_int_equal(plan.n_tensors, n);
        assert_int_equal(plan.n_params, cllm_gpt2_params(tensor, n));
        assert_int_equal(plan.n_elements, cllm_gpt2_vector_elements(tensor, n));
        for (uint32_t t = 0; t < n; t++) {
            assert_string_equal(plan.tensors[t].name, tensor[t].name);
            assert_int_equal(plan.tensors[t].off, tensor[t].offset);
            assert_int_equal(plan.tensors[t].count, tensor[t].n_elements);
            assert_int_equal(plan.tensors[t].rank, tensor[t].rank);
            assert_int_equal(plan.tensors[t].shape[0], tensor[t].shape[0]);
            assert_int_equal(plan.tensors[t].shape[1], tensor[t].shape[1]);
        }
        cllm_gpt_plan_fini(&plan);
        free(tensor);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(public_models_have_their_published_number_of_parameters),
        cmocka_unit_test(tensors_are_aligned_and_do_not_overlap),
        cmocka_unit_test(names_and_shapes_are_those_of_hugging_face),
        cmocka_unit_test(the_models_plan_is_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
