/*
 * tests/crash/step_symbols.h - names of the addresses of a traced process: functions of
 * its program, else the file that is mapped there.
 */
#ifndef CLLM_TESTS_CRASH_STEP_SYMBOLS_H
#define CLLM_TESTS_CRASH_STEP_SYMBOLS_H

#include <sys/types.h>

#include "base/base.h"

struct step_symbol {
    uint64_t address, bytes; /* as linked */
    const char *name;        /* in the mapped program */
};

struct step_mapping {
    uint64_t begin, end;
    char name[48]; /* of the file, without its directory */
};

struct step_symbols {
    struct step_symbol *symbol; /* heap, (n_symbols), by address */
    uint32_t n_symbols;
    struct step_mapping mapping[64]; /* executable ones */
    uint32_t n_mappings;
    struct step_mapping shared[512]; /* of the run: "params0", "lane3", "control" ... */
    uint32_t n_shared;
    uint64_t base;       /* the program's load address */
    uint64_t begin, end; /* of its code, as loaded */
    void *file;          /* the program, mapped */
    size_t file_bytes;
};

/* Read the symbols of the program that @pid runs. Returns 0 or a negative code with error
 * text: a stripped program is an error. */
int step_symbols_open(struct step_symbols *symbols, pid_t pid);
void step_symbols_close(struct step_symbols *symbols);

/* Where function @name begins in the process; 0 = the program has none of that name. */
uint64_t step_symbols_address(const struct step_symbols *symbols, const char *name);

/* The function, or the file, that @address lies in; "?" when in none. */
const char *step_symbols_name(const struct step_symbols *symbols, uint64_t address);

/* The run's object that @address lies in, as it was mapped when the symbols were read;
 * NULL when in none. */
const char *step_symbols_shared(const struct step_symbols *symbols, uint64_t address);

#endif /* CLLM_TESTS_CRASH_STEP_SYMBOLS_H */
