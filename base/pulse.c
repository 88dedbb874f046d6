/*
 * base/pulse.c - who is told.
 */
#include "base/pulse.h"

#include <stddef.h>

static struct {
    void (*beat)(void *ctx);
    void *ctx;
    bool (*stopped)(void);
} watcher;

void cllm_pulse(void)
{
    if (watcher.beat)
        watcher.beat(watcher.ctx);
}

bool cllm_pulse_stopped(void)
{
    return watcher.stopped && watcher.stopped();
}

void cllm_pulse_set_stopped(bool (*stopped)(void))
{
    watcher.stopped = stopped;
}

void cllm_pulse_set(void (*beat)(void *ctx), void *ctx)
{
    watcher.beat = beat;
    watcher.ctx = ctx;
}
