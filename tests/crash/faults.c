/*
 * tests/crash/faults.c - the disk fails while a checkpoint is written: what is lost?
 *
 * Every call that the saver makes below its directory fails once, in every way it can:
 * broken (EIO), full (ENOSPC), no descriptors (EMFILE), interrupted (EINTR), half done;
 * once or from then on. And the disk has room for 4 KiB more each time, until all fits.
 * After each of them:
 *
 *   - the saver lives, has said what is wrong, and has no file open;
 *   - older checkpoints are as they were, byte for byte, and one of them is chosen; or
 * the new one, if it is whole;
 *   - no file was given a second fsync after one that failed;
 *   - what was called durable is there after a power cut in which everything is lost that
 *     a failed or missing fsync left uncertain;
 *   - the next attempt, without a fault, is durable, of files that are new.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "tests/crash/saver_rig.h"
#include "tests/crash/tally.h"
#include "tests/crash/whole.h"

#define QUICK_STRIDE 41
#define ROOM_STEP    4096

static const struct saver_run_size size = {
    .vocab = 40, .context = 6, .layers = 1, .width = 16, .chunk_elements = 1024};

static const struct {
    const char *name;
    int error;
    bool lasting;
} faults[] = {
    {"EIO", EIO, false},       {"EIO-lasting", EIO, true},
    {"ENOSPC", ENOSPC, false}, {"ENOSPC-lasting", ENOSPC, true},
    {"EMFILE", EMFILE, false}, {"EMFILE-lasting", EMFILE, true},
    {"EINTR", EINTR, false},   {"half", 0, false},
};

/* What is there before, and what is saved then. */
static const struct scenario {
    const char *name;
    int keep;
    uint64_t good[2], rotten[2]; /* 0 = none */
    uint64_t step, best;
} scenarios[] = {
    {"third", 2, {10, 20}, {0, 0}, 30, 30},
    {"damaged-replaced", 2, {10, 20}, {30, 0}, 30, 20},
    {"rotten-future", 1, {10, 20}, {30, 40}, 25, 10},
};

static struct {
    struct tally tally;
    struct saver_rig rig;
    const struct scenario *scenario;
    struct whole_set whole;
    struct disk_model *base_model; /* owns what base points at */
    struct disk_tree base;         /* before each attempt */
    struct disk_tree there;
    struct disk_log *log;
    uint64_t saved, failed;
} self;

/* ---- before and after ---- */

static void flip(uint64_t step)
{
    char name[64];

    (void)snprintf(name, sizeof name, "step-%010" PRIu64 "/model.safetensors", step);
    saver_run_flip_file(&self.rig.run, name, 3000);
}

static void save_well(uint64_t step, uint64_t best)
{
    int rc = saver_rig_save(&self.rig, step, best);

    if (rc != 0)
        cllm_err_print("faults");
    CLLM_ASSERT(rc == 0);
}

/* The directory as it is before each attempt, and the bytes of a save that ends well. */
static void prepare(const struct scenario *scenario)
{
    const char *checkpoints;

    self.scenario = scenario;
    self.whole.n = 0;
    saver_rig_open(&self.rig, &size, 4);
    checkpoints = self.rig.checkpoints;
    CLLM_ASSERT(saver_rig_start(&self.rig) == 0);
    save_well(scenario->step, scenario->best);
    whole_remember(&self.whole, checkpoints, scenario->step);
    CLLM_ASSERT(cllm_file_remove_tree(checkpoints) == 0);
    CLLM_ASSERT(cllm_file_mkdirs(checkpoints) == 0);
    for (uint32_t i = 0; i < 2 && scenario->good[i] != 0; i++) {
        save_well(scenario->good[i], scenario->good[0]);
        whole_remember(&self.whole, checkpoints, scenario->good[i]);
    }
    for (uint32_t i = 0; i < 2 && scenario->rotten[i] != 0; i++) {
        save_well(scenario->rotten[i], scenario->good[0]);
        flip(scenario->rotten[i]);
    }
    /* What `last` names is what the run went back to. */
    CLLM_ASSERT(cllm_checkpoint_link(checkpoints, "last", scenario->good[1]) == 0);
    self.rig.child.config.checkpoint_keep = (uint64_t)scenario->keep;
    self.base_model = disk_model_new(disk_watch(checkpoints));
    disk_model_tree(self.base_model, NULL, &self.base);
    disk_unwatch();
    CLLM_ASSERT(cllm_file_remove_tree(checkpoints) == 0);
    CLLM_ASSERT(cllm_file_mkdirs(checkpoints) == 0);
    self.there.n = 0;
    saver_run_commit(&self.rig.run, scenario->step, scenario->best);
}

static void finish(void)
{
    disk_model_free(&self.base_model);
    saver_rig_close(&self.rig);
}

/* ---- checks ---- */

/* What is on the file system now, as a tree; for the next disk_tree_put() too. */
static struct disk_model *look(void)
{
    struct disk_model *model = disk_model_new(disk_watch(self.rig.checkpoints));

    disk_unwatch();
    disk_model_tree(model, NULL, &self.there);
    return model;
}

/* Was the power cut now, with everything uncertain lost, would @durable be there? */
static bool check_power_cut(uint64_t durable)
{
    struct disk_model *model = disk_model_new(self.log);
    struct disk_tree tree = {0};
    struct disk_choice *lost;
    const struct whole *want;
    bool ok = true;

    while (disk_model_advance(model, false))
        continue;
    lost = calloc(disk_model_pending(model) + 1, sizeof *lost);
    CLLM_ASSERT(lost != NULL);
    disk_model_tree(model, lost, &tree);
    want = whole_newest(&self.whole, &tree);
    if (want == NULL || want->step < durable)
        ok = tally_fail(&self.tally,
                        "step %" PRIu64 " was durable, a power cut leaves step %" PRIu64,
                        durable, want == NULL ? 0 : want->step);
    free(lost);
    disk_tree_free(&tree);
    disk_model_free(&model);
    return ok;
}

/* On the file system: old ones untouched (a success may prune), the right one chosen. */
static bool check_files(int rc)
{
    const struct scenario *scenario = self.scenario;
    char dir[CLLM_FILE_PATH_BYTES], expected[CLLM_FILE_PATH_BYTES];
    struct disk_model *model = look();
    const struct whole *want = whole_newest(&self.whole, &self.there);
    bool ok = true;

    for (uint32_t i = 0; rc != 0 && i < 2; i++) {
        uint64_t step = scenario->good[i];

        if (step != 0 && whole_in(&self.whole, &self.there, step) == NULL)
            ok = tally_fail(&self.tally, "step %" PRIu64 " is damaged", step);
    }
    if (rc == 0 && whole_in(&self.whole, &self.there, scenario->step) == NULL)
        ok = tally_fail(&self.tally, "step %" PRIu64 " was saved and is not whole",
                        scenario->step);
    disk_capture(true);
    if (ok && (want == NULL || cllm_checkpoint_newest(self.rig.checkpoints, dir) != 0))
        ok = tally_fail(&self.tally, "nothing can be loaded: %s", cllm_err_text());
    disk_capture(false);
    if (ok) {
        whole_path(expected, self.rig.checkpoints, want->step, NULL);
        if (strcmp(dir, expected) != 0)
            ok = tally_fail(&self.tally, "%s is chosen, not %s", dir, expected);
    }
    disk_model_free(&model);
    return ok;
}

/* Every file of the new checkpoint is younger than object @first. */
static bool check_new_files(uint32_t first)
{
    for (uint32_t i = 0; i < WHOLE_FILES; i++) {
        char path[CLLM_FILE_PATH_BYTES];
        uint32_t object;

        whole_path(path, self.rig.checkpoints, self.scenario->step, whole_file[i]);
        object = disk_object_at(path);
        if (object == DISK_NOTHING || object < first)
            return tally_fail(&self.tally, "%s is a file of the attempt that failed",
                              path);
    }
    return true;
}

/* The saver as a process would: begin, save. */
static int attempt(bool begin)
{
    int rc = begin ? saver_rig_start(&self.rig) : 0;

    return rc != 0 ? rc : saver_rig_save_again(&self.rig, self.scenario->step);
}

/* A save under @fault, then one without. Returns whether a call failed. */
static bool try_fault(const struct disk_fault *fault)
{
    const struct scenario *scenario = self.scenario;
    uint64_t before = scenario->good[1] != 0 ? scenario->good[1] : scenario->good[0];
    bool ok = true, hit, again;
    uint32_t n_objects;
    char words[256];
    int rc;

    disk_tree_put(self.rig.checkpoints, &self.there, &self.base);
    self.log = disk_watch(self.rig.checkpoints);
    disk_set_fault(fault);
    disk_capture(true);
    rc = attempt(true);
    (void)snprintf(words, sizeof words, "%s", cllm_err_text());
    hit = disk_faults_hit() > 0;
    again = disk_syncs_repeated() > 0;
    disk_set_fault(NULL);
    if (again)
        ok = tally_fail(&self.tally, "fsync was tried again on a file");
    if (disk_open_files() != 0)
        ok = tally_fail(&self.tally, "%d files left open", disk_open_files());
    if (rc != 0 && words[0] == '\0')
        ok = tally_fail(&self.tally, "error %d without a word", rc);
    if (rc != 0 && fault->error == 0 && fault->room == UINT64_MAX)
        ok = tally_fail(&self.tally, "a short transfer is not gone on with: %s", words);
    ok = ok && check_power_cut(rc == 0 ? scenario->step : before);

    /* Once more, on a disk that works; the saver began, unless it was that which failed.
     */
    n_objects = self.log->n_objects;
    if (rc != 0) {
        int rc2 = attempt(self.rig.saver.plan.tensors == NULL);

        if (rc2 != 0)
            ok = tally_fail(&self.tally, "the next attempt fails: %s", cllm_err_text());
        ok = ok && check_new_files(n_objects) && check_power_cut(scenario->step);
        if (disk_syncs_repeated() > 0)
            ok = tally_fail(&self.tally, "the next attempt repeats an fsync");
    }
    disk_unwatch();
    disk_capture(false);
    ok = check_files(0) && ok;
    self.saved += rc == 0;
    self.failed += rc != 0;
    self.tally.passed += ok;
    return hit;
}

/* The same fault with nothing after it: what a failure alone leaves. */
static void try_alone(const struct disk_fault *fault)
{
    int rc;
    bool ok;

    disk_tree_put(self.rig.checkpoints, &self.there, &self.base);
    self.log = disk_watch(self.rig.checkpoints);
    disk_set_fault(fault);
    disk_capture(true);
    rc = attempt(true);
    disk_set_fault(NULL);
    disk_unwatch();
    disk_capture(false);
    ok = check_files(rc);
    self.tally.passed += ok;
}

/* ---- campaigns ---- */

/* Call number 0, 1, 2 ... fails, until a run makes fewer calls. */
static void fail_every_call(size_t f)
{
    struct disk_fault fault = {
        .error = faults[f].error, .lasting = faults[f].lasting, .room = UINT64_MAX};
    uint64_t stride = self.tally.quick ? QUICK_STRIDE : 1;
    bool hit = true;

    for (fault.at = self.tally.seed % stride; hit; fault.at += stride) {
        if (!tally_case(&self.tally, "%s:%s:%" PRIu64, self.scenario->name,
                        faults[f].name, fault.at)) {
            hit = fault.at < 4096;
            continue;
        }
        hit = try_fault(&fault);
        /* A call that cannot be half done passes untouched: go on to the last one. */
        hit = hit || (faults[f].error == 0 && fault.at < 512);
        if (hit)
            try_alone(&fault);
    }
}

/* The disk takes 0, 4, 8 ... KiB more, until all fits. */
static void fill_every_page(void)
{
    struct disk_fault fault = {.at = UINT64_MAX};
    uint64_t step = self.tally.quick ? 5 * ROOM_STEP : ROOM_STEP;
    bool hit = true;

    for (fault.room = 0; hit; fault.room += step) {
        if (!tally_case(&self.tally, "%s:room:%" PRIu64, self.scenario->name,
                        fault.room)) {
            hit = fault.room < 1u << 20;
            continue;
        }
        hit = try_fault(&fault);
        if (hit)
            try_alone(&fault);
    }
}

int main(int argc, char **argv)
{
    tally_begin(&self.tally, argc, argv,
                "What a disk that fails does to checkpoints, old and new.");
    cllm_log_init("faults", CLLM_LOG_WARN);
    for (size_t i = 0; i < CLLM_LEN(scenarios); i++) {
        uint64_t saved = self.saved, failed = self.failed;

        prepare(&scenarios[i]);
        for (size_t f = 0; f < CLLM_LEN(faults); f++)
            fail_every_call(f);
        fill_every_page();
        finish();
        (void)printf("%-18s %6" PRIu64 " attempts saved all the same, %6" PRIu64
                     " failed and were made good\n",
                     scenarios[i].name, self.saved - saved, self.failed - failed);
    }
    disk_tree_free(&self.base);
    disk_tree_free(&self.there);
    return tally_end(&self.tally);
}
