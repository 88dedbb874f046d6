/*
 * saver/main.c - cllm-saver: takes assignments, saves and loads, lives on when it cannot.
 */
#include <errno.h>
#include <linux/ioprio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/pulse.h"
#include "formats/sha256.h"
#include "saver/load.h"
#include "saver/save.h"
#include "saver/saver.h"
#include "shm/sandbox.h"
#include "shm/slot.h"

#define SLEEP_NS (200 * CLLM_NS_PER_MS)
#define NICE     10

/* A checkpoint is never worth a worker's time slice. Where the system refuses, nothing is
 * lost but politeness. */
static void be_polite(void)
{
    if (setpriority(PRIO_PROCESS, 0, NICE) != 0)
        cllm_debug("cannot lower the priority: %s", strerror(errno));
    if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
                IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7)) != 0)
        cllm_debug("cannot lower the priority of writing: %s", strerror(errno));
}

/* A sign of life, and the place to notice that Node Zero is gone. */
static void beat(void *ctx)
{
    struct cllm_child *child = ctx;

    atomic_fetch_add_explicit(&child->control.own->status.progress, 1,
                              memory_order_relaxed);
    cllm_child_check_parent(child);
}

static int do_work(struct cllm_saver *saver, const struct cllm_assignment *asked,
                   struct cllm_report *report)
{
    struct cllm_status *status = &saver->control->own->status;
    uint64_t begin_ns = cllm_now_ns();
    int rc;

    switch (asked->kind) {
    case CLLM_WORK_SAVE:
        rc = cllm_save_step(saver, asked->step, asked->version);
        cllm_store_relaxed(&status->save_ns, cllm_load_relaxed(&status->save_ns) +
                                                 cllm_now_ns() - begin_ns);
        break;
    case CLLM_WORK_LOAD:
        rc = cllm_load_chunks(saver, asked, report);
        break;
    case CLLM_WORK_EXIT:
        rc = 0;
        break;
    default:
        rc = cllm_err(-EINVAL, "the saver does not do %s", cllm_work_name(asked->kind));
    }
    return rc;
}

/* Do @asked and answer it. A failure is an answer too: the words go first, because Node
 * Zero reads them when it sees the report. */
static void answer(struct cllm_saver *saver, const struct cllm_assignment *asked,
                   uint64_t seq)
{
    struct cllm_status *status = &saver->control->own->status;
    struct cllm_report report;
    uint64_t begin_ns = cllm_now_ns();

    cllm_slot_answer(&report, asked);
    cllm_store_relaxed(&status->work, asked->kind);
    cllm_store_relaxed(&status->step, asked->step);
    cllm_fault(CLLM_FAULT_saver_begin);
    report.error = do_work(saver, asked, &report);
    if (report.error != 0) {
        report.flags = CLLM_REPORT_FAILED;
        if (report.error == -EBADMSG)
            report.flags |= CLLM_REPORT_BAD_SUM;
        cllm_slot_last_words(saver->control, cllm_err_text());
        cllm_fault(CLLM_FAULT_saver_failed);
        cllm_err_print("cllm-saver");
        if (asked->kind == CLLM_WORK_SAVE)
            cllm_save_abandon(saver, asked->step);
    } else {
        cllm_slot_last_words(saver->control, "");
    }
    cllm_store_relaxed(&status->saving_step, 0);
    cllm_store_relaxed(&status->work, CLLM_WORK_NONE);
    cllm_fault(CLLM_FAULT_saver_end);
    report.busy_ns = cllm_now_ns() - begin_ns;
    cllm_slot_report(saver->control, &report, seq, saver->child->eventfd);
}

static void serve(struct cllm_saver *saver)
{
    const struct cllm_child *child = saver->child;
    struct cllm_assignment asked = {.kind = CLLM_WORK_NONE};

    for (uint64_t seq = 1; asked.kind != CLLM_WORK_EXIT; seq++) {
        while (!cllm_slot_next(saver->control, child->generation, seq, &asked)) {
            cllm_child_check_parent(child);
            cllm_slot_sleep(saver->control, SLEEP_NS);
        }
        answer(saver, &asked, seq);
    }
}

/*
 * It writes below the run directory. The library of checksums reads its configuration the
 * first time it is used: now, while it may.
 */
static void confine(const struct cllm_child *child, char *how, size_t bytes)
{
    char params[2][CLLM_REGION_NAME_BYTES];
    const struct cllm_sandbox sandbox = {
        .role = CLLM_ROLE_SAVER,
        .off = child->config.run_sandbox == CLLM_SANDBOX_OFF,
        .directory = child->control.header->run_dir,
        .object = {params[0], params[1]},
        .nameless = child->control.region.nameless,
    };
    char hex[CLLM_SHA256_HEX_BYTES];

    cllm_params_name(params[0], child->run_id, 0);
    cllm_params_name(params[1], child->run_id, 1);
    if (cllm_sha256_text("", 0, hex) != 0)
        cllm_debug("%s", cllm_err_text()); /* the save that needs it says so */
    cllm_sandbox_enter(&sandbox, how, bytes);
}

int main(int argc, char **argv)
{
    char how[64] = "pwrite, fsync";
    struct cllm_child child;
    struct cllm_saver saver;
    int rc;

    /* A limit on file size is a failed save, not a death. */
    (void)signal(SIGXFSZ, SIG_IGN);
    rc = cllm_child_init(&child, CLLM_ROLE_SAVER, argc, argv);
    if (rc != 0)
        return cllm_child_fail(&child, rc);
    be_polite();
    rc = cllm_saver_init(&saver, &child);
    if (rc != 0)
        return cllm_child_fail(&child, rc);
    confine(&child, how, sizeof how);
    cllm_slot_say_hello(&child.control, child.generation, 0, how, child.eventfd);
    cllm_pulse_set(beat, &child);
    serve(&saver);
    cllm_pulse_set(NULL, NULL);
    cllm_saver_fini(&saver);
    cllm_child_fini(&child);
    return CLLM_EXIT_OK;
}
