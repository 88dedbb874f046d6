/*
 * tests/fuzz/fuzz_prep.c - a file of text as cllm-prep takes it.
 *
 * Input: flags, piece size, then the file. What is wanted of any file: it is read to its
 * end or refused with a text; mended text is UTF-8; and reading that begins again behind
 * the first piece goes on to the same texts.
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "base/hash.h"
#include "formats/utf8.h"
#include "tools/prep_piece.h"

#if defined(__SANITIZE_ADDRESS__)
#    define CLLM_FUZZ_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#    define CLLM_FUZZ_ADDRESS_SANITIZER __has_feature(address_sanitizer)
#else
#    define CLLM_FUZZ_ADDRESS_SANITIZER 0
#endif

/* ---- libzstd's memory ---- */

#if CLLM_FUZZ_ADDRESS_SANITIZER
/*
 * A frame may ask for a window of 128 MiB, and this sanitizer's allocator paints all of
 * it, twice: that was most of the time of most inputs. The library is not compiled with
 * the sanitizer, which sees nothing within these blocks anyway; so they come from a pool
 * of addresses of which only what is touched costs anything.
 */
static struct {
    uint8_t *at;
    size_t used;
    uint32_t n_blocks; /* in use; 0: all is free again */
} pool;

#    define POOL_BYTES ((size_t)512 << 20)

static void *pool_take(void *opaque, size_t bytes)
{
    (void)opaque;
    if (pool.at == NULL) {
        pool.at = mmap(NULL, POOL_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CLLM_ASSERT(pool.at != MAP_FAILED);
    }
    bytes = cllm_align_up(bytes, 64);
    if (bytes > POOL_BYTES - pool.used)
        return NULL;
    pool.n_blocks++;
    pool.used += bytes;
    return pool.at + pool.used - bytes;
}

static void pool_give(void *opaque, void *block)
{
    (void)opaque;
    if (block != NULL && --pool.n_blocks == 0)
        pool.used = 0;
}

/* As the library's header has them, which is formats/unpack_zstd.c's alone. */
struct pool_calls {
    void *(*take)(void *opaque, size_t bytes);
    void (*give)(void *opaque, void *block);
    void *opaque;
};
void *ZSTD_createDStream_advanced(struct pool_calls calls);
void *ZSTD_createDStream(void);

/* In place of the library's. */
void *ZSTD_createDStream(void)
{
    return ZSTD_createDStream_advanced(
        (struct pool_calls){.take = pool_take, .give = pool_give});
}
#endif

/* ---- the target ---- */

enum { JSONL = 1, SEPARATED = 2, SKIP_BAD = 4, KEEP = 8, REFUSE = 16 };

#define MOST_PIECES 256 /* a small file may unpack to a very large one */

static char path[64];
static struct cllm_prep_file file = {.path = path};
static struct cllm_prep_source source = {.argument = path};
static struct cllm_prep_input input = {
    .file = &file, .n_files = 1, .source = &source, .n_sources = 1};
static struct cllm_hasher *hasher;
static bool keeps; /* invalid bytes */

/* Cuts behind a newline. */
static size_t cut(const void *context, const void *text, size_t bytes)
{
    const uint8_t *newline = memrchr(text, '\n', bytes);

    (void)context;
    return newline == NULL ? 0 : (size_t)(newline - (const uint8_t *)text) + 1;
}

/* A cllm_prep_text_fn: the texts of all pieces after the first, begun documents marked.
 */
static int use(void *context, const struct cllm_prep_part *part, bool begins,
               const uint8_t *text, size_t n)
{
    const uint32_t *piece = context;

    (void)part;
    CLLM_ASSERT(n > 0);
    CLLM_ASSERT(keeps || cllm_utf8_valid(text, n) == n);
    if (*piece > 0) {
        cllm_hasher_add(hasher, &begins, sizeof begins);
        cllm_hasher_add(hasher, text, n);
    }
    return 0;
}

struct result {
    uint64_t hash, mistakes, bad;
    struct cllm_prep_place after_first;
    uint32_t n_pieces;
    int rc;
};

/* Read from @place, where the number of pieces before it is @n, to piece @most at the
 * latest. */
static struct result read_all(const struct cllm_prep_rules *rules, uint8_t flags,
                              size_t piece_bytes, const struct cllm_prep_place *place,
                              uint32_t n, uint32_t most)
{
    struct result result = {.n_pieces = n};
    struct cllm_prep_bytes scratch = {0};
    struct cllm_prep_piece piece = {.n_parts = 0};
    struct cllm_prep_tally tally = {0};
    struct cllm_prep_reader reader;

    cllm_prep_reader_init(&reader, &input, flags & SEPARATED ? "--" : "", cut, NULL,
                          place);
    reader.piece_bytes = piece_bytes;
    reader.cut_max = reader.line_max = 4 * piece_bytes;
    cllm_hasher_begin(hasher, 0);
    while ((result.rc = cllm_prep_reader_next(&reader, &piece)) == 1) {
        result.rc =
            cllm_prep_piece_texts(rules, &piece, &scratch, &tally, use, &result.n_pieces);
        if (result.rc < 0)
            break;
        if (result.n_pieces == 0)
            result.after_first = piece.after;
        if (++result.n_pieces == most)
            break;
    }
    CLLM_ASSERT(result.rc >= 0 || cllm_err_text()[0] != '\0');
    result.hash = cllm_hasher_end(hasher);
    cllm_prep_reader_fini(&reader);
    cllm_prep_piece_fini(&piece);
    free(scratch.at);
    return result;
}

int fuzz_prep(const uint8_t *data, size_t size)
{
    const struct cllm_prep_place beginning = {0};
    struct fuzz_reader in = {data, data + size};
    uint8_t flags = fuzz_u8(&in);
    size_t piece_bytes = (size_t)fuzz_u8(&in) * 8 + 8;
    size_t bytes = (size_t)(in.end - in.at);
    struct cllm_prep_rules rules = {.input = &input,
                                    .text_key = "text",
                                    .invalid = flags & REFUSE ? CLLM_PREP_INVALID_ERROR
                                               : flags & KEEP ? CLLM_PREP_INVALID_BYTES
                                                              : CLLM_PREP_INVALID_REPLACE,
                                    .skip_bad = (flags & SKIP_BAD) != 0};

    if (hasher == NULL)
        hasher = cllm_hasher_new();
    CLLM_ASSERT(hasher != NULL);
    (void)snprintf(path, sizeof path, "%s", fuzz_file(0, in.at, bytes, bytes));
    file.bytes = bytes;
    file.jsonl = (flags & JSONL) != 0;
    keeps = rules.invalid == CLLM_PREP_INVALID_BYTES;
    struct result first =
        read_all(&rules, flags, piece_bytes, &beginning, 0, MOST_PIECES);
    if (first.rc >= 0 && first.n_pieces > 0)
        fuzz_n_accepted++;
    if (first.n_pieces > 1 && first.n_pieces < MOST_PIECES) {
        /*
         * A file that is refused is refused again, with the same code. How many pieces
         * come before that depends on how the file is read: what was read ahead when the
         * damage is met is never given out. The first reading keeps back at most 8 times
         * piece_bytes, and any two pieces together have more than piece_bytes, so the
         * second one meets the damage at most some 20 pieces later: only with room for
         * them does it come to the refusal, too.
         */
        struct result again =
            read_all(&rules, flags, piece_bytes, &first.after_first, 1, 2 * MOST_PIECES);
        CLLM_ASSERT(again.rc == first.rc);
        CLLM_ASSERT(first.rc < 0 || again.n_pieces == first.n_pieces);
        CLLM_ASSERT(first.rc < 0 || again.hash == first.hash);
    }
    return 0;
}
