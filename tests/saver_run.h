/*
 * tests/saver_run.h - a run with nothing but a saver: the test plays Node Zero and the
 * workers, cllm-saver is the real process.
 */
#ifndef CLLM_TESTS_SAVER_RUN_H
#define CLLM_TESTS_SAVER_RUN_H

#include <sys/types.h>

#include "base/parameters.h"
#include "formats/checkpoint.h"
#include "formats/sha256.h"
#include "shm/control.h"

struct saver_run_size {
    uint32_t arch, vocab, context, layers, width;
    uint64_t chunk_elements;
};

struct saver_run {
    char dir[256]; /* the run directory, made by mkdtemp */
    char run_id[CLLM_RUN_ID_BYTES];
    struct cllm_control control;
    struct cllm_region params[2];
    struct cllm_parameters plan;
    uint32_t slot;
    int eventfd;
    pid_t pid; /* of the saver; 0 = none */
};

/* SHA-256 of the five files of a checkpoint. */
struct saver_run_digest {
    char hex[5][CLLM_SHA256_HEX_BYTES];
};

/* Create the run's objects, with @keep checkpoints kept. All of it asserts. */
void saver_run_open(struct saver_run *run, const struct saver_run_size *size, int keep);
void saver_run_close(struct saver_run *run); /* the saver killed, every trace removed */

/* Fill params[step & 1] with values that only @step and the place decide, zero between
 * the tensors; hashes and step record as after a commit. */
void saver_run_commit(struct saver_run *run, uint64_t step, uint64_t best_step);

/* Start the saver and wait for its hello; @max_file_bytes 0 = no limit. */
void saver_run_start(struct saver_run *run, uint64_t max_file_bytes);
void saver_run_kill(struct saver_run *run); /* SIGKILL, reaped */
int saver_run_reap(struct saver_run *run);  /* wait for its end; returns the status */
int saver_run_leave(struct saver_run *run); /* EXIT, then reap */

void saver_run_post(struct saver_run *run, const struct cllm_assignment *work);
void saver_run_wait(struct saver_run *run, struct cllm_report *report);
void saver_run_save(struct saver_run *run, uint64_t step, struct cllm_report *report);
void saver_run_load(struct saver_run *run, uint64_t step, uint32_t target,
                    uint32_t chunk_lo, uint32_t chunk_hi, struct cllm_report *report);

/* What the saver says of itself. */
const struct cllm_status *saver_run_status(const struct saver_run *run);

/* Paths and files. */
void saver_run_path(const struct saver_run *run, char path[CLLM_FILE_PATH_BYTES],
                    const char *name); /* in checkpoints/ */
bool saver_run_has(const struct saver_run *run, const char *name);
void saver_run_digest(const struct saver_run *run, uint64_t step,
                      struct saver_run_digest *digest);
uint32_t saver_run_count(const struct saver_run *run); /* entries in checkpoints/ */

void saver_run_flip_file(const struct saver_run *run, const char *name, off_t off);

/* ---- what many tests say ---- */

/* Small: gaps between the tensors, chunks that end inside them, and more chunks than one
 * LOAD can carry. Large: takes long enough to be interrupted, in chunks of several
 * stretches, the last of which is not whole. */
extern const struct saver_run_size saver_run_small, saver_run_large;

struct saver_fixture {
    struct saver_run run; /* small, two checkpoints kept */
    struct saver_run other;
    bool has_other;
    char mounted[CLLM_FILE_PATH_BYTES]; /* a tmpfs in it; "" = none */
};

int saver_fixture_set_up(void **state);
int saver_fixture_tear_down(void **state);
struct saver_run *saver_fixture_open_other(struct saver_fixture *fixture,
                                           const struct saver_run_size *size);

/* What a saver that nothing happens to writes for @step, in `other`. */
void saver_fixture_golden(struct saver_fixture *fixture,
                          const struct saver_run_size *size, uint64_t step,
                          uint64_t best_step, struct saver_run_digest *digest);

void saver_run_assert_saved(struct saver_run *run, uint64_t step);
void saver_run_assert_refused(struct saver_run *run, uint64_t step, int error,
                              uint32_t flags, const char *words);
void saver_run_assert_same(const struct saver_run_digest *a,
                           const struct saver_run_digest *b);

#endif /* CLLM_TESTS_SAVER_RUN_H */
