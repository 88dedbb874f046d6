/*
 * shm/region.h - one POSIX shared-memory object: create, open, protect, unlink.
 *
 * The only file that calls shm_open() or maps MAP_SHARED. A role that may not write an
 * object opens it read-only, so that even mprotect() cannot make it writable
 * (shm/README.md, Objects).
 */
#ifndef CLLM_SHM_REGION_H
#define CLLM_SHM_REGION_H

#include "base/base.h"

#define CLLM_REGION_NAME_BYTES 160

enum cllm_region_mode {
    CLLM_REGION_READ,      /* descriptor and mapping read-only, for good */
    CLLM_REGION_GUARDED,   /* descriptor read-write, mapping read-only until
                              cllm_region_allow() */
    CLLM_REGION_READ_WRITE /* all of it writable */
};

struct cllm_region {
    uint8_t *base; /* NULL when not mapped */
    size_t bytes;
    char name[CLLM_REGION_NAME_BYTES];
    bool nameless; /* a memfd: nobody can find it when its keeper is gone */
};

/*
 * @socket leads to whoever keeps objects without a name (shm/keeper.h); -1: nobody does.
 */
void cllm_region_set_keeper(int socket);

/* Objects created from now on have no name in /dev/shm (shm/memfd.h). Returns false, and
 * they have one, when there is no keeper. */
bool cllm_region_avoid_names(void);

/* Processor time that this process may still spend on huge pages for objects beyond what
 * small ones take; at first 12 s. Objects made after that have small pages. */
void cllm_region_set_huge_pages_ns(uint64_t ns);

/* Name of part @part of run @run_id of this user: "/cllm-<uid>-<run id>-<part>". */
void cllm_region_name(char out[CLLM_REGION_NAME_BYTES], const char *run_id,
                      const char *part);

/*
 * Create object @name of exactly @bytes (rounded up to pages), zeroed, mode 0600, every
 * page allocated now, because a hole in a full /dev/shm would be a SIGBUS in the middle
 * of a run. Maps it writable if @region is not NULL. Returns 0; -EEXIST when the name is
 * taken; -ENOSPC with how much is needed and how much is free; another negative errno.
 * Unlinks on failure.
 */
int cllm_region_create(struct cllm_region *region, const char *name, size_t bytes);

/*
 * Map an existing object. It must be a regular file of this user, mode 0600, with one
 * link, of at least @min_bytes. Returns 0, -ENOENT, or another negative errno with text.
 */
int cllm_region_open(struct cllm_region *region, const char *name, size_t min_bytes,
                     enum cllm_region_mode mode);

/*
 * Map @bytes at page-aligned @off of an object writable, and nothing else of it; for the
 * pages that a role owns in an object which it otherwise reads. Addresses in it are
 * called
 * @note.
 */
int cllm_region_open_window(struct cllm_region *region, const char *name, size_t off,
                            size_t bytes, const char *note);

/* Make pages [off, off + bytes) of a GUARDED region writable, or read-only again. When
 * the system refuses, the process says so and ends. */
void cllm_region_allow(struct cllm_region *region, size_t off, size_t bytes,
                       bool writable);

void cllm_region_close(struct cllm_region *region); /* unmap; safe on a zeroed struct */
int cllm_region_unlink(const char *name); /* 0 also when there is no such name */

/*
 * Addresses of this process that have a name, for whoever must say what an address is:
 * every mapped region is noted under its part of the run ("params0"; a window is "own"),
 * and others may note what they allocate. What does not fit into the table stays
 * nameless.
 */
struct cllm_region_note {
    const uint8_t *base;
    size_t bytes;
    bool writable; /* can be made writable by this process */
    char name[24];
};
void cllm_region_note(const char *name, const void *base, size_t bytes, bool writable);
void cllm_region_forget(const void *base);

/* The note that @address lies in, or NULL. Async-signal-safe. */
const struct cllm_region_note *cllm_region_find(uint64_t address);

/* Bytes that may still be allocated in /dev/shm; UINT64_MAX where it has no limit. */
uint64_t cllm_region_space(void);

/* Names of objects that begin with "cllm-<uid>-", in /dev/shm or kept without a name, one
 * call each until @visit returns non-zero. */
int cllm_region_list(int (*visit)(const char *name, uint64_t bytes, void *ctx),
                     void *ctx);

#endif /* CLLM_SHM_REGION_H */
