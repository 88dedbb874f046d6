/*
 * tests/crash/whole.h - checkpoints whose save ended well, and where they are whole.
 *
 * A directory is whole when its five files are, byte for byte, those that one save of
 * that step left behind. That is known from the simulated disk alone, without the code
 * under test.
 */
#ifndef CLLM_TESTS_CRASH_WHOLE_H
#define CLLM_TESTS_CRASH_WHOLE_H

#include "tests/crash/disk_state.h"

#define WHOLE_MAX   32
#define WHOLE_FILES 5

extern const char *const whole_file[WHOLE_FILES];

struct whole {
    uint64_t step;
    uint64_t file[WHOLE_FILES]; /* as disk_node.hash */
    uint64_t loaded;            /* whole_load() of it */
};

struct whole_set {
    uint32_t n;
    struct whole whole[WHOLE_MAX];
};

/* What is on the disk for @step in @checkpoints is a save that ended well. */
void whole_remember(struct whole_set *set, const char *checkpoints, uint64_t step);

/* The save of which @step in @tree is a copy; NULL: it is missing or not whole. */
const struct whole *whole_in(const struct whole_set *set, const struct disk_tree *tree,
                             uint64_t step);

/* The newest one that is whole in @tree; NULL = none. */
const struct whole *whole_newest(const struct whole_set *set,
                                 const struct disk_tree *tree);

/* Hash of all tensors of checkpoint @dir, as a resume reads them; 0: it does not open. */
uint64_t whole_load(const char *dir);

/* The steps that directories in @tree are named after; returns how many. */
uint32_t whole_steps(const struct disk_tree *tree, uint64_t step[WHOLE_MAX]);

/* "@checkpoints/step-N", or with @name a file in it. */
void whole_path(char path[4096], const char *checkpoints, uint64_t step,
                const char *name);

#endif /* CLLM_TESTS_CRASH_WHOLE_H */
