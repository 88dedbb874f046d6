/*
 * coordinator/devices.h - which worker slot computes its lanes on which device.
 *
 * Node Zero never loads a driver: what there is it hears from cllm-devices, a program of
 * a second's life, which may crash or hang without harm. What a worker gets is a name;
 * it opens the device itself.
 *
 * Devices fail. One that fails its worker CLLM_DEVICE_FAILURES times in a row is lost to
 * that slot, and [compute] on_device_loss says what follows. The slot's command page
 * remembers it as long as the run is in shared memory; a run that begins or comes out of
 * a checkpoint tries all devices again.
 */
#ifndef CLLM_COORDINATOR_DEVICES_H
#define CLLM_COORDINATOR_DEVICES_H

#include "base/config.h"
#include "shm/layout.h"

#define CLLM_DEVICE_FAILURES 3
#define CLLM_DEVICES_MAX     32 /* entries of [compute] device */

struct cllm_devices {
    uint32_t n; /* entries, which slots take in turn; 0 = all compute on the processor */
    char entry[CLLM_DEVICES_MAX][CLLM_DEVICE_BYTES]; /* "" = the processor */
    uint32_t failures[CLLM_MAX_WORKERS];             /* in a row */
    bool lost[CLLM_MAX_WORKERS]; /* its slot computes on the processor now */
    char why[480];               /* what was chosen and why; "" = nothing to say */
};

/*
 * Choose by [compute] backend, device and on_device_loss. Returns 0; CLLM_ECONFIG for
 * what cannot go together; CLLM_EDEVICE when there is no device and the run is to stop
 * then.
 */
int cllm_devices_choose(struct cllm_devices *devices, const struct cllm_config *config);

/* The device of @slot; "" = the processor. */
const char *cllm_devices_of(const struct cllm_devices *devices, uint32_t slot);

/* Do some slots compute on a device, and some on the processor, by the configuration? */
bool cllm_devices_mixed(const struct cllm_devices *devices);

/* May workers make different numbers: because they have different devices, or one lost
 * its own? */
bool cllm_devices_may_mix(const struct cllm_devices *devices);

/* A process of @slot, which has a device, was ended by it; @worked: it computed lanes
 * first. True: that was once too often. */
bool cllm_devices_failed(struct cllm_devices *devices, uint32_t slot, bool worked);

/* @command, of @slot, remembers its device's failures, for whoever adopts the run; and
 * what an earlier Node Zero left there counts. True: the slot's device is lost. */
void cllm_devices_remember(const struct cllm_devices *devices, uint32_t slot,
                           struct cllm_command *command);
bool cllm_devices_recall(struct cllm_devices *devices, uint32_t slot,
                         const struct cllm_command *command);

#endif /* CLLM_COORDINATOR_DEVICES_H */
