/*
 * tests/test_config.c - what a configuration file may say, and what is refused with which
 * words. Every trap of inih that would let a mistake pass without a word has a case here.
 */
#include "base/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "model/schedule.h"
#include "tests/printed.h"

/* A fresh configuration that has read @text as t.ini. Returns what parsing returned. */
static int parse(struct cllm_config *config, const char *text)
{
    cllm_config_init(config);
    return cllm_config_parse(config, text, "t.ini");
}

/* @text must be refused, and the message must contain each of @words. */
static void assert_refused(const char *text, const char *const words[], size_t n_words)
{
    struct cllm_config config;

    if (parse(&config, text) != CLLM_ECONFIG)
        fail_msg("not refused: %s", text);
    for (size_t i = 0; i < n_words && words[i]; i++)
        if (!strstr(cllm_err_text(), words[i]))
            fail_msg("'%s' is not in: %s", words[i], cllm_err_text());
    cllm_config_fini(&config);
}

static void defaults_are_those_of_the_table(void **state)
{
    struct cllm_config config;

    (void)state;
    cllm_config_init(&config);
    assert_null(config.run_dir);
    assert_int_equal(config.run_workers, CLLM_CONFIG_AUTO);
    assert_int_equal(config.run_lanes, 12);
    assert_int_equal(config.train_schedule, CLLM_SCHEDULE_COSINE);
    assert_int_equal(config.loader_method, CLLM_METHOD_AUTO);
    assert_true(config.train_beta1 == 0.9 && config.train_epsilon == 1e-8);
    assert_int_equal(config.data_train.n, 0);
    cllm_config_fini(&config);
}

static void every_kind_of_value_is_read(void **state)
{
    struct cllm_config config;

    (void)state;
    assert_int_equal(parse(&config, "; a comment\n# another\n\n"
                                    "[run]\n"
                                    "dir = runs/with blank inside\n"
                                    "workers=3\n"
                                    "chunk = 4096 ; a comment after a value\n"
                                    "[model]\nvocab = 50257\n"
                                    "[train]\n"
                                    "learning_rate = 6e-4\n"
                                    "schedule = linear\n"
                                    "steps = 20k\n"
                                    "seed = 18446744073709551615\n"
                                    "[data]\n"
                                    "train = a.bin\ntrain = b_*.bin\n"
                                    "[loader]\ndirect = no\n"
                                    "[run]\nlanes = 24"),
                     0);
    assert_string_equal(config.run_dir, "runs/with blank inside");
    assert_int_equal(config.run_workers, 3);
    assert_int_equal(config.run_chunk, 4096);
    assert_int_equal(config.run_lanes, 24);
    assert_int_equal(config.model_vocab, 50257);
    assert_true(config.train_learning_rate == 6e-4);
    assert_int_equal(config.train_schedule, CLLM_SCHEDULE_LINEAR);
    assert_int_equal(config.train_steps, 20000);
    assert_true(config.train_seed == UINT64_MAX);
    assert_int_equal(config.loader_direct, CLLM_DIRECT_NO);
    assert_int_equal(config.data_train.n, 2);
    assert_string_equal(config.data_train.item[0], "a.bin");
    assert_string_equal(config.data_train.item[1], "b_*.bin");
    cllm_config_fini(&config);
}

static void suffixes_are_powers_of_a_thousand_and_do_not_overflow(void **state)
{
    static const struct {
        const char *value;
        uint64_t n;
        bool ok;
    } cases[] = {
        {"0", 0, true},
        {"7k", 7000, true},
        {"7M", 7000000, true},
        {"7G", UINT64_C(7000000000), true},
        {"18446744073709551615", UINT64_MAX, true},
        {"18446744073709551616", 0, false},
        {"18446744073709552k", 0, false},
        {"18446744073709551k", UINT64_C(18446744073709551000), true},
        {"7K", 0, false},
        {"7kk", 0, false},
        {"7 k", 0, false},
        {"1.5k", 0, false},
        {"1e3", 0, false},
        {"0x10", 0, false},
        {"-1", 0, false},
        {"+1", 0, false},
        {"k", 0, false},
        {"auto", 0, false},
        {"seven", 0, false},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        struct cllm_config config;
        char text[128];
        int rc;

        (void)snprintf(text, sizeof text, "[train]\nseed = %s\n", cases[i].value);
        rc = parse(&config, text);
        if ((rc == 0) != cases[i].ok)
            fail_msg("seed = %s gives %d", cases[i].value, rc);
        if (cases[i].ok)
            assert_true(config.train_seed == cases[i].n);
        cllm_config_fini(&config);
    }
}

static void limits_hold_at_both_ends(void **state)
{
    static const struct {
        const char *assignment;
        bool ok;
    } cases[] = {
        {"run.workers=auto", true},   {"run.workers=1", true},
        {"run.workers=144", true},    {"run.workers=0", false},
        {"run.workers=145", false},   {"run.workers=", false},
        {"train.clip=0", true},       {"train.clip=-0.1", false},
        {"train.clip=1e9", true},     {"train.clip=1.1e9", false},
        {"train.clip=nan", false},    {"train.clip=inf", false},
        {"train.clip=1,5", false},    {"train.clip=1.5x", false},
        {"train.clip=", false},       {"train.beta1=1", false},
        {"train.steps=0", false},     {"train.schedule=cosine", true},
        {"train.schedule=", false},   {"train.schedule=cos", false},
        {"train.schedule=|", false},  {"train.schedule=cosine|linear", false},
        {"loader.direct=YES", false}, {"loader.direct=yes", true},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        struct cllm_config config;
        int rc;

        cllm_config_init(&config);
        rc = cllm_config_set(&config, cases[i].assignment);
        if (rc != (cases[i].ok ? 0 : CLLM_ECONFIG))
            fail_msg("%s gives %d", cases[i].assignment, rc);
        cllm_config_fini(&config);
    }
}

static void mistakes_are_refused_with_file_and_line(void **state)
{
    static const struct {
        const char *text;
        const char *words[4];
    } cases[] = {
        {"[train]\n\nlerning_rate = 1\n",
         {"t.ini:3", "unknown key 'lerning_rate'", "[train]", NULL}},
        {"[trian]\nsteps = 1\n", {"t.ini:2", "unknown section [trian]", NULL}},
        {"steps = 1\n", {"t.ini:1", "'steps' stands before any [section]", NULL}},
        {"[train]\n= 5\n", {"t.ini:2", "unknown key ''", NULL}},
        {"[train]\nsteps = 5 # five\n", {"t.ini:2", "train.steps = '5 # five'", NULL}},
        {"[train]\nlearning_rate = 3e-4  # note\n", {"t.ini:2", "3e-4  # note", NULL}},
        {"[run]\ndir = runs/a # note\n", {"t.ini:2", "a blank before ; or #", NULL}},
        {"[run]\ndir = ;x\n", {"t.ini:2", "expected some text", NULL}},
        {"[run]\ndir =\n", {"t.ini:2", "expected some text", NULL}},
        {"[train]\nsteps = 5\nsteps = 6\n", {"t.ini:3", "train.steps is given twice"}},
        {"[train]\nsteps = 5\n[run]\n[train]\nsteps = 5\n", {"t.ini:5", "twice", NULL}},
        {"[train]\nsteps\n", {"t.ini:2", "neither a [section] nor key = value", NULL}},
        {"[train\nsteps = 1\n", {"t.ini:1", "neither a [section]", NULL}},
        {"nonsense\n[train]\nsteps = x\n", {"t.ini:1", "neither a [section]", NULL}},
        {"[train]\nsteps ; a = b\n", {"t.ini:2", "neither a [section]", NULL}},
        {"[run] dir = runs/x\n", {"t.ini:1", "text after [section]", NULL}},
        {"[data]\ntrain = a.bin\n  b.bin\n", {"t.ini:3", "white space", NULL}},
        {"[train]\n steps = 1\n", {"t.ini:2", "white space", NULL}},
        {"[train]\nsteps = 1.5\n", {"whole number from 1 to 1000000000 steps", NULL}},
        {"[run]\nworkers = many\n", {"auto, or a whole number from 1 to 144", NULL}},
        {"[train]\nschedule = step\n", {"one of cosine|linear|constant", NULL}},
        {"[train]\nclip = abc\n", {"a number from 0 to 1e+09", NULL}},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++)
        assert_refused(cases[i].text, cases[i].words, CLLM_LEN(cases[i].words));
}

static void the_hint_names_the_nearest_key_and_explains_the_hash(void **state)
{
    static const struct {
        const char *text, *hint;
    } cases[] = {
        {"[train]\nlerning_rate = 1\n", "did you mean 'learning_rate' in [train]?"},
        {"[train]\nworkers = 3\n", "did you mean 'workers' in [run]?"},
        {"[trian]\nsteps = 1\n", "did you mean 'steps' in [train]?"},
        {"[train]\nabracadabra_xyz = 1\n", "--help-options lists all"},
        {"[train]\nsteps = 5 # five\n", "begins with ' ;', not with '#'"},
        {"[run]\ndir = a # five\n", "begins with ' ;', not with '#'"},
        {"[train]\nsteps = many\n", "optimizer steps in the whole run"},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        struct cllm_config config;

        assert_int_equal(parse(&config, cases[i].text), CLLM_ECONFIG);
        assert_printed(cases[i].hint);
        cllm_config_fini(&config);
    }
}

static void the_first_of_several_mistakes_is_reported(void **state)
{
    static const char *const words[] = {"t.ini:2", "train.steps = 'x'"};

    (void)state;
    assert_refused("[train]\nsteps = x\nbatch = y\n[nonsense]\nz\n", words, 2);
}

/* inih would cut after 199 bytes, use the first part and read the rest as a new line. */
static void a_line_that_inih_would_cut_is_refused(void **state)
{
    static const char *const words[] = {"t.ini:2", "more than 190 bytes"};
    char text[512];

    (void)state;
    for (int extra = 0; extra < 120; extra++) {
        struct cllm_config config;
        int len = 150 + extra; /* of the line "train = xxx...", without its end */
        int rc;

        (void)snprintf(text, sizeof text, "[data]\ntrain = %0*d\n[run]\nlanes = 7\n",
                       len - 8, 5);
        if (len + 1 > 190) {
            assert_refused(text, words, 2);
            continue;
        }
        rc = parse(&config, text);
        if (rc == 0) {
            assert_int_equal(strlen(config.data_train.item[0]), len - 8);
            assert_int_equal(config.run_lanes, 7);
        } else { /* fits a line, but not with every spelling of its key */
            assert_int_equal(rc, CLLM_ECONFIG);
            assert_non_null(strstr(cllm_err_text(), "at most 165"));
            assert_true(len - 8 > 165);
        }
        cllm_config_fini(&config);
    }
    (void)snprintf(text, sizeof text, "[data]\n; %0300d\n", 1);
    assert_refused(text, words, 2);
}

static void line_ends_of_other_systems_and_a_bom_are_taken(void **state)
{
    struct cllm_config config;

    (void)state;
    assert_int_equal(parse(&config, "\xEF\xBB\xBF[run]\r\ndir = runs/x\r\n\r\n  \r\n"
                                    "[train]\r\nsteps = 9 ; nine\r\n"),
                     0);
    assert_string_equal(config.run_dir, "runs/x");
    assert_int_equal(config.train_steps, 9);
    cllm_config_fini(&config);
}

/* Writes @bytes to a file, reads it as a configuration, returns what reading returned. */
static int read_bytes(struct cllm_config *config, const void *bytes, size_t n)
{
    char path[] = "/tmp/cllm-config-XXXXXX";
    int fd = mkstemp(path);
    int rc;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    assert_int_equal(close(fd), 0);
    cllm_config_init(config);
    rc = cllm_config_read(config, path);
    assert_int_equal(unlink(path), 0);
    return rc;
}

static void a_nul_byte_is_seen_wherever_it_stands(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } cases[] = {
        {"\0[run]\n", 7},
        {"[run]\ndir = a\0b\n", 16},
        {"[run]\ndir = a\0", 14},
        {"[run]\ndir = a\n\0", 15},
        {"\0", 1},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        struct cllm_config config;

        assert_int_equal(read_bytes(&config, cases[i].bytes, cases[i].n), CLLM_ECONFIG);
        assert_non_null(strstr(cllm_err_text(), "NUL byte"));
        cllm_config_fini(&config);
    }
}

static void any_bytes_are_read_or_refused_and_nothing_worse(void **state)
{
    uint64_t x = 88172645463325252U;

    (void)state;
    for (int i = 0; i < 300; i++) {
        static const char alphabet[] = "[]=;#\n\r\t runtaidstep.0195kM\xEF\xBB\xBF\"\\:";
        struct cllm_config config;
        char bytes[400];
        int rc;

        for (size_t k = 0; k < sizeof bytes; k++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            bytes[k] = i % 3 == 0 ? (char)(x >> 20) : alphabet[x % (sizeof alphabet - 1)];
        }
        rc = read_bytes(&config, bytes, sizeof bytes);
        assert_true(rc == 0 || rc == CLLM_ECONFIG);
        cllm_config_fini(&config);
    }
}

static void a_file_that_cannot_be_read_is_named(void **state)
{
    struct cllm_config config;

    (void)state;
    cllm_config_init(&config);
    assert_int_equal(cllm_config_read(&config, "/nonexistent/x.ini"), CLLM_ECONFIG);
    assert_non_null(strstr(cllm_err_text(), "/nonexistent/x.ini"));
    assert_true(cllm_config_read(&config, "/tmp") < 0);
    assert_non_null(strstr(cllm_err_text(), "/tmp: Is a directory"));
    cllm_config_fini(&config);
}

static void set_overrides_the_file_and_replaces_lists(void **state)
{
    struct cllm_config config;

    (void)state;
    assert_int_equal(parse(&config, "[run]\ndir = a\n[train]\nsteps = 5\n"
                                    "[data]\ntrain = a\ntrain = b\nvalid = v\n"),
                     0);
    assert_int_equal(cllm_config_set(&config, "train.steps=7"), 0);
    assert_int_equal(cllm_config_set(&config, "run.dir=b=c.d"), 0);
    assert_int_equal(cllm_config_set(&config, "data.train=c"), 0);
    assert_int_equal(cllm_config_set(&config, "data.valid="), 0);
    assert_int_equal(config.train_steps, 7);
    assert_string_equal(config.run_dir, "b=c.d");
    assert_int_equal(config.data_train.n, 1);
    assert_string_equal(config.data_train.item[0], "c");
    assert_int_equal(config.data_valid.n, 0);
    cllm_config_fini(&config);
}

static void a_set_that_is_no_assignment_is_refused_with_its_text(void **state)
{
    static const char *const cases[] = {
        "",
        "train",
        "train.steps",
        "steps=5",
        "=",
        ".=",
        "train.=5",
        ".steps=5",
        "train.steps=",
        "train steps=5",
        "a=train.steps",
        "run.dir=a\nb",
        "run.dir= a",
        "run.dir=a ",
        "run.dir=a ;b",
        "run.dir=a\t#b",
        "run.dir=;b",
        "run.dir=#b",
        "run.dir=a\x1b[31m",
        "0123456789012345678901234567890123456789012345678901234567890123456789.a=1",
        "a.0123456789012345678901234567890123456789012345678901234567890123456789=1",
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        struct cllm_config config;

        cllm_config_init(&config);
        if (cllm_config_set(&config, cases[i]) != CLLM_ECONFIG)
            fail_msg("not refused: %s", cases[i]);
        assert_non_null(strstr(cllm_err_text(), cases[i]));
        cllm_config_fini(&config);
    }
}

static void more_list_items_than_there_is_room_for_are_refused(void **state)
{
    struct cllm_config config;
    char text[2048] = "[data]\n";
    size_t len = strlen(text);

    (void)state;
    for (int i = 0; i < CLLM_CONFIG_LIST_MAX; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "train = s%d\n", i);
    assert_int_equal(parse(&config, text), 0);
    assert_int_equal(config.data_train.n, CLLM_CONFIG_LIST_MAX);
    cllm_config_fini(&config);
    (void)snprintf(text + len, sizeof text - len, "train = one more\n");
    assert_int_equal(parse(&config, text), CLLM_ECONFIG);
    assert_non_null(strstr(cllm_err_text(), "t.ini:66"));
    cllm_config_fini(&config);
}

/* Children read the text that this makes: what goes in must come out, to the last bit. */
static void the_text_of_a_configuration_reads_back_as_the_same_text(void **state)
{
    static const char *const sources[] = {
        "",
        "[run]\ndir = a\n",
        "[run]\ndir = a;b#c [x] = y\nworkers = 5\n[train]\nlearning_rate = 0.1\n"
        "beta2 = 0.99999899999999999\nepsilon = 1e-16\nseed = 18446744073709551615\n"
        "schedule = constant\n[loader]\nmethod = pread\ndirect = yes\n"
        "[data]\ntrain = x\ntrain = y z\nvalid = \"q\"\n",
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(sources); i++) {
        struct cllm_config a, b;
        char *text_a, *text_b;

        assert_int_equal(parse(&a, sources[i]), 0);
        text_a = cllm_config_text(&a);
        assert_non_null(text_a);
        assert_int_equal(parse(&b, text_a), 0);
        text_b = cllm_config_text(&b);
        assert_non_null(text_b);
        assert_string_equal(text_a, text_b);
        assert_memory_equal(&a.train_beta2, &b.train_beta2, sizeof a.train_beta2);
        assert_memory_equal(&a.train_learning_rate, &b.train_learning_rate,
                            sizeof a.train_learning_rate);
        assert_true(a.train_seed == b.train_seed);
        assert_int_equal(a.data_train.n, b.data_train.n);
        free(text_a);
        free(text_b);
        cllm_config_fini(&a);
        cllm_config_fini(&b);
    }
}

static void the_longest_allowed_value_survives_the_round_trip(void **state)
{
    struct cllm_config a, b;
    char assignment[256];
    char *text;

    (void)state;
    cllm_config_init(&a);
    (void)snprintf(assignment, sizeof assignment, "run.dir=%0165d", 1);
    assert_int_equal(cllm_config_set(&a, assignment), 0);
    text = cllm_config_text(&a);
    assert_int_equal(parse(&b, text), 0);
    assert_string_equal(a.run_dir, b.run_dir);
    (void)snprintf(assignment, sizeof assignment, "run.dir=%0166d", 1);
    assert_int_equal(cllm_config_set(&a, assignment), CLLM_ECONFIG);
    assert_string_equal(a.run_dir, b.run_dir);
    free(text);
    cllm_config_fini(&a);
    cllm_config_fini(&b);
}

/* An assignment to a configuration, and what is said when that is checked. */
struct check {
    const char *set;
    const char *word; /* NULL: fine */
};

static void check_each(const char *text, const struct check *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct cllm_config config;
        int rc;

        assert_int_equal(parse(&config, text), 0);
        rc = cllm_config_set(&config, cases[i].set);
        if (rc == 0)
            rc = cllm_config_check(&config);
        assert_int_equal(rc, cases[i].word ? CLLM_ECONFIG : 0);
        if (cases[i].word)
            assert_printed(cases[i].word);
        cllm_config_fini(&config);
    }
}

static void what_single_options_cannot_know_is_checked(void **state)
{
    static const struct check cases[] = {
        {"train.steps=5", NULL},
        {"train.batch=95", "nearest: 84 or 96"},
        {"train.batch=5", "nearest: 12"},
        {"train.micro_batch=4", NULL},
        {"train.micro_batch=3", "train.batch / run.lanes = 8"},
        {"model.heads=5", "model.width = 128 is not a multiple of model.heads = 5"},
        {"model.kv_heads=2", "kv_heads = 2 and heads = 4 of gpt2"},
        {"model.head_size=16", "head_size = 16"},
        {"model.hidden=100", NULL},
        {"model.tied=no", NULL},
        {"model.norm_epsilon=1e-6", NULL},
        {"model.rope_scaling=yarn", "no rotated positions"},
        {"train.eval_batch=13", "train.eval_batch = 13"},
        {"run.chunk=4097", "run.chunk = 4097"},
        {"run.lanes=7", "run.lanes = 7"},
        {"data.train=", "data.train is not given"},
    };

    (void)state;
    check_each("[run]\ndir=a\n[data]\ntrain=a\nvalid=b\n", cases, CLLM_LEN(cases));
}

static void a_llama_that_cannot_be_is_refused(void **state)
{
    static const struct check cases[] = {
        {"model.kv_heads=2", NULL},
        {"model.head_size=16", NULL},
        {"model.tied=yes", NULL},
        {"model.kv_heads=3", "set kv_heads to a divisor of 4"},
        {"model.head_size=15", "a head of 15 elements"},
        {"model.heads=5", "model.width = 128 is not a multiple of model.heads = 5"},
        {"model.rope_factor=2", "set rope_scaling to linear, llama3 or yarn"},
        {"model.rope_theta=500k", "rope_theta"},
        {"model.arch=bert", "gpt2"},
    };

    (void)state;
    check_each("[run]\ndir=a\n[data]\ntrain=a\n[model]\narch=llama\n", cases,
               CLLM_LEN(cases));
}

static void a_run_without_a_directory_is_refused(void **state)
{
    struct cllm_config config;

    (void)state;
    assert_int_equal(parse(&config, "[data]\ntrain = a\n"), 0);
    assert_int_equal(cllm_config_check(&config), CLLM_ECONFIG);
    assert_non_null(strstr(cllm_err_text(), "run.dir is not given"));
    cllm_config_fini(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_table),
        cmocka_unit_test(every_kind_of_value_is_read),
        cmocka_unit_test(suffixes_are_powers_of_a_thousand_and_do_not_overflow),
        cmocka_unit_test(limits_hold_at_both_ends),
        cmocka_unit_test(mistakes_are_refused_with_file_and_line),
        cmocka_unit_test(the_hint_names_the_nearest_key_and_explains_the_hash),
        cmocka_unit_test(the_first_of_several_mistakes_is_reported),
        cmocka_unit_test(a_line_that_inih_would_cut_is_refused),
        cmocka_unit_test(line_ends_of_other_systems_and_a_bom_are_taken),
        cmocka_unit_test(a_nul_byte_is_seen_wherever_it_stands),
        cmocka_unit_test(any_bytes_are_read_or_refused_and_nothing_worse),
        cmocka_unit_test(a_file_that_cannot_be_read_is_named),
        cmocka_unit_test(set_overrides_the_file_and_replaces_lists),
        cmocka_unit_test(a_set_that_is_no_assignment_is_refused_with_its_text),
        cmocka_unit_test(more_list_items_than_there_is_room_for_are_refused),
        cmocka_unit_test(the_text_of_a_configuration_reads_back_as_the_same_text),
        cmocka_unit_test(the_longest_allowed_value_survives_the_round_trip),
        cmocka_unit_test(what_single_options_cannot_know_is_checked),
        cmocka_unit_test(a_llama_that_cannot_be_is_refused),
        cmocka_unit_test(a_run_without_a_directory_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
