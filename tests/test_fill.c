/*
 * tests/test_fill.c - from windows to batches: order, bounds, restarts and bad data, on a
 * ring in private memory.
 */
#include "loader/fill.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/log.h"
#include "loader/sampler.h"
#include "tests/loader_data.h"

static struct loader_data data;

static int set_up(void **state)
{
    (void)state;
    loader_data_make(&data);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    loader_data_remove(&data);
    return 0;
}

/* A loader without its process. */
struct loader {
    struct cllm_reader_file *file;
    struct cllm_reader reader;
    struct cllm_status status;
    struct cllm_fill fill;
};

struct way {
    const struct cllm_reader_method *method;
    enum cllm_reader_direct direct;
    uint32_t depth;
};

static const struct way plain = {&cllm_reader_pread, CLLM_READER_DIRECT_NO, 8};

static int try_start(struct loader *loader, struct cllm_ring *ring, const struct way *way,
                     uint64_t committed, uint32_t generation)
{
    struct cllm_reader_plan plan = {
        .method = {way->method, &cllm_reader_pread},
        .max_bytes = cllm_fill_row_bytes(&data.mixture, &data.valid),
        .depth = way->depth,
        .direct = way->direct,
    };
    int rc;

    memset(loader, 0, sizeof *loader);
    loader->file = cllm_fill_files(&data.mixture, &data.valid, &plan.n_files);
    assert_non_null(loader->file);
    assert_int_equal(plan.n_files, LOADER_DATA_TRAIN + data.mixture.mix.n);
    plan.file = loader->file;
    rc = cllm_reader_open(&loader->reader, &plan);
    if (rc != 0)
        return rc;
    loader->fill = (struct cllm_fill){
        .geometry = &data.geometry,
        .ring = ring,
        .reader = &loader->reader,
        .train = &data.mixture,
        .valid = &data.valid,
        .status = &loader->status,
        .generation = generation,
    };
    return cllm_fill_init(&loader->fill, committed);
}

static void start(struct loader *loader, struct cllm_ring *ring, const struct way *way,
                  uint64_t committed, uint32_t generation)
{
    assert_int_equal(try_start(loader, ring, way, committed, generation), 0);
}

static void stop(struct loader *loader)
{
    cllm_fill_fini(&loader->fill);
    cllm_reader_close(&loader->reader);
    free(loader->file);
}

/* Until there is nothing to do, or it fails. */
static int run(struct loader *loader, uint64_t committed)
{
    int rc;

    do {
        rc = cllm_fill_advance(&loader->fill, committed);
    } while (rc == 1);
    return rc;
}

static void check_window(struct cllm_ring *ring, uint64_t committed)
{
    uint64_t per_step = 6;
    uint64_t end = cllm_min_u64(committed + 2, data.geometry.steps) * per_step;

    for (uint64_t e = 0; e < data.geometry.ring_eval_slots; e++)
        loader_data_check_batch(&data, ring, CLLM_BATCH_EVAL | e);
    for (uint64_t batch = committed * per_step; batch < end; batch++)
        loader_data_check_batch(&data, ring, batch);
}

static void every_batch_holds_the_windows_that_the_sampler_names(void **state)
{
    struct cllm_ring ring;
    struct loader loader;

    (void)state;
    loader_data_ring_make(&ring, &data.geometry);
    start(&loader, &ring, &plain, 0, 1);
    /* The whole run: 270 rows of 222 windows, so an epoch ends within it. */
    assert_in_range(data.train.n_windows, 1, 9 * 30 - 1);
    for (uint64_t committed = 0; committed <= data.geometry.steps; committed++) {
        assert_int_equal(run(&loader, committed), 0);
        assert_int_equal(loader.status.eval_ready, 1);
        assert_int_equal(loader.status.filled, cllm_min_u64(committed + 2, 9) * 6);
        check_window(&ring, committed);
    }
    assert_int_equal(loader.status.reads, 9 * 30 + 15);
    assert_int_equal(loader.status.progress, 9 * 30 + 15);
    assert_in_range(loader.status.read_bytes, (9 * 30 + 15) * 82, (9 * 30 + 15) * 164);
    stop(&loader);
    loader_data_ring_free(&ring);
}

/* Batch @batch of the mixture, read from the shards in the plainest way. */
static void check_mixed_batch(struct cllm_ring *ring, uint64_t batch)
{
    enum { ROW = LOADER_DATA_CONTEXT + 1, ROWS = 5 };
    uint32_t tokens[ROWS * ROW], expected[ROW];

    assert_true(cllm_ring_read(ring, batch, tokens));
    for (uint32_t row = 0; row < ROWS; row++) {
        const struct cllm_mixture_part *part;
        uint64_t rank, window, off;
        uint32_t d, shard;

        cllm_mix_place(&data.mixture.mix, batch * ROWS + row, &d, &rank);
        part = &data.mixture.part[d];
        window = cllm_sampler_permute(cllm_sampler_seed(data.geometry.seed, part->key),
                                      rank / part->data.n_windows, part->data.n_windows,
                                      rank % part->data.n_windows);
        cllm_dataset_locate(&part->data, window, &shard, &off);
        assert_int_equal(cllm_shard_read(&part->data.shard[shard], off, ROW, expected),
                         0);
        assert_memory_equal(tokens + row * ROW, expected, sizeof expected);
    }
}

static void batches_of_a_mixture_hold_windows_of_each_data_set(void **state)
{
    struct cllm_mixture plain_list = data.mixture;
    struct cllm_ring ring;
    struct loader loader;

    (void)state;
    data.mixture.mix = (struct cllm_mix){.n = 2, .weight = {2, 1}};
    data.mixture.part[0].key = 11;
    data.mixture.part[1] = (struct cllm_mixture_part){.key = 22, .data = data.valid};
    loader_data_ring_make(&ring, &data.geometry);
    start(&loader, &ring, &plain, 0, 1);
    for (uint64_t committed = 0; committed < data.geometry.steps; committed++) {
        assert_int_equal(run(&loader, committed), 0);
        for (uint64_t i = 0; i < 6; i++)
            check_mixed_batch(&ring, committed * 6 + i);
        for (uint64_t e = 0; e < data.geometry.ring_eval_slots; e++)
            loader_data_check_batch(&data, &ring, CLLM_BATCH_EVAL | e);
    }
    stop(&loader);
    loader_data_ring_free(&ring);
    data.mixture = plain_list;
}

static void every_way_to_read_gives_the_same_ring(void **state)
{
    static const struct way ways[] = {
        {&cllm_reader_pread, CLLM_READER_DIRECT_YES, 4},
        {&cllm_reader_uring, CLLM_READER_DIRECT_NO, 1},
        {&cllm_reader_uring, CLLM_READER_DIRECT_NO, 32},
        {&cllm_reader_uring, CLLM_READER_DIRECT_YES, 7},
        {&cllm_reader_uring, CLLM_READER_DIRECT_YES, 128},
        {&cllm_reader_uring, CLLM_READER_DIRECT_AUTO, 16},
    };
    struct cllm_ring expected, ring;
    struct loader loader;

    (void)state;
    loader_data_ring_make(&expected, &data.geometry);
    start(&loader, &expected, &plain, 3, 1);
    assert_int_equal(run(&loader, 3), 0);
    stop(&loader);
    check_window(&expected, 3);
    for (size_t i = 0; i < CLLM_LEN(ways); i++) {
        loader_data_ring_make(&ring, &data.geometry);
        start(&loader, &ring, &ways[i], 3, 1);
        assert_int_equal(run(&loader, 3), 0);
        stop(&loader);
        loader_data_same_rings(&expected, &ring);
        loader_data_ring_free(&ring);
    }
    loader_data_ring_free(&expected);
}

static void a_slot_in_use_is_never_touched(void **state)
{
    struct cllm_ring ring;
    struct loader loader;
    uint32_t before[12];

    (void)state;
    loader_data_ring_make(&ring, &data.geometry);
    start(&loader, &ring, &plain, 4, 1);
    assert_int_equal(run(&loader, 4), 0);
    assert_int_equal(loader.status.filled, 6 * 6);
    assert_int_equal(cllm_fill_advance(&loader.fill, 4), 0); /* nothing to do */
    for (uint32_t i = 0; i < 12; i++)
        before[i] = ring.tokens[i * ring.batch_tokens];
    assert_int_equal(cllm_fill_advance(&loader.fill, 5), 1);
    assert_int_equal(ring.slot[0].ready, 0); /* says that it is being changed */
    assert_int_equal(run(&loader, 5), 0);    /* step 5 is done: its 6 slots get step 7 */
    for (uint32_t i = 0; i < 12; i++) {
        bool step6 = i >= 5 * 6 % 12 && i < 5 * 6 % 12 + 6;

        assert_int_equal(ring.slot[i].batch / 6, step6 ? 5 : 6);
        assert_int_equal(ring.tokens[i * ring.batch_tokens] == before[i], step6);
    }
    check_window(&ring, 5);
    stop(&loader);
    loader_data_ring_free(&ring);
}

static void a_new_loader_keeps_what_is_intact_and_mends_the_rest(void **state)
{
    struct cllm_ring ring;
    struct loader loader;

    (void)state;
    loader_data_ring_make(&ring, &data.geometry);
    start(&loader, &ring, &plain, 0, 1);
    assert_int_equal(run(&loader, 0), 0);
    stop(&loader);
    ring.tokens[5 * ring.batch_tokens + 17] ^= 4; /* a flipped bit */
    ring.slot[13].ready = 0;                      /* validation batch 1: half filled */
    ring.slot[7].batch = 3;                       /* a wild store */
    start(&loader, &ring, &plain, 0, 2);
    assert_int_equal(run(&loader, 0), 0);
    assert_int_equal(loader.status.filled, 12);
    assert_int_equal(loader.status.reads, 3 * 5);
    stop(&loader);
    for (uint32_t i = 0; i < 15; i++)
        assert_int_equal(ring.slot[i].generation, i == 5 || i == 13 || i == 7 ? 2 : 1);
    check_window(&ring, 0);
    loader_data_ring_free(&ring);
}

static void a_loader_that_stops_anywhere_loses_nothing(void **state)
{
    static const struct way ways[] = {
        {&cllm_reader_pread, CLLM_READER_DIRECT_NO, 3},
        {&cllm_reader_uring, CLLM_READER_DIRECT_YES, 8},
    };
    struct cllm_ring expected, ring;
    struct loader loader;

    (void)state;
    loader_data_ring_make(&expected, &data.geometry);
    start(&loader, &expected, &plain, 1, 1);
    assert_int_equal(run(&loader, 1), 0);
    stop(&loader);
    for (int n = 0; n < 80; n += 3) {
        loader_data_ring_make(&ring, &data.geometry);
        for (uint32_t generation = 1; generation < 4; generation++) {
            start(&loader, &ring, &ways[n % 2], 1, generation);
            for (int i = 0; i < n; i++)
                assert_true(cllm_fill_advance(&loader.fill, 1) >= 0);
            stop(&loader);
        }
        start(&loader, &ring, &plain, 1, 4);
        assert_int_equal(run(&loader, 1), 0);
        stop(&loader);
        loader_data_same_rings(&expected, &ring);
        loader_data_ring_free(&ring);
    }
    loader_data_ring_free(&expected);
}

static void only_complete_batches_are_announced(void **state)
{
    struct cllm_ring ring;
    struct loader loader;
    struct way one_by_one = {&cllm_reader_pread, CLLM_READER_DIRECT_NO, 1};

    (void)state;
    loader_data_ring_make(&ring, &data.geometry);
    start(&loader, &ring, &one_by_one, 0, 1);
    while (cllm_fill_advance(&loader.fill, 0) == 1) {
        /* row by row: the validation first, then training */
        uint64_t rows = loader.status.reads;

        assert_int_equal(loader.status.eval_ready, rows >= 15);
        assert_int_equal(loader.status.filled, rows < 15 ? 0 : (rows - 15) / 5);
        for (uint64_t batch = 0; batch < 12; batch++)
            assert_int_equal(cllm_ring_has(&ring, batch), batch < loader.status.filled);
    }
    stop(&loader);
    loader_data_ring_free(&ring);
}

static void a_token_beyond_the_vocabulary_is_an_error(void **state)
{
    struct cllm_ring ring;
    struct loader loader;
    char expected[512];

    (void)state;
    loader_data_poke(data.train_path[0], 1234, LOADER_DATA_VOCAB + 3);
    loader_data_ring_make(&ring, &data.geometry);
    start(&loader, &ring, &plain, 0, 1);
    int rc = 0;

    for (uint64_t committed = 0; rc == 0 && committed < 9; committed++)
        rc = run(&loader, committed);
    assert_int_equal(rc, CLLM_EDATA);
    (void)snprintf(expected, sizeof expected,
                   "%s: token 1234 (byte offset 3492) is 65524, expected less than 65521 "
                   "([model] vocab)",
                   data.train_path[0]);
    assert_string_equal(cllm_err_text(), expected);
    stop(&loader);
    loader_data_ring_free(&ring);
    loader_data_poke(data.train_path[0], 1234, 1234);
}

static void a_shard_that_shrinks_is_an_error_and_one_that_is_removed_is_not(void **state)
{
    struct cllm_ring ring;
    struct loader loader;
    int rc = 0;

    (void)state;
    loader_data_ring_make(&ring, &data.geometry);
    start(&loader, &ring, &plain, 0, 1);
    assert_int_equal(run(&loader, 0), 0);
    assert_int_equal(unlink(data.train_path[2]), 0); /* open, so still there */
    assert_int_equal(run(&loader, 1), 0);
    check_window(&ring, 1);
    assert_int_equal(truncate(data.train_path[0], 5000), 0);
    for (uint64_t committed = 2; rc == 0 && committed < 9; committed++)
        rc = run(&loader, committed);
    assert_int_equal(rc, CLLM_EDATA);
    assert_non_null(strstr(cllm_err_text(), data.train_path[0]));
    assert_non_null(strstr(cllm_err_text(), "expected 82 bytes, found "));
    assert_true(loader.status.retries >= 3);
    stop(&loader);
    /* A new loader notices before it reads anything. */
    assert_int_equal(try_start(&loader, &ring, &plain, 2, 2), CLLM_EDATA);
    free(loader.file);
    loader_data_ring_free(&ring);
}

static void a_run_without_validation_is_ready_for_it_at_once(void **state)
{
    struct cllm_ring ring;
    struct loader loader;

    (void)state;
    data.geometry.eval_microbatches = 0;
    data.geometry.ring_eval_slots = 0;
    loader_data_ring_make(&ring, &data.geometry);
    start(&loader, &ring, &plain, 0, 1);
    assert_int_equal(run(&loader, 0), 0);
    assert_int_equal(loader.status.eval_ready, 1);
    assert_int_equal(loader.status.reads, 60);
    stop(&loader);
    loader_data_ring_free(&ring);
}

int main(void)
{
#define WITH_DATA(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_DATA(every_batch_holds_the_windows_that_the_sampler_names),
        WITH_DATA(batches_of_a_mixture_hold_windows_of_each_data_set),
        WITH_DATA(every_way_to_read_gives_the_same_ring),
        WITH_DATA(a_slot_in_use_is_never_touched),
        WITH_DATA(a_new_loader_keeps_what_is_intact_and_mends_the_rest),
        WITH_DATA(a_loader_that_stops_anywhere_loses_nothing),
        WITH_DATA(only_complete_batches_are_announced),
        WITH_DATA(a_token_beyond_the_vocabulary_is_an_error),
        WITH_DATA(a_shard_that_shrinks_is_an_error_and_one_that_is_removed_is_not),
        WITH_DATA(a_run_without_validation_is_ready_for_it_at_once),
    };

    cllm_log_init("test", CLLM_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
