/*
 * tools/info.c - cllm-info: what this build and this machine can do for CLLM.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "compute/ops.h"
#include "formats/json.h"
#include "tools/facts.h"
#include "tools/trial.h"

#define PROGRAM "cllm-info"

struct request {
    bool json, self_test;
    const char *data;
};

static void print_help(void)
{
    (void)printf("Usage: " PROGRAM " [OPTION]...\n"
                 "Report what this build and this machine offer.\n\n"
                 "      --json        for programs; to standard output\n"
                 "      --data=FILE   also how FILE can be read directly (O_DIRECT)\n"
                 "      --self-test   run each operation against the reference, and time "
                 "it\n"
                 "      --help        this text\n"
                 "      --version     version\n\n"
                 "Exit code: 0 done; 1 the self-test found a difference; 2 usage.\n");
}

static void print_facts(const struct cllm_facts *facts)
{
    const char *section = "";

    (void)printf(PROGRAM " (cllm) " CLLM_VERSION "\n");
    for (uint32_t i = 0; i < facts->n; i++) {
        const struct cllm_fact *fact = &facts->fact[i];

        if (strcmp(section, fact->section) != 0)
            (void)printf("\n%s\n", fact->section);
        section = fact->section;
        (void)printf("  %-20s %s\n", fact->key, fact->text);
    }
}

static void print_trial(const struct cllm_trial *trial)
{
    (void)printf("\nself-test of the %s kernels against the reference, on one core\n",
                 cllm_ops_select()->name);
    for (uint32_t i = 0; i < trial->n; i++) {
        const struct cllm_trial_row *row = &trial->row[i];

        (void)printf("  %-20s %-9s  %8.2f %s\n", row->operation,
                     row->same_bits ? "same bits" : "DIFFERS", row->per_s / 1e9,
                     row->unit);
    }
}

static int print_json(const struct cllm_facts *facts, const struct cllm_trial *trial)
{
    json_t *out = json_object(), *rows = json_array();
    int rc;

    (void)json_object_set_new(out, "version", json_string(CLLM_VERSION));
    for (uint32_t i = 0; i < facts->n; i++) {
        const struct cllm_fact *fact = &facts->fact[i];

        if (!json_object_get(out, fact->section))
            (void)json_object_set_new(out, fact->section, json_object());
        (void)json_object_set_new(json_object_get(out, fact->section), fact->key,
                                  json_string(fact->text));
    }
    for (uint32_t i = 0; i < trial->n; i++) {
        const struct cllm_trial_row *row = &trial->row[i];
        json_t *entry = json_object();

        (void)json_object_set_new(entry, "operation", json_string(row->operation));
        (void)json_object_set_new(entry, "same_bits", json_boolean(row->same_bits));
        (void)json_object_set_new(entry, "per_s", json_real(row->per_s));
        (void)json_object_set_new(entry, "unit", json_string(row->unit));
        (void)json_array_append_new(rows, entry);
    }
    if (trial->n > 0)
        (void)json_object_set(out, "self_test", rows);
    json_decref(rows);
    rc = cllm_json_write(out, STDOUT_FILENO, "standard output");
    json_decref(out);
    return rc;
}

/* Options into @request. 0 = go on, else the exit code + 1. */
static int read_options(struct request *request, int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},      {"data", required_argument, NULL, 'd'},
        {"self-test", no_argument, NULL, 't'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},   {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'j':
            request->json = true;
            break;
        case 'd':
            request->data = optarg;
            break;
        case 't':
            request->self_test = true;
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
    if (optind < argc) {
        (void)fprintf(stderr,
                      PROGRAM ": unexpected argument %s\n"
                              "Try '" PROGRAM " --help' for more information.\n",
                      argv[optind]);
        return 1 + CLLM_EXIT_USAGE;
    }
    return 0;
}

/* What a table's name says of its products, behind its instruction set. */
static const char *products_of(enum cllm_precision precision)
{
    const struct cllm_ops *ops;

    if (cllm_ops_pick(&ops, cllm_isa_best(), precision) != 0)
        return "";
    return strchr(ops->name, ' ') + 1;
}

static void add_precisions(struct cllm_facts *facts)
{
    cllm_facts_add(facts, "build", "precisions", "%s, %s, %s, %s",
                   products_of(CLLM_PRECISION_F32), products_of(CLLM_PRECISION_BF16),
                   products_of(CLLM_PRECISION_BF16_AMX),
                   products_of(CLLM_PRECISION_F32_AMX));
}

int main(int argc, char **argv)
{
    static struct cllm_facts facts;
    struct cllm_trial trial = {0};
    struct request request = {0};
    int rc = read_options(&request, argc, argv);

    if (rc != 0)
        return rc - 1;
    if (request.self_test)
        rc = cllm_trial_run(&trial);
    cllm_facts_add(&facts, "build", "compiler", "%s", __VERSION__);
    cllm_facts_add(&facts, "build", "kernels", "%s", cllm_ops_select()->name);
    add_precisions(&facts);
    cllm_facts_machine(&facts, request.data);
    if (rc == 0 && request.json) {
        rc = print_json(&facts, &trial);
    } else if (rc == 0) {
        print_facts(&facts);
        if (request.self_test)
            print_trial(&trial);
    }
    for (uint32_t i = 0; rc == 0 && i < trial.n; i++)
        if (!trial.row[i].same_bits)
            rc = cllm_err(CLLM_EDATA, "%s has other bits than the reference",
                          trial.row[i].operation);
    if (rc == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        rc = cllm_err(-errno, "cannot write to standard output");
    if (rc == 0)
        return CLLM_EXIT_OK;
    cllm_err_print(PROGRAM);
    return CLLM_EXIT_FAILURE;
}
