/*
 * tests/crash/alloc_fail.c - allocations that fail by plan, with the linker's --wrap.
 *
 * Counted are the calls that our own objects make. Those inside of shared libraries do
 * not pass here: that they run out of memory is tried by failing mmap(2) and brk(2).
 */
#include "tests/crash/alloc_fail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/crash/nano.h"

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
char *__wrap_strdup(const char *text);

static struct alloc_fail_plan *plan;
static enum nano_role role;

/* Before main(): later the sandbox allows no file. */
__attribute__((constructor)) static void begin(int argc, char **argv)
{
    static const struct {
        const char *name;
        enum nano_role role;
    } known[] = {{"/cllm-worker", NANO_WORKER},
                 {"/cllm-loader", NANO_LOADER},
                 {"/cllm-saver", NANO_SAVER}};
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    char *name;
    void *at;
    int fd;

    path[n > 0 ? n : 0] = '\0';
    role = NANO_GUARDIAN;
    for (size_t i = 0; i < CLLM_LEN(known); i++)
        if (strstr(path, known[i].name))
            role = known[i].role;
    for (int i = 1; i < argc; i++) /* the guardian's program with another argument */
        if (strncmp(argv[i], "--node-zero", 11) == 0)
            role = NANO_NODE_ZERO;
    name = strrchr(path, '/');
    if (!name || (size_t)(name - path) + sizeof "/" ALLOC_FAIL_FILE > sizeof path)
        return;
    (void)memcpy(name, "/" ALLOC_FAIL_FILE, sizeof "/" ALLOC_FAIL_FILE);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    at = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (at != MAP_FAILED)
        plan = at;
}

/* Count an allocation; is it the one that fails? */
static bool fails(void)
{
    uint64_t count;

    if (!plan)
        return false;
    count = __atomic_add_fetch(&plan->count[role], 1, __ATOMIC_RELAXED);
    if (plan->n == 0 || (uint32_t)role != plan->role || count < plan->n ||
        (count > plan->n && plan->persist == 0))
        return false;
    (void)__atomic_add_fetch(&plan->failed, 1, __ATOMIC_RELAXED);
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    return fails() ? NULL : __real_calloc(n, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    return fails() ? NULL : __real_realloc(old, bytes);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}
