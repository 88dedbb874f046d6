/*
 * formats/safetensors.c - read a safetensors header and believe none of it.
 *
 * All numbers of the header are checked with overflow in mind before anything is sized or
 * read by them; the tensors must tile the data exactly, so there is no room for bytes
 * that nobody names.
 */
#include "formats/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/units.h"
#include "formats/file.h"
#include "formats/half.h"
#include "formats/json.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor data is little-endian");

static const struct {
    const char *name;
    uint32_t bytes;
} dtypes[] = {
    [CLLM_DTYPE_NONE] = {"none", 0},       [CLLM_DTYPE_BOOL] = {"BOOL", 1},
    [CLLM_DTYPE_U8] = {"U8", 1},           [CLLM_DTYPE_I8] = {"I8", 1},
    [CLLM_DTYPE_F8_E5M2] = {"F8_E5M2", 1}, [CLLM_DTYPE_F8_E4M3] = {"F8_E4M3", 1},
    [CLLM_DTYPE_I16] = {"I16", 2},         [CLLM_DTYPE_U16] = {"U16", 2},
    [CLLM_DTYPE_F16] = {"F16", 2},         [CLLM_DTYPE_BF16] = {"BF16", 2},
    [CLLM_DTYPE_I32] = {"I32", 4},         [CLLM_DTYPE_U32] = {"U32", 4},
    [CLLM_DTYPE_F32] = {"F32", 4},         [CLLM_DTYPE_F64] = {"F64", 8},
    [CLLM_DTYPE_I64] = {"I64", 8},         [CLLM_DTYPE_U64] = {"U64", 8},
};
_Static_assert(CLLM_LEN(dtypes) == CLLM_N_DTYPES, "every dtype has a row");

const char *cllm_dtype_name(enum cllm_dtype dtype)
{
    CLLM_ASSERT(dtype < CLLM_N_DTYPES);
    return dtypes[dtype].name;
}

static int bad(const struct cllm_safetensors *st, const char *name, const char *what)
{
    if (name == NULL)
        return cllm_err(CLLM_EDATA, "%s: not a sound safetensors file: %s", st->path,
                        what);
    return cllm_err(CLLM_EDATA, "%s: tensor \"%s\": %s", st->path, name, what);
}

static int parse_dtype(struct cllm_safetensors *st,
                       struct cllm_safetensors_tensor *tensor, const json_t *json)
{
    const char *text = json_string_value(json);

    if (text == NULL)
        return bad(st, tensor->name, "it has no dtype");
    for (int i = CLLM_DTYPE_NONE + 1; i < CLLM_N_DTYPES; i++) {
        if (strcmp(text, dtypes[i].name) == 0) {
            tensor->dtype = (enum cllm_dtype)i;
            return 0;
        }
    }
    return cllm_err(CLLM_EDATA,
                    "%s: tensor \"%s\": unknown dtype: expected F32, F16, "
                    "BF16 or another of the format, found \"%s\"",
                    st->path, tensor->name, text);
}

/* The shape, and how many elements and bytes it makes. */
static int parse_shape(struct cllm_safetensors *st,
                       struct cllm_safetensors_tensor *tensor, const json_t *json)
{
    uint64_t bytes;

    if (!json_is_array(json))
        return bad(st, tensor->name, "its shape is not an array");
    if (json_array_size(json) > CLLM_SAFETENSORS_RANK_MAX)
        return bad(st, tensor->name, "its rank is above 8");
    tensor->rank = (uint32_t)json_array_size(json);
    tensor->n_elements = 1;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        const json_t *dim = json_array_get(json, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return bad(st, tensor->name, "its shape holds no whole number");
        tensor->shape[i] = (uint64_t)json_integer_value(dim);
        if (__builtin_mul_overflow(tensor->n_elements, tensor->shape[i],
                                   &tensor->n_elements))
            return bad(st, tensor->name, "its shape overflows");
    }
    if (__builtin_mul_overflow(tensor->n_elements, dtypes[tensor->dtype].bytes, &bytes))
        return bad(st, tensor->name, "its shape overflows");
    tensor->bytes = bytes;
    return 0;
}

/* [BEGIN, END) within @data_bytes of data that begin at @data_off of the file. */
static int parse_offsets(struct cllm_safetensors *st,
                         struct cllm_safetensors_tensor *tensor, const json_t *json,
                         uint64_t data_off, uint64_t data_bytes)
{
    const json_t *first = json_array_get(json, 0);
    const json_t *last = json_array_get(json, 1);

    if (!json_is_array(json) || json_array_size(json) != 2 || !json_is_integer(first) ||
        !json_is_integer(last) || json_integer_value(first) < 0 ||
        json_integer_value(last) < json_integer_value(first))
        return bad(st, tensor->name, "its data_offsets are not [BEGIN, END]");
    uint64_t begin = (uint64_t)json_integer_value(first);
    uint64_t end = (uint64_t)json_integer_value(last);
    if (end > data_bytes) {
        int rc = bad(st, tensor->name, "its data lie beyond the end of the file");
        cllm_err_detail("data_offsets end: expected at most %" PRIu64 ", found %" PRIu64,
                        data_bytes, end);
        return rc;
    }
    if (end - begin != tensor->bytes) {
        int rc = bad(st, tensor->name, "its data do not fit its shape");
        cllm_err_detail(
            "%" PRIu64 " elements of %s: expected %" PRIu64 " bytes, found %" PRIu64,
            tensor->n_elements, dtypes[tensor->dtype].name, tensor->bytes, end - begin);
        return rc;
    }
    tensor->data_off = data_off + begin;
    return 0;
}

static int parse_tensor(struct cllm_safetensors *st, const char *name, const json_t *json,
                        uint64_t data_off)
{
    struct cllm_safetensors_tensor *tensor = &st->tensor[st->n_tensors];

    tensor->name = strdup(name);
    if (tensor->name == NULL)
        return cllm_err(-ENOMEM, "cannot read %s", st->path);
    st->n_tensors++;
    if (!json_is_object(json))
        return bad(st, name, "it is not an object");
    if (json_object_size(json) != 3)
        return bad(st, name, "expected dtype, shape and data_offsets, nothing else");
    int rc = parse_dtype(st, tensor, json_object_get(json, "dtype"));
    if (rc == 0)
        rc = parse_shape(st, tensor, json_object_get(json, "shape"));
    if (rc == 0)
        rc = parse_offsets(st, tensor, json_object_get(json, "data_offsets"), data_off,
                           st->file_bytes - data_off);
    return rc;
}

static int parse_meta(struct cllm_safetensors *st, json_t *json)
{
    const char *key;
    json_t *value;

    if (!json_is_object(json))
        return bad(st, NULL, "__metadata__ is not an object");
    st->meta = calloc(2 * json_object_size(json) + 1, sizeof *st->meta);
    if (st->meta == NULL)
        return cllm_err(-ENOMEM, "cannot read %s", st->path);
    json_object_foreach(json, key, value)
    {
        if (!json_is_string(value))
            return bad(st, NULL, "__metadata__ holds something that is not text");
        char **pair = st->meta + 2 * (size_t)st->n_meta++;
        pair[0] = strdup(key);
        pair[1] = strdup(json_string_value(value));
        if (pair[0] == NULL || pair[1] == NULL)
            return cllm_err(-ENOMEM, "cannot read %s", st->path);
    }
    return 0;
}

/* Order of data; empty tensors before the one that begins at the same place. */
static int compare_tensors(const void *a, const void *b)
{
    const struct cllm_safetensors_tensor *left = a;
    const struct cllm_safetensors_tensor *right = b;

    if (left->data_off != right->data_off)
        return left->data_off < right->data_off ? -1 : 1;
    if (left->bytes != right->bytes)
        return left->bytes < right->bytes ? -1 : 1;
    return strcmp(left->name, right->name);
}

/* The tensors must follow each other without hole or overlap up to the file's end. */
static int check_tiling(struct cllm_safetensors *st, uint64_t data_off)
{
    uint64_t off = data_off;

    qsort(st->tensor, st->n_tensors, sizeof *st->tensor, compare_tensors);
    for (uint32_t i = 0; i < st->n_tensors; i++) {
        const struct cllm_safetensors_tensor *tensor = &st->tensor[i];
        if (tensor->data_off != off) {
            int rc = bad(st, tensor->name,
                         tensor->data_off > off ? "there is a hole before its data"
                                                : "its data overlap the tensor before");
            cllm_err_detail("offset in the file: expected %" PRIu64 ", found %" PRIu64,
                            off, tensor->data_off);
            return rc;
        }
        off += tensor->bytes;
    }
    if (off != st->file_bytes) {
        int rc = bad(st, NULL, "there are bytes behind the last tensor");
        cllm_err_detail("expected end at offset %" PRIu64 ", found %" PRIu64, off,
                        st->file_bytes);
        return rc;
    }
    return 0;
}

static int parse_json(struct cllm_safetensors *st, json_t *header, uint64_t data_off)
{
    const char *key;
    json_t *value;
    int rc = 0;

    st->tensor = calloc(json_object_size(header) + 1, sizeof *st->tensor);
    if (st->tensor == NULL)
        return cllm_err(-ENOMEM, "cannot read %s", st->path);
    json_object_foreach(header, key, value)
    {
        if (strcmp(key, "__metadata__") == 0)
            rc = parse_meta(st, value);
        else
            rc = parse_tensor(st, key, value, data_off);
        if (rc < 0)
            return rc;
    }
    return check_tiling(st, data_off);
}

/* The length in front of the header; *@n gets it. */
static int check_length(const struct cllm_safetensors *st, const uint8_t *header,
                        uint64_t *n)
{
    uint64_t length = 0;
    int rc;

    if (st->file_bytes < 8)
        return bad(st, NULL, "it is shorter than 8 bytes");
    for (int i = 7; i >= 0; i--)
        length = length << 8 | header[i];
    if (length > CLLM_SAFETENSORS_HEADER_MAX)
        rc = bad(st, NULL, "its header is too large");
    else if (length > st->file_bytes - 8)
        rc = bad(st, NULL, "its header is longer than the file");
    else if (length < 2)
        rc = bad(st, NULL, "its header is too small");
    else {
        *n = length;
        return 0;
    }
    cllm_err_detail(
        "header length at offset 0: expected 2 to %" PRIu64 ", found %" PRIu64,
        cllm_min_u64(CLLM_SAFETENSORS_HEADER_MAX, st->file_bytes - 8), length);
    return rc;
}

/* @text is the JSON of @n bytes, padding included. */
static int parse_text(struct cllm_safetensors *st, const char *text, uint64_t n)
{
    json_t *header = NULL;

    if (text[0] != '{')
        return bad(st, NULL, "its header does not begin with '{'");
    int rc = cllm_json_parse(text, (size_t)n, st->path, &header);
    if (rc == 0)
        rc = parse_json(st, header, 8 + n);
    json_decref(header);
    return rc;
}

static int start(struct cllm_safetensors *st, const char *name)
{
    memset(st, 0, sizeof *st);
    st->fd = -1;
    st->path = strdup(name);
    return st->path == NULL ? cllm_err(-ENOMEM, "cannot read %s", name) : 0;
}

int cllm_safetensors_parse(struct cllm_safetensors *st, const void *header, size_t bytes,
                           uint64_t file_bytes, const char *name)
{
    const uint8_t *at = header;
    uint64_t n = 0;
    int rc = start(st, name);

    if (rc < 0)
        return rc;
    CLLM_ASSERT(bytes <= file_bytes);
    st->file_bytes = file_bytes;
    if (bytes < 8)
        rc = bad(st, NULL, "it is shorter than 8 bytes");
    if (rc == 0)
        rc = check_length(st, at, &n);
    if (rc == 0 && n > bytes - 8)
        rc = bad(st, NULL, "its header is longer than what was read of it");
    if (rc == 0)
        rc = parse_text(st, (const char *)at + 8, n);
    if (rc < 0)
        cllm_safetensors_close(st);
    return rc;
}

/* Everything after open(2). */
static int read_header(struct cllm_safetensors *st)
{
    uint8_t prefix[8];
    struct stat info;
    uint64_t n = 0;

    if (fstat(st->fd, &info) != 0)
        return cllm_err(-errno, "cannot open %s", st->path);
    if (!S_ISREG(info.st_mode))
        return bad(st, NULL, "it is not a regular file");
    st->file_bytes = (uint64_t)info.st_size;
    int rc = 0;
    if (st->file_bytes >= sizeof prefix)
        rc = cllm_file_pread_all(st->fd, prefix, sizeof prefix, 0, st->path);
    if (rc == 0)
        rc = check_length(st, prefix, &n);
    if (rc < 0)
        return rc;
    char *text = malloc((size_t)n + 1);
    if (text == NULL)
        return cllm_err(-ENOMEM, "cannot read %s", st->path);
    rc = cllm_file_pread_all(st->fd, text, (size_t)n, sizeof prefix, st->path);
    if (rc == 0)
        rc = parse_text(st, text, n);
    free(text);
    return rc;
}

int cllm_safetensors_open(struct cllm_safetensors *st, const char *path)
{
    int rc = start(st, path);

    if (rc < 0)
        return rc;
    st->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    rc = st->fd < 0 ? cllm_err(-errno, "cannot open %s", path) : read_header(st);
    if (rc < 0)
        cllm_safetensors_close(st);
    return rc;
}

void cllm_safetensors_close(struct cllm_safetensors *st)
{
    if (st->fd >= 0)
        (void)close(st->fd);
    for (uint32_t i = 0; i < st->n_tensors; i++)
        free(st->tensor[i].name);
    for (uint32_t i = 0; i < 2 * st->n_meta; i++)
        free(st->meta[i]);
    free(st->tensor);
    free(st->meta);
    free(st->path);
    memset(st, 0, sizeof *st);
    st->fd = -1;
}

const struct cllm_safetensors_tensor *cllm_safetensors_find(
    const struct cllm_safetensors *st, const char *name)
{
    for (uint32_t i = 0; i < st->n_tensors; i++) {
        if (strcmp(st->tensor[i].name, name) == 0)
            return &st->tensor[i];
    }
    return NULL;
}

const char *cllm_safetensors_meta(const struct cllm_safetensors *st, const char *key)
{
    for (uint32_t i = 0; i < st->n_meta; i++) {
        if (strcmp(st->meta[2 * (size_t)i], key) == 0)
            return st->meta[2 * (size_t)i + 1];
    }
    return NULL;
}

/* 16-bit numbers, a piece at a time. */
static int read_halves(const struct cllm_safetensors *st,
                       const struct cllm_safetensors_tensor *tensor, uint64_t first,
                       uint64_t count, float *out)
{
    uint16_t stage[8192];
    int rc = 0;

    for (uint64_t done = 0, n; rc == 0 && done < count; done += n) {
        n = cllm_min_u64(CLLM_LEN(stage), count - done);
        rc = cllm_file_pread_all(st->fd, stage, (size_t)(n * sizeof *stage),
                                 tensor->data_off + (first + done) * sizeof *stage,
                                 st->path);
        if (rc == 0 && tensor->dtype == CLLM_DTYPE_F16)
            cllm_half_f16_decode(out + done, stage, (size_t)n);
        else if (rc == 0)
            cllm_half_bf16_decode(out + done, stage, (size_t)n);
    }
    return rc;
}

int cllm_safetensors_read(const struct cllm_safetensors *st,
                          const struct cllm_safetensors_tensor *tensor, uint64_t first,
                          uint64_t count, float *out)
{
    CLLM_ASSERT(st->fd >= 0);
    if (tensor->dtype != CLLM_DTYPE_F32 && tensor->dtype != CLLM_DTYPE_F16 &&
        tensor->dtype != CLLM_DTYPE_BF16)
        return cllm_err(CLLM_EDATA,
                        "%s: tensor \"%s\": expected dtype F32, F16 or BF16, found %s",
                        st->path, tensor->name, dtypes[tensor->dtype].name);
    if (first > tensor->n_elements || count > tensor->n_elements - first)
        return cllm_err(CLLM_EDATA,
                        "%s: tensor \"%s\": it has %" PRIu64 " element%s, not %" PRIu64
                        " + %" PRIu64,
                        st->path, tensor->name, tensor->n_elements,
                        cllm_plural(tensor->n_elements), first, count);
    if (tensor->dtype != CLLM_DTYPE_F32)
        return read_halves(st, tensor, first, count, out);
    return cllm_file_pread_all(st->fd, out, (size_t)(count * sizeof *out),
                               tensor->data_off + first * sizeof *out, st->path);
}
