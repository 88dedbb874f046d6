/*
 * model/groups.h - parameter groups: by what factor the learning rate and the weight
 * decay of each tensor differ.
 *
 * A pure function of the tensors' names and of the lines of [train] group, so that every
 * process comes to the same factors. A line is
 *
 *     PATTERN [rate=FACTOR] [decay=FACTOR]
 *
 * where the pattern is a shell pattern for the names of tensors (* matches dots too). Of
 * several lines the first that matches a tensor counts; what a line does not say stays as
 * it is without one: rate 1, decay 1 for tensors of two dimensions and 0 for the others.
 */
#ifndef CLLM_MODEL_GROUPS_H
#define CLLM_MODEL_GROUPS_H

#include "base/config.h"

struct cllm_parameters;

/* Of a tensor. */
struct cllm_group {
    float rate;    /* factor of the learning rate; 0: the tensor is frozen */
    float decay;   /* factor of the weight decay */
    uint32_t line; /* of the list, from 1; 0 where none matches */
};

struct cllm_groups {
    uint32_t n_lines, n_tensors;
    bool frozen;           /* some tensor is */
    struct cllm_group *of; /* by tensor; heap */
};

/*
 * @lines may be NULL: none. Returns 0, -ENOMEM, or CLLM_ECONFIG with a text that names
 * the line: not of that form, a factor below 0 or above 1000, or a pattern that matches
 * no tensor that an earlier line has left. Pair with fini.
 */
int cllm_groups_init(struct cllm_groups *groups, const struct cllm_parameters *plan,
                     const struct cllm_config_list *lines);
void cllm_groups_fini(struct cllm_groups *groups);

/* @sum, continued with all factors; as it is where there are no lines. */
uint64_t cllm_groups_hash(const struct cllm_groups *groups, uint64_t sum);

#endif /* CLLM_MODEL_GROUPS_H */
