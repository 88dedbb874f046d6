/*
 * coordinator/node_begin.c - from a plan to a run that goes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/pulse.h"
#include "base/units.h"
#include "coordinator/beginning.h"
#include "coordinator/node.h"
#include "formats/file.h"

/* The dead of a generation are not gone before the disk has answered them. */
#define LOCK_TRIES   12000
#define WARN_TRIES   1000
#define LOCK_WAIT_NS (10 * CLLM_NS_PER_MS)

/*
 * Every process of a generation inherits this lock from its Node Zero; while it is taken,
 * some process of an earlier generation still lives and may write.
 */
static int lock_generation(struct cllm_node *nz)
{
    char path[CLLM_FILE_PATH_BYTES];
    int rc = cllm_file_join(path, nz->plan.run_dir, "generation.lock");

    if (rc != 0)
        return rc;
    nz->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (nz->lock_fd < 0)
        return cllm_err(-errno, "cannot open %s", path);
    for (uint32_t i = 0; i < LOCK_TRIES; i++) {
        struct timespec wait = cllm_timespec(LOCK_WAIT_NS);

        rc = cllm_file_lock(nz->lock_fd, path);
        if (rc != -EWOULDBLOCK)
            return rc;
        if (i == WARN_TRIES)
            cllm_warn("processes of an earlier start of this run have not ended yet");
        cllm_pulse();
        (void)nanosleep(&wait, NULL);
    }
    rc = cllm_err(CLLM_EREFUSED, "processes of an earlier start of this run still live");
    cllm_err_hint("fuser -v %s names them", path);
    return rc;
}

static int open_log(struct cllm_node *nz)
{
    char path[CLLM_FILE_PATH_BYTES];
    int rc = cllm_file_join(path, nz->plan.run_dir, "log.txt");

    if (rc != 0)
        return rc;
    nz->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (nz->log_fd < 0)
        return cllm_err(-errno, "cannot open %s", path);
    cllm_log_set_file(nz->log_fd);
    rc = cllm_file_join(path, nz->plan.run_dir, "config.ini");
    if (rc != 0)
        return rc;
    return cllm_file_replace(path, nz->plan.config_text, strlen(nz->plan.config_text));
}

/*
 * What people asked of the last Node Zero holds for the next one of the same guardian,
 * and so does who was retired. Who starts the run himself says anew what he wants.
 */
static void take_over_wishes(struct cllm_node *nz)
{
    struct cllm_state *state = nz->control.state;
    uint32_t guardian = (uint32_t)getppid();
    uint64_t ticks = cllm_process_start_ticks(guardian);
    uint32_t workers = cllm_load_relaxed(&state->workers);
    bool same = ticks != 0 && state->guardian_pid == guardian &&
                state->guardian_start_ticks == ticks && workers > 0 &&
                workers <= nz->control.header->geometry.n_worker_slots;

    if (same) {
        nz->team.workers = workers;
        if (cllm_load_relaxed(&state->wishes) & CLLM_WISH_STOP)
            cllm_node_stop(nz);
        nz->save_now = (cllm_load_relaxed(&state->wishes) & CLLM_WISH_SAVE) != 0;
        return;
    }
    cllm_store_relaxed(&state->workers, nz->team.workers);
    cllm_store_relaxed(&state->wishes, 0);
    for (uint32_t slot = 0; slot < nz->control.header->geometry.n_slots; slot++)
        nz->control.slots[slot].command.retired = 0;
    state->guardian_pid = guardian;
    state->guardian_start_ticks = ticks;
}

/* Who drives the run now; tools judge liveness by it. */
static void sign_state(struct cllm_node *nz)
{
    struct cllm_state *state = nz->control.state;
    uint32_t generation = cllm_load_relaxed(&state->node_zero_generation);

    state->node_zero_pid = (uint32_t)getpid();
    state->node_zero_start_ticks = cllm_process_start_ticks((uint64_t)getpid());
    cllm_store_relaxed(&state->node_zero_generation, generation + 1);
    cllm_store_relaxed(&state->heartbeat_ns, cllm_now_ns());
    cllm_store_relaxed(&state->started_ns, cllm_now_ns());
    cllm_store_relaxed(&state->hurry_version, 0);
    cllm_store_relaxed(&state->run_state, CLLM_RUN_RUNNING);
}

/* Checkpoints that were due and not durable yet when the last Node Zero died. */
static void request_missed_saves(struct cllm_node *nz)
{
    uint64_t saved = cllm_load_relaxed(&nz->control.state->saved_step);

    for (uint32_t v = 0; v < 2; v++) {
        struct cllm_step_record record = nz->control.record[v];

        if (cllm_control_holds(&nz->control, record.step) && record.step > saved &&
            (record.step & 1) == v && cllm_node_save_due(nz, &record))
            cllm_saving_request(&nz->saving, record.step);
    }
}

/* Devices that an earlier Node Zero has given up are not tried again. */
static void recall_devices(struct cllm_node *nz)
{
    if (nz->config->compute_on_device_loss != CLLM_LOSS_CPU)
        return;
    for (uint32_t slot = 0; slot < cllm_team_loader(&nz->team); slot++) {
        char line[160];

        if (!cllm_devices_recall(&nz->plan.devices, slot,
                                 &nz->control.slots[slot].command))
            continue;
        (void)snprintf(line, sizeof line,
                       "worker %u computes on the processor: its device was lost before "
                       "(on_device_loss = cpu)",
                       slot);
        cllm_node_announce(nz, CLLM_LOG_WARN, line);
    }
}

/*
 * Go on where the last Node Zero was: every process of it is dead. Twice, or cut off in
 * the middle and then once more, it comes to the same.
 */
static int go_on_from_memory(struct cllm_node *nz, const struct cllm_beginning *beginning,
                             bool suspect)
{
    const struct cllm_step_record *record = &beginning->record;
    struct cllm_state *state = nz->control.state;
    bool last = record->step >= nz->config->train_steps;
    uint32_t kept = 0;
    char line[192];
    int rc;

    nz->step.record = *record;
    cllm_store_relaxed(&state->committed, record->step);
    cllm_journal_append(&nz->journal, record, NULL);
    request_missed_saves(nz);
    if (!last && !cllm_node_pause_wanted(nz) && nz->ending == CLLM_ENDING_NO) {
        kept = cllm_step_adopt(&nz->step, record, suspect);
        cllm_node_step_begins(nz);
    }
    rc = cllm_control_clear_slots(&nz->control);
    if (rc != 0)
        return rc;
    (void)snprintf(line, sizeof line,
                   "Node Zero %u (pid %d) took over at step %" PRIu64
                   "; %u of %u lanes of step %" PRIu64 " were computed already",
                   cllm_load_relaxed(&state->node_zero_generation), (int)getpid(),
                   record->step, kept, nz->control.header->geometry.lanes,
                   record->step + 1);
    cllm_node_announce(nz, CLLM_LOG_INFO, line);
    recall_devices(nz);
    if (last || cllm_node_pause_wanted(nz) || nz->ending != CLLM_ENDING_NO) {
        cllm_store_relaxed(&state->phase, CLLM_PHASE_NONE);
        cllm_node_go_on(nz);
    }
    return 0;
}

static int open_first(struct cllm_node *nz, const struct cllm_beginning *beginning,
                      bool suspect)
{
    struct cllm_state *state = nz->control.state;

    cllm_step_init(&nz->step, &nz->control, nz->config, cllm_node_active(nz));
    cllm_store_relaxed(&state->active, cllm_node_active(nz));
    switch (beginning->kind) {
    case CLLM_BEGIN_ADOPTED:
        return go_on_from_memory(nz, beginning, suspect);
    case CLLM_BEGIN_CHECKPOINT:
        /* The loader begins where training does; the checkpoint is durable already. */
        cllm_store_relaxed(&state->committed, beginning->record.step);
        cllm_store_relaxed(&state->saved_step, beginning->record.step);
        cllm_step_open_load(&nz->step, &beginning->record);
        break;
    case CLLM_BEGIN_FRESH:
    default:
        cllm_step_open_initial(&nz->step);
    }
    return 0;
}

/* What the run's workers have made until now, and may make from now on. */
static int take_numerics(struct cllm_node *nz, const struct cllm_step_record *record,
                         bool allow)
{
    bool mix = cllm_devices_mixed(&nz->plan.devices), first = record->numerics == 0;
    int rc;

    nz->team.numerics = record->numerics;
    nz->team.allow_numerics_change = allow;
    cllm_store_relaxed(&nz->control.state->mixed, 0);
    if (record->numerics == CLLM_NUMERICS_MIXED || (mix && (first || allow))) {
        cllm_team_mix(&nz->team);
        return 0;
    }
    if (!mix)
        return 0;
    rc = cllm_err(CLLM_EREFUSED,
                  "cannot go on with compute.device = %s: until step %" PRIu64
                  " all workers made the same numbers",
                  nz->config->compute_device, record->step);
    cllm_err_hint("the device of the beginning, or accept other bits with "
                  "--allow-numerics-change");
    return rc;
}

int cllm_node_begin(struct cllm_node *nz, const struct cllm_options *options)
{
    /* Until it is known, nothing is ours to remove. */
    struct cllm_beginning beginning = {.kind = CLLM_BEGIN_ADOPTED};
    char turns[32] = "";
    int rc = lock_generation(nz);

    /* The lock says that a coordinator lives; no child may hold it longer than we do. */
    (void)fcntl(options->run_lock, F_SETFD, FD_CLOEXEC);
    if (rc == 0)
        rc = cllm_beginning_find(&beginning, &nz->control, nz->config, &nz->plan,
                                 options->resume, options->allow_numerics_change);
    cllm_fault(CLLM_FAULT_node_found);
    if (rc == 0)
        rc = open_log(nz);
    if (rc == 0)
        rc =
            cllm_journal_open(&nz->journal, nz->plan.run_dir, beginning.record.step,
                              beginning.kind != CLLM_BEGIN_FRESH && !beginning.imported &&
                                  beginning.record.numerics != CLLM_NUMERICS_MIXED &&
                                  !options->allow_numerics_change);
    cllm_fault(CLLM_FAULT_node_journal);
    if (rc == 0)
        rc = cllm_node_open_events(nz);
    if (rc == 0)
        rc = cllm_team_init(&nz->team, &nz->control, nz->config, &nz->plan.placement,
                            &nz->plan.devices, nz->plan.workers, nz->epoll_fd,
                            nz->event_fd, nz->lock_fd);
    if (rc == 0)
        rc = take_numerics(nz, &beginning.record, options->allow_numerics_change);
    if (rc != 0) {
        /* Nothing of a fresh run is worth keeping; an adopted one stays. */
        if (nz->control.header && beginning.kind != CLLM_BEGIN_ADOPTED)
            cllm_objects_unlink(nz->plan.run_id, &nz->plan.geometry);
        return rc;
    }
    cllm_saving_init(&nz->saving, &nz->control, cllm_team_saver(&nz->team));
    cllm_progress_init(&nz->progress, nz->config, &nz->control, &beginning.record,
                       cllm_now_ns());
    sign_state(nz);
    cllm_fault(CLLM_FAULT_node_signed);
    take_over_wishes(nz);
    rc = open_first(nz, &beginning, options->suspect || options->allow_numerics_change);
    if (rc != 0)
        return rc;
    cllm_fault(CLLM_FAULT_node_begun);
    if (cllm_node_active(nz) < nz->team.workers)
        (void)snprintf(turns, sizeof turns, " in turns, %u at once",
                       cllm_node_active(nz));
    cllm_info("run %s: %" PRIu64
              " parameters, %u lane%s, %u worker%s%s; cllm-shm watch %s shows it",
              nz->plan.run_id, nz->plan.geometry.n_params, nz->plan.geometry.lanes,
              cllm_plural(nz->plan.geometry.lanes), nz->team.workers,
              cllm_plural(nz->team.workers), turns, nz->plan.run_id);
    if (nz->plan.devices.why[0] != '\0')
        cllm_node_announce(nz, CLLM_LOG_INFO, nz->plan.devices.why);
    if (cllm_fault_any())
        cllm_warn("fault points are armed (" CLLM_FAULT_ENVIRONMENT "): a test");
    return 0;
}
