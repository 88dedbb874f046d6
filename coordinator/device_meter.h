/*
 * coordinator/device_meter.h - what the devices of all workers moved and made in a step.
 *
 * Workers count since they were warm (shm/device_status.h), each process anew; here
 * become of that differences from one look to the next. The counters are untrusted: they
 * are written into the metrics and decide nothing.
 */
#ifndef CLLM_COORDINATOR_DEVICE_METER_H
#define CLLM_COORDINATOR_DEVICE_METER_H

#include "shm/control.h"

/* Summed over the workers that have a device. */
struct cllm_device_counts {
    uint64_t up_bytes, down_bytes;
    uint64_t creates;                        /* buffers made */
    uint64_t kernel_ns, copy_ns, overlap_ns; /* with [compute] profile */
};

struct cllm_device_meter {
    uint32_t generation[CLLM_MAX_WORKERS]; /* whose counters were seen; 0 = nobody's */
    struct cllm_device_counts seen[CLLM_MAX_WORKERS];
};

/* What was counted since the last look; a process that was not seen before counts from
 * its beginning. */
struct cllm_device_counts cllm_device_meter_look(struct cllm_device_meter *meter,
                                                 const struct cllm_control *control);

#endif /* CLLM_COORDINATOR_DEVICE_METER_H */
