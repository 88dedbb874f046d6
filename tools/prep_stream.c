/*
 * tools/prep_stream.c - two files that grow, and the search in them.
 */
#include "tools/prep_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/file.h"

#define BUFFER_BYTES (1u << 20) /* a multiple of 16 */
#define WALK_TOKENS  65536      /* read at once in the search for a place */

/* Of the index. Little-endian, as this machine is. */
struct entry {
    uint64_t text;  /* twice the offset in the text, + 1 where a document begins */
    uint64_t token; /* offset among the tokens */
};
_Static_assert(sizeof(struct entry) == 16, "an entry has no padding");

/* Open @dir/@name with exactly @bytes bytes, to append. */
static int open_buffer(struct cllm_prep_file_buffer *file, const char *dir,
                       const char *name, uint64_t bytes)
{
    struct stat st;
    int rc = cllm_file_join(file->path, dir, name);

    if (rc < 0)
        return rc;
    file->at = malloc(BUFFER_BYTES);
    if (file->at == NULL)
        return cllm_err(-ENOMEM, "cannot write %s", file->path);
    file->fd = open(file->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (file->fd < 0)
        return cllm_err(-errno, "cannot create %s", file->path);
    if (fstat(file->fd, &st) != 0)
        return cllm_err(-errno, "cannot read %s", file->path);
    if ((uint64_t)st.st_size < bytes) {
        rc = cllm_err(CLLM_EDATA, "%s is shorter than its state says", file->path);
        cllm_err_detail("expected %" PRIu64 " bytes, found %lld", bytes,
                        (long long)st.st_size);
        cllm_err_hint("begin again: --force");
        return rc;
    }
    if (ftruncate(file->fd, (off_t)bytes) != 0 ||
        lseek(file->fd, 0, SEEK_END) != (off_t)bytes)
        return cllm_err(-errno, "cannot write %s", file->path);
    return 0;
}

static int flush(struct cllm_prep_file_buffer *file)
{
    int rc = cllm_file_write_all(file->fd, file->at, file->n, file->path);

    if (rc == -ENOSPC)
        cllm_err_hint("df %s; the stream of tokens is kept until the shards are made",
                      file->path);
    file->n = 0;
    return rc;
}

/* Room for @n more bytes, a divisor of the buffer's size; where they go. */
static int grow(struct cllm_prep_file_buffer *file, size_t n, uint8_t **to)
{
    int rc = file->n + n > BUFFER_BYTES ? flush(file) : 0;

    *to = file->at + file->n;
    file->n += n;
    return rc;
}

static void close_buffer(struct cllm_prep_file_buffer *file)
{
    if (file->fd >= 0)
        (void)close(file->fd);
    free(file->at);
    file->fd = -1;
    file->at = NULL;
}

int cllm_prep_stream_open(struct cllm_prep_stream *stream, const char *partial,
                          struct cllm_prep_state *state, const uint32_t *separator,
                          size_t n_separator, uint32_t token_bytes)
{
    memset(stream, 0, sizeof *stream);
    stream->state = state;
    stream->separator = separator;
    stream->n_separator = n_separator;
    stream->token_bytes = token_bytes;
    stream->tokens.fd = stream->index.fd = -1;
    int rc = open_buffer(&stream->tokens, partial, "tokens", state->tokens * token_bytes);
    if (rc == 0)
        rc = open_buffer(&stream->index, partial, "index",
                         state->entries * sizeof(struct entry));
    return rc;
}

void cllm_prep_stream_fini(struct cllm_prep_stream *stream)
{
    close_buffer(&stream->tokens);
    close_buffer(&stream->index);
}

/* Append @n tokens. */
static int put_ids(struct cllm_prep_stream *stream, const uint32_t *id, size_t n)
{
    uint32_t width = stream->token_bytes;
    int rc = 0;

    stream->state->tokens += n;
    while (rc == 0 && n > 0) {
        uint8_t *to = NULL;
        size_t now = (size_t)cllm_min_u64(n, 4096);
        rc = grow(&stream->tokens, now * width, &to);
        if (rc == 0 && width == 4) {
            memcpy(to, id, now * 4);
        } else if (rc == 0) {
            for (size_t i = 0; i < now; i++) {
                uint16_t narrow = (uint16_t)id[i];
                memcpy(to + 2 * i, &narrow, 2);
            }
        }
        id += now;
        n -= now;
    }
    return rc;
}

static int put_entry(struct cllm_prep_stream *stream, bool begins)
{
    struct entry entry = {.text = 2 * stream->state->bytes + (begins ? 1 : 0),
                          .token = stream->state->tokens};
    uint8_t *to = NULL;
    int rc = grow(&stream->index, sizeof entry, &to);

    if (rc == 0)
        memcpy(to, &entry, sizeof entry);
    stream->state->entries++;
    return rc;
}

int cllm_prep_stream_put(struct cllm_prep_stream *stream,
                         const struct cllm_prep_tokens *tokens)
{
    struct cllm_prep_state *state = stream->state;
    const uint32_t *id = tokens->id;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < tokens->n_marks; i++) {
        const struct cllm_prep_mark *mark = &tokens->mark[i];
        if (mark->begins && state->documents > 0)
            rc = put_ids(stream, stream->separator, stream->n_separator);
        if (rc == 0)
            rc = put_entry(stream, mark->begins);
        if (rc == 0)
            rc = put_ids(stream, id, mark->n_tokens);
        id += mark->n_tokens;
        state->bytes += mark->bytes;
        state->documents += mark->begins ? 1 : 0;
        state->source[mark->source].bytes += mark->bytes;
        state->source[mark->source].documents += mark->begins ? 1 : 0;
    }
    state->mistakes += tokens->tally.mistakes;
    state->empty += tokens->tally.empty;
    state->bad += tokens->tally.bad;
    return rc;
}

static int sync_buffer(struct cllm_prep_file_buffer *file)
{
    int rc = flush(file);

    if (rc == 0 && fdatasync(file->fd) != 0)
        rc = cllm_err(-errno, "cannot fsync %s", file->path);
    return rc;
}

int cllm_prep_stream_sync(struct cllm_prep_stream *stream)
{
    int rc = sync_buffer(&stream->tokens);

    return rc == 0 ? sync_buffer(&stream->index) : rc;
}

int cllm_prep_stream_read(const struct cllm_prep_stream *stream, uint64_t first,
                          uint64_t count, uint32_t *tokens)
{
    uint32_t width = stream->token_bytes;
    uint8_t *raw = (uint8_t *)tokens + (4 - width) * count; /* widened in place */
    int rc = cllm_file_pread_all(stream->tokens.fd, raw, count * width, first * width,
                                 stream->tokens.path);

    for (uint64_t i = 0; rc == 0 && width == 2 && i < count; i++) {
        uint16_t narrow;
        memcpy(&narrow, raw + 2 * i, 2);
        tokens[i] = narrow;
    }
    return rc;
}

/* ---- the split ---- */

static int read_entry(const struct cllm_prep_stream *stream, uint64_t number,
                      struct entry *entry)
{
    return cllm_file_pread_all(stream->index.fd, entry, sizeof *entry,
                               number * sizeof *entry, stream->index.path);
}

/* The last entry at or before @text, and in *@after the first behind it (= entries:
 * none). */
static int find_entry(const struct cllm_prep_stream *stream, uint64_t text,
                      struct entry *entry, uint64_t *after)
{
    uint64_t low = 0, high = stream->state->entries; /* the answer is in [low, high) */
    int rc = 0;

    while (rc == 0 && high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        rc = read_entry(stream, middle, entry);
        if (entry->text / 2 <= text)
            low = middle;
        else
            high = middle;
    }
    *after = low + 1;
    return rc < 0 ? rc : read_entry(stream, low, entry);
}

/* The nearest beginning of a document to @text, behind the first one, that lies in
 * [@low, @high]; false when there is none. */
static int find_document(const struct cllm_prep_stream *stream, uint64_t text,
                         uint64_t low, uint64_t high, struct entry *found, bool *is_there)
{
    struct entry entry = {0};
    uint64_t after = 0, nearest = UINT64_MAX;
    int rc = find_entry(stream, text, &entry, &after);

    *is_there = false;
    for (uint64_t i = after; rc == 0 && i-- > 1;) { /* backwards */
        rc = read_entry(stream, i, &entry);
        if (entry.text / 2 < low)
            break;
        if (rc == 0 && entry.text % 2 == 1) {
            *found = entry;
            *is_there = true;
            nearest = text - entry.text / 2;
            break;
        }
    }
    for (uint64_t i = after; rc == 0 && i < stream->state->entries; i++) {
        rc = read_entry(stream, i, &entry);
        if (entry.text / 2 > high || entry.text / 2 - text >= nearest)
            break;
        if (rc == 0 && entry.text % 2 == 1) {
            *found = entry;
            *is_there = true;
            break;
        }
    }
    return rc;
}

/* Go on from the entry before @text, token by token, to the first that begins at or
 * behind it. */
static int find_token(const struct cllm_prep_stream *stream,
                      const struct cllm_tokenizer *tokenizer, uint64_t text,
                      struct cllm_prep_split *split)
{
    uint32_t *tokens = malloc(WALK_TOKENS * sizeof *tokens);
    struct entry entry = {0};
    uint64_t after = 0;

    if (tokens == NULL)
        return cllm_err(-ENOMEM, "cannot split the stream");
    int rc = find_entry(stream, text, &entry, &after);
    if (rc == 0) {
        split->token = entry.token;
        split->bytes = entry.text / 2;
        split->document = false;
    }
    while (rc == 0 && split->bytes < text) {
        uint64_t n = cllm_min_u64(WALK_TOKENS, stream->state->tokens - split->token);
        CLLM_ASSERT(n > 0);
        rc = cllm_prep_stream_read(stream, split->token, n, tokens);
        for (uint64_t i = 0; rc == 0 && i < n && split->bytes < text; i++) {
            size_t bytes = 0;
            (void)cllm_tokenizer_token(tokenizer, tokens[i], &bytes);
            split->bytes += bytes;
            split->token++;
        }
    }
    free(tokens);
    return rc;
}

int cllm_prep_stream_split(const struct cllm_prep_stream *stream,
                           const struct cllm_tokenizer *tokenizer, double fraction,
                           struct cllm_prep_split *split)
{
    uint64_t bytes = stream->state->bytes;
    uint64_t asked = (uint64_t)((double)bytes * fraction);
    uint64_t most = cllm_min_u64(2 * asked, bytes);
    struct entry entry = {0};
    bool is_there = false;
    int rc = find_document(stream, bytes - asked, bytes - most, bytes - asked / 2, &entry,
                           &is_there);

    if (rc < 0 || !is_there)
        return rc < 0 ? rc : find_token(stream, tokenizer, bytes - asked, split);
    *split = (struct cllm_prep_split){
        .token = entry.token, .bytes = entry.text / 2, .document = true};
    return 0;
}
