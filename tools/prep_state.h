/*
 * tools/prep_state.h - how far cllm-prep has come: DIR/.partial/state.json.
 *
 * Written whole and durably at every safe point, after the files it speaks of. A process
 * that is killed and started again with the same arguments and the same input goes on
 * from there; what lies behind the sizes in it is cut off. The identity is a hash of
 * everything that the result depends on.
 */
#ifndef CLLM_TOOLS_PREP_STATE_H
#define CLLM_TOOLS_PREP_STATE_H

#include "formats/manifest.h"
#include "formats/sha256.h"
#include "tools/prep_reader.h"

enum cllm_prep_stage {
    CLLM_PREP_ENCODE = 0, /* text into DIR/.partial/tokens */
    CLLM_PREP_CUT         /* that into shards; what an earlier run left is removed */
};

/* Of one argument. */
struct cllm_prep_count {
    uint64_t documents, bytes;
};

struct cllm_prep_state {
    char identity[CLLM_SHA256_HEX_BYTES];
    enum cllm_prep_stage stage;
    struct cllm_prep_place place; /* of the reader */
    uint64_t tokens, entries;     /* in .partial/tokens, in .partial/index */
    uint64_t bytes;               /* of text, without separators */
    uint64_t documents, mistakes, empty, bad;
    struct cllm_prep_count *source; /* [n_sources]; heap */
    size_t n_sources;
    struct cllm_manifest_shard *shard; /* [n_shards] that are finished; heap */
    size_t n_shards;
};

/* For zeroed memory. */
int cllm_prep_state_init(struct cllm_prep_state *state, size_t n_sources);
void cllm_prep_state_fini(struct cllm_prep_state *state);

/* Write it as @path. Returns 0 or a negative errno with text. */
int cllm_prep_state_save(struct cllm_prep_state *state, const char *path);

/*
 * Read @path into @state, which has its identity and n_sources. Returns 1; 0 when there
 * is no such file; CLLM_EREFUSED with text when it is another identity's; CLLM_EDATA or a
 * negative errno with text.
 */
int cllm_prep_state_load(struct cllm_prep_state *state, const char *path);

/* One more finished shard. */
int cllm_prep_state_add(struct cllm_prep_state *state,
                        const struct cllm_manifest_shard *shard);

#endif /* CLLM_TOOLS_PREP_STATE_H */
