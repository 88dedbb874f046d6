/*
 * coordinator/device_meter.c - see coordinator/device_meter.h.
 */
#include "coordinator/device_meter.h"

#include "base/atomic.h"

static struct cllm_device_counts read_counts(const struct cllm_device_status *device)
{
    return (struct cllm_device_counts){
        .up_bytes = cllm_load_relaxed(&device->up_bytes),
        .down_bytes = cllm_load_relaxed(&device->down_bytes),
        .creates = cllm_load_relaxed(&device->creates),
        .kernel_ns = cllm_load_relaxed(&device->kernel_ns),
        .copy_ns = cllm_load_relaxed(&device->copy_ns),
        .overlap_ns = cllm_load_relaxed(&device->overlap_ns)};
}

static void add(uint64_t *sum, uint64_t now, uint64_t was)
{
    *sum += now > was ? now - was : 0;
}

struct cllm_device_counts cllm_device_meter_look(struct cllm_device_meter *meter,
                                                 const struct cllm_control *control)
{
    struct cllm_device_counts sum = {0};

    for (uint32_t i = 0; i < control->header->geometry.n_worker_slots; i++) {
        const struct cllm_slot *slot = &control->slots[i];
        uint32_t generation = cllm_load_relaxed(&slot->command.generation);
        struct cllm_device_counts now, was = meter->seen[i];

        if (slot->command.device[0] == '\0' ||
            cllm_load_relaxed(&slot->own.status.hello_generation) != generation)
            continue;
        now = read_counts(&slot->own.status.device);
        if (meter->generation[i] != generation)
            was = (struct cllm_device_counts){0};
        add(&sum.up_bytes, now.up_bytes, was.up_bytes);
        add(&sum.down_bytes, now.down_bytes, was.down_bytes);
        add(&sum.creates, now.creates, was.creates);
        add(&sum.kernel_ns, now.kernel_ns, was.kernel_ns);
        add(&sum.copy_ns, now.copy_ns, was.copy_ns);
        add(&sum.overlap_ns, now.overlap_ns, was.overlap_ns);
        meter->generation[i] = generation;
        meter->seen[i] = now;
    }
    return sum;
}
