/*
 * tools/bench_data.c - see tools/bench_data.h.
 */
#include "tools/bench_data.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/random.h"
#include "formats/shard.h"

#define BATCHES     4        /* different ones, as long as they are not too long */
#define MOST_TOKENS 16000000 /* of training data */
#define BLOCK       4096

/* A shard of @n tokens below @vocab; @seed tells shards apart. */
static int write_shard(const char *path, uint64_t n, uint32_t vocab, uint64_t seed)
{
    struct cllm_shard_writer writer = {0};
    uint32_t tokens[BLOCK];
    int rc = cllm_shard_writer_begin(&writer, path, vocab > UINT16_MAX + 1u ? 4 : 2);

    for (uint64_t i = 0; i < n && rc == 0; i += BLOCK) {
        uint64_t count = cllm_min_u64(n - i, BLOCK);

        for (uint64_t k = 0; k < count; k++) {
            float u = cllm_random_f32(seed, CLLM_RANDOM_TEST, i + k);

            tokens[k] = (uint32_t)((float)vocab * u * u * u);
        }
        rc = cllm_shard_writer_put(&writer, tokens, count);
    }
    if (rc != 0)
        cllm_shard_writer_abort(&writer);
    else
        rc = cllm_shard_writer_finish(&writer);
    return rc;
}

static int make_directory(struct cllm_bench_data *data)
{
    const char *parent = getenv("TMPDIR");
    int n = snprintf(data->dir, sizeof data->dir, "%s/cllm-bench.XXXXXX",
                     parent && parent[0] != '\0' ? parent : "/tmp");

    if (n < 0 || (size_t)n >= sizeof data->dir)
        return cllm_err(-ENAMETOOLONG, "cannot make a directory in $TMPDIR");
    if (!mkdtemp(data->dir)) {
        int rc = cllm_err(-errno, "cannot make the directory %s", data->dir);

        data->dir[0] = '\0';
        return rc;
    }
    return 0;
}

int cllm_bench_data_make(struct cllm_bench_data *data, const struct cllm_config *config)
{
    uint64_t context = config->model_context;
    uint64_t most = cllm_max_u64(MOST_TOKENS / context, 1);
    uint64_t windows = cllm_min_u64(BATCHES * config->train_batch, most);
    uint32_t vocab = (uint32_t)config->model_vocab;
    int rc = make_directory(data);

    if (rc == 0)
        rc = cllm_file_join(data->train, data->dir, "train.bin");
    if (rc == 0)
        rc = cllm_file_join(data->valid, data->dir, "valid.bin");
    if (rc == 0)
        rc = write_shard(data->train, windows * context + 1, vocab, 1);
    windows = cllm_min_u64(config->train_eval_batch, most);
    if (rc == 0)
        rc = write_shard(data->valid, windows * context + 1, vocab, 2);
    if (rc != 0 && data->dir[0] != '\0') {
        cllm_err_add("cannot make data for the benchmark");
        (void)cllm_file_remove_tree(data->dir); /* the first error is told */
        data->dir[0] = '\0';
    }
    return rc;
}

int cllm_bench_data_remove(struct cllm_bench_data *data)
{
    int rc = data->dir[0] == '\0' ? 0 : cllm_file_remove_tree(data->dir);

    data->dir[0] = '\0';
    return rc;
}
