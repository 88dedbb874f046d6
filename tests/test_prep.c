/*
 * tests/test_prep.c - what cllm-prep reads, what it refuses, and the shards of it.
 */
#include "tests/formats_temp.h"

#include <sys/stat.h>

#include "formats/dataset.h"
#include "formats/json.h"
#include "formats/sha256.h"
#include "tests/packed.h"
#include "tests/prep_run.h"

/* A file of @n times @c. */
static void put_text(const char *path, char c, size_t n)
{
    char *text = malloc(n + 1);

    assert_non_null(text);
    memset(text, c, n);
    put_file(path, text, n);
    free(text);
}

/* All tokens of the shards that @pattern matches, as a string; the caller frees. */
static char *tokens_of(const char *pattern)
{
    struct cllm_dataset dataset;
    char *copy = strdup(pattern);
    size_t used = 0;

    assert_int_equal(cllm_dataset_open(&dataset, &copy, 1, 1), 0);
    char *text = calloc(1, dataset.n_tokens + 1);
    assert_non_null(text);
    for (uint32_t i = 0; i < dataset.n_shards; i++) {
        for (uint64_t k = 0; k < dataset.shard[i].n_tokens; k++) {
            uint32_t token = 0;
            assert_int_equal(cllm_shard_read(&dataset.shard[i], k, 1, &token), 0);
            text[used++] = (char)token;
        }
    }
    cllm_dataset_close(&dataset);
    free(copy);
    return text;
}

static void the_stream_is_the_documents_in_order(void **state)
{
    char expected[1204];

    assert_int_equal(cllm_file_mkdirs(in(*state, "in/b")), 0);
    put_text(in(*state, "in/c.txt"), 'c', 300);
    put_text(in(*state, "in/b/z.txt"), 'z', 300);
    put_text(in(*state, "in/b/a.txt"), 'a', 300);
    put_text(in(*state, "first"), '1', 298);
    assert_int_equal(
        prep(*state, "-o out --separator '-\\x2b' --val-fraction 0.25 first in"), 0);
    memset(expected, '1', 298);
    expected[298] = '-';
    expected[299] = '+';
    memset(expected + 300, 'a', 300);
    expected[600] = '-';
    expected[601] = '+';
    memset(expected + 602, 'z', 300);
    expected[902] = '-';
    expected[903] = '+';
    memset(expected + 904, 'c', 300);
    char *train = tokens_of(in(*state, "out/train_*.bin"));
    char *val = tokens_of(in(*state, "out/val_*.bin"));
    size_t n = strlen(train);
    assert_int_equal(n + strlen(val), 1204);
    assert_int_equal(strlen(val), 300); /* about a quarter, the last document */
    assert_memory_equal(train, expected, n);
    assert_memory_equal(val, expected + n, 300);
    free(train);
    free(val);
}

static void shards_are_even_and_described(void **state)
{
    char hex[CLLM_SHA256_HEX_BYTES];
    json_t *json = NULL, *train = NULL, *shards = NULL;
    uint64_t tokens = 0, sum = 0, bytes = 0;
    const char *name = NULL, *sha256 = NULL;

    put_text(in(*state, "text"), 'x', 10001);
    assert_int_equal(prep(*state, "-o out --shard-tokens 1000 --val-fraction 0.3 text"),
                     0);
    assert_int_equal(cllm_json_load(in(*state, "out/dataset.json"), 1 << 20, &json), 0);
    assert_int_equal(cllm_json_get_object(json, "d", "train", &train), 0);
    assert_int_equal(cllm_json_get_array(train, "d", "shards", &shards), 0);
    assert_int_equal(json_array_size(shards), 8); /* 7001 tokens */
    for (size_t i = 0; i < 8; i++) {
        const json_t *shard = json_array_get(shards, i);
        char path[CLLM_FILE_PATH_BYTES];
        assert_int_equal(cllm_json_get_u64(shard, "d", "tokens", &tokens), 0);
        assert_in_range(tokens, 875, 876);
        sum += tokens;
        assert_int_equal(cllm_json_get_text(shard, "d", "name", &name), 0);
        assert_int_equal(cllm_json_get_text(shard, "d", "sha256", &sha256), 0);
        assert_int_equal(cllm_file_join(path, in(*state, "out"), name), 0);
        assert_int_equal(cllm_sha256_file(path, hex, &bytes), 0);
        assert_string_equal(hex, sha256);
        assert_int_equal(bytes, 1024 + 2 * tokens);
    }
    assert_int_equal(sum, 7001);
    json_decref(json);
}

static void hidden_binary_and_empty_files_are_passed_over_and_counted(void **state)
{
    uint8_t packed[5 + PACKED_ROOM];

    assert_int_equal(cllm_file_mkdirs(in(*state, "in/.git")), 0);
    put_text(in(*state, "in/.git/HEAD"), 'g', 500);
    put_text(in(*state, "in/.hidden"), 'h', 500);
    put_file(in(*state, "in/binary"), "ab\0cd", 5);
    put_file(in(*state, "in/packed.gz"), packed, packed_gzip(packed, "ab\0cd", 5));
    put_file(in(*state, "in/empty"), "", 0);
    put_text(in(*state, "in/text"), 't', 500);
    assert_int_equal(symlink("text", in(*state, "in/to-text")), 0);
    assert_int_equal(symlink("..", in(*state, "in/to-above")), 0);
    assert_int_equal(prep(*state, "-o in/out --val-fraction 0 --separator '' in"), 0);
    assert_said("2 binary");
    assert_said("2 hidden");
    assert_said("1 empty");
    assert_said("documents: 2,");
    char *train = tokens_of(in(*state, "in/out/train_*.bin"));
    assert_int_equal(strlen(train), 1000);
    assert_int_equal(strspn(train, "t"), 1000);
    free(train);
    assert_int_equal(access(in(*state, "in/out/val_000.bin"), F_OK), -1);
    /* The output directory within the input is not read: again, the same result. */
    assert_int_equal(prep(*state, "-o in/out --val-fraction 0 --separator '' --force in"),
                     0);
    assert_said("documents: 2,");
}

static void stdin_is_read_and_leaves_no_spool_file(void **state)
{
    put_text(in(*state, "text"), 's', 5000);
    assert_int_equal(prep(*state, "-o out - < text"), 0);
    assert_int_equal(access(in(*state, "out/.stdin.tmp"), F_OK), -1);
    char *train = tokens_of(in(*state, "out/train_000.bin"));
    assert_int_equal(strlen(train), 4500);
    free(train);
    assert_int_equal(prep(*state, "-o out2 - - < text"), 2);
    assert_said("given twice");
    assert_int_equal(access(in(*state, "out2"), F_OK), -1);
}

static void a_byte_order_mark_is_dropped(void **state)
{
    char text[600];

    memset(text, 'b', sizeof text);
    text[0] = '\xef';
    text[1] = '\xbb';
    text[2] = '\xbf';
    put_file(in(*state, "text"), text, sizeof text);
    assert_int_equal(prep(*state, "-o out --val-fraction 0 text"), 0);
    assert_said("byte order mark");
    char *train = tokens_of(in(*state, "out/train_000.bin"));
    assert_int_equal(strlen(train), 597);
    assert_int_equal(strspn(train, "b"), 597);
    free(train);
}

static void nonsense_is_refused_with_file_and_offset(void **state)
{
    static const struct {
        const char *arguments;
        int exit_code;
        const char *says;
    } bad[] = {
        {"-o out nul", 3, "nul is not text, it has a NUL byte at offset 300"},
        {"-o out good nul", 3, "nul is not text"},
        {"-o out packed", 3, "packed: the gzip stream is cut short"},
        {"-o out zip", 3, "it is a zip file"},
        {"-o out lines.jsonl", 3, "lines.jsonl:2: column 2: "},
        {"-o out --format jsonl good", 3, "good:1: column"},
        {"-o out --text-key body --bad-lines skip lines.jsonl", 3, "the input is empty"},
        {"-o out --format text --invalid-utf8 error latin", 3,
         "byte 0xe9 at offset 3 belongs to no character"},
        {"-o out --train-vocab 256 good", 2, "--train-vocab"},
        {"-o out --train-vocab 300 --tokenizer bytes good", 2, "one of them is enough"},
        {"-o out --pattern gpt2 good", 2, "--pattern"},
        {"-o out --train-vocab 300 --pattern none good", 2, "none"},
        {"-o out --tokenizer absent good", 1, "absent"},
        {"-o out --format csv good", 2, "--format: expected one of auto text jsonl"},
        {"-o out --invalid-utf8 what good", 2, "--invalid-utf8"},
        {"-o out --bad-lines what good", 2, "--bad-lines"},
        {"-o out --threads 0 good", 2, "--threads"},
        {"-o out control", 3, "control characters"},
        {"-o out empty", 3, "the input is empty"},
        {"-o out bare", 3, "there is no text in the directory bare"},
        {"-o out pipe", 3, "pipe is neither"},
        {"-o out absent", 1, "cannot open absent"},
        {"-o out small", 3, "the training part is too small"},
        {"-o out --val-fraction 0.01 good", 3, "the validation part is too small"},
        {"-o out --val-fraction 1 good", 2, "--val-fraction"},
        {"-o out --val-fraction nan good", 2, "--val-fraction"},
        {"-o out --val-fraction 0.1x good", 2, "--val-fraction"},
        {"-o out --shard-tokens 0 good", 2, "--shard-tokens"},
        {"-o out --shard-tokens -5 good", 2, "--shard-tokens"},
        {"-o out --shard-tokens 1e6 good", 2, "--shard-tokens"},
        {"-o out --separator 'a\\q' good", 2, "unknown escape"},
        {"-o out", 2, "no input"},
        {"good", 2, "no output directory"},
        {"--nonsense", 2, "--nonsense"},
        {"-o good good", 1, "good"}, /* a file in the place of the directory */
        {"-o bare bare", 2, "cannot be an input too"},
    };
    char text[600];

    memset(text, 'n', sizeof text);
    text[300] = '\0';
    put_file(in(*state, "nul"), text, sizeof text);
    memset(text, 2, sizeof text);
    put_file(in(*state, "control"), text, sizeof text);
    put_text(in(*state, "good"), 'g', 3000);
    put_file(in(*state, "packed"), "\x1f\x8b\x08\x01", 4);
    put_file(in(*state, "zip"), "PK\x03\x04", 4);
    put_file(in(*state, "latin"), "caf\xe9\n", 5);
    put_file(in(*state, "lines.jsonl"), "{\"text\": \"one\"}\n{x}\n", 20);
    put_file(in(*state, "empty"), "", 0);
    put_text(in(*state, "small"), 's', 100);
    assert_int_equal(mkdir(in(*state, "bare"), 0777), 0);
    assert_int_equal(mkfifo(in(*state, "pipe"), 0600), 0);
    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        int code = prep(*state, bad[i].arguments);
        if (code != bad[i].exit_code)
            fail_msg("%s: exit code %d:\n%s", bad[i].arguments, code, prep_said);
        assert_said(bad[i].says);
        assert_int_equal(access(in(*state, "out"), F_OK), -1); /* nothing left behind */
    }
    assert_int_equal(unlink(in(*state, "pipe")), 0);
}

static void an_earlier_result_is_replaced_only_by_force(void **state)
{
    put_text(in(*state, "text"), 'x', 10000);
    assert_int_equal(prep(*state, "-o out --shard-tokens 1000 text"), 0);
    assert_int_equal(access(in(*state, "out/train_008.bin"), F_OK), 0);
    put_text(in(*state, "out/mine.txt"), 'm', 10);
    assert_int_equal(prep(*state, "-o out text"), 1);
    assert_said("--force");
    assert_int_equal(access(in(*state, "out/train_008.bin"), F_OK), 0);
    /* A refused input destroys nothing. */
    assert_int_equal(prep(*state, "-o out --force absent"), 1);
    assert_int_equal(access(in(*state, "out/train_008.bin"), F_OK), 0);
    assert_int_equal(prep(*state, "-o out --force text"), 0);
    assert_int_equal(access(in(*state, "out/train_000.bin"), F_OK), 0);
    assert_int_equal(access(in(*state, "out/train_001.bin"), F_OK),
                     -1); /* no stale ones */
    assert_int_equal(access(in(*state, "out/mine.txt"), F_OK), 0);
}

static void the_same_text_gives_the_same_bytes(void **state)
{
    put_text(in(*state, "text"), 'x', 10000);
    assert_int_equal(prep(*state, "-q -o one text"), 0);
    assert_string_equal(prep_said, "");
    assert_int_equal(prep(*state, "-q -o two text"), 0);
    assert_same_file(in(*state, "one/dataset.json"), in(*state, "two/dataset.json"));
}

/* The same documents as text, JSON lines, and packed. */
static void every_kind_of_input_gives_the_same_tokens(void **state)
{
    static const char *const arguments[] = {
        "one two",
        "--doc-sep '<|end|>' joined",
        "lines.jsonl",
        "--format jsonl lines",
        "one.gz two.zst",
        "lines.jsonl.zst",
        "--format jsonl - < lines.gz",
        "--doc-sep '<|end|>' - < joined",
        "dir",
    };
    static char one[2000], two[3000], joined[6000], lines[8000];
    static uint8_t packed[8000 + PACKED_ROOM];
    size_t n, m;

    memset(one, '1', sizeof one - 1);
    memset(two, '2', sizeof two - 1);
    one[sizeof one - 2] = two[sizeof two - 2] = '\n';
    (void)snprintf(joined, sizeof joined, "<|end|>\n%s<|end|>\n%s", one, two);
    (void)snprintf(lines, sizeof lines,
                   "{\"text\": \"%.*s\\n\"}\n\n{\"x\": 1, \"text\": \"%.*s\\u000a\"}",
                   (int)sizeof one - 2, one, (int)sizeof two - 2, two);
    put_file(in(*state, "one"), one, strlen(one));
    put_file(in(*state, "two"), two, strlen(two));
    put_file(in(*state, "joined"), joined, strlen(joined));
    put_file(in(*state, "lines"), lines, strlen(lines));
    put_file(in(*state, "lines.jsonl"), lines, strlen(lines));
    put_file(in(*state, "one.gz"), packed, packed_gzip(packed, one, strlen(one)));
    put_file(in(*state, "two.zst"), packed, packed_zstd(packed, two, strlen(two)));
    n = packed_gzip(packed, lines, strlen(lines));
    put_file(in(*state, "lines.gz"), packed, n);
    n = packed_zstd(packed, lines, strlen(lines));
    put_file(in(*state, "lines.jsonl.zst"), packed, n);
    assert_int_equal(cllm_file_mkdirs(in(*state, "dir/b")), 0);
    put_file(in(*state, "dir/a"), one, strlen(one));
    put_file(in(*state, "dir/b/lines.ndjson"), "{\"text\": \"\"}\n", 13);
    put_file(in(*state, "dir/c"), two, strlen(two));
    char *expected = NULL;
    for (size_t i = 0; i < CLLM_LEN(arguments); i++) {
        char command[256];
        (void)snprintf(command, sizeof command, "-o out --force --val-fraction 0 %s",
                       arguments[i]);
        if (prep(*state, command) != 0)
            fail_msg("%s:\n%s", arguments[i], prep_said);
        assert_said("documents: 2, ");
        char *shard = get_file(in(*state, "out/train_000.bin"), &m);
        if (expected == NULL) {
            expected = shard;
            n = m;
            continue;
        }
        assert_int_equal(m, n);
        assert_memory_equal(shard, expected, n);
        free(shard);
    }
    free(expected);
}

static void odd_bytes_are_kept_or_replaced_and_counted(void **state)
{
    static const char odd[] = "\xef\xbb\xbf"
                              "a\r\nb\xff\xe2\x82z\n";
    static char text[9000];
    size_t n = 0;

    while (n + sizeof odd < sizeof text) { /* but for the first, marks are text */
        memcpy(text + n, odd, sizeof odd - 1);
        n += sizeof odd - 1;
    }
    text[8500] = '\0'; /* far behind where files are judged */
    put_file(in(*state, "text"), text, n);
    assert_int_equal(prep(*state, "-o kept --val-fraction 0 text"), 0);
    assert_said("invalid UTF-8 at");
    assert_said("1 byte order mark");
    size_t bytes = 0;
    char *shard = get_file(in(*state, "kept/train_000.bin"), &bytes);
    assert_int_equal(bytes, 1024 + 2 * (n - 3));
    for (size_t i = 0; i < n - 3; i++)
        assert_int_equal(shard[1024 + 2 * i], text[i + 3]);
    free(shard);
    assert_int_equal(
        prep(*state, "-o mended --val-fraction 0 --invalid-utf8=replace text"), 0);
    struct cllm_dataset dataset;
    char *pattern = strdup(in(*state, "mended/train_*.bin"));
    assert_int_equal(cllm_dataset_open(&dataset, &pattern, 1, 1), 0);
    uint32_t token[9] = {0};
    assert_int_equal(cllm_shard_read(&dataset.shard[0], 4, 9, token), 0);
    static const uint32_t mended[9] = {0xef, 0xbf, 0xbd, 0xef, 0xbf,
                                       0xbd, 'z',  '\n', 0xef};
    assert_memory_equal(token, mended, sizeof mended);
    cllm_dataset_close(&dataset);
    free(pattern);
}

static void bad_lines_are_skipped_when_asked_to(void **state)
{
    char lines[4000] = "{\"txt\": 1}\n";
    json_t *json = NULL;
    uint64_t bad = 0, documents = 0;

    for (int i = 0; i < 60; i++)
        (void)snprintf(lines + strlen(lines), sizeof lines - strlen(lines), "%s\n",
                       i % 3 == 2 ? "{broken"
                                  : "{\"text\": \"some text of a document\"}");
    put_file(in(*state, "a.jsonl"), lines, strlen(lines));
    assert_int_equal(prep(*state, "-o out --val-fraction 0 a.jsonl"), 3);
    assert_said("a.jsonl:1: \"text\": expected text, found nothing");
    assert_int_equal(prep(*state, "-o out --val-fraction 0 --bad-lines=skip a.jsonl"), 0);
    assert_said("left out: a.jsonl:1:");
    assert_int_equal(cllm_json_load(in(*state, "out/dataset.json"), 1 << 20, &json), 0);
    assert_int_equal(cllm_json_get_u64(json, "d", "bad_lines", &bad), 0);
    assert_int_equal(cllm_json_get_u64(json, "d", "documents", &documents), 0);
    assert_int_equal(bad, 21);
    assert_int_equal(documents, 40);
    json_decref(json);
}

static void verbose_names_what_is_passed_over(void **state)
{
    assert_int_equal(cllm_file_mkdirs(in(*state, "in")), 0);
    put_file(in(*state, "in/binary"), "ab\0cd", 5);
    put_file(in(*state, "in/.hidden"), "h", 1);
    put_file(in(*state, "in/empty"), "", 0);
    put_text(in(*state, "in/text"), 't', 500);
    assert_int_equal(prep(*state, "-o out -v --val-fraction 0 in"), 0);
    assert_said("in/binary is not text");
    assert_said("in/.hidden is hidden");
    assert_said("in/empty is empty");
}

static void help_and_version_go_to_stdout(void **state)
{
    assert_int_equal(prep(*state, "--help 2>/dev/null"), 0);
    assert_said("Usage: cllm-prep");
    assert_int_equal(prep(*state, "--version 2>/dev/null"), 0);
    assert_said("cllm-prep (cllm) " CLLM_VERSION "\n");
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_stream_is_the_documents_in_order),
        T(shards_are_even_and_described),
        T(hidden_binary_and_empty_files_are_passed_over_and_counted),
        T(stdin_is_read_and_leaves_no_spool_file),
        T(a_byte_order_mark_is_dropped),
        T(nonsense_is_refused_with_file_and_offset),
        T(an_earlier_result_is_replaced_only_by_force),
        T(the_same_text_gives_the_same_bytes),
        T(every_kind_of_input_gives_the_same_tokens),
        T(odd_bytes_are_kept_or_replaced_and_counted),
        T(bad_lines_are_skipped_when_asked_to),
        T(verbose_names_what_is_passed_over),
        T(help_and_version_go_to_stdout),
    };

    if (!prep_find())
        return 1;
    return cmocka_run_group_tests_name("prep", tests, NULL, NULL);
}
