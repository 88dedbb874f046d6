/*
 * tools/facts.c - see tools/facts.h.
 */
#include "tools/facts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/io_uring.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/topology.h"
#include "base/units.h"
#include "shm/region.h"
#include "tools/device_facts.h"

void cllm_facts_add(struct cllm_facts *facts, const char *section, const char *key,
                    const char *fmt, ...)
{
    struct cllm_fact *fact = &facts->fact[facts->n];
    va_list args;

    CLLM_ASSERT(facts->n < CLLM_FACTS_MAX);
    fact->section = section;
    fact->key = key;
    va_start(args, fmt);
    (void)vsnprintf(fact->text, sizeof fact->text, fmt, args);
    va_end(args);
    facts->n++;
}

/* First line of a small file without its newline; false when it cannot be read. */
static bool read_line(const char *path, char *out, size_t bytes)
{
    FILE *file = fopen(path, "re");
    bool ok = file && fgets(out, (int)bytes, file);

    if (file)
        (void)fclose(file); /* read only */
    if (ok)
        out[strcspn(out, "\n")] = '\0';
    return ok;
}

/* The value of "name : value" in a file of such lines, as in /proc/cpuinfo. */
static bool read_field(const char *path, const char *name, char *out, size_t bytes)
{
    FILE *file = fopen(path, "re");
    char line[4096];
    bool found = false;

    while (file && !found && fgets(line, sizeof line, file)) {
        const char *value = strchr(line, ':');

        if (!value || strncmp(line, name, strlen(name)) != 0)
            continue;
        value += 1 + strspn(value + 1, " \t");
        line[strcspn(line, "\n")] = '\0';
        (void)snprintf(out, bytes, "%s", value);
        found = true;
    }
    if (file)
        (void)fclose(file); /* read only */
    return found;
}

/* Those of the CPU's feature words that matter to numeric code. */
static void add_features(struct cllm_facts *facts)
{
    static const char *const wanted[] = {
        "sse4_2",      "avx",         "avx2",     "fma",      "f16c",
        "avx512f",     "avx512bw",    "avx512vl", "avx512dq", "avx512_bf16",
        "avx512_vnni", "avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16",
        "amx_int8",    "asimd",       "sve",      "bf16",     "i8mm",
    };
    char flags[4096], padded[4100], word[32], found[400] = "";

    if (!read_field("/proc/cpuinfo", "flags", flags, sizeof flags) &&
        !read_field("/proc/cpuinfo", "Features", flags, sizeof flags)) {
        cllm_facts_add(facts, "cpu", "features", "unknown: /proc/cpuinfo does not say");
        return;
    }
    (void)snprintf(padded, sizeof padded, " %s ", flags);
    for (size_t i = 0; i < CLLM_LEN(wanted); i++) {
        size_t used = strlen(found);

        (void)snprintf(word, sizeof word, " %s ", wanted[i]);
        if (strstr(padded, word))
            (void)snprintf(found + used, sizeof found - used, "%s%s", used ? " " : "",
                           wanted[i]);
    }
    cllm_facts_add(facts, "cpu", "features", "%s", found[0] ? found : "none of note");
}

/* What may be used of the machine, and what [run] workers = auto makes of it. */
static void add_topology(struct cllm_facts *facts)
{
    struct cllm_topology topology;
    char text[CLLM_TOPOLOGY_TEXT];
    uint32_t workers;

    cllm_topology_find(&topology, NULL);
    workers = cllm_topology_workers(&topology);
    cllm_facts_add(facts, "cpu", "cores", "may be used: %s; %ld logical CPUs are online",
                   cllm_topology_text(text, &topology), sysconf(_SC_NPROCESSORS_ONLN));
    cllm_facts_add(facts, "cpu", "workers",
                   "auto = %u, at most one for each lane; worker 0, 1, ... on CPU %s",
                   workers, cllm_topology_cpus(text, &topology, workers));
}

static void add_cpu(struct cllm_facts *facts)
{
    char text[256], l2[CLLM_UNITS_BYTES], l3[CLLM_UNITS_BYTES];
    long l2_bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
    long l3_bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);

    if (!read_field("/proc/cpuinfo", "model name", text, sizeof text))
        (void)snprintf(text, sizeof text, "unknown");
    cllm_facts_add(facts, "cpu", "model", "%s", text);
    add_topology(facts);
    cllm_facts_add(facts, "cpu", "caches", "L2 %s, L3 %s",
                   cllm_format_bytes(l2, l2_bytes > 0 ? (uint64_t)l2_bytes : 0),
                   cllm_format_bytes(l3, l3_bytes > 0 ? (uint64_t)l3_bytes : 0));
    add_features(facts);
}

static void add_meminfo(struct cllm_facts *facts, const char *key, const char *field)
{
    char text[64], bytes[CLLM_UNITS_BYTES];

    if (read_field("/proc/meminfo", field, text, sizeof text))
        cllm_facts_add(facts, "memory", key, "%s",
                       cllm_format_bytes(bytes, strtoull(text, NULL, 10) * 1024));
    else
        cllm_facts_add(facts, "memory", key, "unknown");
}

static void add_limit(struct cllm_facts *facts)
{
    char bytes[CLLM_UNITS_BYTES];
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        cllm_facts_add(facts, "memory", "memlock", "unknown: %s", strerror(errno));
    else if (limit.rlim_cur == RLIM_INFINITY)
        cllm_facts_add(facts, "memory", "memlock", "unlimited");
    else
        cllm_facts_add(facts, "memory", "memlock", "%s; ulimit -l raises it",
                       cllm_format_bytes(bytes, limit.rlim_cur));
}

static void add_memory(struct cllm_facts *facts)
{
    char text[256], all[CLLM_UNITS_BYTES], left[CLLM_UNITS_BYTES];
    struct statvfs fs;

    add_meminfo(facts, "total", "MemTotal");
    add_meminfo(facts, "available", "MemAvailable");
    if (read_line("/sys/fs/cgroup/memory.max", text, sizeof text))
        cllm_facts_add(facts, "memory", "cgroup_limit", "%s", text);
    if (statvfs("/dev/shm", &fs) == 0)
        cllm_facts_add(facts, "memory", "dev_shm", "%s, %s free",
                       cllm_format_bytes(all, (uint64_t)fs.f_blocks * fs.f_frsize),
                       cllm_format_bytes(left, cllm_region_space()));
    else
        cllm_facts_add(facts, "memory", "dev_shm", "not there: %s", strerror(errno));
    add_limit(facts);
    cllm_facts_add(facts, "memory", "page", "%ld B", sysconf(_SC_PAGESIZE));
    /* the kernel lists all choices, with the one in force in brackets */
    if (read_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled", text,
                  sizeof text) &&
        strchr(text, '['))
        cllm_facts_add(facts, "memory", "huge_pages_for_shm", "%.*s",
                       (int)strcspn(strchr(text, '[') + 1, "]"), strchr(text, '[') + 1);
    else
        cllm_facts_add(facts, "memory", "huge_pages_for_shm", "not in this kernel");
}

/* liburing is the loader's; whether the kernel lets us in is one plain system call. */
static void add_io_uring(struct cllm_facts *facts)
{
    struct io_uring_params params = {0};
    char disabled[32] = "";
    long fd = syscall(SYS_io_uring_setup, 4, &params);
    int error = errno;

    if (fd >= 0) {
        (void)close((int)fd); /* nothing was submitted */
        cllm_facts_add(facts, "kernel", "io_uring", "available, features %#x",
                       params.features);
        return;
    }
    (void)read_line("/proc/sys/kernel/io_uring_disabled", disabled, sizeof disabled);
    cllm_facts_add(facts, "kernel", "io_uring",
                   "not available: %s%s%s; the loader reads with pread instead",
                   strerror(error), disabled[0] ? "; kernel.io_uring_disabled = " : "",
                   disabled);
}

static void add_semaphores(struct cllm_facts *facts)
{
    sem_t semaphore;

    if (sem_init(&semaphore, 1, 0) == 0) {
        (void)sem_destroy(&semaphore); /* nobody waits on it */
        cllm_facts_add(facts, "kernel", "semaphores", "work between processes");
    } else {
        cllm_facts_add(facts, "kernel", "semaphores", "not between processes: %s",
                       strerror(errno));
    }
}

static void add_sandbox(struct cllm_facts *facts)
{
    char text[256];
    /* no attributes, flag 1: which version of Landlock is there */
    long landlock = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);

    if (landlock > 0)
        cllm_facts_add(facts, "kernel", "landlock", "version %ld", landlock);
    else
        cllm_facts_add(facts, "kernel", "landlock", "not available: %s", strerror(errno));
    if (read_line("/proc/sys/kernel/seccomp/actions_avail", text, sizeof text))
        cllm_facts_add(facts, "kernel", "seccomp", "%s", text);
    else
        cllm_facts_add(facts, "kernel", "seccomp", "not available");
}

static void add_kernel(struct cllm_facts *facts)
{
    struct utsname name;

    if (uname(&name) == 0)
        cllm_facts_add(facts, "kernel", "release", "%s %s %s", name.sysname, name.release,
                       name.machine);
    add_io_uring(facts);
    add_semaphores(facts);
    add_sandbox(facts);
}

/* What direct reads of @path must be aligned to. */
static void add_data(struct cllm_facts *facts, const char *path)
{
    struct statx st = {0};
    int fd;

    if (statx(AT_FDCWD, path, 0, STATX_BASIC_STATS | STATX_DIOALIGN, &st) != 0) {
        cllm_facts_add(facts, "data", "direct_io", "%s: %s", path, strerror(errno));
        return;
    }
    if (!S_ISREG(st.stx_mode)) {
        cllm_facts_add(facts, "data", "direct_io", "%s is no regular file: name a shard",
                       path);
        return;
    }
    if ((st.stx_mask & STATX_DIOALIGN) && st.stx_dio_offset_align > 0) {
        cllm_facts_add(facts, "data", "direct_io",
                       "%s: memory at multiples of %u, offsets of %u bytes", path,
                       st.stx_dio_mem_align, st.stx_dio_offset_align);
        return;
    }
    if (st.stx_mask & STATX_DIOALIGN) {
        cllm_facts_add(facts, "data", "direct_io", "%s: not supported there", path);
        return;
    }
    /* before Linux 6.1, or a file system that does not say: try */
    fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd >= 0) {
        (void)close(fd); /* read only */
        cllm_facts_add(facts, "data", "direct_io",
                       "%s: can be opened; the alignment is not told, 4096 is safe",
                       path);
    } else {
        cllm_facts_add(facts, "data", "direct_io", "%s: %s", path, strerror(errno));
    }
}

void cllm_facts_machine(struct cllm_facts *facts, const char *data)
{
    add_cpu(facts);
    add_memory(facts);
    add_kernel(facts);
    cllm_device_facts_add(facts);
    if (data)
        add_data(facts, data);
}
