/*
 * shm/keeper.c - two requests, one answer: an errno.
 */
#include "shm/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"

enum { KEEP = 1, DROP };

struct request {
    uint32_t what;
    char name[CLLM_REGION_NAME_BYTES];
};

/* Room for one descriptor beside a message. */
union rights {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

void cllm_keeper_init(struct cllm_keeper *keeper)
{
    *keeper = (struct cllm_keeper){.socket = -1};
}

int cllm_keeper_renew(struct cllm_keeper *keeper, int *theirs)
{
    int ends[2];

    if (keeper->socket >= 0)
        (void)close(keeper->socket);
    keeper->socket = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return cllm_err(-errno, "cannot make a socket for Node Zero");
    keeper->socket = ends[0];
    *theirs = ends[1];
    return 0;
}

void cllm_keeper_fini(struct cllm_keeper *keeper)
{
    for (uint32_t i = 0; i < keeper->n_kept; i++)
        (void)close(keeper->kept[i].fd);
    free(keeper->kept);
    if (keeper->socket >= 0)
        (void)close(keeper->socket);
    cllm_keeper_init(keeper);
}

/* ---- the keeper's end ---- */

static struct cllm_kept *find(const struct cllm_keeper *keeper, const char *name)
{
    for (uint32_t i = 0; i < keeper->n_kept; i++)
        if (strcmp(keeper->kept[i].name, name) == 0)
            return &keeper->kept[i];
    return NULL;
}

/* There may be more objects than a process usually has descriptors. */
static void want_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* Takes @fd over when it returns 0. */
static int keep(struct cllm_keeper *keeper, const char *name, int fd)
{
    if (fd < 0)
        return -EMFILE;
    if (find(keeper, name))
        return -EEXIST;
    if (keeper->n_kept == keeper->capacity) {
        uint32_t more = keeper->capacity ? 2 * keeper->capacity : 64;
        void *grown = realloc(keeper->kept, more * sizeof *keeper->kept);

        if (!grown)
            return -ENOMEM;
        keeper->kept = grown;
        keeper->capacity = more;
        want_descriptors();
    }
    keeper->kept[keeper->n_kept].fd = fd;
    (void)snprintf(keeper->kept[keeper->n_kept].name, CLLM_REGION_NAME_BYTES, "%s", name);
    keeper->n_kept++;
    return 0;
}

static int drop(struct cllm_keeper *keeper, const char *name)
{
    struct cllm_kept *kept = find(keeper, name);

    if (!kept)
        return 0;
    (void)close(kept->fd);
    *kept = keeper->kept[--keeper->n_kept];
    return 0;
}

/* The descriptor that came with @message, or -1. */
static int descriptor_in(struct msghdr *message)
{
    struct cmsghdr *part = CMSG_FIRSTHDR(message);
    int fd = -1;

    if (part && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS &&
        part->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(part), sizeof fd);
    return fd;
}

void cllm_keeper_serve(struct cllm_keeper *keeper)
{
    struct request request = {0};
    struct iovec part = {.iov_base = &request, .iov_len = sizeof request};
    union rights rights;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &rights,
                             .msg_controllen = sizeof rights};
    ssize_t n = recvmsg(keeper->socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    int32_t rc = -EINVAL;
    int fd;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        (void)close(keeper->socket);
        keeper->socket = -1;
        return;
    }
    fd = descriptor_in(&message);
    if (n == (ssize_t)sizeof request && memchr(request.name, 0, sizeof request.name)) {
        if (request.what == KEEP)
            rc = keep(keeper, request.name, fd);
        else if (request.what == DROP)
            rc = drop(keeper, request.name);
    }
    if (fd >= 0 && (rc != 0 || request.what != KEEP))
        (void)close(fd);
    /* Whoever does not take the answer is gone. */
    (void)send(keeper->socket, &rc, sizeof rc, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* ---- Node Zero's end ---- */

static int ask(int socket, uint32_t what, const char *name, int fd)
{
    struct request request = {.what = what};
    struct iovec part = {.iov_base = &request, .iov_len = sizeof request};
    union rights rights = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    int32_t answer = 0;
    ssize_t n;

    (void)snprintf(request.name, sizeof request.name, "%s", name);
    if (fd >= 0) {
        rights.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
                                         .cmsg_type = SCM_RIGHTS,
                                         .cmsg_len = CMSG_LEN(sizeof fd)};
        memcpy(CMSG_DATA(&rights.header), &fd, sizeof fd);
        message.msg_control = &rights;
        message.msg_controllen = sizeof rights;
    }
    do {
        n = sendmsg(socket, &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    do {
        n = recv(socket, &answer, sizeof answer, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return n == (ssize_t)sizeof answer ? answer : -EPIPE;
}

int cllm_keeper_keep(int socket, const char *name, int fd)
{
    int rc = ask(socket, KEEP, name, fd);

    return rc == 0 ? 0 : cllm_err(rc, "the guardian cannot keep %s", name);
}

int cllm_keeper_drop(int socket, const char *name)
{
    int rc = ask(socket, DROP, name, -1);

    return rc == 0 ? 0 : cllm_err(rc, "the guardian does not let go of %s", name);
}
