/*
 * formats/mixture.h - the training data: one list of shards, or several data sets, each
 * with a share.
 *
 * A line of [data] mix is NAME WEIGHT PATTERN. Lines of one name are one data set and
 * say the same weight. Weights are decimal numbers; what counts is their ratio. Parts are
 * ordered by falling weight, then by name, so the order of the lines does not matter.
 *
 * The manifest in shared memory is sections of lines of formats/dataset.h:
 *
 *     [train]                 a plain list, or for each part
 *     [train NAME WEIGHT]     with the whole, reduced weight
 *     [valid]                 the end, for this reader
 */
#ifndef CLLM_FORMATS_MIXTURE_H
#define CLLM_FORMATS_MIXTURE_H

#include "base/mix.h"
#include "formats/dataset.h"

#define CLLM_MIXTURE_NAME_BYTES 32

struct cllm_mixture_part {
    char name[CLLM_MIXTURE_NAME_BYTES]; /* letters, digits, . _ -; "" for a plain list */
    uint64_t key; /* of the name, for the order of its windows; 0 for a plain list */
    uint64_t n_tokens, n_windows, n_shards;
    struct cllm_dataset data; /* zeroed after cllm_mixture_parse() */
};

struct cllm_mixture {
    struct cllm_mix mix; /* mix.n parts */
    struct cllm_mixture_part part[CLLM_MIX_MAX];
};

/*
 * Open and check all shards of the @n lines of [data] mix; @window_tokens and @format as
 * for cllm_dataset_open_as(). A shard that two parts name is refused. Returns 0,
 * CLLM_ECONFIG, CLLM_EDATA or a negative errno with text; on failure there is nothing to
 * close.
 */
int cllm_mixture_open(struct cllm_mixture *mixture, char *const *lines, uint32_t n,
                      uint32_t window_tokens, enum cllm_shard_format format);

/* The same of a plain list of patterns: one part without a name. */
int cllm_mixture_open_plain(struct cllm_mixture *mixture, char *const *patterns,
                            uint32_t n, uint32_t window_tokens,
                            enum cllm_shard_format format);

void cllm_mixture_close(struct cllm_mixture *mixture);

/* cllm_dataset_check_tokens() of all parts, @limit tokens of each shard. */
int cllm_mixture_check_tokens(const struct cllm_mixture *mixture, uint32_t vocab,
                              uint64_t limit);

/* What the data is: cllm_dataset_hash(), of several parts together. */
int cllm_mixture_hash(const struct cllm_mixture *mixture, uint64_t *hash);

/* The [train] sections; heap, the caller frees; NULL when memory is out. */
char *cllm_mixture_manifest(const struct cllm_mixture *mixture);

/*
 * Read the [train] sections at *@text, and move it to what follows them. No file is
 * opened: names, weights and counts only. Returns 0, or CLLM_EDATA with text.
 */
int cllm_mixture_parse(struct cllm_mixture *mixture, const char **text,
                       uint32_t window_tokens);

/* The same, and all shards are opened and held against their lines. */
int cllm_mixture_from_manifest(struct cllm_mixture *mixture, const char **text,
                               uint32_t window_tokens);

/* How often each part has been gone through after @sequences windows, as a JSON object
 * {"NAME":1.2345,...} in @out; returns it. */
#define CLLM_MIXTURE_EPOCHS (CLLM_MIX_MAX * (CLLM_MIXTURE_NAME_BYTES + 24) + 3)
const char *cllm_mixture_epochs(char out[CLLM_MIXTURE_EPOCHS],
                                const struct cllm_mixture *mixture, uint64_t sequences);

#endif /* CLLM_FORMATS_MIXTURE_H */
