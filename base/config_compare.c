/*
 * base/config_compare.c - which options of two configurations make different weights.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/option.h"

/* Whole sections, and single options of others. */
static bool changes_weights(const struct cllm_option *opt)
{
    static const struct {
        const char *section, *name; /* NULL: all */
    } rows[] = {{"model", NULL},         {"train", NULL},  {"loss", NULL},
                {"lora", NULL},          {"run", "lanes"}, {"run", "chunk"},
                {"compute", "precision"}};

    for (size_t i = 0; i < CLLM_LEN(rows); i++)
        if (strcmp(opt->section, rows[i].section) == 0 &&
            (rows[i].name == NULL || strcmp(opt->name, rows[i].name) == 0))
            return true;
    return false;
}

/* The value for people; in @digits significant digits. */
static void print(FILE *out, const struct cllm_config *config,
                  const struct cllm_option *opt, int digits)
{
    const void *field = cllm_option_const_field(config, opt);
    const struct cllm_config_list *list = field;

    if (opt->kind == CLLM_OPTION_F64) {
        (void)fprintf(out, "%.*g", digits, *(const double *)field);
    } else if (opt->kind == CLLM_OPTION_LIST) {
        for (uint32_t i = 0; i < list->n; i++)
            (void)fprintf(out, "%s\"%s\"", i > 0 ? " and " : "", list->item[i]);
        if (list->n == 0)
            (void)fputs("none", out);
    } else {
        cllm_option_print(out, config, opt);
    }
}

static void value(char *text, size_t bytes, const struct cllm_config *config,
                  const struct cllm_option *opt, int digits)
{
    FILE *out = fmemopen(text, bytes, "w"); /* what does not fit is left out */

    text[0] = '\0';
    if (out == NULL)
        return;
    print(out, config, opt, digits);
    (void)fclose(out); /* in memory */
    text[bytes - 1] = '\0';
}

uint32_t cllm_config_compare(const struct cllm_config *here,
                             const struct cllm_config *there, char *out, size_t bytes)
{
    char mine[256], other[256];
    size_t used = 0;
    uint32_t n = 0;

    out[0] = '\0';
    for (size_t i = 0; i < CLLM_N_OPTIONS; i++) {
        const struct cllm_option *opt = &cllm_options[i];

        if (!changes_weights(opt))
            continue;
        value(mine, sizeof mine, here, opt, 17);
        value(other, sizeof other, there, opt, 17);
        if (strcmp(mine, other) == 0)
            continue;
        value(mine, sizeof mine, here, opt, 9);
        value(other, sizeof other, there, opt, 9);
        if (used < bytes)
            used +=
                (size_t)snprintf(out + used, bytes - used, "%s%s.%s is %s, was %s",
                                 n > 0 ? "; " : "", opt->section, opt->name, mine, other);
        n++;
    }
    return n;
}
