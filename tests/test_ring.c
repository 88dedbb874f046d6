/*
 * tests/test_ring.c - batches in the ring: whole and named, or not there.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "shm/ring.h"
#include "tests/control_temp.h"

static struct cllm_control control;
static struct cllm_ring loader, worker;

static int setup(void **state)
{
    (void)state;
    control_temp_make(&control);
    if (cllm_ring_open(&loader, control_temp_id(), &control.header->geometry, true) != 0)
        return -1;
    return cllm_ring_open(&worker, control_temp_id(), &control.header->geometry, false);
}

static int teardown(void **state)
{
    (void)state;
    cllm_ring_close(&loader);
    cllm_ring_close(&worker);
    control_temp_remove(&control);
    return 0;
}

static void fill(uint64_t batch)
{
    uint32_t *tokens = cllm_ring_begin(&loader, batch);

    for (uint64_t i = 0; i < loader.batch_tokens; i++)
        tokens[i] = (uint32_t)(batch * 131 + i);
    cllm_ring_publish(&loader, batch, 1);
}

static void a_published_batch_is_read_whole(void **state)
{
    uint32_t out[3 * 9];

    (void)state;
    assert_int_equal(worker.batch_tokens, 27);
    assert_false(cllm_ring_read(&worker, 5, out));
    fill(5);
    assert_true(cllm_ring_read(&worker, 5, out));
    assert_true(cllm_ring_has(&loader, 5));
    for (uint32_t i = 0; i < 27; i++)
        assert_int_equal(out[i], 5 * 131 + i);
}

static void a_slot_answers_to_one_batch_alone(void **state)
{
    const struct cllm_geometry *g = &control.header->geometry;
    uint32_t out[3 * 9];

    (void)state;
    fill(5);
    assert_int_equal(cllm_ring_slot_of(g, 5), cllm_ring_slot_of(g, 5 + g->ring_slots));
    assert_false(cllm_ring_read(&worker, 5 + g->ring_slots, out));
    fill(5 + g->ring_slots);
    assert_false(cllm_ring_read(&worker, 5, out));
    assert_true(cllm_ring_read(&worker, 5 + g->ring_slots, out));
}

static void validation_batches_have_slots_of_their_own(void **state)
{
    const struct cllm_geometry *g = &control.header->geometry;
    uint64_t batch = cllm_eval_batch_number(g, 23, 0);
    uint32_t out[3 * 9];

    (void)state;
    assert_int_equal(cllm_ring_slot_of(g, batch), g->ring_slots + 23);
    fill(batch);
    for (uint64_t n = 0; n < g->ring_slots; n++)
        fill(n);
    assert_true(cllm_ring_read(&worker, batch, out));
}

static void a_batch_being_filled_is_not_there(void **state)
{
    uint32_t out[3 * 9];

    (void)state;
    fill(5);
    (void)cllm_ring_begin(&loader, 5);
    assert_false(cllm_ring_read(&worker, 5, out));
}

/* A read that lands late, a wild store: the slot says ready, the hash does not. */
static void no_changed_byte_of_a_batch_is_accepted(void **state)
{
    uint8_t *payload;
    uint32_t out[3 * 9];

    (void)state;
    fill(5);
    payload =
        (uint8_t *)(loader.tokens + cllm_ring_slot_of(&control.header->geometry, 5) *
                                        loader.batch_tokens);
    for (size_t i = 0; i < sizeof out; i++) {
        payload[i] ^= 1;
        assert_false(cllm_ring_read(&worker, 5, out));
        assert_false(cllm_ring_has(&loader, 5));
        payload[i] ^= 1;
    }
    assert_true(cllm_ring_read(&worker, 5, out));
}

static void batch_numbers_count_steps_lanes_and_micro_batches(void **state)
{
    const struct cllm_geometry *g = &control.header->geometry;
    uint64_t n = 0;

    (void)state;
    for (uint64_t step = 1; step <= 3; step++)
        for (uint32_t lane = 0; lane < g->lanes; lane++)
            for (uint32_t m = 0; m < g->microbatches; m++)
                assert_int_equal(cllm_batch_number(g, step, lane, m), n++);
}

/* Sizes whose products overflow, and a ring that is only a little too large. */
static void a_geometry_that_does_not_fit_the_object_is_refused(void **state)
{
    struct cllm_geometry g;
    struct cllm_ring ring;

    (void)state;
    for (int i = 0; i < 7; i++) {
        g = control.header->geometry;
        g.ring_slots = i == 0 ? 0 : i == 1 ? UINT32_MAX : g.ring_slots;
        g.ring_eval_slots =
            i == 2 ? UINT32_MAX : g.ring_eval_slots + (i == 3 ? 100u : 0u);
        g.sequences = i == 4 ? UINT32_MAX : i == 5 ? 0 : g.sequences;
        g.model.context = i == 4 || i == 6 ? UINT32_MAX : g.model.context;
        assert_int_equal(cllm_ring_open(&ring, control_temp_id(), &g, false), -EBADMSG);
        assert_null(ring.region.base);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_published_batch_is_read_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(a_slot_answers_to_one_batch_alone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(validation_batches_have_slots_of_their_own, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_batch_being_filled_is_not_there, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(no_changed_byte_of_a_batch_is_accepted, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(batch_numbers_count_steps_lanes_and_micro_batches,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_geometry_that_does_not_fit_the_object_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
