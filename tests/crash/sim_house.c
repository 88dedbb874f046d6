/*
 * tests/crash/sim_house.c - the rest of the house around Node Zero: the plan, the journal
 * and the checkpoints on a disk that is an array, people who ask for things, and silence
 * where the real ones print.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/pulse.h"
#include "coordinator/control_socket.h"
#include "coordinator/crashes.h"
#include "coordinator/frozen.h"
#include "coordinator/journal.h"
#include "coordinator/logout.h"
#include "coordinator/origin.h"
#include "coordinator/plan.h"
#include "coordinator/progress.h"
#include "coordinator/vocabulary.h"
#include "formats/checkpoint.h"
#include "formats/file.h"
#include "formats/sha256.h"
#include "shm/crash.h"
#include "shm/sandbox.h"
#include "tests/crash/sim.h"

#define CONFIG_HASH   UINT64_C(0xc0f16)
#define MANIFEST_HASH UINT64_C(0x3a71f)

/* ---- no model to begin from, no vocabulary ---- */

bool cllm_origin_is_set(const struct cllm_config *config)
{
    (void)config;
    return false;
}

int cllm_frozen_share(const struct cllm_plan *plan)
{
    (void)plan;
    return 0;
}

int cllm_origin_import(const struct cllm_config *config, const struct cllm_plan *plan)
{
    (void)config;
    (void)plan;
    return 0;
}

int cllm_vocabulary_keep(const struct cllm_config *config, const struct cllm_plan *plan)
{
    (void)config;
    (void)plan;
    return 0;
}

/* ---- pulse: of each process its own ---- */

void cllm_pulse_set(void (*beat)(void *ctx), void *ctx)
{
    sim.current->beat = beat;
    sim.current->beat_ctx = ctx;
}

void cllm_pulse(void)
{
    if (sim.current->beat)
        sim.current->beat(sim.current->beat_ctx);
}

/* ---- plan ---- */

int cllm_plan_init(struct cllm_plan *plan, const struct cllm_config *config)
{
    static char config_text[] = "; toy\n";
    static char with_valid[] = "[train]\nT\n[valid]\nV\n",
                without[] = "[train]\nT\n[valid]\n";

    *plan = (struct cllm_plan){.geometry = sim.geometry,
                               .workers = sim.plan.workers,
                               .spares = sim.plan.spares,
                               .active = sim.plan.active,
                               .config_hash = CONFIG_HASH,
                               .manifest_hash = MANIFEST_HASH,
                               .config_text = config_text,
                               .manifest_text =
                                   config->data_valid.n > 0 ? with_valid : without};
    (void)snprintf(plan->run_id, sizeof plan->run_id, "sim");
    (void)snprintf(plan->run_dir, sizeof plan->run_dir, "/sim");
    return 0;
}

void cllm_plan_fini(struct cllm_plan *plan)
{
    (void)plan;
}

struct cllm_control_plan cllm_plan_control(const struct cllm_plan *plan)
{
    return (struct cllm_control_plan){.run_id = plan->run_id,
                                      .run_dir = plan->run_dir,
                                      .config = plan->config_text,
                                      .manifest = plan->manifest_text,
                                      .config_hash = plan->config_hash,
                                      .manifest_hash = plan->manifest_hash,
                                      .geometry = plan->geometry};
}

/* ... and no devices. */
const char *cllm_devices_of(const struct cllm_devices *devices, uint32_t slot)
{
    (void)devices;
    (void)slot;
    return "";
}

bool cllm_devices_mixed(const struct cllm_devices *devices)
{
    (void)devices;
    return false;
}

bool cllm_devices_may_mix(const struct cllm_devices *devices)
{
    (void)devices;
    return false;
}

bool cllm_devices_failed(struct cllm_devices *devices, uint32_t slot, bool worked)
{
    (void)devices;
    (void)slot;
    (void)worked;
    return false;
}

void cllm_devices_remember(const struct cllm_devices *devices, uint32_t slot,
                           struct cllm_command *command)
{
    (void)devices;
    (void)slot;
    (void)command;
}

bool cllm_devices_recall(struct cllm_devices *devices, uint32_t slot,
                         const struct cllm_command *command)
{
    (void)devices;
    (void)slot;
    (void)command;
    return false;
}

bool cllm_placement_cpus(const struct cllm_placement *placement, uint32_t slot,
                         uint32_t workers, cpu_set_t *cpus)
{
    (void)placement; /* the simulated machine has no cores */
    (void)slot;
    (void)workers;
    (void)cpus;
    return false;
}

uint64_t __wrap_cllm_vector_bytes(const struct cllm_geometry *geometry);

/* The toy's vectors are shorter than a page, so that a run has few stores to look at. */
uint64_t __wrap_cllm_vector_bytes(const struct cllm_geometry *geometry)
{
    return geometry->n_elements * sizeof(float);
}

/* ---- journal: lines that outlive everybody ---- */

int cllm_journal_set_aside(const char *run_dir)
{
    (void)run_dir; /* opening it for a run that begins drops them */
    return 0;
}

int cllm_journal_open(struct cllm_journal *journal, const char *run_dir, uint64_t step,
                      bool replay)
{
    (void)run_dir;
    memset(journal, 0, sizeof *journal);
    if (!replay)
        sim.n_lines = (uint32_t)cllm_min_u64(sim.n_lines, step);
    return 0;
}

void cllm_journal_close(struct cllm_journal *journal)
{
    (void)journal;
}

bool cllm_journal_skipped(const struct cllm_journal *journal, uint64_t step)
{
    (void)journal;
    (void)step;
    return false; /* the simulator's lines stay with its checker */
}

int cllm_journal_check(const struct cllm_journal *journal,
                       const struct cllm_step_record *record)
{
    (void)journal;
    if (record->step == 0 || record->step > sim.n_lines ||
        sim.line[record->step].root == record->root)
        return 0;
    return cllm_err(CLLM_EDATA, "step %" PRIu64 " was done again with other bits",
                    record->step);
}

void cllm_journal_append(struct cllm_journal *journal,
                         const struct cllm_step_record *record,
                         const struct cllm_metrics *metrics)
{
    const struct cllm_step_record *want = &sim.golden[record->step].record;

    (void)journal;
    (void)metrics;
    sim_message("journal", record->step);
    if (record->step == 0 || record->step <= sim.n_lines)
        return;
    if (record->step != sim.n_lines + 1)
        sim_violation("journal", "a line for step %" PRIu64 " after %u lines",
                      record->step, sim.n_lines);
    if (record->root != want->root || record->tokens != want->tokens ||
        record->skipped != want->skipped ||
        (record->skipped == CLLM_SKIP_NO &&
         (record->loss != want->loss || record->grad_norm != want->grad_norm)))
        sim_violation("journal",
                      "step %" PRIu64 ": root %016" PRIx64 " loss %a norm %a, golden "
                      "%016" PRIx64 " %a %a",
                      record->step, record->root, record->loss, record->grad_norm,
                      want->root, want->loss, want->grad_norm);
    sim.n_lines++;
    sim.line[sim.n_lines] = (struct sim_line){.step = record->step,
                                              .root = record->root,
                                              .tokens = record->tokens,
                                              .loss = record->loss,
                                              .norm = record->grad_norm};
}

/* ---- checkpoints ---- */

void cllm_checkpoint_name(char name[32], uint64_t step, bool temp)
{
    (void)snprintf(name, 32, "step-%08" PRIu64 "%s", step, temp ? ".tmp" : "");
}

int cllm_checkpoint_newest(const char *checkpoints, char dir[CLLM_FILE_PATH_BYTES])
{
    (void)checkpoints;
    for (uint32_t step = SIM_MAX_STEPS; step > 0; step--)
        if (sim.checkpoint[step].there) {
            (void)snprintf(dir, CLLM_FILE_PATH_BYTES, "/sim/checkpoints/%u", step);
            return 0;
        }
    return -ENOENT;
}

int cllm_checkpoint_verify(const char *dir, bool deep, struct cllm_checkpoint_info *info)
{
    const struct cllm_step_record *record;
    uint64_t step = strtoull(strrchr(dir, '/') + 1, NULL, 10);

    (void)deep;
    CLLM_ASSERT(info != NULL && step <= SIM_MAX_STEPS && sim.checkpoint[step].there);
    record = &sim.checkpoint[step].record;
    *info = (struct cllm_checkpoint_info){.step = record->step,
                                          .cursor = record->cursor,
                                          .tokens = record->tokens,
                                          .train_loss = record->loss,
                                          .valid_loss = record->valid_loss,
                                          .best_loss = record->best_loss,
                                          .valid_step = record->valid_step,
                                          .best_step = record->best_step};
    (void)snprintf(info->fingerprint, sizeof info->fingerprint,
                   "%016" PRIx64 "%016" PRIx64, record->numerics, CONFIG_HASH);
    (void)snprintf(info->root, sizeof info->root, "%016" PRIx64, record->root);
    (void)snprintf(info->data, sizeof info->data, "%016" PRIx64, MANIFEST_HASH);
    return 0;
}

void sim_house_verify_checkpoint(uint64_t step)
{
    const struct sim_checkpoint *found = &sim.checkpoint[step];
    const struct sim_golden *want = &sim.golden[step];

    if (found->record.root != want->record.root ||
        memcmp(found->words, want->words, 3 * sim_words() * sizeof(uint64_t)) != 0)
        sim_violation("checkpoint",
                      "the checkpoint of step %" PRIu64 " holds other bytes", step);
}

int __wrap_access(const char *path, int mode);

int __wrap_access(const char *path, int mode)
{
    (void)path;
    (void)mode;
    for (uint32_t step = 0; step <= SIM_MAX_STEPS; step++)
        if (sim.checkpoint[step].there)
            return 0;
    errno = ENOENT;
    return -1;
}

int cllm_file_join(char out[CLLM_FILE_PATH_BYTES], const char *dir, const char *name)
{
    (void)snprintf(out, CLLM_FILE_PATH_BYTES, "%s/%s", dir, name);
    return 0;
}

/* The generation's lock is held by every process that inherited it. */
int cllm_file_lock(int fd, const char *path)
{
    (void)fd;
    (void)path;
    sim_message("lock", 0);
    for (uint32_t i = 1; i < SIM_PROCESSES; i++)
        if (sim.process[i].live)
            return -EWOULDBLOCK;
    return 0;
}

int cllm_file_read(const char *path, size_t cap, char **out, size_t *bytes)
{
    (void)path; /* nothing of the toy's configuration lies anywhere */
    (void)cap;
    (void)out;
    (void)bytes;
    return -1;
}

int cllm_file_replace(const char *path, const void *data, size_t bytes)
{
    (void)path;
    (void)data;
    (void)bytes;
    sim_message("write config.ini", 0);
    return 0;
}

/* ---- people ---- */

void cllm_control_socket_init(struct cllm_control_socket *socket)
{
    socket->epoll_fd = -1;
}

int cllm_control_socket_open(struct cllm_control_socket *socket, const char *run_dir)
{
    (void)run_dir;
    socket->epoll_fd = 7100;
    return 0;
}

void cllm_control_socket_close(struct cllm_control_socket *socket)
{
    socket->epoll_fd = -1;
}

void cllm_control_socket_tend(struct cllm_control_socket *socket, uint64_t now_ns,
                              cllm_control_socket_fn answer, void *ctx)
{
    static const enum cllm_control_socket_command ask[] = {
        CLLM_CONTROL_WORKERS, CLLM_CONTROL_CHECKPOINT, CLLM_CONTROL_PAUSE,
        CLLM_CONTROL_RESUME,  CLLM_CONTROL_WORKERS,    CLLM_CONTROL_STOP,
        CLLM_CONTROL_STATUS};
    struct cllm_control_socket_request request = {.command = CLLM_CONTROL_RESUME};

    (void)socket;
    (void)now_ns;
    if (sim.plan.people == 0)
        return;
    if (!sim.quiet) {
        if (!sim_chance(sim.plan.people))
            return;
        request.command = ask[sim_random() % CLLM_LEN(ask)];
        request.number = 1 + sim_random() % sim.geometry.n_worker_slots;
    }
    if (!sim.quiet)
        sim_message("people ask", (uint64_t)request.command);
    json_decref(answer(ctx, &request));
}

json_t *cllm_control_socket_refuse(bool usage, const char *fmt, ...)
{
    (void)usage;
    (void)fmt;
    return json_object();
}

/* ---- silence ---- */

void cllm_logout_warn(void)
{
}

void cllm_crash_thread(uint32_t thread)
{
    (void)thread;
}

void cllm_sandbox_enter(const struct cllm_sandbox *sandbox, char *text, size_t bytes)
{
    (void)sandbox;
    (void)text;
    (void)bytes;
}

int cllm_sha256_text(const void *data, size_t bytes, char hex[CLLM_SHA256_HEX_BYTES])
{
    (void)data;
    (void)bytes;
    hex[0] = '\0';
    return 0;
}

void cllm_progress_init(struct cllm_progress *progress, const struct cllm_config *config,
                        const struct cllm_control *control,
                        const struct cllm_step_record *record, uint64_t now_ns)
{
    (void)control;
    *progress = (struct cllm_progress){.config = config, .began_ns = now_ns};
    (void)record;
}

void cllm_progress_step(struct cllm_progress *progress, struct cllm_control *control,
                        const struct cllm_step_record *record,
                        const struct cllm_metrics *metrics, uint64_t now_ns)
{
    (void)progress;
    (void)control;
    (void)record;
    (void)metrics;
    (void)now_ns;
}

void cllm_progress_status(struct cllm_progress *progress,
                          const struct cllm_control *control, uint32_t workers,
                          uint64_t now_ns)
{
    (void)progress;
    (void)control;
    (void)workers;
    (void)now_ns;
}

void cllm_progress_summary(const struct cllm_progress *progress,
                           const struct cllm_control *control, uint32_t workers,
                           uint64_t now_ns)
{
    (void)progress;
    (void)control;
    (void)workers;
    (void)now_ns;
}

void cllm_crashes_keep(const struct cllm_control *control, uint32_t slot,
                       const char *binaries, struct cllm_ending *ending)
{
    (void)control;
    (void)slot;
    (void)binaries;
    (void)ending;
}

void cllm_log_init(const char *role, enum cllm_log_level level)
{
    (void)role;
    (void)level;
}

void cllm_log_set_file(int fd)
{
    (void)fd;
}

bool cllm_log_is_terminal(void)
{
    return false;
}

void cllm_log_status(const char *fmt, ...)
{
    (void)fmt;
}

void cllm_log(enum cllm_log_level level, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    if (!sim.verbose)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    sim_trace(SIM_NOTE, sim.current, 0, (uint64_t)level, text);
}

void __wrap_cllm_err_print(const char *program);

void __wrap_cllm_err_print(const char *program)
{
    (void)program;
    sim_trace(SIM_NOTE, sim.current, 0, 0, cllm_err_text());
}

void __wrap_cllm_assert_failed(const char *cond, const char *file, int line,
                               const char *func) CLLM_NORETURN;

void __wrap_cllm_assert_failed(const char *cond, const char *file, int line,
                               const char *func)
{
    sim_violation("assert", "%s:%d: %s: %s", file, line, func, cond);
}
