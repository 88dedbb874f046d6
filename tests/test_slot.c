/*
 * tests/test_slot.c - assignments and reports between Node Zero and a child, and what a
 * broken child may write into its page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/random.h"
#include "shm/slot.h"
#include "tests/control_temp.h"

#define TOKENS (2 * 3 * 8) /* of a lane: control_temp_geometry() */

static struct cllm_control node_zero, child;
static uint32_t generation;

static int setup(void **state)
{
    (void)state;
    control_temp_make(&node_zero);
    generation = cllm_slot_renew(&node_zero, 1);
    if (cllm_control_attach(&child, control_temp_id(), 1) != CLLM_ATTACH_OK)
        return -1;
    cllm_slot_say_hello(&child, generation, 77, "reference", -1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cllm_control_detach(&child);
    control_temp_remove(&node_zero);
    return 0;
}

static struct cllm_assignment lane_work(uint32_t lane)
{
    return (struct cllm_assignment){
        .kind = CLLM_WORK_LANE, .step = 3, .lane = lane, .buffer = 2};
}

static struct cllm_report answer_to(const struct cllm_assignment *work)
{
    struct cllm_report report;

    cllm_slot_answer(&report, work);
    report.tokens = TOKENS;
    report.loss = 1.5;
    return report;
}

static void work_goes_out_and_its_report_comes_back(void **state)
{
    struct cllm_assignment work = lane_work(7), got, asked;
    struct cllm_report report, taken;

    (void)state;
    assert_false(cllm_slot_next(&child, generation, 1, &got));
    assert_int_equal(cllm_slot_post(&node_zero, 1, &work), 1);
    assert_true(cllm_slot_next(&child, generation, 1, &got));
    assert_int_equal(got.lane, 7);
    assert_int_equal(cllm_slot_harvest(&node_zero, 1, &taken, &asked), CLLM_HARVEST_NONE);
    report = answer_to(&got);
    cllm_slot_report(&child, &report, 1, -1);
    assert_int_equal(cllm_slot_outstanding(&node_zero, 1), 1);
    assert_int_equal(cllm_slot_harvest(&node_zero, 1, &taken, &asked),
                     CLLM_HARVEST_REPORT);
    assert_int_equal(taken.lane, 7);
    assert_true(taken.loss == 1.5);
    assert_int_equal(cllm_slot_outstanding(&node_zero, 1), 0);
    assert_int_equal(cllm_slot_harvest(&node_zero, 1, &taken, &asked), CLLM_HARVEST_NONE);
}

static void two_assignments_are_taken_in_order(void **state)
{
    struct cllm_assignment a = lane_work(1), b = lane_work(2), got, asked;
    struct cllm_report report, taken;

    (void)state;
    (void)cllm_slot_post(&node_zero, 1, &a);
    (void)cllm_slot_post(&node_zero, 1, &b);
    for (uint64_t seq = 1; seq <= 2; seq++) {
        assert_true(cllm_slot_next(&child, generation, seq, &got));
        assert_int_equal(got.lane, seq);
        report = answer_to(&got);
        cllm_slot_report(&child, &report, seq, -1);
    }
    assert_int_equal(cllm_slot_harvest(&node_zero, 1, &taken, &asked),
                     CLLM_HARVEST_REPORT);
    assert_int_equal(taken.lane, 1);
    assert_int_equal(cllm_slot_harvest(&node_zero, 1, &taken, &asked),
                     CLLM_HARVEST_REPORT);
    assert_int_equal(taken.lane, 2);
}

static void reports_of_an_older_generation_are_dropped(void **state)
{
    struct cllm_assignment work = lane_work(7), got, asked;
    struct cllm_report report, taken;

    (void)state;
    (void)cllm_slot_post(&node_zero, 1, &work);
    assert_true(cllm_slot_next(&child, generation, 1, &got));
    report = answer_to(&got);
    assert_int_equal(cllm_slot_renew(&node_zero, 1), generation + 1);
    (void)cllm_slot_post(&node_zero, 1, &work);
    cllm_slot_report(&child, &report, 1, -1); /* the old process woke up again */
    assert_int_equal(cllm_slot_harvest(&node_zero, 1, &taken, &asked), CLLM_HARVEST_NONE);
    assert_false(cllm_slot_next(&child, generation, 1, &got)); /* nor gets it new work */
}

/* A broken worker may write anything into its page: a report is right or it is refused.
 */
static void no_changed_byte_of_a_report_is_accepted(void **state)
{
    struct cllm_assignment work = lane_work(7), got, asked;
    struct cllm_report report, taken;
    uint8_t *bytes = (uint8_t *)&child.own->report[1];

    (void)state;
    (void)cllm_slot_post(&node_zero, 1, &work);
    assert_true(cllm_slot_next(&child, generation, 1, &got));
    report = answer_to(&got);
    cllm_slot_report(&child, &report, 1, -1);
    for (size_t i = 0; i < sizeof report; i++) {
        enum cllm_harvest result;

        bytes[i] ^= 0x10;
        result = cllm_slot_harvest(&node_zero, 1, &taken, &asked);
        bytes[i] ^= 0x10;
        if (result == CLLM_HARVEST_REPORT)
            fail_msg("byte %zu of the report changed and nobody noticed", i);
    }
    assert_int_equal(cllm_slot_harvest(&node_zero, 1, &taken, &asked),
                     CLLM_HARVEST_REPORT);
}

static void an_answer_to_another_question_is_refused(void **state)
{
    struct cllm_assignment work = lane_work(7), got, asked;
    struct cllm_report report, taken;

    (void)state;
    (void)cllm_slot_post(&node_zero, 1, &work);
    assert_true(cllm_slot_next(&child, generation, 1, &got));
    report = answer_to(&got);
    report.lane = 8;
    cllm_slot_report(&child, &report, 1, -1);
    assert_int_equal(cllm_slot_harvest(&node_zero, 1, &taken, &asked), CLLM_HARVEST_BAD);
}

static void hello_is_believed_when_it_is_whole(void **state)
{
    uint64_t numerics = 0;
    char kernels[64];

    (void)state;
    assert_true(cllm_slot_hello(&node_zero, 1, &numerics, kernels));
    assert_int_equal(numerics, 77);
    assert_string_equal(kernels, "reference");
    child.own->status.numerics++;
    assert_false(cllm_slot_hello(&node_zero, 1, &numerics, kernels));
    child.own->status.numerics--;
    (void)cllm_slot_renew(&node_zero, 1);
    assert_false(cllm_slot_hello(&node_zero, 1, &numerics, kernels));
}

static void a_bell_wakes_and_its_loss_costs_a_timeout(void **state)
{
    uint64_t began = cllm_now_ns();

    (void)state;
    for (int i = 0; i < 100; i++)
        cllm_slot_ring(&node_zero, 1);
    cllm_slot_sleep(&child, 200 * CLLM_NS_PER_S); /* many rings are one */
    assert_true(cllm_now_ns() - began < 100 * CLLM_NS_PER_S);
    cllm_slot_sleep(&child, 5 * CLLM_NS_PER_MS); /* and it is silent again */
    assert_true(cllm_now_ns() - began >= 5 * CLLM_NS_PER_MS);
}

static void last_words_end_at_the_line(void **state)
{
    char text[1024];

    (void)state;
    cllm_slot_last_words(&child, "lane.c:7: bad\nmore");
    assert_string_equal(node_zero.slots[1].own.status.last_words, "lane.c:7: bad");
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    cllm_slot_last_words(&child, text);
    assert_int_equal(strlen(node_zero.slots[1].own.status.last_words), 511);
}

#define EXCHANGES 3000

/* The child of the exchange: answers each lane with a loss that depends on it. */
static void answer_all(int fd)
{
    struct cllm_control mine;
    struct cllm_assignment got;

    if (cllm_control_attach(&mine, control_temp_id(), 1) != CLLM_ATTACH_OK)
        _exit(1);
    for (uint64_t seq = 1; seq <= EXCHANGES; seq++) {
        struct cllm_report report;

        while (!cllm_slot_next(&mine, generation, seq, &got))
            cllm_slot_sleep(&mine, 20 * CLLM_NS_PER_MS);
        report = answer_to(&got);
        report.loss = (double)(got.step * 1000 + got.lane);
        cllm_slot_report(&mine, &report, seq, fd);
    }
    _exit(0);
}

static void thousands_of_exchanges_lose_nothing(void **state)
{
    int fd = eventfd(0, 0), status;
    pid_t pid = fork();
    uint64_t posted = 0, taken = 0;

    (void)state;
    if (pid == 0)
        answer_all(fd);
    while (taken < EXCHANGES) {
        struct cllm_assignment asked, work;
        struct cllm_report report;
        uint64_t rings;

        while (posted < EXCHANGES && cllm_slot_outstanding(&node_zero, 1) < 2) {
            work = lane_work((uint32_t)(posted % 24));
            work.step = posted / 24;
            posted = cllm_slot_post(&node_zero, 1, &work);
        }
        assert_int_equal(read(fd, &rings, sizeof rings), sizeof rings);
        while (cllm_slot_harvest(&node_zero, 1, &report, &asked) == CLLM_HARVEST_REPORT) {
            assert_int_equal(report.step * 24 + report.lane, taken);
            assert_true(report.loss == (double)(report.step * 1000 + report.lane));
            taken++;
        }
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(work_goes_out_and_its_report_comes_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(two_assignments_are_taken_in_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(reports_of_an_older_generation_are_dropped, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(no_changed_byte_of_a_report_is_accepted, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_answer_to_another_question_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(hello_is_believed_when_it_is_whole, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_bell_wakes_and_its_loss_costs_a_timeout, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(last_words_end_at_the_line, setup, teardown),
        cmocka_unit_test_setup_teardown(thousands_of_exchanges_lose_nothing, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
