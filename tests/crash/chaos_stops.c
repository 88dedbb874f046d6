/*
 * tests/crash/chaos_stops.c - a short table.
 */
#include "tests/crash/chaos_stops.h"

#include <signal.h>

bool chaos_stops_full(const struct chaos_stops *stops)
{
    return stops->n == CHAOS_STOPS;
}

void chaos_stops_add(struct chaos_stops *stops, const struct chaos_target *target,
                     uint64_t due_ns)
{
    CLLM_ASSERT(stops->n < CHAOS_STOPS);
    stops->stop[stops->n].target = *target;
    stops->stop[stops->n].due_ns = due_ns;
    stops->n++;
}

/* Has the run given up on it? Then its lane is another one's too, its chunks are open
 * again. */
static bool is_replaced(struct chaos_view *view, const struct chaos_target *target)
{
    uint32_t state;

    if (target->slot == CLLM_NONE || !chaos_view_refresh(view))
        return false;
    state = CHAOS_LOOK(view->control.slots[target->slot].command.state);
    return state == CLLM_SLOT_STOPPED || state == CLLM_SLOT_SUSPECT;
}

void chaos_stops_tend(struct chaos_stops *stops, struct chaos_view *view, uint64_t now_ns,
                      struct chaos_stop_counts *counts)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < stops->n; i++) {
        struct chaos_target *target = &stops->stop[i].target;
        bool replaced;

        if (stops->stop[i].due_ns > now_ns) {
            stops->stop[kept++] = stops->stop[i];
            continue;
        }
        replaced = is_replaced(view, target);
        if (chaos_target_signal(target, SIGCONT)) {
            counts->continued++;
            counts->replaced += replaced;
        } else {
            counts->ended++;
        }
        chaos_target_close(target);
    }
    stops->n = kept;
}
