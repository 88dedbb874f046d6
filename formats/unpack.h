/*
 * formats/unpack.h - the bytes of a file, unpacked when they are gzip or zstd.
 *
 * The first bytes tell which it is; the name does not count. Several gzip members or zstd
 * frames behind one another are one stream, as gzip -d and zstd -d take them. A stream
 * that is cut short or damaged is an error that says where, never a shorter text. Memory
 * is bounded: zstd windows above 128 MiB are refused.
 */
#ifndef CLLM_FORMATS_UNPACK_H
#define CLLM_FORMATS_UNPACK_H

#include "base/base.h"

enum cllm_unpack_kind { CLLM_UNPACK_PLAIN = 0, CLLM_UNPACK_GZIP, CLLM_UNPACK_ZSTD };

struct cllm_unpack {
    const char *name; /* for messages */
    int fd;           /* read from where it stands */
    enum cllm_unpack_kind kind;
    void *state;     /* of the library; NULL for plain bytes */
    uint8_t *buffer; /* [CLLM_UNPACK_BUFFER] bytes of the file; heap */
    size_t at, used; /* those of them that are not consumed: [at, used) */
    uint64_t taken;  /* bytes of the file that are consumed: the offset of the next */
    uint64_t given;  /* bytes that came out */
    bool ended;      /* the file has no more bytes than those in buffer */
    bool between;    /* no member or frame is open */
};

#define CLLM_UNPACK_BUFFER (1u << 16)

/* Begin to read @fd, which stays the caller's; both it and @name must outlive the
 * stream. Returns 0 or a negative errno with text; on failure there is nothing to
 * close. */
int cllm_unpack_open(struct cllm_unpack *unpack, int fd, const char *name);
void cllm_unpack_close(struct cllm_unpack *unpack);

/* The next bytes, up to @bytes of them, at @out; *@n = 0 is the end. Returns 0,
 * CLLM_EDATA with text when the stream is damaged or cut short, or a negative errno with
 * text. */
int cllm_unpack_read(struct cllm_unpack *unpack, void *out, size_t bytes, size_t *n);

/* "gzip", "zstd"; "plain" */
const char *cllm_unpack_kind_name(enum cllm_unpack_kind kind);

/* ---- formats/unpack_gzip.c, formats/unpack_zstd.c: for unpack.c alone ---- */

/*
 * begin makes @unpack's state: 0 or -ENOMEM with text. step unpacks [at, used) into @out,
 * at most @bytes, and moves at; *@n bytes came out, which may be 0 when the input is used
 * up or a member ends; it keeps between. CLLM_EDATA with text.
 */
int cllm_unpack_gzip_begin(struct cllm_unpack *unpack);
int cllm_unpack_gzip_step(struct cllm_unpack *unpack, uint8_t *out, size_t bytes,
                          size_t *n);
void cllm_unpack_gzip_end(struct cllm_unpack *unpack);

int cllm_unpack_zstd_begin(struct cllm_unpack *unpack);
int cllm_unpack_zstd_step(struct cllm_unpack *unpack, uint8_t *out, size_t bytes,
                          size_t *n);
void cllm_unpack_zstd_end(struct cllm_unpack *unpack);

#endif /* CLLM_FORMATS_UNPACK_H */
