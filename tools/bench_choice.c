/*
 * tools/bench_choice.c - see tools/bench_choice.h.
 */
#include "tools/bench_choice.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench_result.h"
#include "tools/spread.h"

#define LEAST_GAIN 0.01 /* of the speed; for less nobody wants a file changed */

const char *const cllm_bench_knob_names[CLLM_BENCH_KNOBS] = {"workers", "pin",
                                                             "lane_buffers"};

/* The list while it grows. */
struct list {
    struct cllm_bench_choice *choice; /* [CLLM_BENCH_CHOICES] */
    uint32_t n;
};

static struct cllm_bench_choice *append(struct list *list, uint32_t n)
{
    struct cllm_bench_choice *choice = &list->choice[list->n];

    CLLM_ASSERT(list->n < CLLM_BENCH_CHOICES);
    list->n++;
    choice->n = n;
    return choice;
}

static void add_number(struct list *list, uint32_t n)
{
    struct cllm_bench_choice *choice = append(list, n);

    (void)snprintf(choice->value, sizeof choice->value, "%u", n);
}

static void add_word(struct list *list, const char *word, uint32_t n)
{
    struct cllm_bench_choice *choice = append(list, n);

    (void)snprintf(choice->value, sizeof choice->value, "%s", word);
}

/* The present one: a number, or auto that came to @n. */
static void add_present(struct list *list, uint64_t option, uint32_t n)
{
    if (option == CLLM_CONFIG_AUTO)
        add_word(list, "auto", n);
    else
        add_number(list, (uint32_t)option);
    list->choice[list->n - 1].n = n;
}

/* Is there one already that comes to @n? */
static bool has_number(const struct list *list, uint32_t n)
{
    for (uint32_t i = 0; i < list->n; i++)
        if (list->choice[i].n == n)
            return true;
    return false;
}

static void list_workers(struct list *list, const struct cllm_bench_present *present)
{
    const struct cllm_topology *topology = present->topology;
    uint32_t most =
        (uint32_t)cllm_min_u64(cllm_max_u64(present->lanes, 1), CLLM_MAX_WORKERS);
    uint32_t threads = (uint32_t)cllm_max_u64(present->config->compute_threads, 1);
    uint32_t cores = (uint32_t)cllm_min_u64(
        cllm_max_u64(cllm_topology_workers(topology) / threads, 1), most);
    uint32_t cpus =
        (uint32_t)cllm_min_u64(cllm_max_u64(topology->n_cpus / threads, 1), most);
    uint32_t turns = (uint32_t)cllm_div_up(present->lanes, cores);
    uint32_t even = (uint32_t)cllm_div_up(present->lanes, turns);
    const uint32_t suggested[] = {cpus, cores - 1, even};

    add_present(list, present->config->run_workers, present->workers);
    for (uint32_t i = 0; i < present->n_ask; i++)
        if (!has_number(list, present->ask[i]))
            add_number(list, present->ask[i]);
    if (present->n_ask > 0)
        return;
    if (!has_number(list, cores))
        add_word(list, "auto", cores);
    for (size_t i = 0; i < CLLM_LEN(suggested); i++)
        if (suggested[i] > 0 && !has_number(list, suggested[i]))
            add_number(list, suggested[i]);
}

static void list_pins(struct list *list, const struct cllm_bench_present *present)
{
    static const char *const words[] = {
        [CLLM_PIN_AUTO] = "auto", [CLLM_PIN_YES] = "yes", [CLLM_PIN_NO] = "no"};
    const struct cllm_topology *topology = present->topology;
    enum cllm_config_pin pin = (enum cllm_config_pin)present->config->run_pin;
    uint64_t threads = cllm_max_u64(present->config->compute_threads, 1);
    bool auto_binds = topology->n_nodes > 1 && present->workers * threads <= topology->n;
    bool bound = pin == CLLM_PIN_YES || (pin == CLLM_PIN_AUTO && auto_binds);

    add_word(list, words[pin], 0);
    if (!topology->real || topology->guessed || topology->n == 0)
        return; /* nobody can be bound to what is not known */
    if (pin != CLLM_PIN_AUTO && auto_binds != bound)
        add_word(list, words[CLLM_PIN_AUTO], 0);
    else
        add_word(list, words[bound ? CLLM_PIN_NO : CLLM_PIN_YES], 0);
}

static void list_buffers(struct list *list, const struct cllm_bench_present *present)
{
    add_present(list, present->config->run_lane_buffers, present->buffers);
    if (present->buffers < present->lanes)
        add_number(
            list, (uint32_t)cllm_min_u64(UINT64_C(2) * present->buffers, present->lanes));
}

uint32_t cllm_bench_choice_list(struct cllm_bench_choice choice[CLLM_BENCH_CHOICES],
                                enum cllm_bench_knob knob,
                                const struct cllm_bench_present *present)
{
    struct list list = {.choice = choice};

    switch (knob) {
    case CLLM_BENCH_KNOB_WORKERS:
        list_workers(&list, present);
        break;
    case CLLM_BENCH_KNOB_PIN:
        list_pins(&list, present);
        break;
    case CLLM_BENCH_KNOB_LANE_BUFFERS:
    case CLLM_BENCH_KNOBS:
    default:
        list_buffers(&list, present);
        break;
    }
    return list.n;
}

/* ---- which is better ---- */

struct cllm_bench_comparison cllm_bench_choice_compare(const double *first,
                                                       const double *second, uint32_t n)
{
    double ratio[CLLM_BENCH_REPEATS];
    struct cllm_spread spread;

    CLLM_ASSERT(n > 0 && n <= CLLM_BENCH_REPEATS);
    for (uint32_t i = 0; i < n; i++)
        ratio[i] = second[i] / first[i];
    spread = cllm_spread_of(ratio, n);
    return (struct cllm_bench_comparison){.ratio = spread.median,
                                          .spread = (spread.most - spread.least) / 2};
}

bool cllm_bench_choice_is_better(const struct cllm_bench_comparison *comparison)
{
    double gain = comparison->ratio - 1.0;

    return gain > comparison->spread && gain >= LEAST_GAIN;
}
