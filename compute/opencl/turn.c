/*
 * compute/opencl/turn.c - see compute/opencl/turn.h.
 */
#include "compute/opencl/turn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "compute/opencl/cache.h"

#define LOOK_NS (20 * CLLM_NS_PER_MS) /* between two looks at a lock that another has */

/* What an attempt comes to. */
enum outcome { TAKEN, BUSY, NEVER };

/* Whoever ends a turn removes its file. One that is locked and not there any more is
 * nobody's turn: another file may have taken its name. */
static bool still_there(int fd, const char *path)
{
    struct stat ours, there;

    return fstat(fd, &ours) == 0 && stat(path, &there) == 0 &&
           ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

/* The lock belongs to the open file, not to the process: a library that opens and closes
 * the same file cannot end it. */
static enum outcome try(struct cllm_cl_turn *turn, const char *path)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    enum outcome outcome = NEVER;

    if (fd < 0)
        return NEVER;
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0)
        outcome = errno == EAGAIN || errno == EACCES || errno == EINTR ? BUSY : NEVER;
    else
        outcome = still_there(fd, path) ? TAKEN : BUSY;
    if (outcome == TAKEN)
        turn->fd = fd;
    else
        (void)close(fd); /* nothing was written */
    return outcome;
}

bool cllm_cl_turn_begin(struct cllm_cl_turn *turn, uint64_t key, uint64_t patience_ns)
{
    const struct timespec pause = cllm_timespec(LOOK_NS);
    uint64_t until = cllm_now_ns() + patience_ns;
    char path[CLLM_CL_CACHE_FILE];
    enum outcome outcome = NEVER;
    bool waited = false;

    *turn = (struct cllm_cl_turn){.fd = -1, .key = key};
    if (!cllm_cl_cache_path(path, key, ".turn"))
        return false;
    while ((outcome = try(turn, path)) == BUSY && cllm_now_ns() < until) {
        if (!waited)
            cllm_debug("another process compiles the same: waiting");
        waited = true;
        (void)nanosleep(&pause, NULL); /* whatever ends it, we look again */
    }
    if (outcome == NEVER)
        cllm_debug("cannot lock %s: %s: compiling without taking turns", path,
                   strerror(errno));
    return outcome == TAKEN;
}

void cllm_cl_turn_end(struct cllm_cl_turn *turn)
{
    char path[CLLM_CL_CACHE_FILE];

    if (turn->fd < 0)
        return;
    if (cllm_cl_cache_path(path, turn->key, ".turn"))
        (void)unlink(path); /* one that stays is taken by the next */
    (void)close(turn->fd);
    turn->fd = -1;
}
