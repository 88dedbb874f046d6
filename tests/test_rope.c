/*
 * tests/test_rope.c - rotated positions: angles and their scalings against libm and
 * against the formulas of Hugging Face's files, the table at far positions, the turning
 * itself.
 */
#include "model/rope.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "compute/ops.h"
#include "tests/numbers.h"

static struct cllm_model_config config_of(uint32_t head_size, double theta)
{
    struct cllm_model_config config = {.arch = CLLM_ARCH_LLAMA,
                                       .vocab = 2,
                                       .context = 65536,
                                       .layers = 1,
                                       .heads = 1,
                                       .width = head_size,
                                       .rope_theta = theta};

    cllm_model_config_complete(&config);
    return config;
}

static double exact_angle(const struct cllm_model_config *config, uint32_t pair)
{
    return 1 / pow(config->rope_theta, 2.0 * pair / config->head_size);
}

static bool is_near(double x, double exact)
{
    return fabs(x - exact) <= 1e-13 * fabs(exact);
}

static void angles_fall_from_one_by_powers_of_theta(void **state)
{
    static const double thetas[] = {1.5, 10000, 500000, 1e12};
    static const uint32_t sizes[] = {2, 6, 64, 128, 256};

    (void)state;
    for (size_t k = 0; k < CLLM_LEN(thetas); k++)
        for (size_t s = 0; s < CLLM_LEN(sizes); s++) {
            struct cllm_model_config config = config_of(sizes[s], thetas[k]);

            assert_true(cllm_rope_angle(&config, 0) == 1);
            for (uint32_t i = 0; i < sizes[s] / 2; i++)
                assert_true(
                    is_near(cllm_rope_angle(&config, i), exact_angle(&config, i)));
            config.rope_scaling = CLLM_ROPE_LINEAR;
            config.rope_factor = 4;
            for (uint32_t i = 0; i < sizes[s] / 2; i++)
                assert_true(
                    is_near(cllm_rope_angle(&config, i), exact_angle(&config, i) / 4));
        }
}

/* As transformers says it, in wavelengths. */
static double llama3(const struct cllm_model_config *config, double angle)
{
    double old = config->rope_original, low = config->rope_low, high = config->rope_high;
    double wavelength = 2 * acos(-1) / angle, smooth;

    if (wavelength < old / high)
        return angle;
    if (wavelength > old / low)
        return angle / config->rope_factor;
    smooth = (old / wavelength - low) / (high - low);
    return (1 - smooth) * angle / config->rope_factor + smooth * angle;
}

static void llama3_divides_slow_angles_and_keeps_fast_ones(void **state)
{
    struct cllm_model_config config = config_of(128, 500000);
    uint32_t kept = 0, divided = 0;

    (void)state;
    config.rope_scaling = CLLM_ROPE_LLAMA3;
    config.rope_factor = 8;
    config.rope_original = 8192;
    for (uint32_t i = 0; i < 64; i++) {
        double angle = exact_angle(&config, i), scaled = cllm_rope_angle(&config, i);

        assert_true(is_near(scaled, llama3(&config, angle)));
        kept += is_near(scaled, angle);
        divided += is_near(scaled, angle / 8);
    }
    assert_true(kept > 20 && divided > 20 && kept + divided < 64);
}

static double border(const struct cllm_model_config *config, double rotations)
{
    return config->head_size * log(config->rope_original / (rotations * 2 * acos(-1))) /
           (2 * log(config->rope_theta));
}

static void yarn_ramps_between_whole_pairs_and_lengthens(void **state)
{
    struct cllm_model_config config = config_of(128, 10000);
    float table[128];
    double low, high;

    (void)state;
    config.rope_scaling = CLLM_ROPE_YARN;
    config.rope_factor = 16;
    config.rope_original = 4096;
    config.rope_high = 32;
    low = fmax(floor(border(&config, 32)), 0);
    high = fmin(ceil(border(&config, 1)), 127);
    for (uint32_t i = 0; i < 64; i++) {
        double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
        double angle = exact_angle(&config, i);

        assert_true(
            is_near(cllm_rope_angle(&config, i), angle / 16 * ramp + angle * (1 - ramp)));
    }
    cllm_rope_table(table, &config, 1);
    assert_true(fabs((double)table[0] - (1 + 0.1 * log(16))) < 1e-7);
    assert_true(table[64] == 0);
}

static void the_table_is_exact_at_the_last_position(void **state)
{
    enum { D = 64, T = 65536, STEP = 997 };
    struct cllm_model_config config = config_of(D, 10000);
    float *table = numbers_zero((size_t)T * D);

    (void)state;
    cllm_rope_table(table, &config, T);
    for (uint32_t t = T - 1; t >= STEP; t -= STEP)
        for (uint32_t i = 0; i < D / 2; i++) {
            double angle = t * exact_angle(&config, i);

            assert_true(fabs((double)table[t * D + i] - cos(angle)) < 4e-8);
            assert_true(fabs((double)table[t * D + D / 2 + i] - sin(angle)) < 4e-8);
        }
    free(table);
}

/* Queries of two heads, keys of one, values. */
static void queries_and_keys_are_turned_and_turned_back(void **state)
{
    enum { B = 2, T = 5, H = 2, D = 6, ROW = (H + 2) * D };
    const struct cllm_attention sizes = {.B = B, .T = T, .C = H * D, .H = H, .KV = 1};
    struct cllm_model_config config = config_of(D, 100);
    float *x = numbers_new(B * T * ROW, 1, 1.0f),
          *kept = numbers_new(B * T * ROW, 1, 1.0f);
    float table[T * D];

    (void)state;
    cllm_rope_table(table, &config, T);
    cllm_ops_select()->rope(x, table, &sizes, 0, B * T, false);
    for (size_t r = 0; r < B * T; r++)
        for (size_t c = 0; c < ROW; c++) {
            size_t h = c / D, i = c % D, at = r * ROW + c;
            bool low = i < D / 2;
            double angle =
                (double)(r % T) * exact_angle(&config, (uint32_t)(i % (D / 2)));
            double other = (double)kept[low ? at + D / 2 : at - D / 2];
            double exact =
                (double)kept[at] * cos(angle) + (low ? -other : other) * sin(angle);

            assert_true(fabs((double)x[at] - (h <= H ? exact : (double)kept[at])) < 2e-7);
        }
    cllm_ops_select()->rope(x, table, &sizes, 0, B * T, true);
    for (size_t i = 0; i < B * T * ROW; i++)
        assert_true(fabsf(x[i] - kept[i]) < 4e-7f);
    free(x);
    free(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(angles_fall_from_one_by_powers_of_theta),
        cmocka_unit_test(llama3_divides_slow_angles_and_keeps_fast_ones),
        cmocka_unit_test(yarn_ramps_between_whole_pairs_and_lengthens),
        cmocka_unit_test(the_table_is_exact_at_the_last_position),
        cmocka_unit_test(queries_and_keys_are_turned_and_turned_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
