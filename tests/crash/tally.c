/*
 * tests/crash/tally.c - count, say, replay.
 */
#include "tests/crash/tally.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define SHOWN_FAILURES 20

/* Kinds of reasons by the words that give them away, the more special first. */
static struct {
    const char *words, *kind;
    uint64_t n;
} reasons[] = {
    {"its SHA-256 is not", "SHA-256 differs", 0},
    {"is not as it was written", "manifest not in its exact form", 0},
    {"manifest.json is missing", "no manifest", 0},
    {"is missing", "file missing", 0},
    {"is not a regular file", "not a regular file", 0},
    {" bytes, found ", "size differs", 0},
    {"run.json is of step", "directory of another step", 0},
    {"lists more or less", "manifest lists other files", 0},
    {"cannot be read as JSON", "no JSON", 0},
    {"expected an object", "no JSON", 0},
    {"\"format\"", "another format", 0},
    {"\"version\"", "another version", 0},
    {"not a sound safetensors", "safetensors header", 0},
    {"tensor \"", "tensor table", 0},
    {"truncated", "truncated", 0},
    {"is too long", "too long", 0},
    {"is not a token shard", "no shard", 0},
    {"unknown version of a token shard", "shard version", 0},
    {"a token shard must hold tokens", "shard token count", 0},
    {"ends too soon", "file ends too soon", 0},
    {"has changed since", "shard is not that of the manifest", 0},
    {"manifest of the data", "data manifest", 0},
    {"is not a finished control object", "control: not finished", 0},
    {"was made by another build", "control: another build", 0},
    {"is damaged", "control: damaged", 0},
    {" near ", "no JSON", 0},
    {"No such file", "no such file", 0},
    {"is outside the vocabulary", "token outside the vocabulary", 0},
    {"", "other", 0},
};

static void usage(const struct tally *tally, const char *what)
{
    (void)printf("Usage: %s [--quick] [--seed N] [--seconds N] [--replay CASE]\n\n%s\n",
                 tally->program, what);
}

void tally_begin(struct tally *tally, int argc, char **argv, const char *what)
{
    static const struct option longopts[] = {
        {"quick", no_argument, NULL, 'q'},
        {"seed", required_argument, NULL, 's'},
        {"seconds", required_argument, NULL, 't'},
        {"replay", required_argument, NULL, 'r'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int opt;

    *tally = (struct tally){.program = argv[0], .seed = 1, .begin_ns = cllm_now_ns()};
    while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
        switch (opt) {
        case 'q':
            tally->quick = true;
            break;
        case 's':
            tally->seed = strtoull(optarg, NULL, 0);
            break;
        case 't':
            tally->seconds = strtoull(optarg, NULL, 10);
            break;
        case 'r':
            tally->replay = optarg;
            break;
        case 'h':
            usage(tally, what);
            exit(0);
        default:
            usage(tally, what);
            exit(2);
        }
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)printf("%s seed %" PRIu64 "\n", tally->program, tally->seed);
}

bool tally_case(struct tally *tally, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(tally->now, sizeof tally->now, fmt, ap);
    va_end(ap);
    return tally->replay == NULL || strcmp(tally->replay, tally->now) == 0;
}

bool tally_fail(struct tally *tally, const char *fmt, ...)
{
    va_list ap;

    if (tally->failed++ >= SHOWN_FAILURES)
        return false;
    (void)printf("FAILED %s: ", tally->now);
    va_start(ap, fmt);
    (void)vprintf(fmt, ap);
    va_end(ap);
    (void)printf("\n  again: %s --seed %" PRIu64 " --replay %s\n", tally->program,
                 tally->seed, tally->now);
    return false;
}

bool tally_time_is_up(const struct tally *tally, uint64_t seconds)
{
    uint64_t limit = tally->seconds > 0 ? tally->seconds : seconds;

    return cllm_now_ns() - tally->begin_ns > limit * CLLM_NS_PER_S;
}

int tally_end(const struct tally *tally)
{
    bool empty = tally->passed + tally->failed == 0;

    if (empty)
        (void)printf("no case was tried\n");
    (void)printf("%.1f s\n%" PRIu64 " passed, %" PRIu64 " failed\n",
                 (double)(cllm_now_ns() - tally->begin_ns) / CLLM_NS_PER_S, tally->passed,
                 tally->failed);
    return tally->failed > 0 || empty ? 1 : 0;
}

void tally_reason(const char *text)
{
    size_t i = 0;

    while (strstr(text, reasons[i].words) == NULL)
        i++;
    reasons[i].n++;
}

void tally_print_reasons(void)
{
    for (size_t i = 0; i < CLLM_LEN(reasons); i++) {
        uint64_t n = reasons[i].n;

        for (size_t j = i + 1; j < CLLM_LEN(reasons); j++) {
            if (strcmp(reasons[j].kind, reasons[i].kind) == 0) {
                n += reasons[j].n;
                reasons[j].n = 0;
            }
        }
        if (n > 0)
            (void)printf("  refused %10" PRIu64 "  %s\n", n, reasons[i].kind);
    }
}
