/*
 * tests/fuzz/seeds.c - fuzz-seeds DIR: valid inputs of every kind, DIR/<target>/<name>.
 *
 * A fuzzer finds its way from a sound input to a strange one, seldom the other way. What
 * the project itself writes is made by the project's own writers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/config.h"
#include "base/err.h"
#include "formats/checkpoint.h"
#include "formats/checkpoint_json.h"
#include "formats/gguf_model.h"
#include "formats/llmc.h"
#include "tests/fuzz/fuzz.h"
#include "tests/packed.h"

static const char *directory;

static void fail(const char *what)
{
    (void)fprintf(stderr, "fuzz-seeds: %s\n", what);
    exit(1);
}

/* @head (of @head_bytes) and then @data, as the seed @name of @target. */
static void put2(const char *target, const char *name, const void *head,
                 size_t head_bytes, const void *data, size_t bytes)
{
    char path[CLLM_FILE_PATH_BYTES], file[CLLM_FILE_PATH_BYTES];
    FILE *out;

    if (cllm_file_join(path, directory, target) != 0 || cllm_file_mkdirs(path) != 0 ||
        cllm_file_join(file, path, name) != 0)
        fail(cllm_err_text());
    out = fopen(file, "we");
    if (!out || fwrite(head, 1, head_bytes, out) != head_bytes ||
        fwrite(data, 1, bytes, out) != bytes || fclose(out) != 0)
        fail(file);
}

static void put(const char *target, const char *name, const void *data, size_t bytes)
{
    put2(target, name, "", 0, data, bytes);
}

static void put_text(const char *target, const char *name, const char *text)
{
    put(target, name, text, strlen(text));
}

/* The file @path as a seed, behind @head. */
static void put_file(const char *target, const char *name, const char *head,
                     size_t head_bytes, const char *path)
{
    char *text = NULL;
    size_t bytes = 0;

    if (cllm_file_read(path, 1u << 20, &text, &bytes) != 0)
        fail(cllm_err_text());
    put2(target, name, head, head_bytes, text, bytes);
    free(text);
}

static void seed_config(void)
{
    struct cllm_config config;
    char *text;

    cllm_config_init(&config);
    if (cllm_config_set(&config, "run.dir=runs/a") != 0 ||
        cllm_config_set(&config, "data.train=a_*.bin") != 0)
        fail(cllm_err_text());
    text = cllm_config_text(&config);
    if (!text)
        fail("out of memory");
    put_text("config", "all", text);
    free(text);
    cllm_config_fini(&config);
    put_text("config", "short",
             "; a comment\n[run]\ndir = runs/a ; and one more\n\n[data]\n"
             "train = a.bin\ntrain = b.bin\n[train]\nsteps: 10k\n");
    put_text("config", "bom", "\xEF\xBB\xBF[run]\r\nworkers = auto\r\n");
    put_text("config", "set", "--set train.steps=200");
    put_text("config", "set-list", "--set data.valid=");
    put_text("config", "unknown", "[modle]\nwidht = 3\n");
}

static void seed_control(void)
{
    static const char *const lines[] = {
        "status",   "workers 3", "checkpoint", "pause",
        "resume\r", "stop",      "workers",    "workers 18446744073709551615",
        "stop now"};
    char name[16];

    for (size_t i = 0; i < CLLM_LEN(lines); i++) {
        (void)snprintf(name, sizeof name, "%zu", i);
        put_text("control", name, lines[i]);
    }
}

static void seed_answer(void)
{
    put_text("answer", "status",
             "{\"ok\": true, \"run\": \"a-1\", \"state\": \"running\", \"paused\": true, "
             "\"step\": 12, \"steps\": 100, \"loss\": 2.5, \"valid\": null, "
             "\"tokens_per_s\": 41230.5, \"workers\": 2, \"workers_ready\": 1, "
             "\"saved_step\": 10, \"deaths\": 3}\n");
    put_text("answer", "text", "{\"ok\": true, \"text\": \"paused after step 12\"}\n");
    put_text("answer", "refusal",
             "{\"ok\": false, \"error\": \"no such command: x\", \"usage\": true}\n");
}

/* A checkpoint's three texts, as they are written. */
static void seed_checkpoint(void)
{
    const struct cllm_checkpoint_info info = {.step = 100,
                                              .cursor = 1200,
                                              .tokens = 18000,
                                              .fingerprint = "0123456789abcdef",
                                              .root = "fedcba9876543210",
                                              .data = "00000000000000ff",
                                              .train_loss = 2.5,
                                              .valid_loss = 2.25,
                                              .best_loss = 2.125,
                                              .valid_step = 100,
                                              .best_step = 80,
                                              .model = {.vocab = 256,
                                                        .context = 16,
                                                        .layers = 1,
                                                        .heads = 2,
                                                        .kv_heads = 2,
                                                        .head_size = 8,
                                                        .hidden = 64,
                                                        .width = 16,
                                                        .norm_epsilon = 1e-5},
                                              .init_range = 0.02};
    static const char *const names[] = {CLLM_CHECKPOINT_CONFIG, CLLM_CHECKPOINT_RUN,
                                        CLLM_CHECKPOINT_MODEL, CLLM_CHECKPOINT_OPTIMIZER,
                                        CLLM_CHECKPOINT_MANIFEST};
    char dir[] = "/tmp/fuzz-seeds.XXXXXX", path[5][CLLM_FILE_PATH_BYTES];

    if (!mkdtemp(dir))
        fail("cannot make a directory in /tmp");
    for (int i = 0; i < 5; i++)
        if (cllm_file_join(path[i], dir, names[i]) != 0)
            fail(cllm_err_text());
    if (cllm_file_replace(path[2], "model", 5) != 0 ||
        cllm_file_replace(path[3], "optimizer", 9) != 0 ||
        cllm_checkpoint_describe(dir, &info, NULL, 0) != 0)
        fail(cllm_err_text());
    put_file("checkpoint", "config", "", 0, path[0]);
    put_file("checkpoint", "run", "", 0, path[1]);
    put_file("manifest", "exact", "\0", 1, path[4]);
    put_file("manifest", "formed", "1", 1, path[4]);
    if (cllm_file_remove_tree(dir) != 0)
        fail(cllm_err_text());
}

static void seed_dataset(void)
{
    put_text("dataset", "two", "/a\t40\t2\t1104\n/b\t20\t2\t1064\n");
    put_text("dataset", "one", "/b\t20\t2\t1064\n");
    put_text("dataset", "changed", "/a\t41\t2\t1106\n");
    put_text("dataset", "large",
             "/data/train_000001.bin\t100000000\t2\t200001024\n"
             "/data/train_000002.bin\t18446744073709551615\t4\t0\n");
    put_text("dataset", "formats",
             "/data/a.bin\t100\t2\t200\tnanogpt\n/data/b.bin\t100\t4\t400\tmegatron\n");
}

/* Flags, vocabulary, then the file; see fuzz_shard.c. */
static void seed_shard(void)
{
    static const uint8_t fixed[3] = {1 | 4, 0xff, 0}, wide[3] = {1 | 2 | 4, 0xff, 0xff};
    static const uint8_t as_is[3] = {4, 0xff, 0};
    static const uint32_t head[5] = {20240520, 1, 4, 0x00020001, 0x00040003};
    static const uint32_t head4[5] = {20240801, 7, 2, 5, 70000};
    static const char *const lookalikes[] = {
        "\x1f\x8b gzip", "GGUF", "PAR1", "MMIDIDX", "once upon a time", "12345678{\"a"};
    char name[16];

    put2("shard", "u16", as_is, 3, head, sizeof head);
    put2("shard", "u32", as_is, 3, head4, sizeof head4);
    put2("shard", "u16-fixed", fixed, 3, head, sizeof head);
    put2("shard", "u32-fixed", wide, 3, head4, sizeof head4);
    for (size_t i = 0; i < CLLM_LEN(lookalikes); i++) {
        (void)snprintf(name, sizeof name, "other%zu", i);
        put2("shard", name, "\0\0\0", 3, lookalikes[i], strlen(lookalikes[i]));
    }
}

/* Flags, bytes of data, then the header; see fuzz_safetensors.c. */
static void seed_safetensors(void)
{
    static const char two[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]}}  ";
    static const char scalar[] =
        "{\"x\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
        "\"none\":{\"dtype\":\"F32\",\"shape\":[0,9],\"data_offsets\":[0,0]}}";
    static const char *const bad[] = {
        "{\"__metadata__\":[]}",
        "{\"__metadata__\":{\"a\":1}}",
        "{\"x\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,0],\"data_offsets\":[0,0]}}",
        "{\"x\":{\"dtype\":\"F64\",\"shape\":[4294967296,4294967296],"
        "\"data_offsets\":[0,0]}}",
        "{\"x\":{\"dtype\":\"F64\",\"shape\":[4611686018427387904],"
        "\"data_offsets\":[0,0]}}",
    };
    static const uint8_t length[8] = {sizeof two - 1};
    char name[16];
    uint8_t own[3 + sizeof length + sizeof two - 1] = {0, 32, 0};

    put2("safetensors", "two", "\1\x20\0", 3, two, sizeof two - 1);
    put2("safetensors", "scalar", "\1\x08\0", 3, scalar, sizeof scalar - 1);
    put2("safetensors", "empty", "\1\0\0", 3, "{}", 2);
    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        (void)snprintf(name, sizeof name, "bad%zu", i);
        put2("safetensors", name, "\1\0\0", 3, bad[i], strlen(bad[i]));
    }
    memcpy(own + 3, length, sizeof length);
    memcpy(own + 3 + sizeof length, two, sizeof two - 1);
    put("safetensors", "own-length", own, sizeof own);
}

/* What a run writes about itself, a line for each step. */
static void seed_lines(void)
{
    static const char metrics[] =
        "{\"step\":1,\"loss\":5.5,\"tokens_per_s\":4123.5}\n"
        "{\"step\":2,\"loss\":5.25}\n{\"step\":9,\"loss\":4}\n{\"step\":10,\"lo";
    static const char journal[] =
        "{\"step\":1,\"root\":\"0123456789abcdef\",\"loss\":\"0x1.6p+2\"}\n"
        "{\"step\":2,\"root\":\"00000000000000ff\"}\n{\"step\":3,\"root\":\"1";

    put_text("history", "metrics", metrics);
    put_text("history", "cut", metrics + 9);
    put2("journal", "resumed", "\2", 1, journal, sizeof journal - 1);
    put2("journal", "replayed", "\1", 1, journal, sizeof journal - 1);
}

/* Flags, then patches of u16 offset, u8 n, n bytes; see fuzz.h. */
static void seed_pages(void)
{
    char name[16];

    for (uint8_t kind = 0; kind < 4; kind++) {
        uint8_t seed[] = {(uint8_t)(kind << 4 | 7), 200, 2, 2, 0xff, 0xff};

        (void)snprintf(name, sizeof name, "kind%u", kind);
        put("report", name, seed, sizeof seed);
        (void)snprintf(name, sizeof name, "intact%u", kind);
        put("report", name, seed, 1);
    }
    put("crash", "intact", "\1", 1);
    put("crash", "signal", "\1\20\0\1\7", 5);
    put("crash", "words", "\1\140\5\5hello", 9);
    for (uint8_t look = 0; look < 8; look++) {
        const uint8_t intact[] = {15, look}, alive[] = {0x7f, look},
                      hung[] = {0x3f, look};
        const uint8_t patched[] = {15, look, 3, 0, 0, 2, 9, 9, 6,
                                   8,  0,    1, 2, 8, 4, 0, 1, 2};

        (void)snprintf(name, sizeof name, "intact%u", look);
        put("segment", name, intact, sizeof intact);
        (void)snprintf(name, sizeof name, "alive%u", look);
        put("segment", name, alive, sizeof alive);
        (void)snprintf(name, sizeof name, "hung%u", look);
        put("segment", name, hung, sizeof hung);
        (void)snprintf(name, sizeof name, "patched%u", look);
        put("segment", name, patched, sizeof patched);
    }
}

/* One number of the control object changed; see fuzz_segment.c. */
static void seed_number(const char *name, uint8_t section, size_t off, uint8_t value)
{
    const uint8_t seed[] = {15, 0, section, (uint8_t)off, (uint8_t)(off >> 8), 1, value};

    put("segment", name, seed, sizeof seed);
}

static void seed_segment(void)
{
    const size_t geometry = offsetof(struct cllm_header, geometry);
    const size_t kind = offsetof(struct cllm_command, assignment) +
                        sizeof(struct cllm_assignment) +
                        offsetof(struct cllm_assignment, kind);
    char name[16];

    seed_number("lanes", 0, geometry + offsetof(struct cllm_geometry, lanes), 64);
    seed_number("chunks", 0, geometry + offsetof(struct cllm_geometry, n_chunks), 64);
    seed_number("committed", 1, offsetof(struct cllm_state, committed), 0);
    seed_number("pid", 1, offsetof(struct cllm_state, node_zero_pid), 1);
    for (uint32_t i = 0; i <= CLLM_WORK_LAST; i++) {
        (void)snprintf(name, sizeof name, "work%u", i);
        seed_number(name, 6, kind, (uint8_t)i); /* of worker 0's command page */
    }
    for (uint32_t i = 0; i <= CLLM_SLOT_LAST; i++) {
        (void)snprintf(name, sizeof name, "slot%u", i);
        seed_number(name, 6, offsetof(struct cllm_command, state), (uint8_t)i);
    }
}

/* Small models as files, without their data; see fuzz_gguf.c. */
static void seed_gguf(void)
{
    static const uint64_t vector[1] = {4}, matrix[2] = {3, 32};
    static const int32_t types[2] = {1, 3};
    struct cllm_gguf_writer writer;
    char dir[] = "/tmp/fuzz-seeds.XXXXXX", path[CLLM_FILE_PATH_BYTES];
    char *text = NULL;
    size_t bytes = 0;

    if (!mkdtemp(dir) || cllm_file_join(path, dir, "m.gguf") != 0)
        fail("cannot make a directory in /tmp");
    for (int kind = 0; kind < 3; kind++) {
        const struct cllm_model_config config = {.arch = kind == 1 ? CLLM_ARCH_LLAMA
                                                                   : CLLM_ARCH_GPT2,
                                                 .vocab = 3,
                                                 .context = 2,
                                                 .layers = 1,
                                                 .heads = 2,
                                                 .width = 4,
                                                 .hidden = 6};
        struct cllm_parameters parameters;
        const uint8_t head[3] = {0, 0xff, 0x0f};

        cllm_gguf_writer_init(&writer);
        if (kind < 2) {
            if (cllm_parameters_init(&parameters, &config) != 0)
                fail(cllm_err_text());
            cllm_gguf_model_put(&writer, &parameters, CLLM_GGUF_TYPE_F16, "m");
            cllm_gguf_model_add(&writer, &parameters, CLLM_GGUF_TYPE_F16);
            cllm_parameters_fini(&parameters);
        } else {
            cllm_gguf_put_bool(&writer, "b", true);
            cllm_gguf_put_texts(&writer, "t", 2);
            cllm_gguf_put_item(&writer, "a", 1);
            cllm_gguf_put_item(&writer, "bc", 2);
            cllm_gguf_put_i32s(&writer, "i", types, 2);
            cllm_gguf_add_tensor(&writer, "v", CLLM_GGUF_TYPE_F32, vector, 1);
            cllm_gguf_add_tensor(&writer, "q", CLLM_GGUF_TYPE_Q8_0, matrix, 2);
        }
        if (cllm_gguf_writer_begin(&writer, path, true) != 0)
            fail(cllm_err_text());
        bytes = (size_t)writer.data_off;
        if (cllm_gguf_writer_finish(&writer) != 0 ||
            cllm_file_read(path, 1u << 20, &text, NULL) != 0)
            fail(cllm_err_text());
        put2("gguf",
             kind == 0   ? "gpt2"
             : kind == 1 ? "llama"
                         : "all",
             head, 3, text, bytes);
        free(text);
    }
    if (cllm_file_remove_tree(dir) != 0)
        fail(cllm_err_text());
}

/* Which of them, then its bytes; see fuzz_model.c. */
static void seed_model(void)
{
    static const int32_t llmc[8] = {CLLM_LLMC_MAGIC, 3, 16, 100, 1, 2, 8, 128};
    static const int32_t llama2c[7] = {8, 12, 2, 4, 2, 20, 6};
    static const char spm[] = "\2\0\5\0\0\0\0\0\0\0\1\0\0\0a\0\0\0\0\2\0\0\0bc";

    put2("model", "llmc", "\4", 1, llmc, sizeof llmc);
    put2("model", "llama2c", "\5", 1, llama2c, sizeof llama2c);
    put2("model", "spm", "\2", 1, spm, sizeof spm - 1);
    put_text("model", "index",
             "\3{\"metadata\":{\"total_size\":8},\"weight_map\":{\"a\":\"x.safetensors\","
             "\"b\":\"y.safetensors\",\"c\":\"x.safetensors\"}}");
    put_text("model", "index-up", "\3{\"weight_map\":{\"a\":\"../x\"}}");
}

/* Flags, bytes of the .bin, then an index of two sequences; see fuzz_megatron.c. */
static void seed_megatron(void)
{
    static const uint8_t index[] = "MMIDIDX\0\0\1\0\0\0\0\0\0\0\10" /* u16 */
                                   "\2\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0"
                                   "\3\0\0\0\5\0\0\0"
                                   "\0\0\0\0\0\0\0\0\6\0\0\0\0\0\0\0"
                                   "\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0"
                                   "\1\1";

    put2("megatron", "exact", "\0\20\0", 3, index, sizeof index - 3);
    put2("megatron", "modes", "\0\20\0", 3, index, sizeof index - 1);
    put2("megatron", "fixed", "\3\0\0", 3, index, sizeof index - 3);
    put2("megatron", "believed", "\2\0\0", 3, index, sizeof index - 1);
    put2("megatron", "short", "\0\17\0", 3, index, sizeof index - 3);
}

static void seed_choice(void)
{
    put_text("choice", "hellaswag",
             "{\"ind\": 24, \"activity_label\": \"Roof\", \"ctx\": \"A man\", "
             "\"split\": \"val\", \"endings\": [\"is\", \"rips\", \"holds\", "
             "\"starts\"], \"label\": \"3\"}");
    put_text("choice", "number", "{\"ctx\":\"a\",\"endings\":[\"b\",\"c\"],\"label\":1}");
    put_text("choice", "unlabelled", "{\"ctx\":\"a\",\"endings\":[\"b\",\"c\"]}");
    put_text("choice", "array", "[1, 2]");
    put_text(
        "choice", "escapes",
        "{\"label\":0,\"ctx\":\"\\u00e9\\n\",\"endings\":[\"\\ud83d\\ude01\",\"\\t\"]}");
}

/* Flags and kind of file in the first byte; see fuzz_tokenizer.c. */
static void seed_tokenizer(void)
{
    static const char model[] =
        "{\"added_tokens\":[{\"id\":9,\"content\":\"<|endoftext|>\",\"special\":true}],"
        "\"normalizer\":null,\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":"
        "\"BPE\",\"dropout\":null,\"byte_fallback\":false,\"ignore_merges\":true,"
        "\"vocab\":{\"h\":1,\"e\":2,\"he\":3,\"\u0120he\":4,\"\u0120\":5},";
    static const char split[] =
        "\"merges\":[\"h e\",[\"\u0120\",\"he\"]]},\"pre_tokenizer\":{\"type\":"
        "\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
        "\"[^\\\\s]+|\\\\s+(?!\\\\S)|\\\\p{L}\"},\"behavior\":\"Isolated\"},{\"type\":"
        "\"ByteLevel\",\"use_regex\":false}]}}";
    static const char vocab[] = "\5{\"h\":1,\"e\":2,\"he\":3,\"<x>\":7}\0h e\n";
    char text[2048];

    (void)snprintf(text, sizeof text, "\3%s%s", model, "\"merges\":[\"h e\"]}}");
    put_text("tokenizer", "json", text);
    (void)snprintf(text, sizeof text, "\1%s%s", model, split);
    put_text("tokenizer", "json-split", text);
    put("tokenizer", "vocab", vocab, sizeof vocab - 1);
    put_text("tokenizer", "merges", "\10#version: 0.2\nh e\n\u0120 he\na a\naa aa\n");
    put_text("tokenizer", "ranks", "\15aGU= 256\nbGw= 257\nIGhl 258\n");
    put_text("tokenizer", "ranks-alone", "\14IQ== 0\nIg== 1\n");
}

/* Flags and piece size in front; see fuzz_prep.c. */
static void seed_prep(void)
{
    static const char text[] = "One line.\n--\nAnother, \xc3\xa9 and \xe2\x82\xac.\n\n"
                               "A third \xff\xe2\x82 one\r\n--\r\nlast";
    static const char lines[] = "{\"text\": \"one\\u0000 \\ud83d\\ude00\"}\n\n"
                                "{\"id\": [1e400, null], \"text\": \"\"}\n"
                                "{\"no\": 1}\nnot json\n{\"text\": \"last\"}";
    uint8_t packed[2 * sizeof lines + 4 * PACKED_ROOM];
    size_t n;

    put2("prep", "text", "\0\x08", 2, text, sizeof text - 1);
    put2("prep", "separated", "\x02\0", 2, text, sizeof text - 1);
    put2("prep", "kept", "\x0a\x01", 2, text, sizeof text - 1);
    put2("prep", "refused", "\x10\x01", 2, text, sizeof text - 1);
    put2("prep", "marked", "\0\x01\xef\xbb\xbf", 5, text, sizeof text - 1);
    put2("prep", "jsonl", "\x01\x40", 2, lines, sizeof lines - 1);
    put2("prep", "jsonl-skip", "\x05\x02", 2, lines, sizeof lines - 1);
    n = packed_gzip(packed, lines, sizeof lines - 1);
    put2("prep", "gzip", "\x05\x08", 2, packed, n);
    put2("prep", "gzip-short", "\x05\x08", 2, packed, n - 5);
    n += packed_gzip(packed + n, lines, sizeof lines - 1);
    put2("prep", "gzip-two", "\x05\x08", 2, packed, n);
    n = packed_zstd(packed, lines, sizeof lines - 1);
    put2("prep", "zstd", "\x05\x08", 2, packed, n);
    put2("prep", "zstd-short", "\x05\x08", 2, packed, n - 5);
    n += packed_zstd(packed + n, lines, sizeof lines - 1);
    put2("prep", "zstd-two", "\x05\x08", 2, packed, n);
}

/* The kind of file in front; see fuzz_state.c. */
static void seed_state(void)
{
    put_text("state", "prep",
             "\6{\"bad\": 0, \"bytes\": 9, \"documents\": 2, \"empty\": 0, "
             "\"entries\": 2, \"file\": 1, \"identity\": \"fuzz\", \"in_line\": false, "
             "\"line\": 3, \"mistakes\": 0, \"offset\": 7, \"open\": true, \"shards\": "
             "[{\"bytes\": 1030, \"name\": \"train_000.bin\", \"sha256\": "
             "\"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\", "
             "\"edges\": \"0011223344556677\", \"tokens\": 3}], \"sources\": [[1, 4], "
             "[1, 5]], \"stage\": \"cut\", \"tokens\": 9}");
    put_text("state", "prep-other", "\3{\"identity\": \"other\"}");
    put_text("state", "tally", "\1fuzz\n0 0x1p+1 -0x1.8p-3\n1 inf nan\n2 1");
    put_text("state", "tally-begun", "\1fu");
    put_text("state", "tally-other", "\1other\n0 1 2\n");
    put_text("state", "answer",
             "\2{\"devices\": [{\"name\": \"a\", \"platform_name\": \"b\", "
             "\"driver\": \"5\", \"kind\": \"gpu\", \"platform\": 1, \"device\": 2, "
             "\"units\": 3, \"memory_bytes\": 4000000, \"most_bytes\": 1000000, "
             "\"nvidia_major\": 9, \"nvidia_minor\": 0}]}");
    put_text("state", "answer-none", "\2{\"devices\": [], \"error\": \"no driver\"}");
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: fuzz-seeds DIR\n");
        return 2;
    }
    directory = argv[1];
    seed_answer();
    seed_checkpoint();
    seed_choice();
    seed_config();
    seed_control();
    seed_dataset();
    seed_gguf();
    seed_lines();
    seed_megatron();
    seed_model();
    seed_pages();
    seed_prep();
    seed_safetensors();
    seed_segment();
    seed_shard();
    seed_state();
    seed_tokenizer();
    return 0;
}
