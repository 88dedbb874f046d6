/*
 * tests/test_arena.c - zeroed, aligned, in order, and no word more than was planned.
 */
#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"

static bool all_zero(const uint8_t *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != 0)
            return false;
    return true;
}

/* Whether @fn ends its process through the assert. */
static bool asserts(void (*fn)(struct cllm_arena *), struct cllm_arena *arena)
{
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        const struct rlimit no_core = {0, 0};

        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)close(STDERR_FILENO);
        fn(arena);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void pieces_are_zeroed_aligned_and_in_order(void **state)
{
    static const size_t sizes[] = {1, 63, 64, 65, 0, 4096, 3, 128};
    struct cllm_arena arena;
    uint8_t *end = NULL;

    (void)state;
    assert_int_equal(cllm_arena_init(&arena, 16384), 0);
    for (size_t i = 0; i < CLLM_LEN(sizes); i++) {
        uint8_t *piece = cllm_arena_take(&arena, sizes[i]);

        assert_non_null(piece);
        assert_int_equal((uintptr_t)piece % CLLM_CACHELINE, 0);
        assert_true(end == NULL || piece >= end);
        assert_true(all_zero(piece, sizes[i]));
        memset(piece, 0xA5, sizes[i]); /* so that an overlap would be seen as not zero */
        end = piece + sizes[i];
    }
    cllm_arena_fini(&arena);
    assert_null(arena.base);
}

static void the_planned_size_can_be_taken_whole(void **state)
{
    struct cllm_arena arena;
    uint8_t *all;

    (void)state;
    assert_int_equal(cllm_arena_init(&arena, 3 * CLLM_PAGE), 0);
    all = cllm_arena_take(&arena, 3 * CLLM_PAGE);
    memset(all, 1, 3 * CLLM_PAGE);
    assert_int_equal(arena.used, arena.bytes);
    cllm_arena_fini(&arena);
}

static void take_one_byte(struct cllm_arena *arena)
{
    (void)cllm_arena_take(arena, 1);
}

static void take_nearly_everything(struct cllm_arena *arena)
{
    (void)cllm_arena_take(arena,
                          SIZE_MAX - 10); /* rounds up to zero if done carelessly */
}

static void too_much_is_a_bug_and_aborts(void **state)
{
    struct cllm_arena arena;

    (void)state;
    assert_int_equal(cllm_arena_init(&arena, CLLM_PAGE), 0);
    assert_false(asserts(take_one_byte, &arena));
    assert_true(asserts(take_nearly_everything, &arena));
    (void)cllm_arena_take(&arena, CLLM_PAGE);
    assert_true(asserts(take_one_byte, &arena));
    cllm_arena_fini(&arena);
}

static void a_sealed_arena_hands_out_nothing(void **state)
{
    struct cllm_arena arena;

    (void)state;
    assert_int_equal(cllm_arena_init(&arena, CLLM_PAGE), 0);
    assert_false(asserts(take_one_byte, &arena));
    cllm_arena_seal(&arena);
    assert_true(asserts(take_one_byte, &arena));
    cllm_arena_fini(&arena);
}

static void an_empty_arena_is_allowed_and_fini_may_be_repeated(void **state)
{
    struct cllm_arena arena;

    (void)state;
    assert_int_equal(cllm_arena_init(&arena, 0), 0);
    cllm_arena_fini(&arena);
    cllm_arena_fini(&arena);
}

static void more_than_the_address_space_is_refused_with_the_size(void **state)
{
    struct cllm_arena arena = {0};

    (void)state;
    assert_true(cllm_arena_init(&arena, (size_t)1 << 62) < 0);
    assert_non_null(strstr(cllm_err_text(), "4611686018427387904 bytes"));
    assert_null(arena.base);
    assert_true(cllm_arena_init(&arena, SIZE_MAX - 100) <
                0); /* page rounding overflows */
    cllm_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_zeroed_aligned_and_in_order),
        cmocka_unit_test(the_planned_size_can_be_taken_whole),
        cmocka_unit_test(too_much_is_a_bug_and_aborts),
        cmocka_unit_test(a_sealed_arena_hands_out_nothing),
        cmocka_unit_test(an_empty_arena_is_allowed_and_fini_may_be_repeated),
        cmocka_unit_test(more_than_the_address_space_is_refused_with_the_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
