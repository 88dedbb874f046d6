/*
 * tools/shm_clean.c - see tools/shm_clean.h.
 *
 * Removing the memory of a run that lives would lose work, so three things must agree:
 * Node Zero is gone by pid and start time; no coordinator holds the lock of the run
 * directory, or, where that cannot be asked, the heartbeat has stopped (which also holds
 * across pid namespaces); and no process has an object mapped writable.
 */
#include "tools/shm_clean.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "formats/file.h"
#include "tools/shm_life.h"

#define SETTLE_NS \
    (3 * CLLM_NS_PER_S) /* longer than a guardian takes to start Node Zero */

/* Does this line of /proc/PID/maps map an object of the run writable? */
static bool maps_object(char *line, const struct cllm_shm_run *run)
{
    const char *path = strstr(line, "/dev/shm/cllm-");
    const char *mode = strchr(line, ' ');

    if (!path || !mode || mode[1] == '\0' || mode[2] != 'w')
        return false;
    path += strlen("/dev/shm/");
    line[strcspn(line, "\n")] = '\0';
    for (uint32_t i = 0; i < run->n_objects; i++)
        if (strcmp(path, run->object[i].name) == 0)
            return true;
    return false;
}

/* The process that can write an object of @run, its name in @name; 0 = there is none. */
static uint64_t find_writer(const struct cllm_shm_run *run, char name[32])
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    uint64_t pid = 0;

    while (proc && pid == 0 && (entry = readdir(proc)) != NULL) {
        char path[300], line[1024];
        uint64_t number = strtoull(entry->d_name, NULL, 10); /* 0: no process */
        FILE *maps;

        if (number == 0 || number == (uint64_t)getpid())
            continue;
        (void)snprintf(path, sizeof path, "/proc/%s/maps", entry->d_name);
        maps = fopen(path, "re");
        while (maps && pid == 0 && fgets(line, sizeof line, maps))
            if (maps_object(line, run))
                pid = number;
        if (maps)
            (void)fclose(maps); /* read only */
    }
    if (proc)
        (void)closedir(proc);
    if (pid != 0) {
        char path[64];
        FILE *comm;

        (void)snprintf(name, 32, "?");
        (void)snprintf(path, sizeof path, "/proc/%" PRIu64 "/comm", pid);
        comm = fopen(path, "re");
        if (comm && fgets(name, 32, comm))
            name[strcspn(name, "\n")] = '\0';
        if (comm)
            (void)fclose(comm); /* read only */
    }
    return pid;
}

static bool life_allows(const struct cllm_shm_view *view, bool locked, char *why,
                        size_t why_bytes)
{
    int64_t age_s = view->taken_unix_ns / 1000000000 - view->run->newest_unix_s;

    switch (view->life) {
    case CLLM_SHM_STARTING:
    case CLLM_SHM_LIVE:
    case CLLM_SHM_HUNG:
        (void)snprintf(why, why_bytes, "it is %s: Node Zero is process %" PRIu64,
                       cllm_shm_life_name(view->life), view->pid);
        return false;
    case CLLM_SHM_TAKEOVER:
        if (locked) /* by the caller itself */
            return true;
        (void)snprintf(why, why_bytes, "its guardian starts another Node Zero");
        return false;
    case CLLM_SHM_DEAD:
        if (!locked && cllm_load_relaxed(&view->state.heartbeat_ns) != 0 &&
            view->heartbeat_age_ns < SETTLE_NS) {
            (void)snprintf(why, why_bytes, "its heartbeat goes on");
            return false;
        }
        return true;
    case CLLM_SHM_BAD:
    case CLLM_SHM_LEFTOVER:
        if (!locked && age_s < CLLM_SHM_YOUNG_S) {
            (void)snprintf(why, why_bytes,
                           "it is %s and younger than %d s: it may belong to a run that "
                           "starts",
                           cllm_shm_life_name(view->life), CLLM_SHM_YOUNG_S);
            return false;
        }
        return true;
    default:
        return true;
    }
}

bool cllm_shm_clean_allowed(const struct cllm_shm_view *view, bool locked, char *why,
                            size_t why_bytes)
{
    char name[32];
    uint64_t pid;

    if (!life_allows(view, locked, why, why_bytes))
        return false;
    pid = find_writer(view->run, name);
    if (pid != 0)
        (void)snprintf(why, why_bytes, "process %" PRIu64 " (%s) still has it mapped",
                       pid, name);
    return pid == 0;
}

/*
 * Take the lock of the run directory, so that no coordinator resumes the run while it is
 * removed: *@fd, or -1 where there is no lock file. CLLM_EREFUSED with text when a
 * coordinator has it: a dead Node Zero is about to be replaced.
 */
static int hold_run(const struct cllm_shm_view *view, int *fd)
{
    const char *directory =
        view->has_control ? view->header.run_dir : view->run->directory;
    char path[CLLM_PATH_BYTES + 16];
    int rc;

    *fd = -1;
    if (directory == NULL)
        return 0;
    (void)snprintf(path, sizeof path, "%s/run.lock", directory);
    /* To write, which some file systems ask of who wants a lock alone. */
    *fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0)
        return 0;
    rc = cllm_file_lock(*fd, path);
    if (rc == 0)
        return 0;
    (void)close(*fd); /* nothing was written */
    *fd = -1;
    return cllm_err(CLLM_EREFUSED, "the memory of run %s stays: %s %s", view->id,
                    rc == -EWOULDBLOCK ? "a coordinator holds" : "nobody can lock", path);
}

/* Wait until a dead run's heartbeat is old enough to be believed. */
static void settle(const struct cllm_shm_view *view)
{
    struct timespec left;

    if (view->life != CLLM_SHM_DEAD || view->heartbeat_age_ns >= SETTLE_NS ||
        cllm_load_relaxed(&view->state.heartbeat_ns) == 0)
        return;
    left = cllm_timespec(SETTLE_NS - view->heartbeat_age_ns + CLLM_NS_PER_MS);
    (void)nanosleep(&left, NULL); /* cut short: the run is judged again anyway */
}

static int unlink_object(const struct cllm_shm_object *object)
{
    char name[CLLM_REGION_NAME_BYTES + 1];

    (void)snprintf(name, sizeof name, "/%s", object->name);
    return cllm_region_unlink(name);
}

static int unlink_all(const struct cllm_shm_run *run)
{
    int rc = 0;

    for (int last = 0; last < 2; last++)
        for (uint32_t i = 0; rc == 0 && i < run->n_objects; i++) {
            const struct cllm_shm_object *object = &run->object[i];
            bool control = strcmp(object->name + object->part_off, "control") == 0;

            if (control == (last == 1))
                rc = unlink_object(object);
        }
    return rc;
}

/* Judge @view, with error text when the run must stay. */
static int judge(const struct cllm_shm_view *view, bool locked)
{
    char why[160] = "";
    int rc;

    if (cllm_shm_clean_allowed(view, locked, why, sizeof why))
        return 0;
    rc = cllm_err(CLLM_EREFUSED, "the memory of run %s stays: %s", view->id, why);
    if (view->life == CLLM_SHM_LIVE || view->life == CLLM_SHM_HUNG)
        cllm_err_hint("kill %" PRIu64 " makes a checkpoint and ends the run", view->pid);
    return rc;
}

int cllm_shm_clean_run(const struct cllm_shm_run *run, bool dry_run)
{
    struct cllm_shm_view view;
    int lock_fd = -1, rc = cllm_shm_view_take(&view, run);

    if (rc != 0)
        return rc;
    if (cllm_shm_life_headless(&view) || view.life == CLLM_SHM_LEFTOVER ||
        view.life == CLLM_SHM_BAD)
        rc = hold_run(&view, &lock_fd);
    if (rc == 0) {
        if (lock_fd < 0)
            settle(&view);
        cllm_shm_view_fini(&view);
        rc = cllm_shm_view_take(&view, run); /* as it is now, under the lock */
    }
    if (rc == 0)
        rc = judge(&view, lock_fd >= 0);
    cllm_shm_view_fini(&view);
    if (rc == 0 && !dry_run)
        rc = unlink_all(run);
    if (lock_fd >= 0)
        (void)close(lock_fd); /* read only; gives the lock back */
    return rc;
}
