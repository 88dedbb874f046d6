/*
 * tests/saver_run.c - Node Zero's part of a saver's life, and no more.
 */
#include "tests/saver_run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "shm/chunk.h"
#include "shm/slot.h"

#define DEADLINE_NS (240 * CLLM_NS_PER_S)

/* ---- the run ---- */

static struct cllm_geometry make_geometry(const struct saver_run_size *size,
                                          const struct saver_run *run)
{
    struct cllm_geometry geometry = {
        .model = run->plan.config,
        .n_params = run->plan.n_params,
        .n_elements = cllm_vector_elements(run->plan.n_elements),
        .lanes = 1,
        .microbatches = 1,
        .sequences = 1,
        .steps = 100,
        .seed = 1,
        .chunk_elements = size->chunk_elements,
        .n_groups = 1,
        .n_buffers = 1,
        .n_folds = 2,
        .n_slots = 3,
        .n_worker_slots = 1,
        .ring_steps = 1,
        .ring_slots = 1,
    };

    geometry.n_chunks =
        (uint32_t)cllm_div_up(geometry.n_elements, geometry.chunk_elements);
    return geometry;
}

void saver_run_open(struct saver_run *run, const struct saver_run_size *size, int keep)
{
    static int number;
    const char *tmp = getenv("TMPDIR");
    char config[512], name[CLLM_REGION_NAME_BYTES];
    const struct cllm_model_config model = {.arch = size->arch,
                                            .vocab = size->vocab,
                                            .context = size->context,
                                            .layers = size->layers,
                                            .heads = 2,
                                            .width = size->width};
    struct cllm_control_plan plan = {.config_hash = 0x1122, .manifest_hash = 0x3344};

    *run = (struct saver_run){.slot = 2};
    (void)snprintf(run->dir, sizeof run->dir, "%s/cllm-test-saver-XXXXXX",
                   tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(run->dir));
    (void)snprintf(run->run_id, sizeof run->run_id, "test-saver-%d-%d", (int)getpid(),
                   number++);
    assert_int_equal(cllm_parameters_init(&run->plan, &model), 0);
    (void)snprintf(config, sizeof config, "[run]\ndir = %s\n[checkpoint]\nkeep = %d\n",
                   run->dir, keep);
    plan.run_id = run->run_id;
    plan.run_dir = run->dir;
    plan.config = config;
    plan.manifest = "";
    plan.geometry = make_geometry(size, run);
    assert_int_equal(cllm_control_create(&run->control, &plan), 0);
    assert_int_equal(cllm_objects_create(run->run_id, &plan.geometry), 0);
    cllm_control_publish(&run->control);
    for (uint32_t v = 0; v < 2; v++) {
        cllm_params_name(name, run->run_id, v);
        assert_int_equal(cllm_region_open(&run->params[v], name,
                                          cllm_params_bytes(&plan.geometry),
                                          CLLM_REGION_READ_WRITE),
                         0);
    }
    run->eventfd = eventfd(0, EFD_NONBLOCK); /* inherited by the saver */
    assert_true(run->eventfd >= 0);
}

void saver_run_close(struct saver_run *run)
{
    struct cllm_geometry geometry = run->control.header->geometry;

    saver_run_kill(run);
    for (uint32_t v = 0; v < 2; v++)
        cllm_region_close(&run->params[v]);
    cllm_control_detach(&run->control);
    cllm_objects_unlink(run->run_id, &geometry);
    (void)close(run->eventfd);
    cllm_parameters_fini(&run->plan);
    assert_int_equal(cllm_file_remove_tree(run->dir), 0);
}

/* A number that looks like a weight: finite, any sign, no pattern. */
static float value_at(uint64_t step, uint64_t part, uint64_t element)
{
    uint64_t x = (element * 3 + part + 1) * UINT64_C(0x9e3779b97f4a7c15) +
                 step * UINT64_C(0xd1b54a32d192ed03);

    x ^= x >> 29;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 32;
    return (float)((int64_t)(x & 0xffffff) - 0x800000) * 0x1p-23f;
}

void saver_run_commit(struct saver_run *run, uint64_t step, uint64_t best_step)
{
    const struct cllm_geometry *geometry = &run->control.header->geometry;
    uint32_t version = step & 1;
    float *w = (float *)(void *)run->params[version].base; // (3,n_elements)
    uint64_t n = geometry->n_elements;
    struct cllm_step_record *record = &run->control.record[version];

    memset(w, 0, 3 * n * sizeof *w);
    for (uint64_t part = 0; part < 3; part++) {
        for (uint32_t t = 0; t < run->plan.n_tensors; t++) {
            uint64_t at = run->plan.tensors[t].off;

            for (uint64_t i = 0; i < run->plan.tensors[t].count; i++)
                w[part * n + at + i] = value_at(step, part, at + i);
        }
    }
    for (uint32_t c = 0; c < geometry->n_chunks; c++) {
        uint64_t lo = cllm_chunk_lo(geometry, c);

        run->control.chunk[c].sum[version] = cllm_chunk_sum(
            w + lo, w + n + lo, w + 2 * n + lo, cllm_chunk_hi(geometry, c) - lo, c);
    }
    *record = (struct cllm_step_record){
        .step = step,
        .root = cllm_chunk_root(run->control.chunk, geometry->n_chunks, version),
        .cursor = step * 7,
        .tokens = step * 7 * geometry->model.context,
        .loss = 3.5 / (double)(step + 1),
        .grad_norm = 1.25,
        .valid_loss = best_step == 0 ? (double)NAN : 2.5,
        .valid_step = best_step,
        .best_loss = best_step == 0 ? (double)NAN : 2.25,
        .best_step = best_step,
        .learning_rate = 0.001f,
        .grad_scale = 1.0f,
        .numerics = 0xabcdef,
    };
    record->sum = cllm_step_record_sum(record);
}

/* ---- the process ---- */

/* Where `make` puts the programs: in bin/, beside the tests. */
static void saver_program(char path[CLLM_FILE_PATH_BYTES])
{
    const char *build = getenv("CLLM_BUILD");
    char self[2048];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    assert_true(n > 0);
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    (void)snprintf(path, CLLM_FILE_PATH_BYTES, "%s%s/bin/cllm-saver",
                   build ? build : self, build ? "" : "/..");
    if (access(path, X_OK) != 0)
        fail_msg("%s is not built", path);
}

static void short_sleep(void)
{
    struct timespec pause = cllm_timespec(CLLM_NS_PER_MS / 5);

    (void)nanosleep(&pause, NULL);
}

/* A saver that died when it should not have is reaped first, for the tear-down's sake. */
static void assert_lives(struct saver_run *run)
{
    int status;

    if (waitpid(run->pid, &status, WNOHANG) == 0)
        return;
    run->pid = 0;
    fail_msg("the saver died, wait status %d", status);
}

static void run_saver(const struct saver_run *run, const char *program,
                      uint32_t generation, uint64_t max_file_bytes, pid_t parent)
{
    struct rlimit limit = {.rlim_cur = max_file_bytes, .rlim_max = max_file_bytes};
    char slot[16], gen[16], fd[16], pid[16];

    (void)snprintf(slot, sizeof slot, "%u", run->slot);
    (void)snprintf(gen, sizeof gen, "%u", generation);
    (void)snprintf(fd, sizeof fd, "%d", run->eventfd);
    (void)snprintf(pid, sizeof pid, "%d", (int)parent);
    (void)signal(SIGXFSZ, SIG_DFL); /* as a shell starts programs */
    if (max_file_bytes > 0 && setrlimit(RLIMIT_FSIZE, &limit) != 0)
        _exit(126);
    /* What the saver has to say of planned failures does not belong to the test's output.
     */
    if (getenv("CLLM_TEST_LOUD") == NULL && freopen("/dev/null", "w", stderr) == NULL)
        _exit(126);
    (void)execl(program, "cllm-saver", "--run", run->run_id, "--slot", slot,
                "--generation", gen, "--eventfd", fd, "--parent", pid, (char *)NULL);
    _exit(127);
}

void saver_run_start(struct saver_run *run, uint64_t max_file_bytes)
{
    uint64_t deadline = cllm_now_ns() + DEADLINE_NS;
    char program[CLLM_FILE_PATH_BYTES], kernels[64];
    uint32_t generation;
    uint64_t numerics;
    pid_t parent = getpid();

    assert_int_equal(run->pid, 0);
    saver_program(program);
    generation = cllm_slot_renew(&run->control, run->slot);
    run->pid = fork();
    assert_true(run->pid >= 0);
    if (run->pid == 0)
        run_saver(run, program, generation, max_file_bytes, parent);
    while (!cllm_slot_hello(&run->control, run->slot, &numerics, kernels)) {
        assert_lives(run);
        assert_true(cllm_now_ns() < deadline);
        short_sleep();
    }
}

void saver_run_kill(struct saver_run *run)
{
    int status;

    if (run->pid == 0)
        return;
    (void)kill(run->pid, SIGKILL);
    assert_int_equal(waitpid(run->pid, &status, 0), run->pid);
    run->pid = 0;
}

void saver_run_post(struct saver_run *run, const struct cllm_assignment *work)
{
    (void)cllm_slot_post(&run->control, run->slot, work);
}

void saver_run_wait(struct saver_run *run, struct cllm_report *report)
{
    uint64_t deadline = cllm_now_ns() + DEADLINE_NS;
    struct cllm_assignment asked;
    enum cllm_harvest harvest;

    for (;;) {
        harvest = cllm_slot_harvest(&run->control, run->slot, report, &asked);
        if (harvest == CLLM_HARVEST_REPORT)
            return;
        assert_int_equal(harvest, CLLM_HARVEST_NONE);
        assert_lives(run);
        assert_true(cllm_now_ns() < deadline);
        short_sleep();
    }
}

int saver_run_reap(struct saver_run *run)
{
    int status = -1;

    assert_int_equal(waitpid(run->pid, &status, 0), run->pid);
    run->pid = 0;
    return status;
}

int saver_run_leave(struct saver_run *run)
{
    const struct cllm_assignment work = {.kind = CLLM_WORK_EXIT};

    saver_run_post(run, &work);
    return saver_run_reap(run);
}

void saver_run_save(struct saver_run *run, uint64_t step, struct cllm_report *report)
{
    const struct cllm_assignment work = {
        .kind = CLLM_WORK_SAVE, .step = step, .version = step & 1};

    saver_run_post(run, &work);
    saver_run_wait(run, report);
}

void saver_run_load(struct saver_run *run, uint64_t step, uint32_t target,
                    uint32_t chunk_lo, uint32_t chunk_hi, struct cllm_report *report)
{
    const struct cllm_assignment work = {.kind = CLLM_WORK_LOAD,
                                         .step = step,
                                         .target = target,
                                         .chunk_lo = chunk_lo,
                                         .chunk_hi = chunk_hi};

    saver_run_post(run, &work);
    saver_run_wait(run, report);
}

const struct cllm_status *saver_run_status(const struct saver_run *run)
{
    return &run->control.slots[run->slot].own.status;
}

/* ---- files ---- */

void saver_run_path(const struct saver_run *run, char path[CLLM_FILE_PATH_BYTES],
                    const char *name)
{
    int n = snprintf(path, CLLM_FILE_PATH_BYTES, "%s/checkpoints/%s", run->dir, name);

    assert_true(n > 0 && n < CLLM_FILE_PATH_BYTES);
}

bool saver_run_has(const struct saver_run *run, const char *name)
{
    char path[CLLM_FILE_PATH_BYTES];

    saver_run_path(run, path, name);
    return access(path, F_OK) == 0;
}

void saver_run_digest(const struct saver_run *run, uint64_t step,
                      struct saver_run_digest *digest)
{
    static const char *const file[5] = {CLLM_CHECKPOINT_MODEL, CLLM_CHECKPOINT_CONFIG,
                                        CLLM_CHECKPOINT_OPTIMIZER, CLLM_CHECKPOINT_RUN,
                                        CLLM_CHECKPOINT_MANIFEST};
    char name[32], dir[CLLM_FILE_PATH_BYTES], path[CLLM_FILE_PATH_BYTES];

    cllm_checkpoint_name(name, step, false);
    saver_run_path(run, dir, name);
    for (size_t i = 0; i < CLLM_LEN(file); i++) {
        assert_int_equal(cllm_file_join(path, dir, file[i]), 0);
        assert_int_equal(cllm_sha256_file(path, digest->hex[i], NULL), 0);
    }
}

uint32_t saver_run_count(const struct saver_run *run)
{
    char path[CLLM_FILE_PATH_BYTES];
    const struct dirent *entry;
    uint32_t n = 0;
    DIR *dir;

    saver_run_path(run, path, ".");
    dir = opendir(path);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            n++;
    (void)closedir(dir); /* read only */
    return n;
}

void saver_run_flip_file(const struct saver_run *run, const char *name, off_t off)
{
    char path[CLLM_FILE_PATH_BYTES];
    uint8_t byte;
    int fd;

    saver_run_path(run, path, name);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, off), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, off), 1);
    assert_int_equal(close(fd), 0);
}

/* ---- what many tests say ---- */

const struct saver_run_size saver_run_small = {
    .vocab = 700, .context = 17, .layers = 3, .width = 36, .chunk_elements = 1024};
const struct saver_run_size saver_run_large = {
    .vocab = 2048, .context = 64, .layers = 2, .width = 128, .chunk_elements = 40960};

int saver_fixture_set_up(void **state)
{
    struct saver_fixture *fixture = calloc(1, sizeof *fixture);

    *state = fixture;
    if (fixture == NULL)
        return -1;
    saver_run_open(&fixture->run, &saver_run_small, 2);
    return 0;
}

int saver_fixture_tear_down(void **state)
{
    struct saver_fixture *fixture = *state;

    saver_run_kill(&fixture->run);
    if (fixture->mounted[0] != '\0')
        (void)umount2(fixture->mounted, MNT_DETACH);
    saver_run_close(&fixture->run);
    if (fixture->has_other)
        saver_run_close(&fixture->other);
    free(fixture);
    return 0;
}

struct saver_run *saver_fixture_open_other(struct saver_fixture *fixture,
                                           const struct saver_run_size *size)
{
    saver_run_open(&fixture->other, size, 2);
    fixture->has_other = true;
    return &fixture->other;
}

void saver_fixture_golden(struct saver_fixture *fixture,
                          const struct saver_run_size *size, uint64_t step,
                          uint64_t best_step, struct saver_run_digest *digest)
{
    struct saver_run *run = saver_fixture_open_other(fixture, size);

    saver_run_commit(run, step, best_step);
    saver_run_start(run, 0);
    saver_run_assert_saved(run, step);
    saver_run_digest(run, step, digest);
    saver_run_kill(run);
}

void saver_run_assert_saved(struct saver_run *run, uint64_t step)
{
    struct cllm_report report;

    saver_run_save(run, step, &report);
    if (report.flags != 0)
        fail_msg("step %u: %s", (unsigned)step, saver_run_status(run)->last_words);
    assert_int_equal(report.error, 0);
    assert_int_equal(cllm_load_relaxed(&saver_run_status(run)->holds_version), 0);
    assert_int_equal(cllm_load_relaxed(&saver_run_status(run)->saving_step), 0);
}

void saver_run_assert_refused(struct saver_run *run, uint64_t step, int error,
                              uint32_t flags, const char *words)
{
    struct cllm_report report;

    saver_run_save(run, step, &report);
    assert_int_equal(report.flags, flags);
    assert_int_equal(report.error, error);
    if (strstr(saver_run_status(run)->last_words, words) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", words, saver_run_status(run)->last_words);
    assert_int_equal(cllm_load_relaxed(&saver_run_status(run)->holds_version), 0);
}

void saver_run_assert_same(const struct saver_run_digest *a,
                           const struct saver_run_digest *b)
{
    for (size_t i = 0; i < CLLM_LEN(a->hex); i++)
        assert_string_equal(a->hex[i], b->hex[i]);
}
