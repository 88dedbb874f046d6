/*
 * shm/memfd.h - shared memory without a name in /dev/shm, for machines where that is too
 * small (a container has 64 MiB unless told otherwise).
 *
 * Such an object lives for as long as somebody holds a descriptor of it: the guardian
 * (shm/keeper.h). It has the name of an object all the same, as the kernel shows it in
 * /proc/PID/fd, and is opened through there: with its own open mode, so that a reader
 * cannot make it writable.
 */
#ifndef CLLM_SHM_MEMFD_H
#define CLLM_SHM_MEMFD_H

#include "base/base.h"

/* A new object @name ("/cllm-..."), empty, mode 0600. Returns a descriptor, or a negative
 * errno with text. */
int cllm_memfd_create(const char *name);

/* Its size is final, for everybody. Returns 0 or a negative errno with text. */
int cllm_memfd_seal(int fd, const char *name);

/*
 * Open object @name with @flags (O_RDONLY or O_RDWR), wherever a process of this user
 * holds it; parent and grandparent are asked first. Returns a descriptor, -ENOENT without
 * text, or another negative errno with text. An object that is not sealed is not found.
 */
int cllm_memfd_open(const char *name, int flags);

/* Names without the slash that begin with @prefix, once each; as cllm_region_list(). */
int cllm_memfd_list(const char *prefix,
                    int (*visit)(const char *name, uint64_t bytes, void *ctx), void *ctx);

#endif /* CLLM_SHM_MEMFD_H */
