/*
 * shm/keeper.h - who holds the objects that have no name in /dev/shm (shm/memfd.h).
 *
 * The guardian keeps a descriptor of each, so that they outlive Node Zero; it maps none.
 * Node Zero hands them over through a socket and goes on when they are kept, so that no
 * death in between loses one that counts. The keeper has a socket for each Node Zero:
 * what a dead one left unread is nobody's.
 */
#ifndef CLLM_SHM_KEEPER_H
#define CLLM_SHM_KEEPER_H

#include "shm/region.h"

struct cllm_keeper {
    int socket; /* to the present Node Zero; -1 = none */
    struct cllm_kept {
        int fd;
        char name[CLLM_REGION_NAME_BYTES];
    } * kept;
    uint32_t n_kept, capacity;
};

/* ---- the keeper's end ---- */

void cllm_keeper_init(struct cllm_keeper *keeper);

/* A new socket; the end for Node Zero in @theirs, to be closed once it is started.
 * Returns 0 or a negative errno with text. */
int cllm_keeper_renew(struct cllm_keeper *keeper, int *theirs);

/* The socket is readable: do what is asked. Closes it when the other end is gone. */
void cllm_keeper_serve(struct cllm_keeper *keeper);

/* Let go of everything. */
void cllm_keeper_fini(struct cllm_keeper *keeper);

/* ---- Node Zero's end; waits until it is done ---- */

/* Keep @fd under @name. Returns 0, -EEXIST, or another negative errno with text. */
int cllm_keeper_keep(int socket, const char *name, int fd);

/* Let go of @name; 0 also when it is not kept. */
int cllm_keeper_drop(int socket, const char *name);

#endif /* CLLM_SHM_KEEPER_H */
