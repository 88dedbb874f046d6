/*
 * tests/test_reader.c - retries, checks and the ladder, with a method that fails to
 * order; and the real methods on real files.
 */
#include "loader/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/log.h"

#define FILE_BYTES 20011

struct fixture {
    char path[256];
    int fd;
    struct cllm_reader_file file;
    uint8_t bytes[FILE_BYTES];
};

static int set_up(void **state)
{
    static struct fixture fixture;
    const char *tmp = getenv("TMPDIR");

    (void)snprintf(fixture.path, sizeof fixture.path, "%s/cllm-reader-XXXXXX",
                   tmp ? tmp : "/tmp");
    fixture.fd = mkstemp(fixture.path);
    assert_true(fixture.fd >= 0);
    for (size_t i = 0; i < FILE_BYTES; i++)
        fixture.bytes[i] = (uint8_t)(i * 7 + i / 256);
    assert_int_equal(write(fixture.fd, fixture.bytes, FILE_BYTES), FILE_BYTES);
    fixture.file = (struct cllm_reader_file){
        .path = fixture.path, .fd = fixture.fd, .bytes = FILE_BYTES};
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    (void)close(fixture->fd);
    return unlink(fixture->path);
}

/* ---- a method that does as it is told ---- */

static struct {
    int open_rc;
    int32_t result; /* of the next n_bad reads; 0 = a short read of 10 bytes */
    uint32_t n_bad;
    bool wrong_bytes_registered; /* as a kernel with a bug in registered buffers */
    bool refuse_direct;
    uint32_t n_opened, n_closed;
    struct cllm_read *queued[CLLM_READER_DEPTH_MAX];
    uint32_t n_queued;
} script;

static int script_open(struct cllm_reader *reader)
{
    if (script.open_rc != 0)
        return cllm_err(script.open_rc, "the script is not to be had");
    reader->registered_buffers = reader->register_all;
    script.n_opened++;
    return 0;
}

static void script_queue(struct cllm_reader *reader, struct cllm_read *read)
{
    assert_true(script.n_queued < reader->depth);
    script.queued[script.n_queued++] = read;
}

static int script_reap(struct cllm_reader *reader, struct cllm_read **done,
                       uint32_t *n_done)
{
    /* The newest first: order must not matter. */
    struct cllm_read *read = script.queued[--script.n_queued];

    read->result = (int32_t)pread(reader->file[read->file].fd, read->buffer,
                                  read->io_bytes, (off_t)read->io_offset);
    if (script.wrong_bytes_registered && reader->registered_buffers)
        read->buffer[3] ^= 1;
    if (script.refuse_direct && reader->direct)
        read->result = -EINVAL;
    if (script.n_bad > 0) {
        script.n_bad--;
        read->result = script.result != 0 ? script.result : 10;
    }
    done[0] = read;
    *n_done = 1;
    return 0;
}

static void script_close(struct cllm_reader *reader)
{
    (void)reader;
    script.n_queued = 0;
    script.n_closed++;
}

static const struct cllm_reader_method script_method = {
    .name = "script",
    .open = script_open,
    .queue = script_queue,
    .reap = script_reap,
    .close = script_close,
};

static struct cllm_reader_plan plan_of(const struct fixture *fixture,
                                       const struct cllm_reader_method *method)
{
    memset(&script, 0, sizeof script);
    return (struct cllm_reader_plan){
        .method = {method, NULL},
        .file = &fixture->file,
        .n_files = 1,
        .max_bytes = 100,
        .depth = 4,
        .direct = CLLM_READER_DIRECT_NO,
    };
}

/* Read one range and compare. */
static int read_one(struct cllm_reader *reader, const struct fixture *fixture,
                    uint64_t offset, uint32_t bytes)
{
    struct cllm_read *done[CLLM_READER_DEPTH_MAX];
    uint32_t n_done;
    int rc;

    cllm_reader_submit(reader, 0, offset, bytes, 77, 5);
    rc = cllm_reader_wait(reader, done, &n_done);
    if (rc != 0)
        return rc;
    assert_int_equal(n_done, 1);
    assert_int_equal(done[0]->batch, 77);
    assert_int_equal(done[0]->row, 5);
    assert_memory_equal(done[0]->data, fixture->bytes + offset, bytes);
    cllm_reader_release(reader, done[0]);
    return 0;
}

static void failures_are_forgiven_three_times(void **state)
{
    static const struct {
        int32_t result;
        uint32_t n_bad;
        int rc;
        const char *text;
    } row[] = {
        {-EIO, 3, 0, NULL},
        {-EIO, 4, -EIO, "at offset 19000 (90 bytes, 4 tries): Input/output error"},
        {0, 3, 0, NULL},
        {0, 4, CLLM_EDATA, "at offset 19000 expected 90 bytes, found 10"},
        {-EINTR, 500, 0, NULL},
        {-EAGAIN, 500, 0, NULL},
        {-EAGAIN, 5000, -EAGAIN, "at offset 19000"},
    };
    const struct fixture *fixture = *state;

    for (size_t i = 0; i < CLLM_LEN(row); i++) {
        struct cllm_reader_plan plan = plan_of(fixture, &script_method);
        struct cllm_reader reader;

        assert_int_equal(cllm_reader_open(&reader, &plan), 0);
        script.result = row[i].result;
        script.n_bad = row[i].n_bad;
        assert_int_equal(read_one(&reader, fixture, 19000, 90), row[i].rc);
        if (row[i].rc == 0) {
            assert_int_equal(reader.retries, row[i].n_bad);
        } else {
            assert_non_null(strstr(cllm_err_text(), row[i].text));
            assert_non_null(strstr(cllm_err_text(), fixture->path));
        }
        cllm_reader_close(&reader);
        assert_int_equal(script.n_closed, script.n_opened);
    }
}

static void what_does_not_work_is_given_up(void **state)
{
    struct fixture *fixture = *state;
    struct cllm_reader_plan plan = plan_of(fixture, &script_method);
    struct cllm_reader reader;
    char text[CLLM_READER_TEXT];

    /* Registered buffers that bring wrong bytes. */
    script.wrong_bytes_registered = true;
    assert_int_equal(cllm_reader_open(&reader, &plan), 0);
    cllm_reader_describe(&reader, text);
    assert_string_equal(text, "script, buffered, 4 deep, plain reads");
    assert_int_equal(read_one(&reader, fixture, 5, 100), 0);
    cllm_reader_close(&reader);

    /* O_DIRECT that opens and does not read. */
    plan = plan_of(fixture, &script_method);
    plan.direct = CLLM_READER_DIRECT_YES;
    script.refuse_direct = true;
    assert_int_equal(cllm_reader_open(&reader, &plan), 0);
    cllm_reader_describe(&reader, text);
    assert_string_equal(text, "script, buffered, 4 deep, registered buffers");
    assert_false(reader.direct);
    cllm_reader_close(&reader);

    /* The whole method, with and without another one. */
    plan = plan_of(fixture, &script_method);
    plan.method[1] = &cllm_reader_pread;
    script.open_rc = -EPERM;
    assert_int_equal(cllm_reader_open(&reader, &plan), 0);
    cllm_reader_describe(&reader, text);
    assert_string_equal(text, "pread, buffered (script: Operation not permitted)");
    assert_int_equal(read_one(&reader, fixture, 5, 100), 0);
    cllm_reader_close(&reader);
    plan.method[1] = NULL;
    assert_int_equal(cllm_reader_open(&reader, &plan), -EPERM);
    assert_null(reader.method);
}

static void a_file_that_is_short_from_the_start_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct cllm_reader_file longer = fixture->file;
    struct cllm_reader_plan plan = plan_of(fixture, &cllm_reader_pread);
    struct cllm_reader reader;

    longer.bytes += 30;
    plan.file = &longer;
    assert_int_equal(cllm_reader_open(&reader, &plan), CLLM_EDATA);
    assert_non_null(strstr(cllm_err_text(), "expected 100 bytes, found 70"));
    assert_non_null(strstr(cllm_err_text(), fixture->path));
}

/* ---- the real methods ---- */

static void check_many(struct cllm_reader *reader, const struct fixture *fixture)
{
    struct cllm_read *done[CLLM_READER_DEPTH_MAX];
    uint32_t submitted = 0, ended = 0, n_done;
    const uint32_t total = 500;

    while (ended < total) {
        while (submitted < total && cllm_reader_room(reader) > 0) {
            /* every alignment, and again and again the last byte of the file */
            uint32_t bytes = 1 + submitted * 37 % 100;
            uint64_t offset = submitted % 5 == 0
                                  ? FILE_BYTES - bytes
                                  : submitted * UINT64_C(7919) % (FILE_BYTES - 100);

            cllm_reader_submit(reader, 0, offset, bytes, submitted++, 0);
        }
        assert_int_equal(cllm_reader_wait(reader, done, &n_done), 0);
        for (uint32_t i = 0; i < n_done; i++) {
            assert_int_equal(done[i]->bytes, 1 + done[i]->batch * 37 % 100);
            assert_memory_equal(done[i]->data, fixture->bytes + done[i]->offset,
                                done[i]->bytes);
            cllm_reader_release(reader, done[i]);
        }
        ended += n_done;
    }
    assert_int_equal(cllm_reader_room(reader), reader->depth);
}

/* Can the directory of the tests do O_DIRECT at all? Asked without the reader. */
static bool direct_works(const struct fixture *fixture)
{
    void *page = aligned_alloc(CLLM_PAGE, CLLM_PAGE);
    int fd = open(fixture->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    bool works = page && fd >= 0 && pread(fd, page, CLLM_PAGE, 0) == CLLM_PAGE;

    if (fd >= 0)
        (void)close(fd);
    free(page);
    return works;
}

static void every_method_reads_any_range(void **state)
{
    static const uint32_t depths[] = {1, 3, 32, 128};
    const struct fixture *fixture = *state;

    for (size_t i = 0; i < 4 * CLLM_LEN(depths); i++) {
        struct cllm_reader_plan plan =
            plan_of(fixture, i & 1 ? &cllm_reader_uring : &cllm_reader_pread);
        struct cllm_reader reader;
        char text[CLLM_READER_TEXT];

        plan.method[1] = &cllm_reader_pread; /* where io_uring is not allowed */
        plan.direct = i & 2 ? CLLM_READER_DIRECT_YES : CLLM_READER_DIRECT_NO;
        plan.depth = depths[i / 4];
        assert_int_equal(cllm_reader_open(&reader, &plan), 0);
        assert_int_equal(reader.direct, (i & 2) && direct_works(fixture));
        cllm_reader_describe(&reader, text);
        print_message("           %s\n", text);
        check_many(&reader, fixture);
        cllm_reader_close(&reader);
    }
}

static void a_file_that_shrinks_is_noticed_by_every_method(void **state)
{
    struct fixture *fixture = *state;

    for (int i = 0; i < 4; i++) {
        struct cllm_reader_plan plan =
            plan_of(fixture, i & 1 ? &cllm_reader_uring : &cllm_reader_pread);
        struct cllm_reader reader;

        plan.method[1] = &cllm_reader_pread;
        plan.direct = i & 2 ? CLLM_READER_DIRECT_YES : CLLM_READER_DIRECT_NO;
        assert_int_equal(cllm_reader_open(&reader, &plan), 0);
        assert_int_equal(ftruncate(fixture->fd, 15017), 0);
        assert_int_equal(read_one(&reader, fixture, 14917, 100), 0);
        assert_int_equal(read_one(&reader, fixture, 15000, 100), CLLM_EDATA);
        assert_non_null(strstr(cllm_err_text(), "offset 15000 expected 100 bytes, "
                                                "found 17"));
        assert_int_equal(reader.retries, 3);
        cllm_reader_close(&reader);
        assert_int_equal(pwrite(fixture->fd, fixture->bytes, FILE_BYTES, 0), FILE_BYTES);
    }
}

static void reads_in_flight_do_not_outlive_the_reader(void **state)
{
    const struct fixture *fixture = *state;
    struct cllm_reader_plan plan = plan_of(fixture, &cllm_reader_uring);
    struct cllm_reader reader;

    plan.method[1] = &cllm_reader_pread;
    plan.direct = CLLM_READER_DIRECT_YES;
    for (int round = 0; round < 20; round++) {
        assert_int_equal(cllm_reader_open(&reader, &plan), 0);
        for (uint32_t i = 0; i < plan.depth; i++)
            cllm_reader_submit(&reader, 0, i * 1000, 100, i, 0);
        cllm_reader_close(&reader); /* unmaps the staging memory */
    }
    cllm_reader_close(&reader); /* a closed reader may be closed again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_are_forgiven_three_times),
        cmocka_unit_test(what_does_not_work_is_given_up),
        cmocka_unit_test(a_file_that_is_short_from_the_start_is_refused),
        cmocka_unit_test(every_method_reads_any_range),
        cmocka_unit_test(a_file_that_shrinks_is_noticed_by_every_method),
        cmocka_unit_test(reads_in_flight_do_not_outlive_the_reader),
    };

    cllm_log_init("test", CLLM_LOG_ERROR);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
