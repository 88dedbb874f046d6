/*
 * tools/watch.h - a run on the whole terminal, redrawn a few times a second.
 */
#ifndef CLLM_TOOLS_WATCH_H
#define CLLM_TOOLS_WATCH_H

#include "base/base.h"

/*
 * Watch run @id until q or a signal; stays on the screen when the run dies or ends. The
 * terminal is restored in every case. Only when stdin and stdout are terminals. Returns 0
 * or a negative code with text.
 */
int cllm_watch_run(const char *id, uint64_t interval_ns);

#endif /* CLLM_TOOLS_WATCH_H */
