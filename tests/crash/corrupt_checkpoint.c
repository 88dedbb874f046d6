/*
 * tests/crash/corrupt_checkpoint.c - a checkpoint that is not what was saved is refused,
 * and the one before it is taken.
 */
#include "tests/crash/corrupt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/random.h"
#include "tests/crash/disk_log.h"
#include "tests/crash/saver_rig.h"
#include "tests/crash/whole.h"

#define NEWEST_EVERY   32
#define TENSOR_VALUES  3
#define RANDOM_SECONDS 120
#define QUICK_RANDOM   500
#define SECTOR_BYTES   512

static const struct saver_run_size size = {
    .vocab = 16, .context = 4, .layers = 1, .width = 8, .chunk_elements = 512};

static struct {
    struct tally *tally;
    struct saver_rig rig;
    char dir[2][CLLM_FILE_PATH_BYTES];        /* of steps 10 and 20 */
    struct corrupt_file file[2][WHOLE_FILES]; /* of steps 10 and 20 */
    uint64_t header_bytes[WHOLE_FILES];       /* all but the tensors */
    uint64_t tried, fell_back;
} self;

/* Step 20 is damaged: it must be refused, with a reason, and 10 taken in its place. */
static void check(void)
{
    char dir[CLLM_FILE_PATH_BYTES];
    int rc = cllm_checkpoint_verify(self.dir[1], true, NULL);
    bool ok = true;

    self.tried++;
    if (rc == 0)
        ok = tally_fail(self.tally, "accepted");
    else if (cllm_err_text()[0] == '\0')
        ok = tally_fail(self.tally, "refused without a word");
    else
        tally_reason(cllm_err_text());
    if (ok && self.tried % NEWEST_EVERY == 0) {
        self.fell_back++;
        disk_captured_clear();
        rc = cllm_checkpoint_newest(self.rig.checkpoints, dir);
        if (rc != 0 || strcmp(dir, self.dir[0]) != 0)
            ok = tally_fail(self.tally, "step 10 is not taken in its place");
        else if (strstr(disk_captured(), "step-0000000020 is passed over: ") == NULL)
            ok = tally_fail(self.tally, "passed over silently");
    }
    self.tally->passed += ok;
}

/* ---- bytes ---- */

static void flip_bytes(uint32_t f)
{
    const struct corrupt_file *file = &self.file[1][f];
    uint8_t value;

    for (uint64_t off = 0; off < file->bytes;
         off += self.tally->quick && off >= self.header_bytes[f] ? 5 : 1) {
        uint32_t n = off < self.header_bytes[f] ? 255 : TENSOR_VALUES;

        for (uint32_t i = 0;
             corrupt_value(self.tally, file->data[off], off, i, n, &value); i++) {
            if (!tally_case(self.tally, "%s:flip:%" PRIu64 ":%u", whole_file[f], off, i))
                continue;
            corrupt_put(file, off, &value, 1);
            check();
        }
        corrupt_put(file, off, &file->data[off], 1);
    }
}

static void cut_everywhere(uint32_t f)
{
    const struct corrupt_file *file = &self.file[1][f];
    uint64_t stride = self.tally->quick && f % 2 == 0 && f < 4 ? 31 : 1;

    for (uint64_t n = 0; n < file->bytes; n += stride) {
        if (!tally_case(self.tally, "%s:cut:%" PRIu64, whole_file[f], n))
            continue;
        corrupt_cut(file, n);
        check();
        corrupt_put(file, n, file->data + n, file->bytes - n);
    }
}

/* Bytes at the end; one byte too many or too few anywhere, the rest moved. */
static void lengthen(uint32_t f)
{
    const struct corrupt_file *file = &self.file[1][f];
    static const uint8_t tail[2][64] = {{0}, {' ', '\n', '{', '}', 0xff}};
    uint64_t stride = self.tally->quick ? 37 : 1;

    for (uint32_t n = 1; n <= sizeof tail[0]; n++) {
        if (!tally_case(self.tally, "%s:longer:%u", whole_file[f], n))
            continue;
        corrupt_put(file, file->bytes, tail[n % 2], n);
        check();
        corrupt_cut(file, file->bytes);
    }
    for (uint64_t at = 0; at < file->bytes; at += stride) {
        if (tally_case(self.tally, "%s:inserted:%" PRIu64, whole_file[f], at)) {
            corrupt_put(file, at + 1, file->data + at, file->bytes - at);
            check();
            corrupt_mend(file);
        }
        if (tally_case(self.tally, "%s:deleted:%" PRIu64, whole_file[f], at)) {
            corrupt_put(file, at, file->data + at + 1, file->bytes - at - 1);
            corrupt_cut(file, file->bytes - 1);
            check();
            corrupt_mend(file);
        }
    }
}

/* A block is zeros, or a copy of another block of the file, as a disk mistakes them. */
static void replace_blocks(uint32_t f, uint64_t block)
{
    static const uint8_t zeros[CLLM_PAGE];
    const struct corrupt_file *file = &self.file[1][f];

    for (uint64_t to = 0; to < file->bytes; to += block) {
        uint64_t n = cllm_min_u64(block, file->bytes - to);

        if (memcmp(file->data + to, zeros, n) != 0 &&
            tally_case(self.tally, "%s:zero-%" PRIu64 ":%" PRIu64, whole_file[f], block,
                       to)) {
            corrupt_put(file, to, zeros, n);
            check();
        }
        for (uint64_t from = 0; from + n <= file->bytes; from += block) {
            if (memcmp(file->data + to, file->data + from, n) == 0 ||
                !tally_case(self.tally, "%s:copy-%" PRIu64 ":%" PRIu64 ":%" PRIu64,
                            whole_file[f], block, to, from))
                continue;
            corrupt_put(file, to, file->data + from, n);
            check();
        }
        corrupt_put(file, to, file->data + to, n);
    }
}

/* ---- files ---- */

static void put_whole(uint32_t f, const struct corrupt_file *from)
{
    corrupt_put(&self.file[1][f], 0, from->data, from->bytes);
    corrupt_cut(&self.file[1][f], from->bytes);
}

static bool is_same(const struct corrupt_file *a, const struct corrupt_file *b)
{
    return a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0;
}

static void swap_files(void)
{
    /* Any of the files of step 10 among those of step 20; config.json is the same. */
    for (uint32_t mask = 1; mask < 1u << WHOLE_FILES; mask++) {
        bool any = false;

        if (!tally_case(self.tally, "swapped:%x", mask))
            continue;
        for (uint32_t f = 0; f < WHOLE_FILES; f++) {
            if ((mask >> f & 1) == 0)
                continue;
            put_whole(f, &self.file[0][f]);
            any = any || !is_same(&self.file[0][f], &self.file[1][f]);
        }
        if (any)
            check();
        for (uint32_t f = 0; f < WHOLE_FILES; f++)
            corrupt_mend(&self.file[1][f]);
    }
    /* Each file in the place of another one. */
    for (uint32_t a = 0; a < WHOLE_FILES; a++) {
        for (uint32_t b = 0; b < WHOLE_FILES; b++) {
            if (a == b || !tally_case(self.tally, "exchanged:%u:%u", a, b))
                continue;
            put_whole(a, &self.file[1][b]);
            put_whole(b, &self.file[1][a]);
            check();
            corrupt_mend(&self.file[1][a]);
            corrupt_mend(&self.file[1][b]);
        }
    }
}

enum kind { MISSING, DIRECTORY, PIPE, LINK, DANGLING, N_KINDS };

/* Something else stands where file @f was. */
static void replace_file(uint32_t f, enum kind kind)
{
    const char *path = self.file[1][f].path;
    char aside[CLLM_FILE_PATH_BYTES];

    if (!tally_case(self.tally, "%s:other:%d", whole_file[f], (int)kind))
        return;
    CLLM_ASSERT(cllm_file_join(aside, self.rig.run.dir, "aside") == 0);
    CLLM_ASSERT(rename(path, aside) == 0);
    if (kind == DIRECTORY)
        CLLM_ASSERT(mkdir(path, 0777) == 0);
    if (kind == PIPE)
        CLLM_ASSERT(mkfifo(path, 0666) == 0);
    if (kind == DANGLING)
        CLLM_ASSERT(symlink("nowhere", path) == 0);
    if (kind == LINK)
        CLLM_ASSERT(symlink(aside, path) == 0);
    /* The manifest is trusted for what it says, wherever it lies. */
    if (kind != LINK || strcmp(whole_file[f], CLLM_CHECKPOINT_MANIFEST) != 0)
        check();
    if (kind == DIRECTORY)
        CLLM_ASSERT(rmdir(path) == 0);
    else if (kind != MISSING)
        CLLM_ASSERT(unlink(path) == 0);
    CLLM_ASSERT(rename(aside, path) == 0);
}

/* A whole checkpoint under the name of another step. */
static void rename_directory(void)
{
    char other[CLLM_FILE_PATH_BYTES];

    if (!tally_case(self.tally, "renamed"))
        return;
    CLLM_ASSERT(rename(self.dir[0], self.dir[1]) != 0); /* it is not empty */
    CLLM_ASSERT(cllm_file_join(other, self.rig.run.dir, "aside") == 0);
    CLLM_ASSERT(rename(self.dir[1], other) == 0);
    CLLM_ASSERT(rename(self.dir[0], self.dir[1]) == 0);
    if (cllm_checkpoint_verify(self.dir[1], true, NULL) == 0)
        (void)tally_fail(self.tally, "accepted");
    else
        self.tally->passed++;
    CLLM_ASSERT(rename(self.dir[1], self.dir[0]) == 0);
    CLLM_ASSERT(rename(other, self.dir[1]) == 0);
}

/* ---- by chance ---- */

/* One to sixteen bytes or bursts of one file, or of several, are others. */
static void change_randomly(uint64_t number)
{
    uint64_t key = self.tally->seed;
    uint64_t head = cllm_random_u64(key, CLLM_RANDOM_TEST, number << 8);
    uint32_t n = 1 + (uint32_t)(head % 16);
    bool changed[WHOLE_FILES] = {false};
    bool any = false;

    if (!tally_case(self.tally, "random:%" PRIu64, number))
        return;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t random = cllm_random_u64(key, CLLM_RANDOM_TEST, number << 8 | (i + 1));
        uint32_t f = (uint32_t)((head >> 8) % 3 == 0 ? random % WHOLE_FILES
                                                     : (head >> 16) % WHOLE_FILES);
        const struct corrupt_file *file = &self.file[1][f];
        uint64_t off = (random >> 8) % file->bytes;
        uint64_t bytes = cllm_min_u64(1 + (random >> 40) % 9, file->bytes - off);
        uint64_t value = cllm_random_u64(key ^ random, CLLM_RANDOM_TEST, number);
        uint8_t burst[16];

        for (uint64_t b = 0; b < bytes; b++)
            burst[b] = (uint8_t)(value >> (b % 8 * 8));
        any = any || memcmp(burst, file->data + off, bytes) != 0;
        corrupt_put(file, off, burst, bytes);
        changed[f] = true;
    }
    if (any)
        check();
    for (uint32_t f = 0; f < WHOLE_FILES; f++)
        if (changed[f])
            corrupt_mend(&self.file[1][f]);
}

static void run_random(void)
{
    uint64_t limit = self.tally->quick ? QUICK_RANDOM : UINT64_MAX;

    if (self.tally->replay != NULL) {
        uint64_t number = 0;

        if (sscanf(self.tally->replay, "random:%" SCNu64, &number) == 1)
            change_randomly(number);
        return;
    }
    for (uint64_t i = 0; i < limit; i++) {
        if (tally_time_is_up(self.tally, RANDOM_SECONDS))
            break;
        change_randomly(i);
    }
}

/* ---- all of it ---- */

static void set_up(void)
{
    saver_rig_open(&self.rig, &size, 4);
    CLLM_ASSERT(saver_rig_start(&self.rig) == 0);
    for (uint32_t s = 0; s < 2; s++) {
        uint64_t step = 10 * (s + 1);

        CLLM_ASSERT(saver_rig_save(&self.rig, step, 10) == 0);
        whole_path(self.dir[s], self.rig.checkpoints, step, NULL);
        for (uint32_t f = 0; f < WHOLE_FILES; f++) {
            struct corrupt_file *file = &self.file[s][f];
            char path[CLLM_FILE_PATH_BYTES];
            uint64_t header = 0;

            whole_path(path, self.rig.checkpoints, step, whole_file[f]);
            corrupt_open(file, path);
            if (strstr(path, ".safetensors") != NULL)
                memcpy(&header, file->data, sizeof header);
            self.header_bytes[f] = header > 0 ? header + 8 : file->bytes;
        }
    }
}

void corrupt_checkpoint(struct tally *tally)
{
    self.tally = tally;
    set_up();
    disk_capture(true);
    for (uint32_t f = 0; f < WHOLE_FILES; f++) {
        flip_bytes(f);
        cut_everywhere(f);
        lengthen(f);
        replace_blocks(f, SECTOR_BYTES);
        replace_blocks(f, CLLM_PAGE);
        for (enum kind kind = MISSING; kind < N_KINDS; kind++)
            replace_file(f, kind);
    }
    swap_files();
    rename_directory();
    run_random();
    disk_capture(false);
    (void)tally_case(tally, "checkpoint:mended");
    if (cllm_checkpoint_verify(self.dir[1], true, NULL) != 0)
        (void)tally_fail(tally, "the checkpoint is not as it was: %s", cllm_err_text());
    (void)printf("checkpoint %10" PRIu64 " damaged, %" PRIu64
                 " of them beside a sound older one\n",
                 self.tried, self.fell_back);
    for (uint32_t s = 0; s < 2; s++)
        for (uint32_t f = 0; f < WHOLE_FILES; f++)
            corrupt_close(&self.file[s][f]);
    saver_rig_close(&self.rig);
}
