/*
 * base/option.h - one row of options.def as data: how a value is read, refused and
 * printed.
 *
 * Inside base/ only: config.c reads files with it, config_help.c prints the tables.
 * Everyone else sees the fields of struct cllm_config.
 */
#ifndef CLLM_BASE_OPTION_H
#define CLLM_BASE_OPTION_H

#include <stdio.h>

#include "base/config.h"

enum cllm_option_kind {
    CLLM_OPTION_U64,
    CLLM_OPTION_AUTO,
    CLLM_OPTION_F64,
    CLLM_OPTION_ENUM,
    CLLM_OPTION_BOOL,
    CLLM_OPTION_STR,
    CLLM_OPTION_LIST
};

struct cllm_option {
    const char *section, *name;
    enum cllm_option_kind kind;
    size_t off; /* of the field in struct cllm_config */
    const char *def;
    uint64_t min_u64, max_u64;
    double min_f64, max_f64;
    const char *unit;    /* "" when there is none */
    const char *choices; /* "a|b" for enums */
    const char *help;
};

/* How many rows options.def has. */
enum {
#define OPT_U64(s, n, d, lo, hi, u, h) CLLM_OPTION_ROW_##s##_##n,
#define OPT_AUTO(s, n, lo, hi, u, h)   CLLM_OPTION_ROW_##s##_##n,
#define OPT_F64(s, n, d, lo, hi, u, h) CLLM_OPTION_ROW_##s##_##n,
#define OPT_ENUM(s, n, d, c, h)        CLLM_OPTION_ROW_##s##_##n,
#define OPT_BOOL(s, n, d, h)           CLLM_OPTION_ROW_##s##_##n,
#define OPT_STR(s, n, d, h)            CLLM_OPTION_ROW_##s##_##n,
#define OPT_LIST(s, n, h)              CLLM_OPTION_ROW_##s##_##n,
#include "base/options.def"
#undef OPT_U64
#undef OPT_AUTO
#undef OPT_F64
#undef OPT_ENUM
#undef OPT_BOOL
#undef OPT_STR
#undef OPT_LIST
    CLLM_N_OPTIONS
};

/* In the order of options.def. */
extern const struct cllm_option cllm_options[CLLM_N_OPTIONS];

/* The row of [@section] @name, or NULL. */
const struct cllm_option *cllm_option_find(const char *section, const char *name);

/* CLLM_ECONFIG with a text that names the nearest known key. */
int cllm_option_refuse_unknown(const char *section, const char *name);

/* The field of @config that @opt describes. */
void *cllm_option_field(struct cllm_config *config, const struct cllm_option *opt);
const void *cllm_option_const_field(const struct cllm_config *config,
                                    const struct cllm_option *opt);

/* Read @value into the field; lists grow by one. Returns 0 or CLLM_ECONFIG with a text
 * that says what is allowed; the field is unchanged then. */
int cllm_option_store(struct cllm_config *config, const struct cllm_option *opt,
                      const char *value);

/* The field's value as it would stand in a file; not for lists. */
void cllm_option_print(FILE *out, const struct cllm_config *config,
                       const struct cllm_option *opt);

#endif /* CLLM_BASE_OPTION_H */
