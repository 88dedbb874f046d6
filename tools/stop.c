/*
 * tools/stop.c - see tools/stop.h.
 */
#include "tools/stop.h"

#include <string.h>

#include "base/err.h"

int cllm_stop_add(struct cllm_stop *stop, const char *text)
{
    if (stop->n == CLLM_STOP_MOST)
        return cllm_err(CLLM_ECONFIG, "more than %d stop strings", CLLM_STOP_MOST);
    if (text[0] == '\0' || strlen(text) > CLLM_STOP_BYTES)
        return cllm_err(CLLM_ECONFIG, "a stop string must have 1 to %d bytes",
                        CLLM_STOP_BYTES);
    stop->text[stop->n++] = text;
    return 0;
}

/* What stands at @at is a stop string, as far as it is there; *@whole: all of it. */
static bool matches(const struct cllm_stop *stop, size_t at, bool *whole)
{
    size_t left = stop->n_held - at;
    bool any = false;

    *whole = false;
    for (uint32_t i = 0; i < stop->n; i++) {
        size_t len = strlen(stop->text[i]);

        if (memcmp(stop->held + at, stop->text[i], len < left ? len : left) != 0)
            continue;
        any = true;
        *whole |= len <= left;
    }
    return any;
}

bool cllm_stop_put(struct cllm_stop *stop, const char *text, size_t bytes,
                   const char **out, size_t *n)
{
    bool whole = false;
    size_t at = 0;

    CLLM_ASSERT(stop->n_held + bytes <= sizeof stop->held);
    memcpy(stop->held + stop->n_held, text, bytes);
    stop->n_held += bytes;
    while (at < stop->n_held && !matches(stop, at, &whole))
        at++;
    memcpy(stop->shown, stop->held, at);
    *out = stop->shown;
    *n = at;
    stop->n_held -= whole ? stop->n_held : at;
    memmove(stop->held, stop->held + at, stop->n_held);
    return whole;
}

void cllm_stop_end(struct cllm_stop *stop, const char **out, size_t *n)
{
    bool whole = false;
    size_t at = 0;

    /* A whole one may lie within what a longer one was awaited for. */
    for (; at < stop->n_held; at++)
        if (matches(stop, at, &whole) && whole)
            break;
    *out = stop->held;
    *n = at;
    stop->n_held = 0;
}
