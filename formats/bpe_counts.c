/*
 * formats/bpe_counts.c - an open hash table of pieces; their bytes lie in one block.
 */
#include "formats/bpe_counts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "formats/pieces.h"
#include "formats/utf8.h"

#define ROOM_FIRST  4096
#define ENTRY_BYTES 32 /* what a piece counts towards the cap besides its bytes */
#define CAP_MAX     ((size_t)1 << 31)

struct entry {
    uint64_t count;
    uint32_t off; /* of its bytes */
    uint16_t n_bytes;
    uint16_t tag; /* of its hash, to see most others without looking at their bytes */
};

struct cllm_bpe_counts {
    struct cllm_pattern *pattern;
    struct cllm_pieces pieces;
    size_t cap_bytes;
    struct entry *entry;
    uint32_t n_entries, room_entries;
    uint32_t *slot; /* entry + 1; 0 is empty */
    uint32_t n_slots;
    uint8_t *bytes;
    size_t n_bytes, room_bytes;
};

int cllm_bpe_counts_new(struct cllm_bpe_counts **out, const char *pattern,
                        size_t cap_bytes)
{
    enum cllm_pattern_kind kind = cllm_pattern_find(pattern);
    struct cllm_bpe_counts *counts = NULL;

    if (kind == CLLM_N_PATTERN_KINDS || cllm_pattern_expression(kind) == NULL) {
        int rc = cllm_err(CLLM_ECONFIG, "there is no pattern \"%s\" to split text by",
                          pattern);
        cllm_err_hint("gpt2, cl100k, qwen2 or o200k");
        return rc;
    }
    counts = calloc(1, sizeof *counts);
    if (counts == NULL)
        return cllm_err(-ENOMEM, "cannot count pieces");
    counts->cap_bytes = (size_t)cllm_min_u64(cap_bytes, CAP_MAX);
    int rc = cllm_pattern_new(&counts->pattern, cllm_pattern_expression(kind), pattern);
    if (rc == 0) {
        rc = cllm_pieces_init(&counts->pieces, counts->pattern);
        if (rc < 0)
            rc = cllm_err(rc, "cannot count pieces");
    }
    if (rc < 0)
        cllm_bpe_counts_free(&counts);
    else
        *out = counts;
    return rc;
}

static void clear(struct cllm_bpe_counts *counts)
{
    free(counts->entry);
    free(counts->slot);
    free(counts->bytes);
    counts->entry = NULL;
    counts->slot = NULL;
    counts->bytes = NULL;
    counts->n_entries = counts->room_entries = counts->n_slots = 0;
    counts->n_bytes = counts->room_bytes = 0;
}

void cllm_bpe_counts_free(struct cllm_bpe_counts **counts)
{
    if (*counts == NULL)
        return;
    clear(*counts);
    cllm_pieces_fini(&(*counts)->pieces);
    cllm_pattern_free(&(*counts)->pattern);
    free(*counts);
    *counts = NULL;
}

static uint64_t hash_entry(const struct cllm_bpe_counts *counts,
                           const struct entry *entry)
{
    return cllm_hash(counts->bytes + entry->off, entry->n_bytes, 0);
}

/* Twice the slots, at least half of them empty. */
static int grow_slots(struct cllm_bpe_counts *counts)
{
    uint32_t n_slots = counts->n_slots > 0 ? 2 * counts->n_slots : 2 * ROOM_FIRST;
    uint32_t *slot = calloc(n_slots, sizeof *slot);

    if (slot == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < counts->n_entries; i++) {
        uint32_t at = (uint32_t)hash_entry(counts, &counts->entry[i]) & (n_slots - 1);
        while (slot[at] != 0)
            at = (at + 1) & (n_slots - 1);
        slot[at] = i + 1;
    }
    free(counts->slot);
    counts->slot = slot;
    counts->n_slots = n_slots;
    return 0;
}

/* Room for one entry more, of @bytes bytes. */
static int reserve(struct cllm_bpe_counts *counts, size_t bytes)
{
    size_t logical =
        (counts->n_entries + 1) * (size_t)ENTRY_BYTES + counts->n_bytes + bytes;

    if (logical > counts->cap_bytes)
        return -E2BIG;
    if (counts->n_entries == counts->room_entries) {
        uint32_t room = counts->room_entries > 0 ? 2 * counts->room_entries : ROOM_FIRST;
        struct entry *larger = realloc(counts->entry, room * sizeof *larger);
        if (larger == NULL)
            return -ENOMEM;
        counts->entry = larger;
        counts->room_entries = room;
    }
    if (counts->room_bytes - counts->n_bytes < bytes) {
        size_t room = 2 * counts->room_bytes + ROOM_FIRST * 8;
        uint8_t *larger = realloc(counts->bytes, room);
        if (larger == NULL)
            return -ENOMEM;
        counts->bytes = larger;
        counts->room_bytes = room;
    }
    return 0;
}

static int count_piece(struct cllm_bpe_counts *counts, const uint8_t *piece, size_t bytes,
                       uint64_t count)
{
    uint64_t hash = cllm_hash(piece, bytes, 0);
    uint16_t tag = (uint16_t)(hash >> 48);

    if (2 * (counts->n_entries + 1) > counts->n_slots) {
        int rc = grow_slots(counts);
        if (rc < 0)
            return rc;
    }
    uint32_t at = (uint32_t)hash & (counts->n_slots - 1);
    for (; counts->slot[at] != 0; at = (at + 1) & (counts->n_slots - 1)) {
        struct entry *entry = &counts->entry[counts->slot[at] - 1];

        if (entry->tag == tag && entry->n_bytes == bytes &&
            memcmp(counts->bytes + entry->off, piece, bytes) == 0) {
            entry->count += count;
            return 0;
        }
    }
    int rc = reserve(counts, bytes);
    if (rc < 0)
        return rc;
    memcpy(counts->bytes + counts->n_bytes, piece, bytes);
    counts->entry[counts->n_entries++] = (struct entry){.count = count,
                                                        .off = (uint32_t)counts->n_bytes,
                                                        .n_bytes = (uint16_t)bytes,
                                                        .tag = tag};
    counts->n_bytes += bytes;
    counts->slot[at] = counts->n_entries;
    return 0;
}

int cllm_bpe_counts_add(struct cllm_bpe_counts *counts, const void *text, size_t bytes)
{
    const uint8_t *from = text;
    int rc = 0;

    while (bytes > 0) {
        size_t valid = cllm_utf8_valid(from, bytes);

        for (size_t at = 0, end; rc == 0 && at < valid; at = end) {
            rc = cllm_pieces_next(&counts->pieces, from, valid, at, &end);
            for (size_t n; rc == 0 && end - at > 1; at += n) {
                n = (size_t)cllm_min_u64(end - at, CLLM_BPE_PIECE_BYTES);
                rc = count_piece(counts, from + at, n, 1);
            }
        }
        if (rc < 0)
            return rc;
        /* A byte that is no character is a piece of its own. */
        size_t n = valid < bytes ? valid + 1 : valid;
        from += n;
        bytes -= n;
    }
    return 0;
}

size_t cllm_bpe_counts_cut(const struct cllm_bpe_counts *counts, const void *text,
                           size_t bytes)
{
    return cllm_pieces_cut(cllm_pattern_kind(counts->pattern), text, bytes);
}

int cllm_bpe_counts_merge(struct cllm_bpe_counts *counts, struct cllm_bpe_counts *from)
{
    CLLM_ASSERT(cllm_pattern_kind(counts->pattern) == cllm_pattern_kind(from->pattern));
    for (uint32_t i = 0; i < from->n_entries; i++) {
        const struct entry *entry = &from->entry[i];
        int rc =
            count_piece(counts, from->bytes + entry->off, entry->n_bytes, entry->count);
        if (rc < 0)
            return rc;
    }
    clear(from);
    return 0;
}

const char *cllm_bpe_counts_pattern(const struct cllm_bpe_counts *counts)
{
    return cllm_pattern_name(cllm_pattern_kind(counts->pattern));
}

uint32_t cllm_bpe_counts_size(const struct cllm_bpe_counts *counts)
{
    return counts->n_entries;
}

struct cllm_bpe_piece cllm_bpe_counts_piece(const struct cllm_bpe_counts *counts,
                                            uint32_t index)
{
    CLLM_ASSERT(index < counts->n_entries);
    const struct entry *entry = &counts->entry[index];

    return (struct cllm_bpe_piece){.bytes = counts->bytes + entry->off,
                                   .n_bytes = entry->n_bytes,
                                   .count = entry->count};
}
