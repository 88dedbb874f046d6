/*
 * tests/crash/corrupt_shard.c - damaged token shards.
 *
 * A shard is in llm.c's format, which has no hash. What its header and its size tell is
 * refused when it is opened; tokens beyond the vocabulary when they are looked at; a run
 * that is resumed compares a hash of names, sizes and the first and last 4 KiB of each
 * shard. A token that becomes another one of the vocabulary farther inside is found by
 * nothing but the SHA-256 in dataset.json: those are counted here, not hidden.
 */
#include "tests/crash/corrupt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/random.h"
#include "formats/dataset.h"
#include "formats/file.h"
#include "formats/sha256.h"

#define VOCAB      200
#define TOKENS     8000
#define CONTEXT    16
#define EDGE_BYTES 4096 /* of the data at either end, in the hash of the data */
#define USED_BYTES 12   /* of the header: magic, version, count */

static struct {
    struct tally *tally;
    char dir[256], path[CLLM_FILE_PATH_BYTES];
    struct corrupt_file file;
    char sha256[CLLM_SHA256_HEX_BYTES]; /* as dataset.json has it */
    char *manifest;
    size_t manifest_bytes;
    uint64_t hash; /* of the data set */
    uint64_t tried, refused, vocabulary, resumed, sha_alone, unused;
} self;

/* ---- what is found, and by what ---- */

enum found { AT_OPEN, IN_TOKENS, AT_RESUME, NOTHING };

static enum found look(void)
{
    char *const patterns[] = {self.path};
    struct cllm_dataset dataset;
    enum found found = NOTHING;
    uint64_t hash = 0;

    if (cllm_dataset_open(&dataset, patterns, 1, CONTEXT) != 0)
        return AT_OPEN;
    if (cllm_dataset_check_tokens(&dataset, VOCAB, 0) != 0)
        found = IN_TOKENS;
    else if (cllm_dataset_hash(&dataset, &hash) != 0 || hash != self.hash)
        found = AT_RESUME;
    cllm_dataset_close(&dataset);
    return found;
}

static bool sha256_differs(void)
{
    char hex[CLLM_SHA256_HEX_BYTES];

    CLLM_ASSERT(cllm_sha256_file(self.path, hex, NULL) == 0);
    return strcmp(hex, self.sha256) != 0;
}

/* The shard is damaged: by what is it refused? */
static enum found check(bool must)
{
    enum found found = look();
    bool ok = true;

    self.tried++;
    if (found != NOTHING && found != AT_RESUME)
        tally_reason(cllm_err_text());
    if (found == NOTHING && must)
        ok = tally_fail(self.tally, "accepted");
    else if (!sha256_differs())
        ok = tally_fail(self.tally, "its SHA-256 is the same");
    self.refused += found == AT_OPEN;
    self.vocabulary += found == IN_TOKENS;
    self.resumed += found == AT_RESUME;
    self.tally->passed += ok;
    return found;
}

/* ---- damage ---- */

static void flip_header(void)
{
    uint8_t value;

    for (uint64_t off = 0; off < CLLM_SHARD_HEADER_BYTES; off++) {
        uint32_t n = off < USED_BYTES ? 255 : 13;
        uint8_t was = self.file.data[off];

        for (uint32_t i = 0; corrupt_value(self.tally, was, off, i, n, &value); i++) {
            if (!tally_case(self.tally, "shard:header:%" PRIu64 ":%u", off, i))
                continue;
            corrupt_put(&self.file, off, &value, 1);
            /* The rest of the header is nothing: neither read nor hashed. */
            if (check(off < USED_BYTES) == NOTHING)
                self.unused++;
        }
        corrupt_put(&self.file, off, &was, 1);
    }
}

/* Is byte @off part of what a resume compares? */
static bool is_edge(uint64_t off)
{
    return off < CLLM_SHARD_HEADER_BYTES + EDGE_BYTES ||
           off >= self.file.bytes - EDGE_BYTES;
}

static void flip_tokens(void)
{
    uint64_t stride = self.tally->quick ? 7 : 1;
    uint8_t value;

    for (uint64_t off = CLLM_SHARD_HEADER_BYTES; off < self.file.bytes; off += stride) {
        uint8_t was = self.file.data[off];

        for (uint32_t i = 0; corrupt_value(self.tally, was, off, i, 8, &value); i++) {
            bool high = off % 2 == 1; /* 256 and more: beyond the vocabulary */

            if (!tally_case(self.tally, "shard:token:%" PRIu64 ":%u", off, i))
                continue;
            corrupt_put(&self.file, off, &value, 1);
            if (check(is_edge(off) || high || value >= VOCAB) == NOTHING)
                self.sha_alone++;
        }
        corrupt_put(&self.file, off, &was, 1);
    }
}

static void change_length(void)
{
    static const uint8_t tail[64];
    uint64_t stride = self.tally->quick ? 61 : 1;

    for (uint64_t n = 0; n < self.file.bytes; n += stride) {
        if (!tally_case(self.tally, "shard:cut:%" PRIu64, n))
            continue;
        corrupt_cut(&self.file, n);
        (void)check(true);
        corrupt_put(&self.file, n, self.file.data + n, self.file.bytes - n);
    }
    for (uint32_t n = 1; n <= sizeof tail; n++) {
        if (!tally_case(self.tally, "shard:longer:%u", n))
            continue;
        corrupt_put(&self.file, self.file.bytes, tail, n);
        (void)check(true);
        corrupt_cut(&self.file, self.file.bytes);
    }
}

/* The list of shards that a run carries in shared memory. */
static void flip_manifest(void)
{
    struct cllm_dataset dataset;
    uint8_t value;

    for (uint64_t off = 0; off < self.manifest_bytes; off++) {
        char was = self.manifest[off];

        for (uint32_t i = 0; corrupt_value(self.tally, (uint8_t)was, off, i, 255, &value);
             i++) {
            if (!tally_case(self.tally, "manifest:flip:%" PRIu64 ":%u", off, i))
                continue;
            self.manifest[off] = (char)value;
            self.tried++;
            if (cllm_dataset_from_manifest(&dataset, self.manifest, self.manifest_bytes,
                                           CONTEXT) != 0) {
                tally_reason(cllm_err_text());
                self.refused++;
                self.tally->passed++;
                continue;
            }
            /* "/a//b" for "/a/xb": the same file by another name is no harm. */
            if (strcmp(dataset.shard[0].path, self.path) == 0)
                (void)tally_fail(self.tally, "accepted");
            else
                self.tally->passed++, self.unused++;
            cllm_dataset_close(&dataset);
        }
        self.manifest[off] = was;
    }
}

/* ---- all of it ---- */

static void set_up(void)
{
    const char *tmp = getenv("TMPDIR");
    struct cllm_shard_writer writer = {0};
    struct cllm_dataset dataset;
    uint32_t *tokens = malloc(TOKENS * sizeof *tokens);

    CLLM_ASSERT(tokens != NULL);
    (void)snprintf(self.dir, sizeof self.dir, "%s/cllm-corrupt-XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    CLLM_ASSERT(mkdtemp(self.dir) != NULL);
    CLLM_ASSERT(cllm_file_join(self.path, self.dir, "train_000.bin") == 0);
    for (uint64_t i = 0; i < TOKENS; i++)
        tokens[i] = (uint32_t)(cllm_random_u64(7, CLLM_RANDOM_TEST, i) % VOCAB);
    CLLM_ASSERT(cllm_shard_writer_begin(&writer, self.path, 2) == 0);
    CLLM_ASSERT(cllm_shard_writer_put(&writer, tokens, TOKENS) == 0);
    CLLM_ASSERT(cllm_shard_writer_finish(&writer) == 0);
    free(tokens);
    CLLM_ASSERT(cllm_sha256_file(self.path, self.sha256, NULL) == 0);
    char *const patterns[] = {self.path};
    CLLM_ASSERT(cllm_dataset_open(&dataset, patterns, 1, CONTEXT) == 0);
    CLLM_ASSERT(cllm_dataset_hash(&dataset, &self.hash) == 0);
    self.manifest = cllm_dataset_manifest(&dataset, &self.manifest_bytes);
    CLLM_ASSERT(self.manifest != NULL);
    cllm_dataset_close(&dataset);
    corrupt_open(&self.file, self.path);
}

void corrupt_shard(struct tally *tally)
{
    self.tally = tally;
    set_up();
    flip_header();
    flip_tokens();
    change_length();
    flip_manifest();
    (void)tally_case(tally, "shard:mended");
    if (look() != NOTHING || sha256_differs())
        (void)tally_fail(tally, "the shard is not as it was");
    (void)printf("shard      %10" PRIu64 " damaged: %" PRIu64
                 " refused when opened, %" PRIu64 " outside the vocabulary, %" PRIu64
                 " by a resume, %" PRIu64 " of bytes that nothing uses, %" PRIu64
                 " by the SHA-256 of dataset.json alone\n",
                 self.tried, self.refused, self.vocabulary, self.resumed, self.unused,
                 self.sha_alone);
    corrupt_close(&self.file);
    free(self.manifest);
    CLLM_ASSERT(cllm_file_remove_tree(self.dir) == 0);
}
