/*
 * tests/test_crash.c - children that die of every fault signal, and what their records
 * say; and that a record with any byte changed is not believed.
 *
 * Each case lets a child of tests/deaths.h die in one way, and compares its exit status
 * and record.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/random.h"
#include "shm/crash_text.h"
#include "shm/slot.h"
#include "tests/control_temp.h"
#include "tests/deaths.h"

#define SLOT DEATHS_SLOT

static struct cllm_control node_zero;

static int setup(void **state)
{
    (void)state;
    control_temp_make(&node_zero);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    control_temp_remove(&node_zero);
    return 0;
}

static int die(death_fn how, struct cllm_crash_record *record)
{
    return deaths_wait(&node_zero, how, record);
}

static bool has_frame_in(const struct cllm_crash_record *record, death_fn function)
{
    uint64_t at = (uint64_t)(uintptr_t)function;

    for (uint32_t i = 0; i < record->n_frames; i++)
        if (record->frame[i] >= at && record->frame[i] < at + 1024)
            return true;
    return false;
}

/* ---- what a record says ---- */

static const struct death {
    death_fn how;
    int signo;
    bool frame;         /* the function is among the frames */
    const char *phrase; /* what the phrase begins with */
} deaths[] = {
    {die_by_null_write, SIGSEGV, true, "write to NULL at test_crash+0x"},
    {die_by_null_member, SIGSEGV, true, "read of NULL+0x20 at test_crash+0x"},
    {die_by_null_call, SIGSEGV, true, "jump to NULL at 0x0"},
    {die_by_protected_write, SIGSEGV, true,
     "write to params1+0xd014 (second moments, chunk 3, read-only here) at "
     "test_crash+0x"},
    {die_by_foreign_write, SIGSEGV, true,
     "write to control+0x1008 (read-only for this process) at test_crash+0x"},
    {die_by_short_object, SIGBUS, true,
     "read of lane2+0x10 (chunk 0, no memory behind it) at test_crash+0x"},
    {die_by_stack_overflow, SIGSEGV, false, "stack overflow at "},
    {die_by_trap, SIGILL, true, "illegal operand at test_crash+0x"},
    {die_by_division, SIGFPE, true, "integer division by zero at test_crash+0x"},
    {die_by_bad_frame, SIGSEGV, true, "write to NULL at test_crash+0x"},
    {die_by_unreal_address, SIGSEGV, true,
     "read of an address that cannot exist at test_crash+0x"},
    {die_by_abort, SIGABRT, false, "sent by itself, at "},
    {die_by_breakpoint, SIGTRAP, false, "sent by itself, at "},
};

static void every_way_to_die_leaves_a_record(void **state)
{
    const struct cllm_geometry geometry = control_temp_geometry();

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(deaths); i++) {
        const struct death *death = &deaths[i];
        struct cllm_crash_record record;
        char phrase[CLLM_CRASH_PHRASE];
        int signo = die(death->how, &record);

        cllm_crash_phrase(phrase, &record, &geometry);
        if (signo != death->signo ||
            strncmp(phrase, death->phrase, strlen(death->phrase)) != 0)
            fail_msg("death %zu: signal %d: %s", i, signo, phrase);
        if (death->frame && !has_frame_in(&record, death->how))
            fail_msg("death %zu: its function is not among %u frames", i,
                     record.n_frames);
        if (death->frame && death->how != die_by_bad_frame && record.n_frames < 2)
            fail_msg("death %zu: only %u frames", i, record.n_frames);
    }
}

static void a_death_in_a_thread_names_it(void **state)
{
    static const struct {
        death_fn how;
        const char *phrase;
    } row[] = {{die_by_null_write, "write to NULL at test_crash+0x"},
               {die_by_stack_overflow, "stack overflow at test_crash+0x"},
               {die_by_trap, "illegal operand at test_crash+0x"},
               {die_by_assert, ""}};
    const struct cllm_geometry geometry = control_temp_geometry();

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(row); i++) {
        struct cllm_crash_record record;
        char phrase[CLLM_CRASH_PHRASE], *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);

        deaths_in_thread(row[i].how, false);
        (void)die(die_in_thread, &record);
        assert_int_equal(record.thread, 2);
        cllm_crash_phrase(phrase, &record, &geometry);
        assert_int_equal(strncmp(phrase, row[i].phrase, strlen(row[i].phrase)), 0);
        assert_non_null(strstr(phrase, " in thread 2"));
        assert_true(row[i].how == die_by_stack_overflow ||
                    has_frame_in(&record, row[i].how));
        assert_non_null(out);
        cllm_crash_print(out, &record, &geometry, "/bin");
        assert_int_equal(fclose(out), 0);
        assert_non_null(strstr(text, "\nthread: 2\n"));
        free(text);
    }
}

/* They run into the same thing, as parts of one operation do. */
static void threads_that_die_at_once_leave_one_whole_record(void **state)
{
    (void)state;
    deaths_in_thread(die_by_protected_write, true);
    for (int i = 0; i < 50; i++) {
        struct cllm_crash_record record;

        (void)die(die_in_thread, &record);
        assert_true(record.thread == 1 || record.thread == 2);
        assert_true(record.n_frames >= 2);
    }
}

static void a_deep_stack_gives_as_many_frames_as_fit(void **state)
{
    struct cllm_crash_record record;

    (void)state;
    (void)die(die_by_stack_overflow, &record);
    assert_int_equal(record.n_frames, CLLM_CRASH_FRAMES);
    assert_true(record.region_off > 200 * 1024);
}

static void a_failed_assert_gives_signal_text_and_caller(void **state)
{
    const struct cllm_status *status = &node_zero.slots[SLOT].own.status;
    const struct cllm_geometry geometry = control_temp_geometry();
    struct cllm_crash_record record;
    char phrase[CLLM_CRASH_PHRASE];

    (void)state;
    assert_int_equal(die(die_by_assert, &record), SIGABRT);
    assert_non_null(
        strstr(record.words, "die_by_assert: assertion failed: no_number == 7"));
    assert_string_equal(record.words, status->last_words);
    assert_true(has_frame_in(&record, die_by_assert));
    cllm_crash_phrase(phrase, &record, &geometry);
    assert_string_equal(phrase, record.words);
}

static void a_signal_from_outside_names_its_sender(void **state)
{
    static const int signals[] = {SIGSEGV, SIGBUS,  SIGILL, SIGFPE,
                                  SIGABRT, SIGTRAP, SIGSYS};
    const struct timespec millisecond = cllm_timespec(CLLM_NS_PER_MS);
    const struct cllm_geometry geometry = control_temp_geometry();

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(signals); i++) {
        struct cllm_crash_record record;
        char phrase[CLLM_CRASH_PHRASE], expected[64];
        uint64_t numerics;
        char kernels[64];
        int status;
        pid_t pid;

        pid = deaths_fork(&node_zero, die_by_waiting);
        while (!cllm_slot_hello(&node_zero, SLOT, &numerics, kernels))
            (void)nanosleep(&millisecond, NULL);
        assert_int_equal(kill(pid, signals[i]), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), signals[i]);
        assert_true(cllm_crash_read(&node_zero, SLOT, &record));
        assert_int_equal(record.signo, signals[i]);
        cllm_crash_phrase(phrase, &record, &geometry);
        (void)snprintf(expected, sizeof expected, "sent by process %d, at ",
                       (int)getpid());
        assert_int_equal(strncmp(phrase, expected, strlen(expected)), 0);
    }
}

static void a_record_stays_until_the_next_crash(void **state)
{
    struct cllm_crash_record record, again;
    struct cllm_control next;
    uint32_t successor;

    (void)state;
    (void)die(die_by_trap, &record);
    successor = cllm_slot_renew(&node_zero, SLOT);
    assert_int_equal(cllm_control_attach(&next, control_temp_id(), SLOT), CLLM_ATTACH_OK);
    cllm_slot_say_hello(&next, successor, 0, "test", -1);
    cllm_control_detach(&next);
    assert_true(cllm_crash_read(&node_zero, SLOT, &again));
    assert_int_equal(again.generation, successor - 1);
    assert_false(cllm_crash_read(&node_zero, SLOT + 1, &again));
}

/* ---- records that must not be believed ---- */

static void no_changed_byte_of_a_record_is_accepted(void **state)
{
    uint8_t *bytes = (uint8_t *)&node_zero.slots[SLOT].crash;
    struct cllm_crash_record record;

    (void)state;
    (void)die(die_by_null_write, &record);
    for (size_t i = 0; i < sizeof record; i++) {
        bool believed;

        bytes[i] ^= 0x10;
        believed = cllm_crash_read(&node_zero, SLOT, &record);
        bytes[i] ^= 0x10;
        if (believed)
            fail_msg("byte %zu of the record changed and nobody noticed", i);
    }
    assert_true(cllm_crash_read(&node_zero, SLOT, &record));
}

/* A broken process may also write records whose hash is right. */
static void nonsense_with_a_right_hash_does_no_harm(void **state)
{
    const struct cllm_geometry geometry = control_temp_geometry();
    struct cllm_crash_record *page = &node_zero.slots[SLOT].crash, good, record;
    uint8_t *bytes = (uint8_t *)page;
    uint64_t believed = 0;

    (void)state;
    (void)die(die_by_protected_write, &good);
    for (uint64_t i = 0; i < 4000; i++) {
        char *text = NULL, phrase[CLLM_CRASH_PHRASE];
        size_t size = 0;
        FILE *out;

        memcpy(page, &good, sizeof good);
        for (uint64_t k = 0; k < 1 + i % 60; k++)
            bytes[cllm_random_u64(i, CLLM_RANDOM_TEST, 2 * k) % sizeof good] =
                (uint8_t)cllm_random_u64(i, CLLM_RANDOM_TEST, 2 * k + 1);
        if (i % 2)
            page->slot = SLOT, page->role = CLLM_ROLE_WORKER, page->signo = SIGSEGV,
            page->n_frames %= 40, page->n_modules %= 20, page->access %= 4;
        page->sum = cllm_crash_sum(page);
        if (!cllm_crash_read(&node_zero, SLOT, &record))
            continue;
        believed++;
        out = open_memstream(&text, &size);
        assert_non_null(out);
        cllm_crash_print(out, &record, &geometry, "/bin");
        cllm_crash_phrase(phrase, &record, &geometry);
        (void)fprintf(out, "%s", phrase);
        assert_int_equal(fclose(out), 0);
        for (size_t c = 0; c < size; c++)
            assert_true(text[c] == '\n' || (text[c] >= 0x20 && text[c] < 0x7f));
        free(text);
    }
    assert_true(believed > 100);
    memcpy(page, &good, sizeof good);
    page->n_frames = CLLM_CRASH_FRAMES + 1;
    page->sum = cllm_crash_sum(page);
    assert_false(cllm_crash_read(&node_zero, SLOT, &record));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_way_to_die_leaves_a_record),
        TEST(a_deep_stack_gives_as_many_frames_as_fit),
        TEST(a_death_in_a_thread_names_it),
        TEST(threads_that_die_at_once_leave_one_whole_record),
        TEST(a_failed_assert_gives_signal_text_and_caller),
        TEST(a_signal_from_outside_names_its_sender),
        TEST(a_record_stays_until_the_next_crash),
        TEST(no_changed_byte_of_a_record_is_accepted),
        TEST(nonsense_with_a_right_hash_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
