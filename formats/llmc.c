/*
 * formats/llmc.c - where llm.c keeps each tensor, and how.
 */
#include "formats/llmc.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/half.h"
#include "formats/relayout.h"

#define VOCAB_UNIT 128

/* A block's kinds in llm.c's order; all layers of one, then the next. */
static const enum cllm_tensor_kind block_order[] = {
    CLLM_TENSOR_NORM1_W, CLLM_TENSOR_NORM1_B, CLLM_TENSOR_QKV_W,   CLLM_TENSOR_QKV_B,
    CLLM_TENSOR_ATTN_W,  CLLM_TENSOR_ATTN_B,  CLLM_TENSOR_NORM2_W, CLLM_TENSOR_NORM2_B,
    CLLM_TENSOR_FC_W,    CLLM_TENSOR_FC_B,    CLLM_TENSOR_PROJ_W,  CLLM_TENSOR_PROJ_B,
};

static uint32_t number_bytes(uint32_t version)
{
    return version == CLLM_LLMC_F32 ? 4 : 2;
}

/* Element 0 of @tensor in the file, in elements behind the header. */
static uint64_t place(const struct cllm_llmc *llmc,
                      const struct cllm_parameters *parameters,
                      const struct cllm_tensor *tensor)
{
    uint64_t layers = llmc->config.layers;
    uint64_t off = 0;

    if (tensor->kind == CLLM_TENSOR_EMBEDDING)
        return off;
    off += (uint64_t)llmc->padded_vocab * llmc->config.width;
    if (tensor->kind == CLLM_TENSOR_POSITIONS)
        return off;
    off += (uint64_t)llmc->config.context * llmc->config.width;
    for (size_t i = 0; i < CLLM_LEN(block_order); i++) {
        uint64_t count = cllm_parameters_at(parameters, block_order[i], 0)->count;
        if (block_order[i] == tensor->kind)
            return off + tensor->layer * count;
        off += layers * count;
    }
    return off + (tensor->kind == CLLM_TENSOR_NORM_B ? llmc->config.width : 0);
}

/* Does the file have it the other way round? */
static bool is_transposed(const struct cllm_tensor *tensor)
{
    return tensor->rank == 2 && tensor->kind != CLLM_TENSOR_EMBEDDING &&
           tensor->kind != CLLM_TENSOR_POSITIONS;
}

/* All numbers of a model of this shape, and of the rows of padding. */
static uint64_t elements(const struct cllm_parameters *parameters, uint32_t padded_vocab)
{
    return parameters->n_params +
           (uint64_t)(padded_vocab - parameters->config.vocab) * parameters->config.width;
}

uint64_t cllm_llmc_bytes(const struct cllm_parameters *parameters, uint32_t version)
{
    uint32_t padded = (uint32_t)cllm_align_up(parameters->config.vocab, VOCAB_UNIT);

    return CLLM_LLMC_HEADER_BYTES + elements(parameters, padded) * number_bytes(version);
}

/* ---- reading ---- */

static int bad(const struct cllm_llmc *llmc, const char *what, uint64_t off,
               uint64_t expected, uint64_t found)
{
    int rc =
        cllm_err(CLLM_EDATA, "%s: not a sound model file of llm.c: %s", llmc->path, what);

    cllm_err_detail("offset %" PRIu64 ": expected %" PRIu64 ", found %" PRIu64, off,
                    expected, found);
    return rc;
}

/* A number of the header that is not above 0. */
static int bad_number(const struct cllm_llmc *llmc, const char *what, uint64_t off,
                      int32_t found)
{
    int rc = cllm_err(CLLM_EDATA, "%s: not a sound model file of llm.c: it has no %s",
                      llmc->path, what);

    cllm_err_detail("offset %" PRIu64 ": expected 1 or more, found %" PRId32, off, found);
    return rc;
}

static int bad_size(const struct cllm_llmc *llmc, const char *what, uint64_t expected)
{
    int rc =
        cllm_err(CLLM_EDATA, "%s: not a sound model file of llm.c: %s", llmc->path, what);

    cllm_err_detail("expected %" PRIu64 " bytes, found %" PRIu64 " (the file's end is at "
                    "that offset)",
                    expected, llmc->file_bytes);
    cllm_err_hint("copy the file again");
    return rc;
}

/* The header's numbers into the configuration. */
static int parse_numbers(struct cllm_llmc *llmc, const int32_t *head)
{
    static const char *const names[] = {"positions (maxT)", "vocabulary (V)",
                                        "layers (L)",       "heads (H)",
                                        "width (C)",        "padded vocabulary (Vp)"};
    uint32_t *const out[] = {&llmc->config.context, &llmc->config.vocab,
                             &llmc->config.layers,  &llmc->config.heads,
                             &llmc->config.width,   &llmc->padded_vocab};

    if (head[0] != CLLM_LLMC_MAGIC)
        return bad(llmc, "another magic number", 0, CLLM_LLMC_MAGIC, (uint32_t)head[0]);
    if (head[1] != CLLM_LLMC_F32 && head[1] != CLLM_LLMC_BF16)
        return bad(llmc, "its version is neither 3 (f32) nor 5 (bf16)", 4, CLLM_LLMC_F32,
                   (uint32_t)head[1]);
    llmc->version = (uint32_t)head[1];
    for (size_t i = 0; i < CLLM_LEN(names); i++) {
        if (head[2 + i] < 1)
            return bad_number(llmc, names[i], 4 * (2 + i), head[2 + i]);
        *out[i] = (uint32_t)head[2 + i];
    }
    if (llmc->padded_vocab < llmc->config.vocab ||
        llmc->padded_vocab - llmc->config.vocab > 1u << 20)
        return bad(llmc, "Vp, the padded vocabulary, does not fit V", 28,
                   cllm_align_up(llmc->config.vocab, VOCAB_UNIT), llmc->padded_vocab);
    return 0;
}

int cllm_llmc_parse(struct cllm_llmc *llmc, const void *header, uint64_t file_bytes,
                    const char *name)
{
    int32_t head[8];
    struct cllm_parameters parameters;
    uint64_t bytes;
    int rc;

    *llmc = (struct cllm_llmc){.fd = -1, .file_bytes = file_bytes};
    (void)snprintf(llmc->path, sizeof llmc->path, "%s", name);
    if (file_bytes < CLLM_LLMC_HEADER_BYTES)
        return bad_size(llmc, "it is shorter than its header", CLLM_LLMC_HEADER_BYTES);
    memcpy(head, header, sizeof head);
    rc = parse_numbers(llmc, head);
    if (rc != 0)
        return rc;
    cllm_model_config_complete(&llmc->config);
    rc = cllm_parameters_init(&parameters, &llmc->config);
    if (rc != 0) {
        cllm_err_add("%s", llmc->path);
        return rc == CLLM_ECONFIG ? CLLM_EDATA : rc;
    }
    bytes = CLLM_LLMC_HEADER_BYTES +
            elements(&parameters, llmc->padded_vocab) * number_bytes(llmc->version);
    cllm_parameters_fini(&parameters);
    if (bytes != file_bytes)
        return bad_size(llmc, "its size is not that of the numbers in its header", bytes);
    return 0;
}

int cllm_llmc_open(struct cllm_llmc *llmc, const char *path)
{
    uint8_t header[CLLM_LLMC_HEADER_BYTES] = {0};
    uint64_t bytes;
    int rc, fd = cllm_file_open_begin(path, header, sizeof header, &bytes);

    llmc->fd = -1;
    if (fd < 0)
        return fd;
    rc = cllm_llmc_parse(llmc, header, bytes, path);
    if (rc == 0)
        llmc->fd = fd;
    else
        (void)close(fd);
    return rc;
}

void cllm_llmc_close(struct cllm_llmc *llmc)
{
    if (llmc->fd >= 0)
        (void)close(llmc->fd);
    llmc->fd = -1;
}

int cllm_llmc_read(const struct cllm_llmc *llmc, const struct cllm_parameters *parameters,
                   const struct cllm_tensor *tensor, float *out, float *room)
{
    uint32_t bytes = number_bytes(llmc->version);
    uint64_t off =
        CLLM_LLMC_HEADER_BYTES + place(llmc, parameters, tensor) * (uint64_t)bytes;
    bool turn = is_transposed(tensor);
    float *to = turn ? room : out;
    int rc;

    if (llmc->version == CLLM_LLMC_F32) {
        rc = cllm_file_pread_all(llmc->fd, to, tensor->count * sizeof *to, off,
                                 llmc->path);
    } else {
        /* The numbers are read into the half of memory that is not decoded into yet. */
        uint16_t *half = (uint16_t *)(void *)(to == room ? out : room);
        rc = cllm_file_pread_all(llmc->fd, half, tensor->count * sizeof *half, off,
                                 llmc->path);
        if (rc == 0)
            cllm_half_bf16_decode(to, half, tensor->count);
    }
    if (rc == 0 && turn)
        cllm_relayout_transpose(out, room, tensor->shape[1], tensor->shape[0]);
    return rc;
}

/* ---- writing ---- */

int cllm_llmc_check(const struct cllm_model_config *config)
{
    const char *what = NULL;

    if (config->arch != CLLM_ARCH_GPT2)
        what = "models that are not of the GPT-2 family";
    else if (config->hidden != 4 * config->width)
        what = "an MLP that is not four times as wide as the model";
    else if (config->untied)
        what = "an output matrix that is not the token embedding";
    else if (config->crystalline_bias)
        what = "a crystalline bias of attention";
    else if ((float)config->norm_epsilon != (float)CLLM_NORM_EPSILON)
        what = "another [model] norm_epsilon than 1e-5";
    return what == NULL ? 0
                        : cllm_err(CLLM_EREFUSED, "llm.c's files cannot hold %s", what);
}

int cllm_llmc_begin(struct cllm_llmc *llmc, const struct cllm_parameters *parameters,
                    uint32_t version, const struct cllm_output *output)
{
    const struct cllm_model_config *config = &parameters->config;
    int32_t head[CLLM_LLMC_HEADER_BYTES / 4] = {0};

    *llmc = (struct cllm_llmc){.fd = -1,
                               .version = version,
                               .config = *config,
                               .padded_vocab =
                                   (uint32_t)cllm_align_up(config->vocab, VOCAB_UNIT),
                               .file_bytes = cllm_llmc_bytes(parameters, version)};
    head[0] = CLLM_LLMC_MAGIC;
    head[1] = (int32_t)version;
    head[2] = (int32_t)config->context;
    head[3] = (int32_t)config->vocab;
    head[4] = (int32_t)config->layers;
    head[5] = (int32_t)config->heads;
    head[6] = (int32_t)config->width;
    head[7] = (int32_t)llmc->padded_vocab;
    /* The rows beyond V are zeros already: the file was reserved, not written. */
    return cllm_file_pwrite_all(output->fd, head, sizeof head, 0, output->temp);
}

int cllm_llmc_write(const struct cllm_llmc *llmc,
                    const struct cllm_parameters *parameters,
                    const struct cllm_tensor *tensor, float *data, float *room,
                    const struct cllm_output *output)
{
    uint32_t bytes = number_bytes(llmc->version);
    uint64_t off =
        CLLM_LLMC_HEADER_BYTES + place(llmc, parameters, tensor) * (uint64_t)bytes;
    const void *from = data;

    if (is_transposed(tensor)) {
        cllm_relayout_transpose(room, data, tensor->shape[0], tensor->shape[1]);
        from = room;
    }
    if (llmc->version == CLLM_LLMC_BF16) {
        uint16_t *half = (uint16_t *)(void *)(from == room ? data : room);
        cllm_half_bf16_encode(half, from, tensor->count);
        from = half;
    }
    return cllm_file_pwrite_all(output->fd, from, tensor->count * bytes, off,
                                output->temp);
}
