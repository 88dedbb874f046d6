/*
 * saver/save.c - from a pinned version to a durable directory.
 *
 * The data streams: a stretch is copied, hashed and written to its places in two files of
 * which the whole length was allocated first, so that a full disk shows before any work
 * is done; a chunk that has not its hash at its end ends the save. An fsync that fails is
 * not tried again on the same file (the kernel may have thrown the pages away); the whole
 * temporary directory goes, and the next save begins anew from memory.
 */
#include "saver/save.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/pulse.h"
#include "formats/tokenizer_files.h"
#include "saver/piece.h"
#include "saver/snapshot.h"
#include "saver/tensor_file.h"
#include "shm/chunk.h"

/* What config.json says of constants that are no options. */
#define INIT_RANGE 0.02

struct save {
    struct cllm_saver *saver;
    struct cllm_snapshot snapshot;
    struct cllm_checkpoint_info info;
    char temp[CLLM_FILE_PATH_BYTES];
    struct cllm_tensor_file file[2]; /* weights, optimizer */
    struct cllm_checkpoint_digest digest[2];
};

/* How far each data set of a mixture has been gone through; nothing for a plain list. */
static void fill_parts(struct cllm_checkpoint_info *info, const char *manifest)
{
    uint64_t counts[CLLM_MIX_MAX];
    struct cllm_mixture mixture;

    if (strncmp(manifest, "[train ", strlen("[train ")) != 0)
        return;
    if (cllm_mixture_parse(&mixture, &manifest, info->model.context) != 0) {
        cllm_warn("%s; the checkpoint does not say the epochs", cllm_err_text());
        return;
    }
    cllm_mix_count(&mixture.mix, info->cursor, counts);
    info->n_parts = mixture.mix.n;
    for (uint32_t i = 0; i < mixture.mix.n; i++) {
        (void)snprintf(info->part[i].name, sizeof info->part[i].name, "%s",
                       mixture.part[i].name);
        info->part[i].windows = mixture.part[i].n_windows;
        info->part[i].sequences = counts[i];
    }
}

/* What the checkpoint says of itself: step record, geometry, data, nothing else. */
static void fill_info(struct cllm_checkpoint_info *info,
                      const struct cllm_control *control,
                      const struct cllm_step_record *record)
{
    const struct cllm_header *header = control->header;

    *info = (struct cllm_checkpoint_info){
        .step = record->step,
        .cursor = record->cursor,
        .tokens = record->tokens,
        .train_loss = record->loss,
        .valid_loss = record->valid_loss,
        .best_loss = record->best_loss,
        .valid_step = isnan(record->valid_loss) ? 0 : record->valid_step,
        .best_step = isnan(record->best_loss) ? 0 : record->best_step,
        .base = header->geometry.frozen_hash,
        .lora = header->geometry.lora,
        .model = header->geometry.model,
        .init_range = INIT_RANGE,
    };
    (void)snprintf(info->fingerprint, sizeof info->fingerprint,
                   "%016" PRIx64 "%016" PRIx64, record->numerics, header->config_hash);
    (void)snprintf(info->root, sizeof info->root, "%016" PRIx64, record->root);
    (void)snprintf(info->data, sizeof info->data, "%016" PRIx64, header->manifest_hash);
    fill_parts(info, control->manifest);
}

/*
 * Is the checkpoint there already, whole, and the one that would be written now? After a
 * save that failed the answer is no: it may have failed at the fsync of the directory,
 * and then the name that is seen here never reaches the disk, whatever a second fsync
 * says.
 */
static bool is_saved(const struct save *save)
{
    const struct cllm_checkpoint_info *want = &save->info;
    struct cllm_checkpoint_info found;
    char name[32], dir[CLLM_FILE_PATH_BYTES];

    if (save->saver->has_failed)
        return false;
    cllm_checkpoint_name(name, want->step, false);
    if (cllm_file_join(dir, save->saver->checkpoints, name) != 0 ||
        access(dir, F_OK) != 0)
        return false;
    if (cllm_checkpoint_verify(dir, true, &found) != 0) {
        cllm_warn("%s; it is written again", cllm_err_text());
        return false;
    }
    return strcmp(found.root, want->root) == 0 &&
           strcmp(found.fingerprint, want->fingerprint) == 0 &&
           strcmp(found.data, want->data) == 0 && found.best_step == want->best_step &&
           found.valid_step == want->valid_step;
}

/* ---- writing ---- */

static int create_files(struct save *save)
{
    const struct cllm_tensor *tensors = save->saver->plan.tensors;
    uint32_t n = save->saver->plan.n_tensors;
    struct cllm_safetensors_plan plan[2] = {{0}};
    const char *const name[2] = {cllm_checkpoint_weights(&save->info.lora),
                                 CLLM_CHECKPOINT_OPTIMIZER};
    int rc = cllm_safetensors_plan_init(&plan[0], "", tensors, n, NULL, 0);

    if (rc == 0)
        rc = cllm_safetensors_plan_moments(&plan[1], tensors, n);
    if (rc == 0)
        rc = cllm_checkpoint_begin(save->saver->checkpoints, save->info.step, save->temp);
    for (uint32_t i = 0; rc == 0 && i < 2; i++) {
        uint32_t n_parts = i + 1; /* w; m and v */

        rc = cllm_tensor_file_create(&save->file[i], save->temp, name[i], &plan[i],
                                     n_parts);
    }
    for (uint32_t i = 0; i < 2; i++)
        cllm_safetensors_plan_fini(&plan[i]);
    return rc;
}

/* The tensors' pieces in part @part (0 w, 1 m, 2 v) of a stretch to their places. */
static int write_part(struct save *save, const struct cllm_stretch *stretch,
                      uint32_t part)
{
    const struct cllm_saver *saver = save->saver;
    struct cllm_tensor_file *file = &save->file[part == 0 ? 0 : 1];
    uint32_t first = part == 2 ? saver->plan.n_tensors : 0; /* m first, then v */
    struct cllm_piece piece = cllm_piece_begin(saver->plan.tensors, saver->plan.n_tensors,
                                               stretch->lo, stretch->lo + stretch->n);

    while (cllm_piece_next(&piece)) {
        size_t bytes = piece.n * sizeof(float);
        int rc = cllm_tensor_file_put(
            file, part == 2 ? 1 : 0, stretch->part[part] + piece.range_off, bytes,
            file->plan.data_off[first + piece.tensor] + piece.tensor_off * sizeof(float));

        if (rc != 0)
            return rc;
        atomic_fetch_add_explicit(&saver->control->own->status.saved_bytes, bytes,
                                  memory_order_relaxed);
    }
    return 0;
}

static int write_tensors(struct save *save)
{
    struct cllm_stretch stretch;
    int rc;

    while ((rc = cllm_snapshot_next(&save->snapshot, &stretch)) == 1) {
        for (uint32_t part = 0; part < 3; part++) {
            rc = write_part(save, &stretch, part);
            if (rc != 0)
                return rc;
        }
        cllm_pulse();
    }
    return rc;
}

static int close_files(struct save *save)
{
    int rc = 0;

    for (uint32_t i = 0; i < 2; i++) {
        int closed = cllm_tensor_file_close(&save->file[i]);

        rc = rc == 0 ? closed : rc;
    }
    return rc;
}

/* Does a resume find in these files what it looks for? */
static int look_back(const struct save *save)
{
    const struct cllm_saver *saver = save->saver;
    struct cllm_archive archive;
    int rc = cllm_archive_open(&archive, save->temp, save->file[0].name,
                               saver->plan.tensors, saver->plan.n_tensors);

    if (rc == 0)
        cllm_archive_close(&archive);
    return rc;
}

/* The run's vocabulary, when it has one, becomes part of the checkpoint. */
static int copy_tokenizer(const struct save *save)
{
    char dir[CLLM_FILE_PATH_BYTES];
    int rc =
        cllm_file_join(dir, save->saver->control->header->run_dir, CLLM_TOKENIZER_DIR);

    if (rc == 0 && access(dir, F_OK) != 0)
        return errno == ENOENT ? 0 : cllm_err(-errno, "cannot look at %s", dir);
    if (rc == 0)
        rc = cllm_tokenizer_files_copy(dir, save->temp);
    return rc < 0 ? rc : 0;
}

static int write_directory(struct save *save)
{
    int rc = create_files(save), closed;

    cllm_fault(CLLM_FAULT_save_files);
    if (rc == 0)
        rc = write_tensors(save);
    cllm_fault(CLLM_FAULT_save_written);
    for (uint32_t i = 0; rc == 0 && i < 2; i++) {
        rc = cllm_tensor_file_sync(&save->file[i]);
        cllm_pulse();
    }
    for (uint32_t i = 0; rc == 0 && i < 2; i++)
        rc = cllm_tensor_file_read_back(&save->file[i], &save->digest[i]);
    if (rc == 0)
        rc = look_back(save);
    cllm_fault(CLLM_FAULT_save_verified);
    closed = close_files(save);
    if (rc == 0)
        rc = closed;
    if (rc == 0)
        rc = copy_tokenizer(save);
    if (rc == 0)
        rc = cllm_checkpoint_describe(save->temp, &save->info, save->digest, 2);
    cllm_fault(CLLM_FAULT_save_described);
    if (rc == 0)
        rc = cllm_checkpoint_commit(save->saver->checkpoints, save->info.step);
    cllm_fault(CLLM_FAULT_save_committed);
    return rc;
}

/* ---- around it ---- */

/*
 * `last` belongs to the checkpoint: it is what a resumption takes, and what keeps the new
 * one from being pruned where newer ones, of a future that was given up, are there.
 * `best` and pruning serve people and save space: what fails there is said and forgotten.
 */
static int tidy(const struct save *save)
{
    const char *checkpoints = save->saver->checkpoints;
    uint64_t keep = save->saver->child->config.checkpoint_keep;
    int rc = cllm_checkpoint_link(checkpoints, "last", save->info.step);

    if (rc != 0)
        return rc;
    if (save->info.best_step == save->info.step && !isnan(save->info.best_loss) &&
        cllm_checkpoint_link(checkpoints, "best", save->info.step) != 0)
        cllm_warn("%s", cllm_err_text());
    if (cllm_checkpoint_prune(checkpoints, (uint32_t)keep, NULL) != 0)
        cllm_warn("%s", cllm_err_text());
    return 0;
}

int cllm_save_step(struct cllm_saver *saver, uint64_t step, uint32_t version)
{
    struct save save = {.saver = saver};
    int rc;

    cllm_archive_close(&saver->archive); /* its directory may be replaced now */
    rc = cllm_snapshot_begin(&save.snapshot, saver->control, saver->child->eventfd, step,
                             version);
    if (rc == 0) {
        fill_info(&save.info, saver->control, &save.snapshot.record);
        if (is_saved(&save)) {
            cllm_fault(CLLM_FAULT_save_known);
            /* Its name may not be on the disk: whoever wrote it may have died just then.
             */
            rc = cllm_file_sync_dir(saver->checkpoints);
        } else {
            rc = write_directory(&save);
        }
    }
    cllm_snapshot_end(&save.snapshot);
    if (rc == 0)
        rc = tidy(&save);
    if (rc != 0) {
        saver->has_failed = true;
        cllm_err_add("cannot save step %" PRIu64, step);
    }
    cllm_fault(CLLM_FAULT_save_tidied);
    return rc;
}

void cllm_save_abandon(const struct cllm_saver *saver, uint64_t step)
{
    char name[32], temp[CLLM_FILE_PATH_BYTES];
    int rc;

    cllm_checkpoint_name(name, step, true);
    rc = cllm_file_join(temp, saver->checkpoints, name);
    if (rc == 0)
        rc = cllm_file_remove_tree(temp);
    if (rc != 0)
        cllm_warn("%s", cllm_err_text());
}
