/*
 * tests/crash/sim_golden.c - the toy's arithmetic, and what an undisturbed run makes of
 * it.
 *
 * The golden run is computed by plain loops over lanes and words, with nothing of the
 * code under test but the learning rate and the order of the windows, which are pure
 * functions with tests of their own. The mixing depends on the order of its arguments, so
 * a lane that is folded twice, late or not at all changes every bit.
 */
#include <math.h>
#include <string.h>

#include "loader/sampler.h"
#include "model/schedule.h"
#include "shm/chunk.h"
#include "tests/crash/sim.h"

uint64_t sim_mix(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t x = a * UINT64_C(0x9e3779b97f4a7c15) ^ (b + UINT64_C(0xd1b54a32d192ed03));

    x = (x ^ (x >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
    x += c * UINT64_C(0x94d049bb133111eb);
    x = (x ^ (x >> 31)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 30);
}

uint32_t sim_words(void)
{
    return (uint32_t)(sim.geometry.n_elements / 2);
}

void sim_tokens(bool eval, uint64_t sequence, uint32_t *out)
{
    const struct cllm_geometry *g = &sim.geometry;
    uint64_t windows = SIM_SHARD_TOKENS - 1;
    uint64_t window =
        eval ? cllm_sampler_eval_window(
                   windows, (uint64_t)g->ring_eval_slots * g->sequences, sequence)
             : cllm_sampler_window(g->seed, windows, sequence);

    for (uint32_t i = 0; i <= g->model.context; i++)
        out[i] = (uint32_t)(sim_mix(g->seed, window + i, eval) % g->model.vocab);
}

uint64_t sim_token_hash(const uint32_t *tokens)
{
    const struct cllm_geometry *g = &sim.geometry;
    uint64_t hash = 7;

    for (uint32_t i = 0; i < g->sequences * (g->model.context + 1); i++)
        hash = sim_mix(hash, tokens[i], i);
    return hash;
}

double sim_loss(const uint64_t *w, const uint32_t *tokens)
{
    uint64_t hash = sim_token_hash(tokens);

    for (uint32_t i = 0; i < sim_words(); i++)
        hash = sim_mix(hash, w[i], i);
    return (double)(hash >> 11) * 0x1p-51 + 0.25;
}

uint64_t sim_gradient_word(uint64_t before, uint64_t w, uint64_t token_hash, uint32_t i)
{
    return sim_mix(before, w, token_hash + i);
}

uint64_t sim_fold_word(uint64_t sum, uint64_t lane)
{
    return sim_mix(sum, lane, 3);
}

double sim_square(uint64_t word)
{
    return (double)(word >> 40) * 0x1p-12;
}

uint64_t sim_update_word(uint64_t old, uint64_t gradient, float scale, float rate,
                         uint64_t step, uint32_t part)
{
    uint32_t bits[2];

    memcpy(&bits[0], &scale, sizeof scale);
    memcpy(&bits[1], &rate, sizeof rate);
    return sim_mix(sim_mix(old, gradient, bits[0]), bits[1], step * 4 + part);
}

uint64_t sim_initial_word(uint64_t seed, uint32_t i)
{
    return sim_mix(seed, i, 99);
}

/* ---- the golden run ---- */

static uint64_t root_of(const uint64_t *words)
{
    const struct cllm_geometry *g = &sim.geometry;
    struct cllm_chunk chunk[SIM_MAX_CHUNKS];
    uint32_t n = sim_words();

    memset(chunk, 0, sizeof chunk);
    for (uint32_t c = 0; c < g->n_chunks; c++) {
        uint64_t lo = cllm_chunk_lo(g, c), count = cllm_chunk_hi(g, c) - lo;

        chunk[c].sum[0] =
            cllm_chunk_sum((const float *)(const void *)words + lo,
                           (const float *)(const void *)(words + n) + lo,
                           (const float *)(const void *)(words + 2 * n) + lo, count, c);
    }
    return cllm_chunk_root(chunk, g->n_chunks, 0);
}

/* The tokens of batch @batch (an index of the validation with @eval). */
static void batch_tokens(bool eval, uint64_t batch, uint32_t *out)
{
    const struct cllm_geometry *g = &sim.geometry;

    for (uint32_t row = 0; row < g->sequences; row++)
        sim_tokens(eval, cllm_sampler_sequence(batch, g->sequences, row),
                   out + row * (g->model.context + 1));
}

/* Gradient and loss of lane @lane of step @step. */
static double golden_lane(uint64_t step, uint32_t lane, const uint64_t *w, uint64_t *out)
{
    const struct cllm_geometry *g = &sim.geometry;
    double loss = 0;
    uint32_t tokens[64];

    memset(out, 0, sim_words() * sizeof *out);
    for (uint32_t m = 0; m < g->microbatches; m++) {
        batch_tokens(false, ((step - 1) * g->lanes + lane) * g->microbatches + m, tokens);
        for (uint32_t i = 0; i < sim_words(); i++)
            out[i] = sim_gradient_word(out[i], w[i], sim_token_hash(tokens), i);
        loss += sim_loss(w, tokens);
    }
    return loss;
}

static void golden_eval(struct cllm_step_record *record, const uint64_t *w)
{
    const struct cllm_geometry *g = &sim.geometry;
    uint32_t tokens[64];
    double loss = 0;
    uint64_t n = 0;

    for (uint32_t l = 0; l < g->lanes; l++) {
        double lane = 0;

        for (uint32_t m = 0; m < g->eval_microbatches; m++) {
            batch_tokens(true, (uint64_t)l * g->eval_microbatches + m, tokens);
            lane += sim_loss(w, tokens);
            n += (uint64_t)g->sequences * g->model.context;
        }
        loss += lane;
    }
    record->valid_loss = loss / (double)n;
    record->valid_step = record->step;
    if (isnan(record->best_loss) || record->best_loss > record->valid_loss) {
        record->best_loss = record->valid_loss;
        record->best_step = record->step;
    }
}

/* Sum of squares chunk by chunk, as the norm wants it. */
static double squares_of(const uint64_t *total)
{
    const struct cllm_geometry *g = &sim.geometry;
    double squares = 0;

    for (uint32_t c = 0; c < g->n_chunks; c++) {
        double chunk = 0;

        for (uint64_t i = cllm_chunk_lo(g, c) / 2; i < cllm_chunk_hi(g, c) / 2; i++)
            chunk += sim_square(total[i]);
        squares += chunk;
    }
    return squares;
}

static void golden_fold(uint64_t step, const uint64_t *w, uint64_t *total, double *loss)
{
    const struct cllm_geometry *g = &sim.geometry;
    uint64_t lane[SIM_MAX_WORDS] = {0}, group[SIM_MAX_WORDS] = {0};

    *loss = 0;
    for (uint32_t l = 0; l < g->lanes; l++) {
        *loss += golden_lane(step, l, w, lane);
        for (uint32_t i = 0; i < sim_words(); i++)
            group[i] =
                l % CLLM_GROUP_LANES == 0 ? lane[i] : sim_fold_word(group[i], lane[i]);
        if (l + 1 != g->lanes && (l + 1) % CLLM_GROUP_LANES != 0)
            continue;
        for (uint32_t i = 0; i < sim_words(); i++)
            total[i] =
                l < CLLM_GROUP_LANES ? group[i] : sim_fold_word(total[i], group[i]);
    }
}

/* The parameters are there: the root, and the validation if one is due. */
static void finish_golden(struct sim_golden *to)
{
    const struct cllm_config *config = &sim.config;
    struct cllm_step_record *record = &to->record;

    record->root = root_of(to->words);
    if (config->data_valid.n > 0 &&
        (record->step == config->train_steps ||
         (config->train_eval_every > 0 && record->step % config->train_eval_every == 0)))
        golden_eval(record, to->words);
}

static void golden_step(uint64_t step)
{
    const struct cllm_geometry *g = &sim.geometry;
    const struct cllm_config *config = &sim.config;
    const struct cllm_schedule schedule = cllm_schedule_of(config);
    const struct sim_golden *from = &sim.golden[step - 1];
    struct sim_golden *to = &sim.golden[step];
    struct cllm_step_record *record = &to->record;
    uint64_t tokens =
        (uint64_t)g->lanes * g->microbatches * g->sequences * g->model.context;
    uint64_t total[SIM_MAX_WORDS] = {0};
    uint32_t n = sim_words();
    double loss, scale;

    *record = from->record;
    record->step = step;
    record->cursor += (uint64_t)g->lanes * g->microbatches * g->sequences;
    record->skipped = CLLM_SKIP_NO;
    if (sim.plan.bad_step == step) {
        memcpy(to->words, from->words, sizeof to->words);
        record->skipped =
            sim.plan.bad == SIM_END_POISON ? CLLM_SKIP_POISON : CLLM_SKIP_NONFINITE;
        record->skips++;
        record->loss = record->grad_norm = (double)NAN;
        finish_golden(to);
        return;
    }
    golden_fold(step, from->words, total, &loss);
    record->tokens += tokens;
    record->loss = loss / (double)tokens;
    record->grad_norm = sqrt(squares_of(total)) / (double)tokens;
    scale = 1.0 / (double)tokens;
    if (config->train_clip > 0 && record->grad_norm > config->train_clip)
        scale *= config->train_clip / record->grad_norm;
    record->grad_scale = (float)scale;
    record->learning_rate = cllm_schedule_rate(&schedule, step);
    for (uint32_t part = 0; part < 3; part++)
        for (uint32_t i = 0; i < n; i++)
            to->words[part * n + i] =
                sim_update_word(from->words[part * n + i], total[i], record->grad_scale,
                                record->learning_rate, step, part);
    finish_golden(to);
}

void sim_golden_make(void)
{
    struct sim_golden *zero = &sim.golden[0];

    memset(sim.golden, 0, sizeof sim.golden);
    for (uint32_t i = 0; i < sim_words(); i++)
        zero->words[i] = sim_initial_word(sim.geometry.seed, i);
    zero->record = (struct cllm_step_record){.valid_loss = (double)NAN,
                                             .best_loss = (double)NAN,
                                             .loss = (double)NAN,
                                             .numerics = SIM_NUMERICS};
    zero->record.root = root_of(zero->words);
    for (uint64_t step = 1; step <= sim.plan.steps; step++)
        golden_step(step);
}
