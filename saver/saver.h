/*
 * saver/saver.h - what the saver knows all its life: the run, its tensors, its directory.
 */
#ifndef CLLM_SAVER_SAVER_H
#define CLLM_SAVER_SAVER_H

#include "formats/checkpoint.h"
#include "saver/archive.h"
#include "shm/child.h"

struct cllm_saver {
    struct cllm_child *child;     /* borrowed */
    struct cllm_control *control; /* the child's */
    const struct cllm_geometry *geometry;
    struct cllm_parameters plan;
    char checkpoints[CLLM_FILE_PATH_BYTES];
    struct cllm_archive archive; /* the checkpoint being loaded, verified; or closed */
    uint64_t archive_step;       /* of it; meaningless while it is closed */
    bool has_failed; /* a save: what is found on the disk may not be durable */
};

/*
 * Begin: plan the tensors, hold them against the geometry, remove temporary directories
 * of a saver that died. @child must outlive the saver. Returns 0 or a negative code with
 * text.
 */
int cllm_saver_init(struct cllm_saver *saver, struct cllm_child *child);
void cllm_saver_fini(struct cllm_saver *saver);

#endif /* CLLM_SAVER_SAVER_H */
