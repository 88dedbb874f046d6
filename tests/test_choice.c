/*
 * tests/test_choice.c - lines of multiple choice: what is read, what is refused and
 * where.
 */
#include "tests/formats_temp.h"

#include "formats/choice.h"

static int parse(struct cllm_choice *out, const char *text)
{
    return cllm_choice_parse(out, text, strlen(text), "val.jsonl", 7);
}

static void an_example_is_read(void **state)
{
    struct cllm_choice choice;

    (void)state;
    assert_int_equal(parse(&choice, "{\"ind\": 24, \"ctx\": \"A \\u00e9\", \"endings\": "
                                    "[\"b\", \"c d\", \"e\"], \"label\": 2}"),
                     0);
    assert_string_equal(choice.context, "A \xc3\xa9");
    assert_int_equal(choice.n, 3);
    assert_string_equal(choice.ending[1], "c d");
    assert_int_equal(choice.label, 2);
    cllm_choice_free(&choice);
    assert_int_equal(
        parse(&choice, "{\"label\": \"1\", \"endings\": [\"b\", \"c\"], \"ctx\": \"a\"}"),
        0);
    assert_int_equal(choice.label, 1);
    cllm_choice_free(&choice);
    cllm_choice_free(&choice);
}

#define LINE(ctx, endings, label) \
    "{\"ctx\": " ctx ", \"endings\": " endings ", \"label\": " label "}"
#define TWO "[\"a\", \"b\"]"

static void what_is_no_example_is_refused_with_its_line(void **state)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "val.jsonl:7"},
        {"[]", "val.jsonl:7"},
        {"{}", "\"ctx\": expected text"},
        {LINE("3", TWO, "0"), "\"ctx\": expected text"},
        {LINE("\"\"", TWO, "0"), "\"ctx\": expected text"},
        {LINE("\"a\\u0000b\"", TWO, "0"), "val.jsonl:7"},
        {LINE("\"a\"", "{}", "0"), "\"endings\": expected an array of 2 to 16"},
        {LINE("\"a\"", "[\"b\"]", "0"), "\"endings\": expected an array of 2 to 16"},
        {LINE("\"a\"", "[\"b\", 3]", "0"), "an ending: expected text"},
        {LINE("\"a\"", "[\"b\", \"\"]", "0"), "an ending: expected text"},
        {LINE("\"a\"", TWO, "2"), "\"label\": expected a number from 0 to 1"},
        {LINE("\"a\"", TWO, "-1"), "\"label\": expected a number from 0 to 1"},
        {LINE("\"a\"", TWO, "0.0"), "\"label\": expected a number from 0 to 1"},
        {LINE("\"a\"", TWO, "\"\""), "\"label\": expected a number from 0 to 1"},
        {LINE("\"a\"", TWO, "\" 1\""), "\"label\": expected a number from 0 to 1"},
        {LINE("\"a\"", TWO, "\"001\""), "\"label\": expected a number from 0 to 1"},
        {LINE("\"a\"", TWO, "null"), "\"label\": expected a number from 0 to 1"},
        {LINE("\"a\"", TWO, "0") " x", "val.jsonl:7"},
        {"{\"ctx\": \"a\", \"ctx\": \"b\", \"endings\": " TWO ", \"label\": 0}",
         "val.jsonl:7"},
    };
    struct cllm_choice choice;

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        assert_int_equal(parse(&choice, bad[i].text), CLLM_EDATA);
        assert_error_says(bad[i].says);
    }
}

static void a_file_is_read_line_by_line(void **state)
{
    const char *path = in(*state, "a.jsonl");
    const char *good = LINE("\"x\"", TWO, "0") "\r\n\n  \n" LINE("\"y\"", TWO, "1");
    struct cllm_choices choices;
    char text[256];

    put_file(path, good, strlen(good));
    assert_int_equal(cllm_choices_load(&choices, path), 0);
    assert_int_equal(choices.n, 2);
    assert_string_equal(choices.choice[1].context, "y");
    assert_int_equal(choices.choice[1].label, 1);
    cllm_choices_free(&choices);
    (void)snprintf(text, sizeof text, "%s\n{}\n", good);
    put_file(path, text, strlen(text));
    assert_int_equal(cllm_choices_load(&choices, path), CLLM_EDATA);
    assert_error_says("a.jsonl:5");
    put_file(path, "\n\n", 2);
    assert_int_equal(cllm_choices_load(&choices, path), CLLM_EDATA);
    assert_error_says("found none");
    assert_int_equal(cllm_choices_load(&choices, in(*state, "absent")), -2);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(an_example_is_read),
        T(what_is_no_example_is_refused_with_its_line),
        T(a_file_is_read_line_by_line),
    };

    return cmocka_run_group_tests_name("choice", tests, NULL, NULL);
}
