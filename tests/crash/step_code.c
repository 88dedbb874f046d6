/*
 * tests/crash/step_code.c - symbols, two or three bytes of code, and a memory of both.
 */
#include "tests/crash/step_code.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/err.h"

#define KNOWN       (1u << 18) /* addresses; more than any role executes in a step */
#define N_GRADIENTS 2

/* Gradients first. */
static const char *const bodies[STEP_CODE_BODIES] = {
    "cllm_model_forward_backward", "cllm_model_loss",
    "cllm_ref_is_finite",          "cllm_ref_sumsq",
    "cllm_avx2_is_finite",         "cllm_avx2_sumsq",
    "cllm_avx512_is_finite",       "cllm_avx512_sumsq"};

/* Reads what it is given, and writes nothing. */
static bool is_reader(const struct step_code *code, uint64_t ip)
{
    return strncmp(step_symbols_name(&code->symbols, ip), "libxxhash.", 10) == 0;
}

/* The program itself is stepped, and the linker, which is entered in the midst of calls.
 */
static bool is_library(const struct step_code *code, uint64_t ip)
{
    const struct step_symbols *symbols = &code->symbols;

    return (ip < symbols->begin || ip >= symbols->end) &&
           strncmp(step_symbols_name(symbols, ip), "ld-", 3) != 0;
}

static int find_functions(struct step_code *code, enum nano_role role)
{
    const struct step_symbols *symbols = &code->symbols;
    bool node_zero = role == NANO_NODE_ZERO;
    const char *enter = node_zero ? "cllm_step_commit" : "cllm_slot_next";
    const char *leave = node_zero ? "cllm_node_wait" : "cllm_slot_next";

    code->enter = step_symbols_address(symbols, enter);
    code->leave = step_symbols_address(symbols, leave);
    if (code->enter == 0 || code->leave == 0)
        return cllm_err(-ENOENT, "the program has no function %s",
                        code->enter == 0 ? enter : leave);
    for (uint32_t i = 0; i < STEP_CODE_BODIES; i++)
        if (bodies[i])
            code->body[i] = step_symbols_address(symbols, bodies[i]);
    if (role != NANO_WORKER)
        return 0;
    code->bump = step_symbols_address(symbols, "bump_progress");
    if (code->body[0] != 0 && code->body[1] != 0 && code->bump != 0)
        return 0;
    return cllm_err(-ENOENT, "the worker has no function %s, %s or bump_progress",
                    bodies[0], bodies[1]);
}

int step_code_open(struct step_code *code, const struct nano_process *process)
{
    int rc;

    *code = (struct step_code){.known = calloc(KNOWN, sizeof *code->known)};
    if (!code->known)
        return cllm_err(-ENOMEM, "cannot keep what stands where");
    rc = step_symbols_open(&code->symbols, process->pid);
    if (rc == 0)
        rc = find_functions(code, process->role);
    if (rc != 0)
        step_code_close(code);
    return rc;
}

void step_code_close(struct step_code *code)
{
    step_symbols_close(&code->symbols);
    free(code->known);
    *code = (struct step_code){0};
}

/* movs, stos: the string instructions that store. */
static bool is_string(uint8_t code)
{
    return (code & 0xfe) == 0xa4 || (code & 0xfe) == 0xaa;
}

/* Length of the repeated string instruction that @code is; 0 = it is none. */
static uint32_t repeat_bytes(const uint8_t code[3])
{
    bool wide = (code[1] & 0xf8) == 0x48; /* a REX prefix */

    if (code[0] != 0xf3 || !is_string(wide ? code[2] : code[1]))
        return 0;
    return wide ? 3 : 2;
}

static enum step_kind sort(const struct step_code *code, const struct step_trace *trace,
                           uint64_t ip)
{
    uint8_t bytes[3];

    if (ip == code->leave)
        return STEP_KIND_LEAVE;
    for (uint32_t i = 0; i < STEP_CODE_BODIES; i++)
        if (ip == code->body[i])
            return i < N_GRADIENTS ? STEP_KIND_GRADIENT : STEP_KIND_BODY;
    if (is_reader(code, ip))
        return STEP_KIND_BODY;
    if (is_library(code, ip))
        return STEP_KIND_CALL;
    if (!step_trace_peek(trace, ip, bytes, sizeof bytes))
        return STEP_KIND_PLAIN; /* it will not get far */
    if (bytes[0] == 0x0f && bytes[1] == 0x05)
        return STEP_KIND_SYSCALL;
    return repeat_bytes(bytes) > 0 ? STEP_KIND_REPEAT : STEP_KIND_PLAIN;
}

enum step_kind step_code_kind(struct step_code *code, const struct step_trace *trace,
                              uint64_t ip)
{
    uint32_t at = (uint32_t)((ip ^ ip >> 18) % KNOWN);

    while (code->known[at].kind != STEP_KIND_UNKNOWN && code->known[at].ip != ip)
        at = (at + 1) % KNOWN;
    if (code->known[at].kind == STEP_KIND_UNKNOWN)
        code->known[at] =
            (struct step_known){.ip = ip, .kind = (uint32_t)sort(code, trace, ip)};
    return (enum step_kind)code->known[at].kind;
}

bool step_code_changes_files(uint64_t number)
{
    static const long list[] = {
        SYS_write,  SYS_pwrite64, SYS_writev,   SYS_open,      SYS_openat,
        SYS_rename, SYS_renameat, SYS_unlink,   SYS_renameat2, SYS_unlinkat,
        SYS_mkdir,  SYS_mkdirat,  SYS_rmdir,    SYS_symlink,   SYS_symlinkat,
        SYS_link,   SYS_linkat,   SYS_truncate, SYS_ftruncate, SYS_fallocate};

    for (size_t i = 0; i < CLLM_LEN(list); i++)
        if (number == (uint64_t)list[i])
            return true;
    return false;
}

/* Does @address lie in something that is watched? */
static bool is_watched(const struct step_code *code, uint64_t address)
{
    const char *object = step_symbols_shared(&code->symbols, address);

    return object && strncmp(object, "lane", 4) != 0;
}

bool step_code_call_is_shared(const struct step_code *code,
                              const struct step_trace *trace)
{
    struct step_registers regs;

    if (!step_trace_registers(trace, &regs))
        return true; /* it has ended: the next step finds out */
    for (size_t i = 0; i < CLLM_LEN(regs.argument); i++)
        if (is_watched(code, regs.argument[i]))
            return true;
    return false;
}

bool step_code_repeat_is_shared(const struct step_code *code,
                                const struct step_trace *trace, uint64_t ip,
                                uint64_t *next)
{
    struct step_registers regs;
    uint8_t bytes[3];

    if (!step_trace_registers(trace, &regs) ||
        !step_trace_peek(trace, ip, bytes, sizeof bytes))
        return true; /* it has ended: the next step finds out */
    *next = ip + repeat_bytes(bytes);
    return is_watched(code, regs.di);
}

uint64_t step_code_return(const struct step_trace *trace)
{
    struct step_registers regs;
    uint64_t address = 0;

    if (!step_trace_registers(trace, &regs) ||
        !step_trace_peek(trace, regs.sp, &address, sizeof address))
        return 0;
    return address;
}
