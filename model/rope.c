/*
 * model/rope.c - the angles of rotated positions (Su and others: "RoFormer"), stretched
 * for long contexts as Hugging Face's files name it.
 *
 * Pair i of a head turns by theta^(-2 i / D) a position. All of it is computed in double
 * from +, -, *, / alone, so that every machine gets the same bits; a table entry is the
 * exact value rounded to f32.
 */
#include "model/rope.h"

#include "compute/elementary.h"

#define TWO_PI 6.283185307179586

/* ---- logarithm and exponential, a few units of the last place of a double ---- */

/* Of x >= 1: halved until it is near 1, then 2 artanh((x - 1) / (x + 1)) as a series. */
static double logarithm(double x)
{
    const double ln2 = 0.6931471805599453;
    double doublings = 0, s, square, sum = 0;

    while (x > 1.4142135623730951) {
        x /= 2;
        doublings++;
    }
    s = (x - 1) / (x + 1);
    square = s * s;
    for (int k = 25; k >= 1; k -= 2)
        sum = sum * square + 1.0 / k;
    return doublings * ln2 + 2 * s * sum;
}

/* e^-x of x >= 0: the Taylor series of x / 2^n, squared n times. */
static double decay(double x)
{
    double term = 1, sum = 1;
    int halvings = 0;

    while (x > 0.125) {
        x /= 2;
        halvings++;
    }
    for (int k = 1; k <= 12; k++) {
        term *= -x / k;
        sum += term;
    }
    for (; halvings > 0; halvings--)
        sum *= sum;
    return sum;
}

/* ---- angles ---- */

/* Angles that turn more than @high times in the first context stay, those that turn less
 * than @low times are divided by the factor, a line between them. */
static double stretch_llama3(double angle, const struct cllm_model_config *config)
{
    double turns = config->rope_original * angle / TWO_PI;
    double low = config->rope_low, high = config->rope_high;
    double keep = (turns - low) / (high - low);

    keep = keep < 0 ? 0 : keep > 1 ? 1 : keep;
    return (1 - keep) * (angle / config->rope_factor) + keep * angle;
}

/* The number of the pair that turns @turns times in the first context; not whole. */
static double pair_of(double turns, const struct cllm_model_config *config)
{
    double ratio = config->rope_original / (turns * TWO_PI), sign = 1;

    if (ratio < 1) {
        ratio = 1 / ratio;
        sign = -1;
    }
    return sign * config->head_size * logarithm(ratio) /
           (2 * logarithm(config->rope_theta));
}

/* Peng and others: "YaRN", section 3.2, with borders at whole pairs. */
static double stretch_yarn(double angle, uint32_t pair,
                           const struct cllm_model_config *config)
{
    double from = pair_of(config->rope_high, config);
    double to = pair_of(config->rope_low, config), last = config->head_size - 1.0;
    double first_whole = (double)(int64_t)from, last_whole = (double)(int64_t)to, ramp;

    first_whole -= first_whole > from; /* down */
    last_whole += last_whole < to;     /* up */
    first_whole = first_whole < 0 ? 0 : first_whole;
    last_whole = last_whole > last ? last : last_whole;
    if (first_whole >= last_whole)
        last_whole = first_whole + 0.001;
    ramp = ((double)pair - first_whole) / (last_whole - first_whole);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    return angle / config->rope_factor * ramp + angle * (1 - ramp);
}

double cllm_rope_angle(const struct cllm_model_config *config, uint32_t pair)
{
    double angle = decay(2.0 * pair / config->head_size * logarithm(config->rope_theta));

    switch ((enum cllm_rope_scaling)config->rope_scaling) {
    case CLLM_ROPE_LINEAR:
        return angle / config->rope_factor;
    case CLLM_ROPE_LLAMA3:
        return stretch_llama3(angle, config);
    case CLLM_ROPE_YARN:
        return stretch_yarn(angle, pair, config);
    case CLLM_ROPE_NONE:
    case CLLM_N_ROPE_SCALINGS:
        break;
    }
    return angle;
}

void cllm_rope_table(float *table, const struct cllm_model_config *config, uint32_t T)
{
    bool yarn = config->rope_scaling == CLLM_ROPE_YARN;
    double length = yarn ? 1 + 0.1 * logarithm(config->rope_factor) : 1;
    uint32_t half = config->head_size / 2;

    for (uint32_t pair = 0; pair < half; pair++) {
        double angle = cllm_rope_angle(config, pair);

        for (uint32_t t = 0; t < T; t++) {
            float *row = table + (size_t)t * config->head_size;
            double sine, cosine;

            cllm_sincos_wide(t * angle, &sine, &cosine);
            row[pair] = (float)(length * cosine);
            row[half + pair] = (float)(length * sine);
        }
    }
}
