/*
 * formats/shard_writer.c - stream tokens into a shard; the header goes in last, then the
 * name.
 */
#include "formats/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/file.h"

#define BUFFER_BYTES (1u << 20) /* a multiple of 4 */

static void release(struct cllm_shard_writer *writer)
{
    free(writer->path);
    free(writer->temp);
    free(writer->buffer);
    memset(writer, 0, sizeof *writer);
    writer->fd = -1;
}

int cllm_shard_writer_begin(struct cllm_shard_writer *writer, const char *path,
                            uint32_t token_bytes)
{
    static const uint8_t room[CLLM_SHARD_HEADER_BYTES];
    int rc;

    CLLM_ASSERT(token_bytes == 2 || token_bytes == 4);
    memset(writer, 0, sizeof *writer);
    writer->fd = -1;
    writer->token_bytes = token_bytes;
    writer->buffer = malloc(BUFFER_BYTES);
    writer->path = strdup(path);
    if (asprintf(&writer->temp, "%s.tmp", path) < 0)
        writer->temp = NULL;
    if (writer->buffer == NULL || writer->path == NULL || writer->temp == NULL) {
        release(writer);
        return cllm_err(-ENOMEM, "cannot write the shard %s", path);
    }
    writer->fd =
        open(writer->temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (writer->fd < 0) {
        rc = cllm_err(-errno, "cannot create %s", writer->temp);
        release(writer);
        return rc;
    }
    rc = cllm_file_write_all(writer->fd, room, sizeof room, writer->temp);
    if (rc < 0)
        cllm_shard_writer_abort(writer);
    return rc;
}

static int flush(struct cllm_shard_writer *writer)
{
    int rc = cllm_file_write_all(writer->fd, writer->buffer, writer->used, writer->temp);

    if (rc == -ENOSPC)
        cllm_err_hint("df %s, or choose another directory", writer->path);
    writer->used = 0;
    return rc;
}

/* Room for one more token, which is counted. */
static int advance(struct cllm_shard_writer *writer)
{
    if (writer->n_tokens == CLLM_SHARD_TOKENS_MAX)
        return cllm_err(CLLM_EDATA, "a shard holds at most %d tokens: %s",
                        CLLM_SHARD_TOKENS_MAX, writer->path);
    writer->n_tokens++;
    if (writer->used + writer->token_bytes > BUFFER_BYTES)
        return flush(writer);
    return 0;
}

static void append(struct cllm_shard_writer *writer, uint32_t token)
{
    for (uint32_t i = 0; i < writer->token_bytes; i++)
        writer->buffer[writer->used++] = (uint8_t)(token >> (8 * i));
}

int cllm_shard_writer_put(struct cllm_shard_writer *writer, const uint32_t *tokens,
                          size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int rc = advance(writer);
        if (rc < 0)
            return rc;
        CLLM_ASSERT(writer->token_bytes == 4 || tokens[i] <= UINT16_MAX);
        append(writer, tokens[i]);
    }
    return 0;
}

int cllm_shard_writer_put_bytes(struct cllm_shard_writer *writer, const uint8_t *bytes,
                                size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int rc = advance(writer);
        if (rc < 0)
            return rc;
        append(writer, bytes[i]);
    }
    return 0;
}

static void store_le32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

/* All that must succeed before the file gets its name. */
static int complete(struct cllm_shard_writer *writer)
{
    uint8_t header[12];
    bool wide = writer->token_bytes == 4;

    if (writer->n_tokens == 0)
        return cllm_err(CLLM_EDATA, "a shard without tokens is not written: %s",
                        writer->path);
    int rc = flush(writer);
    if (rc < 0)
        return rc;
    store_le32(header, wide ? CLLM_SHARD_MAGIC_U32 : CLLM_SHARD_MAGIC_U16);
    store_le32(header + 4, wide ? CLLM_SHARD_VERSION_U32 : CLLM_SHARD_VERSION_U16);
    store_le32(header + 8, (uint32_t)writer->n_tokens);
    rc = cllm_file_pwrite_all(writer->fd, header, sizeof header, 0, writer->temp);
    if (rc == 0 && fsync(writer->fd) != 0)
        rc = cllm_err(-errno, "cannot fsync %s", writer->temp);
    return rc;
}

int cllm_shard_writer_finish(struct cllm_shard_writer *writer)
{
    int rc = complete(writer);

    if (rc == 0) {
        int failed = close(writer->fd);
        writer->fd = -1;
        if (failed != 0)
            rc = cllm_err(-errno, "cannot close %s", writer->temp);
    }
    if (rc == 0)
        rc = cllm_file_rename(writer->temp, writer->path);
    if (rc < 0)
        cllm_shard_writer_abort(writer);
    else
        release(writer);
    return rc;
}

void cllm_shard_writer_abort(struct cllm_shard_writer *writer)
{
    if (writer->temp == NULL)
        return;
    if (writer->fd >= 0)
        (void)close(writer->fd);
    (void)unlink(writer->temp); /* after a failure: nothing more to do about it */
    release(writer);
}
