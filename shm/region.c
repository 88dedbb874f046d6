/*
 * shm/region.c - the only caller of shm_open() and mmap(MAP_SHARED).
 */
#include "shm/region.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/pulse.h"
#include "shm/keeper.h"
#include "shm/memfd.h"

#define SHM_DIRECTORY "/dev/shm"

void cllm_region_name(char out[CLLM_REGION_NAME_BYTES], const char *run_id,
                      const char *part)
{
    int n = snprintf(out, CLLM_REGION_NAME_BYTES, "/cllm-%u-%s-%s", (unsigned)geteuid(),
                     run_id, part);

    CLLM_ASSERT(n > 0);
    CLLM_ASSERT(n < CLLM_REGION_NAME_BYTES);
}

uint64_t cllm_region_space(void)
{
    struct statvfs fs;

    if (statvfs(SHM_DIRECTORY, &fs) != 0)
        return 0;
    if (fs.f_blocks == 0)
        return UINT64_MAX; /* mounted without a limit */
    return (uint64_t)fs.f_bavail * fs.f_frsize;
}

/* What is done to an object's pages between two signs of life. */
#define PIECE ((size_t)32 << 20)

/*
 * posix_fallocate() on tmpfs is all or nothing and starts again after each signal, so
 * signals wait until a piece is done.
 */
static int allocate(int fd, size_t bytes)
{
    sigset_t all, old;
    int error = 0;

    (void)sigfillset(&all);
    for (size_t at = 0; error == 0 && at < bytes; at += PIECE) {
        (void)sigprocmask(SIG_BLOCK, &all, &old);
        do {
            error =
                posix_fallocate(fd, (off_t)at, (off_t)cllm_min_u64(PIECE, bytes - at));
        } while (error == EINTR);
        (void)sigprocmask(SIG_SETMASK, &old, NULL);
        cllm_pulse();
    }
    return -error;
}

/* ---- names of addresses ---- */

static struct {
    struct cllm_region_note note[512];
    uint32_t n_notes;
} self;

void cllm_region_note(const char *name, const void *base, size_t bytes, bool writable)
{
    struct cllm_region_note *note = &self.note[self.n_notes];

    if (self.n_notes == CLLM_LEN(self.note))
        return;
    *note = (struct cllm_region_note){.base = base, .bytes = bytes, .writable = writable};
    (void)snprintf(note->name, sizeof note->name, "%s", name);
    self.n_notes++;
}

void cllm_region_forget(const void *base)
{
    for (uint32_t i = 0; i < self.n_notes; i++) {
        if (self.note[i].base != base)
            continue;
        self.note[i] = self.note[--self.n_notes];
        return;
    }
}

const struct cllm_region_note *cllm_region_find(uint64_t address)
{
    for (uint32_t i = 0; i < self.n_notes; i++)
        if (address - (uint64_t)(uintptr_t)self.note[i].base < self.note[i].bytes)
            return &self.note[i];
    return NULL;
}

/* "params0" of "/cllm-<uid>-<run id>-params0" */
static const char *part_of(const char *name)
{
    const char *dash = strrchr(name, '-');

    return dash ? dash + 1 : name;
}

/* ---- objects ---- */

/* Where objects without a name go, and whether new ones are to be such. */
static struct {
    int socket; /* of the keeper; -1 = there is none */
    bool nameless;
} keeper = {.socket = -1};

void cllm_region_set_keeper(int socket)
{
    keeper.socket = socket;
    if (socket >= 0)
        (void)fcntl(socket, F_SETFD, FD_CLOEXEC);
}

bool cllm_region_avoid_names(void)
{
    keeper.nameless = keeper.socket >= 0;
    return keeper.nameless;
}

/* A descriptor, or a negative errno with text. */
static int open_new(const char *name)
{
    int fd;

    if (keeper.nameless)
        return cllm_memfd_create(name);
    fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    return fd >= 0 ? fd : cllm_err(-errno, "cannot create shared memory %s", name);
}

/* A descriptor, or a negative errno with text; whether it has a name in @nameless. */
static int open_object(const char *name, int flags, bool *nameless)
{
    /* Whatever has that name, opening it must not wait. */
    int fd = shm_open(name, flags | O_CLOEXEC | O_NONBLOCK, 0);
    int rc = fd >= 0 ? 0 : -errno;

    *nameless = false;
    if (rc == -ENOENT) {
        fd = cllm_memfd_open(name, flags);
        *nameless = fd >= 0;
        rc = fd >= 0 ? 0 : fd;
    }
    return rc == 0 ? fd : cllm_err(rc, "cannot open shared memory %s", name);
}

/* What is complete outlives this process. */
static int hand_over(int fd, const char *name)
{
    int rc = cllm_memfd_seal(fd, name);

    return rc != 0 ? rc : cllm_keeper_keep(keeper.socket, name, fd);
}

/* ---- huge pages ---- */

#ifndef MADV_COLLAPSE
#    define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

#define HUGE_PAGE (2u << 20)

/* What the kernel takes for a PIECE of free memory, and would for small pages; and what
 * this process may still take beyond, where memory is in pieces and huge pages have to be
 * gathered: 3 to 8 ms each, 23 s for the objects of GPT-2 124M. */
#define USUAL_NS (16 * CLLM_NS_PER_MS)

static uint64_t huge_ns = 12 * CLLM_NS_PER_S;

void cllm_region_set_huge_pages_ns(uint64_t ns)
{
    huge_ns = ns;
}

/* Of this thread: what others take of the machine says nothing of its memory. */
static uint64_t processor_ns(void)
{
    struct timespec at;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return (uint64_t)at.tv_sec * CLLM_NS_PER_S + (uint64_t)at.tv_nsec;
}

/*
 * Like mmap(), at an address that lets huge pages of the object be mapped as such:
 * objects of gigabytes then need few entries in the TLB, and opening and closing them to
 * writers (cllm_region_allow()) costs next to nothing.
 */
static void *map_aligned(int fd, size_t off, size_t bytes, int protection)
{
    size_t pages = cllm_align_up(bytes, CLLM_PAGE), span = pages + HUGE_PAGE, before;
    uint8_t *range, *at;
    void *base;

    if (bytes < HUGE_PAGE || off % HUGE_PAGE != 0)
        return mmap(NULL, bytes, protection, MAP_SHARED, fd, (off_t)off);
    range =
        mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED)
        return MAP_FAILED;
    before = cllm_align_up((uintptr_t)range, HUGE_PAGE) - (uintptr_t)range;
    at = range + before;
    base = mmap(at, bytes, protection, MAP_SHARED | MAP_FIXED, fd, (off_t)off);
    if (base == MAP_FAILED) {
        (void)munmap(range, span);
        return MAP_FAILED;
    }
    if (before > 0)
        (void)munmap(range, before);
    (void)munmap(at + pages, HUGE_PAGE - before);
    return base;
}

/*
 * Give the object huge pages, as far as the kernel can: it needs no mount option for
 * that. One small page in each becomes the whole, which takes a tenth of the time that
 * it takes to gather 512 of them. Refusal costs only speed.
 */
static void make_huge_pages(int fd, size_t bytes)
{
    size_t whole = bytes - bytes % HUGE_PAGE;
    uint8_t *base;

    if (whole == 0)
        return;
    base = map_aligned(fd, 0, whole, PROT_READ | PROT_WRITE);
    if (base == MAP_FAILED)
        return;
    for (size_t at = 0; at < whole && huge_ns > 0; at += PIECE) {
        size_t end = cllm_min_u64(at + PIECE, whole);
        uint64_t began = processor_ns(), spent;

        for (size_t page = at; page < end; page += HUGE_PAGE)
            if (pwrite(fd, "", 1, (off_t)page) != 1)
                goto unmap;
        (void)madvise(base + at, end - at, MADV_COLLAPSE);
        spent = processor_ns() - began;
        huge_ns -= spent <= USUAL_NS ? 0 : cllm_min_u64(spent - USUAL_NS, huge_ns);
        cllm_pulse();
    }
unmap:
    (void)munmap(base, whole);
}

/* All of the object's memory, now: who has too little hears it before the first step.
 * What cannot fit is not begun; memory would be full before the file system is. */
static int fill(int fd, size_t bytes)
{
    if (!keeper.nameless && bytes > cllm_region_space())
        return -ENOSPC;
    if (ftruncate(fd, (off_t)bytes) != 0)
        return -errno;
    make_huge_pages(fd, bytes);
    return allocate(fd, bytes);
}

static int map(struct cllm_region *region, const char *name, int fd, size_t off,
               size_t bytes, int protection)
{
    void *base = map_aligned(fd, off, bytes, protection);

    if (base == MAP_FAILED)
        return cllm_err(-errno, "cannot map shared memory %s (%zu bytes)", name, bytes);
    *region = (struct cllm_region){.base = base, .bytes = bytes};
    (void)snprintf(region->name, sizeof region->name, "%s", name);
    return 0;
}

static int refuse_size(int rc, const char *name, size_t size)
{
    rc = cllm_err(rc, "cannot allocate %.1f MiB of shared memory for %s",
                  (double)size / (1 << 20), name);
    if (keeper.nameless) {
        cllm_err_hint("free -h; lower [run] lane_buffers or workers");
        return rc;
    }
    cllm_err_detail("%.1f MiB are free in " SHM_DIRECTORY,
                    (double)cllm_region_space() / (1 << 20));
    cllm_err_hint("df -h " SHM_DIRECTORY "; cllm-shm list shows runs that hold memory; "
                  "mount -o remount,size=... " SHM_DIRECTORY
                  ", or lower [run] lane_buffers or workers");
    return rc;
}

int cllm_region_create(struct cllm_region *region, const char *name, size_t bytes)
{
    size_t size = cllm_align_up(bytes, CLLM_PAGE);
    int rc = cllm_fault_error(CLLM_FAULT_region_create);
    int fd;

    if (rc != 0)
        return cllm_err(rc, "cannot create shared memory %s", name);
    fd = open_new(name);
    if (fd < 0)
        return fd;
    rc = cllm_fault_error(CLLM_FAULT_region_allocate);
    if (rc == 0)
        rc = fill(fd, size);
    if (rc != 0) {
        rc = refuse_size(rc, name, size);
        goto unlink_name;
    }
    if (region)
        rc = map(region, name, fd, 0, size, PROT_READ | PROT_WRITE);
    if (rc == 0 && keeper.nameless) {
        rc = hand_over(fd, name);
        if (rc != 0 && region)
            cllm_region_close(region);
    }
    if (rc != 0)
        goto unlink_name;
    if (region) {
        cllm_region_note(part_of(name), region->base, size, true);
        region->nameless = keeper.nameless;
    }
    (void)close(fd); /* the mapping keeps the object */
    return 0;

unlink_name:
    if (!keeper.nameless)
        (void)shm_unlink(name);
    (void)close(fd);
    return rc;
}

/* Anyone may put a name into /dev/shm: trust only what is ours and nobody else can write.
 */
static int check_object(int fd, const char *name, size_t min_bytes, size_t *bytes)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return cllm_err(-errno, "cannot look at shared memory %s", name);
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0 ||
        st.st_nlink > 1) {
        int rc = cllm_err(-EPERM, "shared memory %s is not ours", name);

        cllm_err_detail(
            "owner %u, mode %o, links %u; expected owner %u, mode 600, 1 link",
            (unsigned)st.st_uid, (unsigned)st.st_mode & 07777, (unsigned)st.st_nlink,
            (unsigned)geteuid());
        return rc;
    }
    if ((uint64_t)st.st_size < min_bytes || st.st_size == 0) {
        int rc = cllm_err(-EINVAL, "shared memory %s is too short", name);

        cllm_err_detail("%" PRId64 " bytes found, %zu expected", (int64_t)st.st_size,
                        min_bytes);
        return rc;
    }
    *bytes = (size_t)st.st_size;
    return 0;
}

int cllm_region_open(struct cllm_region *region, const char *name, size_t min_bytes,
                     enum cllm_region_mode mode)
{
    int flags = mode == CLLM_REGION_READ ? O_RDONLY : O_RDWR;
    int protection = mode == CLLM_REGION_READ_WRITE ? PROT_READ | PROT_WRITE : PROT_READ;
    size_t bytes = 0;
    int rc = cllm_fault_error(CLLM_FAULT_region_open);
    bool nameless;
    int fd;

    if (rc != 0)
        return cllm_err(rc, "cannot open shared memory %s", name);
    fd = open_object(name, flags, &nameless);
    if (fd < 0)
        return fd;
    rc = check_object(fd, name, min_bytes, &bytes);
    if (rc == 0)
        rc = map(region, name, fd, 0, bytes, protection);
    if (rc == 0) {
        cllm_region_note(part_of(name), region->base, bytes, mode != CLLM_REGION_READ);
        region->nameless = nameless;
    }
    (void)close(fd); /* the mapping keeps the object */
    return rc;
}

int cllm_region_open_window(struct cllm_region *region, const char *name, size_t off,
                            size_t bytes, const char *note)
{
    bool nameless;
    int fd = open_object(name, O_RDWR, &nameless);
    size_t size = 0;
    int rc;

    CLLM_ASSERT(off % CLLM_PAGE == 0);
    if (fd < 0)
        return fd;
    rc = check_object(fd, name, off + bytes, &size);
    if (rc == 0)
        rc = map(region, name, fd, off, bytes, PROT_READ | PROT_WRITE);
    if (rc == 0) {
        cllm_region_note(note, region->base, bytes, true);
        region->nameless = nameless;
    }
    (void)close(fd); /* the mapping keeps the object */
    return rc;
}

void cllm_region_allow(struct cllm_region *region, size_t off, size_t bytes,
                       bool writable)
{
    size_t end = cllm_align_up(off + bytes, CLLM_PAGE);
    int rc;

    CLLM_ASSERT(off % CLLM_PAGE == 0);
    CLLM_ASSERT(end <= region->bytes);
    rc = mprotect(region->base + off, end - off,
                  writable ? PROT_READ | PROT_WRITE : PROT_READ);
    if (rc == 0)
        return;
    cllm_error("cannot make shared memory %s: %s", writable ? "writable" : "read-only",
               strerror(errno));
    _exit(CLLM_EXIT_FAILURE); /* nothing is written, nothing reported: done by others */
}

void cllm_region_close(struct cllm_region *region)
{
    if (region->base) {
        cllm_region_forget(region->base);
        (void)munmap(region->base, region->bytes);
    }
    *region = (struct cllm_region){0};
}

int cllm_region_unlink(const char *name)
{
    int rc = cllm_fault_error(CLLM_FAULT_region_unlink);

    cllm_pulse();
    if (rc == 0 && shm_unlink(name) != 0)
        rc = -errno;
    if (rc == -ENOENT)
        return keeper.socket >= 0 ? cllm_keeper_drop(keeper.socket, name) : 0;
    return rc == 0 ? 0 : cllm_err(rc, "cannot remove shared memory %s", name);
}

int cllm_region_list(int (*visit)(const char *name, uint64_t bytes, void *ctx), void *ctx)
{
    char prefix[32];
    struct dirent *entry;
    DIR *dir = opendir(SHM_DIRECTORY);
    int rc = 0;

    if (!dir && errno != ENOENT)
        return cllm_err(-errno, "cannot list " SHM_DIRECTORY);
    (void)snprintf(prefix, sizeof prefix, "cllm-%u-", (unsigned)geteuid());
    while (dir && rc == 0 && (entry = readdir(dir)) != NULL) {
        struct stat st;

        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 ||
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        rc = visit(entry->d_name, (uint64_t)st.st_blocks * 512, ctx);
    }
    if (dir)
        (void)closedir(dir);
    return rc != 0 ? rc : cllm_memfd_list(prefix, visit, ctx);
}
