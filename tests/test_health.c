/*
 * tests/test_health.c - who hangs: processes of this test, watched at times that it makes
 * up.
 */
#include "coordinator/health.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

#define MS CLLM_NS_PER_MS

static const struct cllm_health_limits limits = {.asleep_ns = 5000 * MS,
                                                 .running_ns = 5000 * MS};

static volatile sig_atomic_t tired;

static void be_tired(int signal)
{
    (void)signal;
    tired = 1;
}

/* A process that runs in circles until SIGUSR1, then sleeps for ever. */
static struct cllm_process begin(bool running)
{
    const struct sigaction action = {.sa_handler = be_tired};
    struct cllm_process process = {.pidfd = -1};
    sigset_t none;

    tired = !running;
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    (void)sigemptyset(&none);
    process.pid = fork();
    assert_true(process.pid >= 0);
    if (process.pid > 0)
        return process;
    while (!tired)
        continue;
    for (;;)
        (void)sigsuspend(&none);
}

static void end(struct cllm_process *process)
{
    assert_int_equal(kill(process->pid, SIGKILL), 0);
    assert_int_equal(waitpid(process->pid, NULL, 0), process->pid);
}

/* Wait until the kernel says so. */
static void until(const struct cllm_process *process, char state)
{
    struct cllm_usage usage = {0};

    for (uint32_t i = 0; usage.state != state; i++) {
        const struct timespec pause = {.tv_nsec = (long)MS};

        assert_true(i < 60000);
        (void)nanosleep(&pause, NULL);
        assert_true(cllm_process_usage(process, &usage));
    }
}

static void who_sleeps_all_the_time_hangs(void **state)
{
    struct cllm_process process = begin(false);
    struct cllm_health health;

    (void)state;
    until(&process, 'S');
    cllm_health_reset(&health, 7, 100 * MS);
    assert_int_equal(cllm_health_look(&health, &process, 7, &limits, 0, 2500 * MS),
                     CLLM_HEALTH_GOOD);
    assert_int_equal(cllm_health_look(&health, &process, 7, &limits, 0, 2800 * MS),
                     CLLM_HEALTH_SUSPECT);
    assert_int_equal(cllm_health_look(&health, &process, 7, &limits, 0, 5200 * MS),
                     CLLM_HEALTH_HANGS);
    assert_int_equal(health.state, 'S');
    /* Nobody looked meanwhile: that does not count. */
    assert_int_equal(
        cllm_health_look(&health, &process, 7, &limits, 4000 * MS, 9200 * MS),
        CLLM_HEALTH_HANGS);
    assert_int_equal(
        cllm_health_look(&health, &process, 7, &limits, 2000 * MS, 9600 * MS),
        CLLM_HEALTH_SUSPECT);
    assert_int_equal(cllm_health_look(&health, &process, 8, &limits, 0, 10000 * MS),
                     CLLM_HEALTH_GOOD);
    assert_int_equal(cllm_health_look(&health, &process, 8, &limits, 0, 12000 * MS),
                     CLLM_HEALTH_GOOD);
    end(&process);
}

/* Its own processor time counts, not how long it waits for a processor. */
static void who_runs_in_circles_hangs(void **state)
{
    const struct cllm_health_limits short_ = {.asleep_ns = 5000 * MS,
                                              .running_ns = 50 * MS};
    struct cllm_process process = begin(true);
    struct cllm_health health;
    uint64_t now = 0;

    (void)state;
    cllm_health_reset(&health, 0, now);
    do {
        const struct timespec pause = {.tv_nsec = (long)MS};

        now += 250 * MS;
        (void)nanosleep(&pause, NULL);
        assert_true(now < 60000 * 250 * MS);
    } while (cllm_health_look(&health, &process, 0, &short_, 0, now) !=
             CLLM_HEALTH_HANGS);
    cllm_health_reset(&health, 0, 0);
    assert_int_equal(cllm_health_look(&health, &process, 0, &limits, 0, 3600000 * MS),
                     CLLM_HEALTH_GOOD); /* it has not used 5 s since the first look */
    end(&process);
}

/* Otherwise it would be waited for, for ever. */
static void who_ran_and_then_sleeps_hangs_later(void **state)
{
    struct cllm_process process = begin(true);
    struct cllm_health health;

    (void)state;
    cllm_health_reset(&health, 0, 0);
    until(&process, 'R');
    while (health.ran_ns == 0) /* it may be asleep at a look: waiting for a page */
        assert_int_equal(
            cllm_health_look(&health, &process, 0, &limits, 0,
                             cllm_max_u64(1500 * MS, health.looked_ns + 250 * MS)),
            CLLM_HEALTH_GOOD);
    assert_int_equal(kill(process.pid, SIGUSR1), 0);
    until(&process, 'S');
    assert_int_equal(
        cllm_health_look(&health, &process, 0, &limits, 0, health.ran_ns + 9000 * MS),
        CLLM_HEALTH_GOOD);
    assert_int_equal(
        cllm_health_look(&health, &process, 0, &limits, 0, health.ran_ns + 10000 * MS),
        CLLM_HEALTH_SUSPECT);
    assert_int_equal(
        cllm_health_look(&health, &process, 0, &limits, 0, health.ran_ns + 19000 * MS),
        CLLM_HEALTH_SUSPECT);
    assert_int_equal(
        cllm_health_look(&health, &process, 0, &limits, 0, health.ran_ns + 20000 * MS),
        CLLM_HEALTH_HANGS);
    end(&process);
}

static void a_pace_is_the_median_of_the_newest(void **state)
{
    struct cllm_pace pace = {0};

    (void)state;
    assert_int_equal(cllm_pace_median(&pace), 0);
    for (uint64_t i = 1; i <= 3; i++)
        cllm_pace_take(&pace, i * i);
    assert_int_equal(cllm_pace_median(&pace), 4);
    for (uint64_t i = 0; i < CLLM_PACE_KEPT; i++)
        cllm_pace_take(&pace, 100 + i);
    assert_int_equal(cllm_pace_median(&pace), 100 + CLLM_PACE_KEPT / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_sleeps_all_the_time_hangs),
        cmocka_unit_test(who_runs_in_circles_hangs),
        cmocka_unit_test(who_ran_and_then_sleeps_hangs_later),
        cmocka_unit_test(a_pace_is_the_median_of_the_newest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
