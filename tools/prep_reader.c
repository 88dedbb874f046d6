/*
 * tools/prep_reader.c - read ahead, and take what makes a piece.
 *
 * Every decision looks at the bytes behind the current place alone, never at how many
 * happen to have been read: see the promise in the header.
 */
#include "tools/prep_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

void cllm_prep_piece_fini(struct cllm_prep_piece *piece)
{
    free(piece->text.at);
    free(piece->part);
    memset(piece, 0, sizeof *piece);
}

void cllm_prep_reader_init(struct cllm_prep_reader *reader,
                           const struct cllm_prep_input *input, const char *separator,
                           cllm_prep_cut_fn cut, const void *context,
                           const struct cllm_prep_place *place)
{
    memset(reader, 0, sizeof *reader);
    reader->input = input;
    reader->separator = separator;
    reader->cut = cut;
    reader->context = context;
    reader->piece_bytes = CLLM_PREP_PIECE_BYTES;
    reader->cut_max = CLLM_PREP_CUT_MAX;
    reader->line_max = CLLM_PREP_LINE_MAX;
    reader->at = *place;
    reader->fd = -1;
    for (uint64_t i = 0; i < place->file && i < input->n_files; i++)
        reader->behind += input->file[i].bytes;
}

static void close_file(struct cllm_prep_reader *reader)
{
    if (reader->fd < 0)
        return;
    cllm_unpack_close(&reader->unpack);
    (void)close(reader->fd);
    reader->fd = -1;
}

void cllm_prep_reader_fini(struct cllm_prep_reader *reader)
{
    close_file(reader);
    free(reader->window.at);
    memset(reader, 0, sizeof *reader);
    reader->fd = -1;
}

static size_t available(const struct cllm_prep_reader *reader)
{
    return reader->window.n - reader->begin;
}

static const uint8_t *ahead(const struct cllm_prep_reader *reader)
{
    return reader->window.at + reader->begin;
}

/* Read until @n bytes are available, or all there are. */
static int want(struct cllm_prep_reader *reader, size_t n)
{
    struct cllm_prep_bytes *window = &reader->window;
    int rc = 0;

    if (available(reader) >= n || reader->ended)
        return 0;
    if (reader->begin > 0) {
        memmove(window->at, window->at + reader->begin, available(reader));
        window->n -= reader->begin;
        reader->begin = 0;
    }
    rc = cllm_prep_bytes_room(window, n + reader->piece_bytes - window->n);
    while (rc == 0 && window->n < n && !reader->ended) {
        size_t got = 0;
        rc = cllm_unpack_read(&reader->unpack, window->at + window->n,
                              window->capacity - window->n, &got);
        window->n += got;
        reader->ended = rc == 0 && got == 0;
    }
    return rc;
}

/* Behind a byte order mark, or at the place within the file. */
static int skip_to_place(struct cllm_prep_reader *reader)
{
    uint64_t left = reader->at.off;
    int rc = 0;

    if (left == 0) {
        rc = want(reader, 3);
        if (rc == 0 && available(reader) >= 3 &&
            memcmp(ahead(reader), "\xef\xbb\xbf", 3) == 0)
            reader->at.off = reader->begin = 3;
        return rc;
    }
    while (rc == 0 && left > 0) {
        size_t n = (size_t)cllm_min_u64(left, CLLM_PREP_PIECE_BYTES);
        rc = want(reader, n);
        if (rc == 0 && available(reader) < n)
            rc = cllm_err(CLLM_EDATA, "%s has changed since it was begun: it is shorter",
                          reader->unpack.name);
        if (rc == 0)
            reader->begin += n;
        left -= n;
    }
    return rc;
}

static int open_file(struct cllm_prep_reader *reader)
{
    const struct cllm_prep_file *file = &reader->input->file[reader->at.file];
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return cllm_err(-errno, "cannot open %s", file->path);
    int rc = cllm_prep_input_unchanged(file, fd);
    if (rc == 0)
        rc = cllm_unpack_open(&reader->unpack, fd, file->path);
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    reader->fd = fd;
    reader->window.n = reader->begin = 0;
    reader->ended = false;
    return skip_to_place(reader);
}

/* All of the file is taken. */
static int end_file(struct cllm_prep_reader *reader)
{
    const struct cllm_prep_file *file = &reader->input->file[reader->at.file];
    int rc = cllm_prep_input_unchanged(file, reader->fd);

    close_file(reader);
    reader->behind += file->bytes;
    reader->at = (struct cllm_prep_place){.file = reader->at.file + 1};
    return rc;
}

/* The next @n bytes are behind us. */
static void pass(struct cllm_prep_reader *reader, size_t n)
{
    reader->begin += n;
    reader->at.off += n;
}

/* Put the next @n bytes, at least 1, into @piece. */
static int take(struct cllm_prep_reader *reader, struct cllm_prep_piece *piece, size_t n,
                bool jsonl)
{
    if (piece->n_parts == piece->capacity) {
        size_t capacity = 2 * piece->capacity + 4;
        struct cllm_prep_part *larger = realloc(piece->part, capacity * sizeof *larger);
        if (larger == NULL)
            return cllm_err(-ENOMEM, "cannot list the documents");
        piece->part = larger;
        piece->capacity = capacity;
    }
    piece->part[piece->n_parts++] =
        (struct cllm_prep_part){.file = (uint32_t)reader->at.file,
                                .jsonl = jsonl,
                                .begins = !jsonl && !reader->at.open,
                                .off = reader->at.off,
                                .line = reader->at.line + 1,
                                .at = piece->text.n,
                                .n = n};
    int rc = cllm_prep_bytes_add(&piece->text, ahead(reader), n);
    if (jsonl) {
        const uint8_t *p = ahead(reader), *end = p + n;
        while ((p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
            reader->at.line++;
            p++;
        }
    } else {
        reader->at.open = true;
        reader->at.in_line = ahead(reader)[n - 1] != '\n';
    }
    pass(reader, n);
    return rc;
}

/* Whole lines of JSON. *@full: no more goes into this piece. */
static int take_lines(struct cllm_prep_reader *reader, struct cllm_prep_piece *piece,
                      bool *full)
{
    size_t limit = reader->piece_bytes - piece->text.n;

    for (;;) {
        int rc = want(reader, limit + 1);
        if (rc < 0)
            return rc;
        size_t n = (size_t)cllm_min_u64(available(reader), limit);
        bool whole = reader->ended && available(reader) <= limit;
        const uint8_t *newline = whole ? NULL : memrchr(ahead(reader), '\n', n);
        *full = !whole;
        if (whole || newline != NULL)
            return take(reader, piece, whole ? n : (size_t)(newline - ahead(reader)) + 1,
                        true);
        if (piece->text.n > 0)
            return 0;
        if (limit >= reader->line_max)
            break;
        limit *= 2;
    }
    int rc = cllm_err(CLLM_EDATA, "%s:%" PRIu64 ": the line is longer than %zu bytes",
                      reader->unpack.name, reader->at.line + 1, limit);
    cllm_err_hint("if it is no JSON lines file: --format text");
    return rc;
}

/* Is there a separator line at @at of the next @n bytes, which end with a line's end if
 * not @whole? Returns its length with its newline, 0 = none. */
static size_t separator_at(const struct cllm_prep_reader *reader, size_t at, size_t n,
                           bool whole)
{
    const uint8_t *line = ahead(reader) + at;
    size_t length = strlen(reader->separator);

    if (at == 0 ? reader->at.in_line : line[-1] != '\n')
        return 0;
    if (n - at < length || memcmp(line, reader->separator, length) != 0)
        return 0;
    if (at + length < n && line[length] == '\r')
        length++;
    if (at + length < n && line[length] == '\n')
        return length + 1;
    return whole && at + length == n ? length : 0;
}

/* The first separator line in the next @n bytes: its place, and *@length > 0. */
static size_t find_separator(const struct cllm_prep_reader *reader, size_t n, bool whole,
                             size_t *length)
{
    const uint8_t *text = ahead(reader);
    size_t wanted = strlen(reader->separator);
    size_t at = 0;

    *length = 0;
    while (*length == 0 && at < n) {
        const uint8_t *hit = memmem(text + at, n - at, reader->separator, wanted);
        if (hit == NULL)
            return 0;
        at = (size_t)(hit - text);
        *length = separator_at(reader, at, n, whole);
        at += *length == 0 ? 1 : 0;
    }
    return at;
}

/* Behind the last newline of the next @n bytes; 0 = there is none. */
static size_t lines_of(const struct cllm_prep_reader *reader, size_t n)
{
    const uint8_t *newline = memrchr(ahead(reader), '\n', n);

    return newline == NULL ? 0 : (size_t)(newline - ahead(reader)) + 1;
}

/* The document's text before a separator line, and that line. */
static int take_to_separator(struct cllm_prep_reader *reader,
                             struct cllm_prep_piece *piece, size_t n, size_t length)
{
    int rc = n > 0 ? take(reader, piece, n, false) : 0;

    pass(reader, length);
    reader->at.open = false;
    reader->at.in_line = false;
    return rc;
}

/* Text of one document, to its end or to where it may be cut. */
static int take_text(struct cllm_prep_reader *reader, struct cllm_prep_piece *piece,
                     bool *full)
{
    size_t limit = reader->piece_bytes - piece->text.n;
    bool separated = reader->separator[0] != '\0';

    for (;;) {
        int rc = want(reader, limit + 1);
        if (rc < 0)
            return rc;
        size_t n = (size_t)cllm_min_u64(available(reader), limit);
        bool whole = reader->ended && available(reader) <= limit;
        size_t lines = separated && !whole ? lines_of(reader, n) : n;
        size_t length = 0;
        size_t at = separated ? find_separator(reader, lines, whole, &length) : 0;
        if (length > 0)
            return take_to_separator(reader, piece, at, length);
        if (whole)
            return take(reader, piece, n, false);
        *full = true;
        size_t cut = lines > 0 ? reader->cut(reader->context, ahead(reader), lines) : 0;
        if (cut == 0 && piece->text.n > 0)
            return 0;
        if (cut == 0 && limit >= reader->cut_max)
            cut = cllm_prep_utf8_cut(ahead(reader), available(reader), n);
        if (cut > 0)
            return take(reader, piece, cut, false);
        limit *= 2;
    }
}

int cllm_prep_reader_next(struct cllm_prep_reader *reader, struct cllm_prep_piece *piece)
{
    bool full = false;
    int rc = 0;

    piece->text.n = 0;
    piece->n_parts = 0;
    while (rc == 0 && !full && piece->text.n < reader->piece_bytes) {
        if (reader->fd < 0) {
            if (reader->at.file == reader->input->n_files)
                break;
            rc = open_file(reader);
            continue;
        }
        rc = want(reader, 1);
        if (rc == 0 && available(reader) == 0)
            rc = end_file(reader);
        else if (rc == 0 && reader->input->file[reader->at.file].jsonl)
            rc = take_lines(reader, piece, &full);
        else if (rc == 0)
            rc = take_text(reader, piece, &full);
        full = full && piece->n_parts > 0; /* a separator alone makes no piece */
    }
    piece->after = reader->at;
    piece->done = reader->behind + (reader->fd < 0 ? 0 : reader->unpack.taken);
    return rc < 0 ? rc : piece->n_parts > 0;
}
