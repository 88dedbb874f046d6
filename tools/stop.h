/*
 * tools/stop.h - text that ends where one of a few strings begins.
 *
 * Bytes go in as they are generated and come out when they can be no part of a stop
 * string any more.
 */
#ifndef CLLM_TOOLS_STOP_H
#define CLLM_TOOLS_STOP_H

#include "base/base.h"

#define CLLM_STOP_MOST  16  /* strings */
#define CLLM_STOP_BYTES 256 /* of one, at most */
#define CLLM_STOP_ROOM  8192

struct cllm_stop {
    uint32_t n;
    const char *text[CLLM_STOP_MOST]; /* not empty */
    size_t n_held;
    char held[CLLM_STOP_ROOM];  /* may be the beginning of one */
    char shown[CLLM_STOP_ROOM]; /* what the last call gave back */
};

/* Add a string; @text must outlive the struct. CLLM_ECONFIG with text when it is empty,
 * too long, or one too many. */
int cllm_stop_add(struct cllm_stop *stop, const char *text);

/*
 * @bytes (fewer than CLLM_STOP_ROOM - CLLM_STOP_BYTES) more. *@out, of *@n bytes and
 * valid until the next call, is what may be shown. True when a stop string is complete:
 * *@out ends before the first of them, and nothing is held.
 */
bool cllm_stop_put(struct cllm_stop *stop, const char *text, size_t bytes,
                   const char **out, size_t *n);

/* What is held, at the end of the text, up to a whole stop string. */
void cllm_stop_end(struct cllm_stop *stop, const char **out, size_t *n);

#endif /* CLLM_TOOLS_STOP_H */
