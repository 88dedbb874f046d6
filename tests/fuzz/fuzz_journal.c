/*
 * tests/fuzz/fuzz_journal.c - journal.jsonl and metrics.jsonl, as a run that goes on
 * finds them: read, cut after the last line that counts, checked against.
 *
 * Input: a byte that says how the run goes on (step, or a replay), then the text of both
 * files.
 */
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/journal.h"

enum { REPLAY = 1 };

static char directory[] = "/dev/shm/fuzz-journal.XXXXXX";
static int file[2] = {-1, -1};
static const char *const names[2] = {"journal.jsonl", "metrics.jsonl"};

static void remove_files(void)
{
    char path[64];

    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(directory);
}

static void make_files(void)
{
    char path[64];

    CLLM_ASSERT(mkdtemp(directory));
    CLLM_ASSERT(atexit(remove_files) == 0);
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        file[i] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        CLLM_ASSERT(file[i] >= 0);
    }
}

int fuzz_journal(const uint8_t *data, size_t size)
{
    struct fuzz_reader in = {data, data + size};
    struct cllm_step_record record = {.loss = 1.5};
    struct cllm_journal journal;
    uint8_t flags = fuzz_u8(&in);
    size_t bytes = (size_t)(in.end - in.at);
    uint64_t step = flags >> 1;

    if (file[0] < 0)
        make_files();
    for (int i = 0; i < 2; i++) {
        CLLM_ASSERT(ftruncate(file[i], 0) == 0);
        CLLM_ASSERT(pwrite(file[i], in.at, bytes, 0) == (ssize_t)bytes);
    }
    if (cllm_journal_open(&journal, directory, step, flags & REPLAY) != 0)
        return 0;
    fuzz_n_accepted += journal.n_roots > 0;
    CLLM_ASSERT(flags & REPLAY || journal.n_roots <= step);
    CLLM_ASSERT(journal.journal.last_step == journal.n_roots);
    CLLM_ASSERT(lseek(file[0], 0, SEEK_END) <= (off_t)bytes);
    for (record.step = 1; record.step <= journal.n_roots + 1; record.step++) {
        record.root =
            record.step <= journal.n_roots ? journal.kept[record.step - 1].root : 7;
        CLLM_ASSERT(cllm_journal_check(&journal, &record) == 0);
        record.root++;
        CLLM_ASSERT((cllm_journal_check(&journal, &record) != 0) ==
                    (record.step <= journal.n_roots));
    }
    record.step = journal.n_roots + 1;
    cllm_journal_append(&journal, &record, NULL);
    CLLM_ASSERT(journal.journal.last_step == record.step);
    cllm_journal_close(&journal);
    return 0;
}
