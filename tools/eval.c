/*
 * tools/eval.c - cllm-eval: how good a model is, in figures: loss, perplexity and bits a
 * byte over shards, or the share of multiple-choice questions that it answers rightly.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/err.h"
#include "base/log.h"
#include "base/units.h"
#include "compute/threads.h"
#include "formats/json.h"
#include "tools/argument.h"
#include "tools/eval_choices.h"
#include "tools/eval_split.h"

#define PROGRAM   "cllm-eval"
#define DATA_MOST 64

struct request {
    const char *model, *tokenizer, *choices, *split;
    struct cllm_eval eval;
    uint64_t windows;
    enum cllm_shard_format format;
    char *data[DATA_MOST]; /* patterns; heap */
    uint32_t n_data;
    bool crystalline, json;
};

static void print_help(void)
{
    (void)printf(
        "Usage: " PROGRAM " [OPTION]... MODEL [DATA]...\n"
        "How good a trained model is. MODEL is a run (its last checkpoint), a "
        "checkpoint,\n"
        "a directory of Hugging Face, or a file of GGUF, llm.c or llama2.c.\n\n"
        "DATA are token shards, patterns of them, or directories that cllm-prep made;\n"
        "without any, the validation shards of the run.\n\n"
        "      --split=NAME       of a prepared directory: val or train (val)\n"
        "      --format=FORMAT    of shards: auto, llmc, nanogpt or megatron (auto)\n"
        "  -w, --windows=N        so many windows, spread evenly; 0: all (0)\n"
        "  -c, --choices=FILE     multiple-choice questions instead: lines of JSON with\n"
        "                         ctx, endings and label, as HellaSwag has them\n"
        "      --tokenizer=PATH   where it is not found with the model\n"
        "  -T, --threads=N        threads (one for each processor)\n"
        "  -s, --state=FILE       keep each result; the same command goes on from there\n"
        "      --crystalline      also the crystalline cost of the data, which no "
        "weight\n"
        "                         can change\n"
        "      --json             one JSON object instead of text\n"
        "      --help             this text\n"
        "      --version          version\n\n"
        "Exit code: 0 done; 1 failure; 2 usage; 3 the checkpoint or the data is bad.\n");
}

/* ---- what to evaluate on ---- */

static int add_data(struct request *request, const char *text)
{
    if (request->n_data == DATA_MOST)
        return cllm_err(CLLM_ECONFIG, "more than %d arguments of data", DATA_MOST);
    request->data[request->n_data] = strdup(text);
    if (request->data[request->n_data] == NULL)
        return cllm_err(-ENOMEM, "cannot keep %s", text);
    request->n_data++; /* NOLINT(clang-analyzer-unix.Malloc): main() frees them all */
    return 0;
}

/* A directory is the shards of its split. */
static int add_argument(struct request *request, const char *text)
{
    char pattern[CLLM_FILE_PATH_BYTES];
    struct stat st;
    int n;

    if (stat(text, &st) != 0 || !S_ISDIR(st.st_mode))
        return add_data(request, text);
    n = snprintf(pattern, sizeof pattern, "%s/%s_*.bin", text, request->split);
    if (n < 0 || (size_t)n >= sizeof pattern)
        return cllm_err(-ENAMETOOLONG, "cannot look into %s", text);
    return add_data(request, pattern);
}

/* The validation shards of the run that the checkpoint belongs to. */
static int add_run_data(struct request *request, const struct cllm_lm *lm)
{
    char path[CLLM_FILE_PATH_BYTES];
    struct cllm_config config;
    int rc = 0, n = snprintf(path, sizeof path, "%s/../../config.ini", lm->dir);

    cllm_config_init(&config);
    if (n > 0 && (size_t)n < sizeof path && access(path, R_OK) == 0)
        rc = cllm_config_read(&config, path);
    for (uint32_t i = 0; rc == 0 && i < config.data_valid.n; i++)
        rc = add_data(request, config.data_valid.item[i]);
    if (rc == 0 && request->n_data > 0 && request->format == CLLM_SHARD_AUTO)
        request->format = (enum cllm_shard_format)config.data_format;
    cllm_config_fini(&config);
    if (rc != 0 || request->n_data > 0)
        return rc;
    rc = cllm_err(CLLM_ECONFIG, "no data to evaluate %s on", request->model);
    cllm_err_hint("give shards or a prepared directory behind the model, or "
                  "--choices=FILE");
    return rc;
}

/* ---- results ---- */

static void print_split(const struct cllm_eval_split *split,
                        const struct request *request, uint64_t all)
{
    double loss = split->loss / (double)split->tokens;
    char tokens[CLLM_UNITS_BYTES];

    (void)printf("windows        %" PRIu64 " of %" PRIu64 ": %s tokens\n", split->windows,
                 all, cllm_format_count(tokens, split->tokens));
    (void)printf("loss           %.4f nats a token\n", loss);
    (void)printf("perplexity     %.4f\n", exp(loss));
    if (split->bytes > 0)
        (void)printf("bits per byte  %.4f, of %" PRIu64 " byte%s\n",
                     split->loss / log(2) / (double)split->bytes, split->bytes,
                     cllm_plural(split->bytes));
    if (request->crystalline)
        (void)printf("crystalline    %.4f nats a token: a constant of the data, which no "
                     "weight can change\n",
                     split->crystalline / (double)split->tokens);
}

static json_t *pack_split(const struct cllm_eval_split *split,
                          const struct request *request, uint64_t all)
{
    double loss = split->loss / (double)split->tokens;
    char hex[40];
    json_t *out;

    (void)snprintf(hex, sizeof hex, "%a", split->loss);
    out =
        json_pack("{s:I, s:I, s:I, s:f, s:s, s:f}", "windows", (json_int_t)split->windows,
                  "windows_of", (json_int_t)all, "tokens", (json_int_t)split->tokens,
                  "loss", loss, "loss_sum_hex", hex, "perplexity", exp(loss));
    if (split->bytes > 0) {
        (void)json_object_set_new(out, "bytes", json_integer((json_int_t)split->bytes));
        (void)json_object_set_new(out, "bits_per_byte",
                                  json_real(split->loss / log(2) / (double)split->bytes));
    }
    if (request->crystalline)
        (void)json_object_set_new(out, "crystalline_constant_of_the_data",
                                  json_real(split->crystalline / (double)split->tokens));
    return out;
}

static void print_choices(const struct cllm_eval_choices *choices)
{
    double n = (double)choices->examples;

    (void)printf("examples       %" PRIu64 "\n", choices->examples);
    (void)printf("accuracy       %.4f  (%" PRIu64 " right by the loss of an ending)\n",
                 (double)choices->plain / n, choices->plain);
    (void)printf("  normalised   %.4f  (%" PRIu64 " by its loss a byte)\n",
                 (double)choices->by_byte / n, choices->by_byte);
    (void)printf("               %.4f  (%" PRIu64 " by its loss a token)\n",
                 (double)choices->by_token / n, choices->by_token);
    (void)printf("loss           %.4f nats for a right ending\n", choices->loss / n);
}

static json_t *pack_choices(const struct cllm_eval_choices *choices)
{
    double n = (double)choices->examples;
    char hex[40];

    (void)snprintf(hex, sizeof hex, "%a", choices->loss);
    return json_pack(
        "{s:I, s:f, s:f, s:f, s:f, s:s}", "examples", (json_int_t)choices->examples,
        "accuracy", (double)choices->plain / n, "accuracy_by_byte",
        (double)choices->by_byte / n, "accuracy_by_token", (double)choices->by_token / n,
        "loss", choices->loss / n, "loss_sum_hex", hex);
}

/* @out (taken over; NULL when memory was out) with what it is about. */
static int print_json(json_t *out, const struct cllm_lm *lm, uint64_t ns)
{
    int rc;

    if (out == NULL)
        return cllm_err(-ENOMEM, "cannot write the results");
    (void)json_object_set_new(out, "checkpoint", json_string(lm->dir));
    (void)json_object_set_new(out, "step", json_integer((json_int_t)lm->step));
    (void)json_object_set_new(out, "weights_hash", json_string(lm->weights));
    (void)json_object_set_new(out, "seconds", json_real((double)ns / 1e9));
    rc = cllm_json_write(out, STDOUT_FILENO, "standard output");
    json_decref(out);
    return rc;
}

/* ---- the two ways ---- */

static int run_split(struct request *request, const struct cllm_lm *lm)
{
    struct cllm_eval_split split;
    struct cllm_dataset data;
    uint64_t began, all;
    int rc = request->n_data == 0 ? add_run_data(request, lm) : 0;

    if (rc == 0)
        rc = cllm_dataset_open_as(&data, request->data, request->n_data, lm->context,
                                  request->format);
    if (rc != 0)
        return rc;
    all = data.n_windows;
    for (uint32_t i = 0; request->format == CLLM_SHARD_AUTO && i < data.n_shards; i++) {
        char text[CLLM_SHARD_TEXT];

        if (data.shard[i].format != CLLM_SHARD_LLMC)
            cllm_info("%s is %s", data.shard[i].path,
                      cllm_shard_describe(text, &data.shard[i]));
    }
    began = cllm_now_ns();
    rc = cllm_eval_split(&split, &request->eval, &data, request->windows);
    cllm_dataset_close(&data);
    if (rc != 0)
        return rc;
    if (request->json)
        return print_json(pack_split(&split, request, all), lm, cllm_now_ns() - began);
    (void)printf("model          %s, step %" PRIu64 "\n", lm->dir, lm->step);
    print_split(&split, request, all);
    return 0;
}

static int run_choices(struct request *request, const struct cllm_lm *lm)
{
    struct cllm_eval_choices result;
    struct cllm_choices choices;
    uint64_t began = cllm_now_ns();
    int rc = cllm_choices_load(&choices, request->choices);

    if (rc != 0)
        return rc;
    rc = cllm_eval_choices(&result, &request->eval, &choices, request->choices);
    cllm_choices_free(&choices);
    if (rc != 0)
        return rc;
    if (request->json)
        return print_json(pack_choices(&result), lm, cllm_now_ns() - began);
    (void)printf("model          %s, step %" PRIu64 "\n", lm->dir, lm->step);
    print_choices(&result);
    return 0;
}

static int run(struct request *request)
{
    struct cllm_lm lm;
    int rc = cllm_lm_open(&lm, request->model, request->tokenizer);

    if (rc != 0)
        return rc;
    request->eval.lm = &lm;
    rc = request->choices != NULL ? run_choices(request, &lm) : run_split(request, &lm);
    request->eval.lm = NULL;
    cllm_lm_close(&lm);
    if (rc == 0 && fflush(stdout) != 0)
        rc = cllm_err(-errno, "cannot write the results");
    return rc;
}

/* ---- options ---- */

static int read_format(const char *text, enum cllm_shard_format *out)
{
    for (int i = 0; i < CLLM_N_SHARD_FORMATS; i++) {
        *out = (enum cllm_shard_format)i;
        if (strcmp(text, cllm_shard_format_name(*out)) == 0)
            return 0;
    }
    return cllm_err(CLLM_ECONFIG,
                    "cannot use --format=%s: it must be auto, llmc, nanogpt or megatron",
                    text);
}

enum {
    OPT_SPLIT = 1000,
    OPT_FORMAT,
    OPT_TOKENIZER,
    OPT_CRYSTALLINE,
    OPT_JSON,
    OPT_HELP,
    OPT_VERSION
};

static const struct option options[] = {
    {"split", required_argument, NULL, OPT_SPLIT},
    {"format", required_argument, NULL, OPT_FORMAT},
    {"windows", required_argument, NULL, 'w'},
    {"choices", required_argument, NULL, 'c'},
    {"tokenizer", required_argument, NULL, OPT_TOKENIZER},
    {"threads", required_argument, NULL, 'T'},
    {"state", required_argument, NULL, 's'},
    {"crystalline", no_argument, NULL, OPT_CRYSTALLINE},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

/* One option's value into @request. */
static int read_option(struct request *request, int option, const char *value)
{
    uint64_t number = 0;
    int rc = 0;

    switch (option) {
    case OPT_SPLIT:
        request->split = value;
        if (strcmp(value, "val") != 0 && strcmp(value, "train") != 0)
            rc = cllm_err(CLLM_ECONFIG, "cannot use --split=%s: it must be val or train",
                          value);
        break;
    case OPT_FORMAT:
        rc = read_format(value, &request->format);
        break;
    case 'w':
        rc = cllm_argument_whole("windows", value, 0, UINT32_MAX, &request->windows);
        break;
    case 'c':
        request->choices = value;
        break;
    case OPT_TOKENIZER:
        request->tokenizer = value;
        break;
    case 'T':
        rc = cllm_argument_whole("threads", value, 1, CLLM_THREADS_MOST, &number);
        request->eval.threads = (uint32_t)number;
        break;
    case 's':
        request->eval.state = value;
        break;
    case OPT_CRYSTALLINE:
        request->crystalline = true;
        break;
    default:
        request->json = true;
        break;
    }
    return rc;
}

/* The model, then data. */
static int read_arguments(struct request *request, int argc, char **argv, int at)
{
    int rc = 0;

    if (at == argc) {
        rc = cllm_err(CLLM_ECONFIG, "cannot begin: no checkpoint or run directory given");
        cllm_err_hint(PROGRAM " --help shows the arguments");
        return rc;
    }
    request->model = argv[at++];
    if (at < argc && request->choices != NULL)
        return cllm_err(CLLM_ECONFIG, "cannot evaluate on %s and on --choices at once",
                        argv[at]);
    for (; rc == 0 && at < argc; at++)
        rc = add_argument(request, argv[at]);
    return rc;
}

int main(int argc, char **argv)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    struct request request = {
        .split = "val",
        .eval = {.threads = (uint32_t)cllm_min_u64(
                     CLLM_THREADS_MOST, processors > 0 ? (uint64_t)processors : 1)}};
    int c, rc = 0;

    cllm_log_init(PROGRAM, CLLM_LOG_INFO);
    while (rc == 0 && (c = getopt_long(argc, argv, "w:c:T:s:", options, NULL)) != -1) {
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
        rc = read_arguments(&request, argc, argv, optind);
    if (rc == 0)
        rc = run(&request);
    for (uint32_t i = 0; i < request.n_data; i++)
        free(request.data[i]);
    if (rc != 0)
        cllm_err_print(PROGRAM);
    return cllm_exit_code(rc);
}
