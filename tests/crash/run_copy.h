/*
 * tests/crash/run_copy.h - a run as it stands at one instant, kept in memory and put down
 * again under another name as often as wanted.
 *
 * What is kept is all that survives a kill of the whole tree: every object of the run in
 * shared memory and every file of its directory. What is put down is a run whose
 * processes are all dead; cllm-coord --resume in its directory adopts it.
 */
#ifndef CLLM_TESTS_CRASH_RUN_COPY_H
#define CLLM_TESTS_CRASH_RUN_COPY_H

#include "shm/control.h"

/* An object in shared memory: "control", "params0", "lane3" ... */
struct run_copy_object {
    char part[32];
    size_t bytes;
    uint8_t *data; /* heap, (bytes) */
};

/* A directory, a regular file or a link. */
struct run_copy_file {
    char *path; /* heap; below the run directory */
    uint32_t mode;
    size_t bytes;
    char *data; /* heap: content, or a link's target; NULL for a directory */
};

/* Zeroed memory is an empty copy. */
struct run_copy {
    struct run_copy_object *object; /* heap, (n_objects) */
    struct run_copy_file *file; /* heap, (n_files); a directory before what is in it */
    uint32_t n_objects, n_files;
};

/*
 * Keep the run in @run_dir. It must stand still, or be dead: what changes meanwhile is
 * kept torn. Sockets are left out. Returns 0 or a negative code with error text, and then
 * keeps nothing. @copy is empty before.
 */
int run_copy_take(struct run_copy *copy, const char *run_dir);

/*
 * Put the run down in @run_dir, an absolute path that must not exist: the directory, and
 * the objects under the id that belongs to it. The header names the new directory, and
 * the processes that the run names are no living ones. Returns 0 or a negative code with
 * error text, and then nothing of it is left.
 */
int run_copy_put(const struct run_copy *copy, const char *run_dir);

/* The bytes of object @part, or NULL. */
const struct run_copy_object *run_copy_find(const struct run_copy *copy,
                                            const char *part);

void run_copy_free(struct run_copy *copy); /* empty again */

/* Unlink every object of the run in @run_dir from shared memory and remove the directory.
 * Its processes are dead. Nothing there is fine. Returns 0 or a negative code with text.
 */
int run_copy_remove(const char *run_dir);

#endif /* CLLM_TESTS_CRASH_RUN_COPY_H */
