/*
 * tests/test_fault.c - fault points: the text that arms them, who is counted, what
 * happens, and that it happens once however many processes come by.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"

#define PLACE   CLLM_FAULT_lane_batch    /* a PLACE of the worker */
#define ERROR   CLLM_FAULT_file_rename   /* an ERROR */
#define IO      CLLM_FAULT_journal_write /* an IO of Node Zero */
#define PLACE_S "lane_batch"
#define ERROR_S "file_rename"
#define IO_S    "journal_write"

static struct cllm_fault_page *page; /* shared with forked children */

static int set_up(void **state)
{
    (void)state;
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                -1, 0);
    assert_ptr_not_equal(page, MAP_FAILED);
    cllm_fault_attach(page, CLLM_FAULT_WORKER, 3);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cllm_fault_detach(page);
    assert_int_equal(munmap(page, sizeof *page), 0);
    return 0;
}

static uint32_t action(enum cllm_fault_point point)
{
    return cllm_load_relaxed(&page->armed[point]);
}

static uint32_t hits(enum cllm_fault_point point, enum cllm_fault_role role)
{
    return cllm_load_relaxed(&page->entry[point].hits[role]);
}

/* The process that comes by is @role in @slot from now on. */
static void become(enum cllm_fault_role role, uint32_t slot)
{
    cllm_fault_attach(page, role, slot);
}

/* Fork; the child comes by PLACE @times times and leaves with 7. Returns the status;
 * a child that is not at its end @ms after something has happened there is killed. */
static int child_comes_by(uint32_t times, int ms)
{
    const _Atomic uint32_t *fired = &page->entry[PLACE].fired;
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        const struct rlimit no_core = {0, 0};

        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGABRT, SIG_DFL);
        (void)signal(SIGSEGV, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(8);
        for (uint32_t i = 0; i < times; i++)
            cllm_fault(PLACE);
        _exit(7);
    }
    for (int waited = 0; waited<ms; waited += cllm_load_relaxed(fired)> 0) {
        const struct timespec one_ms = cllm_timespec(CLLM_NS_PER_MS);

        if (waitpid(pid, &status, WNOHANG | WUNTRACED) == pid) {
            if (!WIFSTOPPED(status))
                return status;
            assert_int_equal(kill(pid, SIGKILL), 0);
            assert_int_equal(waitpid(pid, NULL, 0), pid);
            return status;
        }
        (void)nanosleep(&one_ms, NULL);
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* ---- the list ---- */

static void every_point_has_a_name_of_its_own_a_role_and_a_sentence(void **state)
{
    (void)state;
    assert_true(CLLM_FAULT_LAST >= 80);
    for (uint32_t p = 0; p < CLLM_FAULT_LAST; p++) {
        const struct cllm_fault_row *row = cllm_fault_row((enum cllm_fault_point)p);

        assert_true(strlen(row->name) > 0 && strlen(row->name) < 40);
        assert_true(strlen(row->text) > 10);
        assert_true(row->roles != 0 && row->roles < 1u << CLLM_FAULT_ROLES);
        assert_true(row->kind < CLLM_FAULT_KINDS);
        assert_string_not_equal(row->name, "all");
        for (uint32_t q = 0; q < p; q++) {
            const struct cllm_fault_row *other = cllm_fault_row((enum cllm_fault_point)q);

            assert_string_not_equal(row->name, other->name);
            assert_string_not_equal(row->text, other->text);
        }
    }
}

/* ---- the text ---- */

static void a_text_arms_what_it_says(void **state)
{
    const struct cllm_fault_entry *entry = &page->entry[PLACE];

    (void)state;
    assert_int_equal(cllm_fault_arm(page, PLACE_S ":exit=9:7*2:12," ERROR_S
                                                  ":errno=ENOSPC:1:saver," IO_S ":short"),
                     3);
    assert_int_equal(action(PLACE), CLLM_FAULT_EXIT);
    assert_int_equal(entry->argument, 9);
    assert_int_equal(entry->left, 7);
    assert_int_equal(entry->times, 2);
    assert_int_equal(entry->slot, 12);
    assert_int_equal(entry->roles, cllm_fault_row(PLACE)->roles);
    assert_int_equal(action(ERROR), CLLM_FAULT_ERRNO);
    assert_int_equal(page->entry[ERROR].argument, ENOSPC);
    assert_int_equal(page->entry[ERROR].roles, 1u << CLLM_FAULT_SAVER);
    assert_int_equal(page->entry[ERROR].slot, CLLM_FAULT_ANY);
    assert_int_equal(action(IO), CLLM_FAULT_SHORT);
    assert_true(cllm_fault_any());
}

static void a_new_text_takes_the_place_of_the_old_one(void **state)
{
    (void)state;
    assert_int_equal(cllm_fault_arm(page, PLACE_S ":kill"), 1);
    assert_int_equal(cllm_fault_arm(page, ERROR_S ":stop"), 1);
    assert_int_equal(action(PLACE), CLLM_FAULT_OFF);
    assert_int_equal(action(ERROR), CLLM_FAULT_STOP);
    assert_int_equal(cllm_fault_arm(page, ""), 0);
    assert_false(cllm_fault_any());
}

static void all_points_can_be_counted_and_nothing_else(void **state)
{
    (void)state;
    assert_int_equal(cllm_fault_arm(page, "all:count"), CLLM_FAULT_LAST);
    cllm_fault(PLACE);
    cllm_fault(IO); /* whoever comes by */
    assert_int_equal(hits(PLACE, CLLM_FAULT_WORKER), 1);
    assert_int_equal(hits(IO, CLLM_FAULT_WORKER), 1);
    assert_int_equal(cllm_fault_arm(page, "all:kill"), CLLM_ECONFIG);
}

static void what_is_no_text_is_refused_and_changes_nothing(void **state)
{
    static const char *const bad[] = {
        "nowhere:kill",
        PLACE_S,
        PLACE_S ":",
        PLACE_S ":maim",
        PLACE_S ":off",
        PLACE_S ":kill=1",
        PLACE_S ":kill:0",
        PLACE_S ":kill:-1",
        PLACE_S ":kill: 1",
        PLACE_S ":kill:1x",
        PLACE_S ":kill:",
        PLACE_S ":kill:1*",
        PLACE_S ":kill:1*0",
        PLACE_S ":kill:99999999999999999999",
        PLACE_S ":kill:1:",
        PLACE_S ":kill:1:nobody",
        PLACE_S ":kill:1:4294967295",
        PLACE_S ":kill:1:2:3",
        PLACE_S ":exit",
        PLACE_S ":exit=256",
        PLACE_S ":exit=",
        PLACE_S ":sleep",
        PLACE_S ":sleep=1h",
        PLACE_S ":errno=EIO",
        PLACE_S ":short",
        PLACE_S ":flip",
        ERROR_S ":flip",
        "lane_erred:errno=EIO",
        "lane_erred:flip=1",
        ERROR_S ":errno",
        ERROR_S ":errno=5",
        ERROR_S ":errno=EWHAT",
        ERROR_S ":short",
        PLACE_S ":kill," PLACE_S ":stop",
        "all:count," PLACE_S ":kill",
        ",",
        PLACE_S ":kill,,",
        " " PLACE_S ":kill",
    };

    (void)state;
    assert_int_equal(cllm_fault_arm(page, PLACE_S ":sleep=0:5"), 1);
    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        if (cllm_fault_arm(page, bad[i]) != CLLM_ECONFIG)
            fail_msg("'%s' was accepted", bad[i]);
        assert_non_null(strstr(cllm_err_text(), CLLM_FAULT_ENVIRONMENT));
        assert_int_equal(action(PLACE), CLLM_FAULT_SLEEP);
        assert_int_equal(page->entry[PLACE].left, 5);
    }
}

static void a_text_of_any_length_is_read_or_refused(void **state)
{
    static char text[100000];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    assert_int_equal(cllm_fault_arm(page, text), CLLM_ECONFIG);
    for (size_t i = 0; i + 1 < sizeof text; i++)
        text[i] = ":,=*1"[i % 5];
    assert_int_equal(cllm_fault_arm(page, text), CLLM_ECONFIG);
    text[0] = '\0';
    for (uint32_t p = 0; p < CLLM_FAULT_LAST; p++) {
        size_t used = strlen(text);

        (void)snprintf(text + used, sizeof text - used, "%s%s:kill:2147483647*2",
                       p > 0 ? "," : "", cllm_fault_row((enum cllm_fault_point)p)->name);
    }
    assert_int_equal(cllm_fault_arm(page, text), CLLM_FAULT_LAST);
}

static void the_environment_arms_before_there_is_a_run(void **state)
{
    (void)state;
    cllm_fault_detach(page);
    assert_int_equal(setenv(CLLM_FAULT_ENVIRONMENT, PLACE_S ":sleep=0:2*3", 1), 0);
    assert_int_equal(cllm_fault_arm(page, ERROR_S ":stop"), 1);
    assert_int_equal(cllm_fault_arm_environment(CLLM_FAULT_WORKER), 1);
    cllm_fault(PLACE);
    /* What was counted before the page came goes on there, and alone. */
    cllm_fault_attach(page, CLLM_FAULT_WORKER, 0);
    assert_int_equal(action(ERROR), CLLM_FAULT_OFF);
    assert_int_equal(action(PLACE), CLLM_FAULT_SLEEP);
    assert_int_equal(page->entry[PLACE].left, 1);
    assert_int_equal(hits(PLACE, CLLM_FAULT_WORKER), 1);
    /* It moved: who attaches once more brings nothing. */
    assert_int_equal(cllm_fault_arm(page, ERROR_S ":stop"), 1);
    cllm_fault_attach(page, CLLM_FAULT_WORKER, 0);
    assert_int_equal(action(ERROR), CLLM_FAULT_STOP);
    assert_int_equal(setenv(CLLM_FAULT_ENVIRONMENT, "nonsense", 1), 0);
    assert_int_equal(cllm_fault_arm_environment(CLLM_FAULT_WORKER), CLLM_ECONFIG);
    assert_int_equal(unsetenv(CLLM_FAULT_ENVIRONMENT), 0);
    assert_int_equal(cllm_fault_arm_environment(CLLM_FAULT_WORKER), 0);
}

/* ---- what happens ---- */

static void a_place_that_is_not_armed_does_nothing(void **state)
{
    size_t bytes = 100;

    (void)state;
    cllm_fault(PLACE);
    assert_int_equal(cllm_fault_error(ERROR), 0);
    assert_int_equal(cllm_fault_io(IO, &bytes), 0);
    assert_int_equal(bytes, 100);
    for (uint32_t p = 0; p < CLLM_FAULT_LAST; p++)
        assert_int_equal(hits((enum cllm_fault_point)p, CLLM_FAULT_WORKER), 0);
}

static void every_action_does_to_a_process_what_it_says(void **state)
{
    static const struct {
        const char *text;
        int signal, code, stopped;
    } table[] = {
        {PLACE_S ":kill", SIGKILL, 0, 0},   {PLACE_S ":segv", SIGSEGV, 0, 0},
        {PLACE_S ":abort", SIGABRT, 0, 0},  {PLACE_S ":stop", 0, 0, SIGSTOP},
        {PLACE_S ":exit=41", 0, 41, 0},     {PLACE_S ":sleep=1", 0, 7, 0},
        {PLACE_S ":count", 0, 7, 0},        {PLACE_S ":kill:2", 0, 7, 0},
        {PLACE_S ":kill:1:4", 0, 7, 0},     {PLACE_S ":kill:1:3", SIGKILL, 0, 0},
        {PLACE_S ":kill:1:saver", 0, 7, 0}, {PLACE_S ":kill:1:worker", SIGKILL, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(table); i++) {
        int status;

        assert_int_equal(cllm_fault_arm(page, table[i].text), 1);
        status = child_comes_by(1, 100000);
        if (table[i].stopped)
            assert_int_equal(WIFSTOPPED(status) ? WSTOPSIG(status) : 0, table[i].stopped);
        else if (table[i].signal)
            assert_int_equal(WIFSIGNALED(status) ? WTERMSIG(status) : 0, table[i].signal);
        else
            assert_int_equal(WIFEXITED(status) ? WEXITSTATUS(status) : -1, table[i].code);
    }
}

static void who_hangs_does_not_come_back(void **state)
{
    int status;

    (void)state;
    assert_int_equal(cllm_fault_arm(page, PLACE_S ":hang"), 1);
    status = child_comes_by(1, 100);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(page->entry[PLACE].fired, 1);
}

static void who_sleeps_comes_back_later(void **state)
{
    uint64_t began = cllm_now_ns();

    (void)state;
    assert_int_equal(cllm_fault_arm(page, PLACE_S ":sleep=20"), 1);
    cllm_fault(PLACE);
    assert_true(cllm_now_ns() - began >= 20 * CLLM_NS_PER_MS);
    cllm_fault(PLACE);
    assert_int_equal(page->entry[PLACE].fired, 1);
}

static void a_bit_flips_when_it_was_asked_to_and_never_else(void **state)
{
    (void)state;
    assert_int_equal(cllm_fault_arm(page, "lane_erred:flip:2*2:worker"), 1);
    for (int i = 1; i <= 5; i++)
        assert_int_equal(cllm_fault_flips(CLLM_FAULT_lane_erred), i == 2 || i == 3);
    assert_int_equal(cllm_fault_arm(page, "lane_erred:sleep=1"), 1);
    assert_false(cllm_fault_flips(CLLM_FAULT_lane_erred));
}

static void an_error_is_met_the_wanted_number_of_times_and_leaves_errno(void **state)
{
    size_t bytes = 100;

    (void)state;
    assert_int_equal(
        cllm_fault_arm(page, ERROR_S ":errno=EIO:3*2:worker," IO_S ":short:1*3:worker"),
        2);
    errno = ENOTTY;
    for (int i = 1; i <= 6; i++)
        assert_int_equal(cllm_fault_error(ERROR), i == 3 || i == 4 ? -EIO : 0);
    assert_int_equal(errno, ENOTTY);
    assert_int_equal(cllm_fault_io(IO, &bytes), 0);
    assert_int_equal(bytes, 50);
    bytes = 1;
    assert_int_equal(cllm_fault_io(IO, &bytes), 0);
    assert_int_equal(bytes, 1); /* never none */
    bytes = 3;
    assert_int_equal(cllm_fault_io(IO, &bytes), 0);
    assert_int_equal(bytes, 1);
    bytes = 3;
    assert_int_equal(cllm_fault_io(IO, &bytes), 0);
    assert_int_equal(bytes, 3);
    assert_int_equal(action(ERROR), CLLM_FAULT_OFF); /* and costs nothing any more */
}

static void only_who_is_meant_is_counted(void **state)
{
    (void)state;
    assert_int_equal(cllm_fault_arm(page, PLACE_S ":count:1:5"), 1);
    become(CLLM_FAULT_WORKER, 4);
    cllm_fault(PLACE);
    become(CLLM_FAULT_SAVER, 5); /* not a role of that point */
    cllm_fault(PLACE);
    assert_int_equal(hits(PLACE, CLLM_FAULT_WORKER) + hits(PLACE, CLLM_FAULT_SAVER), 0);
    become(CLLM_FAULT_WORKER, 5);
    cllm_fault(PLACE);
    assert_int_equal(hits(PLACE, CLLM_FAULT_WORKER), 1);
}

static void a_process_that_is_started_again_does_not_meet_the_same_fault(void **state)
{
    (void)state;
    assert_int_equal(cllm_fault_arm(page, PLACE_S ":kill:3*2"), 1);
    assert_true(WIFEXITED(child_comes_by(2, 100000)));
    assert_true(WIFSIGNALED(child_comes_by(2, 100000))); /* the third */
    assert_true(WIFSIGNALED(child_comes_by(2, 100000))); /* the fourth */
    for (int i = 0; i < 5; i++)
        assert_true(WIFEXITED(child_comes_by(100, 100000)));
    assert_int_equal(page->entry[PLACE].fired, 2);
    assert_int_equal(hits(PLACE, CLLM_FAULT_WORKER), 4);
}

#define RACERS 8
#define LAPS   20000

static void among_many_processes_exactly_one_is_the_nth(void **state)
{
    pid_t pid[RACERS];
    int dead = 0;

    (void)state;
    assert_int_equal(cllm_fault_arm(page, PLACE_S ":exit=3:30000*5"), 1);
    for (int i = 0; i < RACERS; i++) {
        pid[i] = fork();
        assert_true(pid[i] >= 0);
        if (pid[i] == 0) {
            if (!freopen("/dev/null", "w", stderr))
                _exit(8);
            for (int lap = 0; lap < LAPS; lap++)
                cllm_fault(PLACE);
            _exit(7);
        }
    }
    for (int i = 0; i < RACERS; i++) {
        int status;

        assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
        assert_true(WIFEXITED(status));
        assert_true(WEXITSTATUS(status) == 7 || WEXITSTATUS(status) == 3);
        dead += WEXITSTATUS(status) == 3;
    }
    assert_int_equal(dead, 5);
    assert_int_equal(page->entry[PLACE].fired, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_point_has_a_name_of_its_own_a_role_and_a_sentence),
        cmocka_unit_test_setup_teardown(a_text_arms_what_it_says, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_text_takes_the_place_of_the_old_one, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(all_points_can_be_counted_and_nothing_else,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_text_is_refused_and_changes_nothing,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_text_of_any_length_is_read_or_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_environment_arms_before_there_is_a_run,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_place_that_is_not_armed_does_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(every_action_does_to_a_process_what_it_says,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_hangs_does_not_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_sleeps_comes_back_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            an_error_is_met_the_wanted_number_of_times_and_leaves_errno, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(a_bit_flips_when_it_was_asked_to_and_never_else,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_who_is_meant_is_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_process_that_is_started_again_does_not_meet_the_same_fault, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(among_many_processes_exactly_one_is_the_nth,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
