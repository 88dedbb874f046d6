/*
 * tests/test_json.c - strict reading, stable writing, errors that name the place.
 */
#include "tests/formats_temp.h"

#include <errno.h>

#include "formats/json.h"

static void bad_texts_are_refused_with_line_and_column(void **state)
{
    static const struct {
        const char *text;
        const char *says;
    } bad[] = {
        {"", "run.json:1:"},
        {"{\"a\":1,\n \"a\":2}", "run.json:2:"}, /* twice the same key */
        {"{\"a\":1} x", "run.json:1:"},          /* text behind the end */
        {"{\"a\":01}", "run.json:1:"},
        {"{\"a\":\"\xff\"}", "run.json:"}, /* no UTF-8 */
        {"{\"a\":9223372036854775808}", "run.json:1:"},
        {"{\"a\":NaN}", "run.json:1:"},
        {"[1]", "expected an object, found an array"},
        {"{\"a\":1,}", "run.json:1:"},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        json_t *json = NULL;
        assert_int_equal(
            cllm_json_parse(bad[i].text, strlen(bad[i].text), "run.json", &json),
            CLLM_EDATA);
        assert_error_says(bad[i].says);
        assert_null(json);
    }
}

static void text_without_an_end_is_not_read_beyond_its_length(void **state)
{
    const char text[] = {'{', '}', '}', '}'};
    json_t *json = NULL;

    (void)state;
    assert_int_equal(cllm_json_parse(text, 2, "text", &json), 0);
    json_decref(json);
    assert_int_equal(cllm_json_parse(text, 3, "text", &json), CLLM_EDATA);
}

static void the_dump_is_sorted_and_ends_with_a_newline(void **state)
{
    static const char expected[] =
        "{\n  \"a\": 1e-5,\n  \"b\": [\n    1,\n    0.1\n  ],\n"
        "  \"z\": {}\n}\n";
    json_t *json = json_pack("{s:{}, s:[i,f], s:f}", "z", "b", 1, 0.1, "a", 1e-5);
    size_t bytes = 0;
    char *text = cllm_json_dump(json, &bytes);

    (void)state;
    assert_non_null(text);
    assert_string_equal(text, expected);
    assert_int_equal(bytes, sizeof expected - 1);
    free(text);
    json_decref(json);
}

static void files_are_capped_and_named(void **state)
{
    json_t *json = NULL;

    put_file(in(*state, "a.json"), "{\"a\":1}", 7);
    assert_int_equal(cllm_json_load(in(*state, "a.json"), 6, &json), -EFBIG);
    assert_int_equal(cllm_json_load(in(*state, "a.json"), 7, &json), 0);
    json_decref(json);
    put_file(in(*state, "b.json"), "{\n\"a\":}", 7);
    assert_int_equal(cllm_json_load(in(*state, "b.json"), 99, &json), CLLM_EDATA);
    assert_error_says("b.json:2:");
    assert_int_equal(cllm_json_load(in(*state, "absent"), 99, &json), -ENOENT);
}

static void written_text_is_read_back(void **state)
{
    json_t *json = json_pack("{s:i}", "step", 7);
    json_t *back = NULL;
    uint64_t step = 0;
    FILE *file = fopen(in(*state, "run.json"), "w");

    assert_non_null(file);
    assert_int_equal(cllm_json_write(json, fileno(file), "run.json"), 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(cllm_json_load(in(*state, "run.json"), 99, &back), 0);
    assert_int_equal(cllm_json_get_u64(back, "run.json", "step", &step), 0);
    assert_int_equal(step, 7);
    json_decref(json);
    json_decref(back);
}

static void getters_give_the_value_or_say_what_they_found(void **state)
{
    json_t *json =
        json_pack("{s:i, s:i, s:f, s:b, s:s, s:{}, s:[], s:n}", "int", 5, "minus", -5,
                  "real", 0.5, "bool", 1, "text", "x", "object", "array", "null");
    json_t *inner = NULL;
    const char *text = NULL;
    uint64_t u64 = 0;
    double f64 = 0;
    bool flag = false;

    (void)state;
    assert_int_equal(cllm_json_get_u64(json, "f", "int", &u64), 0);
    assert_int_equal(u64, 5);
    assert_int_equal(cllm_json_get_f64(json, "f", "int", &f64), 0);
    assert_true(f64 > 4.9 && f64 < 5.1);
    assert_int_equal(cllm_json_get_f64(json, "f", "real", &f64), 0);
    assert_int_equal(cllm_json_get_bool(json, "f", "bool", &flag), 0);
    assert_true(flag);
    assert_int_equal(cllm_json_get_text(json, "f", "text", &text), 0);
    assert_string_equal(text, "x");
    assert_int_equal(cllm_json_get_object(json, "f", "object", &inner), 0);
    assert_int_equal(cllm_json_get_array(json, "f", "array", &inner), 0);

    assert_int_equal(cllm_json_get_u64(json, "f", "minus", &u64), CLLM_EDATA);
    assert_error_says("found -5");
    assert_int_equal(cllm_json_get_u64(json, "f", "real", &u64), CLLM_EDATA);
    assert_error_says("f: \"real\": expected a whole number, found a decimal number");
    assert_int_equal(cllm_json_get_u64(json, "f", "absent", &u64), CLLM_EDATA);
    assert_error_says("found nothing");
    assert_int_equal(cllm_json_get_f64(json, "f", "text", &f64), CLLM_EDATA);
    assert_int_equal(cllm_json_get_text(json, "f", "null", &text), CLLM_EDATA);
    assert_error_says("expected text, found null");
    assert_int_equal(cllm_json_get_bool(json, "f", "int", &flag), CLLM_EDATA);
    assert_int_equal(cllm_json_get_object(json, "f", "array", &inner), CLLM_EDATA);
    assert_int_equal(cllm_json_get_array(json, "f", "object", &inner), CLLM_EDATA);
    json_decref(json);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(bad_texts_are_refused_with_line_and_column),
        T(text_without_an_end_is_not_read_beyond_its_length),
        T(the_dump_is_sorted_and_ends_with_a_newline),
        T(files_are_capped_and_named),
        T(written_text_is_read_back),
        T(getters_give_the_value_or_say_what_they_found),
    };

    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
