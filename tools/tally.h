/*
 * tools/tally.h - results of many items, in order, kept in a file so that work that was
 * interrupted goes on where it was.
 *
 * The file is text that is only ever appended to: a line that says what is measured, then
 * for each item "NUMBER VALUE ... VALUE", values as C's %a, exactly. An interrupted line
 * at the end is cut off. Sums are taken over all values in order, so they do not depend
 * on interruptions.
 */
#ifndef CLLM_TOOLS_TALLY_H
#define CLLM_TOOLS_TALLY_H

#include "base/base.h"

#define CLLM_TALLY_VALUES 4 /* of an item, at most */

struct cllm_tally {
    int fd; /* -1: nothing is kept */
    const char *path;
    uint64_t n_items, n_done; /* items [0, n_done) are there */
    uint32_t n_values;
    double *value; /* [n_items][n_values] heap */
};

/*
 * Begin, or go on with the file at @path (NULL: keep nothing). @identity, without a
 * newline, is its first line; a file with another one is refused (CLLM_EDATA). Returns 0
 * or a negative code with text; then there is nothing to close.
 */
int cllm_tally_open(struct cllm_tally *tally, const char *path, const char *identity,
                    uint64_t n_items, uint32_t n_values);

/* The @n next items' @values (n, n_values). Returns 0 or a negative errno with text. */
int cllm_tally_add(struct cllm_tally *tally, const double *values, uint64_t n);

/* Sum of value @which over all items that are there, in order. */
double cllm_tally_sum(const struct cllm_tally *tally, uint32_t which);

void cllm_tally_close(struct cllm_tally *tally); /* safe on a zeroed one */

#endif /* CLLM_TOOLS_TALLY_H */
