/*
 * tests/crash/points_cases.c - the tables, and all that they allow together.
 */
#include "tests/crash/points_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

#define MOST_CASES 20000

static const struct scenario_row scenario[SCENARIOS] = {
    [PLAIN] = {.name = "plain", .whole = true},
    [ADOPT] = {.name = "adopt", .whole = true},
    [LOAD] = {.name = "load", .whole = true},
    [DAMAGED] = {.name = "damaged", .whole = true},
    [KNOWN] = {.name = "known", .also = "save_committed:kill:4:saver"},
    [HURRY] = {.name = "hurry", .also = "save_record:sleep=3000:1*2:saver"},
    [SAVE_FAILS] = {.name = "save-fails", .also = "save_fsync:errno=EIO:1:saver"},
    [LOADER_FAILS] = {.name = "loader-fails",
                      .also = "read_result:errno=EIO:60*100000:loader",
                      .ends = true},
    [WORKER_DIES] = {.name = "worker-dies", .also = "lane_batch:kill:20:worker"},
    [WORKER_FAULTS] = {.name = "worker-faults", .also = "lane_batch:segv:20:worker"},
    [IMPORT] = {.name = "import", .family = IMPORTED},
    [MUON] = {.name = "muon", .family = ORTHOGONAL},
    [LLAMA] = {.name = "llama", .family = ROTATED, .whole = true},
};

static const char *const setting[FAMILIES][4] = {
    [FROM_SEED] = {"data.train=%s/words/train_*.bin", "model.vocab=320"},
    [IMPORTED] = {"data.train=%s/words/train_*.bin", "model.vocab=320",
                  "train.from=%s/model"},
    [ORTHOGONAL] = {"train.optimizer=muon"},
    [ROTATED] = {"model.arch=llama", "model.kv_heads=1"},
};

const char *const *points_settings(enum family which)
{
    return setting[which];
}

#define ZERO (1u << CLLM_FAULT_NODE_ZERO)

/* Points that a plain run does not come by, or not those roles in it. */
static const struct {
    enum cllm_fault_point point;
    enum scenario scenario;
    uint32_t roles; /* 0: all */
} elsewhere[] = {
    {CLLM_FAULT_save_known, KNOWN, 0},
    {CLLM_FAULT_saving_hurry, HURRY, 0},
    {CLLM_FAULT_adopt_judged, ADOPT, 0},
    {CLLM_FAULT_adopt_voided, ADOPT, 0},
    {CLLM_FAULT_bury_begin, WORKER_DIES, 0},
    {CLLM_FAULT_bury_reaped, WORKER_DIES, 0},
    {CLLM_FAULT_bury_noted, WORKER_DIES, 0},
    {CLLM_FAULT_bury_given_back, WORKER_DIES, 0},
    {CLLM_FAULT_verify_begin, WORKER_FAULTS, 0},
    {CLLM_FAULT_step_reopened, WORKER_FAULTS, 0},
    {CLLM_FAULT_save_hurry, HURRY, 0},
    {CLLM_FAULT_save_aside, HURRY, 0},
    {CLLM_FAULT_saver_failed, SAVE_FAILS, 0},
    {CLLM_FAULT_loader_failing, LOADER_FAILS, 0},
    {CLLM_FAULT_loader_failed, LOADER_FAILS, 0},
    {CLLM_FAULT_load_opened, LOAD, 0},
    {CLLM_FAULT_load_chunk, LOAD, 0},
    {CLLM_FAULT_load_summed, LOAD, 0},
    {CLLM_FAULT_checkpoint_exchange, DAMAGED, 0},
    {CLLM_FAULT_checkpoint_swapped, DAMAGED, 0},
    {CLLM_FAULT_output_create, IMPORT, 0},
    {CLLM_FAULT_output_copy, IMPORT, 0},
    {CLLM_FAULT_output_copied, IMPORT, 0},
    {CLLM_FAULT_output_fsync, IMPORT, 0},
    {CLLM_FAULT_output_exchange, IMPORT, 0},
    {CLLM_FAULT_output_exchanged, IMPORT, 0},
    {CLLM_FAULT_vocabulary_found, IMPORT, 0},
    {CLLM_FAULT_vocabulary_copied, IMPORT, 0},
    {CLLM_FAULT_vocabulary_described, IMPORT, 0},
    {CLLM_FAULT_vocabulary_kept, IMPORT, 0},
    {CLLM_FAULT_import_begun, IMPORT, 0},
    {CLLM_FAULT_import_tensor, IMPORT, 0},
    {CLLM_FAULT_import_fsync, IMPORT, 0},
    {CLLM_FAULT_import_tensors, IMPORT, 0},
    {CLLM_FAULT_import_described, IMPORT, 0},
    {CLLM_FAULT_import_kept, IMPORT, 0},
    {CLLM_FAULT_import_committed, IMPORT, 0},
    {CLLM_FAULT_import_linked, IMPORT, 0},
    {CLLM_FAULT_journal_aside, IMPORT, 0},
    {CLLM_FAULT_file_pwrite, IMPORT, ZERO},
    {CLLM_FAULT_file_symlink, IMPORT, ZERO},
    {CLLM_FAULT_file_unlink, IMPORT, ZERO},
    {CLLM_FAULT_file_rmdir, IMPORT, ZERO},
    {CLLM_FAULT_checkpoint_create, IMPORT, ZERO},
    {CLLM_FAULT_checkpoint_reserve, IMPORT, ZERO},
    {CLLM_FAULT_checkpoint_config, IMPORT, ZERO},
    {CLLM_FAULT_checkpoint_manifest, IMPORT, ZERO},
    {CLLM_FAULT_checkpoint_commit, IMPORT, ZERO},
    {CLLM_FAULT_muon_begun, MUON, 0},
    {CLLM_FAULT_muon_iterated, MUON, 0},
    {CLLM_FAULT_muon_made, MUON, 0},
};

static const struct action quick_action[] = {
    {"kill", true, true, true, true, false, 1},
};

static const struct action deep_action[] = {
    {"kill", true, true, true, true, false, 7},
    {"segv", true, true, true, true, false, 7},
    {"abort", true, true, true, true, false, 7},
    {"exit=1", true, true, true, false, false, 7},
    {"stop", true, true, true, true, true, 7},
    {"hang", true, true, true, true, true, 7},
    {"errno=EIO", false, true, true, false, false, 7},
    {"errno=EINTR", false, false, true, true, false, 7},
    {"short", false, false, true, true, false, 7},
};

const struct scenario_row *points_scenario(enum scenario which)
{
    return &scenario[which];
}

static enum scenario home_of(enum cllm_fault_point point, enum cllm_fault_role role)
{
    for (size_t i = 0; i < CLLM_LEN(elsewhere); i++)
        if (elsewhere[i].point == point &&
            (elsewhere[i].roles == 0 || (elsewhere[i].roles >> role & 1u) != 0))
            return elsewhere[i].scenario;
    return PLAIN;
}

static bool possible(const struct action *action, const struct cllm_fault_row *row,
                     enum cllm_fault_role role)
{
    if (action->unseen && role == CLLM_FAULT_GUARDIAN)
        return false;
    return row->kind == CLLM_FAULT_PLACE   ? action->place
           : row->kind == CLLM_FAULT_ERROR ? action->error
                                           : action->io;
}

struct list {
    struct point_case *cases;
    uint32_t n;
    const char *only;
    bool deep;
};

static void add_case(struct list *list, struct point_case what)
{
    int n = snprintf(what.name, sizeof what.name, "%s/%s:%s:%u:%s",
                     scenario[what.scenario].name, cllm_fault_row(what.point)->name,
                     what.action->text, what.nth, cllm_fault_role_name(what.role));

    CLLM_ASSERT(n > 0 && (size_t)n < sizeof what.name);
    CLLM_ASSERT(list->n < MOST_CASES);
    if (!list->only || strncmp(list->only, what.name, strlen(list->only)) == 0)
        list->cases[list->n++] = what;
}

/* Only runs on a device come by: tests/e2e/opencl.sh and devices.sh make them. Those of
 * cllm-prep belong to no run: tests/e2e/prep.sh. */
static bool is_for_others(enum cllm_fault_point point)
{
    return (point >= CLLM_FAULT_device_open && point <= CLLM_FAULT_device_wait) ||
           cllm_fault_row(point)->roles == 1u << CLLM_FAULT_PREP;
}

/* Every point, role, action and number of times in @where. */
static void add_scenario(struct list *list, enum scenario where,
                         const struct action *actions, size_t n)
{
    struct point_case what = {.scenario = where};
    for (uint32_t p = 0; p < CLLM_FAULT_LAST; p++) {
        const struct cllm_fault_row *row = cllm_fault_row((enum cllm_fault_point)p);

        what.point = (enum cllm_fault_point)p;
        for (uint32_t r = 0; r < CLLM_FAULT_ROLES; r++) {
            what.role = (enum cllm_fault_role)r;
            if (is_for_others(what.point) ||
                (!scenario[where].whole && home_of(what.point, what.role) != where))
                continue;
            for (size_t a = 0; a < n && (row->roles >> r & 1u) != 0; a++) {
                what.action = &actions[a];
                for (what.nth = 1; what.nth <= actions[a].max_n; what.nth += 6) {
                    what.required =
                        what.nth == 1 && home_of(what.point, what.role) == where;
                    if (possible(what.action, row, what.role) &&
                        (list->deep || what.required))
                        add_case(list, what);
                }
            }
        }
    }
}

struct point_case *points_list(bool deep, const char *only, uint32_t *n)
{
    struct list list = {.only = only, .deep = deep};

    list.cases = calloc(MOST_CASES, sizeof *list.cases);
    for (uint32_t s = 0; list.cases && s < SCENARIOS; s++)
        add_scenario(&list, (enum scenario)s, deep ? deep_action : quick_action,
                     deep ? CLLM_LEN(deep_action) : CLLM_LEN(quick_action));
    *n = list.n;
    return list.cases;
}

void points_shuffle(struct point_case *cases, uint32_t n, uint64_t seed)
{
    for (uint32_t i = n; i > 1; i--) {
        uint64_t other = cllm_random_u64(seed, CLLM_RANDOM_TEST, i) % i;
        struct point_case last = cases[i - 1];

        cases[i - 1] = cases[other];
        cases[other] = last;
    }
}
