/*
 * tests/test_region.c - shared-memory objects: what is refused, and those that have no
 * name in /dev/shm.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "shm/keeper.h"
#include "shm/memfd.h"
#include "tests/control_temp.h"

static char name[CLLM_REGION_NAME_BYTES], path[CLLM_REGION_NAME_BYTES + 16];

static int setup(void **state)
{
    (void)state;
    cllm_region_name(name, control_temp_id(), "thing");
    (void)snprintf(path, sizeof path, "/dev/shm%s", name);
    return cllm_region_create(NULL, name, 10000);
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(path);
    return 0;
}

static int open_it(size_t min_bytes)
{
    struct cllm_region region = {0};
    int rc = cllm_region_open(&region, name, min_bytes, CLLM_REGION_READ);
    int window = cllm_region_open_window(&(struct cllm_region){0}, name, 0,
                                         min_bytes ? min_bytes : 1, "own");

    /* What may not be mapped may not be mapped in part either. */
    assert_int_equal(rc, window);
    cllm_region_close(&region);
    return rc;
}

static void what_is_ours_is_opened(void **state)
{
    (void)state;
    assert_int_equal(open_it(3 * CLLM_PAGE), 0);
}

static void what_others_may_touch_is_refused(void **state)
{
    static const mode_t mode[] = {0606, 0660, 0644, 0602, 0610, 0601, 0777};

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(mode); i++) {
        assert_int_equal(chmod(path, mode[i]), 0);
        assert_int_equal(open_it(1), -EPERM);
        assert_non_null(strstr(cllm_err_text(), "is not ours"));
    }
}

static void what_belongs_to_somebody_else_is_refused(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip(); /* nobody else can give an object away */
    assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
    assert_int_equal(open_it(1), -EPERM);
}

static void what_has_a_second_name_is_refused(void **state)
{
    char other[sizeof path + 8];

    (void)state;
    (void)snprintf(other, sizeof other, "%s-too", path);
    assert_int_equal(link(path, other), 0);
    assert_int_equal(open_it(1), -EPERM);
    assert_int_equal(unlink(other), 0);
    assert_int_equal(open_it(1), 0);
}

static void what_is_too_short_is_refused(void **state)
{
    (void)state;
    assert_int_equal(open_it(3 * CLLM_PAGE + 1), -EINVAL);
    assert_int_equal(truncate(path, CLLM_PAGE), 0);
    assert_int_equal(open_it(3 * CLLM_PAGE), -EINVAL);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(open_it(0), -EINVAL);
}

/* A name that leads elsewhere: shm_open() follows no link. */
static void a_link_is_refused(void **state)
{
    char target[sizeof path + 8];

    (void)state;
    (void)snprintf(target, sizeof target, "%s-target", path);
    assert_int_equal(rename(path, target), 0);
    assert_int_equal(symlink(target, path), 0);
    assert_int_equal(open_it(1), -ELOOP);
    assert_int_equal(cllm_region_create(NULL, name, 1), -EEXIST);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unlink(target), 0);
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_true(cllm_region_open(&(struct cllm_region){0}, name, 0, CLLM_REGION_READ) <
                0);
    assert_true(
        cllm_region_open_window(&(struct cllm_region){0}, name, 0, CLLM_PAGE, "own") < 0);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(
        cllm_region_open(&(struct cllm_region){0}, name, 0, CLLM_REGION_READ), -EPERM);
}

/* Objects of megabytes begin at multiples of 2 MiB, where huge pages can be mapped, and
 * are as others are: zeroed, whole, shared, closed to writers until they are opened. */
static void a_large_object_can_have_huge_pages(void **state)
{
    enum { HUGE = 2 << 20, BYTES = 2 * HUGE + 3 * CLLM_PAGE };
    struct cllm_region a, b;

    (void)state;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(cllm_region_create(&a, name, BYTES), 0);
    assert_int_equal(cllm_region_open(&b, name, BYTES, CLLM_REGION_GUARDED), 0);
    assert_int_equal((uintptr_t)a.base % HUGE, 0);
    assert_int_equal((uintptr_t)b.base % HUGE, 0);
    for (size_t i = 0; i < BYTES; i += 1000) {
        assert_int_equal(b.base[i], 0);
        a.base[i] = (uint8_t)(i / 1000);
    }
    cllm_region_allow(&b, HUGE + CLLM_PAGE, CLLM_PAGE, true);
    b.base[HUGE + CLLM_PAGE] = 77;
    cllm_region_allow(&b, HUGE + CLLM_PAGE, CLLM_PAGE, false);
    assert_int_equal(a.base[HUGE + CLLM_PAGE], 77);
    for (size_t i = 0; i < BYTES; i += 1000)
        if (i != HUGE + CLLM_PAGE)
            assert_int_equal(b.base[i], (uint8_t)(i / 1000));
    cllm_region_close(&a);
    cllm_region_close(&b);
}

/* Bytes of the mapping at @base that are mapped as huge pages. */
static size_t huge_bytes(const void *base)
{
    FILE *maps = fopen("/proc/self/smaps", "r");
    char line[512];
    bool inside = false;
    size_t kib = 0, found = 0;

    assert_non_null(maps);
    while (fgets(line, sizeof line, maps) != NULL) {
        uintptr_t begin, end;

        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &begin, &end) == 2)
            inside = begin == (uintptr_t)base;
        else if (inside && sscanf(line, "ShmemPmdMapped: %zu", &kib) == 1)
            found = kib << 10;
    }
    assert_int_equal(fclose(maps), 0);
    return found;
}

/* Gathering huge pages may take longer than anybody wants to wait. */
static void an_object_is_whole_without_time_for_huge_pages(void **state)
{
    enum { HUGE = 2 << 20, BYTES = 3 * HUGE };
    static const uint64_t budgets[] = {0, 1, 12 * CLLM_NS_PER_S};
    struct cllm_region a;

    (void)state;
    for (size_t k = 0; k < CLLM_LEN(budgets); k++) {
        assert_int_equal(unlink(path), 0);
        cllm_region_set_huge_pages_ns(budgets[k]);
        assert_int_equal(cllm_region_create(&a, name, BYTES), 0);
        for (size_t i = 0; i < BYTES; i += 1000) {
            assert_int_equal(a.base[i], 0);
            a.base[i] = 1;
        }
        if (budgets[k] == 0)
            assert_int_equal(huge_bytes(a.base), 0);
        cllm_region_close(&a);
    }
}

static void a_name_is_given_once(void **state)
{
    (void)state;
    assert_int_equal(cllm_region_create(NULL, name, 1), -EEXIST);
    assert_int_equal(open_it(1), 0); /* and what has it is not harmed */
}

/* ---- without a name ---- */

static struct {
    struct cllm_keeper keeper;
    pid_t pid; /* of the process that keeps */
    int socket;
} kept;

/* A keeper as the guardian is one: another process. */
static int begin_keeping(void **state)
{
    (void)state;
    cllm_region_name(name, control_temp_id(), "nameless");
    (void)snprintf(path, sizeof path, "/dev/shm%s", name);
    cllm_keeper_init(&kept.keeper);
    assert_int_equal(cllm_keeper_renew(&kept.keeper, &kept.socket), 0);
    kept.pid = fork();
    if (kept.pid == 0) {
        (void)close(kept.socket);
        while (kept.keeper.socket >= 0) {
            struct pollfd fd = {.fd = kept.keeper.socket, .events = POLLIN};

            (void)poll(&fd, 1, -1);
            cllm_keeper_serve(&kept.keeper);
        }
        cllm_keeper_fini(&kept.keeper);
        _exit(0);
    }
    assert_true(kept.pid > 0);
    cllm_keeper_fini(&kept.keeper); /* our copy of its end */
    cllm_region_set_keeper(kept.socket);
    assert_true(cllm_region_avoid_names());
    return 0;
}

static int end_keeping(void **state)
{
    int status;

    (void)state;
    cllm_region_set_keeper(-1);
    assert_false(cllm_region_avoid_names());
    (void)close(kept.socket);
    assert_int_equal(waitpid(kept.pid, &status, 0), kept.pid);
    assert_int_equal(status, 0);
    return 0;
}

static void a_nameless_object_is_found_by_its_name(void **state)
{
    struct cllm_region made, seen, window;

    (void)state;
    assert_int_equal(cllm_region_create(&made, name, 10000), 0);
    assert_true(made.nameless);
    assert_int_equal(made.bytes, 3 * CLLM_PAGE);
    assert_int_equal(access(path, F_OK), -1);
    made.base[CLLM_PAGE] = 42;
    assert_int_equal(cllm_region_open(&seen, name, 10000, CLLM_REGION_READ), 0);
    assert_true(seen.nameless);
    assert_int_equal(seen.bytes, made.bytes);
    assert_int_equal(seen.base[CLLM_PAGE], 42);
    assert_int_equal(cllm_region_open_window(&window, name, CLLM_PAGE, CLLM_PAGE, "own"),
                     0);
    window.base[1] = 43;
    assert_int_equal(seen.base[CLLM_PAGE + 1], 43);
    assert_int_equal(cllm_region_open(&window, name, 3 * CLLM_PAGE + 1, CLLM_REGION_READ),
                     -EINVAL);
    cllm_region_close(&seen);
    cllm_region_close(&made);
}

/* Nobody who holds a descriptor for reading can make the mapping writable. */
static void a_nameless_object_opened_for_reading_stays_so(void **state)
{
    struct cllm_region seen;

    (void)state;
    assert_int_equal(cllm_region_create(NULL, name, CLLM_PAGE), 0);
    assert_int_equal(cllm_region_open(&seen, name, 1, CLLM_REGION_READ), 0);
    assert_int_equal(mprotect(seen.base, seen.bytes, PROT_READ | PROT_WRITE), -1);
    assert_int_equal(errno, EACCES);
    cllm_region_close(&seen);
}

static void the_size_of_a_nameless_object_is_final(void **state)
{
    int fd;

    (void)state;
    assert_int_equal(cllm_region_create(NULL, name, CLLM_PAGE), 0);
    fd = cllm_memfd_open(name, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(ftruncate(fd, 2 * CLLM_PAGE), -1);
    (void)close(fd);
}

static void a_nameless_name_is_given_once_and_free_again(void **state)
{
    struct cllm_region region;

    (void)state;
    assert_int_equal(cllm_region_create(NULL, name, CLLM_PAGE), 0);
    assert_int_equal(cllm_region_create(NULL, name, CLLM_PAGE), -EEXIST);
    assert_int_equal(cllm_region_open(&region, name, 1, CLLM_REGION_READ), 0);
    cllm_region_close(&region);
    assert_int_equal(cllm_region_unlink(name), 0);
    assert_int_equal(cllm_region_open(&region, name, 1, CLLM_REGION_READ), -ENOENT);
    assert_int_equal(cllm_region_unlink(name), 0);
    assert_int_equal(cllm_region_create(NULL, name, CLLM_PAGE), 0);
}

/* Made by the same user under the right name, but anybody may still change its size. */
static void what_is_not_sealed_is_not_found(void **state)
{
    struct cllm_region region;
    int fd = cllm_memfd_create(name);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, CLLM_PAGE), 0);
    assert_int_equal(cllm_region_open(&region, name, 1, CLLM_REGION_READ), -ENOENT);
    assert_int_equal(cllm_memfd_seal(fd, name), 0);
    assert_int_equal(cllm_region_open(&region, name, 1, CLLM_REGION_READ), 0);
    cllm_region_close(&region);
    (void)close(fd);
}

static int count(const char *found, uint64_t bytes, void *ctx)
{
    uint32_t *n = ctx;

    if (strcmp(found, name + 1) == 0) {
        assert_int_equal(bytes, 3 * CLLM_PAGE);
        (*n)++;
    }
    return 0;
}

static void nameless_objects_are_listed_once(void **state)
{
    uint32_t n = 0;
    int again;

    (void)state;
    assert_int_equal(cllm_region_create(NULL, name, 10000), 0);
    again = cllm_memfd_open(name, O_RDONLY); /* a second process that holds it */
    assert_true(again >= 0);
    assert_int_equal(cllm_region_list(count, &n), 0);
    assert_int_equal(n, 1);
    (void)close(again);
    assert_int_equal(cllm_region_unlink(name), 0);
    n = 0;
    assert_int_equal(cllm_region_list(count, &n), 0);
    assert_int_equal(n, 0);
}

/* More than the usual limit of descriptors. */
static void a_keeper_has_room_for_many(void **state)
{
    char many[CLLM_REGION_NAME_BYTES], part[32];

    (void)state;
    for (uint32_t i = 0; i < 1500; i++) {
        (void)snprintf(part, sizeof part, "lane%u", i);
        cllm_region_name(many, control_temp_id(), part);
        assert_int_equal(cllm_region_create(NULL, many, 1), 0);
    }
    assert_int_equal(cllm_region_unlink(many), 0);
    assert_int_equal(
        cllm_region_open(&(struct cllm_region){0}, many, 1, CLLM_REGION_READ), -ENOENT);
}

static void a_keeper_that_is_gone_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(kill(kept.pid, SIGKILL), 0);
    assert_int_equal(waitpid(kept.pid, NULL, 0), kept.pid);
    assert_true(cllm_region_create(NULL, name, 1) < 0);
    assert_non_null(strstr(cllm_err_text(), "guardian cannot keep"));
    cllm_region_set_keeper(-1);
    assert_false(cllm_region_avoid_names());
    (void)close(kept.socket);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_ours_is_opened, setup, teardown),
        cmocka_unit_test_setup_teardown(what_others_may_touch_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_belongs_to_somebody_else_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_has_a_second_name_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_too_short_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_link_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_file_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(an_object_is_whole_without_time_for_huge_pages,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_object_can_have_huge_pages, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_name_is_given_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_nameless_object_is_found_by_its_name,
                                        begin_keeping, end_keeping),
        cmocka_unit_test_setup_teardown(a_nameless_object_opened_for_reading_stays_so,
                                        begin_keeping, end_keeping),
        cmocka_unit_test_setup_teardown(the_size_of_a_nameless_object_is_final,
                                        begin_keeping, end_keeping),
        cmocka_unit_test_setup_teardown(a_nameless_name_is_given_once_and_free_again,
                                        begin_keeping, end_keeping),
        cmocka_unit_test_setup_teardown(what_is_not_sealed_is_not_found, begin_keeping,
                                        end_keeping),
        cmocka_unit_test_setup_teardown(nameless_objects_are_listed_once, begin_keeping,
                                        end_keeping),
        cmocka_unit_test_setup_teardown(a_keeper_has_room_for_many, begin_keeping,
                                        end_keeping),
        cmocka_unit_test_setup(a_keeper_that_is_gone_is_an_error, begin_keeping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
