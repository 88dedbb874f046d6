/*
 * formats/gguf.h - GGUF version 3, llama.cpp's model files: a strict reader.
 *
 *     "GGUF" | u32 3 | u64 tensors | u64 pairs
 *     pairs: key, type, value; then tensors: name, rank, ne[], type, offset
 *     zeros up to the alignment | data, each tensor padded to the alignment
 *
 * Everything is checked before memory is sized or data are read by it: counts and lengths
 * against the bytes that are there, types, doubles, the running sum of offsets, the end
 * of the file. formats/gguf_writer.h is the other way.
 */
#ifndef CLLM_FORMATS_GGUF_H
#define CLLM_FORMATS_GGUF_H

#include "base/base.h"

#define CLLM_GGUF_VERSION    3
#define CLLM_GGUF_ALIGN      32 /* unless general.alignment says otherwise */
#define CLLM_GGUF_RANK_MAX   4
#define CLLM_GGUF_NAME_BYTES 64         /* of a tensor, with a NUL */
#define CLLM_GGUF_HEADER_MAX (1u << 29) /* bytes before the data */

/* Types of values, as files number them. */
enum cllm_gguf_kind {
    CLLM_GGUF_U8 = 0,
    CLLM_GGUF_I8,
    CLLM_GGUF_U16,
    CLLM_GGUF_I16,
    CLLM_GGUF_U32,
    CLLM_GGUF_I32,
    CLLM_GGUF_F32,
    CLLM_GGUF_BOOL,
    CLLM_GGUF_TEXT,
    CLLM_GGUF_ARRAY,
    CLLM_GGUF_U64,
    CLLM_GGUF_I64,
    CLLM_GGUF_F64,
    CLLM_N_GGUF_KINDS
};

/* How large an item is (a text or an array at least), and what it is called. */
extern const uint32_t cllm_gguf_kind_bytes[CLLM_N_GGUF_KINDS];
extern const char *const cllm_gguf_kind_names[CLLM_N_GGUF_KINDS];

/* Types of tensors that CLLM reads and writes, as files number them. */
enum cllm_gguf_type {
    CLLM_GGUF_TYPE_F32 = 0,
    CLLM_GGUF_TYPE_F16 = 1,
    CLLM_GGUF_TYPE_Q8_0 = 8,
    CLLM_GGUF_TYPE_BF16 = 30,
    CLLM_GGUF_TYPE_LAST = CLLM_GGUF_TYPE_BF16
};

struct cllm_gguf_value {
    const char *key; /* not terminated */
    uint32_t key_bytes;
    enum cllm_gguf_kind kind;
    enum cllm_gguf_kind item; /* of an array; else kind */
    uint64_t n;               /* items; 1 when it is no array */
    const uint8_t *data;      /* the first item; a text is u64 length and bytes */
    uint64_t off;             /* of the key in the file, for messages */
};

struct cllm_gguf_tensor {
    char name[CLLM_GGUF_NAME_BYTES];
    uint32_t rank;
    uint64_t ne[CLLM_GGUF_RANK_MAX]; /* ne[0] runs fastest; 1 beyond the rank */
    uint64_t n_elements;
    uint32_t type;     /* enum cllm_gguf_type, or another that is known by size alone */
    uint64_t data_off; /* in the file */
    uint64_t bytes;
};

struct cllm_gguf {
    char *path; /* heap */
    int fd;     /* -1: parsed from memory */
    uint64_t file_bytes;
    uint8_t *header; /* heap; what values point into. NULL when parsed from memory */
    uint32_t n_values;
    struct cllm_gguf_value *value; /* [n_values] in order of the file; heap */
    uint32_t n_tensors;
    struct cllm_gguf_tensor *tensor; /* [n_tensors] in order of data; heap */
    uint64_t data_off;               /* where data begin in the file */
    uint32_t align;
};

/* Open a file and check everything before its data. Returns 0; CLLM_EDATA with text
 * (file, offset, expected, found) for a bad file; a negative errno with text otherwise.
 * On failure nothing is left to close. */
int cllm_gguf_open(struct cllm_gguf *gguf, const char *path);

/* The same with the first @bytes bytes of a file of @file_bytes in memory, which must
 * outlive @gguf. When they end before the header does, *@is_short (may be NULL) is set
 * and the code is CLLM_EDATA. @name is for messages. */
int cllm_gguf_parse(struct cllm_gguf *gguf, const void *header, size_t bytes,
                    uint64_t file_bytes, const char *name, bool *is_short);
void cllm_gguf_close(struct cllm_gguf *gguf);

/* The value of @key, or NULL. */
const struct cllm_gguf_value *cllm_gguf_find(const struct cllm_gguf *gguf,
                                             const char *key);

/*
 * Values by key. A missing key or one of another kind is CLLM_EDATA with text: file, key,
 * expected, found. Whole numbers of every width and sign are taken for u64 unless they
 * are negative, f32 and f64 for f64. Text is not terminated and lives as long as @gguf.
 */
int cllm_gguf_get_u64(const struct cllm_gguf *gguf, const char *key, uint64_t *out);
int cllm_gguf_get_f64(const struct cllm_gguf *gguf, const char *key, double *out);
int cllm_gguf_get_text(const struct cllm_gguf *gguf, const char *key, const char **text,
                       uint64_t *bytes);

/* The array of @item at @key. */
int cllm_gguf_get_array(const struct cllm_gguf *gguf, const char *key,
                        enum cllm_gguf_kind item, const struct cllm_gguf_value **out);

/* Take the next text of an array: *@at begins as value->data. Called n times at most. */
const char *cllm_gguf_next_text(const uint8_t **at, uint64_t *bytes);

/* The tensor of that name, or NULL. */
const struct cllm_gguf_tensor *cllm_gguf_tensor(const struct cllm_gguf *gguf,
                                                const char *name);

/* Elements [@first, @first + @count) as f32; of q8_0 both are multiples of 32. A type
 * that is not read here and a range outside the tensor are CLLM_EDATA with text. */
int cllm_gguf_read(const struct cllm_gguf *gguf, const struct cllm_gguf_tensor *tensor,
                   uint64_t first, uint64_t count, float *out);

/* "f16", "q4_k": for messages; "type 99" is "unknown". */
const char *cllm_gguf_type_name(uint32_t type);

/* Bytes of @count elements of a known type, whole blocks only; false when it is unknown,
 * does not fill blocks or overflows. */
bool cllm_gguf_type_bytes(uint32_t type, uint64_t count, uint64_t *bytes);

#endif /* CLLM_FORMATS_GGUF_H */
