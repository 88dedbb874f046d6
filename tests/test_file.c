/*
 * tests/test_file.c - durable files.
 */
#include "tests/formats_temp.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/fault.h"

static void missing_parents_are_made(void **state)
{
    const char *deep = in(*state, "a/b//c/");
    struct stat st;

    assert_int_equal(cllm_file_mkdirs(deep), 0);
    assert_int_equal(cllm_file_mkdirs(deep), 0);
    assert_int_equal(stat(in(*state, "a/b/c"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
}

static void a_file_in_the_place_of_a_directory_is_refused(void **state)
{
    put_file(in(*state, "file"), "x", 1);
    assert_int_equal(cllm_file_mkdirs(in(*state, "file")), -ENOTDIR);
    assert_int_equal(cllm_file_mkdirs(in(*state, "file/below")), -ENOTDIR);
    assert_error_says("file");
    assert_int_equal(cllm_file_mkdirs(""), -ENOENT);
}

static void replace_writes_all_and_leaves_no_temporary_file(void **state)
{
    const char *path = in(*state, "file");
    size_t n = 0;

    assert_int_equal(cllm_file_replace(path, "old text", 8), 0);
    assert_int_equal(cllm_file_replace(path, "new", 3), 0);
    char *bytes = get_file(path, &n);
    assert_int_equal(n, 3);
    assert_string_equal(bytes, "new");
    free(bytes);
    assert_int_equal(access(in(*state, "file.tmp"), F_OK), -1);
}

static void a_failed_replace_keeps_the_old_file(void **state)
{
    const char *path = in(*state, "file");
    size_t n = 0;

    assert_int_equal(cllm_file_replace(path, "old", 3), 0);
    assert_int_equal(mkdir(in(*state, "file.tmp"), 0777), 0);
    assert_true(cllm_file_replace(path, "new", 3) < 0);
    char *bytes = get_file(path, &n);
    assert_string_equal(bytes, "old");
    free(bytes);
    assert_int_equal(cllm_file_replace(in(*state, "no/where"), "x", 1), -ENOENT);
}

/* A file size limit stands for the full disk. */
static void a_write_that_fails_midway_leaves_no_temporary_file(void **state)
{
    const char *path = in(*state, "file");
    struct rlimit old, small;
    char *bytes = calloc(1, 100000);
    size_t n = 0;

    assert_non_null(bytes);
    assert_int_equal(cllm_file_replace(path, "old", 3), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 50000;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int rc = cllm_file_replace(path, bytes, 100000);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    (void)signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(rc, -EFBIG);
    assert_int_equal(access(in(*state, "file.tmp"), F_OK), -1);
    free(bytes);
    bytes = get_file(path, &n);
    assert_string_equal(bytes, "old");
    free(bytes);
}

static void read_keeps_to_its_cap_and_to_regular_files(void **state)
{
    char *bytes = NULL;
    size_t n = 0;

    put_file(in(*state, "ten"), "0123456789", 10);
    assert_int_equal(cllm_file_read(in(*state, "ten"), 9, &bytes, &n), -EFBIG);
    assert_int_equal(cllm_file_read(in(*state, "ten"), 10, &bytes, &n), 0);
    assert_int_equal(n, 10);
    assert_int_equal(bytes[10], 0);
    free(bytes);
    put_file(in(*state, "none"), "", 0);
    assert_int_equal(cllm_file_read(in(*state, "none"), 0, &bytes, &n), 0);
    assert_int_equal(n, 0);
    free(bytes);
    assert_int_equal(cllm_file_read(*state, 10, &bytes, &n), -EISDIR);
    assert_int_equal(mkfifo(in(*state, "pipe"), 0600), 0);
    assert_int_equal(cllm_file_read(in(*state, "pipe"), 10, &bytes, &n), -EINVAL);
    assert_int_equal(unlink(in(*state, "pipe")), 0);
    assert_int_equal(cllm_file_read(in(*state, "absent"), 10, &bytes, &n), -ENOENT);
}

static void pread_says_where_a_file_ended(void **state)
{
    char bytes[16];

    put_file(in(*state, "ten"), "0123456789", 10);
    int fd = open(in(*state, "ten"), O_RDONLY);
    assert_int_equal(cllm_file_pread_all(fd, bytes, 4, 6, "ten"), 0);
    assert_memory_equal(bytes, "6789", 4);
    assert_int_equal(cllm_file_pread_all(fd, bytes, 5, 6, "ten"), CLLM_EDATA);
    assert_error_says("ten ends too soon");
    assert_int_equal(close(fd), 0);
}

static void a_link_is_replaced_but_never_a_file(void **state)
{
    const char *link = in(*state, "link");
    char target[16] = "";

    assert_int_equal(cllm_file_symlink("one", link), 0);
    assert_int_equal(cllm_file_symlink("two", link), 0);
    assert_int_equal(readlink(link, target, sizeof target), 3);
    assert_memory_equal(target, "two", 3);
    put_file(in(*state, "file"), "x", 1);
    assert_int_equal(cllm_file_symlink("two", in(*state, "file")), -EEXIST);
}

static void what_is_put_aside_takes_the_first_free_name(void **state)
{
    const char *path = in(*state, "lines");
    char aside[CLLM_FILE_PATH_BYTES];

    assert_int_equal(cllm_file_set_aside(path, aside), 0);
    put_file(path, "one", 3);
    assert_int_equal(cllm_file_set_aside(path, aside), 1);
    assert_string_equal(aside, in(*state, "lines.old"));
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(symlink("nowhere", in(*state, "lines.old2")), 0);
    assert_int_equal(cllm_file_set_aside(path, aside), 1);
    assert_string_equal(aside, in(*state, "lines.old3"));
    assert_int_equal(rmdir(aside), 0);
}

static void remove_tree_does_not_follow_links(void **state)
{
    assert_int_equal(cllm_file_mkdirs(in(*state, "keep")), 0);
    put_file(in(*state, "keep/file"), "x", 1);
    assert_int_equal(cllm_file_mkdirs(in(*state, "tree/deep/deeper")), 0);
    put_file(in(*state, "tree/deep/file"), "x", 1);
    assert_int_equal(symlink("../keep", in(*state, "tree/link")), 0);
    assert_int_equal(cllm_file_remove_tree(in(*state, "tree")), 0);
    assert_int_equal(access(in(*state, "tree"), F_OK), -1);
    assert_int_equal(access(in(*state, "keep/file"), F_OK), 0);
    assert_int_equal(cllm_file_remove_tree(in(*state, "tree")), 0);
    assert_int_equal(symlink("keep", in(*state, "link")), 0);
    assert_int_equal(cllm_file_remove_tree(in(*state, "link")), -ENOTDIR);
    assert_int_equal(access(in(*state, "keep/file"), F_OK), 0);
}

static void a_lock_is_of_one_open_file(void **state)
{
    const char *path = in(*state, "file");
    int first, second;

    put_file(path, "x", 1);
    first = open(path, O_RDWR | O_CLOEXEC);
    second = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(first >= 0 && second >= 0);
    assert_int_equal(cllm_file_lock(first, path), 0);
    assert_int_equal(cllm_file_lock(first, path), 0);
    assert_int_equal(cllm_file_lock(second, path), -EWOULDBLOCK);
    (void)close(first);
    assert_int_equal(cllm_file_lock(second, path), 0);
    (void)close(second);
}

/* Nobody may think that another one holds it. */
static void a_file_system_without_locks_is_said(void **state)
{
    const char *path = in(*state, "file");
    int fd;

    put_file(path, "x", 1);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(cllm_fault_arm(NULL, "file_lock:errno=ENOLCK"), 1);
    assert_int_equal(cllm_file_lock(fd, path), -ENOLCK);
    assert_error_says(path);
    assert_int_equal(cllm_fault_arm(NULL, ""), 0);
    (void)close(fd);
}

static void remove_tree_stops_at_what_is_no_file(void **state)
{
    assert_int_equal(cllm_file_mkdirs(in(*state, "tree")), 0);
    assert_int_equal(mkfifo(in(*state, "tree/pipe"), 0600), 0);
    assert_int_equal(cllm_file_remove_tree(in(*state, "tree")), -EINVAL);
    assert_error_says("pipe");
    assert_int_equal(unlink(in(*state, "tree/pipe")), 0);
}

static void a_path_that_is_too_long_is_refused(void **state)
{
    char path[CLLM_FILE_PATH_BYTES];
    char *name = malloc(5000);

    assert_non_null(name);
    memset(name, 'a', 4999);
    name[4999] = '\0';
    assert_int_equal(cllm_file_join(path, *state, name), -ENAMETOOLONG);
    assert_int_equal(cllm_file_mkdirs(name), -ENAMETOOLONG);
    assert_int_equal(cllm_file_join(path, "dir/", "name"), 0);
    assert_string_equal(path, "dir/name");
    free(name);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(missing_parents_are_made),
        T(a_file_in_the_place_of_a_directory_is_refused),
        T(replace_writes_all_and_leaves_no_temporary_file),
        T(a_failed_replace_keeps_the_old_file),
        T(a_write_that_fails_midway_leaves_no_temporary_file),
        T(read_keeps_to_its_cap_and_to_regular_files),
        T(pread_says_where_a_file_ended),
        T(a_link_is_replaced_but_never_a_file),
        T(what_is_put_aside_takes_the_first_free_name),
        T(remove_tree_does_not_follow_links),
        T(a_lock_is_of_one_open_file),
        T(a_file_system_without_locks_is_said),
        T(remove_tree_stops_at_what_is_no_file),
        T(a_path_that_is_too_long_is_refused),
    };

    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
