/*
 * base/local_socket.c - see base/local_socket.h.
 */
#include "base/local_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"

#define BACKLOG 64

static int open_socket(int flags)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

    return fd < 0 ? cllm_err(-errno, "cannot open a socket") : fd;
}

/* 0, or a negative errno with text: @name is too long. */
static int make_address(struct sockaddr_un *address, int dir_fd, const char *name)
{
    int n;

    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    n = snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s",
                 dir_fd, name);
    if (n < 0 || (size_t)n >= sizeof address->sun_path)
        return cllm_err(-ENAMETOOLONG, "cannot use socket %s", name);
    return 0;
}

/* A socket that an earlier process left behind makes room; nothing else does. */
static int remove_stale(int dir_fd, const char *name)
{
    struct stat st;

    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : cllm_err(-errno, "cannot look at %s", name);
    if (!S_ISSOCK(st.st_mode))
        return cllm_err(-EEXIST, "%s is in the way and no socket", name);
    if (unlinkat(dir_fd, name, 0) != 0)
        return cllm_err(-errno, "cannot replace socket %s", name);
    return 0;
}

int cllm_local_socket_listen(int dir_fd, const char *name)
{
    struct sockaddr_un address;
    int rc = make_address(&address, dir_fd, name);
    int fd;

    if (rc == 0)
        rc = remove_stale(dir_fd, name);
    if (rc != 0)
        return rc;
    fd = open_socket(SOCK_NONBLOCK);
    if (fd < 0)
        return fd;
    /* The file gets the mode of its socket, so that it never stands open for a moment. */
    if (fchmod(fd, 0600) != 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        fchmodat(dir_fd, name, 0600, 0) != 0 || listen(fd, BACKLOG) != 0) {
        rc = cllm_err(-errno, "cannot listen on socket %s", name);
        (void)close(fd);
        return rc;
    }
    return fd;
}

int cllm_local_socket_connect(const char *dir, const char *name, uint32_t timeout_ms)
{
    const struct timeval timeout = {.tv_sec = timeout_ms / 1000,
                                    .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
    int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct sockaddr_un address;
    int fd, rc;

    if (dir_fd < 0)
        return cllm_err(-errno, "cannot open directory %s", dir);
    rc = make_address(&address, dir_fd, name);
    fd = rc == 0 ? open_socket(0) : rc;
    if (fd < 0) {
        (void)close(dir_fd);
        return fd;
    }
    /* The time to send is also that to connect. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) != 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        rc = cllm_err(-errno, "cannot connect to %s/%s", dir, name);
        (void)close(fd);
        fd = rc;
    }
    (void)close(dir_fd);
    return fd;
}

bool cllm_local_socket_peer(int fd, uid_t *uid)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0)
        return false;
    *uid = peer.uid;
    return true;
}
