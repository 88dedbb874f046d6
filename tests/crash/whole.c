/*
 * tests/crash/whole.c - byte for byte, or not whole.
 */
#include "tests/crash/whole.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "formats/checkpoint.h"
#include "formats/checkpoint_list.h"

const char *const whole_file[WHOLE_FILES] = {
    CLLM_CHECKPOINT_MODEL, CLLM_CHECKPOINT_CONFIG, CLLM_CHECKPOINT_OPTIMIZER,
    CLLM_CHECKPOINT_RUN, CLLM_CHECKPOINT_MANIFEST};

void whole_path(char path[4096], const char *checkpoints, uint64_t step, const char *name)
{
    char dir[32], parent[CLLM_FILE_PATH_BYTES];

    cllm_checkpoint_name(dir, step, false);
    CLLM_ASSERT(cllm_file_join(parent, checkpoints, dir) == 0);
    if (name != NULL)
        CLLM_ASSERT(cllm_file_join(path, parent, name) == 0);
    else
        memcpy(path, parent, sizeof parent);
}

uint64_t whole_load(const char *dir)
{
    struct cllm_checkpoint checkpoint;
    const struct cllm_safetensors *st[2] = {&checkpoint.model, &checkpoint.optimizer};
    uint64_t hash = 1;

    if (cllm_checkpoint_open(&checkpoint, dir) != 0)
        return 0;
    for (uint32_t f = 0; f < 2; f++) {
        for (uint32_t i = 0; i < st[f]->n_tensors; i++) {
            uint64_t n = st[f]->tensor[i].n_elements;
            float *value = malloc(n * sizeof *value);

            CLLM_ASSERT(value != NULL);
            CLLM_ASSERT(
                cllm_checkpoint_read(&checkpoint, st[f]->tensor[i].name, value, n) == 0);
            hash = cllm_hash(value, n * sizeof *value, hash);
            free(value);
        }
    }
    cllm_checkpoint_close(&checkpoint);
    return hash;
}

void whole_remember(struct whole_set *set, const char *checkpoints, uint64_t step)
{
    struct whole *whole = &set->whole[set->n++];
    char path[CLLM_FILE_PATH_BYTES];

    CLLM_ASSERT(set->n <= WHOLE_MAX);
    *whole = (struct whole){.step = step};
    for (uint32_t i = 0; i < WHOLE_FILES; i++) {
        char *text = NULL;
        size_t bytes = 0;

        whole_path(path, checkpoints, step, whole_file[i]);
        CLLM_ASSERT(cllm_file_read(path, 1u << 20, &text, &bytes) == 0);
        whole->file[i] = cllm_hash(text, bytes, DISK_FILE);
        free(text);
    }
    whole_path(path, checkpoints, step, NULL);
    whole->loaded = whole_load(path);
    CLLM_ASSERT(whole->loaded != 0);
}

const struct whole *whole_in(const struct whole_set *set, const struct disk_tree *tree,
                             uint64_t step)
{
    char path[2 * DISK_NAME_BYTES];

    for (uint32_t w = 0; w < set->n; w++) {
        const struct whole *whole = &set->whole[w];
        bool same = whole->step == step;

        for (uint32_t i = 0; same && i < WHOLE_FILES; i++) {
            const struct disk_node *node;

            (void)snprintf(path, sizeof path, "step-%010" PRIu64 "/%s", step,
                           whole_file[i]);
            node = disk_tree_find(tree, path);
            same =
                node != NULL && node->type == DISK_FILE && node->hash == whole->file[i];
        }
        if (same)
            return whole;
    }
    return NULL;
}

uint32_t whole_steps(const struct disk_tree *tree, uint64_t step[WHOLE_MAX])
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < tree->n; i++) {
        CLLM_ASSERT(n < WHOLE_MAX);
        if (tree->node[i].type == DISK_DIRECTORY &&
            cllm_checkpoint_parse_name(tree->node[i].path, false, &step[n]))
            n++;
    }
    return n;
}

const struct whole *whole_newest(const struct whole_set *set,
                                 const struct disk_tree *tree)
{
    const struct whole *newest = NULL;
    uint64_t step[WHOLE_MAX];
    uint32_t n = whole_steps(tree, step);

    for (uint32_t i = 0; i < n; i++) {
        const struct whole *whole = whole_in(set, tree, step[i]);

        if (whole != NULL && (newest == NULL || whole->step > newest->step))
            newest = whole;
    }
    return newest;
}
