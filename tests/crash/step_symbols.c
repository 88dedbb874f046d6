/*
 * tests/crash/step_symbols.c - .symtab of the program, and /proc/PID/maps.
 *
 * The program is our own build: its section table is believed once its offsets have been
 * seen to lie inside the file.
 */
#include "tests/crash/step_symbols.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

static int map_program(struct step_symbols *symbols, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0) {
        int rc = cllm_err(-errno, "cannot open %s", path);

        if (fd >= 0)
            (void)close(fd);
        return rc;
    }
    symbols->file_bytes = (size_t)st.st_size;
    symbols->file = mmap(NULL, symbols->file_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    (void)close(fd); /* the mapping keeps the file */
    if (symbols->file != MAP_FAILED)
        return 0;
    symbols->file = NULL;
    return cllm_err(-errno, "cannot map %s", path);
}

static bool inside(const struct step_symbols *symbols, uint64_t off, uint64_t bytes)
{
    return off <= symbols->file_bytes && bytes <= symbols->file_bytes - off;
}

static int by_address(const void *a, const void *b)
{
    const struct step_symbol *x = a, *y = b;

    return (x->address > y->address) - (x->address < y->address);
}

/* Functions of the symbol table in section @table, whose names stand in @names. */
static int take_symbols(struct step_symbols *symbols, const Elf64_Shdr *table,
                        const Elf64_Shdr *names)
{
    const char *file = symbols->file;
    const Elf64_Sym *sym = (const Elf64_Sym *)(const void *)(file + table->sh_offset);
    uint64_t n = table->sh_size / sizeof *sym;

    if (!inside(symbols, table->sh_offset, table->sh_size) ||
        !inside(symbols, names->sh_offset, names->sh_size))
        return cllm_err(-ENOEXEC, "the program's symbol table lies outside of it");
    symbols->symbol = calloc(n, sizeof *symbols->symbol);
    if (!symbols->symbol)
        return cllm_err(-ENOMEM, "cannot keep %" PRIu64 " symbols", n);
    for (uint64_t i = 0; i < n; i++) {
        if (ELF64_ST_TYPE(sym[i].st_info) != STT_FUNC || sym[i].st_value == 0 ||
            sym[i].st_name >= names->sh_size)
            continue;
        symbols->symbol[symbols->n_symbols++] =
            (struct step_symbol){.address = sym[i].st_value,
                                 .bytes = sym[i].st_size,
                                 .name = file + names->sh_offset + sym[i].st_name};
    }
    qsort(symbols->symbol, symbols->n_symbols, sizeof *symbols->symbol, by_address);
    return 0;
}

static int read_symbols(struct step_symbols *symbols)
{
    const char *file = symbols->file;
    const Elf64_Ehdr *head = symbols->file;
    const Elf64_Shdr *section;

    if (!inside(symbols, 0, sizeof *head) ||
        memcmp(head->e_ident, ELFMAG, SELFMAG) != 0 ||
        !inside(symbols, head->e_shoff, (uint64_t)head->e_shnum * sizeof *section))
        return cllm_err(-ENOEXEC, "the program is no ELF file");
    section = (const Elf64_Shdr *)(const void *)(file + head->e_shoff);
    for (uint32_t i = 0; i < head->e_shnum; i++)
        if (section[i].sh_type == SHT_SYMTAB && section[i].sh_link < head->e_shnum)
            return take_symbols(symbols, &section[i], &section[section[i].sh_link]);
    return cllm_err(-ENOEXEC, "the program has no symbols: it is stripped");
}

static void add_mapping(struct step_mapping *list, uint32_t *n, uint32_t cap,
                        const struct step_mapping *mapping, const char *name)
{
    if (*n == cap)
        return;
    list[*n] = *mapping;
    (void)snprintf(list[*n].name, sizeof list[*n].name, "%.47s", name);
    (*n)++;
}

/* One line of /proc/PID/maps. */
static void take_mapping(struct step_symbols *symbols, const char *line,
                         const char *program)
{
    struct step_mapping mapping = {0};
    char mode[8], name[512] = "";
    const char *base, *part;
    uint64_t off;

    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %511s",
               &mapping.begin, &mapping.end, mode, &off, name) < 4)
        return;
    if (strcmp(name, program) == 0) {
        if (off == 0)
            symbols->base = mapping.begin;
        if (mode[2] == 'x') {
            symbols->begin = mapping.begin;
            symbols->end = mapping.end;
        }
    }
    base = strrchr(name, '/');
    part = strrchr(name, '-');
    if (mode[2] == 'x')
        add_mapping(symbols->mapping, &symbols->n_mappings, CLLM_LEN(symbols->mapping),
                    &mapping, base ? base + 1 : name);
    else if (mode[3] == 's' && strncmp(name, "/dev/shm/cllm-", 14) == 0 && part)
        add_mapping(symbols->shared, &symbols->n_shared, CLLM_LEN(symbols->shared),
                    &mapping, part + 1);
}

/* Where the program, its libraries and the run's objects lie. */
static int read_mappings(struct step_symbols *symbols, pid_t pid, const char *program)
{
    char path[64], line[1024];
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    file = fopen(path, "re");
    if (!file)
        return cllm_err(-errno, "cannot read %s", path);
    while (fgets(line, sizeof line, file))
        take_mapping(symbols, line, program);
    (void)fclose(file); /* read only */
    if (symbols->base != 0)
        return 0;
    return cllm_err(-ENOENT, "%s does not name %s", path, program);
}

int step_symbols_open(struct step_symbols *symbols, pid_t pid)
{
    char link[64], program[1024];
    ssize_t n;
    int rc;

    *symbols = (struct step_symbols){0};
    (void)snprintf(link, sizeof link, "/proc/%d/exe", (int)pid);
    n = readlink(link, program, sizeof program - 1);
    if (n < 0)
        return cllm_err(-errno, "cannot find the program of process %d", (int)pid);
    program[n] = '\0';
    rc = map_program(symbols, program);
    if (rc == 0)
        rc = read_symbols(symbols);
    if (rc == 0)
        rc = read_mappings(symbols, pid, program);
    if (rc != 0) {
        cllm_err_add("%s", program);
        step_symbols_close(symbols);
    }
    return rc;
}

void step_symbols_close(struct step_symbols *symbols)
{
    free(symbols->symbol);
    if (symbols->file)
        (void)munmap(symbols->file, symbols->file_bytes);
    *symbols = (struct step_symbols){0};
}

uint64_t step_symbols_address(const struct step_symbols *symbols, const char *name)
{
    for (uint32_t i = 0; i < symbols->n_symbols; i++)
        if (strcmp(symbols->symbol[i].name, name) == 0)
            return symbols->base + symbols->symbol[i].address;
    return 0;
}

const char *step_symbols_name(const struct step_symbols *symbols, uint64_t address)
{
    uint64_t linked = address - symbols->base;
    uint32_t lo = 0, hi = symbols->n_symbols;

    if (address >= symbols->begin && address < symbols->end) {
        while (lo < hi) { /* the first symbol beyond @linked */
            uint32_t mid = lo + (hi - lo) / 2;

            if (symbols->symbol[mid].address <= linked)
                lo = mid + 1;
            else
                hi = mid;
        }
        if (lo > 0 && linked - symbols->symbol[lo - 1].address <
                          cllm_max_u64(symbols->symbol[lo - 1].bytes, 1))
            return symbols->symbol[lo - 1].name;
    }
    for (uint32_t i = 0; i < symbols->n_mappings; i++)
        if (address >= symbols->mapping[i].begin && address < symbols->mapping[i].end)
            return symbols->mapping[i].name;
    return "?";
}

const char *step_symbols_shared(const struct step_symbols *symbols, uint64_t address)
{
    for (uint32_t i = 0; i < symbols->n_shared; i++)
        if (address >= symbols->shared[i].begin && address < symbols->shared[i].end)
            return symbols->shared[i].name;
    return NULL;
}
