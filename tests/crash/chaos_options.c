/*
 * tests/crash/chaos_options.c - a table of options, most of them numbers.
 */
#include "tests/crash/chaos_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/crash/chaos_run.h"

static void usage(void)
{
    (void)fprintf(
        stderr,
        "usage: chaos [OPTION...]     in the root of the tree\n"
        "  --mode kill|node-zero|stop|fault|load|goodput|mttr   (kill)\n"
        "  --model NAME      configs/NAME.ini (nano)\n"
        "  --set KEY=VALUE   an option of every run; up to four\n"
        "  --hits N          go on until so many signals hit; mttr: samples of a "
        "series;\n"
        "                    goodput: pairs of runs\n"
        "  --cells N         and so many in each role and phase\n"
        "  --seconds N       or until so long; goodput: of a run\n"
        "  --seed N          of the campaign (from the clock)\n"
        "  --replay SEED     one run, by the seed that a failure printed\n"
        "  --focus ROLE:PHASE    every other shot is for this cell (the emptiest one)\n"
        "  --steps N --workers N --spares N --shots N    of a run\n"
        "  --gap US          mean time between two shots\n"
        "  --tree-every N    node-zero: one shot in so many is for the whole tree\n"
        "  --results FILE    append a line of JSON\n"
        "  --bin DIR         the programs (../../bin beside this one)\n"
        "  --keep            keep the work directory\n");
}

static void set_defaults(struct chaos_options *options)
{
    switch (options->mode) {
    case CHAOS_STOP:
        options->gap_us = 40000;
        options->shots = 60;
        break;
    case CHAOS_NODE_ZERO_KILL:
        options->gap_us = 20000;
        options->shots = 20;
        break;
    case CHAOS_FAULT:
        options->shots = 80;
        break;
    case CHAOS_MTTR:
        options->model = "tiny";
        options->steps = 1000000;
        options->hits = 200;
        options->workers = 1;
        break;
    case CHAOS_GOODPUT:
        options->model = "demo";
        options->steps = 1000000;
        options->seconds = 120; /* a run */
        options->hits = 2;      /* pairs of runs */
        options->workers = 2;
        break;
    case CHAOS_LOAD:
        options->seconds = 60;
        break;
    case CHAOS_KILL:
    case CHAOS_MODES:
    default:
        break;
    }
}

static void find_binaries(struct chaos_options *options)
{
    const char *slash = strrchr(options->program, '/');

    (void)snprintf(options->bin, sizeof options->bin, "%.*s/../../bin",
                   slash ? (int)(slash - options->program) : 1,
                   slash ? options->program : ".");
}

static bool read_number(const char *text, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' && text[0] >= '0' && text[0] <= '9';
}

static bool set_u64(uint64_t *field, const char *text)
{
    return read_number(text, field);
}

static bool set_u32(uint32_t *field, const char *text)
{
    uint64_t value;

    if (!read_number(text, &value) || value > UINT32_MAX)
        return false;
    *field = (uint32_t)value;
    return true;
}

static bool add_set(struct chaos_options *options, const char *text)
{
    uint32_t n = 0;

    while (options->set[n])
        n++;
    if (n == CHAOS_OWN_SETS || strlen(text) >= CHAOS_SET_BYTES)
        return false;
    options->set[n] = text;
    return true;
}

static bool set_text(struct chaos_options *options, int letter, const char *text)
{
    struct chaos_plan plan;

    switch (letter) {
    case 'm':
        return chaos_mode_find(text) != CHAOS_MODES; /* was set before */
    case 'M':
        options->model = text;
        return true;
    case 'S':
        return add_set(options, text);
    case 'f':
        options->focus = text;
        return chaos_plan_set_focus(&plan, text);
    case 'R':
        options->results = text;
        return true;
    case 'b':
        (void)snprintf(options->bin, sizeof options->bin, "%s", text);
        return true;
    default:
        options->keep = true;
        return letter == 'k';
    }
}

static bool set_option(struct chaos_options *options, int letter, const char *text)
{
    switch (letter) {
    case 'h':
        return set_u64(&options->hits, text);
    case 'c':
        return set_u64(&options->cells, text);
    case 't':
        return set_u64(&options->seconds, text);
    case 's':
        return set_u64(&options->seed, text);
    case 'r':
        options->has_replay = true;
        return set_u64(&options->replay, text);
    case 'n':
        return set_u64(&options->steps, text);
    case 'w':
        return set_u32(&options->workers, text);
    case 'p':
        return set_u32(&options->spares, text);
    case 'o':
        return set_u32(&options->shots, text);
    case 'g':
        return set_u32(&options->gap_us, text);
    case 'e':
        return set_u32(&options->tree_every, text);
    default:
        return set_text(options, letter, text);
    }
}

static const struct option table[] = {
    {"mode", 1, NULL, 'm'},    {"model", 1, NULL, 'M'},      {"hits", 1, NULL, 'h'},
    {"cells", 1, NULL, 'c'},   {"seconds", 1, NULL, 't'},    {"seed", 1, NULL, 's'},
    {"replay", 1, NULL, 'r'},  {"focus", 1, NULL, 'f'},      {"steps", 1, NULL, 'n'},
    {"workers", 1, NULL, 'w'}, {"spares", 1, NULL, 'p'},     {"shots", 1, NULL, 'o'},
    {"gap", 1, NULL, 'g'},     {"tree-every", 1, NULL, 'e'}, {"results", 1, NULL, 'R'},
    {"bin", 1, NULL, 'b'},     {"set", 1, NULL, 'S'},        {"keep", 0, NULL, 'k'},
    {NULL, 0, NULL, 0}};

/* The mode decides the defaults of the rest, wherever it stands. */
static void find_mode(struct chaos_options *options, int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], "--mode") == 0)
            options->mode = chaos_mode_find(argv[i + 1]);
}

static void name_runs(struct chaos_options *options)
{
    size_t used;

    (void)snprintf(options->label, sizeof options->label, "%s", options->model);
    for (uint32_t i = 0; options->set[i]; i++) {
        used = strlen(options->label);
        (void)snprintf(options->label + used, sizeof options->label - used, " %s",
                       options->set[i]);
    }
}

bool chaos_options_parse(struct chaos_options *options, int argc, char **argv)
{
    int letter;

    *options = (struct chaos_options){.program = argv[0],
                                      .mode = CHAOS_KILL,
                                      .model = "nano",
                                      .seed = cllm_now_ns(),
                                      .hits = 500,
                                      .steps = 250,
                                      .shots = 200,
                                      .workers = 4,
                                      .gap_us = 1500,
                                      .tree_every = 5};
    find_mode(options, argc, argv);
    set_defaults(options);
    find_binaries(options);
    while ((letter = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (letter != '?' && set_option(options, letter, optarg))
            continue;
        if (letter != '?')
            (void)fprintf(stderr, "chaos: %s is no value for this option\n", optarg);
        usage();
        return false;
    }
    if (optind != argc)
        usage();
    name_runs(options);
    (void)snprintf(options->ini, sizeof options->ini, "configs/%.400s.ini",
                   options->model);
    return optind == argc;
}
