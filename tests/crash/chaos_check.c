/*
 * tests/crash/chaos_check.c - bits, ledger, leftovers.
 */
#include "tests/crash/chaos_check.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "shm/region.h"

#define FILE_CAP (64u << 20)

static int no_dots(const struct dirent *entry)
{
    return entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
}

/* ---- findings ---- */

/* Text of what does not hold; the first finding stays in front. */
struct findings {
    char *text;
    size_t bytes;
};

static void find(struct findings *findings, const char *fmt, ...) CLLM_PRINTF(2, 3);

static void find(struct findings *findings, const char *fmt, ...)
{
    size_t used = strlen(findings->text);
    va_list args;

    if (used > 0 && used + 2 < findings->bytes)
        used += (size_t)snprintf(findings->text + used, findings->bytes - used, "; ");
    va_start(args, fmt);
    (void)vsnprintf(findings->text + used, findings->bytes - used, fmt, args);
    va_end(args);
}

static char *read_text(const struct chaos_run *run, const char *name)
{
    char path[CLLM_FILE_PATH_BYTES], *text = NULL;

    if (cllm_file_join(path, run->dir, name) != 0 ||
        cllm_file_read(path, FILE_CAP, &text, NULL) != 0)
        return NULL;
    return text;
}

/* The number behind @name in @text, or UINT64_MAX. */
static uint64_t number_behind(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    return at ? strtoull(at + strlen(name), NULL, 10) : UINT64_MAX;
}

static void check_journal(const struct chaos_run *run, struct findings *findings)
{
    char *text = read_text(run, "journal.jsonl"), *line = text, *end;
    uint64_t tokens = run->kind->sequences * run->kind->context, n = 0;

    for (; line && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        n++;
        if (number_behind(line, "\"step\":") != n ||
            number_behind(line, "\"tokens\":") != n * tokens) {
            find(findings, "journal line %" PRIu64 " is %s", n, line);
            free(text);
            return;
        }
    }
    if (n != run->kind->steps || !line || *line != '\0')
        find(findings, "the journal has %" PRIu64 " whole lines of %" PRIu64, n,
             run->kind->steps);
    free(text);
}

static void check_ledger(const struct chaos_run *run, struct findings *findings)
{
    char *text = read_text(run, "checkpoints/last/run.json");
    uint64_t step = text ? number_behind(text, "\"step\": ") : UINT64_MAX;
    uint64_t cursor = text ? number_behind(text, "\"data_cursor\": ") : UINT64_MAX;

    if (step != run->kind->steps || cursor != run->kind->steps * run->kind->sequences)
        find(findings, "the last checkpoint is of step %" PRIu64 ", cursor %" PRIu64,
             step, cursor);
    free(text);
}

/* ---- leftovers ---- */

struct names {
    char prefix[CLLM_REGION_NAME_BYTES]; /* "/cllm-<uid>-<run id>-" */
    size_t prefix_bytes;
    struct findings *findings;
};

static int find_object(const char *name, uint64_t bytes, void *ctx)
{
    const struct names *names = ctx;
    const char *prefix = names->prefix + 1; /* the list has no slashes */

    (void)bytes;
    if (strncmp(name, prefix, names->prefix_bytes - 1) == 0)
        find(names->findings, "/dev/shm/%s is left", name);
    return 0;
}

/* Entries of @dir that a temporary name gives away; all of them are counted. */
static uint32_t look_for_temporary(const struct chaos_run *run, const char *name,
                                   struct findings *findings)
{
    char dir[CLLM_FILE_PATH_BYTES];
    struct dirent **entry = NULL;
    int n = -1;

    if (cllm_file_join(dir, run->dir, name) == 0)
        n = scandir(dir, &entry, no_dots, alphasort);
    for (int i = 0; i < n; i++) {
        if (strstr(entry[i]->d_name, "tmp"))
            find(findings, "%s/%s is left", name, entry[i]->d_name);
        free(entry[i]);
    }
    free(entry);
    return n > 0 ? (uint32_t)n : 0;
}

bool chaos_check(const struct chaos_run *run, uint32_t faults, char *text, size_t bytes)
{
    struct findings findings = {.text = text, .bytes = bytes};
    struct names names = {.findings = &findings};
    char bits[CLLM_SHA256_HEX_BYTES];
    uint32_t crashes;

    text[0] = '\0';
    if (nano_bits(run->dir, bits) != 0)
        find(&findings, "%s", cllm_err_text());
    else if (strcmp(bits, run->kind->golden) != 0)
        find(&findings, "checkpoint or journal have other bits: %s, not %s", bits,
             run->kind->golden);
    check_journal(run, &findings);
    check_ledger(run, &findings);
    cllm_region_name(names.prefix, run->nano.run_id, "");
    names.prefix_bytes = strlen(names.prefix);
    (void)cllm_region_list(find_object, &names);
    (void)look_for_temporary(run, "", &findings);
    (void)look_for_temporary(run, "checkpoints", &findings);
    crashes = look_for_temporary(run, "crash", &findings);
    if (crashes > faults)
        find(&findings, "%u crash records, %u faults were sent", crashes, faults);
    return text[0] == '\0';
}

uint32_t chaos_count_lines(const struct chaos_run *run, const char *word)
{
    char *text = read_text(run, "log.txt"), *line = text, *end;
    uint32_t n = 0;

    for (; line && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        n += strstr(line, word) != NULL;
    }
    free(text);
    return n;
}
