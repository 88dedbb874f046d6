/*
 * tests/deaths.c - see tests/deaths.h.
 */
#include "tests/deaths.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "compute/threads.h"
#include "shm/slot.h"
#include "tests/control_temp.h"

static uint32_t generation; /* of the child that was forked last */

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

DIES void die_by_null_write(void)
{
    *(_Atomic uint8_t *)no_address = 1;
}

DIES void die_by_null_member(void)
{
    no_number = ((struct cllm_lane *)(void *)no_address)->tokens != 0;
}

DIES void die_by_null_call(void)
{
    no_function();
    no_number = 1; /* no tail call */
}

DIES void die_by_protected_write(void)
{
    /* second moments of chunk 3 */
    size_t off = 2 * cllm_vector_bytes(&child.control.header->geometry) +
                 (3 * 1024 + 5) * sizeof(float);

    child.params.base[off] = 1;
}

DIES void die_by_foreign_write(void)
{
    ((uint8_t *)child.control.state)[8] = 1;
}

/* 0x10 in a lane buffer, whose file is then cut short. */
DIES void die_by_short_object(void)
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

DIES void die_by_stack_overflow(void)
{
    no_number = descend(0);
}

DIES void die_by_assert(void)
{
    CLLM_ASSERT(no_number == 7);
}

DIES void die_by_abort(void)
{
    abort();
}

DIES void die_by_trap(void)
{
    __builtin_trap();
}

DIES void die_by_division(void)
{
    no_number = 7 / no_number;
}

DIES void die_by_breakpoint(void)
{
    (void)raise(SIGTRAP);
}

DIES void die_by_waiting(void)
{
    (void)pause();
}

DIES void die_by_bad_frame(void)
{
    /* A frame pointer that leads nowhere: the walk must not follow it. */
    __asm volatile("movq %0, %%rbp\n\tmovb $1, 0" ::"r"(UINT64_C(0x7fffffffeff0)));
}

DIES void die_by_unreal_address(void)
{
    no_number =
        *(const uint8_t *)(uintptr_t)(UINT64_C(0x8000) << 48 | (uintptr_t)no_address);
}

/* ---- in a thread that is not the first ---- */

static death_fn death_of_thread;
static bool all_at_once;

void deaths_in_thread(death_fn how, bool at_once)
{
    death_of_thread = how;
    all_at_once = at_once;
}

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

void die_in_thread(void)
{
    if (cllm_threads_start(3, 0) == 0)
        cllm_threads_everywhere(in_thread, NULL);
}

static void run_child(death_fn die)
{
    struct rlimit small = {.rlim_cur = 256 * 1024, .rlim_max = 8 << 20};
    struct rlimit none = {0};
    char name[CLLM_REGION_NAME_BYTES];
    struct cllm_status *status;

    (void)setrlimit(RLIMIT_STACK, &small);
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, 0);
    if (cllm_control_attach(&child.control, control_temp_id(), DEATHS_SLOT) !=
        CLLM_ATTACH_OK)
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

pid_t deaths_fork(struct cllm_control *node_zero, death_fn how)
{
    pid_t pid;

    hide_values();
    generation = cllm_slot_renew(node_zero, DEATHS_SLOT);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        run_child(how);
    return pid;
}

int deaths_wait(struct cllm_control *node_zero, death_fn how,
                struct cllm_crash_record *record)
{
    pid_t pid = deaths_fork(node_zero, how);
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_true(cllm_crash_read(node_zero, DEATHS_SLOT, record));
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
