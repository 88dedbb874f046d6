/*
 * shm/crash.c - fault signals, recorded and passed on.
 *
 * The record is published twice: first without the frames, then with them. Walking the
 * frames reads a stack that may be damaged; should it fault after all, the kernel ends
 * the process (the fault signals are blocked meanwhile) and the first record stands.
 */
#include "shm/crash.h"

#include <errno.h>
#include <inttypes.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/hash.h"

#define HANDLER_STACK (64 * 1024)          /* the kernel's own frame may take 12 KiB */
#define STACK_MOST    (UINT64_C(64) << 20) /* of an unlimited stack: what we call stack */
#define STACK_GAP     (UINT64_C(4) << 20) /* a product's frame reaches so far below one */
#define FAULT_WRITE   2u                  /* bits of the page fault's error code */
#define FAULT_FETCH   16u

static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE,
                                    SIGABRT, SIGSYS, SIGTRAP};

static struct {
    struct cllm_crash_record *to; /* NULL = no records */
    const struct cllm_own *own;
    _Atomic bool taken;              /* by a thread that fills the record */
    struct cllm_crash_record record; /* what is known beforehand, and the copy filled */
    alignas(CLLM_CACHELINE) uint8_t handler_stack[HANDLER_STACK]; /* of the first */
} self;

/* Of each thread its own. */
static _Thread_local struct {
    uint32_t thread;
    uint64_t stack_lo, stack_hi; /* 0 = unknown */
    const char *assert_text;     /* of the assert that failed; NULL = none did */
    uint64_t assert_frame[CLLM_CRASH_FRAMES]; /* return addresses above it */
    uint32_t n_assert_frames;
} here;

bool cllm_crash_signal(int signo)
{
    for (size_t i = 0; i < CLLM_LEN(fault_signals); i++)
        if (fault_signals[i] == signo)
            return true;
    return false;
}

uint64_t cllm_crash_sum(const struct cllm_crash_record *record)
{
    return cllm_hash(record, offsetof(struct cllm_crash_record, sum), record->generation);
}

/* ---- in the handler ---- */

static void publish(void)
{
    self.record.sum = cllm_crash_sum(&self.record);
    self.to->sum = 0;
    cllm_fence_release();
    memcpy(self.to, &self.record, offsetof(struct cllm_crash_record, sum));
    cllm_fence_release();
    self.to->sum = self.record.sum;
}

static void copy_name(char *to, size_t bytes, const char *from)
{
    size_t n = 0;

    for (; n + 1 < bytes && from[n] != '\0' && from[n] != '\n'; n++)
        to[n] = from[n];
    to[n] = '\0';
}

/* Registers and what the instruction wanted; returns the frame pointer. */
static uint64_t read_context(struct cllm_crash_record *record, const ucontext_t *context)
{
#ifdef __x86_64__
    const greg_t *reg = context->uc_mcontext.gregs;
    uint64_t error = (uint64_t)reg[REG_ERR];

    for (int i = 0; i < CLLM_CRASH_REGISTERS; i++)
        record->reg[i] = (uint64_t)reg[i];
    record->ip = (uint64_t)reg[REG_RIP];
    record->sp = (uint64_t)reg[REG_RSP];
    if (record->code > 0 && (record->signo == SIGSEGV || record->signo == SIGBUS))
        record->access = error & FAULT_FETCH   ? CLLM_ACCESS_JUMP
                         : error & FAULT_WRITE ? CLLM_ACCESS_WRITE
                                               : CLLM_ACCESS_READ;
    return (uint64_t)reg[REG_RBP];
#else
    (void)context;
    record->access = CLLM_ACCESS_UNKNOWN;
    return 0;
#endif
}

/* Which region the address lies in, and where in it. */
static void find_place(struct cllm_crash_record *record)
{
    const struct cllm_region_note *note = cllm_region_find(record->address);

    if (note) {
        copy_name(record->region, sizeof record->region, note->name);
        record->region_off = record->address - (uint64_t)(uintptr_t)note->base;
        record->region_writable = note->writable;
    } else if (here.stack_hi != 0 && record->address >= here.stack_lo - STACK_GAP &&
               record->address < here.stack_hi) {
        copy_name(record->region, sizeof record->region, "stack");
        record->region_off = here.stack_hi - record->address; /* it grows downwards */
        record->region_writable = 1;
    }
}

/* The newest report says which assignment came after it. */
static void find_work(struct cllm_crash_record *record)
{
    const struct cllm_status *status = &self.own->status;
    uint64_t seq = 0;

    record->work = cllm_load_relaxed(&status->work);
    record->lane = cllm_load_relaxed(&status->lane);
    record->step = cllm_load_relaxed(&status->step);
    for (uint32_t k = 0; k < 2; k++)
        seq = cllm_max_u64(seq, cllm_load_relaxed(&self.own->report[k].seq));
    if (record->work != CLLM_WORK_NONE)
        record->seq = seq + 1;
}

static bool in_module(uint64_t address)
{
    for (uint32_t i = 0; i < self.record.n_modules; i++)
        if (address >= self.record.module[i].begin && address < self.record.module[i].end)
            return true;
    return false;
}

/* The word at @address of the stack; the sanitizer must not mind whose it is. */
__attribute__((no_sanitize("address", "thread", "undefined"))) static uint64_t stack_word(
    uint64_t address)
{
    return *(const uint64_t *)(uintptr_t)address;
}

static bool on_stack(uint64_t address, uint64_t lo)
{
    return (address & 7) == 0 && address >= lo && here.stack_hi != 0 &&
           address <= here.stack_hi - 16;
}

/*
 * Return addresses by the chain of frame pointers from @frame, all between @lo and the
 * end of the stack, each above the one before. Appends to @out, which has @n; returns how
 * many there are then.
 */
static uint32_t walk(uint64_t out[CLLM_CRASH_FRAMES], uint32_t n, uint64_t frame,
                     uint64_t lo)
{
    while (n < CLLM_CRASH_FRAMES && on_stack(frame, lo)) {
        uint64_t back = stack_word(frame + 8);

        if (!in_module(back))
            break;
        out[n++] = back;
        lo = frame + 16;
        frame = stack_word(frame);
    }
    return n;
}

/* The record's frames: those of the failed assert, or from frame pointer @frame on. */
static void find_frames(struct cllm_crash_record *record, uint64_t frame)
{
    uint64_t lo = record->sp;

    if (record->signo == SIGABRT && here.n_assert_frames > 0) {
        memcpy(record->frame, here.assert_frame, sizeof record->frame);
        record->n_frames = here.n_assert_frames;
        return;
    }
    /* After a stack overflow the stack is there only above the address that failed. */
    if (record->code > 0 && record->address >= lo && record->address < here.stack_hi)
        lo = cllm_align_up(record->address + 1, CLLM_PAGE);
    if (here.thread != 0) /* below it there is a guard */
        lo = cllm_max_u64(lo, here.stack_lo);
    /* A function without a frame of its own was called from what the stack begins with.
     */
    if ((record->ip < record->module[0].begin || record->ip >= record->module[0].end) &&
        on_stack(record->sp, lo) && in_module(stack_word(record->sp)))
        record->frame[record->n_frames++] = stack_word(record->sp);
    record->n_frames = walk(record->frame, record->n_frames, frame, lo);
}

/* The first fault is the one that ends the process: threads that fault besides, often for
 * the same reason, wait for that. */
static void wait_for_the_end(void)
{
    const struct timespec second = {.tv_sec = 1};

    for (;;)
        (void)nanosleep(&second, NULL);
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
    const struct sigaction plain = {.sa_handler = SIG_DFL};
    struct cllm_crash_record *record = &self.record;
    uint64_t frame;

    if (atomic_exchange(&self.taken, true))
        wait_for_the_end();
    if (self.to) {
        record->thread = here.thread;
        record->signo = signo;
        record->code = info->si_code;
        if (info->si_code <= 0) {
            record->sender_pid = (uint32_t)info->si_pid;
            record->sender_uid = (uint32_t)info->si_uid;
        } else {
            record->address = (uint64_t)(uintptr_t)info->si_addr;
        }
        frame = read_context(record, context);
        if (info->si_code > 0)
            find_place(record);
        find_work(record);
        if (signo == SIGABRT && here.assert_text)
            copy_name(record->words, sizeof record->words, here.assert_text);
        record->time_ns = cllm_now_ns();
        record->frame[0] = record->ip;
        record->n_frames = 1;
        publish();
        find_frames(record, frame);
        publish();
    }
    /* With the default action; the signal waits until we return. It keeps its siginfo,
     * for the core. */
    (void)sigaction(signo, &plain, NULL);
    if (syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), signo, info) != 0)
        (void)raise(signo);
}

/* ---- beforehand ---- */

static void find_stack(void)
{
    uint64_t at = (uint64_t)(uintptr_t)__builtin_frame_address(0), lo, hi;
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];

    here.stack_hi = 0;
    while (maps && here.stack_hi == 0 && fgets(line, sizeof line, maps))
        if (sscanf(line, "%" SCNx64 "-%" SCNx64, &lo, &hi) == 2 && at >= lo && at < hi)
            here.stack_hi = hi;
    if (maps)
        (void)fclose(maps); /* read only */
    if (here.stack_hi == 0)
        here.stack_hi = cllm_align_up(at + 1, CLLM_PAGE);
    (void)getrlimit(RLIMIT_STACK, &limit);
    here.stack_lo = here.stack_hi - cllm_min_u64(limit.rlim_cur, STACK_MOST);
}

static void keep_build_id(struct cllm_crash_record *record, const uint8_t *note,
                          size_t bytes)
{
    const ElfW(Nhdr) * head;

    for (size_t at = 0; at + sizeof *head <= bytes;) {
        size_t name_at = at + sizeof *head, text_at;

        head = (const ElfW(Nhdr) *)(const void *)(note + at);
        text_at = name_at + cllm_align_up(head->n_namesz, 4);
        at = text_at + cllm_align_up(head->n_descsz, 4);
        if (at > bytes)
            return;
        if (head->n_type == NT_GNU_BUILD_ID && head->n_namesz == 4 &&
            memcmp(note + name_at, "GNU", 4) == 0) {
            memcpy(record->build_id, note + text_at,
                   cllm_min_u64(head->n_descsz, sizeof record->build_id));
            return;
        }
    }
}

/* One call for each module; the program comes first, without a name. */
static int keep_module(struct dl_phdr_info *info, size_t bytes, void *ctx)
{
    struct cllm_crash_record *record = ctx;
    struct cllm_crash_module *module = &record->module[record->n_modules];
    bool program = record->n_modules == 0;
    const char *name = program ? program_invocation_short_name : info->dlpi_name;
    const char *slash = strrchr(name, '/');

    (void)bytes;
    if (record->n_modules == CLLM_CRASH_MODULES)
        return 1;
    *module = (struct cllm_crash_module){
        .base = info->dlpi_addr, .begin = UINT64_MAX, .end = 0};
    copy_name(module->name, sizeof module->name, slash ? slash + 1 : name);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uint64_t at = info->dlpi_addr + part->p_vaddr;

        if (part->p_type == PT_LOAD) {
            module->begin = cllm_min_u64(module->begin, at);
            module->end = cllm_max_u64(module->end, at + part->p_memsz);
        } else if (part->p_type == PT_NOTE && program) {
            keep_build_id(record, (const uint8_t *)(uintptr_t)at, part->p_memsz);
        }
    }
    if (module->begin < module->end)
        record->n_modules++;
    return 0;
}

void cllm_crash_init(const struct cllm_control *control, enum cllm_role role,
                     uint32_t generation)
{
    const stack_t stack = {.ss_sp = self.handler_stack, .ss_size = HANDLER_STACK};
    struct sigaction action = {.sa_sigaction = on_fault};
    bool own_stack;

    memset(&self.record, 0, sizeof self.record);
    self.record.role = (uint32_t)role;
    self.record.slot = control->slot;
    self.record.generation = generation;
    self.record.pid = (uint32_t)getpid();
    (void)dl_iterate_phdr(keep_module, &self.record);
    find_stack();
    self.own = control->own;
    here.thread = 0;
    here.assert_text = NULL;
    here.n_assert_frames = 0;
    atomic_store(&self.taken, false);
    (void)cllm_crash_sum(
        &self.record); /* binds the hash function now, not in a handler */
    self.to = control->crash;

    /* Two faults at once are the kernel's business. */
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < CLLM_LEN(fault_signals); i++)
        (void)sigaddset(&action.sa_mask, fault_signals[i]);
    own_stack = sigaltstack(&stack, NULL) == 0;
    action.sa_flags = SA_SIGINFO | (own_stack ? SA_ONSTACK : 0);
    for (size_t i = 0; i < CLLM_LEN(fault_signals); i++)
        (void)sigaction(fault_signals[i], &action, NULL);
}

void cllm_crash_thread(uint32_t thread)
{
    void *handler_stack = mmap(NULL, HANDLER_STACK, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const stack_t stack = {.ss_sp = handler_stack, .ss_size = HANDLER_STACK};
    pthread_attr_t attributes;
    size_t bytes = 0;
    void *lo = NULL;

    here.thread = thread;
    /* Without a stack of its own the handler takes the thread's, if there is room. */
    if (handler_stack != MAP_FAILED)
        (void)sigaltstack(&stack, NULL);
    if (pthread_getattr_np(pthread_self(), &attributes) != 0)
        return;
    if (pthread_attr_getstack(&attributes, &lo, &bytes) == 0) {
        here.stack_lo = (uint64_t)(uintptr_t)lo;
        here.stack_hi = here.stack_lo + bytes;
    }
    (void)pthread_attr_destroy(&attributes);
}

void cllm_crash_fini(void)
{
    self.to = NULL;
    self.own = NULL;
}

void cllm_crash_note_assert(const char *text)
{
    uint64_t frame = (uint64_t)(uintptr_t)__builtin_frame_address(0);

    /* Now: abort() builds its own frames where this one is. */
    here.n_assert_frames = walk(here.assert_frame, 0, frame, frame);
    here.assert_text = text;
}

/* ---- reading ---- */

/* End the text and show what a terminal would obey as '?'. */
static void make_printable(char *text, size_t bytes)
{
    text[bytes - 1] = '\0';
    for (; *text != '\0'; text++)
        if (*text < 0x20 || *text > 0x7e)
            *text = '?';
}

bool cllm_crash_read(const struct cllm_control *control, uint32_t slot,
                     struct cllm_crash_record *out)
{
    memcpy(out, &control->slots[slot].crash, sizeof *out);
    if (out->signo == 0 || out->sum != cllm_crash_sum(out) || out->slot != slot ||
        out->role != control->slots[slot].command.role ||
        !cllm_crash_signal(out->signo) || out->n_frames > CLLM_CRASH_FRAMES ||
        out->n_modules > CLLM_CRASH_MODULES || out->access >= CLLM_ACCESS_LAST)
        return false;
    make_printable(out->region, sizeof out->region);
    make_printable(out->words, sizeof out->words);
    for (uint32_t i = 0; i < out->n_modules; i++)
        make_printable(out->module[i].name, sizeof out->module[i].name);
    return true;
}
