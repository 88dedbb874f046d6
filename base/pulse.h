/*
 * base/pulse.h - a sign of life from work that takes long.
 *
 * Whoever hashes gigabytes or waits for others calls cllm_pulse() between two pieces of
 * it. A process that somebody watches says what that does; in others it does nothing.
 */
#ifndef CLLM_BASE_PULSE_H
#define CLLM_BASE_PULSE_H

#include <stdbool.h>

/* One piece is done. Cheap; call it every second or more often. */
void cllm_pulse(void);

/* Shall work that takes long end early? Asked between two pieces by who leaves nothing
 * half done; false where nobody watches. */
bool cllm_pulse_stopped(void);

/* From now on @stopped answers that; NULL: false. */
void cllm_pulse_set_stopped(bool (*stopped)(void));

/* From now on a pulse calls @beat with @ctx, which must stay valid; NULL: nothing. */
void cllm_pulse_set(void (*beat)(void *ctx), void *ctx);

#endif /* CLLM_BASE_PULSE_H */
