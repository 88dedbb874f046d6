/*
 * tests/crash/saver_rig.c - a saver between two calls.
 */
#include "tests/crash/saver_rig.h"

#include <stdio.h>
#include <unistd.h>

#include "saver/save.h"
#include "shm/slot.h"

void saver_rig_open(struct saver_rig *rig, const struct saver_run_size *size, int keep)
{
    struct cllm_child *child = &rig->child;

    *rig = (struct saver_rig){0};
    saver_run_open(&rig->run, size, keep);
    child->run_id = rig->run.run_id;
    child->slot = rig->run.slot;
    child->eventfd = rig->run.eventfd;
    child->parent_pid = (uint64_t)getppid();
    child->generation = cllm_slot_renew(&rig->run.control, rig->run.slot);
    child->control = rig->run.control;
    child->control.own = &rig->run.control.slots[rig->run.slot].own;
    child->control.slot = rig->run.slot;
    child->geometry = &child->control.header->geometry;
    cllm_config_init(&child->config);
    CLLM_ASSERT(cllm_config_parse(&child->config, child->control.config, "the run") == 0);
    CLLM_ASSERT(cllm_file_join(rig->checkpoints, rig->run.dir, "checkpoints") == 0);
    CLLM_ASSERT(cllm_file_mkdirs(rig->checkpoints) == 0);
}

void saver_rig_close(struct saver_rig *rig)
{
    saver_rig_stop(rig);
    cllm_config_fini(&rig->child.config);
    saver_run_close(&rig->run);
}

int saver_rig_start(struct saver_rig *rig)
{
    saver_rig_stop(rig);
    return cllm_saver_init(&rig->saver, &rig->child);
}

void saver_rig_stop(struct saver_rig *rig)
{
    cllm_saver_fini(&rig->saver);
}

int saver_rig_save_again(struct saver_rig *rig, uint64_t step)
{
    int rc = cllm_save_step(&rig->saver, step, step & 1);

    if (rc != 0)
        cllm_save_abandon(&rig->saver, step);
    return rc;
}

int saver_rig_save(struct saver_rig *rig, uint64_t step, uint64_t best_step)
{
    saver_run_commit(&rig->run, step, best_step);
    return saver_rig_save_again(rig, step);
}
