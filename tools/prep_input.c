/*
 * tools/prep_input.c - find files, and tell text from everything else.
 */
#include "tools/prep_input.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "formats/sha256.h"
#include "formats/unpack.h"

#define LOOK_BYTES  8192
#define SPOOL_BYTES (1u << 16)

/* Files without a NUL near their beginning that are no text all the same. */
static const struct {
    const char *bytes;
    size_t n;
    const char *what;
} magics[] = {
    {"PK\x03\x04", 4, "zip"},
    {"BZh", 3, "bzip2"},
    {"\xfd"
     "7zXZ",
     5, "xz"},
    {"%PDF-", 5, "PDF"},
    {"PAR1", 4, "Parquet"},
};

enum kind { KIND_TEXT = 0, KIND_EMPTY, KIND_BINARY };

void cllm_prep_input_init(struct cllm_prep_input *input, const char *out_dir,
                          enum cllm_prep_format format)
{
    memset(input, 0, sizeof *input);
    input->format = format;
    input->out_dir = out_dir;
}

void cllm_prep_input_fini(struct cllm_prep_input *input)
{
    for (size_t i = 0; i < input->n_files; i++)
        free(input->file[i].path);
    free(input->file);
    free(input->source);
    if (input->spool[0] != '\0')
        (void)unlink(
            input->spool); /* a hidden temporary file; the next run overwrites it */
    memset(input, 0, sizeof *input);
}

static int64_t mtime_ns(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* Is it a control character that text has no use for? */
static bool is_odd(uint8_t byte)
{
    return byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r' && byte != '\f' &&
           byte != '\b' && byte != 0x1b;
}

/* Judge the first @n bytes of a file. For binary ones the error text says why. */
static enum kind judge(const char *path, const uint8_t *bytes, size_t n)
{
    size_t odd = 0;

    if (n == 0)
        return KIND_EMPTY;
    for (size_t i = 0; i < CLLM_LEN(magics); i++) {
        if (n >= magics[i].n && memcmp(bytes, magics[i].bytes, magics[i].n) == 0) {
            (void)cllm_err(CLLM_EDATA, "%s is not text, it is a %s file", path,
                           magics[i].what);
            cllm_err_hint("unpack it, or pipe its text into cllm-prep ... -");
            return KIND_BINARY;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == 0) {
            (void)cllm_err(CLLM_EDATA, "%s is not text, it has a NUL byte at offset %zu",
                           path, i);
            cllm_err_hint("UTF-16 text: convert it with iconv -t UTF-8");
            return KIND_BINARY;
        }
        odd += is_odd(bytes[i]) ? 1 : 0;
    }
    if (odd * 10 > n) {
        (void)cllm_err(CLLM_EDATA,
                       "%s is not text, %zu of its first %zu bytes are control "
                       "characters",
                       path, odd, n);
        return KIND_BINARY;
    }
    return KIND_TEXT;
}

/* Does the name say JSON lines? "a.jsonl", "a.ndjson", and these with .gz, .zst behind.
 */
static bool is_jsonl_name(const char *path)
{
    static const char *const ends[] = {".jsonl", ".ndjson"};
    static const char *const packs[] = {"", ".gz", ".zst", ".zstd"};
    char end[16];
    size_t len = strlen(path);

    for (size_t i = 0; i < CLLM_LEN(ends) * CLLM_LEN(packs); i++) {
        int n = snprintf(end, sizeof end, "%s%s", ends[i / CLLM_LEN(packs)],
                         packs[i % CLLM_LEN(packs)]);
        if (len > (size_t)n && strcmp(path + len - (size_t)n, end) == 0)
            return true;
    }
    return false;
}

/* What add_file() finds out about a file. */
struct look {
    struct stat st;
    uint8_t bytes[LOOK_BYTES]; /* the beginning of its text */
    size_t n;
    bool packed;
};

static int append(struct cllm_prep_input *input, const char *path,
                  const struct look *look)
{
    size_t n = input->n_files;

    if ((n & (n + 1)) == 0) { /* full at 0, 1, 3, 7, ...: double */
        struct cllm_prep_file *larger =
            realloc(input->file, (2 * n + 1) * sizeof *larger);
        if (larger == NULL)
            return cllm_err(-ENOMEM, "cannot list the files");
        input->file = larger;
    }
    char *copy = strdup(path);
    if (copy == NULL)
        return cllm_err(-ENOMEM, "cannot list the files");
    bool spooled = strcmp(path, input->spool) == 0;
    input->file[n] = (struct cllm_prep_file){
        .path = copy,
        .source = (uint32_t)(input->n_sources - 1),
        .jsonl = input->format == CLLM_PREP_FORMAT_JSONL ||
                 (input->format == CLLM_PREP_FORMAT_AUTO && is_jsonl_name(path)),
        .bytes = (uint64_t)look->st.st_size,
        .mtime_ns = spooled ? 0 : mtime_ns(&look->st)};
    input->n_files++;
    input->bytes += input->file[n].bytes;
    input->n_packed += look->packed ? 1 : 0;
    input->source[input->n_sources - 1].files++;
    return 0;
}

int cllm_prep_input_unchanged(const struct cllm_prep_file *file, int fd)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return cllm_err(-errno, "cannot read %s", file->path);
    if ((uint64_t)st.st_size == file->bytes &&
        (file->mtime_ns == 0 || mtime_ns(&st) == file->mtime_ns))
        return 0;
    int rc = cllm_err(CLLM_EDATA, "%s has changed while it was read", file->path);
    cllm_err_detail("it had %llu bytes, now %lld", (unsigned long long)file->bytes,
                    (long long)st.st_size);
    return rc;
}

/* The beginning of the open file's text. */
static int look_at(struct look *look, int fd, const char *path)
{
    struct cllm_unpack unpack;
    size_t n = 1;

    if (fstat(fd, &look->st) != 0)
        return cllm_err(-errno, "cannot read %s", path);
    int rc = cllm_unpack_open(&unpack, fd, path);
    if (rc < 0)
        return rc;
    look->packed = unpack.kind != CLLM_UNPACK_PLAIN;
    while (rc == 0 && n > 0 && look->n < LOOK_BYTES) {
        rc = cllm_unpack_read(&unpack, look->bytes + look->n, LOOK_BYTES - look->n, &n);
        look->n += n;
    }
    cllm_unpack_close(&unpack);
    return rc;
}

/* A regular file. @named: the user named it, so binary content is an error. */
static int add_file(struct cllm_prep_input *input, const char *path, bool named)
{
    struct look look = {.n = 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return cllm_err(-errno, "cannot open %s", path);
    int rc = look_at(&look, fd, path);
    (void)close(fd);
    if (rc < 0)
        return rc;
    bool mark = look.n >= 3 && memcmp(look.bytes, "\xef\xbb\xbf", 3) == 0;
    switch (mark && look.n == 3 ? KIND_EMPTY : judge(path, look.bytes, look.n)) {
    case KIND_BINARY:
        if (named)
            return CLLM_EDATA;
        input->n_binary++;
        cllm_debug("passed over: %s", cllm_err_text());
        return 0;
    case KIND_EMPTY:
        input->n_empty++;
        cllm_debug("passed over: %s is empty", path);
        return 0;
    case KIND_TEXT:
        break;
    }
    input->n_marks += mark ? 1 : 0;
    return append(input, path, &look);
}

static bool is_out_dir(const struct cllm_prep_input *input, const struct stat *st)
{
    struct stat out;

    return stat(input->out_dir, &out) == 0 && out.st_dev == st->st_dev &&
           out.st_ino == st->st_ino;
}

/* One entry of the walk. */
static int visit(struct cllm_prep_input *input, FTS *walk, FTSENT *entry)
{
    struct stat st;

    if (entry->fts_info == FTS_DP)
        return 0;
    if (entry->fts_level > 0 && entry->fts_name[0] == '.') {
        input->n_hidden++;
        cllm_debug("passed over: %s is hidden", entry->fts_path);
        return fts_set(walk, entry, FTS_SKIP) == 0 ? 0 : -errno;
    }
    switch (entry->fts_info) {
    case FTS_D:
        if (!is_out_dir(input, entry->fts_statp))
            return 0;
        if (entry->fts_level == 0)
            return cllm_err(CLLM_ECONFIG,
                            "the output directory %s cannot be an input too",
                            entry->fts_path);
        return fts_set(walk, entry, FTS_SKIP) == 0 ? 0 : -errno;
    case FTS_F:
        return add_file(input, entry->fts_path, false);
    case FTS_SL: /* links to files are taken, links to directories might be loops */
        if (stat(entry->fts_path, &st) == 0 && S_ISREG(st.st_mode))
            return add_file(input, entry->fts_path, false);
        input->n_special++;
        return 0;
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        return cllm_err(-entry->fts_errno, "cannot read %s", entry->fts_path);
    default:
        input->n_special++;
        return 0;
    }
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int add_directory(struct cllm_prep_input *input, const char *path)
{
    size_t before = input->n_files;
    char root[CLLM_FILE_PATH_BYTES];
    size_t len = strlen(path);
    FTSENT *entry;
    int rc = 0;

    if (len >= sizeof root)
        return cllm_err(-ENAMETOOLONG, "cannot use the path %.200s...", path);
    memcpy(root, path, len + 1);
    char *roots[] = {root, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
    if (walk == NULL)
        return cllm_err(-errno, "cannot read the directory %s", path);
    while (rc == 0 && (errno = 0, entry = fts_read(walk)) != NULL)
        rc = visit(input, walk, entry);
    if (rc == 0 && errno != 0)
        rc = cllm_err(-errno, "cannot read the directory %s", path);
    (void)fts_close(walk);
    if (rc == 0 && input->n_files == before) {
        rc = cllm_err(CLLM_EDATA, "there is no text in the directory %s", path);
        cllm_err_detail("passed over in all: %llu hidden, %llu binary, %llu empty",
                        (unsigned long long)input->n_hidden,
                        (unsigned long long)input->n_binary,
                        (unsigned long long)input->n_empty);
    }
    return rc;
}

/* Copy stdin into the spool file: it is looked at, and perhaps read twice. */
static int spool(struct cllm_prep_input *input)
{
    uint8_t block[SPOOL_BYTES];
    int rc = 0;

    if (input->spool[0] != '\0')
        return cllm_err(CLLM_ECONFIG, "stdin (-) is given twice");
    rc = cllm_file_join(input->spool, input->out_dir, ".stdin.tmp");
    if (rc < 0)
        return rc;
    int fd =
        open(input->spool, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return cllm_err(-errno, "cannot create %s", input->spool);
    while (rc == 0) {
        ssize_t n = read(STDIN_FILENO, block, sizeof block);
        if (n < 0) /* EINTR too: the user has asked to stop */
            rc = cllm_err(-errno, "cannot read stdin");
        if (n == 0)
            break;
        if (n > 0)
            rc = cllm_file_write_all(fd, block, (size_t)n, input->spool);
    }
    if (close(fd) != 0 && rc == 0)
        rc = cllm_err(-errno, "cannot close %s", input->spool);
    if (rc == 0)
        rc = cllm_sha256_file(input->spool, input->spool_sha256, NULL);
    return rc;
}

int cllm_prep_input_add(struct cllm_prep_input *input, const char *argument)
{
    struct stat st;
    struct cllm_prep_source *larger =
        realloc(input->source, (input->n_sources + 1) * sizeof *larger);

    if (larger == NULL)
        return cllm_err(-ENOMEM, "cannot list the sources");
    input->source = larger;
    input->source[input->n_sources++] = (struct cllm_prep_source){.argument = argument};
    if (strcmp(argument, "-") == 0) {
        int rc = spool(input);
        return rc < 0 ? rc : add_file(input, input->spool, true);
    }
    if (stat(argument, &st) != 0)
        return cllm_err(-errno, "cannot open %s", argument);
    if (S_ISDIR(st.st_mode))
        return add_directory(input, argument);
    if (!S_ISREG(st.st_mode))
        return cllm_err(CLLM_EDATA, "%s is neither a regular file nor a directory",
                        argument);
    return add_file(input, argument, true);
}
