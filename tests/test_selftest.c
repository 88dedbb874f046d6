/*
 * tests/test_selftest.c - a worker's self-test notices other numbers of every operation
 * that its run uses, and is the same for every instruction set.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/config.h"
#include "worker/worker.h"

static uint64_t run(const struct cllm_ops *ops, const char *setting)
{
    struct cllm_config config;
    uint64_t numerics = 0;

    cllm_config_init(&config);
    if (setting != NULL)
        assert_int_equal(cllm_config_set(&config, setting), 0);
    assert_int_equal(cllm_worker_self_test(ops, NULL, CLLM_ARCH_GPT2, &config, &numerics),
                     0);
    cllm_config_fini(&config);
    return numerics;
}

/* ---- operations that are wrong in one number ---- */

static void wrong_lion(float *w1, float *m1, const float *w0, const float *m0,
                       const float *g, size_t n, const struct cllm_lion_terms *terms)
{
    cllm_ops_reference()->lion(w1, m1, w0, m0, g, n, terms);
    w1[0] += 1;
}

static void wrong_sgd(float *w1, float *m1, const float *w0, const float *m0,
                      const float *g, size_t n, const struct cllm_sgd_terms *terms)
{
    cllm_ops_reference()->sgd(w1, m1, w0, m0, g, n, terms);
    w1[0] += 1;
}

static void wrong_mix(float *out, const float *x, const float *y, float a, float b,
                      size_t n)
{
    cllm_ops_reference()->mix(out, x, y, a, b, n);
    out[0] += 1;
}

static void wrong_dropout(float *out, const float *add, const float *x, size_t n,
                          const struct cllm_dropout *dropout)
{
    cllm_ops_reference()->dropout(out, add, x, n, dropout);
    out[0] += 1;
}

static void wrong_attention(const struct cllm_ops *ops, float *out, float *lse,
                            const float *qkv, float *scratch,
                            const struct cllm_attention *sizes)
{
    cllm_ops_reference()->attention(ops, out, lse, qkv, scratch, sizes);
    out[0] += sizes->dropout.threshold > 0 ? 1 : 0;
}

static void wrong_smoothing(double *losses, float *logits, const uint32_t *targets,
                            size_t rows, size_t V, bool backward,
                            const struct cllm_smoothing *smoothing, float *c)
{
    cllm_ops_reference()->smooth_cross_entropy(losses, logits, targets, rows, V, backward,
                                               smoothing, c);
    losses[0] += 1;
}

static void what_a_run_uses_is_tested(void **state)
{
    static const char *const settings[] = {
        "train.optimizer=lion", "train.optimizer=sgd",  "train.optimizer=muon",
        "train.dropout=0.1",    "loss.crystalline=0.1", "train.attention_dropout=0.1"};
    struct cllm_ops wrong = *cllm_ops_reference();
    uint64_t plain = run(cllm_ops_reference(), NULL);

    (void)state;
    wrong.lion = wrong_lion;
    wrong.sgd = wrong_sgd;
    wrong.mix = wrong_mix;
    wrong.dropout = wrong_dropout;
    wrong.attention = wrong_attention;
    wrong.smooth_cross_entropy = wrong_smoothing;
    for (size_t i = 0; i < CLLM_LEN(settings); i++) {
        uint64_t right = run(cllm_ops_reference(), settings[i]);

        if (right == plain)
            fail_msg("%s is not tested", settings[i]);
        if (right == run(&wrong, settings[i]))
            fail_msg("%s: wrong numbers are not noticed", settings[i]);
    }
    /* And nothing that it does not use: its identity stays what it was. */
    assert_true(plain == run(&wrong, NULL));
    assert_true(plain == run(&wrong, "train.optimizer=adamw"));
}

static void every_instruction_set_has_the_same_hash(void **state)
{
    static const char *const settings[] = {NULL,
                                           "train.optimizer=lion",
                                           "train.optimizer=muon",
                                           "train.dropout=0.1",
                                           "loss.crystalline=0.1",
                                           "train.attention_dropout=0.1"};

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(settings); i++)
        assert_true(run(cllm_ops_reference(), settings[i]) ==
                    run(cllm_ops_select(), settings[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_run_uses_is_tested),
        cmocka_unit_test(every_instruction_set_has_the_same_hash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
