/*
 * tools/shm.c - cllm-shm: what stands in the shared memory of a run. Never writes it.
 *
 * The table of commands below is also the help text. Everything that is shown comes from
 * tools/shm_view.h, so that a run which is live, hung, dead or damaged looks the same to
 * every command.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/units.h"
#include "tools/shm_clean.h"
#include "tools/shm_crashes.h"
#include "tools/shm_json.h"
#include "tools/shm_ring.h"
#include "tools/shm_runs.h"
#include "tools/shm_text.h"
#include "tools/shm_view.h"
#include "tools/watch.h"

#define PROGRAM "cllm-shm"

/* Options that not every command takes. */
enum {
    GIVEN_INTERVAL = 1u << 0,
    GIVEN_ONCE = 1u << 1,
    GIVEN_CHUNKS = 1u << 2,
    GIVEN_DRY_RUN = 1u << 3,
    GIVEN_JSON = 1u << 4,
    GIVEN_ALL = 1u << 5
};

struct request {
    const char *run; /* NULL = the only one */
    uint32_t given;
    double interval_s;
};

struct command {
    const char *name;
    const char *arguments;
    const char *help;
    uint32_t takes; /* GIVEN_* */
    int (*run)(const struct request *request, const struct cllm_shm_runs *runs);
};

static int list_runs(const struct request *request, const struct cllm_shm_runs *runs)
{
    struct cllm_shm_view *views = calloc(runs->n_runs ? runs->n_runs : 1, sizeof *views);
    uint32_t n = 0;
    int rc = 0;

    if (!views)
        return cllm_err(-ENOMEM, "cannot list the runs");
    for (uint32_t i = 0; rc == 0 && i < runs->n_runs; i++) {
        rc = cllm_shm_view_take(&views[n], &runs->run[i]);
        if (rc == 0 && views[n].life != CLLM_SHM_GONE)
            n++;
    }
    if (rc == 0 && (request->given & GIVEN_JSON))
        rc = cllm_shm_json_print(cllm_shm_json_list(views, n));
    else if (rc == 0)
        cllm_shm_text_list(stdout, views, n);
    for (uint32_t i = 0; i < n; i++)
        cllm_shm_view_fini(&views[i]);
    free(views);
    return rc;
}

/* The error that a run without a readable control object is. */
static int refuse(const struct cllm_shm_view *view)
{
    int rc = cllm_err(CLLM_EDATA, "cannot look into run %s: it is %s", view->id,
                      cllm_shm_life_name(view->life));

    cllm_err_detail("%s", view->reason);
    cllm_err_hint("cllm-shm clean %s removes what nobody uses", view->id);
    return rc;
}

/* Find the run that is asked for and copy its state. */
static int take(struct cllm_shm_view *view, const struct request *request,
                const struct cllm_shm_runs *runs)
{
    const struct cllm_shm_run *run = cllm_shm_runs_find(runs, request->run);

    return run ? cllm_shm_view_take(view, run) : CLLM_EDATA;
}

static int show_run(const struct request *request, const struct cllm_shm_runs *runs)
{
    struct cllm_shm_view view;
    int rc = take(&view, request, runs);

    if (rc != 0)
        return rc;
    if (request->given & GIVEN_JSON)
        rc = cllm_shm_json_print(cllm_shm_json_show(&view));
    else
        cllm_shm_text_show(stdout, &view);
    if (rc == 0 && !view.has_control)
        rc = refuse(&view);
    cllm_shm_view_fini(&view);
    return rc;
}

static int watch_run(const struct request *request, const struct cllm_shm_runs *runs)
{
    const struct cllm_shm_run *run;
    double interval_s = request->given & GIVEN_INTERVAL ? request->interval_s : 0.4;

    if ((request->given & (GIVEN_ONCE | GIVEN_JSON)) || !isatty(STDOUT_FILENO) ||
        !isatty(STDIN_FILENO))
        return show_run(request, runs);
    run = cllm_shm_runs_find(runs, request->run);
    if (!run)
        return CLLM_EDATA;
    return cllm_watch_run(run->id, (uint64_t)(interval_s * (double)CLLM_NS_PER_S));
}

static int show_lanes(const struct request *request, const struct cllm_shm_runs *runs)
{
    bool chunks = (request->given & GIVEN_CHUNKS) != 0;
    struct cllm_shm_view view;
    int rc = take(&view, request, runs);

    if (rc != 0)
        return rc;
    if (!view.has_control)
        rc = refuse(&view);
    else if (request->given & GIVEN_JSON)
        rc = cllm_shm_json_print(cllm_shm_json_lanes(&view, chunks));
    else
        cllm_shm_text_lanes(stdout, &view, chunks);
    cllm_shm_view_fini(&view);
    return rc;
}

static int show_ring(const struct request *request, const struct cllm_shm_runs *runs)
{
    struct cllm_shm_ring ring = {0};
    struct cllm_shm_view view;
    int rc = take(&view, request, runs);

    if (rc != 0)
        return rc;
    rc = view.has_control ? cllm_shm_ring_take(&ring, &view) : refuse(&view);
    if (rc == 0 && (request->given & GIVEN_JSON))
        rc = cllm_shm_json_print(cllm_shm_json_ring(&view, &ring));
    else if (rc == 0)
        cllm_shm_text_ring(stdout, &view, &ring);
    cllm_shm_ring_fini(&ring);
    cllm_shm_view_fini(&view);
    return rc;
}

/*
 * A run that is named by its directory may have ended: its files are still there. What is
 * in shared memory comes first.
 */
static int show_crashes(const struct request *request, const struct cllm_shm_runs *runs)
{
    const struct cllm_shm_run *run = cllm_shm_runs_find(runs, request->run);
    struct cllm_shm_crashes crashes;
    struct stat st;
    int rc;

    if (!run && (!request->run || stat(request->run, &st) != 0 || !S_ISDIR(st.st_mode)))
        return CLLM_EDATA;
    rc = cllm_shm_crashes_take(&crashes, run ? run->id : NULL, request->run);
    if (rc != 0)
        return rc;
    if (request->given & GIVEN_JSON)
        rc = cllm_shm_json_print(cllm_shm_crashes_json(&crashes));
    else
        cllm_shm_crashes_text(stdout, &crashes);
    cllm_shm_crashes_fini(&crashes);
    return rc;
}

/* One run that was cleaned, or would be: what went away. */
static void say_cleaned(const struct request *request, const struct cllm_shm_run *run,
                        json_t *cleaned)
{
    json_t *entry = cleaned ? json_object() : NULL;
    const char *done = request->given & GIVEN_DRY_RUN ? "would remove" : "removed";
    char bytes[CLLM_UNITS_BYTES];

    if (entry) {
        (void)json_object_set_new(entry, "run", json_string(run->id));
        (void)json_object_set_new(entry, "objects", json_integer(run->n_objects));
        (void)json_object_set_new(entry, "bytes", json_integer((json_int_t)run->bytes));
        (void)json_array_append_new(cleaned, entry);
        return;
    }
    for (uint32_t i = 0; i < run->n_objects; i++)
        (void)printf("%s /dev/shm/%s\n", done, run->object[i].name);
    (void)printf("%s run %s: %u object%s, %s\n", done, run->id, run->n_objects,
                 cllm_plural(run->n_objects), cllm_format_bytes(bytes, run->bytes));
}

/*
 * A run that is named must go, or the reason is an error; without a name all runs that
 * may go do, and the others are told about on stderr.
 */
static int clean_runs(const struct request *request, const struct cllm_shm_runs *runs)
{
    bool dry_run = (request->given & GIVEN_DRY_RUN) != 0;
    json_t *cleaned = request->given & GIVEN_JSON ? json_array() : NULL;
    const struct cllm_shm_run *only = NULL;
    int rc = 0;

    if (!request->run && !(request->given & GIVEN_ALL) && runs->n_runs > 1) {
        rc = cllm_err(CLLM_EREFUSED, "%u runs are in shared memory", runs->n_runs);
        cllm_err_hint(
            "cllm-shm clean RUN for one of them, cllm-shm clean --all for all that "
            "are dead; cllm-shm list names them");
    }
    if (request->run) {
        only = cllm_shm_runs_find(runs, request->run);
        rc = only ? 0 : CLLM_EDATA;
    }
    for (uint32_t i = 0; rc == 0 && i < runs->n_runs; i++) {
        const struct cllm_shm_run *run = &runs->run[i];

        if (only && run != only)
            continue;
        rc = cllm_shm_clean_run(run, dry_run);
        if (rc == 0) {
            say_cleaned(request, run, cleaned);
        } else if (rc == CLLM_EREFUSED && !only) {
            (void)fprintf(stderr, PROGRAM ": %s\n", cllm_err_text());
            rc = 0;
        }
    }
    if (cleaned && rc == 0) {
        json_t *out = json_object();

        (void)json_object_set_new(out, "dry_run", json_boolean(dry_run));
        (void)json_object_set(out, "cleaned", cleaned);
        rc = cllm_shm_json_print(out);
    }
    json_decref(cleaned);
    return rc;
}

static const struct command commands[] = {
    {"list", "", "runs that hold shared memory", GIVEN_JSON, list_runs},
    {"show", "[RUN]", "one run: progress, lanes, processes, memory, events", GIVEN_JSON,
     show_run},
    {"watch", "[RUN]", "the same on the whole terminal, until q",
     GIVEN_JSON | GIVEN_INTERVAL | GIVEN_ONCE, watch_run},
    {"lanes", "[RUN]", "every lane; with --chunks every chunk", GIVEN_JSON | GIVEN_CHUNKS,
     show_lanes},
    {"ring", "[RUN]", "every batch in the ring, verified", GIVEN_JSON, show_ring},
    {"crashes", "[RUN]", "processes that crashed, and where; RUN may have ended",
     GIVEN_JSON, show_crashes},
    {"clean", "[RUN]", "remove the memory of dead runs, never of a live one",
     GIVEN_JSON | GIVEN_DRY_RUN | GIVEN_ALL, clean_runs},
};

static void print_help(void)
{
    (void)printf("Usage: " PROGRAM " [OPTION]... COMMAND [RUN]\n"
                 "Show what stands in the shared memory of training runs, whether they "
                 "are live, hung\nor dead. Nothing is written to it.\n\n");
    for (size_t i = 0; i < CLLM_LEN(commands); i++)
        (void)printf("  %-8s %-6s %s\n", commands[i].name, commands[i].arguments,
                     commands[i].help);
    (void)printf(
        "\nRUN is a run id, the beginning of one, or the run directory; it may be "
        "left out when\nthere is just one run.\n\n"
        "      --json           for programs; to standard output\n"
        "      --interval=S     watch: seconds between two pictures (0.4)\n"
        "      --once           watch: one picture, as show\n"
        "      --chunks         lanes: the chunks too\n"
        "      --dry-run        clean: only say what would be removed\n"
        "      --all            clean: every dead run, where there is more than one\n"
        "      --help           this text\n"
        "      --version        version\n\n"
        "Exit code: 0 done; 1 the run cannot be read, or must not be removed; 2 "
        "usage.\n");
}

static int usage(const char *fmt, const char *what)
{
    (void)fprintf(stderr, PROGRAM ": ");
    (void)fprintf(stderr, "%s%s\n", fmt, what);
    (void)fprintf(stderr, "Try '" PROGRAM " --help' for more information.\n");
    return CLLM_EXIT_USAGE;
}

static bool read_interval(struct request *request, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' || !(value >= 0.05 && value <= 3600))
        return false;
    request->interval_s = value;
    return true;
}

/* Options into @request. 0 = go on, else the exit code + 1. */
static int read_options(struct request *request, int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"interval", required_argument, NULL, 'i'},
        {"once", no_argument, NULL, 'o'},
        {"chunks", no_argument, NULL, 'c'},
        {"dry-run", no_argument, NULL, 'n'},
        {"all", no_argument, NULL, 'a'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'j':
            request->given |= GIVEN_JSON;
            break;
        case 'i':
            if (!read_interval(request, optarg))
                return 1 + usage("--interval takes 0.05 to 3600 seconds, not ", optarg);
            request->given |= GIVEN_INTERVAL;
            break;
        case 'o':
            request->given |= GIVEN_ONCE;
            break;
        case 'c':
            request->given |= GIVEN_CHUNKS;
            break;
        case 'n':
            request->given |= GIVEN_DRY_RUN;
            break;
        case 'a':
            request->given |= GIVEN_ALL;
            break;
        case 'h':
            print_help();
            return 1 + CLLM_EXIT_OK;
        case 'V':
            (void)printf(PROGRAM " (cllm) " CLLM_VERSION "\n");
            return 1 + CLLM_EXIT_OK;
        default:
            (void)fprintf(stderr, "Try '" PROGRAM " --help' for more information.\n");
            return 1 + CLLM_EXIT_USAGE;
        }
    }
    return 0;
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < CLLM_LEN(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

int main(int argc, char **argv)
{
    struct request request = {0};
    struct cllm_shm_runs runs;
    const struct command *command;
    int n_left, rc = read_options(&request, argc, argv);

    if (rc != 0)
        return rc - 1;
    n_left = argc - optind;
    if (n_left == 0)
        return usage("say what to show: list, show, watch, lanes, ring, crashes or clean",
                     "");
    command = find_command(argv[optind]);
    if (!command)
        return usage("no such command: ", argv[optind]);
    if (n_left > (command->arguments[0] != '\0' ? 2 : 1))
        return usage("too many arguments after ", command->name);
    if (request.given & ~command->takes)
        return usage("an option does not belong to ", command->name);
    request.run = n_left > 1 ? argv[optind + 1] : NULL;

    rc = cllm_shm_runs_scan(&runs);
    if (rc == 0) {
        rc = command->run(&request, &runs);
        cllm_shm_runs_fini(&runs);
    }
    if (rc == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        rc = cllm_err(-errno, "cannot write to standard output");
    if (rc == 0)
        return CLLM_EXIT_OK;
    cllm_err_print(PROGRAM);
    return CLLM_EXIT_FAILURE;
}
