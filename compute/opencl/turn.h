/*
 * compute/opencl/turn.h - of several processes that want the same made, one makes it and
 * the others wait.
 *
 * Compilers of drivers take seconds for a kernel. Workers that start together with an
 * empty cache would each compile all of them; in turns the first compiles, and the others
 * then find what it has kept. A turn is a lock of a file beside the binaries (cache.h):
 * the end of a process ends its turn, whatever it died of. Nothing depends on turns but
 * time: where there is no directory, or no lock to be had there, and when the one who
 * compiles takes too long, everybody compiles.
 */
#ifndef CLLM_COMPUTE_OPENCL_TURN_H
#define CLLM_COMPUTE_OPENCL_TURN_H

#include "base/base.h"

struct cllm_cl_turn {
    int fd; /* of the file that is locked; -1: none */
    uint64_t key;
};

/* No turn. */
#define CLLM_CL_TURN_NONE ((struct cllm_cl_turn){.fd = -1})

/* Take the turn to make what @key names: waits until the others who took it have ended
 * it, or until @patience_ns is over. What was not there before may be there now. False:
 * it is not to be had, and everybody makes it. To be ended in any case. */
bool cllm_cl_turn_begin(struct cllm_cl_turn *turn, uint64_t key, uint64_t patience_ns);

/* It is made, or cannot be. Also without a turn. */
void cllm_cl_turn_end(struct cllm_cl_turn *turn);

#endif /* CLLM_COMPUTE_OPENCL_TURN_H */
