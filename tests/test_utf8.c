/*
 * tests/test_utf8.c - valid UTF-8 and nothing else; GPT-2's alphabet of bytes.
 */
#include "tests/formats_temp.h"

#include "formats/alphabet.h"
#include "formats/utf8.h"

static void every_code_point_goes_in_and_out(void **state)
{
    uint8_t text[4];

    (void)state;
    for (uint32_t code = 0; code <= 0x10FFFF; code++) {
        size_t n = cllm_utf8_put(code, text);

        if (code >= 0xD800 && code <= 0xDFFF) {
            assert_int_equal(cllm_utf8_char(text, n), 0);
            continue;
        }
        assert_int_equal(cllm_utf8_char(text, n), n);
        assert_int_equal(cllm_utf8_get(text, n), code);
        for (size_t cut = 1; cut < n; cut++) {
            assert_int_equal(cllm_utf8_char(text, cut), 0);
            assert_int_equal(cllm_utf8_open(text, cut), cut);
        }
        assert_int_equal(cllm_utf8_open(text, n), 0);
    }
}

static void what_is_not_utf8_is_refused_at_its_place(void **state)
{
    static const struct {
        const char *text;
        size_t valid, open;
    } cases[] = {
        {"", 0, 0},
        {"plain ASCII text of some length", 31, 0},
        {"a\x80", 1, 0},                /* a continuation alone */
        {"ab\xC0\x80", 2, 0},           /* NUL in two bytes */
        {"\xC1\xBF", 0, 0},             /* a short form in two */
        {"12345678\xE0\x9F\xBF", 8, 0}, /* in three */
        {"\xED\xA0\x80", 0, 0},         /* a surrogate */
        {"\xF0\x8F\xBF\xBF", 0, 0},     /* a short form in four */
        {"\xF4\x90\x80\x80", 0, 0},     /* beyond U+10FFFF */
        {"\xF5\x80\x80\x80", 0, 0},
        {"\xFF", 0, 0},
        {"\xE4\xB8\x96\xE7\x95", 3, 2}, /* the second one's rest may come */
        {"\xF0\x9F\x98", 0, 3},
        {"a\xF0", 1, 1},
        {"\xE4\xB8\x41", 0, 0},
        {"\xF4\x90", 0, 0},
        {"\xF4\x8F", 0, 2},
        {"\xE4\xB8\x96\x96", 3, 0},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        const uint8_t *text = (const uint8_t *)cases[i].text;
        size_t bytes = strlen(cases[i].text);

        assert_int_equal(cllm_utf8_valid(text, bytes), cases[i].valid);
        assert_int_equal(cllm_utf8_open(text, bytes), cases[i].open);
    }
}

static void white_space_has_25_members(void **state)
{
    uint32_t n = 0, sum = 0;

    (void)state;
    for (uint32_t code = 0; code <= 0x10FFFF; code++) {
        if (cllm_utf8_is_space(code)) {
            n++;
            sum += code;
        }
    }
    assert_int_equal(n, 25);
    assert_false(cllm_utf8_is_space(0x180E));
    assert_false(cllm_utf8_is_space(0xFEFF));
    assert_false(cllm_utf8_is_space(0x1C));
    /* 9+...+13, 20, 85, A0, 1680, 11 from 2000, 2028, 2029, 202F, 205F, 3000 */
    assert_int_equal(sum, 55 + 0x20 + 0x85 + 0xA0 + 0x1680 + 11 * 0x2000 + 55 + 0x2028 +
                              0x2029 + 0x202F + 0x205F + 0x3000);
}

static void every_byte_has_a_place_and_a_letter(void **state)
{
    bool seen[256] = {false}, letter[512] = {false};

    (void)state;
    for (uint32_t place = 0; place < 256; place++) {
        uint8_t byte = cllm_alphabet_byte(place), back = 0;
        uint32_t code = cllm_alphabet_code(byte);
        char text[3];
        size_t n = cllm_alphabet_spell(&byte, 1, text), bytes = 0;

        assert_false(seen[byte]);
        seen[byte] = true;
        assert_in_range(code, 33, 323);
        assert_false(letter[code]);
        letter[code] = true;
        assert_true(cllm_alphabet_read(text, n, &back, &bytes));
        assert_int_equal(bytes, 1);
        assert_int_equal(back, byte);
    }
    /* what everybody knows by heart */
    assert_int_equal(cllm_alphabet_byte(0), '!');
    assert_int_equal(cllm_alphabet_byte(188), 0);
    assert_int_equal(cllm_alphabet_byte(220), ' ');
    assert_int_equal(cllm_alphabet_byte(255), 173);
    assert_int_equal(cllm_alphabet_code(' '), 0x120);
    assert_int_equal(cllm_alphabet_code('\n'), 0x10A);
    assert_int_equal(cllm_alphabet_code(173), 323);
}

static void other_letters_are_not_of_the_alphabet(void **state)
{
    static const char *const texts[] = {" ",    "\n",     "a b",  "\u0144", "\u00AD",
                                        "\x7F", "\u4e16", "\xC4", "a\x80"};
    uint8_t out[8];
    size_t n;

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(texts); i++)
        assert_false(cllm_alphabet_read(texts[i], strlen(texts[i]), out, &n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_goes_in_and_out),
        cmocka_unit_test(what_is_not_utf8_is_refused_at_its_place),
        cmocka_unit_test(white_space_has_25_members),
        cmocka_unit_test(every_byte_has_a_place_and_a_letter),
        cmocka_unit_test(other_letters_are_not_of_the_alphabet),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
