/*
 * formats/gguf_value.c - values by key, tensors by name, their data as floats.
 *
 * What gguf.c has let through is sound: lengths and offsets are taken as they are.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "formats/file.h"
#include "formats/gguf.h"
#include "formats/half.h"

#define STAGE_BYTES (1u << 16)

const uint32_t cllm_gguf_kind_bytes[CLLM_N_GGUF_KINDS] = {
    [CLLM_GGUF_U8] = 1,     [CLLM_GGUF_I8] = 1,   [CLLM_GGUF_U16] = 2,
    [CLLM_GGUF_I16] = 2,    [CLLM_GGUF_U32] = 4,  [CLLM_GGUF_I32] = 4,
    [CLLM_GGUF_F32] = 4,    [CLLM_GGUF_BOOL] = 1, [CLLM_GGUF_TEXT] = 8, /* at least */
    [CLLM_GGUF_ARRAY] = 12, [CLLM_GGUF_U64] = 8,  [CLLM_GGUF_I64] = 8,
    [CLLM_GGUF_F64] = 8,
};

const char *const cllm_gguf_kind_names[CLLM_N_GGUF_KINDS] = {
    "u8",   "i8",   "u16",   "i16", "u32", "i32", "f32",
    "bool", "text", "array", "u64", "i64", "f64"};

/* Types of tensors that files use: how many elements share how many bytes. */
static const struct {
    uint32_t type;
    uint32_t block, bytes;
    const char *name;
} types[] = {
    {CLLM_GGUF_TYPE_F32, 1, 4, "f32"},
    {CLLM_GGUF_TYPE_F16, 1, 2, "f16"},
    {2, 32, 18, "q4_0"},
    {3, 32, 20, "q4_1"},
    {6, 32, 22, "q5_0"},
    {7, 32, 24, "q5_1"},
    {CLLM_GGUF_TYPE_Q8_0, 32, CLLM_HALF_Q8_BYTES, "q8_0"},
    {9, 32, 36, "q8_1"},
    {10, 256, 84, "q2_k"},
    {11, 256, 110, "q3_k"},
    {12, 256, 144, "q4_k"},
    {13, 256, 176, "q5_k"},
    {14, 256, 210, "q6_k"},
    {15, 256, 292, "q8_k"},
    {24, 1, 1, "i8"},
    {25, 1, 2, "i16"},
    {26, 1, 4, "i32"},
    {27, 1, 8, "i64"},
    {28, 1, 8, "f64"},
    {CLLM_GGUF_TYPE_BF16, 1, 2, "bf16"},
};

const char *cllm_gguf_type_name(uint32_t type)
{
    for (size_t i = 0; i < CLLM_LEN(types); i++)
        if (types[i].type == type)
            return types[i].name;
    return "unknown";
}

bool cllm_gguf_type_bytes(uint32_t type, uint64_t count, uint64_t *bytes)
{
    for (size_t i = 0; i < CLLM_LEN(types); i++)
        if (types[i].type == type)
            return count % types[i].block == 0 &&
                   !__builtin_mul_overflow(count / types[i].block,
                                           (uint64_t)types[i].bytes, bytes);
    return false;
}

/* ---- what it says ---- */

const struct cllm_gguf_value *cllm_gguf_find(const struct cllm_gguf *gguf,
                                             const char *key)
{
    size_t len = strlen(key);

    for (uint32_t i = 0; i < gguf->n_values; i++) {
        const struct cllm_gguf_value *value = &gguf->value[i];
        if (value->key_bytes == len && memcmp(value->key, key, len) == 0)
            return value;
    }
    return NULL;
}

static int wrong(const struct cllm_gguf *gguf, const char *key, const char *expected,
                 const struct cllm_gguf_value *found)
{
    if (found == NULL)
        return cllm_err(CLLM_EDATA, "%s: %s: expected %s, found nothing", gguf->path, key,
                        expected);
    return cllm_err(CLLM_EDATA, "%s: %s at offset %" PRIu64 ": expected %s, found %s%s",
                    gguf->path, key, found->off, expected,
                    found->kind == CLLM_GGUF_ARRAY ? "an array of " : "",
                    cllm_gguf_kind_names[found->item]);
}

int cllm_gguf_get_u64(const struct cllm_gguf *gguf, const char *key, uint64_t *out)
{
    const struct cllm_gguf_value *value = cllm_gguf_find(gguf, key);
    uint64_t number = 0;
    bool is_signed = false;
    uint32_t bytes;

    if (value == NULL)
        return wrong(gguf, key, "a whole number", value);
    switch (value->kind) {
    case CLLM_GGUF_I8:
    case CLLM_GGUF_I16:
    case CLLM_GGUF_I32:
    case CLLM_GGUF_I64:
        is_signed = true;
        break;
    case CLLM_GGUF_U8:
    case CLLM_GGUF_U16:
    case CLLM_GGUF_U32:
    case CLLM_GGUF_U64:
        break;
    default:
        return wrong(gguf, key, "a whole number", value);
    }
    bytes = cllm_gguf_kind_bytes[value->kind];
    memcpy(&number, value->data, bytes);
    if (is_signed && number >> (8 * bytes - 1) != 0)
        return wrong(gguf, key, "a whole number of 0 or more", value);
    *out = number;
    return 0;
}

int cllm_gguf_get_f64(const struct cllm_gguf *gguf, const char *key, double *out)
{
    const struct cllm_gguf_value *value = cllm_gguf_find(gguf, key);
    float single;

    if (value != NULL && value->kind == CLLM_GGUF_F64) {
        memcpy(out, value->data, sizeof *out);
        return 0;
    }
    if (value == NULL || value->kind != CLLM_GGUF_F32)
        return wrong(gguf, key, "a decimal number", value);
    memcpy(&single, value->data, sizeof single);
    *out = (double)single;
    return 0;
}

int cllm_gguf_get_text(const struct cllm_gguf *gguf, const char *key, const char **text,
                       uint64_t *bytes)
{
    const struct cllm_gguf_value *value = cllm_gguf_find(gguf, key);
    const uint8_t *at;

    if (value == NULL || value->kind != CLLM_GGUF_TEXT)
        return wrong(gguf, key, "a text", value);
    at = value->data;
    *text = cllm_gguf_next_text(&at, bytes);
    return 0;
}

int cllm_gguf_get_array(const struct cllm_gguf *gguf, const char *key,
                        enum cllm_gguf_kind item, const struct cllm_gguf_value **out)
{
    const struct cllm_gguf_value *value = cllm_gguf_find(gguf, key);
    char expected[32];

    if (value != NULL && value->kind == CLLM_GGUF_ARRAY && value->item == item) {
        *out = value;
        return 0;
    }
    (void)snprintf(expected, sizeof expected, "an array of %s",
                   cllm_gguf_kind_names[item]);
    return wrong(gguf, key, expected, value);
}

const char *cllm_gguf_next_text(const uint8_t **at, uint64_t *bytes)
{
    const uint8_t *text = *at + sizeof *bytes;

    memcpy(bytes, *at, sizeof *bytes);
    *at = text + *bytes;
    return (const char *)text;
}

const struct cllm_gguf_tensor *cllm_gguf_tensor(const struct cllm_gguf *gguf,
                                                const char *name)
{
    for (uint32_t i = 0; i < gguf->n_tensors; i++)
        if (strcmp(gguf->tensor[i].name, name) == 0)
            return &gguf->tensor[i];
    return NULL;
}

/* ---- data ---- */

/* @n elements of @type from @stage. */
static void decode(uint32_t type, const void *stage, uint64_t n, float *out)
{
    if (type == CLLM_GGUF_TYPE_F16)
        cllm_half_f16_decode(out, stage, (size_t)n);
    else if (type == CLLM_GGUF_TYPE_BF16)
        cllm_half_bf16_decode(out, stage, (size_t)n);
    else
        cllm_half_q8_decode(out, stage, (size_t)(n / CLLM_HALF_Q8_BLOCK));
}

int cllm_gguf_read(const struct cllm_gguf *gguf, const struct cllm_gguf_tensor *tensor,
                   uint64_t first, uint64_t count, float *out)
{
    uint16_t stage[STAGE_BYTES / 2]; /* whole blocks */
    uint64_t off = 0, bytes = 0, part = STAGE_BYTES / sizeof *stage;
    uint32_t type = tensor->type;
    int rc = 0;

    CLLM_ASSERT(gguf->fd >= 0);
    if (type != CLLM_GGUF_TYPE_F32 && type != CLLM_GGUF_TYPE_F16 &&
        type != CLLM_GGUF_TYPE_BF16 && type != CLLM_GGUF_TYPE_Q8_0)
        return cllm_err(CLLM_EDATA,
                        "%s: tensor \"%s\": expected f32, f16, bf16 or q8_0, found %s",
                        gguf->path, tensor->name, cllm_gguf_type_name(type));
    if (first > tensor->n_elements || count > tensor->n_elements - first ||
        !cllm_gguf_type_bytes(type, first, &off) ||
        !cllm_gguf_type_bytes(type, count, &bytes))
        return cllm_err(CLLM_EDATA,
                        "%s: tensor \"%s\": it has %" PRIu64 " element%s, not %" PRIu64
                        " + %" PRIu64,
                        gguf->path, tensor->name, tensor->n_elements,
                        cllm_plural(tensor->n_elements), first, count);
    off += tensor->data_off;
    if (type == CLLM_GGUF_TYPE_F32)
        return cllm_file_pread_all(gguf->fd, out, (size_t)bytes, off, gguf->path);
    for (uint64_t done = 0; rc == 0 && done < count; done += part) {
        part = cllm_min_u64(part, count - done);
        (void)cllm_gguf_type_bytes(type, part, &bytes);
        rc = cllm_file_pread_all(gguf->fd, stage, (size_t)bytes, off, gguf->path);
        if (rc == 0)
            decode(type, stage, part, out + done);
        off += bytes;
    }
    return rc;
}
