/*
 * tests/test_megatron.c - Megatron's index: sound pairs are read, every lie is refused.
 */
#include "tests/formats_temp.h"

#include <errno.h>
#include <fcntl.h>

#include "formats/dataset.h"
#include "formats/megatron.h"
#include "formats/shard.h"

/* An index in memory, written as Megatron does: one field after the other. */
struct index {
    uint8_t bytes[4096];
    size_t n;
};

static void put(struct index *index, const void *value, size_t n)
{
    assert_true(index->n + n <= sizeof index->bytes);
    memcpy(index->bytes + index->n, value, n);
    index->n += n;
}

/* Sequences of those lengths; documents: the first, then the rest; optional modes. */
static void make_index(struct index *index, uint8_t code, uint32_t token_bytes,
                       const int32_t *lengths, uint64_t n, bool modes)
{
    const uint64_t version = 1, documents = 3;
    const uint64_t document[3] = {0, n > 0 ? 1 : 0, n};
    uint64_t off = 0;

    index->n = 0;
    put(index, "MMIDIDX\0", 9);
    put(index, &version, 8);
    put(index, &code, 1);
    put(index, &n, 8);
    put(index, &documents, 8);
    put(index, lengths, n * sizeof *lengths);
    for (uint64_t i = 0; i < n; i++) {
        put(index, &off, 8);
        off += (uint64_t)lengths[i] * token_bytes;
    }
    put(index, document, sizeof document);
    for (uint64_t i = 0; modes && i < n; i++)
        put(index, "", 1);
}

/* Token i of the .bin is i * 7 in the width of @kind. */
static void put_tokens(const char *path, enum cllm_token_kind kind, uint32_t n)
{
    uint32_t bytes = cllm_token_bytes(kind);
    uint8_t *all = calloc(n, bytes);

    assert_non_null(all);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t token = i * 7 % 128;
        memcpy(all + i * bytes, &token, bytes);
    }
    put_file(path, all, (size_t)n * bytes);
    free(all);
}

static void every_kind_of_token_is_read(void **state)
{
    static const struct {
        uint8_t code;
        enum cllm_token_kind kind;
    } row[] = {{1, CLLM_TOKEN_U8},  {2, CLLM_TOKEN_I8},  {3, CLLM_TOKEN_I16},
               {4, CLLM_TOKEN_I32}, {5, CLLM_TOKEN_I64}, {8, CLLM_TOKEN_U16}};
    static const int32_t lengths[] = {3, 0, 40, 58}; /* an empty sequence is legal */

    for (size_t i = 0; i < CLLM_LEN(row); i++) {
        const char *bin = in(*state, "text_document.bin");
        uint32_t tokens[101];
        struct cllm_shard shard;
        struct index index;

        make_index(&index, row[i].code, cllm_token_bytes(row[i].kind), lengths, 4, i % 2);
        put_tokens(bin, row[i].kind, 101);
        put_file(in(*state, "text_document.idx"), index.bytes, index.n);
        assert_int_equal(cllm_shard_open(&shard, bin), 0);
        assert_int_equal(shard.format, CLLM_SHARD_MEGATRON);
        assert_int_equal(shard.kind, row[i].kind);
        assert_int_equal(shard.n_tokens, 101);
        assert_int_equal(cllm_shard_read(&shard, 0, 101, tokens), 0);
        for (uint32_t t = 0; t < 101; t++)
            assert_int_equal(tokens[t], t * 7 % 128);
        assert_int_equal(cllm_shard_check_tokens(&shard, 128, 0), 0);
        assert_int_equal(cllm_shard_check_tokens(&shard, 127, 0), CLLM_EDATA);
        cllm_shard_close(&shard);
    }
}

static void negative_numbers_are_no_tokens(void **state)
{
    static const int32_t lengths[] = {4};
    static const int32_t tokens[4] = {1, 2, -1, 3};
    const char *bin = in(*state, "a.bin");
    struct cllm_shard shard;
    struct index index;

    make_index(&index, 4, 4, lengths, 1, false);
    put_file(bin, tokens, sizeof tokens);
    put_file(in(*state, "a.idx"), index.bytes, index.n);
    assert_int_equal(cllm_shard_open(&shard, bin), 0);
    assert_int_equal(cllm_shard_check_tokens(&shard, 1u << 20, 0), CLLM_EDATA);
    assert_error_says("token 2 is outside the vocabulary");
    cllm_shard_close(&shard);
}

/* Write an index and check it against a .bin of @bin_bytes. */
static int check(const char *dir, const struct index *index, uint64_t bin_bytes)
{
    const char *path = in(dir, "x.idx");
    struct cllm_megatron out;
    int fd, rc;

    put_file(path, index->bytes, index->n);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    rc = cllm_megatron_check(&out, fd, index->n, bin_bytes, path);
    assert_int_equal(close(fd), 0);
    return rc;
}

static void every_field_that_lies_is_refused(void **state)
{
    static const int32_t lengths[] = {10, 20, 30};
    static const struct {
        size_t off, n;
        uint64_t value;
        const char *says;
    } bad[] = {
        {0, 1, 'X', "does not begin with MMIDIDX"},
        {9, 8, 2, "unknown version"},
        {17, 1, 0, "unknown kind"},
        {17, 1, 9, "unknown kind"},
        {17, 1, 6, "floating point"},
        {17, 1, 7, "floating point"},
        {18, 8, 0, "number of sequences"},
        {18, 8, UINT64_MAX, "number of sequences"},
        {18, 8, UINT64_C(1) << 60, "number of sequences"},
        {18, 8, 4, "number of documents"},
        {26, 8, 0, "number of documents"},
        {26, 8, UINT64_MAX / 8, "number of documents"},
        {26, 8, 2, "bytes behind the arrays"},
        {34, 4, 11, "begin where the one before ends"},
        {34, 4, UINT32_MAX, "longer than what is left"},
        {42, 4, 31, "longer than what is left"},
        {42, 4, 29, "do not fill"},
        {42, 4, 32, "longer than what is left"},
        {46, 8, 1, "begin where the one before ends"},
        {54, 8, UINT64_MAX - 1, "begin where the one before ends"},
        {70, 8, 1, "first document"},
        {78, 8, 4, "documents do not rise"},
        {86, 8, 2, "do not end with the last sequence"},
    };
    struct index index;

    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        char says[96];
        bool found = false;

        make_index(&index, 8, 2, lengths, 3, false);
        assert_int_equal(index.n, 94);
        assert_int_equal(check(*state, &index, 120), 0);
        memcpy(index.bytes + bad[i].off, &bad[i].value, bad[i].n);
        assert_int_equal(check(*state, &index, 120), CLLM_EDATA);
        (void)snprintf(says, sizeof says, "%s", bad[i].says);
        for (char *rest = says, *word; (word = strsep(&rest, "|")) != NULL;)
            found |= strstr(cllm_err_text(), word) != NULL;
        if (!found)
            fail_msg("case %zu: expected \"%s\" in \"%s\"", i, bad[i].says,
                     cllm_err_text());
    }
}

static void every_truncation_is_refused(void **state)
{
    static const int32_t lengths[] = {10, 20, 30};
    struct index index, cut;

    make_index(&index, 8, 2, lengths, 3, true);
    assert_int_equal(check(*state, &index, 120), 0);
    for (size_t n = 0; n < index.n; n++) {
        cut = index;
        cut.n = n;
        if (n != index.n - 3) /* the modes may be missing, all of them */
            assert_int_equal(check(*state, &cut, 120), CLLM_EDATA);
    }
    for (uint64_t bin = 0; bin < 140; bin++)
        assert_int_equal(check(*state, &index, bin), bin == 120 ? 0 : CLLM_EDATA);
}

static void a_file_that_could_be_both_is_refused(void **state)
{
    static const int32_t lengths[] = {514};
    const char *bin = in(*state, "a.bin");
    struct cllm_shard_writer writer;
    struct cllm_shard shard;
    struct index index;
    uint32_t tokens[2] = {1, 2};

    assert_int_equal(cllm_shard_writer_begin(&writer, bin, 2), 0);
    assert_int_equal(cllm_shard_writer_put(&writer, tokens, 2), 0);
    assert_int_equal(cllm_shard_writer_finish(&writer), 0);
    make_index(&index, 8, 2, lengths, 1, false);
    put_file(in(*state, "a.idx"), index.bytes, index.n);
    assert_int_equal(cllm_shard_open(&shard, bin), CLLM_EDATA);
    assert_error_says("could be llm.c's or Megatron's");
    assert_int_equal(cllm_shard_open_as(&shard, bin, CLLM_SHARD_LLMC), 0);
    assert_int_equal(shard.n_tokens, 2);
    cllm_shard_close(&shard);
    assert_int_equal(cllm_shard_open_as(&shard, bin, CLLM_SHARD_MEGATRON), 0);
    assert_int_equal(shard.n_tokens, 514);
    cllm_shard_close(&shard);
    /* an .idx that is somebody else's says nothing */
    put_file(in(*state, "a.idx"), "hello", 5);
    assert_int_equal(cllm_shard_open(&shard, bin), 0);
    assert_int_equal(shard.format, CLLM_SHARD_LLMC);
    cllm_shard_close(&shard);
    assert_int_equal(cllm_shard_open_as(&shard, bin, CLLM_SHARD_MEGATRON), CLLM_EDATA);
    assert_int_equal(unlink(in(*state, "a.idx")), 0);
    assert_int_equal(cllm_shard_open_as(&shard, bin, CLLM_SHARD_MEGATRON), CLLM_EDATA);
    assert_error_says("cannot open the index");
    assert_int_equal(cllm_shard_open(&shard, in(*state, "a.idx")), -ENOENT);
}

static void a_list_with_every_format_comes_back_from_its_manifest(void **state)
{
    static const int32_t lengths[] = {30, 30};
    char *patterns[1];
    struct cllm_shard_writer writer;
    struct cllm_dataset data, again;
    uint16_t bare[2000];
    struct index index;
    uint64_t hash, hash_again;
    size_t bytes;
    char *text;

    assert_int_equal(cllm_shard_writer_begin(&writer, in(*state, "a.bin"), 4), 0);
    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(cllm_shard_writer_put(&writer, &i, 1), 0);
    assert_int_equal(cllm_shard_writer_finish(&writer), 0);
    for (uint32_t i = 0; i < CLLM_LEN(bare); i++)
        bare[i] = (uint16_t)(i % 100);
    put_file(in(*state, "b.bin"), bare, sizeof bare);
    make_index(&index, 4, 4, lengths, 2, false);
    put_tokens(in(*state, "c.bin"), CLLM_TOKEN_I32, 60);
    put_file(in(*state, "c.idx"), index.bytes, index.n);
    assert_true(asprintf(&patterns[0], "%s/*.bin", (char *)*state) > 0);

    assert_int_equal(cllm_dataset_open(&data, patterns, 1, 10), 0);
    assert_int_equal(data.n_shards, 3);
    assert_int_equal(data.shard[0].format, CLLM_SHARD_LLMC);
    assert_int_equal(data.shard[1].format, CLLM_SHARD_NANOGPT);
    assert_int_equal(data.shard[2].format, CLLM_SHARD_MEGATRON);
    assert_int_equal(data.n_windows, 3 + 199 + 5);
    text = cllm_dataset_manifest(&data, &bytes);
    assert_non_null(strstr(text, "b.bin\t2000\t2\t4000\tnanogpt\n"));
    assert_non_null(strstr(text, "c.bin\t60\t4\t240\tmegatron\n"));
    assert_int_equal(cllm_dataset_from_manifest(&again, text, bytes, 10), 0);
    assert_int_equal(again.shard[2].kind, CLLM_TOKEN_I32);
    assert_int_equal(cllm_dataset_hash(&data, &hash), 0);
    assert_int_equal(cllm_dataset_hash(&again, &hash_again), 0);
    assert_int_equal(hash, hash_again);
    cllm_dataset_close(&data);
    cllm_dataset_close(&again);
    free(text);
    free(patterns[0]);
    assert_true(asprintf(&patterns[0], "%s/*", (char *)*state) > 0);
    assert_int_equal(cllm_dataset_open(&data, patterns, 1, 10), CLLM_EDATA);
    assert_error_says("c.idx is not a token shard; it looks like a Megatron index");
    free(patterns[0]);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(every_kind_of_token_is_read),
        T(negative_numbers_are_no_tokens),
        T(every_field_that_lies_is_refused),
        T(every_truncation_is_refused),
        T(a_file_that_could_be_both_is_refused),
        T(a_list_with_every_format_comes_back_from_its_manifest),
    };

    return cmocka_run_group_tests_name("megatron", tests, NULL, NULL);
}
