/*
 * tests/control_temp.c - make and remove the run of a test.
 */
#include "tests/control_temp.h"

#include <stdio.h>
#include <unistd.h>

#include "base/err.h"

const char *control_temp_id(void)
{
    static char id[CLLM_RUN_ID_BYTES];

    /* Named once: a forked child looks for its parent's run. */
    if (id[0] == '\0')
        (void)snprintf(id, sizeof id, "test-%d", (int)getpid());
    return id;
}

struct cllm_geometry control_temp_geometry(void)
{
    return (struct cllm_geometry){
        .model = {.vocab = 256, .context = 8, .layers = 1, .heads = 1, .width = 4},
        .n_params = 5000,
        .n_elements = 5 * 1024,
        .lanes = 24,
        .microbatches = 2,
        .sequences = 3,
        .eval_microbatches = 1,
        .steps = 10,
        .seed = 1,
        .chunk_elements = 1024,
        .n_chunks = 5,
        .n_groups = 2,
        .n_buffers = 4,
        .n_folds = 4,
        .n_slots = 5,
        .n_worker_slots = 3,
        .ring_steps = 2,
        .ring_slots = 2 * 24 * 2,
        .ring_eval_slots = 24};
}

void control_temp_make(struct cllm_control *control)
{
    struct cllm_geometry geometry = control_temp_geometry();

    control_temp_make_of(control, &geometry);
}

void control_temp_make_of(struct cllm_control *control,
                          const struct cllm_geometry *geometry)
{
    const struct cllm_control_plan plan = {.run_id = control_temp_id(),
                                           .run_dir = "/nowhere",
                                           .config = "[run]\ndir = nowhere\n",
                                           .manifest = "[train]\n[valid]\n",
                                           .config_hash = 11,
                                           .manifest_hash = 12,
                                           .geometry = *geometry};
    int rc = cllm_control_create(control, &plan);

    if (rc == 0)
        rc = cllm_objects_create(plan.run_id, &plan.geometry);
    if (rc != 0) {
        cllm_err_print("control_temp");
        _exit(1);
    }
    cllm_control_publish(control);
}

void control_temp_remove(struct cllm_control *control)
{
    struct cllm_geometry geometry = control_temp_geometry();

    cllm_control_detach(control);
    cllm_objects_unlink(control_temp_id(), &geometry);
}
