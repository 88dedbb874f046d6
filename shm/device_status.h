/*
 * shm/device_status.h - what a worker says of its device; a part of its slot's page
 * (shm/layout.h).
 */
#ifndef CLLM_SHM_DEVICE_STATUS_H
#define CLLM_SHM_DEVICE_STATUS_H

#include "base/atomic.h"
#include "base/base.h"

#define CLLM_DEVICE_BYTES 64 /* name of a device, as in [compute] device */

/*
 * Counters since everything was warm, but for those of a start; all relaxed. What was
 * moved before that (the weights beneath adapters among it) is not counted.
 */
struct cllm_device_status {
    char name[CLLM_DEVICE_BYTES]; /* as the driver says; "" = none */
    _Atomic uint64_t up_bytes, down_bytes, launches;
    _Atomic uint64_t weights_put;             /* versions that went up */
    _Atomic uint64_t acquires, hits, creates; /* buffers wanted, reused, made */
    _Atomic uint64_t buffer_bytes;            /* of all buffers, from the start on */

    /* the start: programs compiled and taken from the cache, the time that this took; the
     * time until everything was warm */
    _Atomic uint64_t builds, loads, program_ns, warm_ns;

    /* with [compute] profile: time that kernels ran, that transfers did, that both did */
    _Atomic uint64_t kernel_ns, copy_ns, overlap_ns;
};

#endif /* CLLM_SHM_DEVICE_STATUS_H */
