/*
 * tests/foreign.h - files of others that tests look at and that are no part of the
 * project: GPT-2's vocabulary (gpt2/), the 260K model of llama2.c (stories260K/).
 *
 * They lie where CLLM_TEST_DATA says, else in ../shared/data, beside the checkout; where
 * they are not, a test is skipped and says so. tests/e2e/lib.bash has the same for
 * scripts.
 */
#ifndef CLLM_TESTS_FOREIGN_H
#define CLLM_TESTS_FOREIGN_H

#include <stdlib.h>

#include "tests/formats_temp.h"

/* The path of @name there, in one of a few static buffers; NULL and a word for people
 * where it is not. */
static inline const char *foreign(const char *name)
{
    const char *root = getenv("CLLM_TEST_DATA");
    const char *path = in(root != NULL ? root : "../shared/data", name);

    if (access(path, R_OK) == 0)
        return path;
    print_message("%s is not here: set CLLM_TEST_DATA\n", path);
    return NULL;
}

#endif /* CLLM_TESTS_FOREIGN_H */
