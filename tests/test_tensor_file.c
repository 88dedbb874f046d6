/*
 * tests/test_tensor_file.c - a tensor file put together from pieces, and what reading
 * back finds.
 */
#include "tests/formats_temp.h"

#include <errno.h>
#include <fcntl.h>

#include "formats/file_scan.h"
#include "saver/tensor_file.h"

/* Parts of 4 * (1000 * 2100 + 77) bytes: two windows and a piece, whose ends lie within
 * pages. */
static const struct cllm_tensor tensors[] = {
    {.name = "first", .rank = 2, .shape = {1000, 2100}, .count = 2100000},
    {.name = "second", .rank = 1, .shape = {77}, .count = 77},
};
#define N_ELEMENTS ((size_t)2100077)

struct fixture {
    struct cllm_tensor_file file;
    float *values; // (2,N_ELEMENTS)
};

static void create(struct fixture *fixture, const char *dir, const char *name)
{
    struct cllm_safetensors_plan plan;

    assert_int_equal(cllm_safetensors_plan_moments(&plan, tensors, CLLM_LEN(tensors)), 0);
    assert_int_equal(cllm_tensor_file_create(&fixture->file, dir, name, &plan, 2), 0);
    assert_null(plan.header); /* it belongs to the file now */
    fixture->values = malloc(2 * N_ELEMENTS * sizeof *fixture->values);
    assert_non_null(fixture->values);
    for (size_t i = 0; i < 2 * N_ELEMENTS; i++)
        fixture->values[i] = (float)i;
}

/* Pieces of both parts in turns, as chunks come. */
static void put(struct fixture *fixture, size_t piece)
{
    for (size_t at = 0; at < N_ELEMENTS; at += piece) {
        size_t n = cllm_min_u64(piece, N_ELEMENTS - at);

        for (uint32_t part = 0; part < 2; part++)
            assert_int_equal(
                cllm_tensor_file_put(&fixture->file, part,
                                     fixture->values + part * N_ELEMENTS + at,
                                     n * sizeof(float),
                                     fixture->file.part[part].begin + at * sizeof(float)),
                0);
    }
    assert_int_equal(cllm_tensor_file_sync(&fixture->file), 0);
}

static void end(struct fixture *fixture)
{
    assert_int_equal(cllm_tensor_file_close(&fixture->file), 0);
    free(fixture->values);
}

static void pieces_make_the_file(void **state)
{
    static const char *const names[2][2] = {{"m.first", "m.second"},
                                            {"v.first", "v.second"}};
    static const size_t pieces[] = {65536, 2048, 999999, N_ELEMENTS, 12345};

    for (size_t i = 0; i < CLLM_LEN(pieces); i++) {
        struct cllm_checkpoint_digest digest;
        struct cllm_safetensors st;
        char hex[CLLM_HASH128_HEX_BYTES];
        struct fixture fixture;
        uint64_t bytes;
        float *found;

        create(&fixture, *state, "moments");
        put(&fixture, pieces[i]);
        assert_int_equal(cllm_tensor_file_read_back(&fixture.file, &digest), 0);
        assert_string_equal(digest.name, "moments");
        assert_int_equal(cllm_file_hash128(fixture.file.path, hex, &bytes), 0);
        assert_string_equal(digest.hash, hex);
        assert_int_equal(digest.bytes, bytes);

        found = malloc(N_ELEMENTS * sizeof *found);
        assert_non_null(found);
        assert_int_equal(cllm_safetensors_open(&st, fixture.file.path), 0);
        for (size_t part = 0; part < 2; part++) {
            for (size_t t = 0, at = 0; t < CLLM_LEN(tensors); at += tensors[t++].count) {
                const struct cllm_safetensors_tensor *tensor =
                    cllm_safetensors_find(&st, names[part][t]);

                assert_non_null(tensor);
                assert_int_equal(
                    cllm_safetensors_read(&st, tensor, 0, tensors[t].count, found + at),
                    0);
            }
            assert_memory_equal(found, fixture.values + part * N_ELEMENTS,
                                N_ELEMENTS * sizeof *found);
        }
        cllm_safetensors_close(&st);
        free(found);
        assert_int_equal(unlink(fixture.file.path), 0);
        end(&fixture);
    }
}

/* A byte that the disk changes, anywhere. */
static void what_the_disk_changes_is_found(void **state)
{
    struct fixture fixture;
    struct cllm_checkpoint_digest digest;
    uint64_t places[6];

    create(&fixture, *state, "moments");
    put(&fixture, 65536);
    places[0] = 0;
    places[1] = fixture.file.plan.header_bytes - 1;
    places[2] = fixture.file.part[0].begin;
    places[3] = fixture.file.part[0].end - 1;
    places[4] = fixture.file.part[1].begin;
    places[5] = fixture.file.part[1].end - 1;
    for (size_t i = 0; i < CLLM_LEN(places); i++) {
        uint8_t byte;

        assert_int_equal(pread(fixture.file.fd, &byte, 1, (off_t)places[i]), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fixture.file.fd, &byte, 1, (off_t)places[i]), 1);
        assert_int_equal(cllm_tensor_file_read_back(&fixture.file, &digest), -EIO);
        assert_non_null(strstr(cllm_err_text(), "reads back differently"));
        byte ^= 0x10;
        assert_int_equal(pwrite(fixture.file.fd, &byte, 1, (off_t)places[i]), 1);
        assert_int_equal(cllm_tensor_file_read_back(&fixture.file, &digest), 0);
    }
    assert_int_equal(ftruncate(fixture.file.fd, (off_t)places[5]), 0);
    assert_int_equal(cllm_tensor_file_read_back(&fixture.file, &digest), CLLM_EDATA);
    end(&fixture);
}

static void a_name_that_is_taken_leaves_nothing_open(void **state)
{
    struct cllm_safetensors_plan plan;
    struct cllm_tensor_file file;

    put_file(in(*state, "moments"), "x", 1);
    assert_int_equal(cllm_safetensors_plan_moments(&plan, tensors, CLLM_LEN(tensors)), 0);
    assert_int_equal(cllm_tensor_file_create(&file, *state, "moments", &plan, 2),
                     -EEXIST);
    assert_false(file.is_open);
    assert_int_equal(cllm_tensor_file_close(&file), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(pieces_make_the_file),
        T(what_the_disk_changes_is_found),
        T(a_name_that_is_taken_leaves_nothing_open),
    };

    return cmocka_run_group_tests_name("tensor_file", tests, NULL, NULL);
}
