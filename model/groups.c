/*
 * model/groups.c - lines of [train] group to factors of tensors.
 */
#include "model/groups.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/parameters.h"

#define FACTOR_MOST 1000.0
#define WHITE_SPACE " "

/* ---- a line ---- */

struct line {
    char pattern[CLLM_TENSOR_NAME_BYTES + 1];
    float rate, decay;
    bool has_rate, has_decay;
};

/* The word at *@at, and its length; *@at is then behind it. Length 0 at the end. */
static const char *next_word(const char **at, size_t *length)
{
    const char *word = *at + strspn(*at, WHITE_SPACE);

    *length = strcspn(word, WHITE_SPACE);
    *at = word + *length;
    return word;
}

/* "@key=FACTOR": 1 and the factor; 0 when it is another key; or CLLM_ECONFIG. */
static int take_factor(const char *word, size_t length, const char *key, float *factor)
{
    size_t key_length = strlen(key);
    char text[32], *end;
    double value;

    if (length <= key_length || memcmp(word, key, key_length) != 0 ||
        word[key_length] != '=')
        return 0;
    word += key_length + 1;
    length -= key_length + 1;
    if (length > 0 && length < sizeof text) {
        memcpy(text, word, length);
        text[length] = '\0';
        value = strtod(text, &end);
        *factor = (float)value;
        /* Written so that a NaN is refused too. */
        if (*end == '\0' && value >= 0 && value <= FACTOR_MOST)
            return 1;
    }
    return cllm_err(CLLM_ECONFIG, "%s=%.*s is no number from 0 to %.0f", key, (int)length,
                    word, FACTOR_MOST);
}

static int take_word(struct line *line, const char *word, size_t length)
{
    int rc = take_factor(word, length, "rate", &line->rate);

    if (rc == 1 && line->has_rate)
        return cllm_err(CLLM_ECONFIG, "rate is given twice");
    if (rc == 1)
        line->has_rate = true;
    if (rc != 0)
        return rc;
    rc = take_factor(word, length, "decay", &line->decay);
    if (rc == 1 && line->has_decay)
        return cllm_err(CLLM_ECONFIG, "decay is given twice");
    if (rc == 1)
        line->has_decay = true;
    if (rc != 0)
        return rc;
    return cllm_err(CLLM_ECONFIG, "'%.*s' is neither rate=FACTOR nor decay=FACTOR",
                    (int)length, word);
}

static int read_line(struct line *line, const char *text)
{
    size_t length;
    const char *word = next_word(&text, &length);
    int rc = 0;

    *line = (struct line){0};
    if (length == 0 || length >= sizeof line->pattern)
        return cllm_err(CLLM_ECONFIG, "no pattern of 1 to %zu characters",
                        sizeof line->pattern - 1);
    memcpy(line->pattern, word, length);
    while (rc >= 0) {
        word = next_word(&text, &length);
        if (length == 0)
            break;
        rc = take_word(line, word, length);
    }
    if (rc >= 0 && !line->has_rate && !line->has_decay)
        rc = cllm_err(CLLM_ECONFIG, "neither rate=FACTOR nor decay=FACTOR");
    return rc < 0 ? rc : 0;
}

/* ---- what a pattern was meant for ---- */

/* How many characters must change until @name matches @pattern; * and ? match as they
 * do, the rest of a pattern's signs are characters like others. */
static unsigned edits(const char *pattern, const char *name)
{
    unsigned row[CLLM_TENSOR_NAME_BYTES];
    size_t n = strlen(name);

    CLLM_ASSERT(n < CLLM_LEN(row));
    for (unsigned j = 0; j <= n; j++)
        row[j] = j;
    for (; *pattern; pattern++) {
        unsigned diagonal = row[0];
        bool any = *pattern == '*';

        row[0] += any ? 0 : 1;
        for (size_t j = 0; j < n; j++) {
            unsigned differ = *pattern != '?' && *pattern != name[j];
            unsigned above = row[j + 1] + (any ? 0 : 1), left = row[j] + (any ? 0 : 1);
            unsigned best = any ? above : diagonal + differ;

            diagonal = row[j + 1];
            best = above < best ? above : best;
            row[j + 1] = left < best ? left : best;
        }
    }
    return row[n];
}

static int refuse_idle(const struct cllm_parameters *plan, const char *pattern,
                       bool taken)
{
    const char *nearest = plan->tensors[0].name;
    unsigned least = UINT32_MAX;
    int rc;

    if (taken) {
        rc = cllm_err(CLLM_ECONFIG, "'%s' matches only what lines before it have",
                      pattern);
        cllm_err_hint("the first line that matches a tensor counts: put the narrower "
                      "pattern first");
        return rc;
    }
    for (uint32_t t = 0; t < plan->n_tensors; t++) {
        unsigned n = edits(pattern, plan->tensors[t].name);

        if (n < least) {
            least = n;
            nearest = plan->tensors[t].name;
        }
    }
    rc = cllm_err(CLLM_ECONFIG, "'%s' matches no tensor", pattern);
    cllm_err_hint("the nearest is '%s'; * stands for any characters, dots too", nearest);
    return rc;
}

/* ---- all ---- */

static int apply(struct cllm_groups *groups, const struct cllm_parameters *plan,
                 const struct line *line, uint32_t number)
{
    bool any = false, taken = false;

    for (uint32_t t = 0; t < plan->n_tensors; t++) {
        struct cllm_group *group = &groups->of[t];

        if (fnmatch(line->pattern, plan->tensors[t].name, 0) != 0)
            continue;
        if (group->line != 0) {
            taken = true;
            continue;
        }
        any = true;
        group->line = number;
        if (line->has_rate)
            group->rate = line->rate;
        groups->frozen |= group->rate == 0;
        if (line->has_decay)
            group->decay = line->decay;
    }
    return any ? 0 : refuse_idle(plan, line->pattern, taken);
}

int cllm_groups_init(struct cllm_groups *groups, const struct cllm_parameters *plan,
                     const struct cllm_config_list *lines)
{
    uint32_t n_lines = lines == NULL ? 0 : lines->n;
    int rc = 0;

    *groups = (struct cllm_groups){.n_lines = n_lines, .n_tensors = plan->n_tensors};
    groups->of = calloc(plan->n_tensors, sizeof *groups->of);
    if (groups->of == NULL)
        return cllm_err(-ENOMEM, "cannot keep the groups of parameters");
    for (uint32_t t = 0; t < plan->n_tensors; t++)
        groups->of[t] = (struct cllm_group){
            .rate = 1.0f, .decay = plan->tensors[t].decay ? 1.0f : 0.0f};
    for (uint32_t i = 0; rc == 0 && i < n_lines; i++) {
        struct line line;

        rc = read_line(&line, lines->item[i]);
        if (rc == 0)
            rc = apply(groups, plan, &line, i + 1);
        if (rc != 0)
            cllm_err_add("[train] group = %s", lines->item[i]);
    }
    if (rc != 0)
        cllm_groups_fini(groups);
    return rc;
}

void cllm_groups_fini(struct cllm_groups *groups)
{
    free(groups->of);
    *groups = (struct cllm_groups){0};
}

uint64_t cllm_groups_hash(const struct cllm_groups *groups, uint64_t sum)
{
    if (groups->n_lines == 0)
        return sum;
    for (uint32_t t = 0; t < groups->n_tensors; t++) {
        const float factors[2] = {groups->of[t].rate, groups->of[t].decay};

        sum = cllm_hash(factors, sizeof factors, sum);
    }
    return sum;
}
