/*
 * compute/opencl/tuning.c - see compute/opencl/tuning.h.
 */
#include "compute/opencl/tuning.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/hash.h"

#define MAGIC     "cllm-tuning 1\n"
#define HASH_SEED 2

/* The most of a line, with four numbers and a name, and of a file. */
enum { LINE_BYTES = 80, FILE_BYTES = (CLLM_CL_TUNED + 3) * LINE_BYTES };

bool cllm_cl_tuning_path(char path[CLLM_CL_CACHE_FILE], uint64_t key)
{
    return cllm_cl_cache_path(path, key, ".tune");
}

/* ---- reading ---- */

/* The text of a file, NUL-terminated, or NULL: too long, with a NUL, not readable. */
static char *read_text(int fd)
{
    char *text = malloc(FILE_BYTES + 1);
    size_t bytes = 0;
    ssize_t n = 0;

    while (text && bytes < FILE_BYTES &&
           ((n = read(fd, text + bytes, FILE_BYTES - bytes)) > 0 ||
            (n < 0 && errno == EINTR)))
        bytes += n > 0 ? (size_t)n : 0;
    if (text && n == 0 && memchr(text, '\0', bytes) == NULL) {
        text[bytes] = '\0';
        return text;
    }
    free(text);
    return NULL;
}

/* Is @text the line "@word 0123456789abcdef\n" and no more than that at first? */
static bool is_number(const char *text, const char *word, uint64_t number)
{
    char line[LINE_BYTES];
    int n = snprintf(line, sizeof line, "%s %016" PRIx64 "\n", word, number);

    return strncmp(text, line, (size_t)n) == 0;
}

/* A number from 1 on, or from 0, and the blank behind it; NULL: there is none. */
static const char *take_number(const char *text, uint32_t least, uint32_t *out)
{
    uint64_t number = 0;
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits > 10 || text[digits] != ' ')
        return NULL;
    for (size_t i = 0; i < digits; i++)
        number = number * 10 + (uint64_t)(text[i] - '0');
    if (number < least || number > UINT32_MAX)
        return NULL;
    *out = (uint32_t)number;
    return text + digits + 1;
}

/* A line of a shape; returns what is behind it, or NULL. */
static const char *take_entry(const char *text, struct cllm_cl_tuned *entry)
{
    size_t n;

    text = take_number(text, 1, &entry->m);
    text = text ? take_number(text, 1, &entry->n) : NULL;
    text = text ? take_number(text, 1, &entry->k) : NULL;
    text = text ? take_number(text, 0, &entry->form) : NULL;
    if (text == NULL || entry->form > 3)
        return NULL;
    n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");
    if (n == 0 || n >= sizeof entry->variant || text[n] != '\n')
        return NULL;
    memset(entry->variant, 0, sizeof entry->variant);
    memcpy(entry->variant, text, n);
    return text + n + 1;
}

static bool take_text(const char *text, uint64_t key, struct cllm_cl_tuned *out,
                      size_t *n)
{
    const char *at = text + strlen(MAGIC);
    size_t bytes;

    if (strncmp(text, MAGIC, strlen(MAGIC)) != 0 || !is_number(at, "key", key))
        return false;
    at = strchr(at, '\n') + 1;
    while (strncmp(at, "end ", 4) != 0) {
        if (*n == CLLM_CL_TUNED || (at = take_entry(at, &out[*n])) == NULL)
            return false;
        ++*n;
    }
    bytes = (size_t)(at - text);
    return is_number(at, "end", cllm_hash(text, bytes, HASH_SEED)) &&
           strcmp(strchr(at, '\n'), "\n") == 0;
}

enum cllm_cl_tuning cllm_cl_tuning_load(uint64_t key, struct cllm_cl_tuned *out,
                                        size_t *n)
{
    char path[CLLM_CL_CACHE_FILE], *text;
    bool good;
    int fd;

    *n = 0;
    if (!cllm_cl_tuning_path(path, key))
        return CLLM_CL_TUNING_NONE;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? CLLM_CL_TUNING_NONE : CLLM_CL_TUNING_BAD;
    text = read_text(fd);
    (void)close(fd); /* read only */
    good = text != NULL && take_text(text, key, out, n);
    free(text);
    if (!good)
        *n = 0;
    return good ? CLLM_CL_TUNING_GOOD : CLLM_CL_TUNING_BAD;
}

/* ---- writing ---- */

static size_t write_text(char *text, uint64_t key, const struct cllm_cl_tuned *entries,
                         size_t n)
{
    size_t at = (size_t)snprintf(text, FILE_BYTES, MAGIC "key %016" PRIx64 "\n", key);

    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, FILE_BYTES - at,
                               "%" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %s\n",
                               entries[i].m, entries[i].n, entries[i].k, entries[i].form,
                               entries[i].variant);
    return at + (size_t)snprintf(text + at, FILE_BYTES - at, "end %016" PRIx64 "\n",
                                 cllm_hash(text, at, HASH_SEED));
}

/* All of @text to a new file at @path. */
static int write_file(const char *path, const char *text, size_t bytes)
{
    int rc = 0, fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t done = 0;

    if (fd < 0)
        return cllm_err(-errno, "cannot write %s", path);
    while (rc == 0 && done < bytes) {
        ssize_t n = write(fd, text + done, bytes - done);

        if (n < 0 && errno != EINTR)
            rc = cllm_err(-errno, "cannot write %s", path);
        done += n > 0 ? (size_t)n : 0;
    }
    if (close(fd) != 0 && rc == 0)
        rc = cllm_err(-errno, "cannot write %s", path);
    return rc;
}

int cllm_cl_tuning_store(uint64_t key, const struct cllm_cl_tuned *entries, size_t n)
{
    char path[CLLM_CL_CACHE_FILE], temporary[CLLM_CL_CACHE_PATH + 64], *text;
    int rc;

    CLLM_ASSERT(n <= CLLM_CL_TUNED);
    if (!cllm_cl_tuning_path(path, key)) {
        rc = cllm_err(-ENOENT, "cannot keep what was measured");
        cllm_err_hint("$CLLM_CACHE_DIR names a directory to keep it in");
        return rc;
    }
    (void)snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid());
    text = malloc(FILE_BYTES);
    if (!text)
        return cllm_err(-ENOMEM, "cannot keep what was measured");
    rc = write_file(temporary, text, write_text(text, key, entries, n));
    if (rc == 0 && rename(temporary, path) != 0)
        rc = cllm_err(-errno, "cannot write %s", path);
    if (rc != 0)
        (void)unlink(temporary); /* there may be none */
    free(text);
    return rc;
}
