/*
 * tests/test_facts.c - tools/facts.h and tools/trial.h: what cllm-info reports.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tools/facts.h"
#include "tools/trial.h"

static struct cllm_facts facts;

static const char *text_of(const char *section, const char *key)
{
    for (uint32_t i = 0; i < facts.n; i++)
        if (strcmp(facts.fact[i].section, section) == 0 &&
            strcmp(facts.fact[i].key, key) == 0)
            return facts.fact[i].text;
    fail_msg("no fact %s %s", section, key);
    return "";
}

static void every_fact_has_a_text_and_stands_once(void **state)
{
    (void)state;
    facts.n = 0;
    cllm_facts_machine(&facts, "/proc/self/exe");
    for (uint32_t i = 0; i < facts.n; i++) {
        assert_true(facts.fact[i].text[0] != '\0');
        for (uint32_t j = 0; j < i; j++)
            assert_false(strcmp(facts.fact[i].section, facts.fact[j].section) == 0 &&
                         strcmp(facts.fact[i].key, facts.fact[j].key) == 0);
    }
    assert_non_null(strstr(text_of("memory", "total"), "iB"));
    assert_non_null(strstr(text_of("kernel", "release"), "Linux"));
    assert_non_null(strstr(text_of("kernel", "io_uring"), "available"));
    assert_string_equal(text_of("kernel", "semaphores"), "work between processes");
}

static void a_path_that_is_no_file_is_told_not_failed(void **state)
{
    (void)state;
    facts.n = 0;
    cllm_facts_machine(&facts, "/no/such/file");
    assert_non_null(strstr(text_of("data", "direct_io"), "No such file"));
    facts.n = 0;
    cllm_facts_machine(&facts, "/tmp");
    assert_non_null(strstr(text_of("data", "direct_io"), "no regular file"));
}

static void the_chosen_operations_have_the_bits_of_the_reference(void **state)
{
    struct cllm_trial trial;

    (void)state;
    assert_int_equal(cllm_trial_run(&trial), 0);
    assert_true(trial.n >= 9);
    for (uint32_t i = 0; i < trial.n; i++) {
        if (!trial.row[i].same_bits)
            fail_msg("%s has other bits", trial.row[i].operation);
        assert_true(trial.row[i].per_s > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fact_has_a_text_and_stands_once),
        cmocka_unit_test(a_path_that_is_no_file_is_told_not_failed),
        cmocka_unit_test(the_chosen_operations_have_the_bits_of_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
