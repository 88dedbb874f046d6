/*
 * tests/test_stop.c - what is shown, held and cut, however the text comes in.
 */
#include "tools/stop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/random.h"

static void the_text_ends_before_the_first_stop_however_it_comes(void **state)
{
    static const struct {
        const char *stop[3], *text, *shown;
        bool stopped;
    } row[] = {
        {{"END"}, "beginning and END of it", "beginning and ", true},
        {{"END"}, "ENENEND!", "ENEN", true},
        {{"END"}, "no end", "no end", false},
        {{"END"}, "the EN", "the EN", false},
        {{"\n\n", "END"}, "a\nb\n\nEND", "a\nb", true},
        {{"bc", "abcd"}, "xabcy", "xa", true},
        {{"bc", "abcd"}, "xabc", "xa", false}, /* "abcd" was awaited to the end */
        {{"abcd", "bc"}, "xabcd", "x", true},
        {{"aab"}, "aaaaab", "aaa", true},
        {{"."}, ".", "", true},
        {{NULL}, "all of it", "all of it", false},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(row); i++) {
        for (uint64_t seed = 0; seed < 40; seed++) {
            static struct cllm_stop stop;
            char shown[64];
            size_t n_shown = 0, at = 0, len = strlen(row[i].text), n;
            bool stopped = false;
            const char *out;

            stop = (struct cllm_stop){.n = 0};
            for (size_t k = 0; k < 3 && row[i].stop[k]; k++)
                assert_int_equal(cllm_stop_add(&stop, row[i].stop[k]), 0);
            while (at < len && !stopped) {
                size_t part =
                    1 + (size_t)(cllm_random_u64(seed, CLLM_RANDOM_TEST, at) % 4);

                part = seed == 0 ? len : part < len - at ? part : len - at;
                stopped = cllm_stop_put(&stop, row[i].text + at, part, &out, &n);
                memcpy(shown + n_shown, out, n);
                n_shown += n;
                at += part;
            }
            assert_int_equal(stopped, row[i].stopped);
            if (!stopped) {
                cllm_stop_end(&stop, &out, &n);
                memcpy(shown + n_shown, out, n);
                n_shown += n;
            }
            shown[n_shown] = '\0';
            assert_string_equal(shown, row[i].shown);
        }
    }
}

static void only_what_may_become_a_stop_is_held(void **state)
{
    static struct cllm_stop stop;
    const char *out;
    size_t n;

    (void)state;
    assert_int_equal(cllm_stop_add(&stop, "###"), 0);
    assert_false(cllm_stop_put(&stop, "one #", 5, &out, &n));
    assert_int_equal(n, 4);
    assert_false(cllm_stop_put(&stop, "# two", 5, &out, &n));
    assert_int_equal(n, 6);
    assert_memory_equal(out, "## two", 6);
}

static void strings_that_cannot_be_are_refused(void **state)
{
    static struct cllm_stop stop;
    char longest[CLLM_STOP_BYTES + 2] = "";

    (void)state;
    memset(longest, 'x', sizeof longest - 1);
    assert_int_equal(cllm_stop_add(&stop, ""), CLLM_ECONFIG);
    assert_int_equal(cllm_stop_add(&stop, longest), CLLM_ECONFIG);
    assert_int_equal(cllm_stop_add(&stop, longest + 1), 0);
    for (uint32_t i = 1; i < CLLM_STOP_MOST; i++)
        assert_int_equal(cllm_stop_add(&stop, "x"), 0);
    assert_int_equal(cllm_stop_add(&stop, "x"), CLLM_ECONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_ends_before_the_first_stop_however_it_comes),
        cmocka_unit_test(only_what_may_become_a_stop_is_held),
        cmocka_unit_test(strings_that_cannot_be_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
