/*
 * tools/bench_calibrate.h - a few settings of a run, measured in turns on this machine;
 * the best go into its configuration.
 */
#ifndef CLLM_TOOLS_BENCH_CALIBRATE_H
#define CLLM_TOOLS_BENCH_CALIBRATE_H

#include "base/config.h"
#include "tools/bench_measure.h"

/* At least: of three that differ by chance alone one in eight looks better, of five one
 * in thirty. */
#define CLLM_BENCH_CALIBRATE_REPEATS 5

struct cllm_bench_calibrate {
    const char *name;                  /* of the configuration, for people */
    struct cllm_bench_measure measure; /* room for CLLM_BENCH_KNOBS more in job.set */
    struct cllm_config *config;        /* as the run has it; follows what is chosen */
    const uint32_t *workers; /* numbers to try, [@n_workers]; none = by the machine */
    uint32_t n_workers;      /* below 17 */
    bool dry_run;            /* measure, and change no file */
};

/*
 * One setting after the other: the present value and the others of
 * cllm_bench_choice_list() take turns, a run each; a table goes to stdout; a value that
 * is better than the present one by more than the spread is kept for what is measured
 * next, and written into measure.job.config_path at the end. Whether that file can be
 * written is seen to first. A value that does not run here is told of and left out.
 * Returns 0, or a negative code whose text has been printed; the file is unchanged then.
 */
int cllm_bench_calibrate(struct cllm_bench_calibrate *calibrate);

/* Is "section.key=value" of something that is calibrated? */
bool cllm_bench_calibrate_owns(const char *assignment);

#endif /* CLLM_TOOLS_BENCH_CALIBRATE_H */
