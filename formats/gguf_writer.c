/*
 * formats/gguf_writer.c - a header in a growing block, data in pieces behind it.
 */
#include "formats/gguf_writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/half.h"

#define HEAD_BYTES 24     /* magic, version, two counts */
#define PIECE      16384u /* elements encoded at once; a multiple of 32 */

/* ---- the header ---- */

/* Room for @bytes more at the end; NULL when memory is out. */
static uint8_t *grow(struct cllm_gguf_writer *writer, size_t bytes)
{
    if (!writer->out_of_memory && writer->room - writer->used < bytes) {
        size_t room = 2 * writer->room + bytes + 4096;
        uint8_t *larger = realloc(writer->header, room);

        writer->out_of_memory = larger == NULL;
        if (larger != NULL) {
            writer->header = larger;
            writer->room = room;
        }
    }
    if (writer->out_of_memory)
        return NULL;
    writer->used += bytes;
    return writer->header + writer->used - bytes;
}

static void put(struct cllm_gguf_writer *writer, const void *data, size_t bytes)
{
    uint8_t *to = grow(writer, bytes);

    if (to != NULL && bytes > 0)
        memcpy(to, data, bytes);
}

static void put_u32(struct cllm_gguf_writer *writer, uint32_t value)
{
    put(writer, &value, sizeof value);
}

static void put_u64(struct cllm_gguf_writer *writer, uint64_t value)
{
    put(writer, &value, sizeof value);
}

void cllm_gguf_put_item(struct cllm_gguf_writer *writer, const char *text, size_t bytes)
{
    put_u64(writer, bytes);
    put(writer, text, bytes);
}

static void put_key(struct cllm_gguf_writer *writer, const char *key,
                    enum cllm_gguf_kind kind)
{
    cllm_gguf_put_item(writer, key, strlen(key));
    put_u32(writer, kind);
    writer->n_values++;
}

static void put_array(struct cllm_gguf_writer *writer, const char *key,
                      enum cllm_gguf_kind item, uint32_t n)
{
    put_key(writer, key, CLLM_GGUF_ARRAY);
    put_u32(writer, item);
    put_u64(writer, n);
}

void cllm_gguf_writer_init(struct cllm_gguf_writer *writer)
{
    *writer = (struct cllm_gguf_writer){.output = {.fd = -1}};
    put(writer, "GGUF", 4);
    put_u32(writer, CLLM_GGUF_VERSION);
    put_u64(writer, 0); /* the counts: begin knows them */
    put_u64(writer, 0);
}

void cllm_gguf_put_u32(struct cllm_gguf_writer *writer, const char *key, uint32_t value)
{
    put_key(writer, key, CLLM_GGUF_U32);
    put_u32(writer, value);
}

void cllm_gguf_put_f32(struct cllm_gguf_writer *writer, const char *key, float value)
{
    put_key(writer, key, CLLM_GGUF_F32);
    put(writer, &value, sizeof value);
}

void cllm_gguf_put_bool(struct cllm_gguf_writer *writer, const char *key, bool value)
{
    put_key(writer, key, CLLM_GGUF_BOOL);
    put(writer, &(const uint8_t){value}, 1);
}

void cllm_gguf_put_text(struct cllm_gguf_writer *writer, const char *key,
                        const char *text)
{
    put_key(writer, key, CLLM_GGUF_TEXT);
    cllm_gguf_put_item(writer, text, strlen(text));
}

void cllm_gguf_put_texts(struct cllm_gguf_writer *writer, const char *key, uint32_t n)
{
    put_array(writer, key, CLLM_GGUF_TEXT, n);
}

void cllm_gguf_put_i32s(struct cllm_gguf_writer *writer, const char *key,
                        const int32_t *values, uint32_t n)
{
    put_array(writer, key, CLLM_GGUF_I32, n);
    put(writer, values, n * sizeof *values);
}

void cllm_gguf_put_f32s(struct cllm_gguf_writer *writer, const char *key,
                        const float *values, uint32_t n)
{
    put_array(writer, key, CLLM_GGUF_F32, n);
    put(writer, values, n * sizeof *values);
}

/* ---- tensors ---- */

void cllm_gguf_add_tensor(struct cllm_gguf_writer *writer, const char *name,
                          enum cllm_gguf_type type, const uint64_t *shape, uint32_t rank)
{
    struct cllm_gguf_tensor *larger, *tensor;
    size_t len = strlen(name);

    CLLM_ASSERT(rank >= 1 && rank <= CLLM_GGUF_RANK_MAX);
    CLLM_ASSERT(len > 0 && len < CLLM_GGUF_NAME_BYTES);
    larger = realloc(writer->tensor, (writer->n_tensors + (size_t)1) * sizeof *larger);
    if (larger == NULL) {
        writer->out_of_memory = true;
        return;
    }
    writer->tensor = larger;
    tensor = &writer->tensor[writer->n_tensors++];
    *tensor = (struct cllm_gguf_tensor){.rank = rank, .type = type, .n_elements = 1};
    memcpy(tensor->name, name, len);
    for (uint32_t i = 0; i < rank; i++) {
        tensor->ne[i] = shape[rank - 1 - i];
        tensor->n_elements *= tensor->ne[i];
    }
    CLLM_ASSERT(cllm_gguf_type_bytes(type, tensor->ne[0], &tensor->bytes));
    CLLM_ASSERT(cllm_gguf_type_bytes(type, tensor->n_elements, &tensor->bytes));
    tensor->data_off = writer->data_bytes;
    writer->data_bytes += cllm_align_up(tensor->bytes, CLLM_GGUF_ALIGN);
}

/* The descriptions of all tensors behind the keys, zeros up to the data. */
static void describe(struct cllm_gguf_writer *writer)
{
    uint64_t counts[2] = {writer->n_tensors, writer->n_values};

    for (uint32_t i = 0; i < writer->n_tensors; i++) {
        const struct cllm_gguf_tensor *tensor = &writer->tensor[i];
        cllm_gguf_put_item(writer, tensor->name, strlen(tensor->name));
        put_u32(writer, tensor->rank);
        put(writer, tensor->ne, tensor->rank * sizeof *tensor->ne);
        put_u32(writer, tensor->type);
        put_u64(writer, tensor->data_off);
    }
    while (!writer->out_of_memory && writer->used % CLLM_GGUF_ALIGN != 0)
        put(writer, "", 1);
    if (!writer->out_of_memory)
        memcpy(writer->header + HEAD_BYTES - sizeof counts, counts, sizeof counts);
}

int cllm_gguf_writer_begin(struct cllm_gguf_writer *writer, const char *path,
                           bool replace)
{
    int rc;

    describe(writer);
    if (writer->out_of_memory)
        return cllm_err(-ENOMEM, "cannot write %s", path);
    writer->data_off = writer->used;
    rc = cllm_output_file(&writer->output, path, writer->used + writer->data_bytes,
                          replace);
    /* What lies between tensors is zeros already: reserved, not written. */
    return rc == 0 ? cllm_file_pwrite_all(writer->output.fd, writer->header, writer->used,
                                          0, writer->output.temp)
                   : rc;
}

/* The number at @index of @tensor does not fit. */
static int refuse(const struct cllm_gguf_writer *writer,
                  const struct cllm_gguf_tensor *tensor, uint64_t index, float value)
{
    int rc = cllm_err(CLLM_EREFUSED,
                      "%s: tensor \"%s\": element %" PRIu64 ", %g, does not "
                      "fit %s",
                      writer->output.path, tensor->name, index, (double)value,
                      cllm_gguf_type_name(tensor->type));

    cllm_err_hint("f32 and bf16 hold every number");
    return rc;
}

/* Encode @n numbers into @stage; the first that does not fit, or @n. */
static uint64_t encode(uint32_t type, void *stage, const float *data, uint64_t n)
{
    uint64_t fits = n;

    if (type == CLLM_GGUF_TYPE_F16) {
        fits = cllm_half_f16_fits(data, (size_t)n);
        cllm_half_f16_encode(stage, data, (size_t)n);
    } else if (type == CLLM_GGUF_TYPE_BF16) {
        cllm_half_bf16_encode(stage, data, (size_t)n);
    } else {
        fits = cllm_half_q8_fits(data, (size_t)n);
        if (fits == n)
            cllm_half_q8_encode(stage, data, (size_t)(n / CLLM_HALF_Q8_BLOCK));
    }
    return fits;
}

int cllm_gguf_writer_put(struct cllm_gguf_writer *writer, uint32_t index,
                         const float *data)
{
    const struct cllm_gguf_tensor *tensor = &writer->tensor[index];
    uint64_t off = writer->data_off + tensor->data_off;
    uint16_t stage[PIECE];
    int rc = 0;

    CLLM_ASSERT(index < writer->n_tensors && writer->data_off > 0);
    if (tensor->type == CLLM_GGUF_TYPE_F32)
        return cllm_file_pwrite_all(writer->output.fd, data, (size_t)tensor->bytes, off,
                                    writer->output.temp);
    for (uint64_t done = 0; rc == 0 && done < tensor->n_elements;) {
        uint64_t n = cllm_min_u64(PIECE, tensor->n_elements - done), bytes = 0;
        uint64_t fits = encode(tensor->type, stage, data + done, n);

        CLLM_ASSERT(cllm_gguf_type_bytes(tensor->type, n, &bytes));
        rc = fits < n ? refuse(writer, tensor, done + fits, data[done + fits])
                      : cllm_file_pwrite_all(writer->output.fd, stage, (size_t)bytes, off,
                                             writer->output.temp);
        done += n;
        off += bytes;
    }
    return rc;
}

int cllm_gguf_writer_finish(struct cllm_gguf_writer *writer)
{
    int rc = cllm_output_finish(&writer->output);

    cllm_gguf_writer_abort(writer);
    return rc;
}

void cllm_gguf_writer_abort(struct cllm_gguf_writer *writer)
{
    cllm_output_abort(&writer->output);
    free(writer->header);
    free(writer->tensor);
    *writer = (struct cllm_gguf_writer){.output = {.fd = -1}};
}
