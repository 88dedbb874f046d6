/*
 * tools/bench.c - cllm-bench: how fast a configuration trains on this machine, where the
 * time goes, and how far that is from what the machine could do.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/units.h"
#include "compute/ops.h"
#include "tools/bench_calibrate.h"
#include "tools/bench_choice.h"
#include "tools/bench_kernels.h"
#include "tools/bench_measure.h"
#include "tools/bench_report.h"
#include "tools/bench_tune.h"
#include "tools/shm_json.h"

#define PROGRAM        "cllm-bench"
#define DEFAULT_CONFIG "cache-384"
#define MAX_SETTINGS   16
#define LINE_BYTES     256

struct request {
    const char *config; /* NULL = DEFAULT_CONFIG */
    uint32_t workers[MAX_SETTINGS];
    uint32_t n_workers; /* 0 = as the configuration says */
    uint64_t checkpoint_every;
    bool kernels, json, markdown, calibrate, tune, dry_run;
    struct cllm_bench_measure measure;
};

static void print_help(void)
{
    (void)printf(
        "Usage: " PROGRAM " [OPTION]... [CONFIG]\n"
        "Train CONFIG for a while on data made up for it, and say how fast that is.\n"
        "CONFIG is a file, or NAME for configs/NAME.ini; default: " DEFAULT_CONFIG ".\n\n"
        "  -n, --workers=N[,N]... worker processes; several are measured in turns\n"
        "  -m, --model=CONFIG     the same as CONFIG\n"
        "  -s, --steps=N          steps in a repeat (default: about two seconds of "
        "them)\n"
        "  -r, --repeat=N         repeats, of which the median counts (default: 5)\n"
        "      --warmup=N         steps before, not counted (default: 2)\n"
        "      --checkpoint=N     also with a checkpoint every N steps: what it costs\n"
        "      --set=SECTION.KEY=VALUE  override an option of the configuration\n"
        "      --kernels          each operation alone against its own limit\n"
        "      --calibrate        measure a few settings that leave the bits alone "
        "(workers,\n"
        "                         or those of -n; pin; lane_buffers), and write those "
        "into\n"
        "                         the file CONFIG that are better by more than the "
        "spread\n"
        "      --tune-opencl      which matrix products are the fastest on the device of "
        "CONFIG\n"
        "                         ([compute] device), for the shapes of its model; kept "
        "for the\n"
        "                         workers that open it next; the bits stay the same\n"
        "      --dry-run          with --calibrate, --tune-opencl: change no file\n"
        "      --json             for programs; to standard output\n"
        "      --markdown         a table for documents\n"
        "      --help             this text\n"
        "      --version          version\n\n"
        "Exit code: 0 done; 1 failure; 2 usage or configuration.\n");
}

/* ---- arguments ---- */

static int refuse(const char *what, const char *text)
{
    int rc = cllm_err(CLLM_ECONFIG, "%s \"%s\"", what, text);

    cllm_err_hint(PROGRAM " --help");
    return rc;
}

/* A whole number from 1 to @most; *@end is moved behind it. */
static bool take_number(const char **end, uint64_t most, uint64_t *out)
{
    char *after;

    if (**end < '0' || **end > '9')
        return false;
    errno = 0;
    *out = strtoull(*end, &after, 10);
    *end = after;
    return errno == 0 && *out >= 1 && *out <= most;
}

static int parse_number(const char *option, const char *text, uint64_t most,
                        uint64_t *out)
{
    const char *end = text;
    char what[LINE_BYTES];

    if (take_number(&end, most, out) && *end == '\0')
        return 0;
    (void)snprintf(what, sizeof what, "--%s is a whole number from 1 to %llu, not",
                   option, (unsigned long long)most);
    return refuse(what, text);
}

static int parse_workers(struct request *request, const char *text)
{
    const char *end = text;
    uint64_t n = 0;

    request->n_workers = 0;
    while (request->n_workers < MAX_SETTINGS && take_number(&end, CLLM_MAX_WORKERS, &n)) {
        request->workers[request->n_workers++] = (uint32_t)n;
        if (*end == '\0')
            return 0;
        if (*end++ != ',')
            break;
    }
    return refuse(
        "--workers is at most 16 numbers from 1 to 144 with commas between, not", text);
}

static int parse_set(struct request *request, const char *text)
{
    struct cllm_bench_job *job = &request->measure.job;

    if (job->n_sets == CLLM_BENCH_SETS)
        return refuse("too many --set options at", text);
    job->set[job->n_sets++] = text;
    return 0;
}

static int parse_option(struct request *request, int option, const char *text)
{
    uint64_t number = 0;
    int rc = 0;

    switch (option) {
    case 'n':
        return parse_workers(request, text);
    case 'm':
        request->config = text;
        return 0;
    case 's':
        return parse_number("steps", text, 1000000, &request->measure.steps);
    case 'r':
        rc = parse_number("repeat", text, CLLM_BENCH_REPEATS, &number);
        request->measure.repeats = (uint32_t)number;
        return rc;
    case 'w':
        return parse_number("warmup", text, 1000000, &request->measure.warmup);
    case 'c':
        return parse_number("checkpoint", text, 1000000, &request->checkpoint_every);
    case 'S':
        return parse_set(request, text);
    case 'k':
        request->kernels = true;
        return 0;
    case 'C':
        request->calibrate = true;
        return 0;
    case 'T':
        request->tune = true;
        return 0;
    case 'D':
        request->dry_run = true;
        return 0;
    case 'j':
        request->json = true;
        return 0;
    case 'd':
        request->markdown = true;
        return 0;
    case 'h':
        print_help();
        exit(CLLM_EXIT_OK);
    case 'v':
        (void)printf(PROGRAM " (cllm) " CLLM_VERSION "\n");
        exit(CLLM_EXIT_OK);
    default: /* getopt has said what is wrong */
        (void)fputs("hint: " PROGRAM " --help\n", stderr);
        exit(CLLM_EXIT_USAGE);
    }
}

/* What goes with --calibrate, which changes a file: that one has to be named. */
static int check_calibrate(const struct request *request)
{
    const struct cllm_bench_measure *measure = &request->measure;

    if (request->dry_run && !request->calibrate && !request->tune)
        return refuse("only with --calibrate or --tune-opencl:", "--dry-run");
    if (!request->calibrate)
        return 0;
    if (!request->config)
        return refuse("a CONFIG to write into is missing after", "--calibrate");
    if (request->kernels || request->json || request->markdown ||
        request->checkpoint_every > 0)
        return refuse("not with --kernels, --json, --markdown, --checkpoint:",
                      "--calibrate");
    if (measure->repeats < CLLM_BENCH_CALIBRATE_REPEATS)
        return refuse("fewer than five --repeat are too few for", "--calibrate");
    if (measure->job.n_sets > CLLM_BENCH_SETS - CLLM_BENCH_KNOBS)
        return refuse("too many --set options with", "--calibrate");
    for (uint32_t i = 0; i < measure->job.n_sets; i++)
        if (cllm_bench_calibrate_owns(measure->job.set[i]))
            return refuse("--calibrate chooses that itself: leave out --set",
                          measure->job.set[i]);
    return 0;
}

/* What goes with --tune-opencl, which trains nothing. */
static int check_tune(const struct request *request)
{
    if (!request->tune)
        return 0;
    if (request->kernels || request->json || request->markdown || request->calibrate ||
        request->checkpoint_every > 0 || request->n_workers > 0)
        return refuse(
            "not with --kernels, --json, --markdown, --calibrate, --checkpoint, "
            "--workers:",
            "--tune-opencl");
    if (request->measure.repeats < CLLM_BENCH_TUNE_ROUNDS)
        return refuse("fewer than five --repeat are too few for", "--tune-opencl");
    return 0;
}

static int parse(struct request *request, int argc, char **argv)
{
    static const struct option options[] = {{"workers", required_argument, NULL, 'n'},
                                            {"model", required_argument, NULL, 'm'},
                                            {"steps", required_argument, NULL, 's'},
                                            {"repeat", required_argument, NULL, 'r'},
                                            {"warmup", required_argument, NULL, 'w'},
                                            {"checkpoint", required_argument, NULL, 'c'},
                                            {"set", required_argument, NULL, 'S'},
                                            {"kernels", no_argument, NULL, 'k'},
                                            {"calibrate", no_argument, NULL, 'C'},
                                            {"tune-opencl", no_argument, NULL, 'T'},
                                            {"dry-run", no_argument, NULL, 'D'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"markdown", no_argument, NULL, 'd'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'v'},
                                            {NULL, 0, NULL, 0}};
    int option, rc = 0;

    while (rc == 0 && (option = getopt_long(argc, argv, "n:m:s:r:", options, NULL)) != -1)
        rc = parse_option(request, option, optarg);
    if (rc == 0 && optind < argc)
        request->config = argv[optind++];
    if (rc == 0 && optind < argc)
        return refuse("one configuration at a time: what is", argv[optind]);
    if (rc == 0 && request->json && request->markdown)
        return refuse("either --json or", "--markdown");
    if (rc == 0 && request->checkpoint_every > 0 && request->n_workers > 1)
        return refuse("--checkpoint with one number of --workers, not with", "several");
    if (rc == 0)
        rc = check_tune(request);
    return rc == 0 ? check_calibrate(request) : rc;
}

/* ---- configuration ---- */

/* The file that @name means: itself, or configs/NAME.ini here or where this was built. */
static void find_config(char path[CLLM_FILE_PATH_BYTES], const char *name)
{
    char exe[CLLM_FILE_PATH_BYTES];
    ssize_t n;

    (void)snprintf(path, CLLM_FILE_PATH_BYTES, "%s", name);
    if (strchr(name, '/') || access(name, F_OK) == 0)
        return;
    (void)snprintf(path, CLLM_FILE_PATH_BYTES, "configs/%s.ini", name);
    if (access(path, F_OK) == 0)
        return;
    n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = '\0';
    if (n > 0 && strrchr(exe, '/'))
        *strrchr(exe, '/') = '\0';
    if ((size_t)snprintf(path, CLLM_FILE_PATH_BYTES, "%s/../../../configs/%s.ini", exe,
                         name) >= CLLM_FILE_PATH_BYTES ||
        access(path, F_OK) != 0)
        (void)snprintf(path, CLLM_FILE_PATH_BYTES, "configs/%s.ini", name);
}

/* The configuration as the run will have it. */
static int read_config(struct cllm_config *config, const struct request *request)
{
    const struct cllm_bench_job *job = &request->measure.job;
    int rc = cllm_config_read(config, job->config_path);

    for (uint32_t i = 0; i < job->n_sets && rc == 0; i++)
        rc = cllm_config_set(config, job->set[i]);
    if (rc == 0)
        rc = cllm_config_set(config, "run.dir=benchmark");
    if (rc == 0)
        rc = cllm_config_set(config, "data.train=train.bin");
    if (rc == 0)
        rc = cllm_config_check(config);
    return rc;
}

/* Model of the processor, as the system names it. */
static void read_cpu(char cpu[LINE_BYTES])
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[LINE_BYTES], name[160] = "";

    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "model name : %159[^\n]", name) == 1)
            break;
    if (file)
        (void)fclose(file); /* read only */
    uint32_t n = cllm_bench_processes(UINT32_MAX);
    (void)snprintf(cpu, LINE_BYTES, "%s, %u core%s", name[0] ? name : "unknown processor",
                   n, cllm_plural(n));
}

/* ---- what is asked ---- */

static int print_report(const struct request *request,
                        const struct cllm_bench_result *results, uint32_t n)
{
    char cpu[LINE_BYTES];
    const struct cllm_bench_report report = {
        .config = request->config, .cpu = cpu, .result = results, .n = n};

    read_cpu(cpu);
    if (request->json)
        return cllm_shm_json_print(cllm_bench_report_json(&report));
    if (request->markdown)
        cllm_bench_report_markdown(&report);
    else
        cllm_bench_report_text(&report);
    return 0;
}

/* The settings that are asked for; returns how many. */
static uint32_t list_settings(struct cllm_bench_result *results,
                              const struct request *request,
                              const struct cllm_config *config)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < request->n_workers; i++)
        results[n++].workers = request->workers[i];
    if (n == 0)
        results[n++].workers = config->run_workers == CLLM_CONFIG_AUTO
                                   ? 0 /* the coordinator chooses */
                                   : (uint32_t)config->run_workers;
    if (request->checkpoint_every > 0) {
        results[n] = results[0];
        results[n++].checkpoint_every = request->checkpoint_every;
    }
    return n;
}

/* Returns 0 or a negative code whose text has been printed. */
static int bench_training(const struct request *request, struct cllm_config *config)
{
    struct cllm_bench_result *results = calloc(MAX_SETTINGS + 1, sizeof *results);
    struct cllm_bench_calibrate calibrate = {.name = request->config,
                                             .measure = request->measure,
                                             .config = config,
                                             .workers = request->workers,
                                             .n_workers = request->n_workers,
                                             .dry_run = request->dry_run};
    struct cllm_bench_measure *measure = &calibrate.measure;
    struct cllm_bench_data data = {0};
    uint32_t n;
    int removed, rc;

    if (!results) {
        rc = cllm_err(-ENOMEM, "cannot hold the results");
        cllm_err_print(PROGRAM);
        return rc;
    }
    n = list_settings(results, request, config);
    cllm_bench_catch_signals();
    measure->job.data = &data;
    measure->threads = (uint32_t)config->compute_threads;
    measure->precision = (enum cllm_precision)config->compute_precision;
    measure->limits = !request->calibrate;
    rc = cllm_bench_data_make(&data, config);
    if (rc != 0)
        cllm_err_print(PROGRAM);
    else if (request->calibrate)
        rc = cllm_bench_calibrate(&calibrate);
    else
        rc = cllm_bench_measure(measure, results, n);
    removed = cllm_bench_data_remove(&data);
    if (rc == 0)
        rc = removed;
    if (rc == 0 && !request->calibrate)
        rc = print_report(request, results, n);
    if (rc != 0)
        cllm_err_print(PROGRAM);
    free(results);
    return rc;
}

int main(int argc, char **argv)
{
    struct request request = {
        .measure = {.warmup = 2, .repeats = 5, .verbose = isatty(STDERR_FILENO) == 1}};
    char path[CLLM_FILE_PATH_BYTES];
    struct cllm_config config;
    int rc;

    cllm_config_init(&config);
    rc = parse(&request, argc, argv);
    if (!request.config)
        request.config = DEFAULT_CONFIG;
    if (rc == 0) {
        find_config(path, request.config);
        request.measure.job.config_path = path;
        rc = read_config(&config, &request);
    }
    if (rc == 0 && request.kernels)
        rc = cllm_bench_kernels(&config, request.json);
    if (rc == 0 && request.tune)
        rc = cllm_bench_tune(&config, request.measure.repeats, request.dry_run);
    if (rc != 0)
        cllm_err_print(PROGRAM);
    else if (!request.kernels && !request.tune)
        rc = bench_training(&request, &config);
    cllm_config_fini(&config);
    return rc == -EINTR ? CLLM_EXIT_INTERRUPTED : cllm_exit_code(rc);
}
