/*
 * coordinator/frozen.c - the frozen model into the run's directory, and from there
 * into shared memory.
 */
#include "coordinator/frozen.h"

#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "coordinator/import_pass.h"
#include "coordinator/origin.h"
#include "formats/adapter.h"
#include "formats/checkpoint.h"
#include "formats/tokenizer_files.h"
#include "shm/frozen.h"

/* All of it in @temp: a directory of Hugging Face. */
static int fill_base(struct cllm_pass *pass, const struct cllm_config *config,
                     const struct cllm_plan *plan, const char *temp)
{
    const struct cllm_checkpoint_info info = {.model = pass->parameters.config,
                                              .init_range = pass->source.init_range};
    struct cllm_safetensors_plan file = {0};
    char tokenizer[CLLM_FILE_PATH_BYTES];
    int fd, rc = cllm_safetensors_plan_init(&file, "", pass->parameters.tensors,
                                            pass->parameters.n_tensors, NULL, 0);

    if (rc == 0) {
        fd = cllm_checkpoint_create(temp, CLLM_CHECKPOINT_MODEL, &file);
        rc = fd < 0 ? fd
                    : cllm_pass_close(fd, temp,
                                      cllm_pass_write(pass, &file, fd, temp, NULL, NULL));
    }
    cllm_safetensors_plan_fini(&file);
    if (rc == 0)
        rc = cllm_pass_check(pass, config, plan);
    if (rc == 0)
        rc = cllm_checkpoint_write_config(temp, &info);
    if (rc == 0)
        rc = cllm_file_join(tokenizer, plan->run_dir, CLLM_TOKENIZER_DIR);
    if (rc == 0)
        rc = cllm_tokenizer_files_copy(tokenizer, temp);
    return rc < 0 ? rc : cllm_file_sync_dir(temp);
}

/* @base is not there, or something else: make it anew, by way of another name. */
static int make_base(struct cllm_pass *pass, const struct cllm_config *config,
                     const struct cllm_plan *plan, const char *base)
{
    char temp[CLLM_FILE_PATH_BYTES];
    struct cllm_err_text why;
    int rc = cllm_file_join(temp, plan->run_dir, CLLM_ADAPTER_BASE ".tmp");

    if (rc == 0)
        rc = cllm_file_remove_tree(temp);
    if (rc == 0)
        rc = cllm_file_mkdirs(temp);
    if (rc == 0)
        rc = fill_base(pass, config, plan, temp);
    if (rc == 0)
        rc = cllm_file_remove_tree(base);
    if (rc == 0)
        rc = cllm_file_rename(temp, base);
    if (rc == 0)
        cllm_info("beneath the adapters lies %s (%s, %s), frozen", config->train_from,
                  cllm_source_kind_name(pass->source.kind), pass->source.dtype);
    else {
        cllm_err_save(&why);
        (void)cllm_file_remove_tree(temp);
        cllm_err_restore(&why);
    }
    return rc;
}

int cllm_frozen_import(const struct cllm_config *config, const struct cllm_plan *plan)
{
    char base[CLLM_FILE_PATH_BYTES];
    struct cllm_pass pass;
    int rc = cllm_file_join(base, plan->run_dir, CLLM_ADAPTER_BASE);

    if (rc != 0)
        return rc;
    if (access(base, F_OK) != 0 ||
        cllm_adapter_read_base(base, &plan->model, plan->origin_hash, NULL) != 0) {
        rc = cllm_pass_begin(&pass, config);
        if (rc == 0)
            rc = make_base(&pass, config, plan, base);
        cllm_pass_end(&pass);
    }
    return rc == 0 ? cllm_origin_keep(plan->run_dir, config->train_from,
                                      &plan->model.config, plan->origin_hash)
                   : rc;
}

int cllm_frozen_share(const struct cllm_plan *plan)
{
    char dir[CLLM_FILE_PATH_BYTES];
    struct cllm_region frozen = {0};
    int rc = cllm_file_join(dir, plan->run_dir, CLLM_ADAPTER_BASE);

    if (rc == 0)
        rc = cllm_frozen_create(&frozen, plan->run_id, &plan->geometry);
    if (rc == 0)
        rc = cllm_adapter_read_base(dir, &plan->model, plan->geometry.frozen_hash,
                                    cllm_frozen_weights(&frozen));
    if (rc == 0)
        cllm_frozen_seal(&frozen, &plan->geometry);
    cllm_region_close(&frozen);
    return rc;
}
