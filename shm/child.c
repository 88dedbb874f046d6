/*
 * shm/child.c - the first and last minutes of worker, loader and saver.
 */
#include "shm/child.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "shm/crash.h"
#include "shm/slot.h"

static struct {
    struct cllm_child *child; /* for the assert hook, which has no argument */
    char role[32];
} self;

static void leave_last_words(const char *text)
{
    if (self.child && self.child->control.own)
        cllm_slot_last_words(&self.child->control, text);
}

static void on_assert(const char *text)
{
    leave_last_words(text);
    cllm_crash_note_assert(text);
}

static void usage(enum cllm_role role)
{
    (void)printf(
        "Usage: cllm-%s --run RUN --slot N --generation G --eventfd FD --parent PID\n\n"
        "A process of a CLLM run. cllm-coord starts it; by hand it is of no use.\n",
        cllm_role_name(role));
}

static int parse_arguments(struct cllm_child *child, enum cllm_role role, int argc,
                           char **argv)
{
    static const struct option longopts[] = {
        {"run", required_argument, NULL, 'r'},
        {"slot", required_argument, NULL, 's'},
        {"generation", required_argument, NULL, 'g'},
        {"eventfd", required_argument, NULL, 'e'},
        {"parent", required_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    int opt, rc;

    while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
        switch (opt) {
        case 'r':
            child->run_id = optarg;
            break;
        case 's':
            child->slot = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'g':
            child->generation = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'e':
            child->eventfd = (int)strtol(optarg, NULL, 10);
            break;
        case 'p':
            child->parent_pid = strtoull(optarg, NULL, 10);
            break;
        case 'h':
            usage(role);
            exit(CLLM_EXIT_OK);
        case 'V':
            (void)printf("cllm-%s (cllm) " CLLM_VERSION "\n", cllm_role_name(role));
            exit(CLLM_EXIT_OK);
        default:
            return cllm_err(CLLM_ECONFIG, "bad usage; try --help");
        }
    }
    if (child->run_id && child->slot != CLLM_NONE && child->parent_pid != 0 &&
        optind == argc)
        return 0;
    rc = cllm_err(CLLM_ECONFIG, "this program is started by cllm-coord");
    cllm_err_hint("cllm-coord CONFIG.ini starts a run");
    return rc;
}

static int attach(struct cllm_child *child, enum cllm_role role)
{
    const struct cllm_command *command;

    switch (cllm_control_attach(&child->control, child->run_id, child->slot)) {
    case CLLM_ATTACH_OK:
        break;
    case CLLM_ATTACH_NONE:
        return cllm_err(-ENOENT, "no run %s in shared memory", child->run_id);
    case CLLM_ATTACH_NOT_YET:
    case CLLM_ATTACH_BAD:
    case CLLM_ATTACH_ERROR:
    default:
        return -EIO; /* text is there */
    }
    command = &child->control.slots[child->slot].command;
    if (command->role != (uint32_t)role ||
        cllm_load_acquire(&command->generation) != child->generation) {
        return cllm_err(-ESTALE,
                        "slot %u expects %s generation %u, this is %s generation %u",
                        child->slot, cllm_role_name(command->role),
                        cllm_load_relaxed(&command->generation), cllm_role_name(role),
                        child->generation);
    }
    child->geometry = &child->control.header->geometry;
    return 0;
}

int cllm_child_init(struct cllm_child *child, enum cllm_role role, int argc, char **argv)
{
    int rc;

    *child = (struct cllm_child){.slot = CLLM_NONE, .eventfd = -1};
    self.child = child;
    (void)snprintf(self.role, sizeof self.role, "%s", cllm_role_name(role));
    cllm_log_init(self.role, CLLM_LOG_INFO);
    cllm_config_init(&child->config);
    rc = parse_arguments(child, role, argc, argv);
    if (rc != 0)
        return rc;
    if (role == CLLM_ROLE_WORKER)
        (void)snprintf(self.role, sizeof self.role, "worker %u", child->slot);
    /*
     * PR_SET_PDEATHSIG kills this process with Node Zero, but only from the moment it was
     * set: a parent that died before that shows in getppid().
     */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if ((uint64_t)getppid() != child->parent_pid)
        return cllm_err(-ESRCH, "Node Zero (pid %" PRIu64 ") is gone", child->parent_pid);
    rc = attach(child, role);
    if (rc != 0)
        return rc;
    cllm_fault_attach(child->control.faults, (enum cllm_fault_role)role, child->slot);
    cllm_fault(CLLM_FAULT_child_attached);
    cllm_assert_set_hook(on_assert);
    cllm_crash_init(&child->control, role, child->generation);
    rc = cllm_config_parse(&child->config, child->control.config,
                           "configuration of the run");
    cllm_fault(CLLM_FAULT_child_configured);
    return rc;
}

void cllm_child_check_parent(const struct cllm_child *child)
{
    const struct cllm_command *command = &child->control.slots[child->slot].command;

    if ((uint64_t)getppid() != child->parent_pid ||
        cllm_load_relaxed(&command->generation) != child->generation)
        _exit(CLLM_EXIT_STOPPED);
}

int cllm_child_fail(struct cllm_child *child, int rc)
{
    leave_last_words(cllm_err_text());
    cllm_err_print(self.role);
    cllm_child_fini(child);
    return cllm_exit_code(rc);
}

void cllm_child_fini(struct cllm_child *child)
{
    cllm_crash_fini();
    cllm_control_detach(&child->control);
    cllm_config_fini(&child->config);
    self.child = NULL;
}
