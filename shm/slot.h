/*
 * shm/slot.h - assignments and reports: how Node Zero and a child talk.
 *
 * Node Zero posts assignment seq into entry seq & 1 of the slot's command page and rings
 * the slot's bell. The child takes assignments in order of seq and answers each with the
 * report of the same seq, then rings Node Zero's eventfd. At most two assignments are
 * out. A bell is only a place to sleep: after every wake or timeout the words are looked
 * at again.
 */
#ifndef CLLM_SHM_SLOT_H
#define CLLM_SHM_SLOT_H

#include "shm/control.h"

/* ---- Node Zero's side ---- */

/* Forget the old process of @slot: raise the generation, clear assignments. Before the
 * fork. */
uint32_t cllm_slot_renew(struct cllm_control *control, uint32_t slot);

/*
 * Post @work (kind and arguments; generation, sum and seq are filled in here) and ring.
 * Returns its seq. At most two may be unanswered: asserted.
 */
uint64_t cllm_slot_post(struct cllm_control *control, uint32_t slot,
                        const struct cllm_assignment *work);

/* Assignments posted and not yet reported: 0, 1 or 2. */
uint32_t cllm_slot_outstanding(const struct cllm_control *control, uint32_t slot);

/*
 * The @i-th unanswered assignment of @slot, oldest first; NULL when there are fewer. As
 * long as the process may live it may still write what that assignment lets it write.
 */
const struct cllm_assignment *cllm_slot_unanswered(const struct cllm_control *control,
                                                   uint32_t slot, uint32_t i);

/* The process of @slot is confirmed dead: it owes no answers any more. */
void cllm_slot_void(struct cllm_control *control, uint32_t slot);

enum cllm_harvest {
    CLLM_HARVEST_NONE = 0, /* nothing new */
    CLLM_HARVEST_REPORT, /* *out is a valid answer to the oldest unanswered assignment */
    CLLM_HARVEST_BAD /* there is one, but it is damaged: the process cannot be trusted */
};

/*
 * Take the next report of @slot in order: copied to private memory, hash, generation,
 * seq, kind and every range checked against the assignment it answers (*asked, copied
 * too, seq included). Acquire; pairs with the release in cllm_slot_report().
 */
enum cllm_harvest cllm_slot_harvest(struct cllm_control *control, uint32_t slot,
                                    struct cllm_report *out,
                                    struct cllm_assignment *asked);

/* The process of this generation has said hello and its hello is intact. */
bool cllm_slot_hello(const struct cllm_control *control, uint32_t slot,
                     uint64_t *numerics, char kernels[64]);

void cllm_slot_ring(struct cllm_control *control, uint32_t slot);

/* ---- the child's side ---- */

/* Clear the own page but for the device's name, which a worker has written, and say
 * hello. @kernels: kernel path or reading method, for people. */
void cllm_slot_say_hello(struct cllm_control *control, uint32_t generation,
                         uint64_t numerics, const char *kernels, int eventfd);

/*
 * Assignment @seq, copied and checked, if it is there; never blocks.
 * Acquire; pairs with the release in cllm_slot_post().
 */
bool cllm_slot_next(const struct cllm_control *control, uint32_t generation, uint64_t seq,
                    struct cllm_assignment *out);

/* Sleep until the bell rings or @timeout_ns passes. Says nothing about why. */
void cllm_slot_sleep(struct cllm_control *control, uint64_t timeout_ns);

/* Begin the answer to @work: zeroed, and naming what it answers. */
void cllm_slot_answer(struct cllm_report *report, const struct cllm_assignment *work);

/* Publish the answer to assignment @seq (sum and seq are filled in here), ring @eventfd.
 */
void cllm_slot_report(struct cllm_control *control, struct cllm_report *report,
                      uint64_t seq, int eventfd);

/* Leave the last words for the obituary; async-signal-safe. */
void cllm_slot_last_words(struct cllm_control *control, const char *text);

#endif /* CLLM_SHM_SLOT_H */
