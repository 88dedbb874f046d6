/*
 * formats/safetensors_plan.c - the header of a safetensors file yet to be written.
 */
#include "formats/safetensors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/json.h"

/* Add tensor @desc of @dtype under "@prefix@name" at [@begin, @end) of the data. */
static bool add_tensor(json_t *header, const char *prefix, enum cllm_dtype dtype,
                       const struct cllm_tensor *desc, uint64_t begin, uint64_t end)
{
    char name[2 * CLLM_TENSOR_NAME_BYTES];
    json_t *shape = json_array();
    int len = snprintf(name, sizeof name, "%s%s", prefix, desc->name);
    bool ok = shape != NULL;

    CLLM_ASSERT(len > 0 && len < (int)sizeof name);
    CLLM_ASSERT(desc->rank == 1 || desc->rank == 2);
    CLLM_ASSERT(json_object_get(header, name) == NULL);
    for (uint32_t i = 0; ok && i < desc->rank; i++)
        ok = json_array_append_new(shape, json_integer((json_int_t)desc->shape[i])) == 0;
    json_t *entry =
        json_pack("{s:s, s:o, s:[I,I]}", "dtype", cllm_dtype_name(dtype), "shape", shape,
                  "data_offsets", (json_int_t)begin, (json_int_t)end);
    return ok && json_object_set_new(header, name, entry) == 0;
}

static json_t *metadata(const struct cllm_safetensors_pair *meta, uint32_t n_meta)
{
    /* transformers refuses files whose metadata lack the format. */
    json_t *object = json_pack("{s:s}", "format", "pt");

    for (uint32_t i = 0; object != NULL && i < n_meta; i++) {
        if (json_object_set_new(object, meta[i].key, json_string(meta[i].value)) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

/* Set the file's first bytes: length, JSON, spaces up to the alignment. */
static int render(struct cllm_safetensors_plan *plan, const json_t *header,
                  uint64_t data_bytes)
{
    char *text = json_dumps(header, JSON_COMPACT);

    if (text == NULL)
        return -ENOMEM;
    size_t len = strlen(text);
    plan->header_bytes = cllm_align_up(8 + len, CLLM_SAFETENSORS_ALIGN);
    plan->file_bytes = plan->header_bytes + data_bytes;
    plan->header = malloc((size_t)plan->header_bytes);
    if (plan->header != NULL) {
        uint64_t n = plan->header_bytes - 8;
        CLLM_ASSERT(n <= CLLM_SAFETENSORS_HEADER_MAX);
        for (int i = 0; i < 8; i++)
            plan->header[i] = (uint8_t)(n >> (8 * i));
        memset(plan->header + 8, ' ', (size_t)n);
        memcpy(plan->header + 8, text, len);
    }
    free(text);
    return plan->header == NULL ? -ENOMEM : 0;
}

/* Lay out @tensors once for each of @n_prefixes prefixes. */
static int lay_out(struct cllm_safetensors_plan *plan, const char *const *prefixes,
                   uint32_t n_prefixes, const struct cllm_tensor *tensors,
                   uint32_t n_tensors, enum cllm_dtype dtype, json_t *meta)
{
    json_t *header = json_object();
    uint64_t off = 0;
    bool ok;

    memset(plan, 0, sizeof *plan);
    plan->n_tensors = n_prefixes * n_tensors;
    plan->data_off = calloc((size_t)plan->n_tensors + 1, sizeof *plan->data_off);
    ok = plan->data_off != NULL && json_object_set_new(header, "__metadata__", meta) == 0;
    for (uint32_t i = 0; ok && i < plan->n_tensors; i++) {
        const struct cllm_tensor *desc = &tensors[i % n_tensors];
        uint64_t bytes = desc->count * (dtype == CLLM_DTYPE_F32 ? 4 : 2);
        plan->data_off[i] = off;
        ok = add_tensor(header, prefixes[i / n_tensors], dtype, desc, off, off + bytes);
        off += bytes;
    }
    ok = ok && render(plan, header, off) == 0;
    json_decref(header);
    if (!ok) {
        cllm_safetensors_plan_fini(plan);
        return cllm_err(-ENOMEM, "cannot plan a safetensors file");
    }
    for (uint32_t i = 0; i < plan->n_tensors; i++)
        plan->data_off[i] += plan->header_bytes;
    return 0;
}

int cllm_safetensors_plan_init(struct cllm_safetensors_plan *plan, const char *prefix,
                               const struct cllm_tensor *tensors, uint32_t n_tensors,
                               const struct cllm_safetensors_pair *meta, uint32_t n_meta)
{
    return lay_out(plan, &prefix, 1, tensors, n_tensors, CLLM_DTYPE_F32,
                   metadata(meta, n_meta));
}

int cllm_safetensors_plan_moments(struct cllm_safetensors_plan *plan,
                                  const struct cllm_tensor *tensors, uint32_t n_tensors)
{
    static const char *const prefixes[] = {"m.", "v."};

    return lay_out(plan, prefixes, 2, tensors, n_tensors, CLLM_DTYPE_F32,
                   metadata(NULL, 0));
}

int cllm_safetensors_plan_typed(struct cllm_safetensors_plan *plan,
                                const struct cllm_tensor *tensors, uint32_t n_tensors,
                                enum cllm_dtype dtype)
{
    static const char *const none = "";

    CLLM_ASSERT(dtype == CLLM_DTYPE_F32 || dtype == CLLM_DTYPE_F16 ||
                dtype == CLLM_DTYPE_BF16);
    return lay_out(plan, &none, 1, tensors, n_tensors, dtype, metadata(NULL, 0));
}

void cllm_safetensors_plan_fini(struct cllm_safetensors_plan *plan)
{
    free(plan->header);
    free(plan->data_off);
    memset(plan, 0, sizeof *plan);
}
