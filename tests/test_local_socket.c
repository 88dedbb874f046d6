/*
 * tests/test_local_socket.c - sockets in directories: mode, stale files, long paths.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/local_socket.h"

static char directory[512];
static int dir_fd;

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    (void)snprintf(directory, sizeof directory, "%s/cllm-socket.XXXXXX",
                   tmp ? tmp : "/tmp");
    if (!mkdtemp(directory))
        return -1;
    dir_fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return dir_fd < 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlinkat(dir_fd, "it", 0);
    (void)close(dir_fd);
    return rmdir(directory);
}

static void a_socket_is_for_its_owner_alone(void **state)
{
    mode_t old = umask(0);
    int fd = cllm_local_socket_listen(dir_fd, "it");
    struct stat st;

    (void)state;
    (void)umask(old);
    assert_true(fd >= 0);
    assert_int_equal(fstatat(dir_fd, "it", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0600);
    (void)close(fd);
}

static void both_ends_can_talk_and_know_each_other(void **state)
{
    int listener = cllm_local_socket_listen(dir_fd, "it");
    int client = cllm_local_socket_connect(directory, "it", 1000);
    int server = accept(listener, NULL, NULL);
    char text[8] = "";
    uid_t uid = 12345;

    (void)state;
    assert_true(listener >= 0 && client >= 0 && server >= 0);
    assert_int_equal(write(client, "hello", 5), 5);
    assert_int_equal(read(server, text, sizeof text), 5);
    assert_string_equal(text, "hello");
    assert_true(cllm_local_socket_peer(server, &uid));
    assert_int_equal(uid, getuid());
    assert_false(cllm_local_socket_peer(dir_fd, &uid));
    (void)close(server);
    (void)close(client);
    (void)close(listener);
}

static void a_socket_left_behind_is_replaced(void **state)
{
    int first = cllm_local_socket_listen(dir_fd, "it"), second;

    (void)state;
    assert_true(first >= 0);
    (void)close(first);
    assert_int_equal(cllm_local_socket_connect(directory, "it", 1000), -ECONNREFUSED);
    second = cllm_local_socket_listen(dir_fd, "it");
    assert_true(second >= 0);
    first = cllm_local_socket_connect(directory, "it", 1000);
    assert_true(first >= 0);
    (void)close(first);
    (void)close(second);
}

static void a_file_in_the_way_is_not_removed(void **state)
{
    int file = openat(dir_fd, "it", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    (void)state;
    assert_int_equal(write(file, "mine", 4), 4);
    (void)close(file);
    assert_int_equal(cllm_local_socket_listen(dir_fd, "it"), -EEXIST);
    assert_non_null(strstr(cllm_err_text(), "no socket"));
    assert_int_equal(faccessat(dir_fd, "it", F_OK, 0), 0);
}

static void nobody_there_is_said(void **state)
{
    (void)state;
    assert_int_equal(cllm_local_socket_connect(directory, "it", 1000), -ENOENT);
    assert_int_equal(cllm_local_socket_connect("/nowhere/at/all", "it", 1000), -ENOENT);
}

/* Longer than any address of a socket. */
static void a_deep_directory_will_do(void **state)
{
    char deep[1024], name[101];
    int deep_fd, listener, client;

    (void)state;
    memset(name, 'd', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    (void)snprintf(deep, sizeof deep, "%s/%s", directory, name);
    assert_int_equal(mkdir(deep, 0700), 0);
    deep_fd = open(deep, O_PATH | O_DIRECTORY | O_CLOEXEC);
    listener = cllm_local_socket_listen(deep_fd, "it");
    assert_true(listener >= 0);
    client = cllm_local_socket_connect(deep, "it", 1000);
    assert_true(client >= 0);
    (void)close(client);
    (void)close(listener);
    assert_int_equal(unlinkat(deep_fd, "it", 0), 0);
    (void)close(deep_fd);
    assert_int_equal(rmdir(deep), 0);
}

/* A listener that accepts nobody keeps a client for as long as it said, no longer. */
static void a_client_does_not_wait_for_ever(void **state)
{
    int listener = cllm_local_socket_listen(dir_fd, "it");
    int client = cllm_local_socket_connect(directory, "it", 50);
    char byte;

    (void)state;
    assert_true(client >= 0);
    assert_int_equal(recv(client, &byte, 1, 0), -1);
    assert_int_equal(errno, EAGAIN);
    (void)close(client);
    (void)close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_socket_is_for_its_owner_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(both_ends_can_talk_and_know_each_other, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_socket_left_behind_is_replaced, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_file_in_the_way_is_not_removed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nobody_there_is_said, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deep_directory_will_do, setup, teardown),
        cmocka_unit_test_setup_teardown(a_client_does_not_wait_for_ever, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
