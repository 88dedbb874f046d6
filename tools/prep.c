/*
 * tools/prep.c - cllm-prep: text into token shards for training.
 *
 * A token is a byte; the vocabulary is 256. The documents form one stream in the order
 * given, with the separator between neighbours. The last part of the stream becomes the
 * validation split. Memory is bounded: only names and sizes of documents are held.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/units.h"
#include "formats/file.h"
#include "tools/prep_input.h"
#include "tools/prep_output.h"

#define PROGRAM           "cllm-prep"
#define COPY_BYTES        (1u << 20)
#define SEPARATOR_BYTES   256
#define SEPARATOR_DEFAULT "\\n\\n"
#define BAR_WIDTH         24

struct options {
    const char *out_dir;
    double val_fraction;
    uint64_t shard_tokens;
    const char *separator_text; /* as given */
    uint8_t separator[SEPARATOR_BYTES];
    size_t separator_bytes;
    bool force, quiet;
};

struct progress {
    uint64_t begun_ns, shown_ns;
    uint64_t done, total; /* bytes */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static void print_help(void)
{
    (void)printf(
        "Usage: " PROGRAM " [OPTION]... -o DIR FILE|DIRECTORY|-...\n"
        "Turn text into token shards (llm.c format) for training. A token is a byte.\n"
        "\n"
        "Directories are read with all that is in them, sorted by name; hidden and "
        "binary\n"
        "files are passed over and counted. - is stdin.\n"
        "\n"
        "  -o, --output DIR        write train_NNN.bin, val_NNN.bin, dataset.json "
        "there;\n"
        "                          it is made if missing\n"
        "      --val-fraction X    share of the stream, its last part, that is kept for\n"
        "                          validation; 0 = none (default 0.1)\n"
        "      --shard-tokens N    most tokens in a shard (default 100000000)\n"
        "      --separator TEXT    bytes between documents; knows \\n \\t \\r \\0 \\\\ "
        "and\n"
        "                          \\xHH; \"\" = nothing (default \"\\n\\n\", a blank "
        "line)\n"
        "      --force             replace the shards of an earlier run in DIR\n"
        "  -q, --quiet             errors and warnings only\n"
        "  -h, --help              this text\n"
        "  -V, --version           version\n"
        "\n"
        "Exit codes: 0 done, 1 failure, 2 usage, 3 bad data, 130 interrupted.\n"
        "\n"
        "Example:\n"
        "  " PROGRAM " -o data/books books/ letters.txt\n");
}

static int usage_error(void)
{
    (void)fprintf(stderr, "Try '" PROGRAM " --help' for more information.\n");
    return CLLM_EXIT_USAGE;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The byte of the escape behind a backslash at *@at, which moves behind it; -1: none. */
static int unescape(const char **at)
{
    static const char names[] = "ntr0\\";
    static const char bytes[] = "\n\t\r\0\\";
    const char *p = *at;
    const char *name = *p == '\0' ? NULL : strchr(names, *p);

    if (name != NULL) {
        *at = p + 1;
        return (unsigned char)bytes[name - names];
    }
    if (p[0] == 'x' && hex_value(p[1]) >= 0 && hex_value(p[2]) >= 0) {
        *at = p + 3;
        return hex_value(p[1]) * 16 + hex_value(p[2]);
    }
    return -1;
}

static int parse_separator(struct options *options)
{
    const char *p = options->separator_text;
    size_t n = 0;

    while (*p != '\0') {
        int byte = (unsigned char)*p++;
        if (byte == '\\')
            byte = unescape(&p);
        if (byte < 0)
            return cllm_err(
                CLLM_ECONFIG,
                "--separator: unknown escape in \"%s\"; known are \\n \\t \\r "
                "\\0 \\\\ \\xHH",
                options->separator_text);
        if (n == SEPARATOR_BYTES)
            return cllm_err(CLLM_ECONFIG, "--separator: more than %d bytes",
                            SEPARATOR_BYTES);
        options->separator[n++] = (uint8_t)byte;
    }
    options->separator_bytes = n;
    return 0;
}

static int parse_fraction(const char *text, double *out)
{
    char *end = NULL;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' || !(value >= 0 && value < 1))
        return cllm_err(
            CLLM_ECONFIG,
            "--val-fraction: expected a number from 0 to less than 1, found %s", text);
    *out = value;
    return 0;
}

static int parse_tokens(const char *text, uint64_t *out)
{
    char *end = NULL;

    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || errno != 0 || *end != '\0' ||
        value < 2 * CLLM_PREP_MIN_TOKENS || value > CLLM_SHARD_TOKENS_MAX)
        return cllm_err(CLLM_ECONFIG,
                        "--shard-tokens: expected a whole number from %d to %d, found %s",
                        2 * CLLM_PREP_MIN_TOKENS, CLLM_SHARD_TOKENS_MAX, text);
    *out = value;
    return 0;
}

/* Returns 0; 1 when there is nothing left to do (help, version); CLLM_ECONFIG with text,
 * or without one when getopt has spoken. */
static int parse_options(int argc, char **argv, struct options *options)
{
    static const struct option longs[] = {
        {"output", required_argument, NULL, 'o'},
        {"val-fraction", required_argument, NULL, 'f'},
        {"shard-tokens", required_argument, NULL, 't'},
        {"separator", required_argument, NULL, 's'},
        {"force", no_argument, NULL, 'F'},
        {"quiet", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {0},
    };
    int rc = 0;
    int c;

    while (rc == 0 && (c = getopt_long(argc, argv, "o:qhV", longs, NULL)) != -1) {
        switch (c) {
        case 'o':
            options->out_dir = optarg;
            break;
        case 'f':
            rc = parse_fraction(optarg, &options->val_fraction);
            break;
        case 't':
            rc = parse_tokens(optarg, &options->shard_tokens);
            break;
        case 's':
            options->separator_text = optarg;
            break;
        case 'F':
            options->force = true;
            break;
        case 'q':
            options->quiet = true;
            break;
        case 'h':
            print_help();
            return 1;
        case 'V':
            (void)printf(PROGRAM " (cllm) " CLLM_VERSION "\n");
            return 1;
        default:
            return CLLM_ECONFIG;
        }
    }
    if (rc < 0)
        return rc;
    if (options->out_dir[0] == '\0')
        return cllm_err(CLLM_ECONFIG, "no output directory given (-o DIR)");
    if (optind == argc)
        return cllm_err(CLLM_ECONFIG,
                        "no input given (files, directories, or - for stdin)");
    return parse_separator(options);
}

/* A bar on a terminal, ten times a second; elsewhere a line every five seconds. */
static void show(struct progress *progress)
{
    static const char marks[] = "########################";
    _Static_assert(sizeof marks == BAR_WIDTH + 1, "a full bar");
    uint64_t now = cllm_now_ns();
    bool terminal = cllm_log_is_terminal();
    uint64_t pause = terminal ? CLLM_NS_PER_S / 10 : 5 * CLLM_NS_PER_S;

    if (now - progress->shown_ns < pause)
        return;
    progress->shown_ns = now;
    double share = (double)progress->done / (double)progress->total;
    uint64_t elapsed = now - progress->begun_ns;
    double rate = (double)progress->done * 1e9 / (double)cllm_max_u64(elapsed, 1);
    double left = rate > 0 ? (double)(progress->total - progress->done) / rate : 0;
    char done[CLLM_UNITS_BYTES], total[CLLM_UNITS_BYTES], speed[CLLM_UNITS_BYTES],
        eta[CLLM_UNITS_BYTES];
    (void)cllm_format_bytes(done, progress->done);
    (void)cllm_format_bytes(total, progress->total);
    (void)cllm_format_bytes(speed, (uint64_t)rate);
    (void)cllm_format_duration(eta, (uint64_t)(left * 1e9));
    if (terminal)
        cllm_log_status("[%-*.*s] %3.0f %%  %s of %s  %s/s  ETA %s", BAR_WIDTH,
                        (int)(share * BAR_WIDTH), marks, 100 * share, done, total, speed,
                        eta);
    else
        cllm_info("%.0f %%: %s of %s, %s/s, ETA %s", 100 * share, done, total, speed,
                  eta);
}

/* Feed one open document. */
static int copy_bytes(const struct cllm_prep_document *document, int fd, uint8_t *block,
                      struct cllm_prep_output *output, struct progress *progress)
{
    struct stat st;
    int rc = 0;

    for (uint64_t done = 0; rc == 0 && done < document->bytes;) {
        size_t n = (size_t)cllm_min_u64(COPY_BYTES, document->bytes - done);
        rc = cllm_file_pread_all(fd, block, n, document->off + done, document->path);
        if (rc == 0)
            rc = cllm_prep_output_put(output, block, n);
        if (rc == 0 && interrupted)
            rc = cllm_err(-EINTR, "stopped");
        done += n;
        progress->done += n;
        show(progress);
    }
    if (rc == 0 && fstat(fd, &st) == 0 &&
        (uint64_t)st.st_size != document->off + document->bytes)
        rc = cllm_err(
            CLLM_EDATA,
            "%s has changed while it was read: it had %" PRIu64 " bytes, now %lld",
            document->path, document->off + document->bytes, (long long)st.st_size);
    return rc;
}

/* The whole stream: documents and what separates them. */
static int copy_stream(const struct options *options, const struct cllm_prep_input *input,
                       struct cllm_prep_output *output, struct progress *progress)
{
    uint8_t *block = malloc(COPY_BYTES);
    int rc = block == NULL ? cllm_err(-ENOMEM, "cannot read the documents") : 0;

    for (size_t i = 0; rc == 0 && i < input->n_documents; i++) {
        const struct cllm_prep_document *document = &input->document[i];
        if (i > 0)
            rc = cllm_prep_output_put(output, options->separator,
                                      options->separator_bytes);
        if (rc < 0)
            break;
        int fd = open(document->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0) {
            rc = cllm_err(-errno, "cannot open %s", document->path);
            break;
        }
        rc = copy_bytes(document, fd, block, output, progress);
        (void)close(fd);
    }
    free(block);
    cllm_log_status("%s", "");
    return rc;
}

/* What was passed over, and what came out. */
static void report_input(const struct cllm_prep_input *input)
{
    char bytes[CLLM_UNITS_BYTES];
    const struct {
        uint64_t n;
        const char *what;
    } notes[] = {
        {input->n_binary, "binary (not text)"},
        {input->n_hidden, "hidden (name begins with a dot)"},
        {input->n_special, "neither files nor directories"},
        {input->n_empty, "empty"},
    };

    for (size_t i = 0; i < CLLM_LEN(notes); i++) {
        if (notes[i].n > 0)
            cllm_info("passed over: %" PRIu64 " %s", notes[i].n, notes[i].what);
    }
    if (input->n_marks > 0)
        cllm_info("dropped: %" PRIu64 " byte order mark(s)", input->n_marks);
    cllm_info("documents: %zu, %s", input->n_documents,
              cllm_format_bytes(bytes, input->bytes));
}

static void report_output(const struct cllm_prep_output *output)
{
    cllm_info("train: %" PRIu64 " tokens, %u shard(s)", output->n_train,
              output->n_train_shards);
    cllm_info("validation: %" PRIu64 " tokens, the end of the text, %u shard(s)",
              output->n_val, output->n_shards - output->n_train_shards);
    cllm_info("written: %s/dataset.json and the shards it lists", output->dir);
}

/* Plan and write, after the input is known. */
static int write_shards(const struct options *options,
                        const struct cllm_prep_input *input)
{
    struct cllm_prep_output output = {0};
    struct cllm_prep_facts facts = {.input = input,
                                    .separator = options->separator_text,
                                    .val_fraction = options->val_fraction};
    struct progress progress = {.begun_ns = cllm_now_ns(), .total = input->bytes};
    uint64_t n_tokens =
        input->bytes + (input->n_documents - 1) * options->separator_bytes;
    int rc = cllm_prep_output_init(&output, options->out_dir, n_tokens,
                                   options->val_fraction, options->shard_tokens);

    if (rc == 0)
        rc = cllm_prep_output_clear(options->out_dir, options->force);
    if (rc < 0) {
        cllm_prep_output_fini(&output);
        return rc;
    }
    progress.shown_ns = progress.begun_ns;
    rc = copy_stream(options, input, &output, &progress);
    if (rc == 0)
        rc = cllm_prep_output_finish(&output, &facts);
    if (rc == 0)
        report_output(&output);
    else
        cllm_prep_output_undo(&output);
    cllm_prep_output_fini(&output);
    return rc;
}

static int prepare(const struct options *options, char **arguments, int n)
{
    struct cllm_prep_input input;
    struct stat st;
    bool was_there = stat(options->out_dir, &st) == 0;
    int rc = cllm_file_mkdirs(options->out_dir);

    if (rc == 0 && !options->force)
        rc = cllm_prep_output_clear(options->out_dir, false);
    if (rc < 0)
        return rc;
    cllm_prep_input_init(&input, options->out_dir);
    for (int i = 0; rc == 0 && i < n; i++)
        rc = cllm_prep_input_add(&input, arguments[i]);
    if (rc == 0 && input.n_documents == 0) {
        rc = cllm_err(CLLM_EDATA, "the input is empty");
        cllm_err_detail("of %zu inputs, all are empty; first: %s", input.n_sources,
                        arguments[0]);
    }
    if (rc == 0) {
        report_input(&input);
        rc = write_shards(options, &input);
    }
    cllm_prep_input_fini(&input);
    if (rc < 0 && !was_there)
        (void)rmdir(options->out_dir); /* only if it is empty, as we made it */
    return rc;
}

int main(int argc, char **argv)
{
    struct options options = {.out_dir = "",
                              .val_fraction = 0.1,
                              .shard_tokens = 100000000,
                              .separator_text = SEPARATOR_DEFAULT};
    struct sigaction action = {.sa_handler = on_signal};
    int rc = parse_options(argc, argv, &options);

    if (rc == 1)
        return fflush(stdout) == 0 ? CLLM_EXIT_OK : CLLM_EXIT_FAILURE;
    if (rc < 0) {
        if (cllm_err_text()[0] != '\0')
            cllm_err_print(PROGRAM);
        return usage_error();
    }
    cllm_log_init(PROGRAM, options.quiet ? CLLM_LOG_WARN : CLLM_LOG_INFO);
    /* The default actions would leave a temporary shard behind. */
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    rc = prepare(&options, argv + optind, argc - optind);
    if (rc < 0 && interrupted) {
        cllm_error("stopped; no shards are left in %s", options.out_dir);
        return CLLM_EXIT_INTERRUPTED;
    }
    if (rc < 0)
        cllm_err_print(PROGRAM);
    return cllm_exit_code(rc);
}
