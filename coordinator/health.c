/*
 * coordinator/health.c - frozen, and why.
 */
#include "coordinator/health.h"

#include <string.h>

#include "base/clock.h"

#define QUIET_NS CLLM_NS_PER_S          /* so long nobody asks the kernel */
#define LOOK_NS  (250 * CLLM_NS_PER_MS) /* and then not more often than this */
#define LONGER   4                      /* asleep, once it was seen running */

void cllm_health_reset(struct cllm_health *health, uint64_t progress, uint64_t now_ns)
{
    *health = (struct cllm_health){.progress = progress, .since_ns = now_ns};
}

/* Ask the kernel. False: it does not tell, or a debugger holds the process. */
static bool ask(struct cllm_health *health, const struct cllm_process *process,
                uint64_t *used_ns, uint64_t now_ns)
{
    struct cllm_usage usage;

    if (!cllm_process_usage(process, &usage) || usage.traced)
        return false;
    if (health->looked_ns == 0) {
        health->cpu_ns = usage.cpu_ns;
        health->ran_ns = 0;
    }
    health->looked_ns = now_ns;
    health->state = usage.state;
    if (usage.state == 'R')
        health->ran_ns = now_ns;
    *used_ns = usage.cpu_ns - health->cpu_ns;
    return true;
}

enum cllm_health_verdict cllm_health_look(struct cllm_health *health,
                                          const struct cllm_process *process,
                                          uint64_t progress,
                                          const struct cllm_health_limits *limits,
                                          uint64_t late_ns, uint64_t now_ns)
{
    uint64_t frozen_ns, used_ns = 0, slept_ns, sleep_ns = limits->asleep_ns;
    bool ran;

    if (progress != health->progress) {
        cllm_health_reset(health, progress, now_ns);
        return CLLM_HEALTH_GOOD;
    }
    health->since_ns += late_ns;
    health->ran_ns += health->ran_ns == 0 ? 0 : late_ns;
    frozen_ns = now_ns > health->since_ns ? now_ns - health->since_ns : 0;
    if (frozen_ns < QUIET_NS || now_ns - health->looked_ns < LOOK_NS)
        return CLLM_HEALTH_GOOD;
    if (!ask(health, process, &used_ns, now_ns)) {
        cllm_health_reset(health, progress, now_ns);
        return CLLM_HEALTH_GOOD;
    }
    ran = health->ran_ns != 0;
    slept_ns = frozen_ns;
    if (ran) {
        slept_ns = now_ns > health->ran_ns ? now_ns - health->ran_ns : 0;
        sleep_ns *= LONGER;
    }
    if (slept_ns >= sleep_ns || (ran && used_ns >= limits->running_ns))
        return CLLM_HEALTH_HANGS;
    if (slept_ns >= sleep_ns / 2 || (ran && used_ns >= limits->running_ns / 2))
        return CLLM_HEALTH_SUSPECT;
    return CLLM_HEALTH_GOOD;
}

void cllm_pace_take(struct cllm_pace *pace, uint64_t ns)
{
    pace->ns[pace->n++ % CLLM_PACE_KEPT] = ns;
}

uint64_t cllm_pace_median(const struct cllm_pace *pace)
{
    uint64_t sorted[CLLM_PACE_KEPT];
    uint64_t n = cllm_min_u64(pace->n, CLLM_PACE_KEPT);

    for (uint64_t i = 0; i < n; i++) {
        uint64_t j = i;

        for (; j > 0 && sorted[j - 1] > pace->ns[i]; j--)
            sorted[j] = sorted[j - 1];
        sorted[j] = pace->ns[i];
    }
    return n == 0 ? 0 : sorted[n / 2];
}
