/*
 * shm/sandbox.h - what worker, loader and saver give up once they are ready.
 *
 * A child needs little after its beginning: a worker computes in memory it has mapped,
 * the loader reads files it has opened, the saver writes below the run directory. So that
 * a bug, or a file made to exploit one, gets no further than that, a child gives the rest
 * away for good, in all of its threads: new privileges, system calls that are not on its
 * role's list (seccomp; SIGSYS, with a crash record, for anything else), files that it
 * was not given (Landlock), descriptors, and private memory beyond a budget. What a
 * kernel or a container does not offer is gone without: the sandbox protects, nothing
 * depends on it.
 *
 * A driver of a device opens files, talks to its kernel module and makes threads of its
 * own, as it likes. Where one works there is no Landlock, and all system calls but those
 * that only an intruder makes: to become another program or user, to reach into other
 * processes, to change the machine.
 */
#ifndef CLLM_SHM_SANDBOX_H
#define CLLM_SHM_SANDBOX_H

#include "shm/layout.h"

/* Calls @fn once in every thread of the process: cllm_threads_everywhere(), which this
 * floor does not know. */
typedef void (*cllm_sandbox_each_fn)(void *ctx, uint32_t part, uint32_t thread);
typedef void (*cllm_sandbox_everywhere_fn)(cllm_sandbox_each_fn fn, void *ctx);

struct cllm_sandbox {
    enum cllm_role role;    /* CLLM_ROLE_WORKER, _LOADER or _SAVER */
    bool off;               /* only say that there is none */
    bool driver;            /* of a device works in it: see below */
    uint64_t private_bytes; /* that may still be allocated; 0 = no limit */
    const char *directory;  /* below it anything may be done with files; NULL = none */
    const char *object[2];  /* shared memory opened later, "/cllm-..."; NULL = none */
    bool nameless;          /* objects are memfds, found in ways that Landlock forbids */
    cllm_sandbox_everywhere_fn everywhere; /* NULL = the process has one thread */
};

/*
 * Enter. What holds is appended to @text ("onednn, sandboxed"), which has @bytes:
 * "sandboxed", "no landlock", "no seccomp" or "no sandbox". Never fails.
 */
void cllm_sandbox_enter(const struct cllm_sandbox *sandbox, char *text, size_t bytes);

/* False in a build with a sanitizer or coverage: these make system calls of their own, so
 * that there is never a sandbox. */
bool cllm_sandbox_built(void);

#endif /* CLLM_SHM_SANDBOX_H */
