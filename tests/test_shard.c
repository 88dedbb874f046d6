/*
 * tests/test_shard.c - token shards: sound ones are read, every other file is refused.
 */
#include "tests/formats_temp.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "formats/shard.h"

/* A shard with any header and @data_bytes of zeros behind it. */
static void put_shard(const char *path, uint32_t magic, uint32_t version, uint32_t count,
                      size_t data_bytes)
{
    uint32_t *bytes = calloc(1, CLLM_SHARD_HEADER_BYTES + data_bytes);

    assert_non_null(bytes);
    bytes[0] = magic;
    bytes[1] = version;
    bytes[2] = count;
    put_file(path, bytes, CLLM_SHARD_HEADER_BYTES + data_bytes);
    free(bytes);
}

/* Write @n tokens, token i = i * 7. */
static void write_tokens(const char *path, uint32_t token_bytes, uint32_t n)
{
    struct cllm_shard_writer writer;

    assert_int_equal(cllm_shard_writer_begin(&writer, path, token_bytes), 0);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t token = token_bytes == 2 ? (i * 7) & 0xffff : i * 7;
        assert_int_equal(cllm_shard_writer_put(&writer, &token, 1), 0);
    }
    assert_int_equal(cllm_shard_writer_finish(&writer), 0);
}

static void what_is_written_is_read(void **state)
{
    static const uint32_t n = 700001; /* more than the writer's buffer in both widths */

    for (uint32_t token_bytes = 2; token_bytes <= 4; token_bytes += 2) {
        const char *path = in(*state, "a.bin");
        struct cllm_shard shard;
        uint32_t *tokens = calloc(n, sizeof *tokens);

        assert_non_null(tokens);
        write_tokens(path, token_bytes, n);
        assert_int_equal(cllm_shard_open(&shard, path), 0);
        assert_string_equal(shard.path, path);
        assert_int_equal(shard.token_bytes, token_bytes);
        assert_int_equal(shard.n_tokens, n);
        assert_int_equal(shard.data_off, 1024);
        assert_int_equal(shard.file_bytes, 1024 + (uint64_t)n * token_bytes);
        assert_int_equal(cllm_shard_read(&shard, 1, n - 1, tokens), 0);
        for (uint32_t i = 1; i < n; i++) {
            uint32_t token = token_bytes == 2 ? (i * 7) & 0xffff : i * 7;
            if (tokens[i - 1] != token)
                fail_msg("token %u: expected %u, found %u", i, token, tokens[i - 1]);
        }
        cllm_shard_close(&shard);
        free(tokens);
        assert_int_equal(access(in(*state, "a.bin.tmp"), F_OK), -1);
    }
}

static void bytes_become_tokens_little_endian(void **state)
{
    static const uint8_t text[] = {'a', 0xff};
    static const uint8_t expected[] = {'a', 0, 0xff, 0};
    struct cllm_shard_writer writer;
    size_t n = 0;

    assert_int_equal(cllm_shard_writer_begin(&writer, in(*state, "a.bin"), 2), 0);
    assert_int_equal(cllm_shard_writer_put_bytes(&writer, text, 2), 0);
    assert_int_equal(cllm_shard_writer_finish(&writer), 0);
    char *bytes = get_file(in(*state, "a.bin"), &n);
    assert_int_equal(n, 1028);
    /* 20240520 = 0x0134d888 */
    assert_memory_equal(bytes, "\x88\xd8\x34\x01\x01\0\0\0\x02\0\0\0\0\0\0\0", 16);
    assert_memory_equal(bytes + 1024, expected, 4);
    free(bytes);
}

static void an_aborted_writer_leaves_the_old_shard(void **state)
{
    const char *path = in(*state, "a.bin");
    struct cllm_shard_writer writer;
    struct cllm_shard_writer zero = {0};
    struct cllm_shard shard;
    uint32_t token = 1;

    write_tokens(path, 2, 3);
    assert_int_equal(cllm_shard_writer_begin(&writer, path, 2), 0);
    assert_int_equal(cllm_shard_writer_put(&writer, &token, 1), 0);
    cllm_shard_writer_abort(&writer);
    cllm_shard_writer_abort(&zero);
    assert_int_equal(access(in(*state, "a.bin.tmp"), F_OK), -1);
    assert_int_equal(cllm_shard_open(&shard, path), 0);
    assert_int_equal(shard.n_tokens, 3);
    cllm_shard_close(&shard);
    assert_int_equal(cllm_shard_writer_begin(&writer, path, 2), 0);
    assert_int_equal(cllm_shard_writer_finish(&writer), CLLM_EDATA);
    assert_int_equal(access(in(*state, "a.bin.tmp"), F_OK), -1);
}

static void bad_headers_are_refused(void **state)
{
    static const struct {
        uint32_t magic, version, count;
        size_t data_bytes;
        const char *says;
    } bad[] = {
        {20240520, 1, 10, 19, "is truncated"},
        {20240520, 1, 10, 0, "is truncated"},
        {20240520, 1, 10, 21, "is too long"},
        {20240520, 1, 10, 40, "is too long"},
        {20240801, 7, 10, 20, "is truncated"},
        {20240520, 7, 10, 20, "unknown version"},
        {20240520, 0, 10, 20, "unknown version"},
        {20240801, 1, 10, 40, "unknown version"},
        {20240520, 1, 0, 0, "must hold tokens"},
        {20240520, 1, 0x80000000u, 0, "must hold tokens"},
        {20240520, 1, 0x7fffffffu, 4, "is truncated"},
        {20240521, 1, 10, 20, "is not a token shard"},
        {20240326, 3, 10, 20, "an llm.c model"},
        {20240328, 2, 10, 20, "an llm.c tokenizer"},
        {0x88d83401u, 1, 10, 20, "is not a token shard"}, /* the other endianness */
    };
    struct cllm_shard shard;

    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        const char *path = in(*state, "bad.bin");
        put_shard(path, bad[i].magic, bad[i].version, bad[i].count, bad[i].data_bytes);
        assert_int_equal(cllm_shard_open(&shard, path), CLLM_EDATA);
        assert_error_says(bad[i].says);
        assert_error_says(path);
    }
}

static void other_files_are_recognised(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } bad[] = {
        {"", 0, "is empty"},
        {"In the beginning God created\n", 29, "a text file"},
        {"\x1f\x8b\x08\0\0\0\0\0", 8, "a gzip file"},
        {"GGUF\3\0\0\0", 8, "a GGUF model"},
        {"\x10\0\0\0\0\0\0\0{\"a\":1}", 15, "a safetensors model"},
        {"PK\3\4....", 8, "a zip file"},
        {"\x88\xd8\x34\x01\x01\0\0\0", 8, "is truncated"}, /* a shard's first 8 bytes */
        {"\0\0\0", 3, "is not a token shard"},
    };
    struct cllm_shard shard;

    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        put_file(in(*state, "bad.bin"), bad[i].bytes, bad[i].n);
        assert_int_equal(cllm_shard_open(&shard, in(*state, "bad.bin")), CLLM_EDATA);
        assert_error_says(bad[i].says);
    }
    assert_int_equal(cllm_shard_open(&shard, in(*state, "absent.bin")), -ENOENT);
    assert_int_equal(cllm_shard_open(&shard, *state), CLLM_EDATA);
    assert_int_equal(mkfifo(in(*state, "pipe"), 0600), 0);
    assert_int_equal(cllm_shard_open(&shard, in(*state, "pipe")), CLLM_EDATA);
    assert_error_says("not a regular file");
    assert_int_equal(unlink(in(*state, "pipe")), 0);
}

static void every_truncation_is_refused(void **state)
{
    struct cllm_shard shard;
    size_t n = 0;

    write_tokens(in(*state, "a.bin"), 2, 16);
    char *bytes = get_file(in(*state, "a.bin"), &n);
    for (size_t cut = 0; cut < n; cut++) {
        put_file(in(*state, "cut.bin"), bytes, cut);
        assert_int_equal(cllm_shard_open(&shard, in(*state, "cut.bin")), CLLM_EDATA);
    }
    put_file(in(*state, "cut.bin"), bytes, n);
    assert_int_equal(cllm_shard_open(&shard, in(*state, "cut.bin")), 0);
    cllm_shard_close(&shard);
    free(bytes);
}

static void a_token_beyond_the_vocabulary_is_found(void **state)
{
    static const uint32_t n = 600000,
                          at = 524288; /* the first token of the second block */

    for (uint32_t token_bytes = 2; token_bytes <= 4; token_bytes += 2) {
        struct cllm_shard_writer writer;
        struct cllm_shard shard;
        const char *path = in(*state, "a.bin");

        assert_int_equal(cllm_shard_writer_begin(&writer, path, token_bytes), 0);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t token = i == at ? 256 : 255;
            assert_int_equal(cllm_shard_writer_put(&writer, &token, 1), 0);
        }
        assert_int_equal(cllm_shard_writer_finish(&writer), 0);
        assert_int_equal(cllm_shard_open(&shard, path), 0);
        assert_int_equal(cllm_shard_check_tokens(&shard, 257, 0), 0);
        assert_int_equal(cllm_shard_check_tokens(&shard, 256, at), 0);
        assert_int_equal(cllm_shard_check_tokens(&shard, 256, at + 1), CLLM_EDATA);
        assert_int_equal(cllm_shard_check_tokens(&shard, 256, 0), CLLM_EDATA);
        assert_error_says("a.bin: token 524288 is outside the vocabulary");
        assert_int_equal(cllm_shard_check_tokens(&shard, 255, 0), CLLM_EDATA);
        assert_error_says("token 0 is outside");
        cllm_shard_close(&shard);
    }
}

static void a_shard_that_shrinks_while_open_is_an_error_not_a_crash(void **state)
{
    const char *path = in(*state, "a.bin");
    struct cllm_shard shard;
    uint32_t tokens[16];

    write_tokens(path, 2, 16);
    assert_int_equal(cllm_shard_open(&shard, path), 0);
    assert_int_equal(truncate(path, 1024 + 10), 0);
    assert_int_equal(cllm_shard_read(&shard, 0, 5, tokens), 0);
    assert_int_equal(cllm_shard_read(&shard, 0, 16, tokens), CLLM_EDATA);
    assert_error_says("ends too soon");
    cllm_shard_close(&shard);
}

/* Headerless tokens as nanoGPT's prepare.py writes them. */
static void put_bare(const char *path, const uint16_t *tokens, size_t n)
{
    put_file(path, tokens, n * sizeof *tokens);
}

static void bare_tokens_are_read_as_they_are(void **state)
{
    const char *path = in(*state, "train.bin");
    uint16_t bare[1000];
    uint32_t tokens[1000];
    struct cllm_shard shard;
    char text[CLLM_SHARD_TEXT];

    for (uint32_t i = 0; i < CLLM_LEN(bare); i++)
        bare[i] = (uint16_t)(i % 65);
    put_bare(path, bare, CLLM_LEN(bare));
    assert_int_equal(cllm_shard_open(&shard, path), 0);
    assert_int_equal(shard.format, CLLM_SHARD_NANOGPT);
    assert_int_equal(shard.n_tokens, 1000);
    assert_int_equal(shard.data_off, 0);
    assert_string_equal(cllm_shard_describe(text, &shard),
                        "nanoGPT's, without a header: u16 tokens");
    assert_int_equal(cllm_shard_read(&shard, 0, 1000, tokens), 0);
    for (uint32_t i = 0; i < CLLM_LEN(bare); i++)
        assert_int_equal(tokens[i], i % 65);
    assert_int_equal(cllm_shard_check_tokens(&shard, 65, 0), 0);
    assert_int_equal(cllm_shard_check_tokens(&shard, 64, 0), CLLM_EDATA);
    assert_error_says("token 64 is outside the vocabulary");
    cllm_shard_close(&shard);
}

static void bare_tokens_are_never_guessed_from_what_may_be_damage(void **state)
{
    uint16_t bare[1000];
    struct cllm_shard shard;

    for (uint32_t i = 0; i < CLLM_LEN(bare); i++)
        bare[i] = (uint16_t)(i % 65);
    put_bare(in(*state, "train.tokens"), bare, CLLM_LEN(bare)); /* another name */
    assert_int_equal(cllm_shard_open(&shard, in(*state, "train.tokens")), CLLM_EDATA);
    assert_int_equal(
        cllm_shard_open_as(&shard, in(*state, "train.tokens"), CLLM_SHARD_NANOGPT), 0);
    cllm_shard_close(&shard);
    put_bare(in(*state, "short.bin"), bare, 100); /* less than a header */
    assert_int_equal(cllm_shard_open(&shard, in(*state, "short.bin")), CLLM_EDATA);
    put_file(in(*state, "odd.bin"), bare, 1999);
    assert_int_equal(cllm_shard_open(&shard, in(*state, "odd.bin")), CLLM_EDATA);
    assert_error_says("whole 16-bit tokens");
    /* a shard of ours with any bit of its magic number flipped */
    for (uint32_t bit = 0; bit < 32; bit++) {
        put_shard(in(*state, "bit.bin"), 20240520u ^ 1u << bit, 1, 5000, 10000);
        assert_int_equal(cllm_shard_open(&shard, in(*state, "bit.bin")), CLLM_EDATA);
    }
    /* and a whole one is none of nanoGPT's */
    write_tokens(in(*state, "ours.bin"), 2, 5000);
    assert_int_equal(
        cllm_shard_open_as(&shard, in(*state, "ours.bin"), CLLM_SHARD_NANOGPT),
        CLLM_EDATA);
    assert_error_says("has a header");
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_is_written_is_read),
        T(bytes_become_tokens_little_endian),
        T(an_aborted_writer_leaves_the_old_shard),
        T(bad_headers_are_refused),
        T(other_files_are_recognised),
        T(every_truncation_is_refused),
        T(a_token_beyond_the_vocabulary_is_found),
        T(bare_tokens_are_read_as_they_are),
        T(bare_tokens_are_never_guessed_from_what_may_be_damage),
        T(a_shard_that_shrinks_while_open_is_an_error_not_a_crash),
    };

    return cmocka_run_group_tests_name("shard", tests, NULL, NULL);
}
