/*
 * base/local_socket.h - stream sockets that stand in a directory as a file.
 *
 * An address of such a socket holds about a hundred bytes of path, a directory may have a
 * much longer one. Both sides therefore open the directory and name the socket through
 * /proc/self/fd, whatever the length, so that there is one way and not two.
 */
#ifndef CLLM_BASE_LOCAL_SOCKET_H
#define CLLM_BASE_LOCAL_SOCKET_H

#include <sys/types.h>

#include "base/base.h"

/*
 * Listen on socket @name in the open directory @dir_fd: mode 0600 before anybody can
 * reach it, non-blocking, close-on-exec. A socket that stands there already is replaced,
 * any other file is not. Returns the descriptor or a negative errno with text.
 */
int cllm_local_socket_listen(int dir_fd, const char *name);

/*
 * Connect to socket @name in directory @dir; connecting, sending and receiving each give
 * up after @timeout_ms. Returns the descriptor or a negative errno with text: -ENOENT
 * nothing is there, -ECONNREFUSED nobody listens any more, -EACCES somebody else's.
 */
int cllm_local_socket_connect(const char *dir, const char *name, uint32_t timeout_ms);

/* User of the process at the other end when it connected. False: cannot be told. */
bool cllm_local_socket_peer(int fd, uid_t *uid);

#endif /* CLLM_BASE_LOCAL_SOCKET_H */
