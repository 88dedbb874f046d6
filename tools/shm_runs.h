/*
 * tools/shm_runs.h - which runs hold shared memory: their names, taken from /dev/shm.
 *
 * Looks at names and sizes only; whether a run lives is tools/shm_view.h's business. The
 * part of a name after its last '-' is the part of the run, so a run "a" never owns the
 * objects of a run "a-b".
 */
#ifndef CLLM_TOOLS_SHM_RUNS_H
#define CLLM_TOOLS_SHM_RUNS_H

#include "base/base.h"
#include "shm/region.h"

struct cllm_shm_object {
    char name[CLLM_REGION_NAME_BYTES]; /* as in /dev/shm: cllm-<uid>-<run id>-<part> */
    uint32_t id_off, part_off;         /* of run id and part in the name */
    uint64_t bytes;                    /* allocated */
};

struct cllm_shm_run {
    char id[CLLM_REGION_NAME_BYTES];
    const struct cllm_shm_object
        *object; /* of struct cllm_shm_runs; by part and number */
    uint32_t n_objects;
    uint64_t bytes; /* sum over the objects */
    bool has_control;
    char *directory; /* by which cllm_shm_runs_find() found it; heap; NULL: unknown */
    int64_t newest_unix_s; /* last creation or change of an object's inode; 0 = unknown */
};

struct cllm_shm_runs {
    struct cllm_shm_object *object; /* heap */
    uint32_t n_objects;
    struct cllm_shm_run *run; /* heap; sorted by id */
    uint32_t n_runs;
};

/* Look at /dev/shm. Returns 0 or a negative errno with text. Pair with fini. */
int cllm_shm_runs_scan(struct cllm_shm_runs *runs);
void cllm_shm_runs_fini(struct cllm_shm_runs *runs); /* safe on a zeroed struct */

/*
 * The run that a person means by @text: a run id, a unique prefix of one, or the path of
 * the run directory, also when only leftovers without a control object are there; NULL
 * when there is just one run. The result belongs to @runs. NULL with error text when
 * there is none, or more than one.
 */
const struct cllm_shm_run *cllm_shm_runs_find(const struct cllm_shm_runs *runs,
                                              const char *text);

#endif /* CLLM_TOOLS_SHM_RUNS_H */
