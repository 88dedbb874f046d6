/*
 * tools/shm_slot.h - what a process is doing, in one phrase, from its slot.
 */
#ifndef CLLM_TOOLS_SHM_SLOT_H
#define CLLM_TOOLS_SHM_SLOT_H

#include "tools/shm_view.h"

#define CLLM_SHM_TIME 160

/* Fill the derived fields (said_hello, gone, busy_*, doing) of slot @index of @view. */
void cllm_shm_slot_derive(struct cllm_shm_view *view, uint32_t index);

/* The state that Node Zero gave it, or "gone" where Node Zero could not say so. */
const char *cllm_shm_slot_state(const struct cllm_shm_slot *slot);

/* Lanes done (worker), batches filled (loader) or checkpoints being saved: "62 lanes". */
void cllm_shm_slot_done(char out[CLLM_SHM_DOING], const struct cllm_shm_slot *slot);

/* "lanes 91.2 %, fold 1.1 %, update 2.0 %, waits for data 0.0 %, for work 5.7 %": where
 * workers' time went; what there was none of at all is left out. "" = nothing was
 * counted. */
const char *cllm_shm_time_text(char out[CLLM_SHM_TIME], const struct cllm_shm_time *time);

#endif /* CLLM_TOOLS_SHM_SLOT_H */
