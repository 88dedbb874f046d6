/*
 * base/config.c - reads a configuration and checks it; the only file that knows inih.
 *
 * inih has traps (it cuts lines at 200 bytes and goes on, gives no line numbers, accepts
 * repeated keys), so it is fed through a reader of our own that counts lines and refuses
 * what inih would cut. Everything after "section, name, value" happens in base/option.c.
 */
#include "base/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ini.h>

#include "base/err.h"
#include "base/log.h"
#include "base/model_config.h"
#include "base/option.h"

#define LINE_MAX_BYTES 190            /* inih cuts at 200, including the line end */
#define UTF8_BOM       "\xEF\xBB\xBF" /* some editors put it before the first line */

static void clear_list(struct cllm_config_list *list)
{
    for (uint32_t i = 0; i < list->n; i++)
        free(list->item[i]);
    *list = (struct cllm_config_list){0};
}

/* Nothing has begun yet, and without options nothing can. */
CLLM_NORETURN static void no_memory(void)
{
    cllm_error("cannot keep the options: %s", strerror(ENOMEM));
    exit(CLLM_EXIT_FAILURE);
}

void cllm_config_init(struct cllm_config *config)
{
    *config = (struct cllm_config){0};
    config->given = calloc(CLLM_N_OPTIONS, sizeof *config->given);
    if (!config->given)
        no_memory();
    for (size_t i = 0; i < CLLM_N_OPTIONS; i++) {
        const struct cllm_option *opt = &cllm_options[i];
        int rc = 0;

        if (opt->kind == CLLM_OPTION_U64 && strcmp(opt->def, "UINT64_MAX") == 0)
            *(uint64_t *)cllm_option_field(config, opt) = UINT64_MAX;
        else if (opt->def[0] != '\0')
            rc = cllm_option_store(config, opt, opt->def);
        if (rc == -ENOMEM)
            no_memory();
        CLLM_ASSERT(rc == 0);
    }
}

void cllm_config_fini(struct cllm_config *config)
{
    for (size_t i = 0; i < CLLM_N_OPTIONS; i++) {
        void *field = cllm_option_field(config, &cllm_options[i]);

        if (cllm_options[i].kind == CLLM_OPTION_STR)
            free(*(char **)field);
        else if (cllm_options[i].kind == CLLM_OPTION_LIST)
            clear_list(field);
    }
    free(config->given);
    *config = (struct cllm_config){0};
}

/* ---- files ---- */

struct source {
    struct cllm_config *config;
    const char *name; /* for messages */
    FILE *file;
    const char *text; /* when there is no file */
    int line;
    int rc; /* first error */
};

static void fail_here(struct source *src, int rc)
{
    src->rc = rc;
    cllm_err_add("%s:%d", src->name, src->line);
}

static int next_char(struct source *src)
{
    if (src->file)
        return getc(src->file);
    return *src->text == '\0' ? EOF : (unsigned char)*src->text++;
}

/* The next line with its '\n' into @line, or as much as fits. Returns its length; 0 at
 * the end; -1 when it holds a NUL byte, which string functions would take for its end. */
static int next_line(struct source *src, char *line, int bytes)
{
    int n = 0;
    int c;

    while (n < bytes - 1 && (c = next_char(src)) != EOF) {
        if (c == '\0')
            return -1;
        line[n++] = (char)c;
        if (c == '\n')
            break;
    }
    line[n] = '\0';
    return n;
}

/* What inih would pass over without a word. Returns 0 or CLLM_ECONFIG with text. */
static int check_line(const char *line, int len)
{
    const char *text = line + strspn(line, " \t");
    const char *end = strchr(text, ']');
    int rc;

    if (len > LINE_MAX_BYTES) {
        rc = cllm_err(CLLM_ECONFIG, "line of more than %d bytes", LINE_MAX_BYTES);
        cllm_err_hint("shorten it: use a pattern or a link for long paths; data lines "
                      "may be repeated");
        return rc;
    }
    if (*text == '\0' || strchr("\r\n;#", *text))
        return 0;
    if (text != line) {
        rc = cllm_err(CLLM_ECONFIG, "line begins with white space");
        cllm_err_hint("continuation lines are not known; begin keys in the first column");
        return rc;
    }
    if (*text == '[' ? !end : !strpbrk(text, "=:")) {
        rc = cllm_err(CLLM_ECONFIG, "neither a [section] nor key = value");
        cllm_err_hint("comments begin with ';' or '#' in the first column");
        return rc;
    }
    if (*text == '[') {
        end++;
        end += strspn(end, " \t\r\n");
        if (*end != '\0' && *end != ';' && *end != '#') {
            rc = cllm_err(CLLM_ECONFIG, "text after [section]");
            cllm_err_hint("key = value goes on a line of its own");
            return rc;
        }
    }
    return 0;
}

/* inih's fgets(). Only whole lines that it does not cut pass; NULL ends the parsing. */
static char *read_line(char *out, int num, void *stream)
{
    struct source *src = stream;
    char line[LINE_MAX_BYTES + 2]; /* one byte too many is enough to see a long line */
    int len, rc;

    if (src->rc != 0)
        return NULL;
    len = next_line(src, line, (int)sizeof line);
    if (len == 0)
        return NULL;
    src->line++;
    if (len < 0) {
        fail_here(src, cllm_err(CLLM_ECONFIG, "NUL byte in the text"));
        cllm_err_hint("this does not look like an .ini file");
        return NULL;
    }
    if (src->line == 1 && strncmp(line, UTF8_BOM, strlen(UTF8_BOM)) == 0) {
        len -= (int)strlen(UTF8_BOM);
        memmove(line, line + strlen(UTF8_BOM), (size_t)len + 1);
    }
    rc = check_line(line, len);
    if (rc != 0) {
        fail_here(src, rc);
        return NULL;
    }
    CLLM_ASSERT(len < num);
    memcpy(out, line, (size_t)len + 1);
    return out;
}

static int take_pair(void *user, const char *section, const char *name, const char *value)
{
    struct source *src = user;
    const struct cllm_option *opt;
    int rc;

    if (src->rc != 0)
        return 1;
    opt = cllm_option_find(section, name);
    if (!opt) {
        fail_here(src, cllm_option_refuse_unknown(section, name));
        return 1;
    }
    if (src->config->given[opt - cllm_options]++ > 0 && opt->kind != CLLM_OPTION_LIST) {
        fail_here(src, cllm_err(CLLM_ECONFIG, "%s.%s is given twice", section, name));
        return 1;
    }
    rc = cllm_option_store(src->config, opt, value);
    if (rc != 0)
        fail_here(src, rc);
    return 1;
}

static int parse(struct source *src)
{
    int bad_line;

    errno = 0;
    bad_line = ini_parse_stream(read_line, src, take_pair, src);
    if (src->rc != 0)
        return src->rc;
    if (src->file && ferror(src->file))
        return cllm_err(errno != 0 ? -errno : -EIO, "cannot read configuration %s",
                        src->name);
    if (bad_line != 0) {
        int rc = cllm_err(CLLM_ECONFIG, "%s:%d: neither a [section] nor key = value",
                          src->name, bad_line);

        cllm_err_hint(
            "a comment after a key begins with ' ;', and the '=' was behind it");
        return rc;
    }
    return 0;
}

int cllm_config_read(struct cllm_config *config, const char *path)
{
    struct source src = {.config = config, .name = path};
    int rc;

    src.file = fopen(path, "re");
    if (!src.file) {
        rc = cllm_err(-errno, "cannot open configuration %s", path);
        cllm_err_hint("configs/ has examples; configs/tiny.ini is the smallest");
        return rc == -ENOENT ? CLLM_ECONFIG : rc;
    }
    rc = parse(&src);
    (void)fclose(src.file); /* read only */
    return rc;
}

int cllm_config_parse(struct cllm_config *config, const char *text, const char *name)
{
    struct source src = {.config = config, .name = name, .text = text};

    return parse(&src);
}

int cllm_config_set(struct cllm_config *config, const char *assignment)
{
    const char *dot = strchr(assignment, '.');
    const char *equals = strchr(assignment, '=');
    char section[64], name[64];
    const struct cllm_option *opt;
    int rc;

    if (!dot || !equals || dot > equals || (size_t)(dot - assignment) >= sizeof section ||
        (size_t)(equals - dot) > sizeof name) {
        rc = cllm_err(CLLM_ECONFIG, "--set '%s' is not section.key=value", assignment);
        cllm_err_hint("for instance --set train.steps=200");
        return rc;
    }
    (void)snprintf(section, sizeof section, "%.*s", (int)(dot - assignment), assignment);
    (void)snprintf(name, sizeof name, "%.*s", (int)(equals - dot - 1), dot + 1);
    opt = cllm_option_find(section, name);
    if (!opt)
        rc = cllm_option_refuse_unknown(section, name);
    else {
        rc = 0;
        if (opt->kind == CLLM_OPTION_LIST)
            clear_list(cllm_option_field(config, opt));
        if (opt->kind != CLLM_OPTION_LIST || equals[1] != '\0')
            rc = cllm_option_store(config, opt, equals + 1);
    }
    if (rc != 0)
        cllm_err_add("--set %s", assignment);
    else
        config->given[opt - cllm_options] = 1;
    return rc;
}

bool cllm_config_given(const struct cllm_config *config, const char *name)
{
    for (size_t i = 0; i < CLLM_N_OPTIONS; i++) {
        const struct cllm_option *opt = &cllm_options[i];
        size_t len = strlen(opt->section);

        if (strncmp(name, opt->section, len) == 0 && name[len] == '.' &&
            strcmp(name + len + 1, opt->name) == 0)
            return config->given[i] > 0;
    }
    CLLM_ASSERT(false);
    return false;
}

/* ---- checks across options ---- */

/* Refuse @value unless @divisor divides it, naming the nearest values that would do. */
static int check_divides(const char *what, uint64_t value, const char *by,
                         uint64_t divisor)
{
    uint64_t below = value / divisor * divisor;
    int rc;

    if (value % divisor == 0)
        return 0;
    rc = cllm_err(CLLM_ECONFIG, "%s = %" PRIu64 " is not a multiple of %s = %" PRIu64,
                  what, value, by, divisor);
    if (below > 0)
        cllm_err_hint("nearest: %" PRIu64 " or %" PRIu64, below, below + divisor);
    else
        cllm_err_hint("nearest: %" PRIu64, divisor);
    return rc;
}

/* Is there such a model? The first that most people meet is said in options. */
static int check_model(const struct cllm_config *config)
{
    struct cllm_model_config model = cllm_model_config_from(config);
    int rc = config->model_head_size != CLLM_CONFIG_AUTO
                 ? 0
                 : check_divides("model.width", config->model_width, "model.heads",
                                 config->model_heads);

    if (rc != 0)
        return rc;
    cllm_model_config_complete(&model);
    return cllm_model_config_check(&model);
}

int cllm_config_check(const struct cllm_config *config)
{
    int rc;

    if (!config->run_dir || config->run_dir[0] == '\0') {
        rc = cllm_err(CLLM_ECONFIG, "run.dir is not given");
        cllm_err_hint("[run] dir = runs/first");
        return rc;
    }
    if (config->data_train.n > 0 && config->data_mix.n > 0) {
        rc = cllm_err(CLLM_ECONFIG, "data.train and data.mix are both given");
        cllm_err_hint("a list of shards, or a mixture of data sets: not both; --set "
                      "data.train= empties a list");
        return rc;
    }
    if (config->data_train.n == 0 && config->data_mix.n == 0) {
        rc = cllm_err(CLLM_ECONFIG, "data.train is not given");
        cllm_err_hint(
            "[data] train = data/train_*.bin; cllm-prep makes shards from text");
        return rc;
    }
    if ((config->lora_rank > 0 || strcmp(config->lora_from, "none") != 0) &&
        strcmp(config->train_from, "none") == 0) {
        rc = cllm_err(CLLM_ECONFIG, "lora.%s is given, but not train.from",
                      config->lora_rank > 0 ? "rank" : "from");
        cllm_err_hint("adapters finetune a model that is there: [train] from = MODEL");
        return rc;
    }
    rc = check_model(config);
    if (rc == 0)
        rc = check_divides("train.batch", config->train_batch, "run.lanes",
                           config->run_lanes);
    if (rc == 0 && config->data_valid.n > 0)
        rc = check_divides("train.eval_batch", config->train_eval_batch, "run.lanes",
                           config->run_lanes);
    if (rc == 0 && config->train_micro_batch != CLLM_CONFIG_AUTO)
        rc = check_divides("train.batch / run.lanes",
                           config->train_batch / config->run_lanes, "train.micro_batch",
                           config->train_micro_batch);
    if (rc == 0)
        rc = check_divides("run.chunk", config->run_chunk, "the unit", 1024);
    return rc;
}
