/*
 * tools/shm_crashes.h - what crashed in a run: files in RUN/crash, records in shared
 * memory.
 *
 * Node Zero writes a file for each process that a fault signal ended. The newest record
 * of each slot stands in shared memory besides, also when Node Zero itself is dead and
 * nobody wrote a file. Either may be missing.
 */
#ifndef CLLM_TOOLS_SHM_CRASHES_H
#define CLLM_TOOLS_SHM_CRASHES_H

#include <stdio.h>

#include "formats/json.h"
#include "shm/crash.h"

struct cllm_shm_crash_file {
    uint32_t number; /* crash/<number>.txt */
    int64_t unix_s;  /* when it was written */
    char text[400];  /* its first line, printable */
};

struct cllm_shm_crash_slot {
    struct cllm_crash_record record;
    bool now;         /* of the slot's present or last process, not an older one */
    char phrase[160]; /* cllm_crash_phrase() */
};

struct cllm_shm_crashes {
    char run_dir[CLLM_PATH_BYTES];    /* as printed */
    struct cllm_shm_crash_file *file; /* heap, by number */
    uint32_t n_files;
    struct cllm_shm_crash_slot *slot; /* heap, by slot number */
    uint32_t n_slots;
};

/*
 * Look at run @run_id in shared memory and its directory, or, when @run_id is NULL, at
 * directory @run_dir alone. Returns 0, or a negative code with text. Pair with fini.
 */
int cllm_shm_crashes_take(struct cllm_shm_crashes *crashes, const char *run_id,
                          const char *run_dir);

/* The records alone, of a control object that is mapped already. Returns 0 or -ENOMEM
 * with text. */
int cllm_shm_crashes_copy(struct cllm_shm_crashes *crashes,
                          const struct cllm_control *control);
void cllm_shm_crashes_fini(struct cllm_shm_crashes *crashes);

void cllm_shm_crashes_text(FILE *out, const struct cllm_shm_crashes *crashes);

/* A new object, or NULL when memory is out. */
json_t *cllm_shm_crashes_json(const struct cllm_shm_crashes *crashes);

#endif /* CLLM_TOOLS_SHM_CRASHES_H */
