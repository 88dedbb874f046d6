/*
 * tools/ctl_answer.c - see tools/ctl_answer.h.
 */
#include "tools/ctl_answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "formats/json.h"

static json_int_t whole(const json_t *answer, const char *key)
{
    return json_integer_value(json_object_get(answer, key));
}

static void print_loss(FILE *out, const json_t *answer, const char *key, const char *name)
{
    const json_t *value = json_object_get(answer, key);

    if (json_is_number(value))
        (void)fprintf(out, ", %s %.4f", name, json_number_value(value));
}

static void print_status(FILE *out, const json_t *answer)
{
    const char *state = json_string_value(json_object_get(answer, "state"));
    const char *run = json_string_value(json_object_get(answer, "run"));
    bool pausing = json_is_true(json_object_get(answer, "paused")) && state &&
                   strcmp(state, "running") == 0;
    double rate = json_number_value(json_object_get(answer, "tokens_per_s"));
    char count[CLLM_UNITS_BYTES];

    (void)fprintf(out, "%s: %s, step %" JSON_INTEGER_FORMAT "/%" JSON_INTEGER_FORMAT,
                  run ? run : "?",
                  pausing ? "pausing"
                  : state ? state
                          : "?",
                  whole(answer, "step"), whole(answer, "steps"));
    print_loss(out, answer, "loss", "loss");
    print_loss(out, answer, "valid", "valid");
    if (rate > 0 && rate < 1e18)
        (void)fprintf(out, ", %s tokens/s", cllm_format_count(count, (uint64_t)rate));
    (void)fprintf(out, ", %" JSON_INTEGER_FORMAT " worker%s", whole(answer, "workers"),
                  cllm_plural((uint64_t)whole(answer, "workers")));
    if (whole(answer, "workers_ready") != whole(answer, "workers"))
        (void)fprintf(out, " (%" JSON_INTEGER_FORMAT " ready)",
                      whole(answer, "workers_ready"));
    if (whole(answer, "saved_step") > 0)
        (void)fprintf(out, ", saved step %" JSON_INTEGER_FORMAT,
                      whole(answer, "saved_step"));
    if (whole(answer, "deaths") > 0)
        (void)fprintf(out, ", %" JSON_INTEGER_FORMAT " death%s", whole(answer, "deaths"),
                      cllm_plural((uint64_t)whole(answer, "deaths")));
    (void)fprintf(out, "\n");
}

/* Show @answer. Returns 0, or the refusal as a code with text. */
static int report(FILE *out, const json_t *answer)
{
    const char *text = json_string_value(json_object_get(answer, "text"));
    const char *error = json_string_value(json_object_get(answer, "error"));

    if (!json_is_true(json_object_get(answer, "ok")))
        return cllm_err(
            json_is_true(json_object_get(answer, "usage")) ? CLLM_ECONFIG : CLLM_EREFUSED,
            "%s",
            error && error[0] != '\0' ? error : "the run refuses and does not say why");
    if (text)
        (void)fprintf(out, "%s\n", text);
    else
        print_status(out, answer);
    return 0;
}

/* The object as the run gave it. */
static int print_json(FILE *out, const json_t *answer)
{
    char *text = cllm_json_dump(answer, NULL);

    if (!text)
        return cllm_err(-ENOMEM, "cannot print the answer");
    (void)fputs(text, out);
    free(text);
    return 0;
}

int cllm_ctl_answer(FILE *out, const char *text, size_t bytes, bool json)
{
    json_t *answer = NULL;
    int rc = cllm_json_parse(text, bytes, "answer", &answer);

    if (rc == 0 && json)
        rc = print_json(out, answer);
    if (rc == 0 && (!json || !json_is_true(json_object_get(answer, "ok"))))
        rc = report(out, answer);
    json_decref(answer);
    return rc;
}
