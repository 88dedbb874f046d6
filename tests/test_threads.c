/*
 * tests/test_threads.c - the pool does every part once, whoever does it; and with several
 * threads every operation, and a whole step of a model, has the bits of one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <xmmintrin.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "compute/threads.h"
#include "model/model.h"
#include "tests/numbers.h"
#include "tests/ops_bits.h"

static const uint32_t counts[] = {2, 3, 7};

static void start(uint32_t n)
{
    assert_int_equal(cllm_threads_start(n, cllm_attention_scratch(OPS_BITS_CONTEXT)), 0);
    assert_int_equal(cllm_threads_count(), n);
}

/* ---- the pool ---- */

enum { MOST = 300 };

struct tally {
    _Atomic uint32_t part[MOST];
    _Atomic uint32_t thread[CLLM_THREADS_MOST];
    uint64_t plain; /* written before, read in parts */
    uint64_t of_part[MOST];
};

static void count_part(void *ctx, uint32_t part, uint32_t thread)
{
    struct tally *tally = ctx;

    (void)atomic_fetch_add(&tally->part[part], 1);
    (void)atomic_fetch_add(&tally->thread[thread], 1);
    tally->of_part[part] = tally->plain + part;
}

static void every_part_is_done_once(void **state)
{
    static struct tally tally;

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(counts); i++) {
        start(counts[i]);
        for (uint64_t round = 0; round < 3000; round++) {
            uint32_t n = (uint32_t)(cllm_random_u64(i, CLLM_RANDOM_TEST, round) %
                                    (round % 10 == 0 ? MOST : 12));

            memset(&tally, 0, sizeof tally);
            tally.plain = round * MOST;
            cllm_threads_run(count_part, &tally, n);
            for (uint32_t part = 0; part < MOST; part++) {
                assert_int_equal(cllm_load_relaxed(&tally.part[part]), part < n);
                assert_int_equal(tally.of_part[part], part < n ? tally.plain + part : 0);
            }
        }
        cllm_threads_stop();
    }
}

static void threads_that_sleep_are_woken(void **state)
{
    const struct timespec pause = cllm_timespec(2 * CLLM_NS_PER_MS);
    static struct tally tally;

    (void)state;
    start(3);
    for (uint32_t round = 1; round <= 50; round++) {
        (void)nanosleep(&pause, NULL); /* spinning has ended by then */
        cllm_threads_run(count_part, &tally, MOST);
        assert_int_equal(cllm_load_relaxed(&tally.part[MOST - 1]), round);
    }
    cllm_threads_stop();
}

static void everywhere_is_once_in_each_thread(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(counts); i++) {
        static struct tally tally;

        memset(&tally, 0, sizeof tally);
        start(counts[i]);
        cllm_threads_everywhere(count_part, &tally);
        for (uint32_t thread = 0; thread < CLLM_THREADS_MOST; thread++) {
            assert_int_equal(cllm_load_relaxed(&tally.thread[thread]),
                             thread < counts[i]);
            assert_int_equal(cllm_load_relaxed(&tally.part[thread]), thread < counts[i]);
        }
        cllm_threads_stop();
    }
}

struct nested {
    struct tally tally[8];
    bool in_one_thread[8];
};

static void run_within(void *ctx, uint32_t part, uint32_t thread)
{
    struct nested *nested = ctx;
    struct tally *tally = &nested->tally[part];

    cllm_threads_run(count_part, tally, MOST);
    nested->in_one_thread[part] = cllm_load_relaxed(&tally->thread[thread]) == MOST;
}

static void a_run_within_a_part_stays_in_its_thread(void **state)
{
    static struct nested nested;

    (void)state;
    start(3);
    cllm_threads_run(run_within, &nested, 8);
    cllm_threads_stop();
    for (uint32_t i = 0; i < 8; i++)
        assert_true(nested.in_one_thread[i]);
}

static void without_a_pool_the_caller_does_all(void **state)
{
    static struct tally tally;

    (void)state;
    cllm_threads_run(count_part, &tally, 5);
    assert_int_equal(cllm_load_relaxed(&tally.thread[0]), 5);
    start(1);
    cllm_threads_run(count_part, &tally, 5);
    cllm_threads_everywhere(count_part, &tally);
    assert_int_equal(cllm_load_relaxed(&tally.thread[0]), 11);
    assert_ptr_equal(cllm_ops_threaded(cllm_ops_select(), 0), cllm_ops_select());
    cllm_threads_stop();
    cllm_threads_stop();
}

static void note_rounding(void *ctx, uint32_t part, uint32_t thread)
{
    (void)thread;
    ((uint32_t *)ctx)[part] = _mm_getcsr() & _MM_ROUND_MASK;
}

static void threads_round_as_the_caller_does(void **state)
{
    uint32_t seen[64], before = _mm_getcsr();

    (void)state;
    start(3);
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t mode = i << 13;

        _mm_setcsr((before & ~(uint32_t)_MM_ROUND_MASK) | mode);
        cllm_threads_run(note_rounding, seen, CLLM_LEN(seen));
        _mm_setcsr(before);
        for (size_t k = 0; k < CLLM_LEN(seen); k++)
            assert_int_equal(seen[k], mode);
    }
    cllm_threads_stop();
}

/* ---- the operations ---- */

static void check_operations(uint32_t n, enum cllm_isa isa)
{
    start(n);
    for (uint32_t p = CLLM_PRECISION_F32; p < CLLM_N_PRECISIONS; p++) {
        const struct cllm_ops *base;

        assert_int_equal(cllm_ops_pick(&base, isa, (enum cllm_precision)p), 0);
        ops_bits_check(base, cllm_ops_threaded(base, 1), p != CLLM_PRECISION_F32);
    }
    cllm_threads_stop();
}

static void every_operation_has_the_bits_of_one_thread(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(counts); i++)
        check_operations(counts[i], cllm_isa_best());
    check_operations(3, CLLM_ISA_REF);
}

static void many_losses_are_added_in_order(void **state)
{
    enum { ROWS = 2500, V = 7 };
    const struct cllm_ops *base = cllm_ops_select();
    float *one = numbers_new(ROWS * V, 1, 30.0f), *many = numbers_new(ROWS * V, 1, 30.0f);
    uint32_t targets[ROWS];
    double want, got;

    (void)state;
    for (uint32_t r = 0; r < ROWS; r++)
        targets[r] = r % V;
    want = numbers_loss(base, one, targets, ROWS, V, true);
    start(3);
    got = numbers_loss(cllm_ops_threaded(base, 64), many, targets, ROWS, V, true);
    cllm_threads_stop();
    assert_memory_equal(&want, &got, sizeof want);
    assert_memory_equal(one, many, ROWS * V * sizeof *one);
    free(one);
    free(many);
}

/* ---- a model ---- */

static const struct cllm_model_config configs[] = {
    {.vocab = 301, .context = 70, .layers = 2, .heads = 3, .width = 96},
    {.arch = CLLM_ARCH_LLAMA,
     .vocab = 301,
     .context = 70,
     .layers = 2,
     .heads = 6,
     .kv_heads = 2,
     .width = 96,
     .untied = 1},
};

enum { SEQUENCES = 3 };

/* The loss of a batch and its gradient into @dw. */
static double train(const struct cllm_parameters *plan, const struct cllm_ops *ops,
                    const float *w, float *dw)
{
    const struct cllm_model_shape shape = {.B = SEQUENCES, .T = 70, .train = true};
    uint32_t tokens[SEQUENCES * 71];
    struct cllm_arena arena;
    struct cllm_model model;
    double loss;

    for (size_t i = 0; i < CLLM_LEN(tokens); i++)
        tokens[i] =
            (uint32_t)(cllm_random_u64(3, CLLM_RANDOM_TEST, i) % plan->config.vocab);
    assert_int_equal(cllm_arena_init(&arena, cllm_model_arena_bytes(plan, &shape)), 0);
    assert_int_equal(cllm_model_init(&model, plan, ops, &shape, &arena), 0);
    loss = cllm_model_forward_backward(&model, w, dw, tokens);
    cllm_arena_fini(&arena);
    return loss;
}

static void check_model(const struct cllm_model_config *config)
{
    const struct cllm_ops *base = cllm_ops_select();
    struct cllm_parameters plan;
    float *w, *want_dw;
    double want;

    assert_int_equal(cllm_parameters_init(&plan, config), 0);
    w = numbers_zero(plan.n_elements);
    want_dw = numbers_zero(plan.n_elements);
    cllm_model_initial_weights(&plan, w, 0, plan.n_elements, 1);
    want = train(&plan, base, w, want_dw);
    for (size_t i = 0; i < CLLM_LEN(counts); i++) {
        for (size_t least = 0; least <= 2000; least += 1000) {
            float *dw = numbers_zero(plan.n_elements);
            double loss;

            start(counts[i]);
            loss = train(&plan, cllm_ops_threaded(base, least), w, dw);
            cllm_threads_stop();
            assert_memory_equal(&loss, &want, sizeof loss);
            assert_memory_equal(dw, want_dw, plan.n_elements * sizeof *dw);
            free(dw);
        }
    }
    free(w);
    free(want_dw);
    cllm_parameters_fini(&plan);
}

static void a_model_has_the_bits_of_one_thread(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(configs); i++)
        check_model(&configs[i]);
}

static void the_table_says_how_many_threads_it_has(void **state)
{
    const struct cllm_ops *base = cllm_ops_reference();

    (void)state;
    start(2);
    assert_string_equal(cllm_ops_threaded(base, 0)->name, "ref, f32, 2 threads");
    cllm_threads_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_is_done_once),
        cmocka_unit_test(threads_that_sleep_are_woken),
        cmocka_unit_test(everywhere_is_once_in_each_thread),
        cmocka_unit_test(a_run_within_a_part_stays_in_its_thread),
        cmocka_unit_test(without_a_pool_the_caller_does_all),
        cmocka_unit_test(threads_round_as_the_caller_does),
        cmocka_unit_test(every_operation_has_the_bits_of_one_thread),
        cmocka_unit_test(many_losses_are_added_in_order),
        cmocka_unit_test(a_model_has_the_bits_of_one_thread),
        cmocka_unit_test(the_table_says_how_many_threads_it_has),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
