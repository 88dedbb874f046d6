/*
 * saver/saver.c - the saver's beginning and end.
 */
#include "saver/saver.h"

#include <errno.h>
#include <inttypes.h>

#include "base/err.h"

/* The table and the geometry were made from the same numbers, or nothing can be saved. */
static int plan_tensors(struct cllm_saver *saver)
{
    const struct cllm_geometry *geometry = saver->geometry;
    uint64_t elements;
    int rc = cllm_lora_trained(&saver->plan, &geometry->model, &geometry->lora);

    if (rc != 0)
        return rc;
    elements = cllm_vector_elements(saver->plan.n_elements);
    if (saver->plan.n_params == geometry->n_params && elements == geometry->n_elements)
        return 0;
    rc = cllm_err(-EPROTO, "the run's parameter vector is not the one that files hold");
    cllm_err_detail("%" PRIu64 " parameters in %" PRIu64 " elements expected, %" PRIu64
                    " in %" PRIu64 " found",
                    saver->plan.n_params, elements, geometry->n_params,
                    geometry->n_elements);
    cllm_err_hint("use the programs that started the run");
    return rc;
}

int cllm_saver_init(struct cllm_saver *saver, struct cllm_child *child)
{
    int rc;

    *saver = (struct cllm_saver){
        .child = child, .control = &child->control, .geometry = child->geometry};
    rc = plan_tensors(saver);
    if (rc == 0)
        rc = cllm_file_join(saver->checkpoints, child->control.header->run_dir,
                            "checkpoints");
    if (rc == 0)
        rc = cllm_file_mkdirs(saver->checkpoints);
    if (rc == 0) /* of checkpoints nothing goes, of temporary directories everything */
        rc = cllm_checkpoint_prune(saver->checkpoints, UINT32_MAX, NULL);
    if (rc != 0)
        cllm_saver_fini(saver);
    return rc;
}

void cllm_saver_fini(struct cllm_saver *saver)
{
    cllm_archive_close(&saver->archive);
    cllm_parameters_fini(&saver->plan);
}
