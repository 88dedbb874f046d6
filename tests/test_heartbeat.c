/*
 * tests/test_heartbeat.c - who is hung, and above all who is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coordinator/heartbeat.h"

#define S CLLM_NS_PER_S

/* A guardian that looks on time, at a process that the test makes up. */
struct scene {
    struct cllm_heartbeat_watch watch;
    struct cllm_usage usage;
    bool beats, stopped;
    uint64_t now_ns;
    char why[96];
};

static void set_scene(struct scene *scene)
{
    *scene = (struct scene){.usage = {.state = 'S'}, .now_ns = 1000 * S};
    assert_int_equal(cllm_heartbeat_watch_init(&scene->watch), 0);
    assert_false(cllm_heartbeat_watch_judge(&scene->watch, true, false, &scene->usage,
                                            scene->now_ns, scene->why,
                                            sizeof scene->why));
}

/* @seconds go by, in which the process uses @cpu seconds a second. True when it is
 * condemned. */
static bool pass(struct scene *scene, double seconds, double cpu)
{
    uint64_t end = scene->now_ns + (uint64_t)(seconds * 1e9);

    while (scene->now_ns < end) {
        scene->now_ns += CLLM_HEARTBEAT_LOOK_NS;
        scene->usage.cpu_ns += (uint64_t)(cpu * (double)CLLM_HEARTBEAT_LOOK_NS);
        if (cllm_heartbeat_watch_judge(&scene->watch, scene->beats, scene->stopped,
                                       &scene->usage, scene->now_ns, scene->why,
                                       sizeof scene->why))
            return true;
    }
    return false;
}

static void end_scene(struct scene *scene)
{
    (void)close(scene->watch.fd);
}

static void one_that_beats_is_well(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    scene.beats = true;
    scene.usage.state = 'R';
    assert_false(pass(&scene, 1000, 1));
    end_scene(&scene);
}

static void one_that_sleeps_and_is_silent_is_hung(void **state)
{
    static const char asleep[] = "SDt";
    struct scene scene;

    (void)state;
    for (size_t i = 0; i < strlen(asleep); i++) {
        set_scene(&scene);
        scene.usage.state = asleep[i];
        assert_false(pass(&scene, 9, 0));
        assert_string_equal(scene.why, "");
        assert_true(pass(&scene, 2, 0));
        assert_memory_equal(scene.why, "no heartbeat for 10 s, state ", 29);
        assert_int_equal(scene.why[29], asleep[i]);
        end_scene(&scene);
    }
}

static void one_that_runs_in_circles_is_hung(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    scene.usage.state = 'R';
    assert_false(pass(&scene, 9, 0.9));
    assert_true(pass(&scene, 2, 0.9));
    assert_non_null(strstr(scene.why, "state R, running in circles"));
    end_scene(&scene);
}

/* Loaded ten times over: silent, ready to run, and hardly ever on a processor. */
static void one_that_starves_is_not_hung(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    scene.usage.state = 'R';
    assert_false(pass(&scene, 45, 0.1));
    scene.beats = true;
    assert_false(pass(&scene, 1, 0.1));
    scene.beats = false;
    assert_false(pass(&scene, 45, 0.1)); /* what it used before the beat does not count */
    end_scene(&scene);
}

/* Seen ready to run once between two sleeps: it makes its way. */
static void one_that_was_seen_running_is_not_asleep(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    assert_false(pass(&scene, 5, 0));
    scene.usage.state = 'R';
    assert_false(pass(&scene, 0.5, 0.1));
    scene.usage.state = 'D';
    assert_false(pass(&scene, 20, 0));
    end_scene(&scene);
}

static void a_guardian_that_was_away_begins_anew(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    assert_false(pass(&scene, 9, 0));
    scene.now_ns += 60 * S;
    assert_false(pass(&scene, 9, 0));
    assert_true(pass(&scene, 2, 0));
    end_scene(&scene);
}

static void a_stopped_one_has_two_seconds(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    scene.usage.state = 'T';
    scene.stopped = true;
    assert_false(pass(&scene, 2, 0));
    assert_true(pass(&scene, 0.5, 0));
    assert_string_equal(scene.why, "stopped for 2 s, state T");
    end_scene(&scene);
}

static void one_that_goes_on_in_time_is_left_alone(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    for (uint32_t i = 0; i < 20; i++) {
        scene.stopped = true;
        assert_false(pass(&scene, 1.5, 0));
        scene.stopped = false;
        assert_false(pass(&scene, 1.5, 0));
        assert_string_equal(scene.why, "");
    }
    end_scene(&scene);
}

/* The guardian was stopped with it (both by one kill): it has its two seconds from when
 * the guardian is back. */
static void a_stop_is_not_counted_while_the_guardian_is_away(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    scene.stopped = true;
    assert_false(pass(&scene, 1, 0));
    scene.now_ns += 60 * S;
    assert_false(pass(&scene, 2, 0));
    assert_true(pass(&scene, 1, 0));
    end_scene(&scene);
}

/* The watch begins with the process; a new one has as long as one that beats. */
static void one_that_never_beats_is_hung(void **state)
{
    struct scene scene = {.usage = {.state = 'S'}, .now_ns = 1000 * S};

    (void)state;
    assert_int_equal(cllm_heartbeat_watch_init(&scene.watch), 0);
    assert_false(pass(&scene, 10, 0));
    assert_true(pass(&scene, 2, 0));
    cllm_heartbeat_watch_renew(&scene.watch);
    assert_false(pass(&scene, 10, 0));
    assert_true(pass(&scene, 2, 0));
    cllm_heartbeat_watch_renew(&scene.watch);
    scene.stopped = true;
    assert_false(pass(&scene, 2, 0));
    assert_true(pass(&scene, 1, 0));
    end_scene(&scene);
}

static void one_that_a_debugger_holds_is_never_condemned(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    scene.usage.traced = true;
    scene.usage.state = 't';
    assert_false(pass(&scene, 100, 0));
    scene.stopped = true;
    assert_false(pass(&scene, 100, 0));
    scene.usage.traced = false; /* from here on the clock runs */
    assert_false(pass(&scene, 1.5, 0));
    assert_true(pass(&scene, 1, 0));
    end_scene(&scene);
}

static void one_that_the_kernel_does_not_tell_of_is_not_judged(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    for (uint32_t i = 0; i < 100; i++) {
        scene.now_ns += CLLM_HEARTBEAT_LOOK_NS;
        assert_false(cllm_heartbeat_watch_judge(
            &scene.watch, false, true, NULL, scene.now_ns, scene.why, sizeof scene.why));
    }
    end_scene(&scene);
}

static void beats_come_four_times_a_second_at_most(void **state)
{
    struct cllm_heartbeat_watch watch;
    struct cllm_heartbeat heartbeat;
    uint32_t heard = 0;

    (void)state;
    assert_int_equal(cllm_heartbeat_watch_init(&watch), 0);
    cllm_heartbeat_init(&heartbeat, watch.fd);
    for (uint64_t ms = 1; ms <= 2000; ms++) {
        cllm_heartbeat_beat(&heartbeat, ms * CLLM_NS_PER_MS);
        heard += cllm_heartbeat_watch_hear(&watch);
    }
    assert_int_equal(heard, 8);
    (void)close(watch.fd);
}

static void what_a_predecessor_said_is_forgotten(void **state)
{
    struct cllm_heartbeat_watch watch;
    struct cllm_heartbeat heartbeat;

    (void)state;
    assert_int_equal(cllm_heartbeat_watch_init(&watch), 0);
    cllm_heartbeat_init(&heartbeat, watch.fd);
    cllm_heartbeat_beat(&heartbeat, S);
    assert_true(cllm_heartbeat_watch_hear(&watch));
    cllm_heartbeat_beat(&heartbeat, 2 * S);
    cllm_heartbeat_watch_renew(&watch);
    assert_false(cllm_heartbeat_watch_hear(&watch));
    (void)close(watch.fd);
}

static void beats_that_nobody_takes_or_hears_do_not_block(void **state)
{
    struct cllm_heartbeat_watch watch;
    struct cllm_heartbeat heartbeat, alone;
    uint64_t full = UINT64_MAX - 1;

    (void)state;
    assert_int_equal(cllm_heartbeat_watch_init(&watch), 0);
    assert_int_equal(write(watch.fd, &full, sizeof full), sizeof full);
    cllm_heartbeat_init(&heartbeat, watch.fd);
    cllm_heartbeat_beat(&heartbeat, S);
    cllm_heartbeat_init(&alone, -1);
    cllm_heartbeat_beat(&alone, S);
    (void)close(watch.fd);
}

/* ---- real processes ---- */

static struct cllm_process begin_process(void)
{
    struct cllm_process process = {.pid = fork(), .pidfd = -1};

    if (process.pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            (void)pause();
    }
    assert_true(process.pid > 0);
    return process;
}

static void end_process(const struct cllm_process *process)
{
    (void)kill(process->pid, SIGKILL);
    assert_int_equal(waitpid(process->pid, NULL, 0), process->pid);
}

static bool look_until_condemned(struct cllm_heartbeat_watch *watch,
                                 struct cllm_process *process, uint64_t limit_ns,
                                 char *why, size_t bytes)
{
    struct timespec pause = cllm_timespec(50 * CLLM_NS_PER_MS);
    uint64_t began = cllm_now_ns();

    while (cllm_now_ns() - began < limit_ns) {
        if (cllm_heartbeat_watch_look(watch, process, why, bytes))
            return true;
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

/* Stopped for half a second: is it left alone? Where that took longer than it was to,
 * since others had the processor, nothing is to be learnt from it, and it is tried again.
 */
static bool survives_a_short_stop(struct cllm_heartbeat_watch *watch,
                                  struct cllm_process *process)
{
    for (uint32_t i = 0; i < 100; i++) {
        uint64_t began = cllm_now_ns();
        char why[96];
        bool condemned;

        (void)kill(process->pid, SIGSTOP);
        condemned = look_until_condemned(watch, process, S / 2, why, sizeof why);
        (void)kill(process->pid, SIGCONT);
        if (cllm_now_ns() - began < 3 * S / 2)
            return !condemned;
        cllm_heartbeat_watch_renew(watch);
    }
    return false;
}

static void a_process_stopped_by_a_signal_is_seen(void **state)
{
    struct cllm_process process = begin_process();
    struct cllm_heartbeat_watch watch;
    char why[96] = "";
    uint64_t stopped_ns;

    (void)state;
    assert_int_equal(cllm_heartbeat_watch_init(&watch), 0);
    assert_false(look_until_condemned(&watch, &process, S / 5, why, sizeof why));
    assert_true(survives_a_short_stop(&watch, &process));
    assert_false(look_until_condemned(&watch, &process, S / 5, why, sizeof why));
    stopped_ns = cllm_now_ns();
    (void)kill(process.pid, SIGSTOP);
    assert_true(look_until_condemned(&watch, &process, 240 * S, why, sizeof why));
    assert_true(cllm_now_ns() - stopped_ns >= 2 * S);
    assert_memory_equal(why, "stopped for ", 12);
    assert_non_null(strstr(why, " s, state T"));
    end_process(&process);
    (void)close(watch.fd);
}

static void a_process_under_a_debugger_is_left_alone(void **state)
{
    struct cllm_process process = begin_process();
    struct cllm_heartbeat_watch watch;
    char why[96] = "";

    (void)state;
    assert_int_equal(cllm_heartbeat_watch_init(&watch), 0);
    if (ptrace(PTRACE_SEIZE, process.pid, NULL, NULL) != 0) {
        end_process(&process);
        skip(); /* ptrace is not allowed here */
    }
    (void)kill(process.pid, SIGSTOP);
    assert_false(look_until_condemned(&watch, &process, 3 * S, why, sizeof why));
    end_process(&process);
    (void)close(watch.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_beats_is_well),
        cmocka_unit_test(one_that_sleeps_and_is_silent_is_hung),
        cmocka_unit_test(one_that_runs_in_circles_is_hung),
        cmocka_unit_test(one_that_starves_is_not_hung),
        cmocka_unit_test(one_that_was_seen_running_is_not_asleep),
        cmocka_unit_test(a_guardian_that_was_away_begins_anew),
        cmocka_unit_test(a_stopped_one_has_two_seconds),
        cmocka_unit_test(one_that_goes_on_in_time_is_left_alone),
        cmocka_unit_test(a_stop_is_not_counted_while_the_guardian_is_away),
        cmocka_unit_test(one_that_never_beats_is_hung),
        cmocka_unit_test(one_that_a_debugger_holds_is_never_condemned),
        cmocka_unit_test(one_that_the_kernel_does_not_tell_of_is_not_judged),
        cmocka_unit_test(beats_come_four_times_a_second_at_most),
        cmocka_unit_test(what_a_predecessor_said_is_forgotten),
        cmocka_unit_test(beats_that_nobody_takes_or_hears_do_not_block),
        cmocka_unit_test(a_process_stopped_by_a_signal_is_seen),
        cmocka_unit_test(a_process_under_a_debugger_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
