/*
 * tests/test_facts.c - tools/facts.h and tools/trial.h: what cllm-info reports.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tools/device_facts.h"
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

static void devices_are_told_of_or_why_there_is_none(void **state)
{
    static const struct {
        const char *answer, *key, *text;
    } cases[] = {
        {"{\"devices\": [], \"error\": \"no driver\"}", "opencl", "none: no driver"},
        {"{\"devices\": []}", "opencl", "none: cllm-devices"},
        {"", "opencl", "none: "},
        {"driver says: Segm", "opencl", "none: "},
        {"{\"devices\": [{\"name\": 3}]}", "opencl", "none: "},
        {"{\"devices\": [{\"name\": \"H200\", \"platform_name\": \"NVIDIA\","
         "\"driver\": \"5\", \"kind\": \"gpu\", \"platform\": 1, \"device\": 2,"
         "\"units\": 132, \"memory_bytes\": 1073741824, \"most_bytes\": 1048576,"
         "\"nvidia_major\": 9, \"nvidia_minor\": 0}]}",
         "opencl 1:2",
         "H200: gpu, 132 units, 1.0 GiB, buffers up to 1.0 MiB, compute capability 9.0; "
         "NVIDIA, driver 5"},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        facts.n = 0;
        cllm_device_facts_read(&facts, cases[i].answer, strlen(cases[i].answer));
        assert_int_equal(facts.n, 1);
        assert_ptr_equal(strstr(text_of("devices", cases[i].key), cases[i].text),
                         text_of("devices", cases[i].key));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_are_told_of_or_why_there_is_none),
        cmocka_unit_test(every_fact_has_a_text_and_stands_once),
        cmocka_unit_test(a_path_that_is_no_file_is_told_not_failed),
        cmocka_unit_test(the_chosen_operations_have_the_bits_of_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
