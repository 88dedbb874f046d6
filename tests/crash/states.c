/*
 * tests/crash/states.c - the power goes while a checkpoint is written: what is chosen?
 *
 * The saver's own code saves and prunes checkpoints while every operation on its
 * directory is written down (disk_log.h). From that, the states that a disk may be in
 * after a power cut are made (disk_state.h), each is put on a real file system, and the
 * product chooses a checkpoint from it. Three promises are held against every state:
 *
 *   - what is chosen is whole: its five files are, byte for byte, those of a save that
 *     ended well; and it is the newest of which that can be said;
 *   - it is not older than the newest one that the saver called durable;
 *   - every newer directory that is passed over is named with a reason.
 *
 * The second one cannot be kept by a disk that lies about fsync; the first and the third
 * must be, so every sequence is tried on such a disk too. That the checks can fail at all
 * is proved on sequences that are wrong on purpose.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/random.h"
#include "tests/crash/saver_rig.h"
#include "tests/crash/tally.h"
#include "tests/crash/whole.h"

#define MAX_PENDING    1024
#define EXHAUSTIVE_MAX 9  /* so many pending operations: every subset of them */
#define SYSTEMATIC_MAX 64 /* so many: each one alone lost, done, torn */
#define QUICK_THIN     48 /* a quick run tries one systematic state in so many */
#define QUICK_STATES   3000
#define DEEP_STATES    150000
#define DEEP_SECONDS   600
#define LOAD_EVERY     64
#define RESTART_EVERY  256

/* Tensors over several pages and sectors, chunks that end inside them. */
static const struct saver_run_size size = {
    .vocab = 40, .context = 6, .layers = 1, .width = 16, .chunk_elements = 1024};

enum mode { HONEST, LYING, N_MODES };
static const char *const mode_name[N_MODES] = {"honest", "lying"};

static struct {
    struct tally tally;
    struct saver_rig rig;
    struct disk_log *log;
    struct whole_set whole;
    uint64_t durable_before; /* newest whole one when the log begins */
    struct disk_tree there;  /* on the file system */
    struct disk_tree tree;   /* being tried */
    struct disk_choice choice[MAX_PENDING];
    uint64_t *seen; /* [seen_room] hashes of states, open addressing */
    uint64_t n_seen, seen_room;
    uint64_t states, loads, restarts, passed_over;
} self;

/* ---- scenarios ---- */

/* Save @step; it must end well. */
static void save(uint64_t step, uint64_t best_step)
{
    int rc = saver_rig_save(&self.rig, step, best_step);

    if (rc != 0)
        cllm_err_print("states");
    CLLM_ASSERT(rc == 0);
}

static void before(uint64_t step, uint64_t best_step)
{
    save(step, best_step);
    whole_remember(&self.whole, self.rig.checkpoints, step);
    self.durable_before = step;
}

static void recorded(uint64_t step, uint64_t best_step)
{
    save(step, best_step);
    disk_mark_durable(step);
    whole_remember(&self.whole, self.rig.checkpoints, step);
}

/* A byte of the tensors of @step is another one. */
static void damage(uint64_t step)
{
    char name[64];

    (void)snprintf(name, sizeof name, "step-%010" PRIu64 "/model.safetensors", step);
    saver_run_flip_file(&self.rig.run, name, 3000);
}

static void prepare_two(void)
{
    before(10, 10);
    before(20, 10);
}

static void record_two(void)
{
    recorded(30, 10);
    recorded(40, 40);
}

static void prepare_one(void)
{
    before(10, 0);
}

static void record_one_kept(void)
{
    recorded(20, 0);
    recorded(30, 0);
}

static void prepare_damaged(void)
{
    before(10, 0);
    before(20, 0);
    save(30, 0);
    damage(30);
}

static void record_damaged(void)
{
    recorded(30, 0);
}

/* The same step with another best step: the one that is there is whole, and replaced. */
static void record_rewritten(void)
{
    recorded(20, 20);
}

static void record_no_exchange(void)
{
    static const struct disk_fault fault = {
        .at = UINT64_MAX, .room = UINT64_MAX, .no_exchange = true};

    disk_set_fault(&fault);
    recorded(30, 0);
}

static void prepare_leftover(void)
{
    char temp[CLLM_FILE_PATH_BYTES], file[CLLM_FILE_PATH_BYTES];

    before(10, 0);
    before(20, 20);
    CLLM_ASSERT(cllm_checkpoint_begin(self.rig.checkpoints, 30, temp) == 0);
    CLLM_ASSERT(cllm_file_join(file, temp, CLLM_CHECKPOINT_MODEL) == 0);
    CLLM_ASSERT(cllm_file_replace(file, "half a header", 13) == 0);
}

static void record_leftover(void)
{
    CLLM_ASSERT(saver_rig_start(&self.rig) == 0);
    recorded(30, 20);
}

/* Two newer ones have rotted; the run went back to 20 and goes on from there. */
static void prepare_future(void)
{
    before(10, 0);
    before(20, 0);
    save(30, 0);
    save(40, 0);
    damage(30);
    damage(40);
}

static void record_future(void)
{
    recorded(25, 0);
    recorded(27, 0);
}

static const struct scenario {
    const char *name;
    int keep;
    void (*prepare)(void);
    void (*record)(void);
} scenarios[] = {
    {"two-more", 2, prepare_two, record_two},
    {"one-kept", 1, prepare_one, record_one_kept},
    {"damaged-replaced", 3, prepare_damaged, record_damaged},
    {"whole-replaced", 2, prepare_two, record_rewritten},
    {"no-exchange", 3, prepare_damaged, record_no_exchange},
    {"leftover-removed", 2, prepare_leftover, record_leftover},
    {"rotten-future", 4, prepare_future, record_future},
};

/* Sequences that are wrong on purpose. */
static const struct mutant {
    const char *name;
    bool no_dir_sync, no_file_sync, early;
} mutants[] = {
    {"no-fsync-of-the-directory", true, false, false},
    {"no-fsync-of-the-files", false, true, false},
    {"called-durable-too-early", false, false, true},
};

static void mutate(const struct mutant *mutant)
{
    struct disk_log *log = self.log;

    for (uint32_t i = 0; i < log->n_ops; i++) {
        struct disk_op *op = &log->op[i];
        bool drop = op->kind == DISK_SYNC &&
                    ((mutant->no_dir_sync && op->object == 0) ||
                     (mutant->no_file_sync && log->object[op->object].type == DISK_FILE));

        if (drop)
            op->object = DISK_NOTHING;
        if (mutant->early && op->kind == DISK_DURABLE) {
            struct disk_op mark = *op;

            memmove(&log->op[1], &log->op[0], i * sizeof mark);
            log->op[0] = mark;
        }
    }
}

/* ---- checks of one state ---- */

/* Is @step named, with a reason, in what was said? */
static bool is_named(uint64_t step)
{
    char words[64], reason[256];
    const char *at;

    (void)snprintf(words, sizeof words, "step-%010" PRIu64 " is passed over: ", step);
    at = strstr(disk_captured(), words);
    if (at == NULL)
        return false;
    at += strlen(words);
    (void)snprintf(reason, sizeof reason, "%.*s", (int)strcspn(at, "\n"), at);
    tally_reason(reason);
    return reason[0] != '\0';
}

static bool check_choice(const struct whole *want, uint64_t step[WHOLE_MAX], uint32_t n)
{
    char dir[CLLM_FILE_PATH_BYTES], expected[CLLM_FILE_PATH_BYTES];
    int rc;

    disk_captured_clear();
    rc = cllm_checkpoint_newest(self.rig.checkpoints, dir);
    if (want == NULL && rc == 0)
        return tally_fail(&self.tally, "%s is accepted and is not whole", dir);
    if (want == NULL && rc != (n == 0 ? -ENOENT : CLLM_EDATA))
        return tally_fail(&self.tally, "error %d: %s", rc, cllm_err_text());
    if (want != NULL && rc != 0)
        return tally_fail(&self.tally, "step %" PRIu64 " is whole and refused: %s",
                          want->step, cllm_err_text());
    if (want != NULL) {
        whole_path(expected, self.rig.checkpoints, want->step, NULL);
        if (strcmp(dir, expected) != 0)
            return tally_fail(&self.tally, "%s is chosen, the newest whole one is %s",
                              dir, expected);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (want != NULL && step[i] <= want->step)
            continue;
        self.passed_over++;
        if (!is_named(step[i]))
            return tally_fail(&self.tally, "step %" PRIu64 " is passed over silently",
                              step[i]);
    }
    return true;
}

/* All of it loaded; then a saver begins on what the power cut left, and saves on. */
static bool check_further(const struct whole *want)
{
    char dir[CLLM_FILE_PATH_BYTES], path[CLLM_FILE_PATH_BYTES];
    bool ok = true;
    int rc;

    if (want != NULL && self.states % LOAD_EVERY == 0) {
        self.loads++;
        whole_path(path, self.rig.checkpoints, want->step, NULL);
        if (whole_load(path) != want->loaded)
            return tally_fail(&self.tally, "%s does not load as it was saved", path);
    }
    if (self.states % RESTART_EVERY != 0)
        return true;
    self.restarts++;
    rc = saver_rig_start(&self.rig);
    if (rc != 0)
        ok = tally_fail(&self.tally, "no saver can begin: %s", cllm_err_text());
    rc = cllm_checkpoint_newest(self.rig.checkpoints, dir);
    if (ok && (rc == 0) != (want != NULL))
        ok = tally_fail(&self.tally, "a saver that begins changes what is chosen");
    if (ok && saver_rig_save(&self.rig, 50, 0) != 0)
        ok = tally_fail(&self.tally, "cannot save: %s", cllm_err_text());
    whole_path(path, self.rig.checkpoints, 50, NULL);
    if (ok && (cllm_checkpoint_newest(self.rig.checkpoints, dir) != 0 ||
               strcmp(dir, path) != 0))
        ok = tally_fail(&self.tally, "the next step saved is not chosen");
    CLLM_ASSERT(cllm_file_remove_tree(self.rig.checkpoints) == 0);
    CLLM_ASSERT(cllm_file_mkdirs(self.rig.checkpoints) == 0);
    self.there.n = 0;
    return ok;
}

/* Was this state seen before? Remember it. */
static bool is_new(uint64_t hash)
{
    uint64_t i;

    if (2 * (self.n_seen + 1) > self.seen_room) {
        uint64_t *old = self.seen, old_room = self.seen_room;

        self.seen_room = old_room * 2 + 4096;
        self.seen = calloc(self.seen_room, sizeof *self.seen);
        CLLM_ASSERT(self.seen != NULL);
        self.n_seen = 0;
        for (uint64_t k = 0; k < old_room; k++)
            if (old[k] != 0)
                (void)is_new(old[k]);
        free(old);
    }
    hash |= 1; /* 0 is an empty place */
    for (i = hash % self.seen_room; self.seen[i] != 0; i = (i + 1) % self.seen_room)
        if (self.seen[i] == hash)
            return false;
    self.seen[i] = hash;
    self.n_seen++;
    return true;
}

/* The state that self.choice makes, when at least @durable was called durable. */
static void try_state(struct disk_model *model, uint64_t durable, uint64_t salt)
{
    const struct whole *want;
    uint64_t step[WHOLE_MAX];
    uint32_t n;
    bool ok;

    disk_model_tree(model, self.choice, &self.tree);
    if (!is_new(self.tree.hash ^ cllm_hash(&durable, sizeof durable, salt)))
        return;
    self.states++;
    n = whole_steps(&self.tree, step);
    want = whole_newest(&self.whole, &self.tree);
    disk_tree_put(self.rig.checkpoints, &self.there, &self.tree);
    disk_capture(true);
    if (durable > (want == NULL ? 0 : want->step))
        ok = tally_fail(&self.tally, "step %" PRIu64 " was called durable and is lost",
                        durable);
    else
        ok = check_choice(want, step, n) && check_further(want);
    disk_capture(false);
    self.tally.passed += ok;
}

/* ---- enumeration ---- */

/* A fate that leaves a part of @op. */
static enum disk_fate odd_fate(const struct disk_op *op, uint64_t random)
{
    if (op->kind == DISK_WRITE)
        return (enum disk_fate)(DISK_ZEROED + random % 3);
    if (op->kind == DISK_RENAME)
        return random % 2 == 0 ? DISK_BOTH : DISK_NEITHER;
    return DISK_LOST;
}

/* Systematic state number @index of what is pending; false when there are fewer. */
static bool choose(const struct disk_model *model, uint64_t index, uint64_t random)
{
    uint32_t n = disk_model_pending(model);
    enum disk_fate others = index % 2 == 0 ? DISK_DONE : DISK_LOST;
    uint64_t one;

    CLLM_ASSERT(n <= MAX_PENDING);
    for (uint32_t i = 0; i < n; i++)
        self.choice[i] = (struct disk_choice){.fate = others, .mask = random};
    if (index < 2)
        return true;
    if (n > SYSTEMATIC_MAX)
        return false;
    index -= 2;
    if (index < 8 * (uint64_t)n) { /* one differs: lost or done, then three odd ways */
        one = index / 8;
        self.choice[one].fate =
            index / 2 % 4 == 0
                ? (others == DISK_DONE ? DISK_LOST : DISK_DONE)
                : odd_fate(disk_model_op(model, (uint32_t)one), index / 2 % 4 - 1);
        return true;
    }
    index -= 8 * (uint64_t)n;
    if (n > EXHAUSTIVE_MAX || index >> n != 0)
        return false;
    for (uint32_t i = 0; i < n; i++)
        self.choice[i].fate = (index >> i & 1) != 0 ? DISK_DONE : DISK_LOST;
    return true;
}

/* State number @index by chance: a few or many operations lost or torn. */
static void choose_random(const struct disk_model *model, uint64_t key, uint64_t index)
{
    uint64_t head = cllm_random_u64(key, CLLM_RANDOM_TEST, index << 12);
    uint64_t odds = UINT64_C(2) << (head % 4 * 2); /* 2, 8, 32, 128 */
    bool mostly_lost = (head >> 8) % 4 == 0;
    uint32_t n = disk_model_pending(model);

    for (uint32_t i = 0; i < n; i++) {
        uint64_t random = cllm_random_u64(key, CLLM_RANDOM_TEST, index << 12 | (i + 1));
        bool hit = random % odds == 0;

        self.choice[i].mask = cllm_hash(&random, sizeof random, 0);
        self.choice[i].fate = hit == mostly_lost ? DISK_DONE : DISK_LOST;
        if (hit && (random >> 32 & 1) != 0)
            self.choice[i].fate = odd_fate(disk_model_op(model, i), random >> 40);
    }
}

/* Every prefix of the log: @n states by chance from number @first, or (@n 0) the
 * systematic ones. */
static void walk(const char *name, enum mode mode, uint64_t first, uint64_t n)
{
    uint64_t thin = self.tally.quick ? QUICK_THIN : 1;
    struct disk_model *model = disk_model_new(self.log);
    uint64_t durable = mode == HONEST ? self.durable_before : 0;
    uint64_t salt = cllm_hash(name, strlen(name), 0);
    bool more = true;

    while (more) {
        uint32_t prefix = disk_model_issued(model);
        uint64_t key = cllm_hash(&prefix, sizeof prefix, salt + self.tally.seed + mode);

        for (uint64_t i = 0; n == 0; i++) {
            uint64_t random = cllm_random_u64(key, CLLM_RANDOM_TEST, UINT64_MAX - i);

            if (!choose(model, i, random))
                break;
            if ((thin == 1 || random % thin == 0 || self.tally.replay != NULL) &&
                tally_case(&self.tally, "%s:%s:%u:s%" PRIu64, name, mode_name[mode],
                           prefix, i))
                try_state(model, durable, salt);
        }
        for (uint64_t i = first; i < first + n; i++) {
            if (!tally_case(&self.tally, "%s:%s:%u:r%" PRIu64, name, mode_name[mode],
                            prefix, i))
                continue;
            choose_random(model, key, i);
            try_state(model, durable, salt);
        }
        more = disk_model_advance(model, mode == LYING);
        if (more && mode == HONEST && self.log->op[prefix].kind == DISK_DURABLE)
            durable = cllm_max_u64(durable, self.log->op[prefix].off);
    }
    disk_model_free(&model);
}

/* ---- campaigns ---- */

/* With nothing lost, the log makes what is on the disk: no operation went unseen. */
static void check_log(const char *name)
{
    struct disk_model *model = disk_model_new(self.log);

    (void)tally_case(&self.tally, "%s:log", name);
    while (disk_model_advance(model, true))
        continue;
    CLLM_ASSERT(disk_model_pending(model) <= MAX_PENDING);
    for (uint32_t i = 0; i < disk_model_pending(model); i++)
        self.choice[i] = (struct disk_choice){.fate = DISK_DONE};
    disk_model_tree(model, self.choice, &self.tree);
    if (disk_tree_hash_of(self.rig.checkpoints) != self.tree.hash)
        (void)tally_fail(&self.tally, "the log does not explain the directory");
    else
        self.tally.passed++;
    disk_model_free(&model);
}

/* Begin @scenario: its log is made, its directory is empty again. */
static void begin(const struct scenario *scenario)
{
    saver_rig_open(&self.rig, &size, scenario->keep);
    CLLM_ASSERT(saver_rig_start(&self.rig) == 0);
    self.whole.n = 0;
    self.there.n = 0;
    scenario->prepare();
    self.log = disk_watch(self.rig.checkpoints);
    disk_capture(true); /* what is replaced is damaged, and the saver says so */
    scenario->record();
    disk_capture(false);
    disk_unwatch();
    check_log(scenario->name);
    CLLM_ASSERT(cllm_file_remove_tree(self.rig.checkpoints) == 0);
    CLLM_ASSERT(cllm_file_mkdirs(self.rig.checkpoints) == 0);
}

static void end(void)
{
    saver_rig_close(&self.rig);
}

static void run_scenario(const struct scenario *scenario, uint64_t target)
{
    uint64_t from = self.states, before_ns = cllm_now_ns(), of_mode[N_MODES];

    if (self.tally.replay != NULL &&
        strncmp(self.tally.replay, scenario->name, strlen(scenario->name)) != 0)
        return;
    begin(scenario);
    for (enum mode mode = HONEST; mode < N_MODES; mode++) {
        uint64_t share = (mode + 1) * target / N_MODES, round = 4;

        of_mode[mode] = self.states;
        walk(scenario->name, mode, 0, 0);
        for (uint64_t first = 0; self.states - from < share && first < 4096 &&
                                 !tally_time_is_up(&self.tally, DEEP_SECONDS);
             first += round)
            walk(scenario->name, mode, first, round);
        of_mode[mode] = self.states - of_mode[mode];
    }
    (void)printf("%-18s %4u operations %8" PRIu64 " states honest %8" PRIu64
                 " lying %8.0f states/s\n",
                 scenario->name, self.log->n_ops, of_mode[HONEST], of_mode[LYING],
                 (double)(self.states - from) * CLLM_NS_PER_S /
                     (double)(cllm_now_ns() - before_ns));
    end();
}

/* The same checks on a wrong sequence must find fault with it. */
static void run_mutant(const struct mutant *mutant)
{
    struct tally real = self.tally;
    uint64_t found, states = self.states;

    begin(&scenarios[0]);
    mutate(mutant);
    (void)fflush(stdout);
    self.tally.failed = UINT64_MAX / 2; /* nothing of it is printed */
    walk(mutant->name, HONEST, 0, 0);
    found = self.tally.failed - UINT64_MAX / 2;
    self.states = states;
    self.tally = real;
    (void)tally_case(&self.tally, "mutant:%s", mutant->name);
    if (found == 0)
        (void)tally_fail(&self.tally, "a wrong sequence is not noticed");
    else
        self.tally.passed++;
    (void)printf("%-26s noticed in %" PRIu64 " states\n", mutant->name, found);
    end();
}

int main(int argc, char **argv)
{
    uint64_t target;

    tally_begin(&self.tally, argc, argv,
                "What is chosen after a power cut while checkpoints are written.");
    cllm_log_init("states", CLLM_LOG_WARN);
    target = (self.tally.quick ? QUICK_STATES : DEEP_STATES) / CLLM_LEN(scenarios);
    for (size_t i = 0; i < CLLM_LEN(scenarios); i++)
        run_scenario(&scenarios[i], target);
    for (size_t i = 0; i < CLLM_LEN(mutants) && self.tally.replay == NULL; i++)
        run_mutant(&mutants[i]);
    (void)printf("%" PRIu64 " states, %" PRIu64 " loaded in full, %" PRIu64
                 " saved on from, %" PRIu64 " directories passed over\n",
                 self.states, self.loads, self.restarts, self.passed_over);
    tally_print_reasons();
    disk_tree_free(&self.there);
    disk_tree_free(&self.tree);
    free(self.seen);
    return tally_end(&self.tally);
}
