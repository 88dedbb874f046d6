/*
 * base/topology.h - the cores that this process may use, and where they lie.
 *
 * "May use" means what affinity (taskset, a cgroup's cpuset) leaves of the machine. A
 * core is a physical one: two threads of one core (SMT) share its arithmetic units, so
 * that a second worker there gains nothing. A processor time limit of a cgroup (cpu.max)
 * is told besides.
 */
#ifndef CLLM_BASE_TOPOLOGY_H
#define CLLM_BASE_TOPOLOGY_H

#include "base/base.h"

#define CLLM_TOPOLOGY_CORES 256 /* cores that are told one by one */
#define CLLM_TOPOLOGY_TEXT  256

struct cllm_core {
    uint32_t cpu; /* the first logical CPU of it that may be used, as the kernel counts */
    uint32_t node;  /* NUMA node, likewise */
    uint32_t cache; /* number of its last-level cache */
};

struct cllm_topology {
    uint32_t n_cores; /* physical, that may be used; at least 1 */
    uint32_t n_cpus;  /* logical, likewise */
    uint32_t n_nodes, n_caches;
    uint32_t quota; /* processors that a cgroup pays for, rounded up; 0 = no limit */
    bool real;      /* this machine, not a description: processes can be bound to it */
    bool guessed;   /* nothing told the cores apart: every logical CPU counts as one */
    uint32_t n;     /* of core[]: min(n_cores, CLLM_TOPOLOGY_CORES) */
    /*
     * In the order in which workers should take them: round the NUMA nodes, within a node
     * round the last-level caches, so that few workers have all of the bandwidth and
     * cache. The first k cores are the same for every k.
     */
    struct cllm_core core[CLLM_TOPOLOGY_CORES];
};

/*
 * Look at the machine, or at @synthetic, a description in hwloc's language ("node:2
 * core:4 pu:2"; NULL = the machine, or what the HWLOC_* variables of the environment put
 * in its place). Never fails: what cannot be told is guessed. Milliseconds.
 */
void cllm_topology_find(struct cllm_topology *topology, const char *synthetic);

/* So many workers have a core, and processor time, of their own. */
uint32_t cllm_topology_workers(const struct cllm_topology *topology);

/* "8 cores, 16 logical CPUs, 2 NUMA nodes, 2 caches": what may be used, for people. */
const char *cllm_topology_text(char out[CLLM_TOPOLOGY_TEXT],
                               const struct cllm_topology *topology);

/* "0 2 4 6 ...": the CPUs of the first @n cores in their order, as far as there is room.
 */
const char *cllm_topology_cpus(char out[CLLM_TOPOLOGY_TEXT],
                               const struct cllm_topology *topology, uint32_t n);

/*
 * Processors that the cgroups of a process pay for, rounded up; 0 = no limit. @list is
 * its /proc/PID/cgroup, @root the directory where they are mounted (/sys/fs/cgroup);
 * versions 1 and 2.
 */
uint32_t cllm_topology_quota(const char *list, const char *root);

#endif /* CLLM_BASE_TOPOLOGY_H */
