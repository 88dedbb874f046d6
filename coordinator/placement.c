/*
 * coordinator/placement.c - see coordinator/placement.h.
 */
#include "coordinator/placement.h"

void cllm_placement_init(struct cllm_placement *placement,
                         const struct cllm_config *config)
{
    *placement = (struct cllm_placement){.pin = (enum cllm_config_pin)config->run_pin};
    if (config->run_workers != CLLM_CONFIG_AUTO && placement->pin == CLLM_PIN_NO)
        return;
    cllm_topology_find(&placement->topology, NULL);
    placement->known = true;
}

uint32_t cllm_placement_workers(const struct cllm_placement *placement, uint32_t lanes)
{
    CLLM_ASSERT(placement->known);
    return (uint32_t)cllm_min_u64(cllm_topology_workers(&placement->topology), lanes);
}

bool cllm_placement_cpu(const struct cllm_placement *placement, uint32_t slot,
                        uint32_t workers, uint32_t *cpu)
{
    const struct cllm_topology *topology = &placement->topology;

    if (!placement->known || placement->pin == CLLM_PIN_NO || !topology->real ||
        topology->n == 0 || slot >= workers)
        return false;
    if (placement->pin == CLLM_PIN_AUTO &&
        (topology->n_nodes == 1 || workers > topology->n))
        return false;
    *cpu = topology->core[slot % topology->n].cpu;
    return true;
}
