/*
 * tests/test_direct.c - transfers past the page cache: any bytes at any place, and what
 * happens where the file system refuses.
 */
#include "tests/formats_temp.h"

#include <errno.h>
#include <fcntl.h>

#include "base/fault.h"
#include "formats/direct.h"

#define FILE_BYTES ((size_t)10 * CLLM_PAGE + 123)

struct fixture {
    char path[CLLM_FILE_PATH_BYTES];
    int fd;
    struct cllm_direct direct;
    uint8_t *expected; /* the file's bytes */
    uint8_t *memory;   /* of a transfer, at the beginning of a page */
};

static void begin(struct fixture *fixture, const char *dir)
{
    size_t bytes = cllm_align_up(FILE_BYTES, CLLM_PAGE) + CLLM_PAGE;

    (void)snprintf(fixture->path, sizeof fixture->path, "%s/file", dir);
    fixture->fd = open(fixture->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    assert_true(fixture->fd >= 0);
    assert_int_equal(ftruncate(fixture->fd, (off_t)FILE_BYTES), 0);
    fixture->expected = calloc(1, FILE_BYTES);
    fixture->memory = aligned_alloc(CLLM_PAGE, bytes);
    assert_non_null(fixture->expected);
    assert_non_null(fixture->memory);
    cllm_direct_begin(&fixture->direct, fixture->fd, fixture->path);
}

static void end(struct fixture *fixture)
{
    cllm_direct_end(&fixture->direct);
    assert_int_equal(close(fixture->fd), 0);
    free(fixture->expected);
    free(fixture->memory);
}

static void put(struct fixture *fixture, size_t off, size_t bytes, uint8_t seed)
{
    uint8_t *data = fixture->memory + off % CLLM_PAGE;

    for (size_t i = 0; i < bytes; i++)
        fixture->expected[off + i] = data[i] = (uint8_t)(seed + i * 7);
    assert_int_equal(cllm_direct_pwrite(&fixture->direct, data, bytes, off), 0);
}

/* Is the file what it should be, both ways? */
static void compare(struct fixture *fixture)
{
    memset(fixture->memory, 0xa5, FILE_BYTES);
    assert_int_equal(cllm_direct_pread(&fixture->direct, fixture->memory, FILE_BYTES, 0),
                     0);
    assert_memory_equal(fixture->memory, fixture->expected, FILE_BYTES);
    memset(fixture->memory, 0x5a, FILE_BYTES);
    assert_int_equal(pread(fixture->fd, fixture->memory, FILE_BYTES, 0), FILE_BYTES);
    assert_memory_equal(fixture->memory, fixture->expected, FILE_BYTES);
}

static void any_range_goes_both_ways(void **state)
{
    static const struct {
        size_t off, bytes;
    } ranges[] = {{0, CLLM_PAGE},
                  {0, 1},
                  {CLLM_PAGE - 1, 2},
                  {CLLM_PAGE, 3 * CLLM_PAGE},
                  {100, 50},
                  {100, 2 * CLLM_PAGE},
                  {5 * CLLM_PAGE - 1, CLLM_PAGE + 1},
                  {7 * CLLM_PAGE, FILE_BYTES - (size_t)7 * CLLM_PAGE},
                  {0, 0},
                  {0, FILE_BYTES}};
    struct fixture fixture = {.fd = -1};

    begin(&fixture, *state);
    for (size_t i = 0; i < CLLM_LEN(ranges); i++) {
        put(&fixture, ranges[i].off, ranges[i].bytes, (uint8_t)(31 * i));
        compare(&fixture);
        for (size_t j = 0; j < CLLM_LEN(ranges); j++) {
            uint8_t *data = fixture.memory + ranges[j].off % CLLM_PAGE;

            assert_int_equal(
                cllm_direct_pread(&fixture.direct, data, ranges[j].bytes, ranges[j].off),
                0);
            assert_memory_equal(data, fixture.expected + ranges[j].off, ranges[j].bytes);
        }
    }
    end(&fixture);
}

static void memory_that_lies_otherwise_goes_through_the_cache(void **state)
{
    struct fixture fixture = {.fd = -1};

    begin(&fixture, *state);
    for (size_t i = 0; i < (size_t)2 * CLLM_PAGE; i++)
        fixture.expected[CLLM_PAGE + i] = fixture.memory[8 + i] = (uint8_t)(i * 3);
    assert_int_equal(cllm_direct_pwrite(&fixture.direct, fixture.memory + 8,
                                        (size_t)2 * CLLM_PAGE, CLLM_PAGE),
                     0);
    compare(&fixture);
    end(&fixture);
}

/* tmpfs of old kernels, network file systems: open() refuses, or the first transfer. */
static void what_refuses_is_served_through_the_cache(void **state)
{
    /* The second one stops within blocks of any size, and cannot go on there. */
    static const char *const faults[] = {"file_pwrite:errno=EINVAL",
                                         "file_pwrite:short:1*12"};
    struct fixture fixture = {.fd = -1};

    begin(&fixture, *state);
    cllm_direct_end(&fixture.direct); /* as if open() had refused */
    put(&fixture, 10, (size_t)4 * CLLM_PAGE, 1);
    compare(&fixture);
    cllm_direct_begin(&fixture.direct, fixture.fd, fixture.path);
    for (size_t i = 0; i < CLLM_LEN(faults) && fixture.direct.direct_fd >= 0; i++) {
        assert_int_equal(cllm_fault_arm(NULL, faults[i]), 1);
        put(&fixture, 0, (size_t)4 * CLLM_PAGE, (uint8_t)(2 + i));
        assert_int_equal(cllm_fault_arm(NULL, ""), 0);
        assert_int_equal(fixture.direct.direct_fd, -1);
        compare(&fixture);
        cllm_direct_begin(&fixture.direct, fixture.fd, fixture.path);
    }
    end(&fixture);
}

/* What the page cache refuses is nobody else's to do. */
static void an_error_of_the_cache_stays_one(void **state)
{
    static const size_t bytes[] = {100, (size_t)3 * CLLM_PAGE};
    struct fixture fixture = {.fd = -1};

    begin(&fixture, *state);
    for (size_t i = 0; i < CLLM_LEN(bytes); i++) {
        assert_int_equal(cllm_fault_arm(NULL, "file_pwrite:errno=EINVAL"), 1);
        assert_int_equal(
            cllm_direct_pwrite(&fixture.direct, fixture.memory + 10, bytes[i], 10),
            -EINVAL);
        assert_int_equal(cllm_fault_arm(NULL, ""), 0);
    }
    compare(&fixture);
    end(&fixture);
}

static void a_file_that_ends_too_soon_is_said(void **state)
{
    struct fixture fixture = {.fd = -1};

    begin(&fixture, *state);
    assert_int_equal(
        cllm_direct_pread(&fixture.direct, fixture.memory, FILE_BYTES + 1, 0),
        CLLM_EDATA);
    assert_non_null(strstr(cllm_err_text(), "ends too soon"));
    end(&fixture);
}

#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(any_range_goes_both_ways),
        T(memory_that_lies_otherwise_goes_through_the_cache),
        T(what_refuses_is_served_through_the_cache),
        T(an_error_of_the_cache_stays_one),
        T(a_file_that_ends_too_soon_is_said),
    };

    return cmocka_run_group_tests_name("direct", tests, NULL, NULL);
}
