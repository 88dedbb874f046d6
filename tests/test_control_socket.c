/*
 * tests/test_control_socket.c - clients of every kind: honest, silent, garbled, too many,
 * gone before the answer, of another user.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/local_socket.h"
#include "base/random.h"
#include "coordinator/control_socket.h"

static char directory[512];
static struct cllm_control_socket control;
static struct cllm_control_socket_request last; /* that reached the run */
static uint32_t n_asked;

static json_t *answer(void *ctx, const struct cllm_control_socket_request *request)
{
    assert_ptr_equal(ctx, &control);
    last = *request;
    n_asked++;
    return json_pack("{s:b, s:I}", "ok", 1, "number", (json_int_t)request->number);
}

static void tend(uint64_t now_ns)
{
    cllm_control_socket_tend(&control, now_ns, answer, &control);
}

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    n_asked = 0;
    (void)snprintf(directory, sizeof directory, "%s/cllm-control.XXXXXX",
                   tmp ? tmp : "/tmp");
    if (!mkdtemp(directory))
        return -1;
    return cllm_control_socket_open(&control, directory);
}

static int teardown(void **state)
{
    (void)state;
    cllm_control_socket_close(&control);
    return rmdir(directory); /* empty: the file is gone */
}

static int join(void)
{
    int fd = cllm_local_socket_connect(directory, CLLM_CONTROL_SOCKET_NAME, 1000);

    assert_true(fd >= 0);
    return fd;
}

/* Everything up to the end of the stream; the client is closed. Length of @out. */
static size_t hear(int fd, char out[4096])
{
    size_t used = 0;
    ssize_t n;

    while ((n = recv(fd, out + used, 4095 - used, 0)) > 0)
        used += (size_t)n;
    out[used] = '\0';
    (void)close(fd);
    return used;
}

/* Send @bytes of @text, let the server have three turns, return the answer. */
static json_t *ask(const char *text, size_t bytes)
{
    int fd = join();
    char out[4096];
    json_t *json = NULL;
    size_t n;

    assert_int_equal(send(fd, text, bytes, MSG_NOSIGNAL), bytes);
    (void)shutdown(fd, SHUT_WR);
    for (uint64_t i = 0; i < 3; i++)
        tend(i);
    n = hear(fd, out);
    if (n > 0)
        assert_int_equal(cllm_json_parse(out, n, "answer", &json), 0);
    return json;
}

static void every_command_is_understood(void **state)
{
    static const struct {
        const char *line;
        enum cllm_control_socket_command command;
        uint64_t number;
    } lines[] = {
        {"status\n", CLLM_CONTROL_STATUS, 0},
        {"workers 7\n", CLLM_CONTROL_WORKERS, 7},
        {"workers 0\n", CLLM_CONTROL_WORKERS, 0},
        {"workers 18446744073709551615\n", CLLM_CONTROL_WORKERS, UINT64_MAX},
        {"  checkpoint  \r\n", CLLM_CONTROL_CHECKPOINT, 0},
        {"pause\n", CLLM_CONTROL_PAUSE, 0},
        {"resume\n", CLLM_CONTROL_RESUME, 0},
        {"stop\nstatus\n", CLLM_CONTROL_STOP, 0}, /* the first line counts */
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(lines); i++) {
        json_t *json = ask(lines[i].line, strlen(lines[i].line));

        assert_true(json_is_true(json_object_get(json, "ok")));
        assert_int_equal(last.command, lines[i].command);
        assert_int_equal(last.number, lines[i].number);
        assert_int_equal(n_asked, i + 1);
        json_decref(json);
    }
}

static void what_is_not_a_command_is_refused(void **state)
{
    char full[CLLM_CONTROL_SOCKET_LINE + 1], longer[CLLM_CONTROL_SOCKET_LINE + 100];
    const struct {
        const char *text;
        size_t bytes;
        const char *says;
    } lines[] = {
        {"\n", 1, "empty"},
        {"   \r\n", 5, "empty"},
        {"status", 6, "does not end"},
        {"statu\n", 6, "no such command: statu"},
        {"STATUS\n", 7, "no such command"},
        {"status now\n", 11, "unexpected argument now"},
        {"workers\n", 8, "number is missing"},
        {"workers -1\n", 11, "not a whole number"},
        {"workers +1\n", 11, "not a whole number"},
        {"workers 1.5\n", 12, "not a whole number"},
        {"workers 2x\n", 11, "not a whole number"},
        {"workers 1 2\n", 12, "unexpected argument 2"},
        {"workers 18446744073709551616\n", 29, "not a whole number"},
        {"status\0\n", 8, "ASCII"},
        {"st\xc3\xa4tus\n", 8, "ASCII"},
        {"\xff\xfe\n", 3, "ASCII"},
        {"status\tnow\n", 11, "ASCII"},
        {full, sizeof full, "at most 256 bytes"},
        {longer, sizeof longer, "at most 256 bytes"},
    };

    (void)state;
    memset(full, 'x', sizeof full);
    full[sizeof full - 1] = '\n'; /* one byte too far */
    memset(longer, 'y', sizeof longer);
    for (size_t i = 0; i < CLLM_LEN(lines); i++) {
        json_t *json = ask(lines[i].text, lines[i].bytes);
        const char *error = json_string_value(json_object_get(json, "error"));

        assert_true(json_is_false(json_object_get(json, "ok")));
        assert_true(json_is_true(json_object_get(json, "usage")));
        assert_non_null(error);
        if (!strstr(error, lines[i].says))
            fail_msg("line %zu: \"%s\" does not say \"%s\"", i, error, lines[i].says);
        json_decref(json);
    }
    assert_int_equal(n_asked, 0);
}

static void a_line_may_come_byte_by_byte(void **state)
{
    static const char line[] = "workers 12\n";
    int fd = join();
    char out[4096];

    (void)state;
    for (size_t i = 0; i < sizeof line - 1; i++) {
        tend(i);
        assert_int_equal(n_asked, 0);
        assert_int_equal(send(fd, line + i, 1, MSG_NOSIGNAL), 1);
    }
    tend(20);
    assert_int_equal(n_asked, 1);
    assert_int_equal(last.number, 12);
    assert_true(hear(fd, out) > 0);
}

static void who_does_not_ask_in_time_is_let_go(void **state)
{
    int silent = join(), slow = join();
    char out[4096];

    (void)state;
    tend(1000);
    assert_int_equal(send(slow, "stat", 4, MSG_NOSIGNAL), 4);
    tend(1000 + CLLM_CONTROL_SOCKET_NS - 1);
    assert_int_equal(recv(silent, out, 1, MSG_DONTWAIT), -1); /* still there */
    tend(1000 + CLLM_CONTROL_SOCKET_NS);
    assert_int_equal(hear(silent, out), 0);
    assert_int_equal(hear(slow, out), 0);
    assert_int_equal(n_asked, 0);
}

static void a_client_that_is_gone_harms_nobody(void **state)
{
    int fd;

    (void)state;
    for (uint32_t i = 0; i < 50; i++) {
        fd = join();
        if (i % 2)
            assert_int_equal(send(fd, "status\n", i % 7 + 1, MSG_NOSIGNAL), i % 7 + 1);
        if (i % 3 == 0)
            tend(i);
        (void)close(fd); /* before the answer */
        tend(i);
        tend(i);
    }
    json_decref(ask("status\n", 7));
    assert_int_equal(last.command, CLLM_CONTROL_STATUS);
    for (uint32_t i = 0; i < CLLM_CONTROL_SOCKET_CLIENTS; i++)
        assert_true(control.client[i].fd < 0);
}

/* More than are served at a time, half of them silent: the others wait, none is lost. */
static void many_clients_are_served_in_their_turn(void **state)
{
    enum { N = 60 }; /* within the backlog, so that connecting does not block */
    int fd[N];
    char out[4096];
    uint64_t now = 1;
    uint32_t answered = 0;

    (void)state;
    for (uint32_t i = 0; i < N; i++) {
        fd[i] = join();
        if (i % 2)
            assert_int_equal(send(fd[i], "status\n", 7, MSG_NOSIGNAL), 7);
    }
    for (uint32_t turn = 0; turn < 100; turn++, now += CLLM_CONTROL_SOCKET_NS / 10)
        tend(now);
    for (uint32_t i = 0; i < N; i++)
        answered += hear(fd[i], out) > 0;
    assert_int_equal(answered, N / 2);
    assert_int_equal(n_asked, N / 2);
    json_decref(ask("pause\n", 6));
    assert_int_equal(n_asked, N / 2 + 1);
}

/* A full table must not leave the epoll set readable for ever: the owner would spin. */
static void a_full_table_is_silent(void **state)
{
    int fd[CLLM_CONTROL_SOCKET_CLIENTS + 4];

    (void)state;
    for (uint32_t i = 0; i < CLLM_LEN(fd); i++)
        fd[i] = join();
    tend(1);
    tend(2);
    assert_false(control.accepting);
    (void)close(fd[0]); /* one place is free again */
    tend(3);
    assert_true(control.accepting);
    for (uint32_t i = 1; i < CLLM_LEN(fd); i++)
        (void)close(fd[i]);
    for (uint64_t now = 4; now < 10; now++)
        tend(now);
    assert_true(control.accepting);
}

static void garbage_never_reaches_the_run(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 300; i++) {
        char bytes[400];
        size_t n = 1 + cllm_random_u64(7, CLLM_RANDOM_TEST, i) % sizeof bytes;

        for (size_t b = 0; b < n; b++)
            bytes[b] = (char)cllm_random_u64(i, CLLM_RANDOM_TEST, b);
        json_decref(ask(bytes, n));
    }
    assert_int_equal(n_asked, 0);
}

/* The mode of the file keeps others out; should it be changed, the kernel's word does. */
static void another_user_is_told_so(void **state)
{
    char path[600], out[4096];
    int status, both[2];
    pid_t pid;

    (void)state;
    if (geteuid() != 0)
        skip();
    (void)snprintf(path, sizeof path, "%s/%s", directory, CLLM_CONTROL_SOCKET_NAME);
    assert_int_equal(chmod(directory, 0777), 0);
    assert_int_equal(chdir(directory), 0);
    assert_int_equal(pipe(both), 0);
    for (uint32_t open_mode = 0; open_mode < 2; open_mode++) {
        if (open_mode)
            assert_int_equal(chmod(path, 0666), 0);
        pid = fork();
        if (pid == 0) {
            int fd = setgid(65534) == 0 && setuid(65534) == 0
                         ? cllm_local_socket_connect(".", CLLM_CONTROL_SOCKET_NAME, 1000)
                         : -1;
            size_t n;

            (void)!write(both[1], "c", 1);
            if (fd < 0)
                _exit(fd == -EACCES && !open_mode ? 0 : 1);
            (void)send(fd, "stop\n", 5, MSG_NOSIGNAL);
            n = hear(fd, out);
            _exit(open_mode && n > 0 && strstr(out, "another user") ? 0 : 2);
        }
        assert_int_equal(read(both[0], out, 1), 1);
        tend(1);
        tend(2);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    (void)close(both[0]);
    (void)close(both[1]);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(n_asked, 0);
}

static void the_file_goes_with_the_directory_that_was_opened(void **state)
{
    char elsewhere[600];

    (void)state;
    (void)snprintf(elsewhere, sizeof elsewhere, "%s.moved", directory);
    assert_int_equal(rename(directory, elsewhere), 0);
    assert_int_equal(mkdir(directory, 0700), 0);
    cllm_control_socket_close(&control);
    assert_int_equal(rmdir(elsewhere), 0);
    cllm_control_socket_tend(&control, 1, answer, &control); /* closed: nothing happens */
    cllm_control_socket_close(&control);
}

static void a_socket_needs_its_directory(void **state)
{
    struct cllm_control_socket none;

    (void)state;
    assert_int_equal(cllm_control_socket_open(&none, "/nowhere/at/all"), -ENOENT);
    assert_int_equal(none.epoll_fd, -1);
    cllm_control_socket_close(&none);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_command_is_understood),
        TEST(what_is_not_a_command_is_refused),
        TEST(a_line_may_come_byte_by_byte),
        TEST(who_does_not_ask_in_time_is_let_go),
        TEST(a_client_that_is_gone_harms_nobody),
        TEST(many_clients_are_served_in_their_turn),
        TEST(a_full_table_is_silent),
        TEST(garbage_never_reaches_the_run),
        TEST(another_user_is_told_so),
        TEST(the_file_goes_with_the_directory_that_was_opened),
        TEST(a_socket_needs_its_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
