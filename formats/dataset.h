/*
 * formats/dataset.h - an ordered list of shards, seen as windows of a fixed number of
 * tokens.
 *
 * A window is T + 1 tokens: T inputs, and each one's successor as its target. Windows do
 * not cross shards and start T tokens apart, so a shard of n tokens has (n - 1) / T of
 * them and neighbours share one token. The order is: patterns as given, names within a
 * pattern by strcmp. Window numbers run through the shards in that order.
 *
 * The manifest is the list as text, one line a shard, PATH absolute, FORMAT unless llmc:
 *
 *     PATH TAB n_tokens TAB token_bytes TAB file_bytes [TAB FORMAT] LF
 */
#ifndef CLLM_FORMATS_DATASET_H
#define CLLM_FORMATS_DATASET_H

#include <limits.h>

#include "base/base.h"
#include "formats/shard.h"

struct cllm_dataset {
    uint32_t n_shards;
    struct cllm_shard *shard; /* [n_shards] open; path is absolute; heap */
    uint64_t *window_first;   /* [n_shards + 1] number of each shard's first window */
    uint32_t window_tokens;   /* T */
    uint64_t n_tokens;
    uint64_t n_windows;
};

/*
 * Open and check all shards that @patterns (glob) name. A pattern without a match, a
 * shard given twice, a path with a tab or newline and a shard too short for one window
 * are errors (CLLM_ECONFIG or CLLM_EDATA with text), as is all that cllm_shard_open() and
 * cllm_manifest_check() refuse. On failure there is nothing to close.
 */
int cllm_dataset_open(struct cllm_dataset *dataset, char *const *patterns,
                      uint32_t n_patterns, uint32_t window_tokens);

/* The same with the format of all shards said, unless it is CLLM_SHARD_AUTO. */
int cllm_dataset_open_as(struct cllm_dataset *dataset, char *const *patterns,
                         uint32_t n_patterns, uint32_t window_tokens,
                         enum cllm_shard_format format);
void cllm_dataset_close(struct cllm_dataset *dataset);

/* Where window @window (< n_windows) is: shard number and index of its first token. */
void cllm_dataset_locate(const struct cllm_dataset *dataset, uint64_t window,
                         uint32_t *shard, uint64_t *token_off);

/* cllm_shard_check_tokens() over every shard. */
int cllm_dataset_check_tokens(const struct cllm_dataset *dataset, uint32_t vocab,
                              uint64_t limit);

/* The manifest; heap, the caller frees. @bytes (may be NULL) excludes the NUL. NULL when
 * memory is out. */
char *cllm_dataset_manifest(const struct cllm_dataset *dataset, size_t *bytes);

/* One line of a manifest. */
struct cllm_dataset_line {
    char path[PATH_MAX]; /* absolute */
    uint64_t n_tokens, token_bytes, file_bytes;
    enum cllm_shard_format format;
};

/* Read line @number (for messages, from 1) at *@text (not @end), and move *@text behind
 * it. Returns 0, or CLLM_EDATA with text. */
int cllm_dataset_parse_line(struct cllm_dataset_line *out, const char **text,
                            const char *end, uint32_t number);

/* Open the shards of a manifest of @bytes bytes. A shard whose sizes are not those of its
 * line is CLLM_EDATA with expected and found. */
int cllm_dataset_from_manifest(struct cllm_dataset *dataset, const char *text,
                               size_t bytes, uint32_t window_tokens);

/*
 * What the data is, wherever it lies: XXH3 over each shard's name without directories,
 * sizes, and the first and last 4 KiB of its tokens, in order. A resumed run compares it.
 * Returns 0 or a negative code with text.
 */
int cllm_dataset_hash(const struct cllm_dataset *dataset, uint64_t *hash);

#endif /* CLLM_FORMATS_DATASET_H */
