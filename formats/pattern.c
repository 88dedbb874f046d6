/*
 * formats/pattern.c - expressions rewritten, compiled to machine code where that is
 * possible, and matched.
 */
#include "formats/pattern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/err.h"

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER       "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER       "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define NO_LETTER   "[^\\r\\n\\p{L}\\p{N}]?"
#define SPACES      "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* White_Space as members of a class. */
#define SPACE_MEMBERS                                                                \
    "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{" \
    "202f}"                                                                          \
    "\\x{205f}\\x{3000}"

/* More steps than any sound expression needs for one piece. */
#define MATCH_LIMIT 50000000

struct cllm_pattern {
    enum cllm_pattern_kind kind;
    char *text;
    pcre2_code *code;
    bool has_jit;
};

struct cllm_pattern_match {
    pcre2_match_data *data;
    pcre2_match_context *context;
};

static const struct {
    const char *name;
    const char *expression;
} kinds[CLLM_N_PATTERN_KINDS] = {
    [CLLM_PATTERN_NONE] = {"none", NULL},
    [CLLM_PATTERN_GPT2] = {"gpt2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| "
                                   "?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
    [CLLM_PATTERN_CL100K] = {"cl100k",
                             CONTRACTION "|" NO_LETTER "\\p{L}+|\\p{N}{1,3}| "
                                         "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES},
    [CLLM_PATTERN_QWEN2] = {"qwen2", CONTRACTION "|" NO_LETTER "\\p{L}+|\\p{N}| "
                                                 "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES},
    [CLLM_PATTERN_O200K] = {"o200k",
                            NO_LETTER UPPER "*" LOWER "+" CONTRACTION "?|" NO_LETTER UPPER
                                            "+" LOWER "*" CONTRACTION "?|\\p{N}{1,3}| "
                                            "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES},
    [CLLM_PATTERN_CUSTOM] = {"custom", NULL},
};

const char *cllm_pattern_name(enum cllm_pattern_kind kind)
{
    CLLM_ASSERT(kind < CLLM_N_PATTERN_KINDS);
    return kinds[kind].name;
}

enum cllm_pattern_kind cllm_pattern_find(const char *name)
{
    for (enum cllm_pattern_kind kind = 0; kind < CLLM_N_PATTERN_KINDS; kind++) {
        if (strcmp(kinds[kind].name, name) == 0)
            return kind;
    }
    return CLLM_N_PATTERN_KINDS;
}

const char *cllm_pattern_expression(enum cllm_pattern_kind kind)
{
    CLLM_ASSERT(kind < CLLM_N_PATTERN_KINDS);
    return kinds[kind].expression;
}

/* Append @text at @out + @used; returns what is used then. */
static size_t append(char *out, size_t used, const char *text)
{
    return (size_t)(stpcpy(out + used, text) - out);
}

/* Whether something at @at has different meanings in the dialects that tokenizers are
 * written in: what, or NULL. */
static const char *ambiguous(const char *at, bool in_class)
{
    if (at[0] == '\\' && at[1] == 'S' && in_class)
        return "\\S within [...]";
    if (at[0] == '\\' && (at[1] == 'Q' || at[1] == 'K'))
        return "\\Q or \\K";
    if (in_class && at[0] == '[')
        return "[ within [...]";
    if (in_class && at[0] == '&' && at[1] == '&')
        return "&& within [...]";
    if (!in_class && (at[0] == '^' || at[0] == '$'))
        return "^ or $";
    if (at[0] == '[' && (at[1] == ']' || (at[1] == '^' && at[2] == ']')))
        return "an empty class";
    return NULL;
}

/* @expression with "\s" and "\S" written out, into @out, which has room for that. Returns
 * NULL, or what cannot be read. */
static const char *write_out(const char *expression, char *out)
{
    size_t used = 0;
    bool in_class = false;

    for (const char *at = expression; *at != '\0'; at++) {
        const char *unknown = ambiguous(at, in_class);

        if (unknown != NULL)
            return unknown;
        if (at[0] == '\\' && (at[1] == 's' || at[1] == 'S')) {
            used = append(out, used, in_class ? "" : at[1] == 's' ? "[" : "[^");
            used = append(out, used, SPACE_MEMBERS);
            used = append(out, used, in_class ? "" : "]");
            at++;
            continue;
        }
        out[used++] = *at;
        if (at[0] == '\\' && at[1] != '\0') {
            out[used++] = *++at;
        } else if (at[0] == '[') {
            in_class = true;
            if (at[1] == '^')
                out[used++] = *++at;
        } else if (at[0] == ']') {
            in_class = false;
        }
    }
    out[used] = '\0';
    return NULL;
}

static int compile(struct cllm_pattern *pattern, const char *name)
{
    const uint32_t options =
        PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_START_OPTIMIZE;
    char *expression = malloc(strlen(pattern->text) * (sizeof SPACE_MEMBERS + 3) + 1);
    PCRE2_UCHAR reason[256];
    PCRE2_SIZE off = 0;
    int error = 0;

    if (expression == NULL)
        return cllm_err(-ENOMEM, "cannot compile the pattern of %s", name);
    const char *unknown = write_out(pattern->text, expression);
    if (unknown != NULL) {
        int rc = cllm_err(CLLM_EDATA, "%s: pattern: %s cannot be read", name, unknown);
        cllm_err_detail("in %.300s", pattern->text);
        free(expression);
        return rc;
    }
    pattern->code = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED, options,
                                  &error, &off, NULL);
    if (pattern->code == NULL) {
        (void)pcre2_get_error_message(error, reason, sizeof reason);
        int rc = cllm_err(CLLM_EDATA, "%s: pattern: %s", name, (const char *)reason);
        cllm_err_detail("at offset %zu of %.300s", (size_t)off, expression);
        free(expression);
        return rc;
    }
    free(expression);
    /* Without machine code (another processor, a hardened kernel) PCRE2 interprets. */
    pattern->has_jit = pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE) == 0;
    return 0;
}

int cllm_pattern_new(struct cllm_pattern **out, const char *expression, const char *name)
{
    if (expression[0] == '\0' || strlen(expression) > CLLM_PATTERN_MAX_BYTES)
        return cllm_err(CLLM_EDATA,
                        "%s: pattern: expected 1 to %d bytes of an expression, found %zu",
                        name, CLLM_PATTERN_MAX_BYTES, strlen(expression));
    struct cllm_pattern *pattern = calloc(1, sizeof *pattern);
    if (pattern != NULL)
        pattern->text = strdup(expression);
    if (pattern == NULL || pattern->text == NULL) {
        cllm_pattern_free(&pattern);
        return cllm_err(-ENOMEM, "cannot compile the pattern of %s", name);
    }
    pattern->kind = CLLM_PATTERN_CUSTOM;
    for (enum cllm_pattern_kind kind = 0; kind < CLLM_N_PATTERN_KINDS; kind++) {
        if (kinds[kind].expression != NULL &&
            strcmp(kinds[kind].expression, expression) == 0)
            pattern->kind = kind;
    }
    int rc = compile(pattern, name);
    if (rc < 0)
        cllm_pattern_free(&pattern);
    else
        *out = pattern;
    return rc;
}

void cllm_pattern_free(struct cllm_pattern **pattern)
{
    if (*pattern == NULL)
        return;
    pcre2_code_free((*pattern)->code);
    free((*pattern)->text);
    free(*pattern);
    *pattern = NULL;
}

enum cllm_pattern_kind cllm_pattern_kind(const struct cllm_pattern *pattern)
{
    return pattern->kind;
}

const char *cllm_pattern_text(const struct cllm_pattern *pattern)
{
    return pattern->text;
}

int cllm_pattern_match_new(struct cllm_pattern_match **out,
                           const struct cllm_pattern *pattern)
{
    struct cllm_pattern_match *match = calloc(1, sizeof *match);

    if (match == NULL)
        return -ENOMEM;
    match->data = pcre2_match_data_create_from_pattern(pattern->code, NULL);
    match->context = pcre2_match_context_create(NULL);
    if (match->data == NULL || match->context == NULL) {
        cllm_pattern_match_free(&match);
        return -ENOMEM;
    }
    (void)pcre2_set_match_limit(match->context, MATCH_LIMIT);
    *out = match;
    return 0;
}

void cllm_pattern_match_free(struct cllm_pattern_match **match)
{
    if (*match == NULL)
        return;
    pcre2_match_data_free((*match)->data);
    pcre2_match_context_free((*match)->context);
    free(*match);
    *match = NULL;
}

int cllm_pattern_next(const struct cllm_pattern *pattern,
                      struct cllm_pattern_match *match, const uint8_t *text, size_t bytes,
                      size_t at, size_t *from, size_t *to)
{
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;

    /* pcre2_jit_match() looks at no argument twice: half the time of pcre2_match(). */
    if (pattern->has_jit)
        rc = pcre2_jit_match(pattern->code, text, bytes, at, PCRE2_NOTEMPTY, match->data,
                             match->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(pattern->code, text, bytes, at,
                         PCRE2_NOTEMPTY | PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match->data,
                         match->context);
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    if (rc < 0)
        return CLLM_EDATA;
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(match->data);
    CLLM_ASSERT(ends[0] >= at && ends[1] > ends[0] && ends[1] <= bytes);
    *from = ends[0];
    *to = ends[1];
    return 1;
}
