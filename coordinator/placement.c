/*
 * coordinator/placement.c - see coordinator/placement.h.
 */
#include "coordinator/placement.h"

#include <stdlib.h>
#include <string.h>

void cllm_placement_init(struct cllm_placement *placement,
                         const struct cllm_config *config)
{
    *placement = (struct cllm_placement){.pin = (enum cllm_config_pin)config->run_pin,
                                         .threads = (uint32_t)config->compute_threads};
    if (config->run_workers != CLLM_CONFIG_AUTO &&
        config->run_active != CLLM_CONFIG_AUTO && placement->pin == CLLM_PIN_NO)
        return;
    cllm_topology_find(&placement->topology, NULL);
    placement->known = true;
}

uint32_t cllm_placement_workers(const struct cllm_placement *placement)
{
    uint32_t cores;

    CLLM_ASSERT(placement->known);
    cores = cllm_topology_workers(&placement->topology);
    return (uint32_t)cllm_max_u64(cores / placement->threads, 1);
}

/* ---- which cores ---- */

/* Neighbours have a cache in common, then a node. */
static int by_place(const void *a, const void *b)
{
    const struct cllm_core *x = a, *y = b;

    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    if (x->cache != y->cache)
        return x->cache < y->cache ? -1 : 1;
    return (x->cpu > y->cpu) - (x->cpu < y->cpu);
}

/* One past the last of @n cores that lies in the node of core @i. */
static uint32_t end_of_node(const struct cllm_core *core, uint32_t n, uint32_t i)
{
    uint32_t end = i + 1;

    while (end < n && core[end].node == core[i].node)
        end++;
    return end;
}

/*
 * Where groups of @threads neighbours begin in @n cores, from each node one in turns;
 * across nodes when none has so many, and one of all when there are not so many. Returns
 * how many groups there are.
 */
static uint32_t list_groups(const struct cllm_core *core, uint32_t n, uint32_t threads,
                            uint32_t first[CLLM_TOPOLOGY_CORES])
{
    uint32_t n_groups = 0, before, turn = 0;

    do {
        before = n_groups;
        for (uint32_t i = 0, end; i < n; i = end) {
            end = end_of_node(core, n, i);
            if (i + (turn + 1) * threads <= end)
                first[n_groups++] = i + turn * threads;
        }
        turn++;
    } while (n_groups > before);
    if (n_groups > 0)
        return n_groups;
    for (uint32_t i = 0; i + threads <= n; i += threads)
        first[n_groups++] = i;
    first[0] = 0;
    return n_groups > 0 ? n_groups : 1;
}

bool cllm_placement_cpus(const struct cllm_placement *placement, uint32_t slot,
                         uint32_t workers, cpu_set_t *cpus)
{
    const struct cllm_topology *topology = &placement->topology;
    uint32_t threads = placement->threads, n = topology->n, n_groups = n, begin;
    struct cllm_core core[CLLM_TOPOLOGY_CORES];
    uint32_t first[CLLM_TOPOLOGY_CORES];

    if (!placement->known || placement->pin == CLLM_PIN_NO || !topology->real || n == 0 ||
        slot >= workers)
        return false;
    memcpy(core, topology->core, n * sizeof *core);
    if (threads > 1) { /* with one, in the order of the topology */
        qsort(core, n, sizeof *core, by_place);
        n_groups = list_groups(core, n, threads, first);
    }
    if (placement->pin == CLLM_PIN_AUTO && (topology->n_nodes == 1 || workers > n_groups))
        return false;
    begin = threads > 1 ? first[slot % n_groups] : slot % n_groups;
    CPU_ZERO(cpus);
    for (uint32_t i = begin; i < n && i < begin + threads; i++)
        if (core[i].cpu < CPU_SETSIZE)
            CPU_SET(core[i].cpu, cpus);
    return CPU_COUNT(cpus) > 0;
}
