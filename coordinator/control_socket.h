/*
 * coordinator/control_socket.h - how people steer a run that goes on: control.sock in the
 * run directory.
 *
 * A client connects, sends one line ("workers 4\n"), gets one JSON object and the end of
 * the stream. Clients are strangers: nothing here waits for one, a line has
 * CLLM_CONTROL_SOCKET_LINE bytes at most, and who has not asked within
 * CLLM_CONTROL_SOCKET_NS is let go. The file has mode 0600, and the kernel names the peer
 * besides: the run's own user and root are served, others are told so.
 */
#ifndef CLLM_COORDINATOR_CONTROL_SOCKET_H
#define CLLM_COORDINATOR_CONTROL_SOCKET_H

#include "base/base.h"
#include "base/clock.h"
#include "formats/json.h"
#include "shm/layout.h"

#define CLLM_CONTROL_SOCKET_LINE    256 /* bytes of a request, newline included */
#define CLLM_CONTROL_SOCKET_CLIENTS 16  /* served at a time; more wait in the backlog */
#define CLLM_CONTROL_SOCKET_NS      (2 * CLLM_NS_PER_S) /* for a client to ask */

enum cllm_control_socket_command {
    CLLM_CONTROL_STATUS = 0,
    CLLM_CONTROL_WORKERS,
    CLLM_CONTROL_CHECKPOINT,
    CLLM_CONTROL_PAUSE,
    CLLM_CONTROL_RESUME,
    CLLM_CONTROL_STOP,
    CLLM_CONTROL_LAST
};

struct cllm_control_socket_request {
    enum cllm_control_socket_command command;
    uint64_t number; /* WORKERS */
};

/* Do what is asked and say how it went: a new object with "ok", which the socket sends
 * and gives up. Must not block. NULL sends nothing. */
typedef json_t *(*cllm_control_socket_fn)(
    void *ctx, const struct cllm_control_socket_request *request);

struct cllm_control_socket_client {
    int fd; /* -1 = free */
    uint32_t used;
    uint64_t deadline_ns;
    char line[CLLM_CONTROL_SOCKET_LINE];
};

struct cllm_control_socket {
    int epoll_fd; /* readable when tend has something to do; -1 = not open */
    int dir_fd, listen_fd;
    bool accepting; /* listen_fd is in the epoll set */
    uint64_t accept_again_ns;
    struct cllm_control_socket_client client[CLLM_CONTROL_SOCKET_CLIENTS];
};

/* Nothing is open. */
void cllm_control_socket_init(struct cllm_control_socket *socket);

/* Listen in @run_dir. Returns 0, or a negative errno with text and nothing open. */
int cllm_control_socket_open(struct cllm_control_socket *socket, const char *run_dir);

/* Let all clients go and remove the file. Safe when nothing is open. */
void cllm_control_socket_close(struct cllm_control_socket *socket);

/* Accept, read, answer, let go, as far as that goes at once. Safe when nothing is open.
 */
void cllm_control_socket_tend(struct cllm_control_socket *socket, uint64_t now_ns,
                              cllm_control_socket_fn answer, void *ctx);

/*
 * Understand @line of @bytes (without its newline). Returns NULL, or a refusal to be
 * sent.
 */
json_t *cllm_control_socket_parse(struct cllm_control_socket_request *request,
                                  const char *line, size_t bytes);

/* {"ok": false, "error": text, "usage": @usage}: @usage when asking differently would
 * help. */
json_t *cllm_control_socket_refuse(bool usage, const char *fmt, ...) CLLM_PRINTF(2, 3);

#endif /* CLLM_COORDINATOR_CONTROL_SOCKET_H */
