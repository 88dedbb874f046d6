/*
 * tests/test_device_meter.c - coordinator/device_meter.h: differences of what workers
 * count, also when they die and others begin anew.
 */
#include "coordinator/device_meter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "tests/control_temp.h"

static struct cllm_control control;

static int make(void **state)
{
    (void)state;
    control_temp_make(&control);
    return 0;
}

static int remove_it(void **state)
{
    (void)state;
    control_temp_remove(&control);
    return 0;
}

/* A process of @slot with a device, or one more, that has counted nothing yet. */
static void start(uint32_t slot, const char *device)
{
    struct cllm_slot *s = &control.slots[slot];
    uint32_t generation = cllm_load_relaxed(&s->command.generation) + 1;

    (void)snprintf(s->command.device, sizeof s->command.device, "%s", device);
    cllm_store_relaxed(&s->command.generation, generation);
}

/* It says hello, which clears its page, and has counted @n bytes up, a third of it down.
 */
static void counted(uint32_t slot, uint64_t n)
{
    struct cllm_slot *s = &control.slots[slot];

    cllm_store_relaxed(&s->own.status.device.up_bytes, n);
    cllm_store_relaxed(&s->own.status.device.down_bytes, n / 3);
    cllm_store_relaxed(&s->own.status.hello_generation,
                       cllm_load_relaxed(&s->command.generation));
}

static void workers_with_a_device_are_summed(void **state)
{
    struct cllm_device_meter meter = {0};
    struct cllm_device_counts counts;

    (void)state;
    start(0, "0:0");
    start(1, "");
    start(2, "0:1");
    counted(0, 300);
    counted(1, 5000); /* the processor's: whatever that may be */
    counted(2, 30);
    counts = cllm_device_meter_look(&meter, &control);
    assert_int_equal(counts.up_bytes, 330);
    assert_int_equal(counts.down_bytes, 110);
    counts = cllm_device_meter_look(&meter, &control);
    assert_int_equal(counts.up_bytes, 0);
    counted(2, 90);
    counts = cllm_device_meter_look(&meter, &control);
    assert_int_equal(counts.up_bytes, 60);
    assert_int_equal(counts.down_bytes, 20);
}

static void who_begins_anew_counts_from_the_beginning(void **state)
{
    struct cllm_device_meter meter = {0};
    struct cllm_device_counts counts;

    (void)state;
    start(0, "0:0");
    counted(0, 900);
    (void)cllm_device_meter_look(&meter, &control);
    start(0, "0:0");
    /* What the page has is the dead one's until the next has said hello. */
    counts = cllm_device_meter_look(&meter, &control);
    assert_int_equal(counts.up_bytes, 0);
    counted(0, 1200); /* more than the dead one: all of it counts */
    counts = cllm_device_meter_look(&meter, &control);
    assert_int_equal(counts.up_bytes, 1200);
    assert_int_equal(counts.down_bytes, 400);
}

static void a_counter_that_falls_counts_nothing(void **state)
{
    struct cllm_device_meter meter = {0};

    (void)state;
    start(0, "0:0");
    counted(0, 900);
    (void)cllm_device_meter_look(&meter, &control);
    counted(0, 3); /* a damaged page */
    assert_int_equal(cllm_device_meter_look(&meter, &control).up_bytes, 0);
    counted(0, 12);
    assert_int_equal(cllm_device_meter_look(&meter, &control).up_bytes, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(workers_with_a_device_are_summed, make,
                                        remove_it),
        cmocka_unit_test_setup_teardown(who_begins_anew_counts_from_the_beginning, make,
                                        remove_it),
        cmocka_unit_test_setup_teardown(a_counter_that_falls_counts_nothing, make,
                                        remove_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
