/*
 * tests/formats_temp.h - a temporary directory for tests of files, and bytes in and out.
 */
#ifndef CLLM_TESTS_FORMATS_TEMP_H
#define CLLM_TESTS_FORMATS_TEMP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "formats/file.h"

/* cmocka setup and teardown: *state is the path of an empty directory. */
static inline int temp_setup(void **state)
{
    const char *root = getenv("TMPDIR");
    char *path = NULL;

    if (asprintf(&path, "%s/cllm-formats-XXXXXX", root != NULL ? root : "/tmp") < 0)
        return -1;
    if (mkdtemp(path) == NULL)
        return -1;
    *state = path;
    return 0;
}

static inline int temp_teardown(void **state)
{
    int rc = cllm_file_remove_tree(*state);

    free(*state);
    return rc;
}

/* "@dir/@name" in one of a few static buffers. */
static inline const char *in(const char *dir, const char *name)
{
    static char paths[8][CLLM_FILE_PATH_BYTES];
    static unsigned next;
    char *path = paths[next++ % 8];

    assert_int_equal(cllm_file_join(path, dir, name), 0);
    return path;
}

static inline void put_file(const char *path, const void *bytes, size_t n)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

/* The bytes of @path; the caller frees. */
static inline char *get_file(const char *path, size_t *n)
{
    char *bytes = NULL;

    assert_int_equal(cllm_file_read(path, 64u << 20, &bytes, n), 0);
    return bytes;
}

/* Both have the same bytes. */
static inline void assert_same_file(const char *path, const char *other)
{
    size_t n = 0, m = 0;
    char *one = get_file(path, &n), *two = get_file(other, &m);

    assert_int_equal(n, m);
    assert_memory_equal(one, two, n);
    free(one);
    free(two);
}

/* The error text must hold @part. */
static inline void assert_error_says(const char *part)
{
    if (strstr(cllm_err_text(), part) == NULL)
        fail_msg("expected \"%s\" in \"%s\"", part, cllm_err_text());
}

#endif /* CLLM_TESTS_FORMATS_TEMP_H */
