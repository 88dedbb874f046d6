/*
 * tests/test_config_compare.c - what differs is named with both values, and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/config.h"

static const struct {
    const char *here, *there, *says;
} cases[] = {
    {"train.seed=2", "train.seed=1", "train.seed is 2, was 1"},
    {"train.learning_rate=0.1", "train.learning_rate=0.003",
     "train.learning_rate is 0.1, was 0.003"},
    {"train.optimizer=muon", "train.optimizer=adamw",
     "train.optimizer is muon, was adamw"},
    {"train.micro_batch=2", "train.micro_batch=auto", "train.micro_batch is 2, was auto"},
    {"train.group=*.bias rate=0",
     "train.group=", "train.group is \"*.bias rate=0\", was none"},
    {"model.tied=yes", "model.tied=no", "model.tied is yes, was no"},
    {"loss.crystalline=0.5", "loss.crystalline=0", "loss.crystalline is 0.5, was 0"},
    {"run.lanes=24", "run.lanes=12", "run.lanes is 24, was 12"},
    {"compute.precision=bf16", "compute.precision=f32",
     "compute.precision is bf16, was f32"},
    {"train.from=/a/b", "train.from=none", "train.from is /a/b, was none"},
    /* no business of the weights */
    {"run.workers=3", "run.workers=5", ""},
    {"compute.threads=3", "compute.threads=1", ""},
    {"loader.steps_ahead=2", "loader.steps_ahead=3", ""},
    {"checkpoint.keep=9", "checkpoint.keep=1", ""},
};

static void what_differs_is_named_with_both_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        struct cllm_config here, there;
        char text[512];

        cllm_config_init(&here);
        cllm_config_init(&there);
        assert_int_equal(cllm_config_set(&here, cases[i].here), 0);
        assert_int_equal(cllm_config_set(&there, cases[i].there), 0);
        assert_int_equal(cllm_config_compare(&here, &there, text, sizeof text),
                         cases[i].says[0] != '\0');
        assert_string_equal(text, cases[i].says);
        assert_int_equal(cllm_config_compare(&here, &here, text, sizeof text), 0);
        cllm_config_fini(&here);
        cllm_config_fini(&there);
    }
}

static void what_does_not_fit_is_counted(void **state)
{
    struct cllm_config here, there;
    char text[32];

    (void)state;
    cllm_config_init(&here);
    cllm_config_init(&there);
    assert_int_equal(cllm_config_set(&here, "train.seed=7"), 0);
    assert_int_equal(cllm_config_set(&here, "train.steps=7"), 0);
    assert_int_equal(cllm_config_set(&here, "model.vocab=7"), 0);
    assert_int_equal(cllm_config_compare(&here, &there, text, sizeof text), 3);
    assert_string_equal(text, "model.vocab is 7, was 256; trai");
    cllm_config_fini(&here);
    cllm_config_fini(&there);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_differs_is_named_with_both_values),
        cmocka_unit_test(what_does_not_fit_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
