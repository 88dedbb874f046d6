/*
 * tests/test_frozen.c - the object beneath adapters: filled once, verified in shares.
 */
#include "shm/frozen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/layout.h"
#include "tests/control_temp.h"

static bool intact(const struct cllm_region *frozen, const struct cllm_geometry *g,
                   uint32_t n_parts)
{
    bool all = true;

    for (uint32_t part = 0; part < n_parts; part++)
        all = cllm_frozen_intact(frozen, g, part, n_parts) && all;
    return all;
}

static void any_change_shows_in_one_of_the_shares(void **state)
{
    static const uint64_t elements[] = {1024, CLLM_HUGE_ELEMENTS,
                                        3 * CLLM_HUGE_ELEMENTS + 1024};
    static const uint32_t parts[] = {1, 2, 3, 4, 7, 100};

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(elements); i++) {
        const struct cllm_geometry g = {.frozen_elements = elements[i]};
        char name[CLLM_REGION_NAME_BYTES];
        struct cllm_region frozen;
        float *w;

        assert_int_equal(cllm_frozen_create(&frozen, control_temp_id(), &g), 0);
        assert_true(cllm_frozen_bytes(&g) > elements[i] * sizeof(float));
        w = cllm_frozen_weights(&frozen);
        for (uint64_t at = 0; at < elements[i]; at++)
            w[at] = (float)at;
        assert_false(intact(&frozen, &g, 1)); /* not sealed */
        cllm_frozen_seal(&frozen, &g);
        for (size_t p = 0; p < CLLM_LEN(parts); p++) {
            const uint64_t places[] = {0, elements[i] / 2, elements[i] - 1};

            assert_true(intact(&frozen, &g, parts[p]));
            for (size_t k = 0; k < CLLM_LEN(places); k++) {
                float was = w[places[k]];

                w[places[k]] = -1;
                assert_false(intact(&frozen, &g, parts[p]));
                w[places[k]] = was;
            }
        }
        assert_true(intact(&frozen, &g, 5));
        cllm_region_close(&frozen);
        cllm_frozen_name(name, control_temp_id());
        assert_int_equal(cllm_region_unlink(name), 0);
    }
}

static void without_adapters_there_is_none(void **state)
{
    const struct cllm_geometry g = control_temp_geometry();

    (void)state;
    assert_int_equal(cllm_frozen_bytes(&g), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_change_shows_in_one_of_the_shares),
        cmocka_unit_test(without_adapters_there_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
