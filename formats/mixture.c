/*
 * formats/mixture.c - lines of [data] mix to parts, parts to a manifest and back.
 */
#include "formats/mixture.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/pulse.h"

#define WEIGHT_UNIT   1000000u /* weights are kept in millionths until they are reduced */
#define WEIGHT_DIGITS 6
#define WEIGHT_MOST   UINT64_C(1000000000)

/* A line of [data] mix, taken apart. */
struct line {
    char name[CLLM_MIXTURE_NAME_BYTES];
    uint64_t weight; /* millionths */
    const char *pattern;
};

/* ---- lines ---- */

/* A decimal number in millionths; false for anything else, and for 0. */
static bool parse_weight(const char *text, size_t len, uint64_t *out)
{
    uint64_t whole = 0, part = 0, unit = WEIGHT_UNIT;
    size_t i = 0;

    for (; i < len && isdigit((unsigned char)text[i]); i++) {
        whole = whole * 10 + (uint64_t)(text[i] - '0');
        if (whole > WEIGHT_MOST)
            return false;
    }
    if (i == 0)
        return false;
    if (i < len && text[i] == '.') {
        if (len - ++i > WEIGHT_DIGITS || i == len)
            return false;
        for (; i < len && isdigit((unsigned char)text[i]); i++) {
            unit /= 10;
            part += (uint64_t)(text[i] - '0') * unit;
        }
    }
    *out = whole * WEIGHT_UNIT + part;
    return i == len && *out > 0;
}

static bool is_name(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && strchr("._-", text[i]) == NULL)
            return false;
    return len > 0 && len < CLLM_MIXTURE_NAME_BYTES;
}

static int parse_mix_line(struct line *out, const char *text)
{
    size_t name = strcspn(text, " \t");
    const char *weight = text + name + strspn(text + name, " \t");
    size_t digits = strcspn(weight, " \t");
    int rc;

    out->pattern = weight + digits + strspn(weight + digits, " \t");
    if (is_name(text, name) && parse_weight(weight, digits, &out->weight) &&
        out->pattern[0] != '\0') {
        memcpy(out->name, text, name);
        out->name[name] = '\0';
        return 0;
    }
    rc = cllm_err(CLLM_ECONFIG, "data.mix = '%s' is not NAME WEIGHT PATTERN", text);
    cllm_err_detail("a name has up to %d letters, digits, dots, dashes; a weight is a "
                    "number above 0 with up to %d digits behind the point",
                    CLLM_MIXTURE_NAME_BYTES - 1, WEIGHT_DIGITS);
    cllm_err_hint("for instance mix = books 0.3 data/books_*.bin");
    return rc;
}

/* ---- parts ---- */

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* A part before its shards are open: which lines are its own. */
struct draft {
    struct line line; /* the first one's name and weight */
    char *patterns[CLLM_MIX_MAX];
    uint32_t n;
};

static int by_weight(const void *a, const void *b)
{
    const struct draft *left = a, *right = b;

    if (left->line.weight != right->line.weight)
        return left->line.weight > right->line.weight ? -1 : 1;
    return strcmp(left->line.name, right->line.name);
}

/* Put @line to the draft of its name, or begin one. */
static int add_line(struct draft *drafts, uint32_t *n, const struct line *line,
                    char *pattern)
{
    for (uint32_t i = 0; i < *n; i++) {
        if (strcmp(drafts[i].line.name, line->name) != 0)
            continue;
        if (drafts[i].line.weight != line->weight) {
            int rc = cllm_err(CLLM_ECONFIG,
                              "data.mix: the data set %s has two different weights",
                              line->name);

            cllm_err_hint("lines of one name are one data set: give them one weight, or "
                          "two names");
            return rc;
        }
        drafts[i].patterns[drafts[i].n++] = pattern;
        return 0;
    }
    drafts[*n] = (struct draft){.line = *line, .patterns = {pattern}, .n = 1};
    (*n)++;
    return 0;
}

/* Millionths to the least whole numbers of the same ratio. */
static int reduce_weights(struct cllm_mix *mix, const struct draft *drafts, uint32_t n)
{
    uint64_t divisor = 0, total = 0;

    for (uint32_t i = 0; i < n; i++)
        divisor = gcd(divisor, drafts[i].line.weight);
    mix->n = n;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t weight;

        CLLM_ASSERT(divisor > 0); /* no weight is 0 */
        weight = drafts[i].line.weight / divisor;
        total += weight;
        if (total > UINT32_MAX) {
            int rc = cllm_err(CLLM_ECONFIG, "data.mix: weights of too many digits");

            cllm_err_hint("round them: together they may make up 4294967295 of the least "
                          "common part");
            return rc;
        }
        mix->weight[i] = (uint32_t)weight;
    }
    return 0;
}

/* Names are keys: two parts of one mixture are never in the same order. */
static uint64_t key_of(const char *name)
{
    return name[0] == '\0' ? 0 : cllm_max_u64(cllm_hash(name, strlen(name), 0), 1);
}

static void count_part(struct cllm_mixture_part *part)
{
    part->n_tokens = part->data.n_tokens;
    part->n_windows = part->data.n_windows;
    part->n_shards = part->data.n_shards;
}

/* A shard that both have, or NULL. */
static const char *common_shard(const struct cllm_dataset *a,
                                const struct cllm_dataset *b)
{
    for (uint32_t i = 0; i < a->n_shards; i++) {
        for (uint32_t j = 0; j < b->n_shards; j++)
            if (strcmp(a->shard[i].path, b->shard[j].path) == 0)
                return a->shard[i].path;
        cllm_pulse();
    }
    return NULL;
}

static int check_parts(const struct cllm_mixture *mixture)
{
    const struct cllm_mixture_part *part = mixture->part;

    for (uint32_t i = 1; i < mixture->mix.n; i++) {
        for (uint32_t j = 0; j < i; j++) {
            const char *path = common_shard(&part[i].data, &part[j].data);

            if (path != NULL)
                return cllm_err(CLLM_ECONFIG, "data.mix: the shard %s is in %s and in %s",
                                path, part[j].name, part[i].name);
        }
    }
    return 0;
}

int cllm_mixture_open(struct cllm_mixture *mixture, char *const *lines, uint32_t n,
                      uint32_t window_tokens, enum cllm_shard_format format)
{
    struct draft *drafts;
    uint32_t n_drafts = 0;
    int rc = 0;

    *mixture = (struct cllm_mixture){0};
    CLLM_ASSERT(n <= CLLM_MIX_MAX);
    drafts = calloc(CLLM_MIX_MAX, sizeof *drafts);
    if (drafts == NULL)
        return cllm_err(-ENOMEM, "cannot mix data sets");
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        struct line line = {.weight = 0};

        rc = parse_mix_line(&line, lines[i]);
        if (rc == 0)
            rc = add_line(drafts, &n_drafts, &line, lines[i] + (line.pattern - lines[i]));
    }
    qsort(drafts, n_drafts, sizeof *drafts, by_weight);
    if (rc == 0)
        rc = reduce_weights(&mixture->mix, drafts, n_drafts);
    for (uint32_t i = 0; rc == 0 && i < n_drafts; i++) {
        struct cllm_mixture_part *part = &mixture->part[i];

        (void)snprintf(part->name, sizeof part->name, "%s", drafts[i].line.name);
        part->key = key_of(part->name);
        rc = cllm_dataset_open_as(&part->data, drafts[i].patterns, drafts[i].n,
                                  window_tokens, format);
        if (rc != 0)
            cllm_err_add("data set %s of the mixture", part->name);
        count_part(part);
    }
    if (rc == 0)
        rc = check_parts(mixture);
    free(drafts);
    if (rc != 0)
        cllm_mixture_close(mixture);
    return rc;
}

int cllm_mixture_open_plain(struct cllm_mixture *mixture, char *const *patterns,
                            uint32_t n, uint32_t window_tokens,
                            enum cllm_shard_format format)
{
    int rc;

    *mixture = (struct cllm_mixture){.mix = {.n = 1, .weight = {1}}};
    rc = cllm_dataset_open_as(&mixture->part[0].data, patterns, n, window_tokens, format);
    count_part(&mixture->part[0]);
    return rc;
}

void cllm_mixture_close(struct cllm_mixture *mixture)
{
    for (uint32_t i = 0; i < CLLM_MIX_MAX; i++)
        cllm_dataset_close(&mixture->part[i].data);
    *mixture = (struct cllm_mixture){0};
}

int cllm_mixture_check_tokens(const struct cllm_mixture *mixture, uint32_t vocab,
                              uint64_t limit)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < mixture->mix.n; i++)
        rc = cllm_dataset_check_tokens(&mixture->part[i].data, vocab, limit);
    return rc;
}

int cllm_mixture_hash(const struct cllm_mixture *mixture, uint64_t *hash)
{
    uint64_t all = 0;
    int rc = cllm_dataset_hash(&mixture->part[0].data, &all);

    for (uint32_t i = 1; rc == 0 && i < mixture->mix.n; i++) {
        uint64_t one = 0;

        rc = cllm_dataset_hash(&mixture->part[i].data, &one);
        all = cllm_hash(&one, sizeof one, all);
    }
    *hash = all;
    return rc;
}

/* ---- the manifest ---- */

char *cllm_mixture_manifest(const struct cllm_mixture *mixture)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    bool ok = out != NULL;

    for (uint32_t i = 0; ok && i < mixture->mix.n; i++) {
        const struct cllm_mixture_part *part = &mixture->part[i];
        char *lines = cllm_dataset_manifest(&part->data, NULL);

        if (part->name[0] == '\0')
            ok = lines != NULL && fprintf(out, "[train]\n%s", lines) > 0;
        else
            ok = lines != NULL && fprintf(out, "[train %s %" PRIu32 "]\n%s", part->name,
                                          mixture->mix.weight[i], lines) > 0;
        free(lines);
    }
    if (out != NULL && fclose(out) != 0)
        ok = false;
    if (!ok) {
        free(text);
        return NULL;
    }
    return text;
}

/* The head of a section at @text: what it says into part @i. NULL for anything else. */
static const char *parse_head(struct cllm_mixture *mixture, uint32_t i, const char *text)
{
    struct cllm_mixture_part *part = &mixture->part[i];
    const char *name = text + strlen("[train ");
    size_t len;
    uint64_t weight;

    *part = (struct cllm_mixture_part){.key = 0};
    if (strncmp(text, "[train]\n", strlen("[train]\n")) == 0) {
        mixture->mix.weight[i] = 1;
        return i > 0 ? NULL : text + strlen("[train]\n");
    }
    if (strncmp(text, "[train ", strlen("[train ")) != 0)
        return NULL;
    len = strcspn(name, " ]\n");
    if (!is_name(name, len) || name[len] != ' ')
        return NULL;
    memcpy(part->name, name, len);
    part->key = key_of(part->name);
    name += len + 1;
    len = strcspn(name, "]\n");
    if (len > 10 || strncmp(name + len, "]\n", 2) != 0 || memchr(name, '.', len) ||
        !parse_weight(name, len, &weight) || weight / WEIGHT_UNIT > UINT32_MAX)
        return NULL;
    mixture->mix.weight[i] = (uint32_t)(weight / WEIGHT_UNIT);
    return name + len + 2;
}

/* The end of the lines at @text: paths are absolute, so heads alone begin with [. */
static const char *end_of_lines(const char *text)
{
    const char *end = text[0] == '[' ? text : strstr(text, "\n[");

    if (end == NULL)
        return text + strlen(text);
    return end == text && text[0] == '[' ? text : end + 1;
}

/* Count the shards of the lines from @text to @end. */
static int count_lines(struct cllm_mixture_part *part, const char *text, const char *end,
                       uint32_t window_tokens)
{
    struct cllm_dataset_line line;
    uint32_t number = 0;

    while (text < end) {
        int rc = cllm_dataset_parse_line(&line, &text, end, ++number);

        if (rc != 0)
            return rc;
        part->n_tokens += line.n_tokens;
        part->n_windows += line.n_tokens > 0 ? (line.n_tokens - 1) / window_tokens : 0;
        part->n_shards++;
    }
    return 0;
}

/* One section at *@text into the next part. */
static int parse_section(struct cllm_mixture *mixture, const char **text,
                         uint32_t window_tokens, bool open)
{
    uint32_t i = mixture->mix.n;
    const char *lines = i < CLLM_MIX_MAX ? parse_head(mixture, i, *text) : NULL;
    const char *end;
    int rc;

    if (lines == NULL ||
        cllm_mix_total(&mixture->mix) + mixture->mix.weight[i] > UINT32_MAX)
        return cllm_err(CLLM_EDATA, "manifest of the data: bad head of section %u: %.40s",
                        i + 1, *text);
    end = end_of_lines(lines);
    if (i > 0 && mixture->mix.weight[i] > mixture->mix.weight[i - 1])
        return cllm_err(CLLM_EDATA, "manifest of the data: weights do not fall");
    mixture->mix.n++;
    if (open)
        rc = cllm_dataset_from_manifest(&mixture->part[i].data, lines,
                                        (size_t)(end - lines), window_tokens);
    else
        rc = count_lines(&mixture->part[i], lines, end, window_tokens);
    if (open)
        count_part(&mixture->part[i]);
    *text = end;
    return rc;
}

static int read_sections(struct cllm_mixture *mixture, const char **text,
                         uint32_t window_tokens, bool open)
{
    int rc = 0;

    *mixture = (struct cllm_mixture){0};
    do
        rc = parse_section(mixture, text, window_tokens, open);
    while (rc == 0 && strncmp(*text, "[train", strlen("[train")) == 0);
    if (rc != 0)
        cllm_mixture_close(mixture);
    return rc;
}

int cllm_mixture_parse(struct cllm_mixture *mixture, const char **text,
                       uint32_t window_tokens)
{
    return read_sections(mixture, text, window_tokens, false);
}

int cllm_mixture_from_manifest(struct cllm_mixture *mixture, const char **text,
                               uint32_t window_tokens)
{
    return read_sections(mixture, text, window_tokens, true);
}

const char *cllm_mixture_epochs(char out[CLLM_MIXTURE_EPOCHS],
                                const struct cllm_mixture *mixture, uint64_t sequences)
{
    uint64_t counts[CLLM_MIX_MAX];
    size_t used = 1;

    cllm_mix_count(&mixture->mix, sequences, counts);
    out[0] = '{';
    for (uint32_t i = 0; i < mixture->mix.n; i++) {
        const struct cllm_mixture_part *part = &mixture->part[i];
        int n = snprintf(out + used, CLLM_MIXTURE_EPOCHS - used, "%s\"%s\":%.4f",
                         i == 0 ? "" : ",", part->name,
                         (double)counts[i] / (double)part->n_windows);

        CLLM_ASSERT(n > 0 && (size_t)n < CLLM_MIXTURE_EPOCHS - used - 1);
        used += (size_t)n;
    }
    out[used] = '}';
    out[used + 1] = '\0';
    return out;
}
