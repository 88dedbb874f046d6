/*
 * tests/test_prep_text.c - UTF-8 mended and cut, lines of JSON taken apart.
 */
#include "tests/formats_temp.h"

#include "formats/utf8.h"
#include "tools/prep_text.h"

/* @text mended; the caller frees. */
static char *repaired(const char *text, size_t n, uint64_t *mistakes)
{
    struct cllm_prep_bytes out = {0};

    *mistakes = 0;
    assert_int_equal(cllm_prep_utf8_repair(&out, (const uint8_t *)text, n, mistakes), 0);
    assert_int_equal(cllm_prep_bytes_add(&out, "", 1), 0);
    return (char *)out.at;
}

#define R "\xef\xbf\xbd"

static void mistakes_become_what_python_makes_of_them(void **state)
{
    /* bytes.decode("utf-8", "replace") of Python 3 */
    static const struct {
        const char *text, *mended;
        uint64_t mistakes;
    } cases[] = {
        {"", "", 0},
        {"plain", "plain", 0},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x81", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x81",
         0},
        {"a\xff z", "a" R " z", 1},
        {"\x80\x80", R R, 2},
        {"\xc0\xaf", R R, 2},             /* too long for what it says */
        {"\xe0\x80\xaf", R R R, 3},       /* likewise */
        {"\xed\xa0\x80", R R R, 3},       /* half a surrogate pair */
        {"\xf4\x90\x80\x80", R R R R, 4}, /* behind U+10FFFF */
        {"\xf0\x80\x80\x41", R R R "A", 3},
        {"\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64", R R R "b" R "c" R R "d", 6},
        {"\xe2\x82", R, 1}, /* breaks off */
        {"\xf0\x9f\x98", R, 1},
        {"\xe2\x82x", R "x", 1},
        {"\xc3", R, 1},
        {"1234567\xe2\x82\xac"
         "12345678\xff",
         "1234567\xe2\x82\xac"
         "12345678" R,
         1},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        uint64_t mistakes;
        char *mended = repaired(cases[i].text, strlen(cases[i].text), &mistakes);
        assert_string_equal(mended, cases[i].mended);
        assert_int_equal(mistakes, cases[i].mistakes);
        size_t n = strlen(mended);
        assert_int_equal(cllm_utf8_valid((const uint8_t *)mended, n), n);
        free(mended);
    }
}

static void every_character_is_sound_and_no_part_of_it(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c++) {
        uint8_t text[4];
        size_t n = 0;
        if (c >= 0xd800 && c < 0xe000)
            continue;
        if (c < 0x80) {
            text[n++] = (uint8_t)c;
        } else if (c < 0x800) {
            text[n++] = (uint8_t)(0xc0 | c >> 6);
            text[n++] = (uint8_t)(0x80 | (c & 63));
        } else if (c < 0x10000) {
            text[n++] = (uint8_t)(0xe0 | c >> 12);
            text[n++] = (uint8_t)(0x80 | (c >> 6 & 63));
            text[n++] = (uint8_t)(0x80 | (c & 63));
        } else {
            text[n++] = (uint8_t)(0xf0 | c >> 18);
            text[n++] = (uint8_t)(0x80 | (c >> 12 & 63));
            text[n++] = (uint8_t)(0x80 | (c >> 6 & 63));
            text[n++] = (uint8_t)(0x80 | (c & 63));
        }
        assert_int_equal(cllm_utf8_valid(text, n), n);
        for (size_t part = 1; part < n; part++)
            assert_int_equal(cllm_utf8_valid(text, part), 0);
    }
}

/* Mending both sides of a cut is mending the whole, wherever it is asked for. */
static void a_cut_makes_no_mistake_and_hides_none(void **state)
{
    static const uint8_t some[] = {0x41, 0x80, 0xbf, 0xc3, 0xe2, 0x82, 0xf0, 0x9f, 0xff};
    uint32_t seed = 7;
    char text[12];

    (void)state;
    for (int round = 0; round < 20000; round++) {
        for (size_t i = 0; i < sizeof text; i++) {
            seed = seed * 1103515245 + 12345;
            text[i] = (char)some[(seed >> 16) % sizeof some];
        }
        uint64_t all, left, right;
        char *whole = repaired(text, sizeof text, &all);
        for (size_t at = 0; at < sizeof text; at++) {
            size_t cut = cllm_prep_utf8_cut((const uint8_t *)text, sizeof text, at);
            assert_true(cut <= at && cut + 3 >= at);
            char *a = repaired(text, cut, &left);
            char *b = repaired(text + cut, sizeof text - cut, &right);
            assert_int_equal(left + right, all);
            assert_memory_equal(whole, a, strlen(a));
            assert_string_equal(whole + strlen(a), b);
            free(a);
            free(b);
        }
        free(whole);
    }
}

static void the_text_of_a_line_is_found(void **state)
{
    static const struct {
        const char *line, *key, *text;
        size_t bytes;
    } cases[] = {
        {"{\"text\": \"hello\"}", "text", "hello", 5},
        {"{\"id\": 7, \"content\": \"x\", \"text\": 5}\r", "content", "x", 1},
        {"{\"text\": \"\"}", "text", "", 0},
        {"{\"text\": \"a\\u0000b\"}", "text", "a\0b", 3},
        {"{\"text\": \"\\ud83d\\ude01\\n\"}", "text", "\xf0\x9f\x98\x81\n", 5},
        {"{\"n\": 123456789012345678901234567890, \"text\": \"n\"}", "text", "n", 1},
        {"{\"text\": \"one\", \"text\": \"two\"}", "text", "two", 3},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        const char *text = NULL;
        size_t bytes = 0;
        json_t *json = NULL;
        assert_int_equal(cllm_prep_line_parse(cases[i].line, strlen(cases[i].line),
                                              cases[i].key, &json, &text, &bytes),
                         0);
        assert_non_null(json);
        assert_int_equal(bytes, cases[i].bytes);
        assert_memory_equal(text, cases[i].text, bytes);
        json_decref(json);
    }
}

static void a_blank_line_is_nothing(void **state)
{
    static const char *const lines[] = {"", " ", "\t \r"};

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(lines); i++) {
        const char *text = NULL;
        size_t bytes = 0;
        json_t *json = NULL;
        assert_int_equal(cllm_prep_line_parse(lines[i], strlen(lines[i]), "text", &json,
                                              &text, &bytes),
                         0);
        assert_null(json);
    }
}

static void bad_lines_are_refused_with_the_reason(void **state)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"{\"text\": \"x\"", "column 12: '}' expected"},
        {"not json", "column"},
        {"{\"text\": \"x\"} y", "column"},
        {"[\"x\"]", "found no object"},
        {"{\"txt\": \"x\"}", "\"text\": expected text, found nothing"},
        {"{\"text\": null}", "\"text\": expected text, found null"},
        {"{\"text\": [\"x\"]}", "\"text\": expected text, found an array"},
        {"{\"text\": \"\\ud800\"}", "column"},
        {"{\"text\": \"\xff\"}", "column"},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        const char *text = NULL;
        size_t bytes = 0;
        json_t *json = NULL;
        assert_int_equal(cllm_prep_line_parse(cases[i].line, strlen(cases[i].line),
                                              "text", &json, &text, &bytes),
                         CLLM_EDATA);
        assert_null(json);
        assert_error_says(cases[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_become_what_python_makes_of_them),
        cmocka_unit_test(every_character_is_sound_and_no_part_of_it),
        cmocka_unit_test(a_cut_makes_no_mistake_and_hides_none),
        cmocka_unit_test(the_text_of_a_line_is_found),
        cmocka_unit_test(a_blank_line_is_nothing),
        cmocka_unit_test(bad_lines_are_refused_with_the_reason),
    };

    return cmocka_run_group_tests_name("prep_text", tests, NULL, NULL);
}
