/*
 * coordinator/placement.h - which worker runs on which core.
 *
 * A worker that stays on its core keeps its caches and the memory node that its pages lie
 * on, and two workers never share one core while another is idle. Only speed depends on
 * it. The loader, the saver, spares and Node Zero are never pinned: they work a little
 * here and there, and the kernel finds room for them.
 */
#ifndef CLLM_COORDINATOR_PLACEMENT_H
#define CLLM_COORDINATOR_PLACEMENT_H

#include <sched.h>

#include "base/config.h"
#include "base/topology.h"

struct cllm_placement {
    enum cllm_config_pin pin;
    bool known;       /* topology is filled: somebody wanted to know */
    uint32_t threads; /* of each worker */
    struct cllm_topology topology;
};

/* Look at the machine, if @config leaves anything to it. */
void cllm_placement_init(struct cllm_placement *placement,
                         const struct cllm_config *config);

/* What [run] workers = auto and active = auto stand for: cores / threads, at least 1.
 * Only after an init with such a setting. */
uint32_t cllm_placement_workers(const struct cllm_placement *placement);

/*
 * May the worker in @slot run on some CPUs alone, one for each of its threads, when
 * @workers are wanted? Then @cpus are they: of one NUMA node if a node has so many. With
 * pin = auto only on a machine of several NUMA nodes, and if each worker gets cores of
 * its own: with one node there is nothing to win, and who must not move loses when
 * something else takes its core. The answer is the same for whoever comes after in that
 * slot, also under another Node Zero.
 */
bool cllm_placement_cpus(const struct cllm_placement *placement, uint32_t slot,
                         uint32_t workers, cpu_set_t *cpus);

#endif /* CLLM_COORDINATOR_PLACEMENT_H */
