/*
 * tests/test_ini_edit.c - tools/ini_edit.h: the value is what config.h reads afterwards,
 * and every other byte is as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/err.h"
#include "tools/ini_edit.h"

#define BOM "\xEF\xBB\xBF"

struct row {
    const char *text, *want; /* of [run] workers = 7 */
};

static void check_rows(const struct row *row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct cllm_config config;
        char *out = NULL;

        assert_int_equal(cllm_ini_edit_set(row[i].text, "run", "workers", "7", &out), 0);
        assert_string_equal(out, row[i].want);
        cllm_config_init(&config);
        if (cllm_config_parse(&config, out, "text") != 0)
            fail_msg("row %zu: %s", i, cllm_err_text());
        assert_int_equal(config.run_workers, 7);
        cllm_config_fini(&config);
        free(out);
    }
}

static void a_value_is_replaced_where_it_stands(void **state)
{
    static const struct row rows[] = {
        {"[run]\nworkers = 2\n", "[run]\nworkers = 7\n"},
        {"[run]\nworkers = auto\nlanes = 4\n", "[run]\nworkers = 7\nlanes = 4\n"},
        {"[run]\nworkers=2\n", "[run]\nworkers=7\n"},
        {"[run]\nworkers:\t144  \n", "[run]\nworkers:\t7  \n"},
        {"[run]\nworkers   =   2\n[train]\nsteps = 2\n",
         "[run]\nworkers   =   7\n[train]\nsteps = 2\n"},
        {"[run]\nlanes = 4\n\n[train]\nsteps = 5\n[run]\nworkers = 2\n",
         "[run]\nlanes = 4\n\n[train]\nsteps = 5\n[run]\nworkers = 7\n"},
        {BOM "[run]\nworkers = 2\n", BOM "[run]\nworkers = 7\n"},
        {"[run] ; here\nworkers = 2\n", "[run] ; here\nworkers = 7\n"},
    };

    (void)state;
    check_rows(rows, CLLM_LEN(rows));
}

static void comments_stay(void **state)
{
    static const struct row rows[] = {
        {"; head\n[run]\n# two\nworkers = 2 ; one for each core\n; tail\n",
         "; head\n[run]\n# two\nworkers = 7 ; one for each core\n; tail\n"},
        {"[run]\nworkers = 2\t;[train]\n", "[run]\nworkers = 7\t;[train]\n"},
        {"; [run]\n; workers = 3\n[run]\nworkers = 2\n",
         "; [run]\n; workers = 3\n[run]\nworkers = 7\n"},
        {"  ; workers = 1\n[run]\nworkers = 2\n",
         "  ; workers = 1\n[run]\nworkers = 7\n"},
    };

    (void)state;
    check_rows(rows, CLLM_LEN(rows));
}

static void a_missing_key_goes_behind_the_last_of_its_section(void **state)
{
    static const struct row rows[] = {
        {"[run]\n", "[run]\nworkers = 7\n"},
        {"[run]\nlanes = 4\n\n[train]\nsteps = 5\n",
         "[run]\nlanes = 4\nworkers = 7\n\n[train]\nsteps = 5\n"},
        {"[run]\nlanes = 4\n; of the next\n[train]\nsteps = 5\n",
         "[run]\nlanes = 4\nworkers = 7\n; of the next\n[train]\nsteps = 5\n"},
        {"[run]\n;workers = 3\nlanes = 4\n#workers = 4\n",
         "[run]\n;workers = 3\nlanes = 4\nworkers = 7\n#workers = 4\n"},
        {"[run]\n  ;workers = 3\n \nlanes = 4 ; x\n",
         "[run]\n  ;workers = 3\n \nlanes = 4 ; x\nworkers = 7\n"},
        {"[train]\nsteps = 5\n[run]\ndir = workers\n",
         "[train]\nsteps = 5\n[run]\ndir = workers\nworkers = 7\n"},
        {"[run]\ndir = a=workers\n[model]\nwidth = 4\n",
         "[run]\ndir = a=workers\nworkers = 7\n[model]\nwidth = 4\n"},
    };

    (void)state;
    check_rows(rows, CLLM_LEN(rows));
}

static void a_missing_section_goes_to_the_end(void **state)
{
    static const struct row rows[] = {
        {"", "[run]\nworkers = 7\n"},
        {"; nothing\n", "; nothing\n\n[run]\nworkers = 7\n"},
        {"[train]\nsteps = 5\n", "[train]\nsteps = 5\n\n[run]\nworkers = 7\n"},
        {"; [run]\n[train]\nsteps = 5",
         "; [run]\n[train]\nsteps = 5\n\n[run]\nworkers = 7\n"},
    };

    (void)state;
    check_rows(rows, CLLM_LEN(rows));
}

static void line_ends_are_those_of_the_text(void **state)
{
    static const struct row rows[] = {
        {"[run]\r\nworkers = 2\r\nlanes = 4\r\n",
         "[run]\r\nworkers = 7\r\nlanes = 4\r\n"},
        {"[run]\r\nworkers = 2 ; x\r\n", "[run]\r\nworkers = 7 ; x\r\n"},
        {"[run]\r\nlanes = 4\r\n\r\n[train]\r\n",
         "[run]\r\nlanes = 4\r\nworkers = 7\r\n\r\n[train]\r\n"},
        {"[train]\r\nsteps = 5\r\n",
         "[train]\r\nsteps = 5\r\n\r\n[run]\r\nworkers = 7\r\n"},
    };

    (void)state;
    check_rows(rows, CLLM_LEN(rows));
}

static void a_last_line_needs_no_end(void **state)
{
    static const struct row rows[] = {
        {"[run]", "[run]\nworkers = 7\n"},
        {"[run]\nlanes = 4", "[run]\nlanes = 4\nworkers = 7\n"},
        {"[run]\nworkers = 2", "[run]\nworkers = 7"},
        {"[run]\nworkers = 2 ; x", "[run]\nworkers = 7 ; x"},
        {"[run]\r\nlanes = 4", "[run]\r\nlanes = 4\r\nworkers = 7\r\n"},
    };

    (void)state;
    check_rows(rows, CLLM_LEN(rows));
}

static void an_empty_value_gets_one(void **state)
{
    static const struct row rows[] = {
        {"[run]\nworkers =\n", "[run]\nworkers = 7\n"},
        {"[run]\nworkers = ; none\n", "[run]\nworkers = 7 ; none\n"},
        {"[run]\nworkers=", "[run]\nworkers= 7"},
        {"[run]\nworkers:\r\n", "[run]\nworkers: 7\r\n"},
    };

    (void)state;
    check_rows(rows, CLLM_LEN(rows));
}

static void what_only_looks_like_the_key_is_left_alone(void **state)
{
    static const char *const texts[] = {
        "[train]\nworkers = 2\n[run]\nworkers2 = 3\nwork = 4\nWorkers = 5\n",
        "[runs]\nworkers = 2\n[ run]\nworkers = 2\n[run]\n",
        "[run\nworkers = 2\n[run]\n",
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(texts); i++) {
        char *out = NULL;

        assert_int_equal(cllm_ini_edit_set(texts[i], "run", "workers", "7", &out), 0);
        assert_int_equal(strlen(out), strlen(texts[i]) + strlen("workers = 7\n"));
        assert_memory_equal(out, texts[i], strlen(texts[i]));
        assert_string_equal(out + strlen(texts[i]), "workers = 7\n");
        free(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_replaced_where_it_stands),
        cmocka_unit_test(comments_stay),
        cmocka_unit_test(a_missing_key_goes_behind_the_last_of_its_section),
        cmocka_unit_test(a_missing_section_goes_to_the_end),
        cmocka_unit_test(line_ends_are_those_of_the_text),
        cmocka_unit_test(a_last_line_needs_no_end),
        cmocka_unit_test(an_empty_value_gets_one),
        cmocka_unit_test(what_only_looks_like_the_key_is_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
