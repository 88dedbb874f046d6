/*
 * shm/crash_text.c - see shm/crash_text.h.
 */
#include "shm/crash_text.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

static const struct {
    int signo, code;
    const char *text;
} code_names[] = {
    {SIGSEGV, SEGV_MAPERR, "nothing is mapped there"},
    {SIGSEGV, SEGV_ACCERR, "no permission for it"},
    {SIGSEGV, SI_KERNEL, "no such address can exist"},
    {SIGBUS, BUS_ADRALN, "not aligned"},
    {SIGBUS, BUS_ADRERR, "past the end of the object, or no memory left for it"},
    {SIGBUS, BUS_OBJERR, "hardware error"},
    {SIGBUS, BUS_MCEERR_AR, "memory error found by the hardware"},
    {SIGILL, ILL_ILLOPN, "illegal operand"},
    {SIGILL, ILL_ILLOPC, "illegal instruction"},
    {SIGFPE, FPE_INTDIV, "integer division by zero"},
    {SIGFPE, FPE_INTOVF, "integer overflow"},
    {SIGFPE, FPE_FLTDIV, "division by zero"},
    {SIGFPE, FPE_FLTINV, "invalid floating-point operation"},
    {SIGTRAP, TRAP_BRKPT, "breakpoint"},
    {SIGTRAP, SI_KERNEL, "breakpoint"},
    {SIGSYS, 1, "system call that the sandbox refuses"},
};

const char *cllm_crash_signal_name(int signo, char out[16])
{
    const char *name = sigabbrev_np(signo);

    if (name)
        (void)snprintf(out, 16, "SIG%s", name);
    else
        (void)snprintf(out, 16, "signal %d", signo);
    return out;
}

const char *cllm_crash_code_name(int signo, int code)
{
    if (code <= 0)
        return code == SI_TKILL ? "sent by itself" : "sent by a process";
    for (size_t i = 0; i < CLLM_LEN(code_names); i++)
        if (code_names[i].signo == signo && code_names[i].code == code)
            return code_names[i].text;
    return "unknown cause";
}

static const struct cllm_crash_module *module_of(const struct cllm_crash_record *record,
                                                 uint64_t address)
{
    for (uint32_t i = 0; i < record->n_modules; i++)
        if (address >= record->module[i].begin && address < record->module[i].end)
            return &record->module[i];
    return NULL;
}

void cllm_crash_code(char out[CLLM_CRASH_PLACE], const struct cllm_crash_record *record,
                     uint64_t address)
{
    const struct cllm_crash_module *module = module_of(record, address);

    if (module)
        (void)snprintf(out, CLLM_CRASH_PLACE, "%s+0x%" PRIx64, module->name,
                       address - module->base);
    else
        (void)snprintf(out, CLLM_CRASH_PLACE, "0x%" PRIx64, address);
}

/* "weights, chunk 3, " for an address in a tensor object, "" for others. */
static void tensor_text(char out[48], const struct cllm_crash_record *record,
                        const struct cllm_geometry *geometry)
{
    static const char *const parts[] = {"weights, ", "first moments, ",
                                        "second moments, "};
    bool params = strncmp(record->region, "params", 6) == 0;
    uint64_t vector = cllm_vector_bytes(geometry), part, element;

    out[0] = '\0';
    if (!params && strncmp(record->region, "fold", 4) != 0 &&
        strncmp(record->region, "lane", 4) != 0)
        return;
    if (vector == 0 || geometry->chunk_elements == 0)
        return;
    part = record->region_off / vector;
    element = record->region_off % vector / sizeof(float);
    if (part >= CLLM_LEN(parts) || element >= geometry->n_elements)
        return;
    (void)snprintf(out, 48, "%schunk %" PRIu64 ", ", params ? parts[part] : "",
                   element / geometry->chunk_elements);
}

static const char *permission_text(const struct cllm_crash_record *record)
{
    if (record->signo == SIGBUS)
        return "no memory behind it";
    if (record->code != SEGV_ACCERR)
        return "not mapped now";
    if (record->access == CLLM_ACCESS_JUMP)
        return "not code";
    if (record->access != CLLM_ACCESS_WRITE)
        return "not readable here";
    return record->region_writable ? "read-only here" : "read-only for this process";
}

void cllm_crash_place(char out[CLLM_CRASH_PLACE], const struct cllm_crash_record *record,
                      const struct cllm_geometry *geometry)
{
    char tensor[48], code[CLLM_CRASH_PLACE];

    if (record->signo == SIGSEGV && record->code == SI_KERNEL) {
        (void)snprintf(out, CLLM_CRASH_PLACE, "an address that cannot exist");
    } else if (record->address == 0) {
        (void)snprintf(out, CLLM_CRASH_PLACE, "NULL");
    } else if (record->address < CLLM_PAGE) {
        (void)snprintf(out, CLLM_CRASH_PLACE, "NULL+0x%" PRIx64, record->address);
    } else if (strcmp(record->region, "stack") == 0) {
        (void)snprintf(out, CLLM_CRASH_PLACE, "stack (%" PRIu64 " KiB deep)",
                       record->region_off / 1024);
    } else if (record->region[0] != '\0') {
        tensor_text(tensor, record, geometry);
        (void)snprintf(out, CLLM_CRASH_PLACE, "%.20s+0x%" PRIx64 " (%s%s)",
                       record->region, record->region_off, tensor,
                       permission_text(record));
    } else if (module_of(record, record->address)) {
        cllm_crash_code(code, record, record->address);
        (void)snprintf(out, CLLM_CRASH_PLACE, "%.60s (%s)", code,
                       permission_text(record));
    } else {
        (void)snprintf(out, CLLM_CRASH_PLACE, "0x%" PRIx64 " (unknown)", record->address);
    }
}

static bool is_stack_overflow(const struct cllm_crash_record *record)
{
    /* Below the stack of a thread that is not the first there is a guard. */
    return record->signo == SIGSEGV &&
           (record->code == SEGV_MAPERR ||
            (record->code == SEGV_ACCERR && record->thread != 0)) &&
           strcmp(record->region, "stack") == 0;
}

static void say_what(char out[CLLM_CRASH_PHRASE], const struct cllm_crash_record *record,
                     const struct cllm_geometry *geometry)
{
    static const char *const access[] = {"access to", "read of", "write to", "jump to"};
    static_assert(CLLM_LEN(access) == CLLM_ACCESS_LAST, "a word for each access");
    char place[CLLM_CRASH_PLACE], code[CLLM_CRASH_PLACE];

    if (record->words[0] != '\0') {
        (void)snprintf(out, CLLM_CRASH_PHRASE, "%.*s", CLLM_CRASH_PHRASE - 1,
                       record->words);
        return;
    }
    cllm_crash_place(place, record, geometry);
    cllm_crash_code(code, record, record->ip);
    if (record->code <= 0 && record->sender_pid != record->pid)
        (void)snprintf(out, CLLM_CRASH_PHRASE, "sent by process %u, at %.60s",
                       record->sender_pid, code);
    else if (record->code <= 0)
        (void)snprintf(out, CLLM_CRASH_PHRASE, "sent by itself, at %.60s", code);
    else if (is_stack_overflow(record))
        (void)snprintf(out, CLLM_CRASH_PHRASE, "stack overflow at %.60s", code);
    else if (record->signo == SIGSEGV || record->signo == SIGBUS)
        (void)snprintf(out, CLLM_CRASH_PHRASE, "%s %s at %.48s", access[record->access],
                       place, code);
    else
        (void)snprintf(out, CLLM_CRASH_PHRASE, "%s at %.60s",
                       cllm_crash_code_name(record->signo, record->code), code);
}

void cllm_crash_phrase(char out[CLLM_CRASH_PHRASE],
                       const struct cllm_crash_record *record,
                       const struct cllm_geometry *geometry)
{
    size_t used;

    say_what(out, record, geometry);
    used = strlen(out);
    if (record->thread != 0)
        (void)snprintf(out + used, CLLM_CRASH_PHRASE - used, " in thread %u",
                       record->thread);
}

static void print_frames(FILE *out, const struct cllm_crash_record *record,
                         const char *binaries)
{
    const struct cllm_crash_module *program = &record->module[0];
    char code[CLLM_CRASH_PLACE];
    uint32_t n_ours = 0;

    (void)fprintf(out, "frames (newest first):\n");
    for (uint32_t i = 0; i < record->n_frames; i++) {
        cllm_crash_code(code, record, record->frame[i]);
        (void)fprintf(out, "  #%-2u %s\n", i, code);
    }
    if (record->n_modules == 0)
        return;
    for (uint32_t i = 0; i < record->n_frames; i++) {
        if (module_of(record, record->frame[i]) != program)
            continue;
        if (n_ours++ == 0)
            (void)fprintf(out, "lines: addr2line -Cfpie %s/%s", binaries, program->name);
        /* A return address is one past its call. */
        (void)fprintf(out, " 0x%" PRIx64,
                      record->frame[i] - program->base -
                          (record->frame[i] != record->ip));
    }
    if (n_ours > 0)
        (void)fprintf(out, "\n");
}

static void print_registers(FILE *out, const struct cllm_crash_record *record)
{
    static const char *const names[CLLM_CRASH_REGISTERS] = {
        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15", "rdi",
        "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp", "rip", "flags"};

    (void)fprintf(out, "registers:\n");
    for (int i = 0; i < CLLM_CRASH_REGISTERS; i++)
        (void)fprintf(out, "  %-5s %016" PRIx64 "%s", names[i], record->reg[i],
                      i % 3 == 2 ? "\n" : "");
}

void cllm_crash_print(FILE *out, const struct cllm_crash_record *record,
                      const struct cllm_geometry *geometry, const char *binaries)
{
    char place[CLLM_CRASH_PLACE], signal_name[16];

    (void)fprintf(out, "signal: %s, code %d: %s\n",
                  cllm_crash_signal_name(record->signo, signal_name), record->code,
                  cllm_crash_code_name(record->signo, record->code));
    if (record->code <= 0) {
        (void)fprintf(out, "sender: pid %u, uid %u\n", record->sender_pid,
                      record->sender_uid);
    } else {
        cllm_crash_place(place, record, geometry);
        (void)fprintf(out, "address: 0x%" PRIx64 ", %s\n", record->address, place);
    }
    if (record->words[0] != '\0')
        (void)fprintf(out, "assert: %s\n", record->words);
    if (record->thread != 0)
        (void)fprintf(out, "thread: %u\n", record->thread);
    if (record->work == CLLM_WORK_NONE)
        (void)fprintf(out, "work: none\n");
    else if (record->lane != CLLM_NONE)
        (void)fprintf(
            out, "work: %s, lane %u, step %" PRIu64 ", assignment %" PRIu64 "\n",
            cllm_work_name(record->work), record->lane, record->step, record->seq);
    else
        (void)fprintf(out, "work: %s, step %" PRIu64 ", assignment %" PRIu64 "\n",
                      cllm_work_name(record->work), record->step, record->seq);
    print_frames(out, record, binaries);
    (void)fprintf(out, "build id: ");
    for (size_t i = 0; i < sizeof record->build_id; i++)
        (void)fprintf(out, "%02x", record->build_id[i]);
    (void)fprintf(out, "\n");
    print_registers(out, record);
}
