/*
 * formats/gguf.c - read a GGUF header and believe none of it.
 *
 * One cursor walks over the header. Whatever it takes is first held against the bytes
 * that are left: of what was read, and of the file. A header longer than what was read is
 * told from a bad one, because a file's reader starts with a little and takes more.
 */
#include "formats/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/file.h"

#define FIRST_READ   (1u << 20)
#define PAIR_LEAST   14 /* bytes: length of the key, 1 of it, type, 1 of a value */
#define TENSOR_LEAST 33 /* length of the name, 1 of it, rank, one ne, type, offset */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are little-endian");

/* ---- the cursor ---- */

struct cursor {
    const struct cllm_gguf *gguf;
    const uint8_t *base;
    uint64_t at, bytes; /* offset, and where what was read ends */
    bool is_short;      /* more of the file is needed */
};

static int bad(const struct cursor *cursor, const char *what)
{
    return cllm_err(CLLM_EDATA, "%s: not a sound GGUF file: %s", cursor->gguf->path,
                    what);
}

/* Are there @bytes bytes more? */
static int need(struct cursor *cursor, uint64_t bytes, const char *what)
{
    uint64_t left = cursor->gguf->file_bytes - cursor->at;
    int rc;

    if (bytes <= cursor->bytes - cursor->at)
        return 0;
    cursor->is_short = bytes <= left;
    rc = bad(cursor, "it ends too soon");
    cllm_err_detail("%s at offset %" PRIu64 ": expected %" PRIu64
                    " bytes, found %" PRIu64,
                    what, cursor->at, bytes, left);
    return rc;
}

static int take(struct cursor *cursor, void *out, uint64_t bytes, const char *what)
{
    int rc = need(cursor, bytes, what);

    if (rc == 0) {
        memcpy(out, cursor->base + cursor->at, (size_t)bytes);
        cursor->at += bytes;
    }
    return rc;
}

/* A text in place: its length, then its bytes. */
static int take_text(struct cursor *cursor, const char **text, uint64_t *bytes,
                     const char *what)
{
    int rc = take(cursor, bytes, sizeof *bytes, what);

    if (rc == 0)
        rc = need(cursor, *bytes, what);
    if (rc == 0) {
        *text = (const char *)cursor->base + cursor->at;
        cursor->at += *bytes;
    }
    return rc;
}

/* A count of things of at least @least bytes each: no more than the file can hold. */
static int check_count(struct cursor *cursor, uint64_t count, uint64_t least,
                       const char *what)
{
    uint64_t most = (cursor->gguf->file_bytes - cursor->at) / least;
    int rc;

    if (count <= most && count <= UINT32_MAX)
        return need(cursor, count * least, what);
    rc = bad(cursor, "it counts more than it has room for");
    cllm_err_detail("%s before offset %" PRIu64 ": expected at most %" PRIu64
                    ", found %" PRIu64,
                    what, cursor->at, cllm_min_u64(most, UINT32_MAX), count);
    return rc;
}

/* ---- pairs ---- */

static int take_kind(struct cursor *cursor, enum cllm_gguf_kind *kind)
{
    uint64_t off = cursor->at;
    uint32_t number = 0;
    int rc = take(cursor, &number, sizeof number, "a value's type");

    if (rc == 0 && number >= CLLM_N_GGUF_KINDS) {
        rc = bad(cursor, "a value is of no known type");
        cllm_err_detail("type at offset %" PRIu64 ": expected 0 to %d, found %u", off,
                        CLLM_N_GGUF_KINDS - 1, number);
    }
    *kind = (enum cllm_gguf_kind)number;
    return rc;
}

static int check_bools(struct cursor *cursor, const struct cllm_gguf_value *value)
{
    for (uint64_t i = 0; i < value->n; i++) {
        if (value->data[i] > 1) {
            int rc = bad(cursor, "a truth value is neither 0 nor 1");
            cllm_err_detail("found %u at offset %" PRIu64, value->data[i],
                            (uint64_t)(value->data - cursor->base) + i);
            return rc;
        }
    }
    return 0;
}

/* What stands behind a key. */
static int take_value(struct cursor *cursor, struct cllm_gguf_value *value)
{
    const char *text;
    uint64_t bytes;
    int rc = take_kind(cursor, &value->kind);

    value->item = value->kind;
    value->n = 1;
    if (rc == 0 && value->kind == CLLM_GGUF_ARRAY) {
        rc = take_kind(cursor, &value->item);
        if (rc == 0 && value->item == CLLM_GGUF_ARRAY)
            rc = bad(cursor, "an array of arrays");
        if (rc == 0)
            rc = take(cursor, &value->n, sizeof value->n, "an array's length");
        if (rc == 0)
            rc = check_count(cursor, value->n, cllm_gguf_kind_bytes[value->item],
                             "an array");
    }
    if (rc != 0)
        return rc;
    value->data = cursor->base + cursor->at;
    if (value->item == CLLM_GGUF_TEXT) {
        for (uint64_t i = 0; rc == 0 && i < value->n; i++)
            rc = take_text(cursor, &text, &bytes, "a text");
        return rc;
    }
    rc = need(cursor, value->n * cllm_gguf_kind_bytes[value->item], "a value");
    if (rc == 0) {
        cursor->at += value->n * cllm_gguf_kind_bytes[value->item];
        if (value->item == CLLM_GGUF_BOOL)
            rc = check_bools(cursor, value);
    }
    return rc;
}

static int take_pair(struct cursor *cursor, struct cllm_gguf_value *value)
{
    uint64_t bytes = 0;
    int rc;

    value->off = cursor->at;
    rc = take_text(cursor, &value->key, &bytes, "a key");
    if (rc == 0 && (bytes == 0 || bytes > UINT16_MAX)) {
        rc = bad(cursor, "a key is empty or too long");
        cllm_err_detail("key at offset %" PRIu64 ": expected 1 to 65535 bytes, found "
                        "%" PRIu64,
                        value->off, bytes);
    }
    value->key_bytes = (uint32_t)bytes;
    return rc == 0 ? take_value(cursor, value) : rc;
}

static int compare_keys(const void *left, const void *right)
{
    const struct cllm_gguf_value *a = *(const struct cllm_gguf_value *const *)left;
    const struct cllm_gguf_value *b = *(const struct cllm_gguf_value *const *)right;
    int order = memcmp(a->key, b->key, cllm_min_u64(a->key_bytes, b->key_bytes));

    return order != 0 ? order
                      : (a->key_bytes > b->key_bytes) - (a->key_bytes < b->key_bytes);
}

static int compare_names(const void *left, const void *right)
{
    const struct cllm_gguf_tensor *a = *(const struct cllm_gguf_tensor *const *)left;
    const struct cllm_gguf_tensor *b = *(const struct cllm_gguf_tensor *const *)right;

    return strcmp(a->name, b->name);
}

/* No two of the @n things of @bytes bytes at @first are equal. */
static int check_doubles(struct cursor *cursor, const void *first, uint32_t n,
                         size_t bytes, int (*compare)(const void *, const void *))
{
    const void **sorted = malloc((n + (size_t)1) * sizeof *sorted);
    int rc = 0;

    if (sorted == NULL)
        return cllm_err(-ENOMEM, "cannot read %s", cursor->gguf->path);
    for (uint32_t i = 0; i < n; i++)
        sorted[i] = (const uint8_t *)first + i * bytes;
    qsort(sorted, n, sizeof *sorted, compare);
    for (uint32_t i = 1; rc == 0 && i < n; i++)
        if (compare(&sorted[i - 1], &sorted[i]) == 0)
            rc = bad(cursor, compare == compare_keys ? "a key is there twice"
                                                     : "a tensor is there twice");
    free(sorted);
    return rc;
}

/* general.alignment, when there is one. */
static int read_align(struct cllm_gguf *gguf)
{
    const struct cllm_gguf_value *value = cllm_gguf_find(gguf, "general.alignment");

    gguf->align = CLLM_GGUF_ALIGN;
    if (value == NULL)
        return 0;
    if (value->kind == CLLM_GGUF_U32)
        memcpy(&gguf->align, value->data, sizeof gguf->align);
    if (value->kind == CLLM_GGUF_U32 && gguf->align > 0 && gguf->align <= 1u << 20 &&
        (gguf->align & (gguf->align - 1)) == 0)
        return 0;
    return cllm_err(CLLM_EDATA,
                    "%s: general.alignment at offset %" PRIu64
                    ": expected a power of two, at most 1048576, found %s %u",
                    gguf->path, value->off, cllm_gguf_kind_names[value->kind],
                    gguf->align);
}

/* ---- tensors ---- */

static int bad_tensor(const struct cursor *cursor, const struct cllm_gguf_tensor *tensor,
                      const char *what)
{
    return cllm_err(CLLM_EDATA, "%s: tensor \"%s\": %s", cursor->gguf->path, tensor->name,
                    what);
}

static int take_shape(struct cursor *cursor, struct cllm_gguf_tensor *tensor)
{
    uint64_t off = cursor->at;
    int rc = take(cursor, &tensor->rank, sizeof tensor->rank, "a tensor's rank");

    if (rc == 0 && tensor->rank > CLLM_GGUF_RANK_MAX) {
        rc = bad_tensor(cursor, tensor, "its rank is above 4");
        cllm_err_detail("found %u at offset %" PRIu64, tensor->rank, off);
    }
    tensor->n_elements = 1;
    for (uint32_t i = 0; i < CLLM_GGUF_RANK_MAX; i++)
        tensor->ne[i] = 1;
    for (uint32_t i = 0; rc == 0 && i < tensor->rank; i++) {
        rc = take(cursor, &tensor->ne[i], sizeof tensor->ne[i], "a tensor's shape");
        if (rc == 0 && (tensor->ne[i] > INT64_MAX ||
                        __builtin_mul_overflow(tensor->n_elements, tensor->ne[i],
                                               &tensor->n_elements) ||
                        tensor->n_elements > INT64_MAX))
            rc = bad_tensor(cursor, tensor, "its shape overflows");
    }
    return rc;
}

/* Description of one tensor; *@sum is where its data must begin, counted from the data's
 * beginning. */
static int take_tensor(struct cursor *cursor, struct cllm_gguf_tensor *tensor,
                       uint64_t *sum)
{
    uint64_t off = cursor->at, bytes = 0;
    const char *name = NULL;
    int rc = take_text(cursor, &name, &bytes, "a tensor's name");

    if (rc == 0 && (bytes == 0 || bytes >= sizeof tensor->name ||
                    memchr(name, '\0', (size_t)bytes) != NULL)) {
        rc = bad(cursor, "a tensor's name is empty, too long or no text");
        cllm_err_detail("name at offset %" PRIu64 ": expected 1 to 63 bytes, found "
                        "%" PRIu64,
                        off, bytes);
    }
    if (rc != 0)
        return rc;
    memcpy(tensor->name, name, (size_t)bytes);
    rc = take_shape(cursor, tensor);
    if (rc == 0)
        rc = take(cursor, &tensor->type, sizeof tensor->type, "a tensor's type");
    if (rc == 0 &&
        (tensor->ne[0] > 0 &&
         (!cllm_gguf_type_bytes(tensor->type, tensor->ne[0], &bytes) ||
          !cllm_gguf_type_bytes(tensor->type, tensor->n_elements, &tensor->bytes)))) {
        rc = bad_tensor(cursor, tensor,
                        "its type is not known, or its rows do not fill it");
        cllm_err_detail("type %u (%s) before offset %" PRIu64 ", rows of %" PRIu64,
                        tensor->type, cllm_gguf_type_name(tensor->type), cursor->at,
                        tensor->ne[0]);
    }
    off = cursor->at;
    if (rc == 0)
        rc =
            take(cursor, &tensor->data_off, sizeof tensor->data_off, "a tensor's offset");
    if (rc == 0 && tensor->data_off != *sum) {
        rc = bad_tensor(cursor, tensor, "its data are not where they must be");
        cllm_err_detail("offset %" PRIu64 ": expected %" PRIu64 ", found %" PRIu64, off,
                        *sum, tensor->data_off);
    }
    if (rc == 0 &&
        (tensor->bytes > cursor->gguf->file_bytes || *sum > cursor->gguf->file_bytes))
        rc = bad_tensor(cursor, tensor, "its data lie beyond the end of the file");
    if (rc == 0)
        *sum = cllm_align_up(*sum + tensor->bytes, cursor->gguf->align);
    return rc;
}

/* The descriptions are read: where do data begin, and do they all fit? */
static int place_tensors(struct cursor *cursor, struct cllm_gguf *gguf)
{
    gguf->data_off = cllm_align_up(cursor->at, gguf->align);
    for (uint32_t i = 0; i < gguf->n_tensors; i++) {
        struct cllm_gguf_tensor *tensor = &gguf->tensor[i];
        tensor->data_off += gguf->data_off;
        if (tensor->data_off + tensor->bytes > gguf->file_bytes) {
            int rc =
                bad_tensor(cursor, tensor, "its data lie beyond the end of the file");
            cllm_err_detail("expected at least %" PRIu64 " bytes of file, found %" PRIu64,
                            tensor->data_off + tensor->bytes, gguf->file_bytes);
            return rc;
        }
    }
    return 0;
}

/* ---- the file ---- */

static int check_magic(struct cursor *cursor)
{
    uint8_t magic[4] = {0};
    uint32_t version = 0;
    int rc = take(cursor, magic, sizeof magic, "the magic number");

    if (rc == 0 && memcmp(magic, "GGUF", sizeof magic) != 0) {
        rc = bad(cursor, "it does not begin with GGUF");
        cllm_err_detail("found %02x %02x %02x %02x at offset 0", magic[0], magic[1],
                        magic[2], magic[3]);
        return rc;
    }
    if (rc == 0)
        rc = take(cursor, &version, sizeof version, "the version");
    if (rc == 0 && version != 2 && version != CLLM_GGUF_VERSION) {
        rc = bad(cursor, (version & 0xffff) == 0 ? "its numbers are big-endian"
                                                 : "its version is not known");
        cllm_err_detail("version at offset 4: expected 2 or 3, found %u", version);
    }
    return rc;
}

static int parse(struct cllm_gguf *gguf, struct cursor *cursor)
{
    uint64_t n_tensors = 0, n_values = 0, sum = 0;
    int rc = check_magic(cursor);

    if (rc == 0)
        rc = take(cursor, &n_tensors, sizeof n_tensors, "the number of tensors");
    if (rc == 0)
        rc = take(cursor, &n_values, sizeof n_values, "the number of keys");
    if (rc == 0)
        rc = check_count(cursor, n_values, PAIR_LEAST, "keys");
    if (rc == 0)
        rc = check_count(cursor, n_tensors, TENSOR_LEAST, "tensors");
    if (rc != 0)
        return rc;
    gguf->value = calloc((size_t)n_values + 1, sizeof *gguf->value);
    gguf->tensor = calloc((size_t)n_tensors + 1, sizeof *gguf->tensor);
    if (gguf->value == NULL || gguf->tensor == NULL)
        return cllm_err(-ENOMEM, "cannot read %s", gguf->path);
    for (; rc == 0 && gguf->n_values < n_values; gguf->n_values++)
        rc = take_pair(cursor, &gguf->value[gguf->n_values]);
    if (rc == 0)
        rc = check_doubles(cursor, gguf->value, gguf->n_values, sizeof *gguf->value,
                           compare_keys);
    if (rc == 0)
        rc = read_align(gguf);
    for (; rc == 0 && gguf->n_tensors < n_tensors; gguf->n_tensors++)
        rc = take_tensor(cursor, &gguf->tensor[gguf->n_tensors], &sum);
    if (rc == 0)
        rc = check_doubles(cursor, gguf->tensor, gguf->n_tensors, sizeof *gguf->tensor,
                           compare_names);
    return rc == 0 ? place_tensors(cursor, gguf) : rc;
}

static int start(struct cllm_gguf *gguf, const char *name)
{
    *gguf = (struct cllm_gguf){.fd = -1};
    gguf->path = strdup(name);
    return gguf->path == NULL ? cllm_err(-ENOMEM, "cannot read %s", name) : 0;
}

/* Forget what was parsed, but not the file. */
static void forget(struct cllm_gguf *gguf)
{
    free(gguf->value);
    free(gguf->tensor);
    gguf->value = NULL;
    gguf->tensor = NULL;
    gguf->n_values = gguf->n_tensors = 0;
}

int cllm_gguf_parse(struct cllm_gguf *gguf, const void *header, size_t bytes,
                    uint64_t file_bytes, const char *name, bool *is_short)
{
    struct cursor cursor = {.gguf = gguf, .base = header, .bytes = bytes};
    int rc = start(gguf, name);

    CLLM_ASSERT(bytes <= file_bytes);
    if (rc == 0) {
        gguf->file_bytes = file_bytes;
        rc = parse(gguf, &cursor);
    }
    if (is_short != NULL)
        *is_short = rc != 0 && cursor.is_short;
    if (rc != 0)
        cllm_gguf_close(gguf);
    return rc;
}

/* Read the header of @gguf's file: a little of it, then twice as much until it is all
 * there. */
static int read_header(struct cllm_gguf *gguf)
{
    struct stat st;
    uint64_t bytes = FIRST_READ;
    int rc;

    if (fstat(gguf->fd, &st) != 0)
        return cllm_err(-errno, "cannot open %s", gguf->path);
    if (!S_ISREG(st.st_mode))
        return cllm_err(CLLM_EDATA, "%s is not a regular file", gguf->path);
    gguf->file_bytes = (uint64_t)st.st_size;
    for (;;) {
        struct cursor cursor = {.gguf = gguf};

        bytes = cllm_min_u64(bytes, gguf->file_bytes);
        free(gguf->header);
        gguf->header = malloc((size_t)bytes + 1);
        if (gguf->header == NULL)
            return cllm_err(-ENOMEM, "cannot read %s", gguf->path);
        rc = cllm_file_pread_all(gguf->fd, gguf->header, (size_t)bytes, 0, gguf->path);
        if (rc != 0)
            return rc;
        cursor.base = gguf->header;
        cursor.bytes = bytes;
        rc = parse(gguf, &cursor);
        if (rc == 0 || !cursor.is_short)
            return rc;
        forget(gguf);
        if (bytes >= CLLM_GGUF_HEADER_MAX)
            return cllm_err(CLLM_EDATA, "%s: its header is longer than %u bytes",
                            gguf->path, CLLM_GGUF_HEADER_MAX);
        bytes *= 2;
    }
}

int cllm_gguf_open(struct cllm_gguf *gguf, const char *path)
{
    int rc = start(gguf, path);

    if (rc != 0)
        return rc;
    gguf->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    rc = gguf->fd < 0 ? cllm_err(-errno, "cannot open %s", path) : read_header(gguf);
    if (rc != 0)
        cllm_gguf_close(gguf);
    return rc;
}

void cllm_gguf_close(struct cllm_gguf *gguf)
{
    forget(gguf);
    if (gguf->fd >= 0)
        (void)close(gguf->fd);
    free(gguf->header);
    free(gguf->path);
    *gguf = (struct cllm_gguf){.fd = -1};
}
