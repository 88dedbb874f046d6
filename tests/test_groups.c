/*
 * tests/test_groups.c - lines of [train] group: what they match and what is refused.
 */
#include "model/groups.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/parameters.h"
#include "tests/printed.h"

static const struct cllm_model_config config = {
    .vocab = 17, .context = 11, .layers = 12, .heads = 1, .width = 8};

struct fixture {
    struct cllm_parameters plan;
    struct cllm_config config;
    struct cllm_groups groups;
};

static int setup(void **state)
{
    static struct fixture fixture;

    cllm_config_init(&fixture.config);
    *state = &fixture;
    return cllm_parameters_init(&fixture.plan, &config);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    cllm_config_fini(&f->config);
    cllm_parameters_fini(&f->plan);
    return 0;
}

/* @lines end with NULL. */
static int make(struct fixture *f, const char *const *lines)
{
    char text[512];

    cllm_config_fini(&f->config);
    cllm_config_init(&f->config);
    for (; *lines; lines++) {
        (void)snprintf(text, sizeof text, "[train]\ngroup = %s\n", *lines);
        if (cllm_config_parse(&f->config, text, "t.ini") != 0)
            fail_msg("%s", cllm_err_text());
    }
    return cllm_groups_init(&f->groups, &f->plan, &f->config.train_group);
}

static const struct cllm_group *of(const struct fixture *f, const char *name)
{
    for (uint32_t t = 0; t < f->plan.n_tensors; t++)
        if (strcmp(f->plan.tensors[t].name, name) == 0)
            return &f->groups.of[t];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void assert_group(const struct fixture *f, const char *name, float rate,
                         float decay, uint32_t line)
{
    const struct cllm_group *group = of(f, name);

    assert_true(group->rate == rate);
    assert_true(group->decay == decay);
    assert_int_equal(group->line, line);
}

static void without_lines_matrices_decay_and_all_learn_alike(void **state)
{
    static const char *const none[] = {NULL};
    struct fixture *f = *state;

    assert_int_equal(make(f, none), 0);
    assert_group(f, "transformer.wte.weight", 1, 1, 0);
    assert_group(f, "transformer.h.3.mlp.c_fc.weight", 1, 1, 0);
    assert_group(f, "transformer.h.3.mlp.c_fc.bias", 1, 0, 0);
    assert_group(f, "transformer.ln_f.weight", 1, 0, 0);
    assert_int_equal(cllm_groups_hash(&f->groups, 42), 42);
    cllm_groups_fini(&f->groups);
    assert_int_equal(cllm_groups_init(&f->groups, &f->plan, NULL), 0);
    assert_group(f, "transformer.wte.weight", 1, 1, 0);
    cllm_groups_fini(&f->groups);
}

static void the_first_line_that_matches_counts(void **state)
{
    static const char *const lines[] = {"transformer.w?e.weight rate=0.5 decay=0",
                                        "*.h.1.* rate=0", "  *.bias   decay=2  ",
                                        "*.h.[0-9].*.weight decay=0.25 rate=1e-1", NULL};
    struct fixture *f = *state;

    assert_int_equal(make(f, lines), 0);
    assert_group(f, "transformer.wte.weight", 0.5f, 0, 1);
    assert_group(f, "transformer.wpe.weight", 0.5f, 0, 1);
    assert_group(f, "transformer.h.1.mlp.c_fc.bias", 0, 0, 2);
    assert_group(f, "transformer.h.1.mlp.c_fc.weight", 0, 1, 2);
    assert_group(f, "transformer.h.2.mlp.c_fc.bias", 1, 2, 3);
    assert_group(f, "transformer.h.2.ln_1.weight", 0.1f, 0.25f, 4);
    assert_group(f, "transformer.h.11.ln_1.weight", 1, 0, 0);
    assert_group(f, "transformer.h.10.mlp.c_fc.weight", 1, 1, 0);
    cllm_groups_fini(&f->groups);
}

static uint64_t hash(struct fixture *f, const char *const *lines)
{
    uint64_t sum;

    assert_int_equal(make(f, lines), 0);
    sum = cllm_groups_hash(&f->groups, 42);
    cllm_groups_fini(&f->groups);
    return sum;
}

/* What counts is which tensor has which factors, not how that is written. */
static void the_hash_is_of_the_factors(void **state)
{
    static const char *const one[] = {"*.bias rate=0.5", "*wte* decay=0", NULL};
    static const char *const two[] = {"*wte.weight  decay=0.0", "*bias rate=5e-1", NULL};
    static const char *const other[] = {"*.bias rate=0.25", "*wte* decay=0", NULL};
    struct fixture *f = *state;

    assert_true(hash(f, one) == hash(f, two));
    assert_true(hash(f, one) != hash(f, other));
    assert_true(hash(f, one) != 42);
}

static void what_cannot_be_meant_is_refused(void **state)
{
    static const struct {
        const char *lines[3], *text;
    } cases[] = {
        {{"*.bias", NULL}, "neither rate=FACTOR nor decay=FACTOR"},
        {{"*.bias rat=1", NULL}, "'rat=1' is neither"},
        {{"*.bias rate", NULL}, "'rate' is neither"},
        {{"*.bias rate=", NULL}, "rate= is no number"},
        {{"*.bias rate=1x", NULL}, "rate=1x is no number"},
        {{"*.bias rate=-1", NULL}, "rate=-1 is no number"},
        {{"*.bias rate=nan", NULL}, "rate=nan is no number"},
        {{"*.bias decay=inf", NULL}, "decay=inf is no number"},
        {{"*.bias decay=1001", NULL}, "no number from 0 to 1000"},
        {{"*.bias rate=0.00000000000000000000000000000001", NULL}, "is no number"},
        {{"*.bias rate=1 rate=2", NULL}, "rate is given twice"},
        {{"*.bias decay=1 rate=2 decay=1", NULL}, "decay is given twice"},
        {{"01234567890123456789012345678901234567890123456789"
          "01234567890123456789012345678901234567890123456789 rate=1",
          NULL},
         "no pattern of 1 to"},
        {{"*.biass rate=1", NULL}, "'*.biass' matches no tensor"},
        {{"*.bias rate=1", "*ln_1.bias decay=1", NULL}, "only what lines before it have"},
        {{"*.bias rate=1", "*.bias rate=1", NULL}, "only what lines before it have"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        assert_int_equal(make(f, cases[i].lines), CLLM_ECONFIG);
        if (strstr(cllm_err_text(), cases[i].text) == NULL)
            fail_msg("'%s' says '%s'", cases[i].lines[0], cllm_err_text());
        assert_non_null(strstr(cllm_err_text(), "[train] group = "));
        assert_null(f->groups.of);
    }
}

static void a_pattern_for_nothing_names_the_nearest_tensor(void **state)
{
    static const struct {
        const char *lines[2], *nearest;
    } cases[] = {
        {{"*.wet.weight rate=1", NULL}, "nearest is 'transformer.wte.weight'"},
        {{"*.attn.atn.bias rate=1", NULL},
         "nearest is 'transformer.h.0.attn.c_attn.bias'"},
        {{"*.h.7.ln1.weight rate=0", NULL}, "nearest is 'transformer.h.7.ln_1.weight'"},
        {{"transformer.ln_?.weigth rate=0", NULL},
         "nearest is 'transformer.ln_f.weight'"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        assert_int_equal(make(f, cases[i].lines), CLLM_ECONFIG);
        assert_printed(cases[i].nearest);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_lines_matrices_decay_and_all_learn_alike),
        cmocka_unit_test(the_first_line_that_matches_counts),
        cmocka_unit_test(the_hash_is_of_the_factors),
        cmocka_unit_test(what_cannot_be_meant_is_refused),
        cmocka_unit_test(a_pattern_for_nothing_names_the_nearest_tensor),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
