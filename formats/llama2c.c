/*
 * formats/llama2c.c - where llama2.c keeps each tensor.
 */
#include "formats/llama2c.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/relayout.h"

/* A block's kinds in llama2.c's order; all layers of one, then the next. */
static const enum cllm_tensor_kind block_order[] = {
    CLLM_TENSOR_NORM1_W, CLLM_TENSOR_Q_W,    CLLM_TENSOR_K_W,
    CLLM_TENSOR_V_W,     CLLM_TENSOR_ATTN_W, CLLM_TENSOR_NORM2_W,
    CLLM_TENSOR_GATE_W,  CLLM_TENSOR_PROJ_W, CLLM_TENSOR_FC_W,
};

/* Two tables of cosines and sines. */
static uint64_t rotations(const struct cllm_model_config *config)
{
    return (uint64_t)config->context * config->head_size;
}

/* Element 0 of @tensor, in elements behind the header. */
static uint64_t place(const struct cllm_parameters *parameters,
                      const struct cllm_tensor *tensor)
{
    uint64_t off = 0;

    if (tensor->kind == CLLM_TENSOR_EMBEDDING)
        return off;
    off += cllm_parameters_at(parameters, CLLM_TENSOR_EMBEDDING, 0)->count;
    for (size_t i = 0; i < CLLM_LEN(block_order); i++) {
        uint64_t count = cllm_parameters_at(parameters, block_order[i], 0)->count;
        if (block_order[i] == tensor->kind)
            return off + tensor->layer * count;
        off += parameters->config.layers * count;
    }
    if (tensor->kind == CLLM_TENSOR_NORM_W)
        return off;
    return off + parameters->config.width + rotations(&parameters->config);
}

/* @what is wrong, and where: a text for people. */
CLLM_PRINTF(3, 4)
static int bad(const struct cllm_llama2c *file, const char *what, const char *fmt, ...)
{
    char where[128];
    va_list arguments;

    va_start(arguments, fmt);
    (void)vsnprintf(where, sizeof where, fmt, arguments);
    va_end(arguments);
    int rc =
        cllm_err(CLLM_EDATA, "%s: not a model file of llama2.c: %s", file->path, what);
    cllm_err_detail("%s", where);
    return rc;
}

static int parse_numbers(struct cllm_llama2c *file, int32_t *head)
{
    static const char *const names[] = {
        "it has no width",    "it has no hidden elements", "it has no layers",
        "it has no heads",    "it has no heads of keys",   "it has no vocabulary",
        "it has no positions"};
    struct cllm_model_config *config = &file->config;
    uint32_t *const out[] = {&config->width,  &config->hidden,   &config->layers,
                             &config->heads,  &config->kv_heads, &config->vocab,
                             &config->context};

    config->arch = CLLM_ARCH_LLAMA;
    config->untied = head[5] < 0;
    head[5] = head[5] < 0 && head[5] != INT32_MIN ? -head[5] : head[5];
    for (size_t i = 0; i < CLLM_LEN(names); i++) {
        if (head[i] < 1)
            return bad(file, names[i], "offset %zu: expected 1 or more, found %" PRId32,
                       4 * i, head[i]);
        *out[i] = (uint32_t)head[i];
    }
    if (config->width % config->heads != 0)
        return bad(file, "the heads do not divide the width",
                   "offset 12: expected a divisor of the width %u, found %u heads",
                   config->width, config->heads);
    return 0;
}

int cllm_llama2c_parse(struct cllm_llama2c *file, const void *header, uint64_t file_bytes,
                       const char *name)
{
    int32_t head[7];
    struct cllm_parameters parameters;
    uint64_t bytes;
    int rc;

    _Static_assert(sizeof head == CLLM_LLAMA2C_HEADER_BYTES, "the whole header");
    *file = (struct cllm_llama2c){.fd = -1, .file_bytes = file_bytes};
    (void)snprintf(file->path, sizeof file->path, "%s", name);
    if (file_bytes < sizeof head)
        return bad(file, "it is shorter than its header",
                   "expected %zu bytes or more, found %" PRIu64, sizeof head, file_bytes);
    memcpy(head, header, sizeof head);
    rc = parse_numbers(file, head);
    if (rc != 0)
        return rc;
    cllm_model_config_complete(&file->config);
    rc = cllm_parameters_init(&parameters, &file->config);
    if (rc != 0) {
        cllm_err_add("%s: not a model file of llama2.c", file->path);
        return rc == CLLM_ECONFIG ? CLLM_EDATA : rc;
    }
    bytes =
        sizeof head + (parameters.n_params + rotations(&file->config)) * sizeof(float);
    cllm_parameters_fini(&parameters);
    if (bytes != file_bytes)
        return bad(file, "its size is not that of the numbers in its header",
                   "expected %" PRIu64 " bytes, found %" PRIu64
                   " (the file's end is at that offset)",
                   bytes, file_bytes);
    return 0;
}

int cllm_llama2c_open(struct cllm_llama2c *file, const char *path)
{
    uint8_t header[CLLM_LLAMA2C_HEADER_BYTES] = {0};
    uint64_t bytes;
    int rc, fd = cllm_file_open_begin(path, header, sizeof header, &bytes);

    file->fd = -1;
    if (fd < 0)
        return fd;
    rc = cllm_llama2c_parse(file, header, bytes, path);
    if (rc == 0)
        file->fd = fd;
    else
        (void)close(fd);
    return rc;
}

void cllm_llama2c_close(struct cllm_llama2c *file)
{
    if (file->fd >= 0)
        (void)close(file->fd);
    file->fd = -1;
}

int cllm_llama2c_read(const struct cllm_llama2c *file,
                      const struct cllm_parameters *parameters,
                      const struct cllm_tensor *tensor, float *out, float *room)
{
    bool turn = tensor->kind == CLLM_TENSOR_Q_W || tensor->kind == CLLM_TENSOR_K_W;
    int rc = cllm_file_pread_all(
        file->fd, turn ? room : out, tensor->count * sizeof *out,
        CLLM_LLAMA2C_HEADER_BYTES + place(parameters, tensor) * sizeof *out, file->path);

    if (rc == 0 && turn)
        cllm_relayout_split(out, room, tensor->shape[0], tensor->shape[1],
                            parameters->config.head_size);
    return rc;
}
