/*
 * tools/prep_options.c - getopt, and a text for everything that is wrong.
 */
#include "tools/prep_options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/bpe_train.h"
#include "formats/shard.h"
#include "tools/prep_output.h"
#include "tools/prep_pipe.h"

static void print_help(void)
{
    (void)fputs(
        "Usage: cllm-prep [OPTION]... -o DIR FILE|DIRECTORY|-...\n"
        "Turn text into token shards (llm.c format) for training.\n"
        "\n"
        "Files may be text or JSON lines, packed with gzip or zstd or not. Directories "
        "are\n"
        "read with all that is in them, sorted by name; hidden and binary files are "
        "passed\n"
        "over and counted. - is stdin.\n"
        "\n"
        "  -o, --output DIR        write train_NNN.bin, val_NNN.bin, dataset.json and "
        "the\n"
        "                          tokenizer's files there; it is made if missing\n"
        "\n"
        "Tokens:\n"
        "      --tokenizer X       bytes (a token is a byte; default), or a path:\n"
        "                          tokenizer.json, vocab.json beside merges.txt,\n"
        "                          merges.txt, a tiktoken file, a directory with them\n"
        "      --train-vocab N     train a BPE vocabulary of N tokens on the text first\n"
        "      --pattern X         how it splits text: gpt2 (default), cl100k, o200k\n"
        "      --renumber          new ids by frequency: 0 is the most frequent token "
        "of\n"
        "                          the training text; saved with the tokenizer\n"
        "      --allow-special     special tokens in the text become themselves; "
        "without\n"
        "                          it they are text like any other\n"
        "\n"
        "Documents:\n"
        "      --format X          auto (default: *.jsonl and *.ndjson, perhaps with "
        ".gz\n"
        "                          or .zst, are JSON lines), text, jsonl\n"
        "      --text-key NAME     member of a JSON line that holds the text (default\n"
        "                          text)\n"
        "      --bad-lines X       error (default) or skip: JSON lines that cannot be "
        "used\n"
        "      --doc-sep LINE      a line of a text file that ends a document, such as\n"
        "                          '<|endoftext|>'; default: a file is a document\n"
        "      --separator TEXT    tokens of this text between documents; knows \\n \\t "
        "\\r\n"
        "                          \\0 \\\\ and \\xHH; \"\" = nothing (default: the\n"
        "                          end-of-text token; without one \"\\n\\n\")\n"
        "      --invalid-utf8 X    replace (by U+FFFD; default), bytes (keep; default "
        "for\n"
        "                          the tokenizer bytes), error\n"
        "\n"
        "Shards:\n"
        "      --val-fraction X    share of the text, its last part, that is kept for\n"
        "                          validation; 0 = none (default 0.1)\n"
        "      --shard-tokens N    most tokens in a shard (default 100000000)\n"
        "      --force             replace an earlier data set in DIR\n"
        "      --threads N         default: as many as there are processors; the result\n"
        "                          is the same\n"
        "\n"
        "  -v, --verbose           name every file that is passed over\n"
        "  -q, --quiet             errors and warnings only\n"
        "  -h, --help              this text\n"
        "  -V, --version           version\n"
        "\n"
        "Killed or stopped, it goes on when it is given the same arguments again.\n"
        "\n"
        "Exit codes: 0 done, 1 failure, 2 usage, 3 bad data, 130 interrupted.\n"
        "\n"
        "Examples:\n"
        "  cllm-prep -o data/books --train-vocab 8192 books/ letters.txt\n"
        "  cllm-prep -o data/web --tokenizer models/gpt2 --text-key content "
        "web/*.jsonl.zst\n",
        stdout);
}

int cllm_prep_usage_error(void)
{
    (void)fprintf(stderr, "Try '" CLLM_PREP_PROGRAM " --help' for more information.\n");
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

static int parse_separator(struct cllm_prep_options *options)
{
    const char *p = options->separator_text;
    size_t n = 0;

    if (p == NULL)
        return 0;
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
        if (n == CLLM_PREP_SEPARATOR_BYTES)
            return cllm_err(CLLM_ECONFIG, "--separator: more than %d bytes",
                            CLLM_PREP_SEPARATOR_BYTES);
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

/* A whole number in [@min, @max]. */
static int parse_number(const char *option, const char *text, uint64_t min, uint64_t max,
                        uint64_t *out)
{
    char *end = NULL;

    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || errno != 0 || *end != '\0' || value < min ||
        value > max)
        return cllm_err(CLLM_ECONFIG,
                        "--%s: expected a whole number from %" PRIu64 " to %" PRIu64
                        ", found %s",
                        option, min, max, text);
    *out = value;
    return 0;
}

/* One of the words in @choices, which are separated by blanks; *@out is its number. */
static int parse_choice(const char *option, const char *text, const char *choices,
                        uint32_t *out)
{
    const char *p = choices;
    size_t length = strlen(text);

    for (uint32_t i = 0; *p != '\0'; i++) {
        size_t n = strcspn(p, " ");
        if (n == length && strncmp(p, text, n) == 0) {
            *out = i;
            return 0;
        }
        p += n + (p[n] == ' ' ? 1 : 0);
    }
    return cllm_err(CLLM_ECONFIG, "--%s: expected one of %s; found %s", option, choices,
                    text);
}

/* Long options without a letter. */
enum {
    OPTION_ALLOW_SPECIAL = 256,
    OPTION_BAD_LINES,
    OPTION_DOC_SEP,
    OPTION_FORCE,
    OPTION_FORMAT,
    OPTION_INVALID,
    OPTION_PATTERN,
    OPTION_RENUMBER,
    OPTION_SEPARATOR,
    OPTION_SHARD_TOKENS,
    OPTION_TEXT_KEY,
    OPTION_THREADS,
    OPTION_TOKENIZER,
    OPTION_TRAIN_VOCAB,
    OPTION_VAL_FRACTION
};

/* Options with a word or a number that must be looked at. */
static int set_value(struct cllm_prep_options *options, int option, const char *text)
{
    uint64_t number = 0;
    uint32_t choice = 0;
    int rc;

    switch (option) {
    case OPTION_BAD_LINES:
        rc = parse_choice("bad-lines", text, "error skip", &choice);
        options->skip_bad = choice == 1;
        return rc;
    case OPTION_FORMAT:
        rc = parse_choice("format", text, "auto text jsonl", &choice);
        options->format = (enum cllm_prep_format)choice;
        return rc;
    case OPTION_INVALID:
        rc = parse_choice("invalid-utf8", text, "bytes replace error", &choice);
        options->invalid = (enum cllm_prep_invalid)(choice + 1);
        return rc;
    case OPTION_SHARD_TOKENS:
        return parse_number("shard-tokens", text, (uint64_t)2 * CLLM_PREP_MIN_TOKENS,
                            CLLM_SHARD_TOKENS_MAX, &options->shard_tokens);
    case OPTION_THREADS:
        rc = parse_number("threads", text, 1, CLLM_PREP_THREADS_MOST, &number);
        options->threads = (uint32_t)number;
        return rc;
    case OPTION_TRAIN_VOCAB:
        rc = parse_number("train-vocab", text, CLLM_BPE_VOCAB_MIN, CLLM_TOKENIZER_MAX,
                          &number);
        options->train_vocab = (uint32_t)number;
        return rc;
    default:
        CLLM_ASSERT(option == OPTION_VAL_FRACTION);
        return parse_fraction(text, &options->val_fraction);
    }
}

/* One option; 1: there is nothing left to do. */
static int set(struct cllm_prep_options *options, int option, const char *text)
{
    switch (option) {
    case 'o':
        options->out_dir = text;
        return 0;
    case OPTION_TOKENIZER:
        options->tokenizer = text;
        return 0;
    case OPTION_PATTERN:
        options->pattern = text;
        return 0;
    case OPTION_TEXT_KEY:
        options->text_key = text;
        return 0;
    case OPTION_DOC_SEP:
        options->document_line = text;
        return 0;
    case OPTION_SEPARATOR:
        options->separator_text = text;
        return 0;
    case OPTION_ALLOW_SPECIAL:
        options->allow_special = true;
        return 0;
    case OPTION_RENUMBER:
        options->renumber = true;
        return 0;
    case OPTION_FORCE:
        options->force = true;
        return 0;
    case 'q':
        options->quiet = true;
        return 0;
    case 'v':
        options->verbose = true;
        return 0;
    case 'h':
        print_help();
        return 1;
    case 'V':
        (void)printf(CLLM_PREP_PROGRAM " (cllm) " CLLM_VERSION "\n");
        return 1;
    case '?':
        return CLLM_ECONFIG;
    default:
        return set_value(options, option, text);
    }
}

/* What single options cannot know. */
static int check(struct cllm_prep_options *options)
{
    if (options->out_dir[0] == '\0')
        return cllm_err(CLLM_ECONFIG, "no output directory given (-o DIR)");
    if (options->train_vocab > 0 && options->tokenizer != NULL)
        return cllm_err(CLLM_ECONFIG,
                        "--train-vocab makes a tokenizer, --tokenizer gives one: one of "
                        "them is enough");
    if (options->pattern != NULL && options->train_vocab == 0)
        return cllm_err(CLLM_ECONFIG, "--pattern is of --train-vocab, which is missing");
    if (strchr(options->document_line, '\n') != NULL)
        return cllm_err(CLLM_ECONFIG, "--doc-sep: expected one line, found several");
    if (options->tokenizer == NULL)
        options->tokenizer = CLLM_TOKENIZER_BYTES;
    if (options->pattern == NULL)
        options->pattern = "gpt2";
    return parse_separator(options);
}

int cllm_prep_options_parse(struct cllm_prep_options *options, int argc, char **argv)
{
    static const struct option longs[] = {
        {"allow-special", no_argument, NULL, OPTION_ALLOW_SPECIAL},
        {"bad-lines", required_argument, NULL, OPTION_BAD_LINES},
        {"doc-sep", required_argument, NULL, OPTION_DOC_SEP},
        {"force", no_argument, NULL, OPTION_FORCE},
        {"format", required_argument, NULL, OPTION_FORMAT},
        {"help", no_argument, NULL, 'h'},
        {"invalid-utf8", required_argument, NULL, OPTION_INVALID},
        {"output", required_argument, NULL, 'o'},
        {"pattern", required_argument, NULL, OPTION_PATTERN},
        {"quiet", no_argument, NULL, 'q'},
        {"renumber", no_argument, NULL, OPTION_RENUMBER},
        {"separator", required_argument, NULL, OPTION_SEPARATOR},
        {"shard-tokens", required_argument, NULL, OPTION_SHARD_TOKENS},
        {"text-key", required_argument, NULL, OPTION_TEXT_KEY},
        {"threads", required_argument, NULL, OPTION_THREADS},
        {"tokenizer", required_argument, NULL, OPTION_TOKENIZER},
        {"train-vocab", required_argument, NULL, OPTION_TRAIN_VOCAB},
        {"val-fraction", required_argument, NULL, OPTION_VAL_FRACTION},
        {"verbose", no_argument, NULL, 'v'},
        {"version", no_argument, NULL, 'V'},
        {0},
    };
    int rc = 0;
    int c;

    *options = (struct cllm_prep_options){.out_dir = "",
                                          .text_key = "text",
                                          .document_line = "",
                                          .val_fraction = 0.1,
                                          .shard_tokens = 100000000};
    while (rc == 0 && (c = getopt_long(argc, argv, "o:qvhV", longs, NULL)) != -1)
        rc = set(options, c, optarg);
    if (rc != 0)
        return rc;
    options->first_argument = optind;
    rc = check(options);
    if (rc == 0 && optind == argc)
        rc =
            cllm_err(CLLM_ECONFIG, "no input given (files, directories, or - for stdin)");
    return rc;
}
