/*
 * formats/safetensors.h - safetensors files: a plan for writing, a strict reader.
 *
 *     u64 LE N | N bytes of JSON, padded at the end with spaces | tensor data
 *
 * The writer pads the header so that data begins at a multiple of 4096 (8 + N), gives
 * every tensor's place in the file, and leaves the writing of data to the caller, who
 * streams it. The reader refuses all that the format's reference refuses: see the table
 * in docs/formats.md. Offsets here count from the start of the file.
 */
#ifndef CLLM_FORMATS_SAFETENSORS_H
#define CLLM_FORMATS_SAFETENSORS_H

#include "base/base.h"
#include "base/parameters.h"

#define CLLM_SAFETENSORS_HEADER_MAX 100000000u /* N; the format's own limit */
#define CLLM_SAFETENSORS_RANK_MAX   8
#define CLLM_SAFETENSORS_ALIGN      4096

enum cllm_dtype {
    CLLM_DTYPE_NONE = 0,
    CLLM_DTYPE_BOOL,
    CLLM_DTYPE_U8,
    CLLM_DTYPE_I8,
    CLLM_DTYPE_F8_E5M2,
    CLLM_DTYPE_F8_E4M3,
    CLLM_DTYPE_I16,
    CLLM_DTYPE_U16,
    CLLM_DTYPE_F16,
    CLLM_DTYPE_BF16,
    CLLM_DTYPE_I32,
    CLLM_DTYPE_U32,
    CLLM_DTYPE_F32,
    CLLM_DTYPE_F64,
    CLLM_DTYPE_I64,
    CLLM_DTYPE_U64,
    CLLM_N_DTYPES
};

/* ---- writing ---- */

struct cllm_safetensors_pair {
    const char *key, *value; /* UTF-8 */
};

struct cllm_safetensors_plan {
    uint8_t *header;       /* the file's first header_bytes bytes; heap */
    uint64_t header_bytes; /* 8 + N, a multiple of CLLM_SAFETENSORS_ALIGN */
    uint64_t file_bytes;
    uint32_t n_tensors;
    uint64_t *data_off; /* [n_tensors] where tensor i begins in the file; heap */
};

/*
 * Lay out F32 tensors one after the other in the order given, with __metadata__
 * {"format": "pt"} and @meta's pairs. Names: @prefix (may be "") and each tensor's name;
 * the offsets in @tensors are not used. Returns 0 or -ENOMEM with text; a name given
 * twice is a bug.
 */
int cllm_safetensors_plan_init(struct cllm_safetensors_plan *plan, const char *prefix,
                               const struct cllm_tensor *tensors, uint32_t n_tensors,
                               const struct cllm_safetensors_pair *meta, uint32_t n_meta);

/* The same for an optimizer: "m." and each name for all tensors, then "v." and each name;
 * data_off has 2 * n_tensors entries, m first. */
int cllm_safetensors_plan_moments(struct cllm_safetensors_plan *plan,
                                  const struct cllm_tensor *tensors, uint32_t n_tensors);

/* One file of a model: F32, F16 or BF16, names as they are. */
int cllm_safetensors_plan_typed(struct cllm_safetensors_plan *plan,
                                const struct cllm_tensor *tensors, uint32_t n_tensors,
                                enum cllm_dtype dtype);
void cllm_safetensors_plan_fini(struct cllm_safetensors_plan *plan);

/* ---- reading ---- */

struct cllm_safetensors_tensor {
    char *name; /* heap */
    enum cllm_dtype dtype;
    uint32_t rank; /* 0 = scalar */
    uint64_t shape[CLLM_SAFETENSORS_RANK_MAX];
    uint64_t n_elements;
    uint64_t data_off; /* in the file */
    uint64_t bytes;
};

struct cllm_safetensors {
    char *path; /* heap */
    int fd;     /* -1: parsed from memory */
    uint64_t file_bytes;
    uint32_t n_tensors;
    struct cllm_safetensors_tensor *tensor; /* [n_tensors] in order of data; heap */
    uint32_t n_meta;
    char **meta; /* [2 * n_meta] key, value, ...; heap */
};

/* Open a file and check everything in its header. Returns 0; CLLM_EDATA with text for a
 * bad file; a negative errno with text otherwise. On failure nothing is left to close. */
int cllm_safetensors_open(struct cllm_safetensors *st, const char *path);

/* Check a header of @bytes bytes (8 + N of them are looked at) as if the file had
 * @file_bytes; @name is for messages. For readers that have the bytes already. */
int cllm_safetensors_parse(struct cllm_safetensors *st, const void *header, size_t bytes,
                           uint64_t file_bytes, const char *name);
void cllm_safetensors_close(struct cllm_safetensors *st);

/* The tensor of that name, or NULL. */
const struct cllm_safetensors_tensor *cllm_safetensors_find(
    const struct cllm_safetensors *st, const char *name);

/* Value of a __metadata__ key, or NULL. */
const char *cllm_safetensors_meta(const struct cllm_safetensors *st, const char *key);

/* Elements [@first, @first + @count) of an F32, F16 or BF16 tensor into @out as floats.
 * Another dtype or a range outside the tensor is CLLM_EDATA with text. */
int cllm_safetensors_read(const struct cllm_safetensors *st,
                          const struct cllm_safetensors_tensor *tensor, uint64_t first,
                          uint64_t count, float *out);

const char *cllm_dtype_name(enum cllm_dtype dtype);

#endif /* CLLM_FORMATS_SAFETENSORS_H */
