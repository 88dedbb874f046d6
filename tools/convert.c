/*
 * tools/convert.c - cllm-convert: a model from one kind of files into another.
 *
 * Tensor after tensor: what is held in memory is twice the largest of them. Nothing is
 * seen under the name of the output before it is whole.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/units.h"
#include "formats/checkpoint.h"
#include "formats/gguf_model.h"
#include "formats/json.h"
#include "formats/sink.h"
#include "tools/convert_tokenizer.h"

#define PROGRAM "cllm-convert"

struct request {
    const char *in, *out;
    const char *tokenizer, *name; /* NULL: as found */
    const char *base;             /* beneath an adapter; NULL: as it says */
    const char *to, *dtype;       /* NULL: as the name of OUT says, as the source has */
    uint64_t max_shard;
    bool check, force, json, quiet;
};

/* What was found on the way. */
struct result {
    uint64_t n_nonfinite; /* numbers */
    uint64_t n_f16;       /* tensors that are f16 in place of q8_0 */
    uint64_t bytes;       /* written */
    double seconds;
    char tokenizer[CLLM_FILE_PATH_BYTES + 64];
};

static void print_help(void)
{
    (void)printf(
        "Usage: " PROGRAM " [OPTION]... IN OUT\n"
        "       " PROGRAM " --check IN\n"
        "Convert a language model of the GPT-2 or Llama family. IN may be a directory "
        "of\n"
        "Hugging Face, a checkpoint or run of CLLM, a GGUF file, a model file of llm.c\n"
        "(version 3 or 5) or of llama2.c, or an adapter of peft's, which is merged with\n"
        "the model beneath it; what it is shows in its content.\n\n"
        "      --to=KIND         hf, gguf, llmc or cllm (a checkpoint); default: gguf "
        "for\n"
        "                        a name that ends in .gguf, llmc for .bin, else hf\n"
        "      --dtype=TYPE      f32, f16, bf16 or q8_0 (default: as IN where OUT can\n"
        "                        hold it, else f32)\n"
        "      --tokenizer=PATH  the vocabulary: tokenizer.json, vocab.json, "
        "merges.txt,\n"
        "                        a directory, tokenizer.bin of llama2.c, or bytes\n"
        "                        (default: what lies beside or inside IN)\n"
        "      --base=DIR        the model beneath an adapter (default: as the adapter "
        "says)\n"
        "      --name=TEXT       name of the model in a GGUF file\n"
        "      --max-shard=SIZE  with --to=hf, several files of at most SIZE (as 2G, "
        "500M)\n"
        "      --check           only read and verify everything\n"
        "      --force           replace OUT\n"
        "      --json            what was done as one JSON object\n"
        "  -q, --quiet           no progress, no summary\n"
        "      --help            this text\n"
        "      --version         version\n\n"
        "Exit code: 0 done; 1 failure, also when OUT exists; 2 usage; 3 IN is bad.\n");
}

/* ---- what is to be made ---- */

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n > m && strcmp(text + n - m, end) == 0;
}

static int choose_kind(const struct request *request, enum cllm_source_kind *kind)
{
    static const struct {
        const char *name;
        enum cllm_source_kind kind;
    } kinds[] = {{"hf", CLLM_SOURCE_HF},
                 {"gguf", CLLM_SOURCE_GGUF},
                 {"llmc", CLLM_SOURCE_LLMC},
                 {"cllm", CLLM_SOURCE_CHECKPOINT}};

    *kind = ends_in(request->out, ".gguf")  ? CLLM_SOURCE_GGUF
            : ends_in(request->out, ".bin") ? CLLM_SOURCE_LLMC
                                            : CLLM_SOURCE_HF;
    if (request->to == NULL)
        return 0;
    for (size_t i = 0; i < CLLM_LEN(kinds); i++) {
        if (strcmp(request->to, kinds[i].name) == 0) {
            *kind = kinds[i].kind;
            return 0;
        }
    }
    return cllm_err(CLLM_ECONFIG, "cannot use --to=%s: it must be hf, gguf, llmc or cllm",
                    request->to);
}

/* As asked; or as the source has it, where that can be held. */
static int choose_dtype(const struct request *request, const struct cllm_source *source,
                        struct cllm_sink_plan *plan)
{
    const char *name = request->dtype != NULL ? request->dtype : source->dtype;

    for (uint32_t i = 0; i < CLLM_N_SINK_DTYPES; i++) {
        if (strcmp(name, cllm_sink_dtype_names[i]) == 0) {
            plan->dtype = (enum cllm_sink_dtype)i;
            if (request->dtype != NULL || cllm_sink_check(plan, &source->parameters) == 0)
                return 0;
        }
    }
    plan->dtype = CLLM_SINK_F32;
    return request->dtype == NULL
               ? 0
               : cllm_err(CLLM_ECONFIG,
                          "cannot use --dtype=%s: it must be f32, f16, bf16 or q8_0",
                          request->dtype);
}

/* What a GGUF file calls the model: the last part of the source's path. */
static void choose_name(const struct request *request, char name[256])
{
    const char *from = request->name != NULL ? request->name : request->in;
    size_t len = strlen(from);

    while (request->name == NULL && len > 1 && from[len - 1] == '/')
        len--;
    if (request->name == NULL)
        for (size_t i = len; i > 0; i--)
            if (from[i - 1] == '/' && i < len) {
                from += i;
                len -= i;
                break;
            }
    (void)snprintf(name, 256, "%.*s", (int)len, from);
}

/* ---- progress ---- */

static void show(const struct request *request, const struct cllm_parameters *parameters,
                 uint32_t done, uint64_t *shown_ns)
{
    uint64_t now = cllm_now_ns();
    bool last = done == parameters->n_tensors;

    if (request->quiet || !isatty(STDERR_FILENO) ||
        (!last && now - *shown_ns < CLLM_NS_PER_S / 10))
        return;
    *shown_ns = now;
    (void)fprintf(stderr, "\r" PROGRAM ": %u of %u tensors%s", done,
                  parameters->n_tensors, last ? "\n" : "");
}

/* ---- the work ---- */

static uint64_t count_nonfinite(const float *data, uint64_t n)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < n; i++)
        count += isfinite(data[i]) ? 0 : 1;
    return count;
}

/* Every tensor out of @source and, unless @sink is NULL, into it. */
static int pass(const struct request *request, const struct cllm_source *source,
                struct cllm_sink *sink, struct result *result)
{
    const struct cllm_parameters *parameters = &source->parameters;
    uint64_t most = cllm_source_room(source), shown_ns = 0;
    float *data = malloc(most * sizeof *data); // of the largest tensor
    float *room = malloc(most * sizeof *room);
    int rc = 0;

    if (data == NULL || room == NULL) {
        rc = cllm_err(-ENOMEM, "cannot hold a tensor of %" PRIu64 " numbers", most);
        goto out;
    }
    for (uint32_t i = 0; rc == 0 && i < parameters->n_tensors; i++) {
        const struct cllm_tensor *tensor = &parameters->tensors[i];
        uint64_t bad;

        rc = cllm_source_read(source, i, data, room);
        bad = rc == 0 ? count_nonfinite(data, tensor->count) : 0;
        if (bad > 0)
            cllm_warn("tensor %s has %" PRIu64 " number%s that %s not finite",
                      tensor->name, bad, cllm_plural(bad), bad == 1 ? "is" : "are");
        result->n_nonfinite += bad;
        if (rc == 0 && sink != NULL)
            rc = cllm_sink_put(sink, i, data, room);
        show(request, parameters, i + 1, &shown_ns);
    }
out:
    free(data);
    free(room);
    return rc;
}

/* Bytes of the file, or of the directory's files, at @path. */
static uint64_t size_of(const char *path)
{
    uint64_t bytes = 0;
    struct stat st;

    if (stat(path, &st) != 0)
        return 0;
    if (!S_ISDIR(st.st_mode))
        return (uint64_t)st.st_size;
    DIR *dir = opendir(path); /* for people alone: what cannot be read is not counted */
    const struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL)
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode))
            bytes += (uint64_t)st.st_size;
    if (dir != NULL)
        (void)closedir(dir);
    return bytes;
}

static uint64_t count_f16(const struct cllm_parameters *parameters,
                          const struct cllm_sink_plan *plan)
{
    uint64_t n = 0;

    if (plan->kind != CLLM_SOURCE_GGUF || plan->dtype != CLLM_SINK_Q8_0)
        return 0;
    for (uint32_t i = 0; i < parameters->n_tensors; i++)
        n += cllm_gguf_model_type(parameters, &parameters->tensors[i],
                                  CLLM_GGUF_TYPE_Q8_0) == CLLM_GGUF_TYPE_F16;
    return n;
}

static int convert(const struct request *request, const struct cllm_source *source,
                   const struct cllm_convert_tokenizer *tokenizer,
                   struct cllm_sink_plan *plan, struct result *result)
{
    struct cllm_sink sink;
    const char *dir;
    int rc = choose_kind(request, &plan->kind);

    if (rc == 0)
        rc = choose_dtype(request, source, plan);
    if (rc == 0)
        rc = cllm_sink_begin(&sink, plan, &source->parameters);
    if (rc != 0)
        return rc;
    rc = pass(request, source, &sink, result);
    dir = cllm_sink_directory(&sink);
    if (rc == 0 && dir != NULL)
        rc = cllm_convert_tokenizer_save(tokenizer, source, dir);
    if (rc == 0)
        rc = cllm_sink_finish(&sink);
    cllm_sink_abort(&sink);
    if (rc != 0)
        return rc;
    result->bytes = size_of(plan->path);
    result->n_f16 = count_f16(&source->parameters, plan);
    if (plan->kind == CLLM_SOURCE_GGUF && plan->tokenizer == NULL && plan->spm == NULL)
        cllm_warn("%s has no vocabulary: llama.cpp takes and gives token numbers only; "
                  "--tokenizer names one",
                  plan->path);
    if (plan->kind == CLLM_SOURCE_HF && source->parameters.config.crystalline_bias)
        cllm_warn("%s has a crystalline bias of attention, which CLLM alone knows: other "
                  "programs leave it out and compute other logits",
                  plan->path);
    return 0;
}

/* ---- the summary ---- */

static void print_summary(const struct cllm_source *source,
                          const struct cllm_sink_plan *plan, const struct result *result)
{
    const struct cllm_model_config *config = &source->parameters.config;
    char params[CLLM_UNITS_BYTES], bytes[CLLM_UNITS_BYTES], time[CLLM_UNITS_BYTES];

    (void)fprintf(stderr, "%s (%s, %s)", source->path,
                  cllm_source_kind_name(source->kind), source->dtype);
    if (plan->path != NULL)
        (void)fprintf(
            stderr, " -> %s (%s, %s, %s)", plan->path, cllm_source_kind_name(plan->kind),
            cllm_sink_dtype_names[plan->dtype], cllm_format_bytes(bytes, result->bytes));
    (void)fprintf(
        stderr, "\n  %s: %s parameters, vocabulary %u, context %u, %u layer%s, %u head%s",
        cllm_arch_names[config->arch],
        cllm_format_count(params, source->parameters.n_params), config->vocab,
        config->context, config->layers, cllm_plural(config->layers), config->heads,
        cllm_plural(config->heads));
    if (config->kv_heads != config->heads)
        (void)fprintf(stderr, " (%u of keys)", config->kv_heads);
    (void)fprintf(stderr, ", width %u, hidden %u%s%s\n  tokenizer: %s\n", config->width,
                  config->hidden, config->untied ? ", output matrix of its own" : "",
                  config->crystalline_bias ? ", crystalline bias" : "",
                  result->tokenizer);
    if (result->n_f16 > 0)
        (void)fprintf(stderr,
                      "  %" PRIu64
                      " tensors are f16: their rows do not fill blocks of 32\n",
                      result->n_f16);
    if (plan->path == NULL)
        (void)fprintf(stderr, "  %s\n",
                      result->n_nonfinite == 0
                          ? "sound: every tensor was read, every number is finite"
                          : "every tensor was read, but some numbers are not finite");
    (void)fprintf(stderr, "  %s\n",
                  cllm_format_duration(time, (uint64_t)(result->seconds * 1e9)));
}

static int print_json(const struct cllm_source *source, const struct cllm_sink_plan *plan,
                      const struct result *result)
{
    const struct cllm_model_config *config = &source->parameters.config;
    json_t *out = json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:s, s:I, "
        "s:f}",
        "in", source->path, "kind", cllm_source_kind_name(source->kind), "dtype",
        source->dtype, "arch", cllm_arch_names[config->arch], "parameters",
        (json_int_t)source->parameters.n_params, "vocab", (json_int_t)config->vocab,
        "context", (json_int_t)config->context, "layers", (json_int_t)config->layers,
        "heads", (json_int_t)config->heads, "kv_heads", (json_int_t)config->kv_heads,
        "width", (json_int_t)config->width, "hidden", (json_int_t)config->hidden, "tied",
        config->untied == 0, "tokenizer", result->tokenizer, "nonfinite",
        (json_int_t)result->n_nonfinite, "seconds", result->seconds);
    int rc;

    if (plan->path != NULL) {
        (void)json_object_set_new(out, "out", json_string(plan->path));
        (void)json_object_set_new(out, "out_kind",
                                  json_string(cllm_source_kind_name(plan->kind)));
        (void)json_object_set_new(out, "out_dtype",
                                  json_string(cllm_sink_dtype_names[plan->dtype]));
        (void)json_object_set_new(out, "out_bytes",
                                  json_integer((json_int_t)result->bytes));
    }
    if (out == NULL)
        return cllm_err(-ENOMEM, "cannot say what was done");
    rc = cllm_json_write(out, STDOUT_FILENO, "standard output");
    json_decref(out);
    return rc;
}

static int run(const struct request *request)
{
    struct cllm_convert_tokenizer tokenizer = {0};
    struct cllm_source source;
    struct result result = {0};
    uint64_t began_ns = cllm_now_ns();
    char name[256];
    int rc = cllm_source_open_over(&source, request->in, request->base);

    if (rc != 0)
        return rc;
    rc = cllm_convert_tokenizer_find(&tokenizer, &source, request->tokenizer);
    choose_name(request, name);
    struct cllm_sink_plan plan = {.path = request->out,
                                  .name = name,
                                  .replace = request->force,
                                  .max_shard = request->max_shard,
                                  .init_range = source.init_range,
                                  .tokenizer = tokenizer.tokenizer,
                                  .spm =
                                      tokenizer.spm.n_tokens > 0 ? &tokenizer.spm : NULL};
    cllm_convert_tokenizer_describe(&tokenizer, result.tokenizer,
                                    sizeof result.tokenizer);
    if (rc == 0)
        rc = request->check ? pass(request, &source, NULL, &result)
                            : convert(request, &source, &tokenizer, &plan, &result);
    result.seconds = (double)(cllm_now_ns() - began_ns) / 1e9;
    if (rc == 0 && request->json)
        rc = print_json(&source, &plan, &result);
    else if (rc == 0 && !request->quiet)
        print_summary(&source, &plan, &result);
    cllm_convert_tokenizer_fini(&tokenizer);
    cllm_source_close(&source);
    return rc;
}

/* ---- options ---- */

enum {
    OPT_TO = 1000,
    OPT_DTYPE,
    OPT_TOKENIZER,
    OPT_BASE,
    OPT_NAME,
    OPT_MAX_SHARD,
    OPT_CHECK,
    OPT_FORCE,
    OPT_JSON,
    OPT_HELP,
    OPT_VERSION
};

static const struct option options[] = {
    {"to", required_argument, NULL, OPT_TO},
    {"dtype", required_argument, NULL, OPT_DTYPE},
    {"tokenizer", required_argument, NULL, OPT_TOKENIZER},
    {"base", required_argument, NULL, OPT_BASE},
    {"name", required_argument, NULL, OPT_NAME},
    {"max-shard", required_argument, NULL, OPT_MAX_SHARD},
    {"check", no_argument, NULL, OPT_CHECK},
    {"force", no_argument, NULL, OPT_FORCE},
    {"json", no_argument, NULL, OPT_JSON},
    {"quiet", no_argument, NULL, 'q'},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

/* A size with a suffix K, M or G (1000^n). */
static int read_size(const char *text, uint64_t *out)
{
    static const char suffixes[] = "KMG";
    const char *at;
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    at = *end != '\0' ? strchr(suffixes, *end) : NULL;
    for (ptrdiff_t i = 0; at != NULL && i <= at - suffixes; i++)
        if (__builtin_mul_overflow(*out, UINT64_C(1000), out))
            errno = ERANGE;
    if (errno == 0 && end != text && text[0] != '-' && *out > 0 &&
        (*end == '\0' || (at != NULL && end[1] == '\0')))
        return 0;
    return cllm_err(CLLM_ECONFIG,
                    "cannot use --max-shard=%s: it must be a size, as 500M or 2G", text);
}

static int read_option(struct request *request, int option, const char *value)
{
    switch (option) {
    case OPT_TO:
        request->to = value;
        break;
    case OPT_DTYPE:
        request->dtype = value;
        break;
    case OPT_TOKENIZER:
        request->tokenizer = value;
        break;
    case OPT_BASE:
        request->base = value;
        break;
    case OPT_NAME:
        request->name = value;
        break;
    case OPT_MAX_SHARD:
        return read_size(value, &request->max_shard);
    case OPT_CHECK:
        request->check = true;
        break;
    case OPT_FORCE:
        request->force = true;
        break;
    case OPT_JSON:
        request->json = true;
        break;
    default:
        request->quiet = true;
        break;
    }
    return 0;
}

static int read_arguments(struct request *request, int n, char **arguments)
{
    int wanted = request->check ? 1 : 2;
    int rc;

    if (n == wanted) {
        request->in = arguments[0];
        request->out = request->check ? NULL : arguments[1];
        return 0;
    }
    rc = cllm_err(CLLM_ECONFIG, "cannot begin: %d names given, expected %s", n,
                  request->check ? "IN" : "IN and OUT");
    cllm_err_hint(PROGRAM " --help shows the arguments");
    return rc;
}

int main(int argc, char **argv)
{
    struct request request = {0};
    int c, rc = 0;

    cllm_log_init(PROGRAM, CLLM_LOG_INFO);
    while (rc == 0 && (c = getopt_long(argc, argv, "q", options, NULL)) != -1) {
        if (c == OPT_HELP) {
            print_help();
            return CLLM_EXIT_OK;
        }
        if (c == OPT_VERSION) {
            (void)printf(PROGRAM " (cllm) " CLLM_VERSION "\n");
            return CLLM_EXIT_OK;
        }
        if (c == '?') {
            (void)fprintf(stderr, "Try '" PROGRAM " --help' for more information.\n");
            return CLLM_EXIT_USAGE;
        }
        rc = read_option(&request, c, optarg);
    }
    if (rc == 0)
        rc = read_arguments(&request, argc - optind, argv + optind);
    if (rc == 0)
        rc = run(&request);
    if (rc != 0)
        cllm_err_print(PROGRAM);
    return cllm_exit_code(rc);
}
