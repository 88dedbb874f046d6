/*
 * tests/fuzz/fuzz_dataset.c - the manifest of the data, as it stands in shared memory.
 *
 * Lines are parsed whatever they say. Shards are opened only when every path is "/a" or
 * "/b", which stand for two memory files; a mutated path must not open what happens to
 * have that name on this machine.
 */
#include "tests/fuzz/fuzz.h"

#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "formats/dataset.h"

#define MOST_LINES 8
#define WINDOW     4

static const char *make_shard(uint32_t which)
{
    static struct {
        uint32_t head[256];
        uint16_t tokens[40];
    } shard = {.head = {CLLM_SHARD_MAGIC_U16, CLLM_SHARD_VERSION_U16, 40}};

    /* "/b" has the first 20 tokens */
    shard.head[2] = which == 0 ? 40 : 20;
    size_t bytes = sizeof shard - (which == 0 ? 0 : 20 * sizeof(uint16_t));
    return fuzz_file(2 + which, &shard, bytes, bytes);
}

static bool is_ours(const char *path)
{
    return path[0] == '/' && (path[1] == 'a' || path[1] == 'b') && path[2] == '\0';
}

/* The whole way for a text of @n lines that name our shards. */
static void open_shards(const struct cllm_dataset_line *line, uint32_t n)
{
    static const char *path[2];
    struct cllm_dataset dataset;
    char text[MOST_LINES * 128];
    size_t used = 0;
    uint64_t hash, off;
    uint32_t shard;

    for (uint32_t i = 0; i < 2; i++)
        path[i] = path[i] ? path[i] : make_shard(i);
    for (uint32_t i = 0; i < n; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n",
                                 path[line[i].path[1] == 'b'], line[i].n_tokens,
                                 line[i].token_bytes, line[i].file_bytes);
    if (cllm_dataset_from_manifest(&dataset, text, used, WINDOW) != 0) {
        CLLM_ASSERT(cllm_err_text()[0] != '\0');
        return;
    }
    fuzz_n_accepted++;
    CLLM_ASSERT(dataset.n_shards == n && dataset.n_windows > 0);
    for (uint64_t i = 0; i < dataset.n_windows; i++) {
        cllm_dataset_locate(&dataset, i, &shard, &off);
        CLLM_ASSERT(shard < n && off + WINDOW < dataset.shard[shard].n_tokens);
    }
    CLLM_ASSERT(cllm_dataset_hash(&dataset, &hash) == 0);
    cllm_dataset_close(&dataset);
}

int fuzz_dataset(const uint8_t *data, size_t size)
{
    static struct cllm_dataset_line line[MOST_LINES];
    const char *text = (const char *)data;
    const char *end = text + size;
    bool ours = true;
    uint32_t n = 0;

    while (text < end) {
        struct cllm_dataset_line *at = &line[n % MOST_LINES];

        if (cllm_dataset_parse_line(at, &text, end, n + 1) != 0) {
            CLLM_ASSERT(cllm_err_text()[0] != '\0');
            return 0;
        }
        CLLM_ASSERT(at->path[0] == '/' && !strpbrk(at->path, "\t\n"));
        ours = ours && is_ours(at->path);
        n++;
    }
    if (ours && n > 0 && n <= MOST_LINES)
        open_shards(line, n);
    return 0;
}
