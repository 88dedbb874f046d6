/*
 * tools/eval_split.h - the loss of a model over a list of shards.
 *
 * Windows are those of training: context + 1 tokens that begin at multiples of the
 * context within a shard (formats/dataset.h).
 */
#ifndef CLLM_TOOLS_EVAL_SPLIT_H
#define CLLM_TOOLS_EVAL_SPLIT_H

#include "formats/dataset.h"
#include "tools/eval_work.h"

struct cllm_eval_split {
    uint64_t windows;   /* evaluated */
    uint64_t tokens;    /* of them: targets */
    uint64_t bytes;     /* of text that the targets stand for; 0: not known */
    double loss;        /* sum, nats */
    double crystalline; /* sum of base/crystal.h's cost of each token and its successor */
};

/*
 * Over @windows of @data, spread evenly (0, or more than there are: all), as training
 * does with [train] eval_batch. Returns 0, CLLM_EDATA or a negative errno with text.
 */
int cllm_eval_split(struct cllm_eval_split *out, const struct cllm_eval *eval,
                    const struct cllm_dataset *data, uint64_t windows);

#endif /* CLLM_TOOLS_EVAL_SPLIT_H */
