/*
 * tests/fuzz/fuzz_gguf.c - a GGUF file: header from memory and from a file, model, data.
 *
 * Input: flags, bytes of tensor data (u16), then the header. FIX_HEAD puts magic and
 * version in front.
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/gguf.h"
#include "formats/gguf_model.h"

enum { FIX_HEAD = 1 };

/* What was accepted lies in the file, in order, aligned. */
static void check(const struct cllm_gguf *gguf)
{
    uint64_t end = gguf->data_off;

    CLLM_ASSERT(gguf->data_off % gguf->align == 0);
    for (uint32_t i = 0; i < gguf->n_tensors; i++) {
        const struct cllm_gguf_tensor *tensor = &gguf->tensor[i];

        CLLM_ASSERT(tensor->data_off >= end && tensor->data_off % gguf->align == 0);
        end = tensor->data_off + tensor->bytes;
        CLLM_ASSERT(end <= gguf->file_bytes);
        CLLM_ASSERT(cllm_gguf_tensor(gguf, tensor->name) == tensor);
    }
    for (uint32_t i = 0; i < gguf->n_values; i++) {
        const struct cllm_gguf_value *value = &gguf->value[i];
        const uint8_t *at = value->data;
        uint64_t bytes;

        for (uint64_t k = 0; value->item == CLLM_GGUF_TEXT && k < value->n; k++)
            (void)cllm_gguf_next_text(&at, &bytes);
    }
}

/* Is it a model that could be read? Then every tensor can. */
static void use_model(const struct cllm_gguf *gguf)
{
    struct cllm_model_config config;
    struct cllm_parameters parameters;
    float *out, *room;

    if (cllm_gguf_model_config(gguf, &config) != 0 ||
        (uint64_t)config.layers * config.width > 1u << 16 ||
        cllm_parameters_init(&parameters, &config) != 0)
        return;
    if (cllm_gguf_model_check(gguf, &parameters) == 0 &&
        parameters.n_elements < 1u << 20) {
        out = malloc(parameters.n_elements * sizeof *out);
        room = malloc(parameters.n_elements * sizeof *room);
        CLLM_ASSERT(out && room);
        for (uint32_t i = 0; i < parameters.n_tensors; i++)
            CLLM_ASSERT(cllm_gguf_model_read(gguf, &parameters, &parameters.tensors[i],
                                             out, room) == 0);
        free(out);
        free(room);
    }
    cllm_parameters_fini(&parameters);
}

/* As a file: the same tensors. */
static void check_file(const struct cllm_gguf *parsed, const uint8_t *header,
                       size_t bytes)
{
    struct cllm_gguf gguf;

    CLLM_ASSERT(cllm_gguf_open(&gguf, fuzz_file(0, header, bytes, parsed->file_bytes)) ==
                0);
    CLLM_ASSERT(gguf.n_tensors == parsed->n_tensors && gguf.n_values == parsed->n_values);
    use_model(&gguf);
    cllm_gguf_close(&gguf);
}

int fuzz_gguf(const uint8_t *data, size_t size)
{
    static const uint8_t head[8] = {'G', 'G', 'U', 'F', 3};
    struct fuzz_reader in = {data, data + size};
    bool fix = fuzz_u8(&in) & FIX_HEAD;
    uint64_t data_bytes = fuzz_u16(&in);
    size_t n = (size_t)(in.end - in.at), bytes = n + (fix ? sizeof head : 0);
    uint8_t *header = malloc(bytes + 1);
    struct cllm_gguf gguf;
    int rc;

    CLLM_ASSERT(header);
    memcpy(header, head, bytes < sizeof head ? bytes : sizeof head);
    memcpy(header + (fix ? sizeof head : 0), in.at, n);
    rc = cllm_gguf_parse(&gguf, header, bytes, bytes + data_bytes, "fuzz", NULL);
    if (rc == 0) {
        fuzz_n_accepted++;
        check(&gguf);
        check_file(&gguf, header, bytes);
        cllm_gguf_close(&gguf);
    } else {
        CLLM_ASSERT(cllm_err_text()[0] != '\0');
    }
    free(header);
    return 0;
}
