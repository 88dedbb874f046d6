/*
 * loader/sampler.h - which window of the data stands where in the order of training.
 *
 * Everything here is a pure function, so there is no state to save, to lose or to
 * disagree about: a loader that was killed, and the one that takes its place, compute the
 * same order. An epoch is a keyed permutation of all windows, so each window is trained
 * on exactly once in each epoch, and no table of the permutation exists anywhere.
 *
 * The whole run is one sequence of windows, numbered 0, 1, 2 ...: number q is position
 * q % N of epoch q / N, N being the number of windows. Row r of batch n
 * (cllm_batch_number()) is number n * sequences + r. An epoch may end in the middle of a
 * batch.
 *
 * Of a mixture, base/mix.h says which data set the numbers of the run belong to; each
 * data set has epochs and permutations of its own, over the numbers that are its.
 */
#ifndef CLLM_LOADER_SAMPLER_H
#define CLLM_LOADER_SAMPLER_H

#include "base/base.h"

/*
 * Position @position of @epoch: a window number in [0, @n_windows). For fixed @seed and
 * @epoch a bijection of [0, @n_windows). @position < @n_windows, @n_windows >= 1.
 */
uint64_t cllm_sampler_permute(uint64_t seed, uint64_t epoch, uint64_t n_windows,
                              uint64_t position);

/* Window of number @sequence of the whole run. */
uint64_t cllm_sampler_window(uint64_t seed, uint64_t n_windows, uint64_t sequence);

/* The seed of a data set with that key; @seed itself for key 0, a plain list. */
uint64_t cllm_sampler_seed(uint64_t seed, uint64_t key);

/* Number, in the whole run, of row @row of training batch @batch. */
uint64_t cllm_sampler_sequence(uint64_t batch, uint32_t sequences, uint32_t row);

/*
 * Window of validation row @row of @n_rows: spread evenly over [0, @n_windows), in order,
 * the same whatever the seed. With fewer windows than rows, windows repeat.
 */
uint64_t cllm_sampler_eval_window(uint64_t n_windows, uint64_t n_rows, uint64_t row);

#endif /* CLLM_LOADER_SAMPLER_H */
