/*
 * tests/loader_data.c - see tests/loader_data.h.
 */
#include "tests/loader_data.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/sampler.h"

/* Odd sizes on purpose: no window, shard or file ends on a sector. */
static const uint32_t train_tokens[LOADER_DATA_TRAIN] = {5003, 41, 2222, 1777};
#define VALID_TOKENS 1999
#define VALID_FIRST  30000

void loader_data_shard(const char *path, uint32_t token_bytes, uint32_t first, uint32_t n)
{
    bool wide = token_bytes == 4;
    int32_t header[CLLM_SHARD_HEADER_BYTES / 4] = {
        wide ? CLLM_SHARD_MAGIC_U32 : CLLM_SHARD_MAGIC_U16,
        wide ? CLLM_SHARD_VERSION_U32 : CLLM_SHARD_VERSION_U16, (int32_t)n};
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(header, sizeof header, 1, file), 1);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t token = (first + i) % LOADER_DATA_VOCAB;
        uint16_t narrow = (uint16_t)token;

        assert_int_equal(wide ? fwrite(&token, sizeof token, 1, file)
                              : fwrite(&narrow, sizeof narrow, 1, file),
                         1);
    }
    assert_int_equal(fclose(file), 0);
}

void loader_data_poke(const char *path, uint32_t index, uint16_t value)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &value, sizeof value,
                            (off_t)(CLLM_SHARD_HEADER_BYTES + index * sizeof value)),
                     sizeof value);
    assert_int_equal(close(fd), 0);
}

static char *path_in(const struct loader_data *data, const char *name)
{
    char *path = NULL;

    assert_true(asprintf(&path, "%s/%s", data->dir, name) > 0);
    return path;
}

static void set_geometry(struct cllm_geometry *geometry)
{
    *geometry = (struct cllm_geometry){
        .model = {.vocab = LOADER_DATA_VOCAB,
                  .context = LOADER_DATA_CONTEXT,
                  .layers = 1,
                  .heads = 1,
                  .width = 8},
        .n_params = 1024,
        .n_elements = 1024,
        .lanes = 3,
        .microbatches = 2,
        .sequences = 5,
        .eval_microbatches = 1,
        .steps = 9,
        .seed = 42,
        .chunk_elements = 1024,
        .n_chunks = 1,
        .n_groups = 1,
        .n_buffers = 2,
        .n_folds = 2,
        .n_slots = 3,
        .n_worker_slots = 1,
        .ring_steps = 2,
        .ring_slots = 12,
        .ring_eval_slots = 3,
    };
}

void loader_data_make(struct loader_data *data)
{
    const char *tmp = getenv("TMPDIR");
    uint32_t first = 0;

    memset(data, 0, sizeof *data);
    (void)snprintf(data->dir, sizeof data->dir, "%s/cllm-loader-XXXXXX",
                   tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(data->dir));
    for (uint32_t i = 0; i < LOADER_DATA_TRAIN; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "train%u.bin", i);
        data->train_path[i] = path_in(data, name);
        loader_data_shard(data->train_path[i], i + 1 == LOADER_DATA_TRAIN ? 4 : 2, first,
                          train_tokens[i]);
        first += train_tokens[i];
    }
    data->valid_path[0] = path_in(data, "valid.bin");
    loader_data_shard(data->valid_path[0], 2, VALID_FIRST, VALID_TOKENS);
    assert_int_equal(cllm_dataset_open(&data->train, data->train_path, LOADER_DATA_TRAIN,
                                       LOADER_DATA_CONTEXT),
                     0);
    data->mixture = (struct cllm_mixture){
        .mix = {.n = 1, .weight = {1}},
        .part = {{.n_windows = data->train.n_windows, .data = data->train}}};
    assert_int_equal(
        cllm_dataset_open(&data->valid, data->valid_path, 1, LOADER_DATA_CONTEXT), 0);
    set_geometry(&data->geometry);
}

void loader_data_remove(struct loader_data *data)
{
    cllm_dataset_close(&data->train);
    cllm_dataset_close(&data->valid);
    for (uint32_t i = 0; i < LOADER_DATA_TRAIN; i++) {
        (void)unlink(data->train_path[i]); /* a test may have removed it */
        free(data->train_path[i]);
    }
    (void)unlink(data->valid_path[0]);
    free(data->valid_path[0]);
    assert_int_equal(rmdir(data->dir), 0);
}

char *loader_data_manifest(const struct loader_data *data)
{
    char *train = cllm_dataset_manifest(&data->train, NULL);
    char *valid = cllm_dataset_manifest(&data->valid, NULL);
    char *both = NULL;

    assert_non_null(train);
    assert_non_null(valid);
    assert_true(asprintf(&both, "[train]\n%s[valid]\n%s", train, valid) > 0);
    free(train);
    free(valid);
    return both;
}

/* First token of a window, by the plainest way to say it. */
static uint32_t first_token(bool eval, uint64_t window)
{
    uint32_t first = eval ? VALID_FIRST : 0;

    for (uint32_t i = 0; !eval && i < LOADER_DATA_TRAIN; i++) {
        uint64_t windows = (train_tokens[i] - 1) / LOADER_DATA_CONTEXT;

        if (window < windows)
            break;
        window -= windows;
        first += train_tokens[i];
    }
    return first + (uint32_t)window * LOADER_DATA_CONTEXT;
}

void loader_data_check_batch(const struct loader_data *data, const struct cllm_ring *ring,
                             uint64_t batch)
{
    const struct cllm_geometry *geometry = &data->geometry;
    bool eval = (batch & CLLM_BATCH_EVAL) != 0;
    uint64_t row_tokens = LOADER_DATA_CONTEXT + 1;
    uint32_t tokens[5 * (LOADER_DATA_CONTEXT + 1)]; // (sequences, context + 1)

    assert_int_equal(ring->batch_tokens, CLLM_LEN(tokens));
    assert_true(cllm_ring_read(ring, batch, tokens));
    for (uint32_t row = 0; row < geometry->sequences; row++) {
        uint64_t q = (batch & ~CLLM_BATCH_EVAL) * geometry->sequences + row;
        uint64_t window =
            eval ? q * data->valid.n_windows /
                       (geometry->ring_eval_slots * (uint64_t)geometry->sequences)
                 : cllm_sampler_permute(geometry->seed, q / data->train.n_windows,
                                        data->train.n_windows, q % data->train.n_windows);
        uint32_t first = first_token(eval, window);

        for (uint32_t i = 0; i < row_tokens; i++)
            assert_int_equal(tokens[row * row_tokens + i], first + i);
    }
}

void loader_data_ring_make(struct cllm_ring *ring, const struct cllm_geometry *geometry)
{
    size_t slots = (size_t)geometry->ring_slots + geometry->ring_eval_slots;

    *ring = (struct cllm_ring){.geometry = geometry};
    ring->batch_tokens = cllm_ring_batch_tokens(geometry);
    ring->slot = calloc(slots, sizeof *ring->slot);
    ring->tokens = calloc(slots * ring->batch_tokens, sizeof *ring->tokens);
    assert_non_null(ring->slot);
    assert_non_null(ring->tokens);
}

void loader_data_ring_free(struct cllm_ring *ring)
{
    free(ring->slot);
    free(ring->tokens);
    *ring = (struct cllm_ring){.slot = NULL};
}

void loader_data_same_rings(const struct cllm_ring *a, const struct cllm_ring *b)
{
    size_t slots = (size_t)a->geometry->ring_slots + a->geometry->ring_eval_slots;

    for (size_t i = 0; i < slots; i++) {
        assert_int_equal(a->slot[i].batch, b->slot[i].batch);
        assert_int_equal(a->slot[i].sum, b->slot[i].sum);
        assert_int_equal(a->slot[i].n_tokens, b->slot[i].n_tokens);
        assert_int_equal(a->slot[i].ready, b->slot[i].ready);
    }
    assert_memory_equal(a->tokens, b->tokens,
                        slots * a->batch_tokens * sizeof *a->tokens);
}
