/*
 * tests/loader_data.h - shards whose tokens tell where they stand, and a ring in private
 * memory: what the tests of the loader share.
 *
 * Token i of a data set is (first + i) % vocab, counted through all its shards, and
 * vocab is larger than the data, so every token that is out of place shows.
 */
#ifndef CLLM_TESTS_LOADER_DATA_H
#define CLLM_TESTS_LOADER_DATA_H

#include "formats/dataset.h"
#include "loader/fill.h"
#include "shm/ring.h"

#define LOADER_DATA_VOCAB   65521
#define LOADER_DATA_CONTEXT 40
#define LOADER_DATA_TRAIN   4 /* shards */

struct loader_data {
    char dir[256];
    char *train_path[LOADER_DATA_TRAIN]; /* the last one has 4-byte tokens */
    char *valid_path[1];
    struct cllm_dataset train, valid;
    struct cllm_mixture mixture; /* of train alone; borrows it */
    struct cllm_geometry
        geometry; /* 3 lanes, 2 micro-batches of 5, 2 ring steps, 9 steps */
};

/* Make the directory and the shards; open them. */
void loader_data_make(struct loader_data *data);
void loader_data_remove(struct loader_data *data); /* closes and removes everything */

/* Write one shard of @n tokens first, first + 1 ... of @token_bytes each. */
void loader_data_shard(const char *path, uint32_t token_bytes, uint32_t first,
                       uint32_t n);

/* Overwrite token @index of a shard of 2-byte tokens. */
void loader_data_poke(const char *path, uint32_t index, uint16_t value);

/* "[train]" and "[valid]" manifests as control carries them; heap. */
char *loader_data_manifest(const struct loader_data *data);

/* Assert that @batch is in the ring, intact, and holds the windows that the contract of
 * loader/sampler.h names. */
void loader_data_check_batch(const struct loader_data *data, const struct cllm_ring *ring,
                             uint64_t batch);

/* A zeroed ring in private memory. */
void loader_data_ring_make(struct cllm_ring *ring, const struct cllm_geometry *geometry);
void loader_data_ring_free(struct cllm_ring *ring);

/* Assert that two rings hold the same batches and tokens. */
void loader_data_same_rings(const struct cllm_ring *a, const struct cllm_ring *b);

#endif /* CLLM_TESTS_LOADER_DATA_H */
