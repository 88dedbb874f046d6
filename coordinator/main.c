/*
 * coordinator/main.c - cllm-coord: arguments, help, and who this process is to be.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/config.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "coordinator/adapted.h"
#include "coordinator/guardian.h"
#include "coordinator/nodezero.h"
#include "coordinator/origin.h"
#include "coordinator/plan.h"

enum {
    OPT_SET = 256,
    OPT_RESUME,
    OPT_DRY_RUN,
    OPT_HELP_OPTIONS,
    OPT_MARKDOWN,
    OPT_ALLOW,
    OPT_NODE_ZERO,
    OPT_HEARTBEAT,
    OPT_KEEPER,
    OPT_SUSPECT,
    OPT_HELP,
    OPT_VERSION
};

static const struct option longopts[] = {
    {"workers", required_argument, NULL, 'n'},
    {"set", required_argument, NULL, OPT_SET},
    {"resume", no_argument, NULL, OPT_RESUME},
    {"dry-run", no_argument, NULL, OPT_DRY_RUN},
    {"allow-numerics-change", no_argument, NULL, OPT_ALLOW},
    {"help-options", no_argument, NULL, OPT_HELP_OPTIONS},
    {"options-markdown", no_argument, NULL, OPT_MARKDOWN},
    {"node-zero", required_argument, NULL, OPT_NODE_ZERO},
    {"heartbeat", required_argument, NULL, OPT_HEARTBEAT},
    {"keeper", required_argument, NULL, OPT_KEEPER},
    {"suspect", no_argument, NULL, OPT_SUSPECT},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

static void usage(void)
{
    (void)fputs(
        "Usage: cllm-coord CONFIG.ini [options]\n"
        "Train a language model with many processes; any of them may be killed.\n\n"
        "  -n, --workers N           worker processes (run.workers)\n"
        "      --set SECTION.KEY=V   override an option of the configuration\n"
        "      --resume              go on: from shared memory if the run is still "
        "there,\n"
        "                            else from the newest checkpoint that verifies\n"
        "      --dry-run             print the plan (model, batches, memory, files) and "
        "stop\n"
        "      --allow-numerics-change\n"
        "                            resume although configuration, data or machine "
        "would\n"
        "                            give other bits\n"
        "      --help-options        every option of the configuration\n"
        "      --help, --version\n\n"
        "Signals: TERM or INT finishes the step, saves and exits with 75 (again: at "
        "once, 130);\n"
        "USR1 saves and goes on.\n"
        "Exit codes: 0 done, 1 failure, 2 usage or configuration, 3 bad data or "
        "checkpoint,\n"
        "4 restart budget spent, 5 not finite, 6 a device failed, 75 stopped (run again "
        "with --resume), 130.\n",
        stdout);
}

static int apply(struct cllm_config *config, struct cllm_options *options, int opt,
                 const char *value)
{
    char text[64];

    switch (opt) {
    case 'n':
        (void)snprintf(text, sizeof text, "run.workers=%.40s", value);
        return cllm_config_set(config, text);
    case OPT_SET:
        return cllm_config_set(config, value);
    case OPT_RESUME:
        options->resume = true;
        return 0;
    case OPT_DRY_RUN:
        options->dry_run = true;
        return 0;
    case OPT_ALLOW:
        options->allow_numerics_change = true;
        return 0;
    case OPT_NODE_ZERO:
        options->run_lock = (int)strtol(value, NULL, 10);
        return 0;
    case OPT_HEARTBEAT:
        options->heartbeat = (int)strtol(value, NULL, 10);
        return 0;
    case OPT_KEEPER:
        options->keeper = (int)strtol(value, NULL, 10);
        return 0;
    case OPT_SUSPECT:
        options->suspect = true;
        return 0;
    default:
        return cllm_err(CLLM_ECONFIG, "bad usage; try 'cllm-coord --help'");
    }
}

/* Options that print and end the program. */
static void print_and_exit(int opt)
{
    if (opt == OPT_HELP)
        usage();
    else if (opt == OPT_VERSION)
        (void)puts("cllm-coord (cllm) " CLLM_VERSION);
    else if (opt == OPT_HELP_OPTIONS)
        cllm_config_help();
    else if (opt == OPT_MARKDOWN)
        cllm_config_markdown();
    else
        return;
    exit(fflush(stdout) == 0 ? CLLM_EXIT_OK : CLLM_EXIT_FAILURE);
}

/* Two passes: first the file's name and the options that end, then overrides on top of
 * it. */
static int parse(struct cllm_config *config, struct cllm_options *options, int argc,
                 char **argv)
{
    int opt, rc;

    while ((opt = getopt_long(argc, argv, "n:", longopts, NULL)) != -1) {
        print_and_exit(opt);
        if (opt == '?')
            return cllm_err(CLLM_ECONFIG, "bad usage; try 'cllm-coord --help'");
    }
    if (optind + 1 != argc) {
        rc = optind == argc ? cllm_err(CLLM_ECONFIG, "no configuration given")
                            : cllm_err(CLLM_ECONFIG, "more than one configuration: %s",
                                       argv[optind + 1]);
        cllm_err_hint("cllm-coord configs/demo.ini; try 'cllm-coord --help'");
        return rc;
    }
    options->config_path = argv[optind];
    rc = cllm_config_read(config, options->config_path);
    optind = 1;
    while (rc == 0 && (opt = getopt_long(argc, argv, "n:", longopts, NULL)) != -1)
        rc = apply(config, options, opt, optarg);
    if (rc == 0 && options->run_lock < 0) { /* Node Zero's is complete */
        rc = cllm_origin_complete(config);
        if (rc == 0)
            rc = cllm_adapted_complete(config);
    }
    return rc == 0 ? cllm_config_check(config) : rc;
}

static int dry_run(const struct cllm_config *config)
{
    bool was_there = access(config->run_dir, F_OK) == 0;
    struct cllm_plan plan;
    int rc = cllm_plan_init(&plan, config);

    if (!was_there)
        (void)rmdir(config->run_dir); /* only the plan has made it */
    if (rc == 0) {
        cllm_plan_print(&plan, config);
        cllm_plan_fini(&plan);
        return CLLM_EXIT_OK;
    }
    cllm_err_print("cllm-coord");
    return cllm_exit_code(rc);
}

int main(int argc, char **argv)
{
    struct cllm_options options = {.run_lock = -1, .heartbeat = -1, .keeper = -1};
    struct cllm_config config;
    int rc;

    cllm_log_init("coordinator", CLLM_LOG_INFO);
    cllm_config_init(&config);
    rc = parse(&config, &options, argc, argv);
    if (rc == 0)
        rc = cllm_fault_arm_environment(options.run_lock >= 0 ? CLLM_FAULT_NODE_ZERO
                                                              : CLLM_FAULT_GUARDIAN);
    if (rc < 0) {
        cllm_err_print("cllm-coord");
        rc = cllm_exit_code(rc);
    } else if (options.dry_run) {
        rc = dry_run(&config);
    } else if (options.run_lock >= 0) {
        cllm_log_init("node-zero", CLLM_LOG_INFO);
        rc = cllm_node_zero(&config, &options);
    } else {
        rc = cllm_guardian(&config, &options);
    }
    cllm_config_fini(&config);
    return rc;
}
