/*
 * tests/fuzz/fuzz_crash.c - a crash record, written by a process that was broken, read
 * and put into words.
 *
 * Input: flags, then changes (fuzz_patch) to a record, or with RAW the record's bytes.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "shm/crash_text.h"

enum { FIX_SUM = 1, RAW = 2, NO_GEOMETRY = 4 };

static struct cllm_slot slot;

static bool printable(const char *text, size_t bytes)
{
    size_t n = strnlen(text, bytes);

    for (size_t i = 0; i < n; i++)
        if (text[i] < ' ' || text[i] > '~')
            return false;
    return n < bytes;
}

int fuzz_crash(const uint8_t *data, size_t size)
{
    struct cllm_geometry geometry = {
        .n_elements = 11264, .chunk_elements = 4096, .n_chunks = 3};
    struct cllm_control control = {.slots = &slot};
    struct fuzz_reader in = {data, data + size};
    struct cllm_crash_record record;
    char phrase[CLLM_CRASH_PHRASE], place[CLLM_CRASH_PLACE];
    uint8_t flags = fuzz_u8(&in);

    slot.command.role = CLLM_ROLE_WORKER;
    fuzz_sound_crash(&slot.crash);
    if (flags & RAW)
        memcpy(&slot.crash, in.at,
               cllm_min_u64((uint64_t)(in.end - in.at), sizeof slot.crash));
    while (!(flags & RAW) && in.at < in.end)
        (void)fuzz_patch(&in, &slot.crash, sizeof slot.crash, NULL);
    if (flags & FIX_SUM)
        slot.crash.sum = cllm_crash_sum(&slot.crash);
    if (flags & NO_GEOMETRY)
        geometry = (struct cllm_geometry){0};
    if (!cllm_crash_read(&control, 0, &record))
        return 0;
    fuzz_n_accepted++;
    cllm_crash_phrase(phrase, &record, &geometry);
    cllm_crash_place(place, &record, &geometry);
    CLLM_ASSERT(printable(phrase, sizeof phrase) && printable(place, sizeof place));
    cllm_crash_print(fuzz_sink(), &record, &geometry, "/usr/bin");
    return 0;
}
