/*
 * tests/test_crash.c - children that die of every fault signal, and what their records
 * say; and that a record with any byte changed is not believed.
 *
 * Each case forks a child that attaches to a small run as worker 1 does, dies in one way,
 * and is compared in exit status and record.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/random.h"
#include "compute/threads.h"
#include "coordinator/crashes.h"
#include "shm/crash_text.h"
#include "shm/slot.h"
#include "tests/control_temp.h"

#define SLOT 1

static struct cllm_control node_zero;
static uint32_t generation;

/* Values that the compiler may not look through: see hide_values(). */
static uint8_t *no_address;
static int no_number;
static void (*no_function)(void);

static struct {
    struct cllm_control control;
    struct cllm_region params;
} child;

static void hide_values(void)
{
    __asm volatile("" : "+m"(no_address), "+m"(no_number), "+m"(no_function));
}

static void on_assert(const char *text)
{
    cllm_slot_last_words(&child.control, text);
    cllm_crash_note_assert(text);
}

/* ---- ways to die ---- */

/* Not inlined, and the sanitizers do not get in before the kernel. */
#define DIES __attribute__((noinline, no_sanitize("address", "thread", "undefined")))

DIES static void die_by_null_write(void)
{
    *(_Atomic uint8_t *)no_address = 1;
}

DIES static void die_by_null_member(void)
{
    no_number = ((struct cllm_lane *)(void *)no_address)->tokens != 0;
}

DIES static void die_by_null_call(void)
{
    no_function();
    no_number = 1; /* no tail call */
}

DIES static void die_by_protected_write(void)
{
    /* second moments of chunk 3 */
    size_t off = 2 * cllm_vector_bytes(&child.control.header->geometry) +
                 (3 * 1024 + 5) * sizeof(float);

    child.params.base[off] = 1;
}

DIES static void die_by_foreign_write(void)
{
    ((uint8_t *)child.control.state)[8] = 1;
}

/* 0x10 in a lane buffer, whose file is then cut short. */
DIES static void die_by_short_object(void)
{
    char name[CLLM_REGION_NAME_BYTES], path[CLLM_REGION_NAME_BYTES + 16];
    struct cllm_region lane;

    cllm_buffer_name(name, control_temp_id(), 2);
    (void)snprintf(path, sizeof path, "/dev/shm%s", name);
    if (cllm_region_open(&lane, name, 1, CLLM_REGION_GUARDED) == 0 &&
        truncate(path, 0) == 0)
        no_number = lane.base[0x10];
}

DIES static int descend(int depth)
{
    uint8_t room[512];

    room[depth & 255] = (uint8_t)depth; /* memset() would have a frame of its own kind */
    __asm volatile("" ::"r"(room) : "memory");
    return depth == INT32_MAX ? 0 : descend(depth + 1) + room[depth & 255];
}

DIES static void die_by_stack_overflow(void)
{
    no_number = descend(0);
}

DIES static void die_by_assert(void)
{
    CLLM_ASSERT(no_number == 7);
}

DIES static void die_by_abort(void)
{
    abort();
}

DIES static void die_by_trap(void)
{
    __builtin_trap();
}

DIES static void die_by_division(void)
{
    no_number = 7 / no_number;
}

DIES static void die_by_breakpoint(void)
{
    (void)raise(SIGTRAP);
}

DIES static void die_by_waiting(void)
{
    (void)pause();
}

DIES static void die_by_bad_frame(void)
{
    /* A frame pointer that leads nowhere: the walk must not follow it. */
    __asm volatile("movq %0, %%rbp\n\tmovb $1, 0" ::"r"(UINT64_C(0x7fffffffeff0)));
}

DIES static void die_by_unreal_address(void)
{
    no_number =
        *(const uint8_t *)(uintptr_t)(UINT64_C(0x8000) << 48 | (uintptr_t)no_address);
}

/* ---- in a thread that is not the first ---- */

static void (*death_of_thread)(void);
static bool all_at_once;

static void in_thread(void *ctx, uint32_t part, uint32_t thread)
{
    (void)ctx;
    (void)part;
    if (thread == 0) {
        die_by_waiting();
        return;
    }
    cllm_crash_thread(thread);
    if (thread == 2 || all_at_once)
        death_of_thread();
    die_by_waiting();
}

static void die_in_thread(void)
{
    if (cllm_threads_start(3, 0) == 0)
        cllm_threads_everywhere(in_thread, NULL);
}

static void run_child(void (*die)(void))
{
    struct rlimit small = {.rlim_cur = 256 * 1024, .rlim_max = 8 << 20};
    struct rlimit none = {0};
    char name[CLLM_REGION_NAME_BYTES];
    struct cllm_status *status;

    (void)setrlimit(RLIMIT_STACK, &small);
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, 0);
    if (cllm_control_attach(&child.control, control_temp_id(), SLOT) != CLLM_ATTACH_OK)
        _exit(101);
    cllm_params_name(name, control_temp_id(), 1);
    if (cllm_region_open(&child.params, name, 1, CLLM_REGION_GUARDED) != 0)
        _exit(102);
    if (!freopen("/dev/null", "w", stderr)) /* the text of the assert is expected */
        _exit(103);
    cllm_assert_set_hook(on_assert);
    cllm_crash_init(&child.control, CLLM_ROLE_WORKER, generation);
    cllm_slot_say_hello(&child.control, generation, 0, "test", -1);
    status = &child.control.own->status;
    cllm_store_relaxed(&status->work, CLLM_WORK_LANE);
    cllm_store_relaxed(&status->lane, 7);
    cllm_store_relaxed(&status->step, 12);
    cllm_store_relaxed(&child.control.own->report[0].seq, 4);
    die();
    _exit(104);
}

/* Let a child die; its record, and the signal that ended it. */
static int die(void (*how)(void), struct cllm_crash_record *record)
{
    int status;
    pid_t pid;

    generation = cllm_slot_renew(&node_zero, SLOT);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        run_child(how);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_true(cllm_crash_read(&node_zero, SLOT, record));
    assert_int_equal(record->generation, generation);
    assert_int_equal(record->pid, pid);
    assert_int_equal(record->signo, WTERMSIG(status));
    assert_int_equal(record->lane, 7);
    assert_int_equal(record->step, 12);
    assert_int_equal(record->work, CLLM_WORK_LANE);
    assert_int_equal(record->seq, 5);
    assert_true(record->time_ns <= cllm_now_ns());
    return WTERMSIG(status);
}

static int setup(void **state)
{
    (void)state;
    hide_values();
    control_temp_make(&node_zero);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    control_temp_remove(&node_zero);
    return 0;
}

static bool has_frame_in(const struct cllm_crash_record *record, void (*function)(void))
{
    uint64_t at = (uint64_t)(uintptr_t)function;

    for (uint32_t i = 0; i < record->n_frames; i++)
        if (record->frame[i] >= at && record->frame[i] < at + 1024)
            return true;
    return false;
}

/* ---- what a record says ---- */

static const struct death {
    void (*how)(void);
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
        void (*how)(void);
        const char *phrase;
    } row[] = {{die_by_null_write, "write to NULL at test_crash+0x"},
               {die_by_stack_overflow, "stack overflow at test_crash+0x"},
               {die_by_trap, "illegal operand at test_crash+0x"},
               {die_by_assert, ""}};
    const struct cllm_geometry geometry = control_temp_geometry();

    (void)state;
    all_at_once = false;
    for (size_t i = 0; i < CLLM_LEN(row); i++) {
        struct cllm_crash_record record;
        char phrase[CLLM_CRASH_PHRASE], *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);

        death_of_thread = row[i].how;
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
    all_at_once = true;
    death_of_thread = die_by_protected_write;
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

        generation = cllm_slot_renew(&node_zero, SLOT);
        pid = fork();
        if (pid == 0)
            run_child(die_by_waiting);
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

/* ---- what Node Zero keeps ---- */

/* As cllm_team_bury() does. */
static struct cllm_ending keep(int signo, pid_t pid)
{
    struct cllm_ending ending = {.by_signal = true, .code = signo, .fault = true};

    (void)snprintf(ending.text, sizeof ending.text, "killed by signal %d", signo);
    node_zero.slots[SLOT].command.pid = (uint32_t)pid;
    cllm_crashes_keep(&node_zero, SLOT, "/programs", &ending);
    return ending;
}

static uint32_t count_lines(const char *path, const char *text)
{
    char line[512];
    uint32_t n = 0;
    FILE *in = fopen(path, "re");

    assert_non_null(in);
    while (fgets(line, sizeof line, in))
        n += strstr(line, text) != NULL;
    (void)fclose(in);
    return n;
}

static void the_newest_hundred_files_are_kept(void **state)
{
    char dir[] = "/tmp/cllm-test-crash-XXXXXX", path[128];
    struct cllm_crash_record record;
    struct cllm_ending ending;
    uint32_t n_left = 0;

    (void)state;
    (void)die(die_by_protected_write, &record);
    assert_non_null(mkdtemp(dir));
    (void)snprintf(node_zero.header->run_dir, sizeof node_zero.header->run_dir, "%s",
                   dir);
    for (uint32_t i = 1; i <= CLLM_CRASHES_KEPT + 5; i++) {
        ending = keep(SIGSEGV, (pid_t)record.pid);
        assert_int_equal(ending.crash, i);
    }
    assert_int_equal(strncmp(ending.where, "write to params1+0xd014 ", 24), 0);
    (void)snprintf(path, sizeof path, "%s/crash/%u.txt", dir, ending.crash);
    assert_int_equal(count_lines(path, "killed by signal 11: write to params1+0xd014"),
                     1);
    assert_int_equal(count_lines(path, "addr2line -Cfpie /programs/test_crash 0x"), 1);
    assert_int_equal(count_lines(path, "work: lane, lane 7, step 12, assignment 5"), 1);

    /* A record of another process, or of another signal, is not this one's. */
    ending = keep(SIGBUS, (pid_t)record.pid);
    assert_string_equal(ending.where, "");
    ending = keep(SIGSEGV, (pid_t)record.pid + 1);
    assert_string_equal(ending.where, "");
    (void)snprintf(path, sizeof path, "%s/crash/%u.txt", dir, ending.crash);
    assert_int_equal(count_lines(path, "record: none"), 1);
    for (uint32_t i = 1; i <= CLLM_CRASHES_KEPT + 7; i++) {
        (void)snprintf(path, sizeof path, "%s/crash/%u.txt", dir, i);
        n_left += unlink(path) == 0;
    }
    assert_int_equal(n_left, CLLM_CRASHES_KEPT);
    (void)snprintf(path, sizeof path, "%s/crash", dir);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void a_run_directory_that_is_gone_does_no_harm(void **state)
{
    struct cllm_crash_record record;
    struct cllm_ending ending;

    (void)state;
    (void)die(die_by_division, &record);
    ending = keep(SIGFPE, (pid_t)record.pid); /* its directory is /nowhere */
    assert_int_equal(ending.crash, 0);
    assert_non_null(strstr(ending.where, "integer division by zero at test_crash+0x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_way_to_die_leaves_a_record, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_deep_stack_gives_as_many_frames_as_fit, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_death_in_a_thread_names_it, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_that_die_at_once_leave_one_whole_record,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_assert_gives_signal_text_and_caller,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_signal_from_outside_names_its_sender, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_record_stays_until_the_next_crash, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(no_changed_byte_of_a_record_is_accepted, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nonsense_with_a_right_hash_does_no_harm, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_newest_hundred_files_are_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_run_directory_that_is_gone_does_no_harm, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
