/*
 * base/topology.c - asks hwloc; the only file that knows it.
 *
 * hwloc may load plugins (OpenCL, X11, PCI), each with libraries and threads of its own.
 * None is wanted in a process that forks and restarts in milliseconds: they are turned
 * off, and so is the discovery that would move this process from CPU to CPU.
 */
#include "base/topology.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hwloc.h>

#include "base/units.h"

#define PATH_BYTES 4096

/* ---- cgroups ---- */

/* Processors by the limit in the directory @dir; 0 = none there. */
static uint32_t quota_at(const char *dir, bool v2)
{
    char path[PATH_BYTES + 32], quota[32] = "";
    uint64_t period = 0, used;
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", dir, v2 ? "cpu.max" : "cpu.cfs_quota_us");
    file = fopen(path, "re");
    if (!file)
        return 0;
    if (fscanf(file, "%31s %" SCNu64, quota, &period) < 1)
        quota[0] = '\0';
    (void)fclose(file); /* read only */
    if (!v2) {
        (void)snprintf(path, sizeof path, "%s/cpu.cfs_period_us", dir);
        file = fopen(path, "re");
        if (!file)
            return 0;
        if (fscanf(file, "%" SCNu64, &period) != 1)
            period = 0;
        (void)fclose(file); /* read only */
    }
    used = quota[0] >= '0' && quota[0] <= '9' ? strtoull(quota, NULL, 10) : 0;
    if (used == 0 || period == 0)
        return 0; /* "max", or -1 */
    return (uint32_t)cllm_min_u64(cllm_div_up(used, period), UINT32_MAX);
}

/* The least limit of @dir and the directories above it, down to @root_bytes of its name.
 */
static uint32_t quota_above(char *dir, size_t root_bytes, bool v2)
{
    uint32_t least = 0;

    for (;;) {
        uint32_t here = quota_at(dir, v2);
        char *slash = strrchr(dir, '/');

        if (here > 0 && (least == 0 || here < least))
            least = here;
        if (!slash || strlen(dir) <= root_bytes)
            return least;
        *slash = '\0';
    }
}

/* Is "cpu" one of the controllers in "cpu,cpuacct"? */
static bool names_cpu(const char *controllers)
{
    size_t n = strcspn(controllers, ",");

    while (n != 3 || strncmp(controllers, "cpu", 3) != 0) {
        if (controllers[n] == '\0')
            return false;
        controllers += n + 1;
        n = strcspn(controllers, ",");
    }
    return true;
}

uint32_t cllm_topology_quota(const char *list, const char *root)
{
    char line[PATH_BYTES], dir[PATH_BYTES];
    uint32_t least = 0;
    FILE *file = fopen(list, "re");

    if (!file)
        return 0;
    while (fgets(line, sizeof line, file)) { /* "1:cpu,cpuacct:/path" or "0::/path" */
        char *controllers = strchr(line, ':'), *path;
        uint32_t here;
        bool v2;
        int n;

        path = controllers ? strchr(++controllers, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        v2 = controllers[0] == '\0';
        if (!v2 && !names_cpu(controllers))
            continue;
        n = snprintf(dir, sizeof dir, "%s%s%s%s", root, v2 ? "" : "/cpu",
                     strcmp(path, "/") == 0 ? "" : "/", path[0] == '/' ? path + 1 : path);
        if (n < 0 || (size_t)n >= sizeof dir)
            continue;
        here = quota_above(dir, strlen(root) + (v2 ? 0 : strlen("/cpu")), v2);
        if (here > 0 && (least == 0 || here < least))
            least = here;
    }
    (void)fclose(file); /* read only */
    return least;
}

/* ---- cores ---- */

struct place {
    struct cllm_core core;
    uint64_t key; /* sorted by it */
};

static int by_key(const void *a, const void *b)
{
    uint64_t x = ((const struct place *)a)->key, y = ((const struct place *)b)->key;

    return (x > y) - (x < y);
}

static uint64_t key_of(uint32_t first, uint32_t second, uint32_t third)
{
    const uint64_t most = (1u << 21) - 1;

    return cllm_min_u64(first, most) << 42 | cllm_min_u64(second, most) << 21 |
           cllm_min_u64(third, most);
}

/* Round the nodes, within a node round the caches; also counts both. */
static void order(struct cllm_topology *topology, struct place *place, uint32_t n)
{
    uint32_t rank = 0;

    for (uint32_t i = 0; i < n; i++)
        place[i].key = key_of(place[i].core.node, place[i].core.cache, place[i].core.cpu);
    qsort(place, n, sizeof *place, by_key);
    for (uint32_t i = 0; i < n; i++) {
        const struct cllm_core *core = &place[i].core;
        const struct cllm_core *last = i > 0 ? &place[i - 1].core : NULL;
        bool new_node = !last || last->node != core->node;
        bool new_cache = new_node || last->cache != core->cache;

        topology->n_nodes += new_node;
        topology->n_caches += new_cache;
        rank = new_cache ? 0 : rank + 1;
        place[i].key = key_of(core->node, rank, core->cache);
    }
    qsort(place, n, sizeof *place, by_key);
    for (uint32_t i = 0; i < n; i++) {
        rank = i == 0 || place[i - 1].core.node != place[i].core.node ? 0 : rank + 1;
        place[i].key = key_of(rank, place[i].core.node, 0);
    }
    qsort(place, n, sizeof *place, by_key);
    topology->n_cores = n;
    topology->n = (uint32_t)cllm_min_u64(n, CLLM_TOPOLOGY_CORES);
    for (uint32_t i = 0; i < topology->n; i++)
        topology->core[i] = place[i].core;
}

/* What may be used: the machine's allowed CPUs, and of those this process's. */
static void find_allowed(hwloc_topology_t machine, hwloc_bitmap_t allowed)
{
    hwloc_bitmap_t bound = hwloc_bitmap_alloc();

    (void)hwloc_bitmap_copy(allowed, hwloc_topology_get_allowed_cpuset(machine));
    if (bound && hwloc_topology_is_thissystem(machine) &&
        hwloc_get_cpubind(machine, bound, HWLOC_CPUBIND_THREAD) == 0 &&
        hwloc_bitmap_intersects(bound, allowed))
        (void)hwloc_bitmap_and(allowed, allowed, bound);
    hwloc_bitmap_free(bound);
}

static uint32_t cache_of(hwloc_topology_t machine, hwloc_obj_t core)
{
    hwloc_obj_t above = hwloc_get_ancestor_obj_by_type(machine, HWLOC_OBJ_L3CACHE, core);

    if (!above)
        above = hwloc_get_ancestor_obj_by_type(machine, HWLOC_OBJ_PACKAGE, core);
    return above ? above->logical_index : 0;
}

/* False when the machine does not tell. */
static bool collect(struct cllm_topology *topology, hwloc_topology_t machine)
{
    hwloc_obj_type_t type = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_CORE) > 0
                                ? HWLOC_OBJ_CORE
                                : HWLOC_OBJ_PU;
    int all = hwloc_get_nbobjs_by_type(machine, type);
    struct place *place = all > 0 ? calloc((size_t)all, sizeof *place) : NULL;
    hwloc_bitmap_t allowed = hwloc_bitmap_alloc(), its = hwloc_bitmap_alloc();
    hwloc_obj_t core = NULL;
    uint32_t n = 0;

    if (place && allowed && its) {
        find_allowed(machine, allowed);
        while ((core = hwloc_get_next_obj_by_type(machine, type, core)) &&
               n < (uint32_t)all) {
            int node = hwloc_bitmap_first(core->nodeset);

            if (hwloc_bitmap_and(its, core->cpuset, allowed) != 0 ||
                hwloc_bitmap_iszero(its))
                continue;
            place[n++].core = (struct cllm_core){.cpu = (uint32_t)hwloc_bitmap_first(its),
                                                 .node = node >= 0 ? (uint32_t)node : 0,
                                                 .cache = cache_of(machine, core)};
            topology->n_cpus += (uint32_t)hwloc_bitmap_weight(its);
        }
    }
    if (n > 0)
        order(topology, place, n);
    hwloc_bitmap_free(allowed);
    hwloc_bitmap_free(its);
    free(place);
    return n > 0;
}

static bool ask_hwloc(struct cllm_topology *topology, const char *synthetic)
{
    const unsigned long flags =
        HWLOC_TOPOLOGY_FLAG_DONT_CHANGE_BINDING | HWLOC_TOPOLOGY_FLAG_NO_DISTANCES |
        HWLOC_TOPOLOGY_FLAG_NO_MEMATTRS | HWLOC_TOPOLOGY_FLAG_NO_CPUKINDS;
    hwloc_topology_t machine;
    bool found = false;

    if (setenv("HWLOC_PLUGINS_PATH", "/dev/null", 1) != 0 ||
        hwloc_topology_init(&machine) != 0)
        return false;
    if (hwloc_topology_set_components(machine, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST,
                                      "x86") == 0 &&
        hwloc_topology_set_flags(machine, flags) == 0 &&
        (!synthetic || hwloc_topology_set_synthetic(machine, synthetic) == 0) &&
        hwloc_topology_load(machine) == 0) {
        topology->real = hwloc_topology_is_thissystem(machine) != 0;
        found = collect(topology, machine);
    }
    hwloc_topology_destroy(machine);
    return found;
}

/* Every logical CPU that may be used is a core. */
static void guess(struct cllm_topology *topology)
{
    cpu_set_t set;

    *topology = (struct cllm_topology){.guessed = true, .real = true};
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        CPU_ZERO(&set);
    for (uint32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set))
            continue;
        if (topology->n < CLLM_TOPOLOGY_CORES)
            topology->core[topology->n++].cpu = cpu;
        topology->n_cores++;
    }
    topology->real = topology->n > 0;
    topology->n_cores = (uint32_t)cllm_max_u64(topology->n_cores, 1);
    topology->n_cpus = topology->n_cores;
    topology->n_nodes = topology->n_caches = 1;
}

void cllm_topology_find(struct cllm_topology *topology, const char *synthetic)
{
    *topology = (struct cllm_topology){0};
    if (!ask_hwloc(topology, synthetic))
        guess(topology);
    if (topology->real)
        topology->quota = cllm_topology_quota("/proc/self/cgroup", "/sys/fs/cgroup");
}

uint32_t cllm_topology_workers(const struct cllm_topology *topology)
{
    return topology->quota > 0
               ? (uint32_t)cllm_min_u64(topology->n_cores, topology->quota)
               : topology->n_cores;
}

/* ---- for people ---- */

const char *cllm_topology_text(char out[CLLM_TOPOLOGY_TEXT],
                               const struct cllm_topology *topology)
{
    char quota[64] = "";

    if (topology->quota > 0)
        (void)snprintf(quota, sizeof quota, ", processor time of a cgroup: %u",
                       topology->quota);
    (void)snprintf(
        out, CLLM_TOPOLOGY_TEXT,
        "%u core%s, %u logical CPU%s, %u NUMA node%s, %u last-level cache%s%s%s%s",
        topology->n_cores, cllm_plural(topology->n_cores), topology->n_cpus,
        cllm_plural(topology->n_cpus), topology->n_nodes, cllm_plural(topology->n_nodes),
        topology->n_caches, cllm_plural(topology->n_caches), quota,
        topology->guessed ? " (a guess: hwloc does not tell)" : "",
        topology->real ? "" : " (a description, not this machine)");
    return out;
}

const char *cllm_topology_cpus(char out[CLLM_TOPOLOGY_TEXT],
                               const struct cllm_topology *topology, uint32_t n)
{
    size_t used = 0;

    out[0] = '\0';
    for (uint32_t i = 0; i < n && i < topology->n; i++) {
        if (used + sizeof " 1048576 ..." > CLLM_TOPOLOGY_TEXT) {
            (void)snprintf(out + used, CLLM_TOPOLOGY_TEXT - used, " ...");
            break;
        }
        used += (size_t)snprintf(out + used, CLLM_TOPOLOGY_TEXT - used, "%s%u",
                                 i ? " " : "", topology->core[i].cpu);
    }
    return out;
}
