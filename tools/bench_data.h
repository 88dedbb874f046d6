/*
 * tools/bench_data.h - a directory that goes away again, with token shards that nobody
 * wrote.
 */
#ifndef CLLM_TOOLS_BENCH_DATA_H
#define CLLM_TOOLS_BENCH_DATA_H

#include "base/config.h"
#include "formats/file.h"

struct cllm_bench_data {
    char dir[CLLM_FILE_PATH_BYTES];   /* of everything; "" = none */
    char train[CLLM_FILE_PATH_BYTES]; /* a shard each */
    char valid[CLLM_FILE_PATH_BYTES];
};

/*
 * Make a directory in $TMPDIR (or /tmp) and shards for the vocabulary, context and batch
 * of @config: random tokens, low ones oftener, as words are in a text. Returns 0 or a
 * negative code with text; nothing is left then.
 */
int cllm_bench_data_make(struct cllm_bench_data *data, const struct cllm_config *config);

/* Remove the directory. Returns 0 or a negative errno with text. */
int cllm_bench_data_remove(struct cllm_bench_data *data);

#endif /* CLLM_TOOLS_BENCH_DATA_H */
