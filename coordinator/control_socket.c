/*
 * coordinator/control_socket.c - accept, read a line, answer, let go.
 *
 * Has an epoll set of its own, so that the owner watches one descriptor whatever the
 * number of clients.
 */
#include "coordinator/control_socket.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/local_socket.h"
#include "base/log.h"

#define TAG_LISTEN UINT32_MAX
#define ACCEPT_AGAIN_NS \
    (CLLM_NS_PER_S / 2) /* after accept() failed for want of descriptors or memory */

static const struct {
    const char *name;
    bool takes_number;
} commands[] = {
    [CLLM_CONTROL_STATUS] = {"status", false},
    [CLLM_CONTROL_WORKERS] = {"workers", true},
    [CLLM_CONTROL_CHECKPOINT] = {"checkpoint", false},
    [CLLM_CONTROL_PAUSE] = {"pause", false},
    [CLLM_CONTROL_RESUME] = {"resume", false},
    [CLLM_CONTROL_STOP] = {"stop", false},
};
static_assert(CLLM_LEN(commands) == CLLM_CONTROL_LAST, "describe every command");

/* ---- requests ---- */

json_t *cllm_control_socket_refuse(bool usage, const char *fmt, ...)
{
    char text[256];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return json_pack("{s:b, s:s, s:b}", "ok", 0, "error", text, "usage", (int)usage);
}

/* The whole of @text is a number without a sign. */
static bool read_number(const char *text, uint64_t *out)
{
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

json_t *cllm_control_socket_parse(struct cllm_control_socket_request *request,
                                  const char *line, size_t bytes)
{
    char text[CLLM_CONTROL_SOCKET_LINE + 1], *word, *argument, *more, *rest = NULL;

    if (bytes > 0 && line[bytes - 1] == '\r')
        bytes--;
    if (bytes >= sizeof text)
        return cllm_control_socket_refuse(true, "a request has at most %d bytes",
                                          CLLM_CONTROL_SOCKET_LINE);
    for (size_t i = 0; i < bytes; i++)
        if (line[i] < ' ' || line[i] > '~')
            return cllm_control_socket_refuse(true, "a request is a line of ASCII text");
    memcpy(text, line, bytes);
    text[bytes] = '\0';
    word = strtok_r(text, " ", &rest);
    argument = strtok_r(NULL, " ", &rest);
    more = strtok_r(NULL, " ", &rest);
    if (!word)
        return cllm_control_socket_refuse(true, "the request is empty");
    for (uint32_t i = 0; i < CLLM_CONTROL_LAST; i++) {
        if (strcmp(commands[i].name, word) != 0)
            continue;
        *request = (struct cllm_control_socket_request){
            .command = (enum cllm_control_socket_command)i};
        if (more || (argument && !commands[i].takes_number))
            return cllm_control_socket_refuse(true, "%s: unexpected argument %.40s", word,
                                              more ? more : argument);
        if (commands[i].takes_number && !argument)
            return cllm_control_socket_refuse(true, "%s: a number is missing", word);
        if (argument && !read_number(argument, &request->number))
            return cllm_control_socket_refuse(true, "%s: %.40s is not a whole number",
                                              word, argument);
        return NULL;
    }
    return cllm_control_socket_refuse(
        true, "no such command: %.40s (status, workers, checkpoint, pause, resume, stop)",
        word);
}

/* ---- clients ---- */

static void let_go(struct cllm_control_socket_client *client)
{
    (void)close(client->fd); /* leaves the epoll set by that */
    client->fd = -1;
}

/* Sends and gives up @answer. What does not fit into the kernel's buffer at once is lost
 * to a client that does not read. */
static void send_answer(int fd, json_t *answer)
{
    size_t bytes = 0;
    char *text = answer ? cllm_json_dump(answer, &bytes) : NULL;

    if (text)
        (void)send(fd, text, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    free(text);
    json_decref(answer);
}

static void serve(struct cllm_control_socket_client *client,
                  cllm_control_socket_fn answer, void *ctx)
{
    struct cllm_control_socket_request request;
    const char *newline = memchr(client->line, '\n', client->used);
    json_t *refusal;

    if (!newline && client->used < sizeof client->line)
        refusal = cllm_control_socket_refuse(true, "the request does not end its line");
    else if (!newline)
        refusal = cllm_control_socket_refuse(true, "a request has at most %d bytes",
                                             CLLM_CONTROL_SOCKET_LINE);
    else
        refusal = cllm_control_socket_parse(&request, client->line,
                                            (size_t)(newline - client->line));
    send_answer(client->fd, refusal ? refusal : answer(ctx, &request));
    let_go(client);
}

static void read_client(struct cllm_control_socket_client *client,
                        cllm_control_socket_fn answer, void *ctx)
{
    ssize_t n = recv(client->fd, client->line + client->used,
                     sizeof client->line - client->used, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0 || (n == 0 && client->used == 0)) {
        let_go(client);
        return;
    }
    client->used += (uint32_t)n;
    if (n == 0 || client->used == sizeof client->line ||
        memchr(client->line, '\n', client->used))
        serve(client, answer, ctx);
}

static struct cllm_control_socket_client *find_free(struct cllm_control_socket *socket)
{
    for (uint32_t i = 0; i < CLLM_LEN(socket->client); i++)
        if (socket->client[i].fd < 0)
            return &socket->client[i];
    return NULL;
}

static bool is_admitted(int fd)
{
    uid_t uid;

    return cllm_local_socket_peer(fd, &uid) && (uid == geteuid() || uid == 0);
}

static int add(struct cllm_control_socket *socket, int fd, uint32_t tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = tag};

    return epoll_ctl(socket->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

/* Whoever waits to be accepted does so outside the set: it would never be silent. */
static void stop_accepting(struct cllm_control_socket *socket, uint64_t again_ns)
{
    (void)epoll_ctl(socket->epoll_fd, EPOLL_CTL_DEL, socket->listen_fd, NULL);
    socket->accepting = false;
    socket->accept_again_ns = again_ns;
}

static void accept_clients(struct cllm_control_socket *socket, uint64_t now_ns)
{
    for (;;) {
        struct cllm_control_socket_client *client = find_free(socket);
        int fd;

        if (!client) {
            stop_accepting(socket, now_ns);
            return;
        }
        fd = accept4(socket->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                stop_accepting(socket, now_ns + ACCEPT_AGAIN_NS);
            return;
        }
        if (!is_admitted(fd)) {
            send_answer(
                fd, cllm_control_socket_refuse(false, "the run belongs to another user"));
            (void)close(fd);
            continue;
        }
        *client = (struct cllm_control_socket_client){
            .fd = fd, .deadline_ns = now_ns + CLLM_CONTROL_SOCKET_NS};
        if (add(socket, fd, (uint32_t)(client - socket->client)) != 0)
            let_go(client);
    }
}

void cllm_control_socket_tend(struct cllm_control_socket *socket, uint64_t now_ns,
                              cllm_control_socket_fn answer, void *ctx)
{
    struct epoll_event event[CLLM_CONTROL_SOCKET_CLIENTS + 1];
    bool knocks = false;
    int n;

    if (socket->epoll_fd < 0)
        return;
    n = epoll_wait(socket->epoll_fd, event, CLLM_LEN(event), 0);
    for (int i = 0; i < n; i++) {
        if (event[i].data.u32 == TAG_LISTEN)
            knocks = true;
        else
            read_client(&socket->client[event[i].data.u32], answer, ctx);
    }
    for (uint32_t i = 0; i < CLLM_LEN(socket->client); i++)
        if (socket->client[i].fd >= 0 && now_ns >= socket->client[i].deadline_ns)
            let_go(&socket->client[i]);
    if (knocks)
        accept_clients(socket, now_ns);
    if (!socket->accepting && now_ns >= socket->accept_again_ns && find_free(socket))
        socket->accepting = add(socket, socket->listen_fd, TAG_LISTEN) == 0;
}

/* ---- open, close ---- */

void cllm_control_socket_init(struct cllm_control_socket *socket)
{
    *socket = (struct cllm_control_socket){.epoll_fd = -1, .dir_fd = -1, .listen_fd = -1};
    for (uint32_t i = 0; i < CLLM_LEN(socket->client); i++)
        socket->client[i].fd = -1;
}

int cllm_control_socket_open(struct cllm_control_socket *socket, const char *run_dir)
{
    int rc = 0;

    cllm_control_socket_init(socket);
    socket->dir_fd = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (socket->dir_fd < 0)
        return cllm_err(-errno, "cannot open directory %s", run_dir);
    socket->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (socket->epoll_fd < 0)
        rc = cllm_err(-errno, "cannot open the event loop of the control socket");
    if (rc == 0) {
        socket->listen_fd =
            cllm_local_socket_listen(socket->dir_fd, CLLM_CONTROL_SOCKET_NAME);
        rc = socket->listen_fd < 0 ? socket->listen_fd : 0;
    }
    if (rc == 0 && (rc = add(socket, socket->listen_fd, TAG_LISTEN)) != 0)
        rc = cllm_err(rc, "cannot watch the control socket");
    socket->accepting = rc == 0;
    if (rc != 0)
        cllm_control_socket_close(socket);
    return rc;
}

void cllm_control_socket_close(struct cllm_control_socket *socket)
{
    for (uint32_t i = 0; i < CLLM_LEN(socket->client); i++)
        if (socket->client[i].fd >= 0)
            let_go(&socket->client[i]);
    if (socket->listen_fd >= 0) {
        /* By the directory that was opened, wherever it is called by now. */
        if (unlinkat(socket->dir_fd, CLLM_CONTROL_SOCKET_NAME, 0) != 0 && errno != ENOENT)
            cllm_warn("cannot remove " CLLM_CONTROL_SOCKET_NAME ": %s", strerror(errno));
        (void)close(socket->listen_fd);
    }
    if (socket->epoll_fd >= 0)
        (void)close(socket->epoll_fd);
    if (socket->dir_fd >= 0)
        (void)close(socket->dir_fd);
    cllm_control_socket_init(socket);
}
