/*
 * tests/fuzz/fuzz_safetensors.c - the header of a safetensors file, from memory and from
 * a file.
 *
 * Input: flags, bytes of tensor data (u16), then the header. FIX_LENGTH puts the right
 * length in front of the header; else its own first eight bytes are it.
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/safetensors.h"

enum { FIX_LENGTH = 1 };

/* What was accepted tiles the file, and every name finds its tensor. */
static void check(const struct cllm_safetensors *st, uint64_t header_bytes)
{
    uint64_t off = header_bytes;

    for (uint32_t i = 0; i < st->n_tensors; i++) {
        const struct cllm_safetensors_tensor *tensor = &st->tensor[i];

        CLLM_ASSERT(tensor->rank <= CLLM_SAFETENSORS_RANK_MAX);
        CLLM_ASSERT(tensor->data_off == off);
        CLLM_ASSERT(cllm_safetensors_find(st, tensor->name) == tensor);
        CLLM_ASSERT(cllm_dtype_name(tensor->dtype)[0] != '\0');
        off += tensor->bytes;
    }
    CLLM_ASSERT(off == st->file_bytes);
    for (uint32_t i = 0; i < st->n_meta; i++)
        CLLM_ASSERT(cllm_safetensors_meta(st, st->meta[2 * (size_t)i]));
}

/* As a file: the same tensors, and the last element of each F32 one can be read. */
static void check_file(const struct cllm_safetensors *parsed, const uint8_t *header,
                       size_t bytes)
{
    struct cllm_safetensors st;
    float last;

    CLLM_ASSERT(
        cllm_safetensors_open(&st, fuzz_file(1, header, bytes, parsed->file_bytes)) == 0);
    CLLM_ASSERT(st.n_tensors == parsed->n_tensors && st.n_meta == parsed->n_meta);
    for (uint32_t i = 0; i < st.n_tensors; i++) {
        const struct cllm_safetensors_tensor *tensor = &st.tensor[i];
        bool readable =
            (tensor->dtype == CLLM_DTYPE_F32 || tensor->dtype == CLLM_DTYPE_F16 ||
             tensor->dtype == CLLM_DTYPE_BF16) &&
            tensor->n_elements > 0;

        CLLM_ASSERT((cllm_safetensors_read(&st, tensor, tensor->n_elements - 1, 1,
                                           &last) == 0) == readable);
    }
    cllm_safetensors_close(&st);
}

int fuzz_safetensors(const uint8_t *data, size_t size)
{
    struct fuzz_reader in = {data, data + size};
    bool fix = fuzz_u8(&in) & FIX_LENGTH;
    uint64_t data_bytes = fuzz_u16(&in);
    uint64_t n = (uint64_t)(in.end - in.at);
    size_t bytes = (size_t)n + (fix ? 8 : 0);
    uint8_t *header = malloc(bytes + 1);
    struct cllm_safetensors st;

    CLLM_ASSERT(header);
    memcpy(header, &n, 8 < bytes ? 8 : bytes);
    memcpy(header + (fix ? 8 : 0), in.at, (size_t)n);
    int rc = cllm_safetensors_parse(&st, header, bytes, bytes + data_bytes, "fuzz");
    if (rc == 0) {
        fuzz_n_accepted++;
        memcpy(&n, header, 8);
        check(&st, 8 + n);
        check_file(&st, header, bytes);
        cllm_safetensors_close(&st);
    } else {
        CLLM_ASSERT(cllm_err_text()[0] != '\0');
    }
    free(header);
    return 0;
}
