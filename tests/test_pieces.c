/*
 * tests/test_pieces.c - the hand-written scanners against the expressions, over all
 * characters and all short texts; what the expressions make of white space; cuts.
 */
#include "tests/formats_temp.h"

#include "formats/pieces.h"
#include "formats/utf8.h"

static const enum cllm_pattern_kind kinds[] = {CLLM_PATTERN_GPT2, CLLM_PATTERN_CL100K,
                                               CLLM_PATTERN_QWEN2, CLLM_PATTERN_O200K};
#define N_SCANNED 3 /* of them have a scanner */

struct cutter {
    struct cllm_pattern *pattern;
    struct cllm_pieces pieces;
};

static void cutter_init(struct cutter *cutter, const char *expression)
{
    assert_int_equal(cllm_pattern_new(&cutter->pattern, expression, "test"), 0);
    assert_int_equal(cllm_pieces_init(&cutter->pieces, cutter->pattern), 0);
}

static void cutter_fini(struct cutter *cutter)
{
    cllm_pieces_fini(&cutter->pieces);
    cllm_pattern_free(&cutter->pattern);
}

/* Both ways give the same pieces. */
static void compare(struct cutter *cutter, const uint8_t *text, size_t bytes)
{
    for (size_t at = 0, fast = 0, slow = 0; at < bytes; at = fast) {
        assert_int_equal(cllm_pieces_next(&cutter->pieces, text, bytes, at, &fast), 0);
        assert_int_equal(cllm_pieces_next_slow(&cutter->pieces, text, bytes, at, &slow),
                         0);
        if (fast != slow || fast <= at || fast > bytes)
            fail_msg("%s: \"%.*s\" at %zu: %zu by the scanner, %zu by the expression",
                     cllm_pattern_name(cllm_pattern_kind(cutter->pattern)), (int)bytes,
                     (const char *)text, at, fast, slow);
    }
}

static void scanners_and_expressions_agree_on_every_character(void **state)
{
    /* "@" is the character; each part stands for a decision of a scanner. */
    static const char frame[] = "@a@ @b1@2 @1!@!'@'l@'s@ @ \n@\n @\t@'S@'R@  @";
    uint8_t text[sizeof frame * 4], code_text[4];
    struct cutter cutter;

    (void)state;
    for (int k = 0; k < N_SCANNED; k++) {
        cutter_init(&cutter, cllm_pattern_expression(kinds[k]));
        for (uint32_t code = 0; code <= 0x10FFFF; code++) {
            size_t n = cllm_utf8_put(code, code_text), used = 0;

            /* Planes without characters but for their first page. */
            if (code >= 0x32000 && code < 0xE0000 && code % 0x10000 >= 0x100)
                continue;
            if (cllm_utf8_char(code_text, n) == 0)
                continue;
            for (const char *at = frame; *at != '\0'; at++) {
                if (*at == '@') {
                    memcpy(text + used, code_text, n);
                    used += n;
                } else {
                    text[used++] = (uint8_t)*at;
                }
            }
            compare(&cutter, text, used);
        }
        cutter_fini(&cutter);
    }
}

static void scanners_and_expressions_agree_on_all_short_texts(void **state)
{
    /* One of each class, and those that contractions are made of. */
    static const char *const letters[] = {"a",      "s",      "l", "R",     "e",  "1",
                                          " ",      "!",      "'", "\n",    "\r", "\t",
                                          "\u00e9", "\u3000", "/", "\u0663"};
    enum { LENGTH = 5, N = CLLM_LEN(letters) };
    struct cutter cutter;

    (void)state;
    for (int k = 0; k < N_SCANNED; k++) {
        cutter_init(&cutter, cllm_pattern_expression(kinds[k]));
        for (uint32_t number = 0; number < N * N * N * N * N; number++) {
            uint8_t text[4 * LENGTH];
            size_t used = 0;

            for (uint32_t i = 0, rest = number; i < LENGTH; i++, rest /= N) {
                size_t n = strlen(letters[rest % N]);
                memcpy(text + used, letters[rest % N], n);
                used += n;
            }
            compare(&cutter, text, used);
        }
        cutter_fini(&cutter);
    }
}

/* @text cut with "|" between the pieces. */
static void assert_cut(struct cutter *cutter, const char *text, const char *expected)
{
    const uint8_t *bytes = (const uint8_t *)text;
    size_t n = strlen(text), used = 0;
    char out[256];

    for (size_t at = 0, end; at < n; at = end) {
        assert_int_equal(cllm_pieces_next(&cutter->pieces, bytes, n, at, &end), 0);
        if (at > 0)
            out[used++] = '|';
        memcpy(out + used, text + at, end - at);
        used += end - at;
    }
    out[used] = '\0';
    assert_string_equal(out, expected);
}

static void pieces_are_those_of_the_originals(void **state)
{
    static const struct {
        enum cllm_pattern_kind kind;
        const char *text, *expected;
    } cases[] = {
        {CLLM_PATTERN_GPT2, "Hello, y'all! It's 1234", "Hello|,| y|'|all|!| It|'s| 1234"},
        {CLLM_PATTERN_GPT2, "IT'S  two   words \n", "IT|'|S| | two|  | words| \n"},
        {CLLM_PATTERN_GPT2, "a\n\nb\n c", "a|\n|\n|b|\n| c"},
        /* U+180E is no white space, U+0085 and U+3000 are */
        {CLLM_PATTERN_GPT2, "?\u00a0\u3000x\u180ey\xC2\x85z",
         "?|\u00a0|\u3000|x|\u180e|y|\xC2\x85|z"},
        {CLLM_PATTERN_GPT2, "\x1c\x1f end", "\x1c\x1f| end"},
        {CLLM_PATTERN_CL100K, "Hello, Y'ALL! IT'S 1234",
         "Hello|,| Y|'ALL|!| IT|'S| |123|4"},
        {CLLM_PATTERN_CL100K, "x = 1;\n\n    y\t\tz", "x| =| |1|;\n\n|   | y|\t|\tz"},
        {CLLM_PATTERN_CL100K, "a  \n  \n b", "a|  \n  \n| b"},
        {CLLM_PATTERN_QWEN2, "in 2024", "in| |2|0|2|4"},
        {CLLM_PATTERN_O200K, "HelloWorld's //\n/x", "Hello|World's| //\n/|x"},
    };
    struct cutter cutter;

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        cutter_init(&cutter, cllm_pattern_expression(cases[i].kind));
        assert_cut(&cutter, cases[i].text, cases[i].expected);
        cutter_fini(&cutter);
    }
}

static void a_custom_expression_leaves_nothing_out(void **state)
{
    struct cutter cutter;

    (void)state;
    cutter_init(&cutter, "[a-z]+|\\s");
    assert_int_equal(cllm_pattern_kind(cutter.pattern), CLLM_PATTERN_CUSTOM);
    assert_cut(&cutter, "12ab34 cd!", "12|ab|34| |cd|!");
    cutter_fini(&cutter);
    cutter_init(&cutter, "[^\\s]+|x*");
    assert_cut(&cutter, "ab \u3000c", "ab| \u3000|c");
    cutter_fini(&cutter);
}

static void expressions_that_mean_different_things_are_refused(void **state)
{
    static const struct {
        const char *expression, *says;
    } cases[] = {
        {"a$", "^ or $"},
        {"[\\S]", "\\S within [...]"},
        {"[a[b]]", "[ within [...]"},
        {"[a&&b]", "&& within"},
        {"\\Qa\\E", "\\Q or \\K"},
        {"(a", "missing"},
        {"", "1 to 4096 bytes"},
        {"a\\Cb", "pattern"},
        {"[]a]", "an empty class"},
    };
    struct cllm_pattern *pattern = NULL;

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        assert_int_equal(cllm_pattern_new(&pattern, cases[i].expression, "t.json"),
                         CLLM_EDATA);
        assert_error_says("t.json: pattern: ");
        assert_error_says(cases[i].says);
        assert_null(pattern);
    }
}

static void an_expression_without_end_gives_up(void **state)
{
    struct cutter cutter;
    uint8_t text[40];
    size_t end;

    (void)state;
    cutter_init(&cutter, "(?:a+)+b|(?:(?:a|a)*)*c");
    memset(text, 'a', sizeof text);
    int rc = cllm_pieces_next(&cutter.pieces, text, sizeof text, 0, &end);
    assert_true(rc == CLLM_EDATA || (rc == 0 && end == sizeof text));
    cutter_fini(&cutter);
}

static void megabytes_of_one_character_are_one_piece(void **state)
{
    static const char *const letters[] = {"a", " ", "!", "\u00e9", "\u3000", "\n"};
    enum { BYTES = 3 << 20 };
    uint8_t *text = malloc(BYTES + 4);
    struct cutter cutter;

    (void)state;
    assert_non_null(text);
    for (size_t k = 0; k < CLLM_LEN(kinds); k++) {
        cutter_init(&cutter, cllm_pattern_expression(kinds[k]));
        for (size_t i = 0; i < CLLM_LEN(letters); i++) {
            size_t n = strlen(letters[i]), end = 0;

            for (size_t at = 0; at < BYTES; at += n)
                memcpy(text + at, letters[i], n);
            assert_int_equal(
                cllm_pieces_next(&cutter.pieces, text, BYTES / n * n, 0, &end), 0);
            assert_int_equal(end, BYTES / n * n);
        }
        cutter_fini(&cutter);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scanners_and_expressions_agree_on_every_character),
        cmocka_unit_test(scanners_and_expressions_agree_on_all_short_texts),
        cmocka_unit_test(pieces_are_those_of_the_originals),
        cmocka_unit_test(a_custom_expression_leaves_nothing_out),
        cmocka_unit_test(expressions_that_mean_different_things_are_refused),
        cmocka_unit_test(an_expression_without_end_gives_up),
        cmocka_unit_test(megabytes_of_one_character_are_one_piece),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
