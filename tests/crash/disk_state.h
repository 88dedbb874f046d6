/*
 * tests/crash/disk_state.h - what a disk may hold after a power cut.
 *
 * The model is the one of ALICE and CrashMonkey, harsher than any file system we know of:
 * when the power goes after operation k of a log, everything that an fsync of its own
 * file or directory covered is there, and of the rest each operation is there or not,
 * whatever happened to the others:
 *
 *   - a write: lost; there; only some of its sectors (512 bytes) or pages (4 KiB); or the
 *     file has its length and zeros in its place;
 *   - an allocation: there or not;
 *   - a name (create, remove, rename, exchange): there or not; of a rename also only one
 *     half, so that both names are there or none.
 *
 * After an fsync that failed, what it was for stays uncertain for good: the kernel may
 * have taken its pages for clean, so that a second fsync of them returns 0 and does
 * nothing.
 *
 * Writes of a log never overlap, so which of two came first makes no difference.
 */
#ifndef CLLM_TESTS_CRASH_DISK_STATE_H
#define CLLM_TESTS_CRASH_DISK_STATE_H

#include "tests/crash/disk_log.h"

enum disk_fate {
    DISK_LOST = 0,
    DISK_DONE,
    DISK_ZEROED,  /* WRITE: length without content */
    DISK_SECTORS, /* WRITE: those whose bit in `mask` (number % 64) is set */
    DISK_PAGES,   /* likewise */
    DISK_BOTH,    /* RENAME: new name there, old one still there */
    DISK_NEITHER, /* RENAME: old name gone, new one not there */
    DISK_N_FATES
};

struct disk_choice {
    enum disk_fate fate;
    uint64_t mask;
};

/* A path below the watched directory, "" for itself, with what is there. */
struct disk_node {
    char path[2 * DISK_NAME_BYTES];
    enum disk_type type;
    uint64_t hash;       /* of type and content */
    const uint8_t *data; /* (bytes); owned by the model */
    uint64_t bytes;
};

struct disk_tree {
    uint32_t n, room;
    struct disk_node *node; /* sorted by path; heap */
    uint64_t hash;          /* of everything */
};

/* The simulated disk. */
struct disk_model;
struct disk_model *disk_model_new(const struct disk_log *log);
void disk_model_free(struct disk_model **model);

/* The next operation of the log is issued. @ignore_sync: the disk lies, an fsync makes
 * nothing durable. False at the end of the log. */
bool disk_model_advance(struct disk_model *model, bool ignore_sync);
uint32_t disk_model_issued(const struct disk_model *model);

/* Operations issued and not durable, oldest first; the i-th of them. */
uint32_t disk_model_pending(const struct disk_model *model);
const struct disk_op *disk_model_op(const struct disk_model *model, uint32_t i);

/* The tree after a power cut now, when @choice (one for each pending operation) is what
 * becomes of them. Good until the next call. */
void disk_model_tree(struct disk_model *model, const struct disk_choice *choice,
                     struct disk_tree *tree);
void disk_tree_free(struct disk_tree *tree);
const struct disk_node *disk_tree_find(const struct disk_tree *tree, const char *path);

/* Make the directory @root hold @tree; @there is what it holds now and is replaced. */
void disk_tree_put(const char *root, struct disk_tree *there,
                   const struct disk_tree *tree);

/* The tree that is in @root, for comparison; its data are heap and not kept. */
uint64_t disk_tree_hash_of(const char *root);

#endif /* CLLM_TESTS_CRASH_DISK_STATE_H */
