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

#include "base/config.h"
#include "base/topology.h"

struct cllm_placement {
    enum cllm_config_pin pin;
    bool known; /* topology is filled: somebody wanted to know */
    struct cllm_topology topology;
};

/*
 * Look at the machine, if @config leaves anything to it: [run] workers = auto or pin is
 * not no.
 */
void cllm_placement_init(struct cllm_placement *placement,
                         const struct cllm_config *config);

/* What [run] workers = auto stands for; cores, at most @lanes. Only after an init with
 * that setting. */
uint32_t cllm_placement_workers(const struct cllm_placement *placement, uint32_t lanes);

/*
 * May the worker in @slot run on one CPU alone when @workers are wanted? Then *@cpu is
 * it. With pin = auto only on a machine of several NUMA nodes, and if each worker gets a
 * core of its own: with one node there is nothing to win, and who must not move loses
 * when something else takes its core. The answer is the same for whoever comes after in
 * that slot, also under another Node Zero.
 */
bool cllm_placement_cpu(const struct cllm_placement *placement, uint32_t slot,
                        uint32_t workers, uint32_t *cpu);

#endif /* CLLM_COORDINATOR_PLACEMENT_H */
