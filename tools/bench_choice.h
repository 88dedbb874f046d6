/*
 * tools/bench_choice.h - which settings of a run are worth trying on a machine, and when
 * one of them counts as better than another. Only settings that leave the bits alone, and
 * that a run may be gone on with, are among them.
 */
#ifndef CLLM_TOOLS_BENCH_CHOICE_H
#define CLLM_TOOLS_BENCH_CHOICE_H

#include "base/config.h"
#include "base/topology.h"

#define CLLM_BENCH_CHOICES      20
#define CLLM_BENCH_CHOICE_BYTES 16

/* Keys of [run], in the order in which they are chosen: a later one looks at earlier
 * ones. */
enum cllm_bench_knob {
    CLLM_BENCH_KNOB_WORKERS,
    CLLM_BENCH_KNOB_PIN,
    CLLM_BENCH_KNOB_LANE_BUFFERS,
    CLLM_BENCH_KNOBS
};
extern const char *const cllm_bench_knob_names[CLLM_BENCH_KNOBS];

struct cllm_bench_choice {
    char value[CLLM_BENCH_CHOICE_BYTES]; /* as it stands in a file */
    uint32_t n;                          /* what that comes to; for pin 0 */
};

/* What there is to know before choosing. */
struct cllm_bench_present {
    const struct cllm_topology *topology;
    const struct cllm_config *config; /* the present settings */
    uint32_t lanes;
    uint32_t workers, buffers; /* that a run of the present settings has */
    const uint32_t *ask;       /* numbers of workers to try, [@n_ask] */
    uint32_t n_ask;            /* 0 = what the machine suggests; below 17 */
};

/*
 * The values of @knob to try. The first is the present one; no two do the same. Returns
 * how many: 1 = there is nothing to choose.
 *
 * Workers: one for each core, for each logical CPU, one less than cores, and the fewest
 * that need no more turns for the lanes. Pin: the other of bound and not bound. Lane
 * buffers: twice as many, where there are fewer than lanes.
 */
uint32_t cllm_bench_choice_list(struct cllm_bench_choice choice[CLLM_BENCH_CHOICES],
                                enum cllm_bench_knob knob,
                                const struct cllm_bench_present *present);

/* How two settings compare whose @n repeats (1 to CLLM_BENCH_REPEATS) took turns. */
struct cllm_bench_comparison {
    double ratio;  /* of the speeds of a round, second to first: the median over rounds */
    double spread; /* half of the distance between the least and the most of them */
};
struct cllm_bench_comparison cllm_bench_choice_compare(const double *first,
                                                       const double *second, uint32_t n);

/* Is the second better by more than the spread, and by 1 % at least? */
bool cllm_bench_choice_is_better(const struct cllm_bench_comparison *comparison);

#endif /* CLLM_TOOLS_BENCH_CHOICE_H */
