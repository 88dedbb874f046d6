/*
 * base/option.c - options.def as a table, and the rules for single values: what is a
 * number, which words are allowed, what is refused and with which words.
 */
#include "base/option.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define VALUE_MAX_BYTES 165 /* with its key it fits a line that inih does not cut */

#define FIELD(section, name) offsetof(struct cllm_config, section##_##name)

const struct cllm_option cllm_options[CLLM_N_OPTIONS] = {
#define OPT_U64(s, n, d, lo, hi, u, h) \
    {#s, #n, CLLM_OPTION_U64, FIELD(s, n), #d, lo, hi, 0, 0, u, "", h},
#define OPT_AUTO(s, n, lo, hi, u, h) \
    {#s, #n, CLLM_OPTION_AUTO, FIELD(s, n), "auto", lo, hi, 0, 0, u, "", h},
#define OPT_F64(s, n, d, lo, hi, u, h) \
    {#s, #n, CLLM_OPTION_F64, FIELD(s, n), #d, 0, 0, lo, hi, u, "", h},
#define OPT_ENUM(s, n, d, c, h) \
    {#s, #n, CLLM_OPTION_ENUM, FIELD(s, n), d, 0, 0, 0, 0, "", c, h},
#define OPT_BOOL(s, n, d, h) \
    {#s, #n, CLLM_OPTION_BOOL, FIELD(s, n), d, 0, 0, 0, 0, "", "yes|no", h},
#define OPT_STR(s, n, d, h) \
    {#s, #n, CLLM_OPTION_STR, FIELD(s, n), d, 0, 0, 0, 0, "", "", h},
#define OPT_LIST(s, n, h) \
    {#s, #n, CLLM_OPTION_LIST, FIELD(s, n), "", 0, 0, 0, 0, "", "", h},
#include "base/options.def"
};

void *cllm_option_field(struct cllm_config *config, const struct cllm_option *opt)
{
    return (char *)config + opt->off;
}

const void *cllm_option_const_field(const struct cllm_config *config,
                                    const struct cllm_option *opt)
{
    return (const char *)config + opt->off;
}

/* Index of @word among "a|b|c", or -1. */
static int choice_index(const char *choices, const char *word)
{
    size_t len = strlen(word);
    int index = 0;

    for (const char *at = choices; *at; index++) {
        size_t n = strcspn(at, "|");

        if (n == len && strncmp(at, word, n) == 0)
            return index;
        at += n + (at[n] == '|');
    }
    return -1;
}

static void print_choice(char *out, size_t bytes, const char *choices, uint32_t index)
{
    const char *at = choices;

    while (index-- > 0)
        at += strcspn(at, "|") + 1;
    (void)snprintf(out, bytes, "%.*s", (int)strcspn(at, "|"), at);
}

/* Edit distance, for "did you mean". Words are short, rows fit on the stack; a long one
 * is no slip of the finger. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[64];
    size_t nb = strlen(b);

    if (nb >= CLLM_LEN(row) || strlen(a) >= CLLM_LEN(row))
        return UINT32_MAX / 2;
    for (unsigned j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i + 1;
        for (size_t j = 0; j < nb; j++) {
            unsigned best = diagonal + (a[i] != b[j]);

            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j + 1] + 1 < best)
                best = row[j + 1] + 1;
            diagonal = row[j + 1];
            row[j + 1] = best;
        }
    }
    return row[nb];
}

int cllm_option_refuse_unknown(const char *section, const char *name)
{
    unsigned best = UINT32_MAX;
    const struct cllm_option *nearest = NULL;
    bool section_known = false;
    int rc;

    for (size_t i = 0; i < CLLM_N_OPTIONS; i++) {
        unsigned d = edit_distance(name, cllm_options[i].name) +
                     (strcmp(section, cllm_options[i].section) != 0 ? 2U : 0U);

        section_known |= strcmp(section, cllm_options[i].section) == 0;
        if (d < best) {
            best = d;
            nearest = &cllm_options[i];
        }
    }
    if (section[0] == '\0')
        rc = cllm_err(CLLM_ECONFIG, "key '%s' stands before any [section]", name);
    else if (section_known)
        rc = cllm_err(CLLM_ECONFIG, "unknown key '%s' in section [%s]", name, section);
    else
        rc = cllm_err(CLLM_ECONFIG, "unknown section [%s]", section);
    if (nearest && best <= 2 + strlen(name) / 3)
        cllm_err_hint("did you mean '%s' in [%s]? --help-options lists all",
                      nearest->name, nearest->section);
    else
        cllm_err_hint("cllm-coord --help-options lists all sections and keys");
    return rc;
}

const struct cllm_option *cllm_option_find(const char *section, const char *name)
{
    for (size_t i = 0; i < CLLM_N_OPTIONS; i++)
        if (strcmp(section, cllm_options[i].section) == 0 &&
            strcmp(name, cllm_options[i].name) == 0)
            return &cllm_options[i];
    return NULL;
}

/* Trailing junk is most often a '#' comment, which .ini does not know inside a line. */
static int refuse_value(const struct cllm_option *opt, const char *value,
                        const char *allowed)
{
    int rc = cllm_err(CLLM_ECONFIG, "%s.%s = '%s' is not allowed: expected %s",
                      opt->section, opt->name, value, allowed);

    if (strchr(value, '#'))
        cllm_err_hint("a comment after a value begins with ' ;', not with '#'");
    else
        cllm_err_hint("%s", opt->help);
    return rc;
}

static bool parse_u64(const char *value, uint64_t *out)
{
    unsigned long long n;
    uint64_t factor = 1;
    char *end;

    if (value[0] < '0' || value[0] > '9')
        return false;
    errno = 0;
    n = strtoull(value, &end, 10);
    if (errno != 0)
        return false;
    if (*end == 'k' || *end == 'M' || *end == 'G') {
        factor = *end == 'k' ? 1000 : *end == 'M' ? 1000000 : 1000000000;
        end++;
    }
    if (*end != '\0' || n > UINT64_MAX / factor)
        return false;
    *out = n * factor;
    return true;
}

static int store_u64(const struct cllm_option *opt, uint64_t *out, const char *value)
{
    char allowed[128];
    uint64_t n;

    if (opt->kind == CLLM_OPTION_AUTO && strcmp(value, "auto") == 0) {
        *out = CLLM_CONFIG_AUTO;
        return 0;
    }
    if (parse_u64(value, &n) && n >= opt->min_u64 && n <= opt->max_u64) {
        *out = n;
        return 0;
    }
    (void)snprintf(allowed, sizeof allowed,
                   "%sa whole number from %" PRIu64 " to %" PRIu64 "%s%s",
                   opt->kind == CLLM_OPTION_AUTO ? "auto, or " : "", opt->min_u64,
                   opt->max_u64, opt->unit[0] ? " " : "", opt->unit);
    return refuse_value(opt, value, allowed);
}

static int store_f64(const struct cllm_option *opt, double *out, const char *value)
{
    char allowed[128];
    char *end;
    double x = strtod(value, &end);

    if (value[0] != '\0' && *end == '\0' && isfinite(x) && x >= opt->min_f64 &&
        x <= opt->max_f64) {
        *out = x;
        return 0;
    }
    (void)snprintf(allowed, sizeof allowed, "a number from %g to %g%s%s", opt->min_f64,
                   opt->max_f64, opt->unit[0] ? " " : "", opt->unit);
    return refuse_value(opt, value, allowed);
}

static int store_choice(const struct cllm_option *opt, void *field, const char *value)
{
    int index = choice_index(opt->choices, value);
    char allowed[128];

    if (index < 0) {
        (void)snprintf(allowed, sizeof allowed, "one of %s", opt->choices);
        return refuse_value(opt, value, allowed);
    }
    if (opt->kind == CLLM_OPTION_BOOL)
        *(bool *)field = index == 0;
    else
        *(uint32_t *)field = (uint32_t)index;
    return 0;
}

/*
 * The effective configuration is handed on as .ini text, so a text that .ini cannot carry
 * back is refused wherever it comes from: what inih would take for a comment, for the end
 * of the line, or for blanks to strip.
 */
static int check_text(const struct cllm_option *opt, const char *value)
{
    size_t len = strlen(value);

    if (len == 0)
        return refuse_value(opt, value, "some text");
    if (len > VALUE_MAX_BYTES) {
        int rc = cllm_err(CLLM_ECONFIG, "%s.%s has %zu bytes, at most %d are allowed",
                          opt->section, opt->name, len, VALUE_MAX_BYTES);

        cllm_err_hint("use a pattern, a relative path or a link");
        return rc;
    }
    if (isspace((unsigned char)value[0]) || isspace((unsigned char)value[len - 1]))
        return refuse_value(opt, value, "text without blanks at its ends");
    for (size_t i = 0; i < len; i++) {
        bool after_blank = i == 0 || isspace((unsigned char)value[i - 1]);

        if (iscntrl((unsigned char)value[i]))
            return refuse_value(opt, value, "text without control characters");
        if (after_blank && (value[i] == ';' || value[i] == '#'))
            return refuse_value(opt, value, "text without a blank before ; or #");
    }
    return 0;
}

static int store_text(const struct cllm_option *opt, void *field, const char *value)
{
    int rc = check_text(opt, value);
    char *copy;

    if (rc != 0)
        return rc;
    copy = strdup(value);
    if (!copy)
        return cllm_err(-ENOMEM, "cannot keep option %s.%s", opt->section, opt->name);
    if (opt->kind == CLLM_OPTION_LIST) {
        struct cllm_config_list *list = field;

        if (list->n == CLLM_CONFIG_LIST_MAX) {
            free(copy);
            return cllm_err(CLLM_ECONFIG, "%s.%s is given more than %d times",
                            opt->section, opt->name, CLLM_CONFIG_LIST_MAX);
        }
        list->item[list->n++] = copy;
        return 0;
    }
    free(*(char **)field);
    *(char **)field = copy;
    return 0;
}

int cllm_option_store(struct cllm_config *config, const struct cllm_option *opt,
                      const char *value)
{
    void *field = cllm_option_field(config, opt);

    switch (opt->kind) {
    case CLLM_OPTION_U64:
    case CLLM_OPTION_AUTO:
        return store_u64(opt, field, value);
    case CLLM_OPTION_F64:
        return store_f64(opt, field, value);
    case CLLM_OPTION_ENUM:
    case CLLM_OPTION_BOOL:
        return store_choice(opt, field, value);
    case CLLM_OPTION_STR:
    case CLLM_OPTION_LIST:
    default:
        return store_text(opt, field, value);
    }
}

void cllm_option_print(FILE *out, const struct cllm_config *config,
                       const struct cllm_option *opt)
{
    const void *field = cllm_option_const_field(config, opt);
    char word[64];

    switch (opt->kind) {
    case CLLM_OPTION_U64:
        (void)fprintf(out, "%" PRIu64, *(const uint64_t *)field);
        return;
    case CLLM_OPTION_AUTO:
        if (*(const uint64_t *)field == CLLM_CONFIG_AUTO)
            (void)fputs("auto", out);
        else
            (void)fprintf(out, "%" PRIu64, *(const uint64_t *)field);
        return;
    case CLLM_OPTION_F64:
        (void)fprintf(out, "%.17g", *(const double *)field);
        return;
    case CLLM_OPTION_ENUM:
        print_choice(word, sizeof word, opt->choices, *(const uint32_t *)field);
        (void)fputs(word, out);
        return;
    case CLLM_OPTION_BOOL:
        (void)fputs(*(const bool *)field ? "yes" : "no", out);
        return;
    case CLLM_OPTION_STR:
    case CLLM_OPTION_LIST:
    default:
        (void)fputs(*(char *const *)field, out);
    }
}
