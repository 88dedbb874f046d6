/*
 * coordinator/origin.h - finetuning: version 0 is the weights of a model that is there.
 *
 * [train] from names it; every kind that formats/source.h reads will do. Before the run's
 * first object is made, its weights become the run's checkpoint of step 0, moments zero,
 * and the run goes on from there as from any checkpoint: through the saver, checked, for
 * any number of workers the same bits. Where adapters are trained (base/lora.h), the
 * weights become a model in the run's directory instead, from which they come into shared
 * memory now and at every resumption. What the run began from is kept in origin.json, so
 * that it can be resumed when the model is gone; a hash of the weights is part of the
 * run's identity.
 */
#ifndef CLLM_COORDINATOR_ORIGIN_H
#define CLLM_COORDINATOR_ORIGIN_H

#include "base/config.h"
#include "coordinator/plan.h"

#define CLLM_ORIGIN_FILE "origin.json" /* of a run directory */

/* Is there one? */
bool cllm_origin_is_set(const struct cllm_config *config);

/*
 * Give the options of [model] that were not given the values of the model that
 * [train] from names; those that were given must agree, but the context may be shorter.
 * Without it, nothing. Returns 0 or a negative code with text.
 */
int cllm_origin_complete(struct cllm_config *config);

/* Hash of the weights that the run begins with: from origin.json of @run_dir, or by
 * reading the model. 0 without [train] from. Returns 0 or a negative code with text. */
int cllm_origin_hash(const struct cllm_config *config, const char *run_dir,
                     uint64_t *hash);

/* Write origin.json of @run_dir: the model @from, whose weights have @hash. */
int cllm_origin_keep(const char *run_dir, const char *from,
                     const struct cllm_model_config *model, uint64_t hash);

/*
 * Make the checkpoint of step 0 of a run that has none, durable under its name; or the
 * model beneath its adapters, unless that is there already. Does nothing without [train]
 * from. Dying in it and doing it again is the same as doing it once. Returns 1: the
 * checkpoint is there, also of adapters that [lora] from names; 0: there is no origin,
 * or version 0 is adapters, which have initial weights; a negative code with text.
 */
int cllm_origin_import(const struct cllm_config *config, const struct cllm_plan *plan);

#endif /* CLLM_COORDINATOR_ORIGIN_H */
