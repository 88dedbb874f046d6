/*
 * tests/test_unpack.c - plain, gzip and zstd files as streams of bytes.
 */
#include "tests/formats_temp.h"

#include <fcntl.h>

#include "formats/unpack.h"
#include "tests/packed.h"

#define ROOM 70000

static uint8_t text[ROOM];

/* All of file @path, read @step bytes at a time, into @out; *@n is how many. */
static int unpack_file(const char *path, size_t step, uint8_t *out, size_t *n)
{
    struct cllm_unpack unpack;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t got = 1;

    assert_true(fd >= 0);
    *n = 0;
    int rc = cllm_unpack_open(&unpack, fd, path);
    assert_int_equal(rc, 0);
    while (rc == 0 && got > 0) {
        rc = cllm_unpack_read(&unpack, out + *n, step, &got);
        *n += got;
    }
    if (rc == 0) {
        assert_int_equal(unpack.given, *n);
        assert_int_equal(cllm_unpack_read(&unpack, out, step, &got), 0);
        assert_int_equal(got, 0); /* the end stays the end */
    }
    cllm_unpack_close(&unpack);
    cllm_unpack_close(&unpack);
    (void)close(fd);
    return rc;
}

static void fill_text(void)
{
    for (size_t i = 0; i < ROOM; i++)
        text[i] = (uint8_t)('a' + i * i % 23);
}

static void each_kind_gives_the_bytes_again(void **state)
{
    static const size_t sizes[] = {0, 1, 3, 1000, 65535};
    static const size_t steps[] = {1, 7, 4096, ROOM};
    static uint8_t file[ROOM], out[2 * ROOM];

    fill_text();
    for (size_t kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i < CLLM_LEN(sizes) * CLLM_LEN(steps); i++) {
            size_t size = sizes[i / CLLM_LEN(steps)];
            size_t n = kind == 0   ? size
                       : kind == 1 ? packed_gzip(file, text, size)
                                   : packed_zstd(file, text, size);
            if (kind == 0)
                memcpy(file, text, size);
            put_file(in(*state, "f"), file, n);
            size_t got = 0;
            int rc = unpack_file(in(*state, "f"), steps[i % CLLM_LEN(steps)], out, &got);
            assert_int_equal(rc, 0);
            assert_int_equal(got, size);
            assert_memory_equal(out, text, size);
        }
    }
}

static void streams_behind_one_another_are_one(void **state)
{
    static uint8_t file[ROOM], out[2 * ROOM];
    size_t got = 0;

    fill_text();
    size_t n = packed_gzip(file, text, 1000);
    n += packed_gzip(file + n, text + 1000, 500);
    memset(file + n, 0, 512); /* padding, as tar leaves it */
    put_file(in(*state, "gz"), file, n + 512);
    assert_int_equal(unpack_file(in(*state, "gz"), 100, out, &got), 0);
    assert_int_equal(got, 1500);
    assert_memory_equal(out, text, 1500);
    n = packed_zstd(file, text, 1000);
    n += packed_zstd(file + n, text + 1000, 500);
    put_file(in(*state, "zst"), file, n);
    assert_int_equal(unpack_file(in(*state, "zst"), 100, out, &got), 0);
    assert_int_equal(got, 1500);
    assert_memory_equal(out, text, 1500);
}

static void a_stream_cut_short_anywhere_is_refused(void **state)
{
    static uint8_t file[ROOM], out[ROOM];

    fill_text();
    for (size_t kind = 0; kind < 2; kind++) {
        size_t whole =
            kind == 0 ? packed_gzip(file, text, 300) : packed_zstd(file, text, 300);
        for (size_t n = kind == 0 ? 2 : 4; n < whole; n++) {
            size_t got = 0;
            put_file(in(*state, "f"), file, n);
            assert_int_equal(unpack_file(in(*state, "f"), 64, out, &got), CLLM_EDATA);
            assert_error_says(kind == 0 ? "gzip stream is cut short"
                                        : "zstd stream is cut short");
            assert_memory_equal(out, text, got);
        }
    }
}

static void a_damaged_stream_is_refused(void **state)
{
    static const char junk[] = {'j', 'u', 'n', 'k'};
    static uint8_t file[ROOM], out[ROOM];
    size_t got = 0;

    fill_text();
    size_t n = packed_gzip(file, text, 300);
    file[100] ^= 1; /* the checksum finds it */
    put_file(in(*state, "gz"), file, n);
    assert_int_equal(unpack_file(in(*state, "gz"), 64, out, &got), CLLM_EDATA);
    assert_error_says("gzip stream is damaged");
    n = packed_gzip(file, text, 300);
    memcpy(file + n, junk, sizeof junk);
    put_file(in(*state, "gz"), file, n + sizeof junk);
    assert_int_equal(unpack_file(in(*state, "gz"), 64, out, &got), CLLM_EDATA);
    assert_error_says("behind the gzip stream");
    n = packed_zstd(file, text, 300);
    file[9] |= 6; /* a reserved type of block */
    put_file(in(*state, "zst"), file, n);
    assert_int_equal(unpack_file(in(*state, "zst"), 64, out, &got), CLLM_EDATA);
    assert_error_says("zstd stream is damaged");
    n = packed_zstd(file, text, 300);
    memcpy(file + n, junk, sizeof junk);
    put_file(in(*state, "zst"), file, n + sizeof junk);
    assert_int_equal(unpack_file(in(*state, "zst"), 64, out, &got), CLLM_EDATA);
}

/* A header that says 131 bytes, an empty block, then a frame of 560: libzstd notices the
 * first when it has room for it. */
static void what_is_damaged_does_not_depend_on_the_room(void **state)
{
    static const uint8_t file[] = {0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x83, 1,    0, 0, 0x28,
                                   0xb5, 0x2f, 0xfd, 0,    0,    0x83, 0x11, 0, 1};
    static const size_t steps[] = {1, 40, 130, 131, 4096, ROOM};
    static uint8_t out[2 * ROOM];
    size_t got = 0;

    put_file(in(*state, "zst"), file, sizeof file);
    int first = unpack_file(in(*state, "zst"), steps[0], out, &got);
    for (size_t i = 1; i < CLLM_LEN(steps); i++)
        assert_int_equal(unpack_file(in(*state, "zst"), steps[i], out, &got), first);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(each_kind_gives_the_bytes_again),
        T(streams_behind_one_another_are_one),
        T(a_stream_cut_short_anywhere_is_refused),
        T(a_damaged_stream_is_refused),
        T(what_is_damaged_does_not_depend_on_the_room),
    };

    return cmocka_run_group_tests_name("unpack", tests, NULL, NULL);
}
