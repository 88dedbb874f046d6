/*
 * tools/generate.c - cllm-generate: let a trained model write on, or talk with it.
 *
 * Text goes out as soon as it is said, in whole characters, and stops before a stop
 * string. The same command gives the same text, whatever the number of threads.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/units.h"
#include "compute/ops.h"
#include "compute/threads.h"
#include "formats/json.h"
#include "tools/argument.h"
#include "tools/prompt.h"
#include "tools/speaker.h"

#define PROGRAM        "cllm-generate"
#define TOKENS_LIMIT   100000000u
#define THREADS_PARAMS 4000000u /* smaller models gain nothing from a second thread */

struct request {
    const char *checkpoint, *tokenizer;
    struct cllm_prompt prompt;
    struct cllm_speaker_wish wish;
    uint32_t threads; /* 0: by the size of the model */
    bool json, verbose, interactive;
};

/* All that was shown, for --json. */
struct collected {
    char *text; /* heap */
    size_t n, room;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static void print_help(void)
{
    (void)printf(
        "Usage: " PROGRAM " [OPTION]... MODEL\n"
        "Let a trained model continue a text. MODEL is a run (its last checkpoint), a\n"
        "checkpoint, a directory of Hugging Face, or a file of GGUF, llm.c or "
        "llama2.c.\n\n"
        "  -p, --prompt=TEXT      text to continue; - reads standard input (the end of "
        "a\n"
        "                         text, or a newline)\n"
        "      --prompt-ids=LIST  tokens to continue instead: 1,403,407\n"
        "  -i, --interactive      answer line after line; Ctrl-C stops an answer\n"
        "  -n, --tokens=N         tokens to write (400)\n"
        "  -t, --temperature=T    0: always the likeliest token; 1: as trained (0.8)\n"
        "      --greedy           the same as --temperature=0\n"
        "  -k, --top-k=K          choose among the K likeliest; 0: all (0)\n"
        "      --top-p=P          choose among the likeliest that make up P; 1: all "
        "(0.95)\n"
        "      --repeat-penalty=R make tokens less likely that were there; 1: no (1)\n"
        "      --repeat-last=N    that were among the last N; 0: in the context (64)\n"
        "      --stop=TEXT        end before this text; may be given several times\n"
        "  -s, --seed=S           same seed, same text (1)\n"
        "      --tokenizer=PATH   where it is not found with the model\n"
        "  -T, --threads=N        threads (one for each processor, one for a small "
        "model)\n"
        "      --json             one JSON object instead of text\n"
        "  -v, --verbose          tokens per second on standard error, as on a terminal\n"
        "      --help             this text\n"
        "      --version          version\n\n"
        "Exit code: 0 done; 1 failure; 2 usage; 3 the checkpoint is bad; 130 "
        "interrupted.\n");
}

/* ---- what comes out ---- */

static int write_text(void *ctx, const char *text, size_t bytes)
{
    (void)ctx;
    if (fwrite(text, 1, bytes, stdout) != bytes || fflush(stdout) != 0)
        return cllm_err(-errno, "cannot write the text");
    return 0;
}

static int collect_text(void *ctx, const char *text, size_t bytes)
{
    struct collected *all = ctx;

    if (all->n + bytes > all->room) {
        size_t room = 2 * all->room + bytes + 1024;
        char *larger = realloc(all->text, room);

        if (larger == NULL)
            return cllm_err(-ENOMEM, "cannot keep the text");
        all->text = larger;
        all->room = room;
    }
    memcpy(all->text + all->n, text, bytes);
    all->n += bytes;
    return 0;
}

static double rate(uint64_t tokens, uint64_t ns)
{
    return (double)tokens / ((double)(ns > 0 ? ns : 1) / 1e9);
}

static void say_rate(const struct request *request, const struct cllm_speaker *speaker)
{
    if (!request->verbose && !isatty(STDERR_FILENO))
        return;
    (void)fprintf(
        stderr,
        PROGRAM ": read %llu token%s in %.2f s, %.0f tokens/s; wrote %llu in "
                "%.2f s, %.0f tokens/s\n",
        (unsigned long long)speaker->read_tokens, cllm_plural(speaker->read_tokens),
        (double)speaker->read_ns / 1e9, rate(speaker->read_tokens, speaker->read_ns),
        (unsigned long long)speaker->said_tokens, (double)speaker->said_ns / 1e9,
        rate(speaker->said_tokens, speaker->said_ns));
}

/* Text only where the bytes are valid UTF-8; the tokens say it in any case. */
static int print_json(const struct cllm_speaker *speaker, const struct collected *all,
                      enum cllm_speaker_end end)
{
    json_t *out = json_object(), *tokens = json_array(), *text = NULL;
    uint64_t first = speaker->n_history - speaker->said_tokens;
    int rc;

    for (uint64_t i = first; i < speaker->n_history; i++)
        (void)json_array_append_new(tokens, json_integer(speaker->history[i]));
    if (cllm_lm_speaks(speaker->lm))
        text = json_stringn(all->n > 0 ? all->text : "", all->n);
    (void)json_object_set_new(out, "text", text != NULL ? text : json_null());
    (void)json_object_set_new(out, "tokens", tokens);
    (void)json_object_set_new(out, "prompt_tokens", json_integer((json_int_t)first));
    (void)json_object_set_new(out, "seed", json_integer((json_int_t)speaker->wish.seed));
    (void)json_object_set_new(out, "end", json_string(cllm_speaker_end_name(end)));
    (void)json_object_set_new(out, "prompt_seconds",
                              json_real((double)speaker->read_ns / 1e9));
    (void)json_object_set_new(out, "seconds", json_real((double)speaker->said_ns / 1e9));
    rc = cllm_json_write(out, STDOUT_FILENO, "standard output");
    json_decref(out);
    return rc;
}

/* ---- one answer, or many ---- */

static int run_once(const struct request *request, struct cllm_speaker *speaker)
{
    enum cllm_speaker_end end = CLLM_SPEAKER_LENGTH;
    struct collected all = {.text = NULL};
    struct cllm_prompt prompt = request->prompt;
    int rc = cllm_prompt_read(&prompt, speaker->lm);

    if (rc == 0)
        rc = cllm_speaker_read(speaker, prompt.tokens, prompt.n_tokens);
    if (rc == 0 && !request->json && prompt.bytes > 0)
        rc = write_text(NULL, prompt.read, prompt.bytes);
    if (rc == 0)
        rc = request->json ? cllm_speaker_answer(speaker, collect_text, &all, NULL, &end)
                           : cllm_speaker_answer(speaker, write_text, NULL, NULL, &end);
    if (rc == 0 && request->json)
        rc = print_json(speaker, &all, end);
    else if (rc == 0 && isatty(STDOUT_FILENO))
        rc = write_text(NULL, "\n", 1);
    if (rc == 0)
        say_rate(request, speaker);
    cllm_prompt_free(&prompt);
    free(all.text);
    return rc;
}

/* Read a line and answer it. Returns 1 at the end of the input, 0, or a negative code. */
static int answer_line(struct cllm_speaker *speaker, char **line, size_t *room)
{
    uint32_t *tokens = NULL, n = 0;
    enum cllm_speaker_end end;
    ssize_t bytes;
    int rc;

    if (isatty(STDIN_FILENO))
        (void)fprintf(stderr, "> ");
    errno = 0;
    bytes = getline(line, room, stdin);
    if (bytes < 0)
        return errno == 0 || errno == EINTR ? 1 : cllm_err(-errno, "cannot read a line");
    rc = cllm_lm_encode(speaker->lm, *line, (size_t)bytes, &tokens, &n);
    if (rc == 0)
        rc = cllm_speaker_read(speaker, tokens, n);
    free(tokens);
    if (rc == 0)
        rc = cllm_speaker_answer(speaker, write_text, NULL, &interrupted, &end);
    if (rc == 0)
        rc = write_text(NULL, "\n", 1);
    interrupted = 0;
    return rc;
}

static int run_interactive(const struct request *request, struct cllm_speaker *speaker)
{
    /* No SA_RESTART: at the prompt an interrupt ends the reading, and so the program. */
    struct sigaction action = {.sa_handler = on_interrupt};
    struct cllm_prompt prompt = request->prompt;
    char *line = NULL;
    size_t room = 0;
    int rc = 0;

    if (sigaction(SIGINT, &action, NULL) != 0)
        return cllm_err(-errno, "cannot watch for interrupts");
    if (prompt.text != NULL || prompt.ids != NULL)
        rc = cllm_prompt_read(&prompt, speaker->lm);
    if (rc == 0)
        rc = cllm_speaker_read(speaker, prompt.tokens, prompt.n_tokens);
    while (rc == 0)
        rc = answer_line(speaker, &line, &room);
    free(line);
    cllm_prompt_free(&prompt);
    if (rc < 0)
        return rc;
    if (isatty(STDIN_FILENO))
        (void)fprintf(stderr, "\n");
    say_rate(request, speaker);
    return 0;
}

static int run(const struct request *request)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    struct cllm_speaker speaker = {.lm = NULL};
    uint32_t threads = request->threads;
    struct cllm_lm lm;
    int rc = cllm_lm_open(&lm, request->checkpoint, request->tokenizer);

    if (rc != 0)
        return rc;
    if (threads == 0)
        threads = lm.plan.n_params < THREADS_PARAMS || processors < 1
                      ? 1
                      : (uint32_t)cllm_min_u64((uint64_t)processors, CLLM_THREADS_MOST);
    rc = cllm_threads_start(threads, cllm_attention_scratch(lm.context));
    if (rc == 0) {
        rc = cllm_speaker_init(&speaker, &lm, cllm_ops_threaded(cllm_ops_select(), 0),
                               &request->wish);
        if (rc == 0)
            rc = request->interactive ? run_interactive(request, &speaker)
                                      : run_once(request, &speaker);
        cllm_speaker_fini(&speaker);
        cllm_threads_stop();
    }
    cllm_lm_close(&lm);
    return rc;
}

/* ---- options ---- */

static int read_real(const char *name, const char *text, double min, double max,
                     float *out)
{
    char *end;
    double value;

    errno = 0;
    value = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !(value >= min && value <= max))
        return cllm_err(CLLM_ECONFIG,
                        "cannot use --%s=%s: it must be a number from %g to %g", name,
                        text, min, max);
    *out = (float)value;
    return 0;
}

enum {
    OPT_JSON = 1000,
    OPT_TOP_P,
    OPT_GREEDY,
    OPT_PENALTY,
    OPT_PENALTY_FOR,
    OPT_STOP,
    OPT_IDS,
    OPT_TOKENIZER,
    OPT_HELP,
    OPT_VERSION
};

static const struct option options[] = {
    {"prompt", required_argument, NULL, 'p'},
    {"prompt-ids", required_argument, NULL, OPT_IDS},
    {"interactive", no_argument, NULL, 'i'},
    {"tokens", required_argument, NULL, 'n'},
    {"temperature", required_argument, NULL, 't'},
    {"greedy", no_argument, NULL, OPT_GREEDY},
    {"top-k", required_argument, NULL, 'k'},
    {"top-p", required_argument, NULL, OPT_TOP_P},
    {"repeat-penalty", required_argument, NULL, OPT_PENALTY},
    {"repeat-last", required_argument, NULL, OPT_PENALTY_FOR},
    {"stop", required_argument, NULL, OPT_STOP},
    {"seed", required_argument, NULL, 's'},
    {"tokenizer", required_argument, NULL, OPT_TOKENIZER},
    {"threads", required_argument, NULL, 'T'},
    {"json", no_argument, NULL, OPT_JSON},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

/* An option that is a number. */
static int read_number(struct request *request, int option, const char *value)
{
    struct cllm_speaker_wish *wish = &request->wish;
    uint64_t number = 0;
    int rc;

    switch (option) {
    case 'n':
        rc = cllm_argument_whole("tokens", value, 1, TOKENS_LIMIT, &number);
        wish->n_tokens = (uint32_t)number;
        return rc;
    case 't':
        return read_real("temperature", value, 0, 1e6, &wish->sample.temperature);
    case 'k':
        rc = cllm_argument_whole("top-k", value, 0, UINT32_MAX, &number);
        wish->sample.top_k = (uint32_t)number;
        return rc;
    case OPT_TOP_P:
        return read_real("top-p", value, 0, 1, &wish->sample.top_p);
    case OPT_PENALTY:
        return read_real("repeat-penalty", value, 0.01, 100, &wish->penalty);
    case OPT_PENALTY_FOR:
        rc = cllm_argument_whole("repeat-last", value, 0, UINT32_MAX, &number);
        wish->penalty_for = (uint32_t)number;
        return rc;
    case 's':
        return cllm_argument_whole("seed", value, 0, INT64_MAX, &wish->seed);
    default:
        rc = cllm_argument_whole("threads", value, 1, CLLM_THREADS_MOST, &number);
        request->threads = (uint32_t)number;
        return rc;
    }
}

/* One option's value into @request. */
static int read_option(struct request *request, int option, const char *value)
{
    switch (option) {
    case 'p':
        request->prompt.text = value;
        return 0;
    case OPT_IDS:
        request->prompt.ids = value;
        return 0;
    case 'i':
        request->interactive = true;
        return 0;
    case OPT_GREEDY:
        request->wish.sample.temperature = 0;
        return 0;
    case OPT_STOP:
        return cllm_stop_add(&request->wish.stop, value);
    case OPT_TOKENIZER:
        request->tokenizer = value;
        return 0;
    case OPT_JSON:
        request->json = true;
        return 0;
    case 'v':
        request->verbose = true;
        return 0;
    default:
        return read_number(request, option, value);
    }
}

static int check_arguments(const struct request *request, int n_arguments)
{
    int rc;

    if (request->prompt.text != NULL && request->prompt.ids != NULL)
        return cllm_err(CLLM_ECONFIG, "cannot continue both --prompt and --prompt-ids");
    if (request->interactive &&
        (request->json ||
         (request->prompt.text != NULL && strcmp(request->prompt.text, "-") == 0)))
        return cllm_err(CLLM_ECONFIG,
                        "cannot be interactive with --json or with --prompt=-");
    if (n_arguments == 1)
        return 0;
    rc = cllm_err(CLLM_ECONFIG, "cannot begin: %s",
                  n_arguments == 0 ? "no checkpoint or run directory given"
                                   : "more than one directory given");
    cllm_err_hint(PROGRAM " --help shows the arguments");
    return rc;
}

int main(int argc, char **argv)
{
    static struct request request = {
        .wish = {.sample = {.temperature = 0.8f, .top_p = 0.95f},
                 .penalty = 1,
                 .penalty_for = 64,
                 .seed = 1,
                 .n_tokens = 400}};
    int c, rc = 0;

    while (rc == 0 &&
           (c = getopt_long(argc, argv, "p:in:t:k:s:T:v", options, NULL)) != -1) {
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
        rc = check_arguments(&request, argc - optind);
    if (rc == 0) {
        request.checkpoint = argv[optind];
        rc = run(&request);
    }
    if (rc != 0)
        cllm_err_print(PROGRAM);
    return cllm_exit_code(rc);
}
