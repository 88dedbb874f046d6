/*
 * tests/test_devices.c - coordinator/devices.h: who computes where, and what is refused.
 * Beside this program there is no cllm-devices, so no device is ever found.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "coordinator/devices.h"

/* What is chosen with two settings of [compute], as "key=value". */
static int choose(struct cllm_devices *devices, const char *one, const char *two)
{
    struct cllm_config config;
    int rc;

    cllm_config_init(&config);
    assert_int_equal(cllm_config_set(&config, one), 0);
    assert_int_equal(cllm_config_set(&config, two), 0);
    rc = cllm_devices_choose(devices, &config);
    cllm_config_fini(&config);
    return rc;
}

static void the_processor_is_chosen_in_silence(void **state)
{
    struct cllm_devices devices;

    (void)state;
    assert_int_equal(choose(&devices, "compute.backend=cpu", "compute.device=0:0"), 0);
    assert_int_equal(devices.n, 0);
    assert_string_equal(devices.why, "");
    assert_string_equal(cllm_devices_of(&devices, 3), "");
    assert_false(cllm_devices_mixed(&devices));
    assert_false(cllm_devices_may_mix(&devices));
}

static void without_a_device_the_policy_decides(void **state)
{
    struct cllm_devices devices;

    (void)state;
    assert_int_equal(
        choose(&devices, "compute.backend=opencl", "compute.on_device_loss=stop"),
        CLLM_EDEVICE);
    assert_non_null(strstr(cllm_err_text(), "compute.backend = opencl"));
    assert_int_equal(
        choose(&devices, "compute.backend=opencl", "compute.on_device_loss=cpu"), 0);
    assert_int_equal(devices.n, 0);
    assert_non_null(strstr(devices.why, "on the processor: no OpenCL device"));
    assert_int_equal(
        choose(&devices, "compute.backend=auto", "compute.on_device_loss=stop"), 0);
    assert_int_equal(devices.n, 0);
    assert_non_null(strstr(devices.why, "on the processor: no OpenCL GPU"));
}

static void slots_take_the_entries_in_turn(void **state)
{
    struct cllm_devices devices = {.n = 3, .entry = {"0:0", "", "0:1"}};

    (void)state;
    for (uint32_t slot = 0; slot < CLLM_MAX_WORKERS; slot++)
        assert_string_equal(cllm_devices_of(&devices, slot), devices.entry[slot % 3]);
    assert_true(cllm_devices_mixed(&devices));
    assert_true(cllm_devices_may_mix(&devices));
    devices = (struct cllm_devices){.n = 2, .entry = {"0:0", "0:1"}};
    assert_false(cllm_devices_mixed(&devices));
    assert_true(cllm_devices_may_mix(&devices));
    devices = (struct cllm_devices){.n = 2, .entry = {"0:0", "0:0"}};
    assert_false(cllm_devices_may_mix(&devices));
}

static void a_device_is_lost_after_three_failures_in_a_row(void **state)
{
    struct cllm_devices devices = {.n = 1, .entry = {"0:0"}};

    (void)state;
    assert_false(cllm_devices_failed(&devices, 1, false));
    assert_false(cllm_devices_failed(&devices, 1, true)); /* a new row */
    assert_false(cllm_devices_failed(&devices, 0, false));
    assert_false(cllm_devices_failed(&devices, 1, false));
    assert_true(cllm_devices_failed(&devices, 1, false));
    devices.lost[1] = true;
    assert_string_equal(cllm_devices_of(&devices, 1), "");
    assert_string_equal(cllm_devices_of(&devices, 0), "0:0");
    assert_true(cllm_devices_may_mix(&devices));
}

static void failures_are_remembered_for_whoever_comes_next(void **state)
{
    struct cllm_devices devices = {.n = 1, .entry = {"0:0"}}, next = devices;
    struct cllm_devices none = {0};
    struct cllm_command command[2] = {{0}, {0}};

    (void)state;
    assert_false(cllm_devices_failed(&devices, 0, false));
    assert_false(cllm_devices_failed(&devices, 1, false));
    assert_false(cllm_devices_failed(&devices, 1, false));
    assert_true(cllm_devices_failed(&devices, 1, false));
    devices.lost[1] = true;
    for (uint32_t slot = 0; slot < 2; slot++)
        cllm_devices_remember(&devices, slot, &command[slot]);
    assert_false(cllm_devices_recall(&next, 0, &command[0]));
    assert_true(cllm_devices_recall(&next, 1, &command[1]));
    assert_string_equal(cllm_devices_of(&next, 0), "0:0");
    assert_string_equal(cllm_devices_of(&next, 1), "");
    assert_true(cllm_devices_may_mix(&next));
    assert_false(cllm_devices_failed(&next, 0, false)); /* the second and third */
    assert_true(cllm_devices_failed(&next, 0, false));
    /* A run that does without devices has lost none. */
    assert_false(cllm_devices_recall(&none, 1, &command[1]));
    assert_false(cllm_devices_may_mix(&none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_processor_is_chosen_in_silence),
        cmocka_unit_test(without_a_device_the_policy_decides),
        cmocka_unit_test(slots_take_the_entries_in_turn),
        cmocka_unit_test(a_device_is_lost_after_three_failures_in_a_row),
        cmocka_unit_test(failures_are_remembered_for_whoever_comes_next),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
