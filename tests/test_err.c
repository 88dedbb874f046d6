/*
 * tests/test_err.c - the one error text: how it grows, what it keeps, what it survives.
 */
#include "base/err.h"

#include <errno.h>
#include <string.h>

#include "tests/printed.h"

static void a_system_failure_carries_its_reason_and_a_house_code_none(void **state)
{
    (void)state;
    assert_int_equal(cllm_err(-ENOENT, "cannot open %s", "x"), -ENOENT);
    assert_string_equal(cllm_err_text(), "cannot open x: No such file or directory");
    assert_int_equal(cllm_err(CLLM_EDATA, "bad shard"), CLLM_EDATA);
    assert_string_equal(cllm_err_text(), "bad shard");
}

static void callers_put_their_words_in_front(void **state)
{
    (void)state;
    (void)cllm_err(CLLM_EDATA, "bad magic");
    cllm_err_add("shard %d", 3);
    cllm_err_add("cannot start");
    assert_string_equal(cllm_err_text(), "cannot start: shard 3: bad magic");
}

static void everything_is_printed_once_and_then_forgotten(void **state)
{
    char out[512];

    (void)state;
    (void)cllm_err(CLLM_EDATA, "bad magic");
    cllm_err_detail("at byte %d", 0);
    cllm_err_hint("look again");
    printed(out, sizeof out);
    assert_string_equal(out,
                        "prog: bad magic\n  detail: at byte 0\n  hint: look again\n");
    assert_string_equal(cllm_err_text(), "");
    printed(out, sizeof out);
    assert_string_equal(out, "");
}

static void a_new_error_forgets_detail_and_hint_of_the_old_one(void **state)
{
    char out[512];

    (void)state;
    (void)cllm_err(CLLM_EDATA, "old");
    cllm_err_detail("old detail");
    cllm_err_hint("old hint");
    (void)cllm_err(CLLM_EDATA, "new");
    printed(out, sizeof out);
    assert_string_equal(out, "prog: new\n");
}

static void the_old_text_may_be_an_argument_of_the_new_one(void **state)
{
    (void)state;
    (void)cllm_err(CLLM_EDATA, "bad magic");
    (void)cllm_err(CLLM_EDATA, "cannot go on after '%s'", cllm_err_text());
    assert_string_equal(cllm_err_text(), "cannot go on after 'bad magic'");
    cllm_err_add("again '%s'", cllm_err_text());
    assert_string_equal(cllm_err_text(), "again 'cannot go on after 'bad magic'': "
                                         "cannot go on after 'bad magic'");
}

static void texts_longer_than_the_room_are_cut_and_end(void **state)
{
    static char text[4096];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    (void)cllm_err(-ENOENT, "%s", text);
    assert_int_equal(strlen(cllm_err_text()), 1023);
    for (int i = 0; i < 3; i++) {
        cllm_err_add("%s", text);
        assert_int_equal(strlen(cllm_err_text()), 1023);
    }
    cllm_err_detail("%s", text);
    cllm_err_hint("%s", text);
    (void)cllm_err(CLLM_EDATA, "short");
    cllm_err_add("%.1022s", text);
    assert_int_equal(strlen(cllm_err_text()), 1023);
}

static void every_code_has_its_exit_code(void **state)
{
    static const struct {
        int rc, exit_code;
    } cases[] = {
        {0, 0},       {CLLM_ECONFIG, 2},    {CLLM_EDATA, 3}, {CLLM_EBUDGET, 4},
        {-ENOENT, 1}, {CLLM_ENONFINITE, 5}, {-EIO, 1},       {-1, 1},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++)
        assert_int_equal(cllm_exit_code(cases[i].rc), cases[i].exit_code);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_system_failure_carries_its_reason_and_a_house_code_none),
        cmocka_unit_test(callers_put_their_words_in_front),
        cmocka_unit_test(everything_is_printed_once_and_then_forgotten),
        cmocka_unit_test(a_new_error_forgets_detail_and_hint_of_the_old_one),
        cmocka_unit_test(the_old_text_may_be_an_argument_of_the_new_one),
        cmocka_unit_test(texts_longer_than_the_room_are_cut_and_end),
        cmocka_unit_test(every_code_has_its_exit_code),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
