/*
 * tools/generate.c - cllm-generate: let a trained model write on.
 *
 * Text is bytes and tokens are bytes: what the model says goes out raw, byte by byte, as
 * soon as it is said. Each token's random number is a function of the seed and the
 * token's position, so the same command gives the same text.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/random.h"
#include "compute/ops.h"
#include "formats/checkpoint.h"
#include "formats/json.h"
#include "model/decoder.h"
#include "model/gpt.h"
#include "model/sample.h"

#define PROGRAM      "cllm-generate"
#define BYTE_TOKENS  256
#define PROMPT_LIMIT (16u << 20)
#define TOKENS_LIMIT 100000000u

struct request {
    const char *checkpoint, *prompt; /* prompt "-": standard input */
    uint32_t n_tokens;
    uint64_t seed;
    struct cllm_sample sample;
    bool json, verbose;
};

struct generator {
    struct cllm_parameters plan;
    struct cllm_arena arena;
    struct cllm_decoder decoder;
    float *w;
    struct cllm_sample_candidate *candidates; // (V)
    uint32_t *history;                        // prompt, then what was generated
    uint32_t n_history, n_prompt;
};

static void print_help(void)
{
    (void)printf(
        "Usage: " PROGRAM " [OPTION]... CHECKPOINT_DIR|RUN_DIR\n"
        "Let a trained model continue a text. Of a run, the last checkpoint is used.\n\n"
        "  -p, --prompt=TEXT      text to continue; - reads standard input (a newline)\n"
        "  -n, --tokens=N         tokens to write (400)\n"
        "  -t, --temperature=T    0: always the likeliest token; 1: as trained (0.8)\n"
        "  -k, --top-k=K          choose among the K likeliest; 0: all (0)\n"
        "      --top-p=P          choose among the likeliest that make up P; 1: all "
        "(0.95)\n"
        "  -s, --seed=S           same seed, same text (1)\n"
        "      --json             one JSON object instead of text\n"
        "  -v, --verbose          tokens per second on standard error, as on a terminal\n"
        "      --help             this text\n"
        "      --version          version\n\n"
        "Exit code: 0 done; 1 failure; 2 usage; 3 the checkpoint is bad.\n");
}

/* ---- the prompt ---- */

/* All of standard input into heap memory. */
static int read_input(char **text, size_t *bytes)
{
    char *all = malloc(PROMPT_LIMIT + 1);

    *bytes = 0;
    if (all == NULL)
        return cllm_err(-ENOMEM, "cannot read the prompt");
    *bytes = fread(all, 1, PROMPT_LIMIT + 1, stdin);
    if (ferror(stdin) || *bytes > PROMPT_LIMIT) {
        free(all);
        return cllm_err(*bytes > PROMPT_LIMIT ? -EFBIG : -EIO,
                        "cannot read the prompt from standard input");
    }
    *text = all;
    return 0;
}

static int get_prompt(const struct request *request, char **text, size_t *bytes)
{
    if (request->prompt != NULL && strcmp(request->prompt, "-") == 0) {
        int rc = read_input(text, bytes);

        if (rc != 0 || *bytes > 0)
            return rc;
        free(*text);
    }
    /* A model needs something to begin from: a line's end. */
    *text = strdup(request->prompt == NULL || strcmp(request->prompt, "-") == 0 ||
                           request->prompt[0] == '\0'
                       ? "\n"
                       : request->prompt);
    if (*text == NULL)
        return cllm_err(-ENOMEM, "cannot keep the prompt");
    *bytes = strlen(*text);
    return 0;
}

static int check_prompt(const char *text, size_t bytes, uint32_t vocab)
{
    for (size_t i = 0; i < bytes; i++) {
        uint32_t token = (unsigned char)text[i];
        int rc;

        if (token < vocab)
            continue;
        rc = cllm_err(CLLM_ECONFIG,
                      "cannot use the prompt: byte %zu is token %u, beyond the model's "
                      "vocabulary of %u",
                      i, token, vocab);
        cllm_err_hint("write a prompt of bytes 0 to %u", vocab - 1);
        return rc;
    }
    return 0;
}

/* ---- the model ---- */

static int check_model(const struct request *request,
                       const struct cllm_checkpoint_info *info)
{
    int rc;

    if (info->model.vocab <= BYTE_TOKENS || request->json)
        return 0;
    rc = cllm_err(CLLM_EDATA,
                  "cannot write what %s says as text: it has %u tokens, more than there "
                  "are bytes",
                  request->checkpoint, info->model.vocab);
    cllm_err_hint("--json prints the token numbers");
    return rc;
}

/* Everything in one arena; weights from @checkpoint, history from the prompt. */
static int load(struct generator *g, const struct cllm_checkpoint *checkpoint,
                const struct request *request, const char *text, size_t bytes)
{
    const struct cllm_checkpoint_info *info = &checkpoint->info;
    size_t n_history = bytes + request->n_tokens, need;
    int rc = cllm_parameters_init(&g->plan, &info->model);

    if (rc != 0)
        return rc;
    need = cllm_decoder_arena_bytes(&g->plan) + g->plan.n_elements * sizeof *g->w +
           info->model.vocab * sizeof *g->candidates + n_history * sizeof *g->history;
    rc = cllm_arena_init(&g->arena, need + 3 * CLLM_CACHELINE);
    if (rc != 0)
        return rc;
    cllm_decoder_init(&g->decoder, &g->plan, cllm_ops_select(), &g->arena);
    g->w = cllm_arena_take(&g->arena, g->plan.n_elements * sizeof *g->w);
    g->candidates = cllm_arena_take(&g->arena, info->model.vocab * sizeof *g->candidates);
    g->history = cllm_arena_take(&g->arena, n_history * sizeof *g->history);
    for (size_t i = 0; i < bytes; i++)
        g->history[i] = (unsigned char)text[i];
    g->n_prompt = g->n_history = (uint32_t)bytes;
    for (uint32_t t = 0; rc == 0 && t < g->plan.n_tensors; t++) {
        const struct cllm_tensor *tensor = &g->plan.tensors[t];

        rc = cllm_checkpoint_read(checkpoint, tensor->name, g->w + tensor->off,
                                  tensor->count);
    }
    return rc;
}

static int open_and_load(struct generator *g, const struct request *request)
{
    struct cllm_checkpoint checkpoint;
    char *text = NULL;
    size_t bytes = 0;
    int rc = cllm_checkpoint_open(&checkpoint, request->checkpoint);

    if (rc != 0)
        return rc;
    rc = check_model(request, &checkpoint.info);
    if (rc == 0)
        rc = get_prompt(request, &text, &bytes);
    if (rc == 0)
        rc = check_prompt(text, bytes, checkpoint.info.model.vocab);
    if (rc == 0)
        rc = load(g, &checkpoint, request, text, bytes);
    if (text != NULL)
        free(text);
    cllm_checkpoint_close(&checkpoint);
    return rc;
}

/* ---- generating ---- */

/* Logits after the token at @at. A full context begins anew with its later half. */
static const float *feed(struct generator *g, uint32_t at)
{
    uint32_t context = g->plan.config.context;

    if (g->decoder.position == context) {
        cllm_decoder_reset(&g->decoder);
        for (uint32_t i = at - context / 2; i < at; i++)
            (void)cllm_decoder_step(&g->decoder, g->w, g->history[i]);
    }
    return cllm_decoder_step(&g->decoder, g->w, g->history[at]);
}

static int write_bytes(const uint32_t *tokens, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (putchar((int)tokens[i]) == EOF)
            return cllm_err(-errno, "cannot write the text");
    if (fflush(stdout) != 0)
        return cllm_err(-errno, "cannot write the text");
    return 0;
}

static int generate(struct generator *g, const struct request *request)
{
    uint32_t context = g->plan.config.context, vocab = g->plan.config.vocab;
    uint32_t first = g->n_prompt > context ? g->n_prompt - context : 0;
    const float *logits = NULL;
    int rc = request->json ? 0 : write_bytes(g->history, g->n_prompt);

    for (uint32_t i = first; i < g->n_prompt; i++)
        logits = feed(g, i);
    for (uint32_t i = 0; rc == 0 && i < request->n_tokens; i++) {
        float uniform = cllm_random_f32(request->seed, CLLM_RANDOM_SAMPLE, i);

        g->history[g->n_history++] =
            cllm_sample_token(&request->sample, logits, vocab, uniform, g->candidates);
        if (!request->json)
            rc = write_bytes(&g->history[g->n_history - 1], 1);
        if (rc == 0 && i + 1 < request->n_tokens)
            logits = feed(g, g->n_history - 1);
    }
    if (rc == 0 && !request->json && isatty(STDOUT_FILENO))
        rc = write_bytes(&(const uint32_t){'\n'}, 1);
    return rc;
}

/* Text only where the bytes are valid UTF-8; the tokens say it in any case. */
static int print_json(const struct generator *g, const struct request *request,
                      double seconds)
{
    json_t *out = json_object(), *tokens = json_array(), *text = NULL;
    uint32_t n = g->n_history - g->n_prompt;
    char *bytes = malloc(n + (size_t)1);
    int rc;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t token = g->history[g->n_prompt + i];

        (void)json_array_append_new(tokens, json_integer((json_int_t)token));
        if (bytes != NULL)
            bytes[i] = (char)(unsigned char)token;
    }
    if (bytes != NULL && g->plan.config.vocab <= BYTE_TOKENS)
        text = json_stringn(bytes, n);
    (void)json_object_set_new(out, "text", text != NULL ? text : json_null());
    (void)json_object_set_new(out, "tokens", tokens);
    (void)json_object_set_new(out, "prompt_tokens", json_integer(g->n_prompt));
    (void)json_object_set_new(out, "seed", json_integer((json_int_t)request->seed));
    (void)json_object_set_new(out, "seconds", json_real(seconds));
    rc = cllm_json_write(out, STDOUT_FILENO, "standard output");
    json_decref(out);
    free(bytes);
    return rc;
}

static int run(const struct request *request)
{
    struct generator g = {0};
    uint64_t began;
    double seconds;
    int rc = open_and_load(&g, request);

    if (rc != 0)
        goto out;
    began = cllm_now_ns();
    rc = generate(&g, request);
    seconds = (double)(cllm_now_ns() - began) / 1e9;
    if (rc == 0 && request->json)
        rc = print_json(&g, request, seconds);
    if (rc == 0 && (request->verbose || isatty(STDERR_FILENO)))
        (void)fprintf(stderr, PROGRAM ": %u tokens in %.2f s, %.0f tokens/s\n",
                      request->n_tokens, seconds, request->n_tokens / seconds);
out:
    cllm_arena_fini(&g.arena);
    cllm_parameters_fini(&g.plan);
    return rc;
}

/* ---- options ---- */

static int read_whole(const char *name, const char *text, uint64_t min, uint64_t max,
                      uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    if (errno == 0 && end != text && *end == '\0' && text[0] != '-' && *out >= min &&
        *out <= max)
        return 0;
    return cllm_err(CLLM_ECONFIG,
                    "cannot use --%s=%s: it must be a whole number from %llu to %llu",
                    name, text, (unsigned long long)min, (unsigned long long)max);
}

static int read_real(const char *name, const char *text, double max, float *out)
{
    char *end;
    double value;

    errno = 0;
    value = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !(value >= 0 && value <= max))
        return cllm_err(CLLM_ECONFIG,
                        "cannot use --%s=%s: it must be a number from 0 to %g", name,
                        text, max);
    *out = (float)value;
    return 0;
}

enum { OPT_JSON = 1000, OPT_TOP_P, OPT_HELP, OPT_VERSION };

static const struct option options[] = {
    {"prompt", required_argument, NULL, 'p'},
    {"tokens", required_argument, NULL, 'n'},
    {"temperature", required_argument, NULL, 't'},
    {"top-k", required_argument, NULL, 'k'},
    {"top-p", required_argument, NULL, OPT_TOP_P},
    {"seed", required_argument, NULL, 's'},
    {"json", no_argument, NULL, OPT_JSON},
    {"verbose", no_argument, NULL, 'v'},
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
    case 'p':
        request->prompt = value;
        break;
    case 'n':
        rc = read_whole("tokens", value, 1, TOKENS_LIMIT, &number);
        request->n_tokens = (uint32_t)number;
        break;
    case 't':
        rc = read_real("temperature", value, 1e6, &request->sample.temperature);
        break;
    case 'k':
        rc = read_whole("top-k", value, 0, UINT32_MAX, &number);
        request->sample.top_k = (uint32_t)number;
        break;
    case OPT_TOP_P:
        rc = read_real("top-p", value, 1, &request->sample.top_p);
        break;
    case 's':
        rc = read_whole("seed", value, 0, INT64_MAX, &request->seed);
        break;
    case OPT_JSON:
        request->json = true;
        break;
    default:
        request->verbose = true;
        break;
    }
    return rc;
}

int main(int argc, char **argv)
{
    struct request request = {
        .n_tokens = 400, .seed = 1, .sample = {.temperature = 0.8f, .top_p = 0.95f}};
    int c, rc = 0;

    while (rc == 0 && (c = getopt_long(argc, argv, "p:n:t:k:s:v", options, NULL)) != -1) {
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
    if (rc == 0 && argc - optind != 1) {
        rc = cllm_err(CLLM_ECONFIG, "cannot begin: %s",
                      argc == optind ? "no checkpoint or run directory given"
                                     : "more than one directory given");
        cllm_err_hint(PROGRAM " --help shows the arguments");
    }
    if (rc == 0) {
        request.checkpoint = argv[optind];
        rc = run(&request);
    }
    if (rc != 0)
        cllm_err_print(PROGRAM);
    return cllm_exit_code(rc);
}
