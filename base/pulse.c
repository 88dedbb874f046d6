/*
 * base/pulse.c - who is told.
 */
#include "base/pulse.h"

#include <stddef.h>

static struct {
    void (*beat)(void *ctx);
    void *ctx;
} watcher;

void cllm_pulse(void)
{
    if (watcher.beat)
        watcher.beat(watcher.ctx);
}

void cllm_pulse_set(void (*beat)(void *ctx), void *ctx)
{
    watcher.beat = beat;
    watcher.ctx = ctx;
}
