/*
 * tests/test_speaker.c - what a model is told and what it says, on random weights.
 */
#include "tools/speaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "compute/ops.h"
#include "tests/numbers.h"

static const struct cllm_model_config config = {
    .vocab = 256, .context = 24, .layers = 1, .heads = 2, .width = 16};

static struct cllm_lm lm;
static const uint32_t prompt[] = {'o', 'n', 'c', 'e', ' ', 'u', 'p', 'o', 'n'};

static int setup(void **state)
{
    (void)state;
    assert_int_equal(cllm_parameters_init(&lm.plan, &config), 0);
    lm.vocab = config.vocab;
    lm.context = config.context;
    lm.w = numbers_new(lm.plan.n_elements, 5, 0.5f);
    assert_int_equal(cllm_tokenizer_load(&lm.found.tokenizer, CLLM_TOKENIZER_BYTES), 0);
    lm.tokenizer = lm.found.tokenizer;
    assert_int_equal(cllm_encoder_new(&lm.encoder, lm.tokenizer), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(lm.w);
    cllm_lm_close(&lm);
    return 0;
}

static struct cllm_speaker_wish wish(uint32_t n)
{
    return (struct cllm_speaker_wish){
        .sample = {.temperature = 1, .top_p = 1}, .penalty = 1, .seed = 3, .n_tokens = n};
}

/* Texts that are shown, one behind the other. */
struct shown {
    char text[4096];
    size_t n, calls;
    sig_atomic_t *interrupt_after; /* set at the third call */
};

static int show(void *ctx, const char *text, size_t bytes)
{
    struct shown *shown = ctx;

    assert_true(shown->n + bytes < sizeof shown->text);
    memcpy(shown->text + shown->n, text, bytes);
    shown->n += bytes;
    shown->text[shown->n] = '\0';
    if (++shown->calls == 3 && shown->interrupt_after)
        *shown->interrupt_after = 1;
    return 0;
}

static void init(struct cllm_speaker *speaker, const struct cllm_speaker_wish *w)
{
    assert_int_equal(cllm_speaker_init(speaker, &lm, cllm_ops_select(), w), 0);
}

/* The tokens that it says to the prompt, told in parts of @part. */
static void answer_to(uint32_t part, uint32_t n, uint32_t *said)
{
    struct cllm_speaker_wish w = wish(n);
    struct cllm_speaker speaker;
    enum cllm_speaker_end end;

    init(&speaker, &w);
    for (uint32_t i = 0; i < CLLM_LEN(prompt); i += part)
        assert_int_equal(
            cllm_speaker_read(&speaker, prompt + i,
                              (uint32_t)cllm_min_u64(part, CLLM_LEN(prompt) - i)),
            0);
    assert_int_equal(cllm_speaker_answer(&speaker, NULL, NULL, NULL, &end), 0);
    assert_int_equal(end, CLLM_SPEAKER_LENGTH);
    assert_int_equal(speaker.n_history, CLLM_LEN(prompt) + n);
    memcpy(said, speaker.history + CLLM_LEN(prompt), n * sizeof *said);
    cllm_speaker_fini(&speaker);
}

static void how_it_is_told_does_not_matter(void **state)
{
    uint32_t whole[60], parts[60]; /* longer than the context */

    (void)state;
    answer_to(CLLM_LEN(prompt), 60, whole);
    for (uint32_t part = 1; part < CLLM_LEN(prompt); part++) {
        answer_to(part, 60, parts);
        assert_memory_equal(whole, parts, sizeof whole);
    }
}

static void two_answers_are_one_cut_in_two(void **state)
{
    struct cllm_speaker_wish w = wish(20);
    struct cllm_speaker speaker;
    enum cllm_speaker_end end;
    uint32_t whole[40];

    (void)state;
    answer_to(CLLM_LEN(prompt), 40, whole);
    init(&speaker, &w);
    assert_int_equal(cllm_speaker_read(&speaker, prompt, CLLM_LEN(prompt)), 0);
    assert_int_equal(cllm_speaker_answer(&speaker, NULL, NULL, NULL, &end), 0);
    assert_int_equal(cllm_speaker_answer(&speaker, NULL, NULL, NULL, &end), 0);
    assert_memory_equal(whole, speaker.history + CLLM_LEN(prompt), sizeof whole);
    cllm_speaker_fini(&speaker);
}

static void a_text_longer_than_the_context_is_read(void **state)
{
    struct cllm_speaker_wish w = wish(30);
    struct cllm_speaker speaker;
    enum cllm_speaker_end end;
    uint32_t tokens[1000];

    (void)state;
    for (uint32_t i = 0; i < CLLM_LEN(tokens); i++)
        tokens[i] = i * 31 % 256;
    init(&speaker, &w);
    assert_int_equal(cllm_speaker_read(&speaker, tokens, CLLM_LEN(tokens)), 0);
    assert_int_equal(cllm_lm_position(&speaker.reader), config.context);
    assert_int_equal(cllm_speaker_answer(&speaker, NULL, NULL, NULL, &end), 0);
    assert_int_equal(speaker.n_history, CLLM_LEN(tokens) + 30);
    assert_in_range(cllm_lm_position(&speaker.reader), 1, config.context);
    cllm_speaker_fini(&speaker);
}

static void an_interrupt_ends_the_answer(void **state)
{
    struct cllm_speaker_wish w = wish(1000);
    struct cllm_speaker speaker;
    enum cllm_speaker_end end;
    sig_atomic_t interrupted = 0;
    struct shown shown = {.interrupt_after = &interrupted};

    (void)state;
    init(&speaker, &w);
    assert_int_equal(cllm_speaker_read(&speaker, prompt, CLLM_LEN(prompt)), 0);
    assert_int_equal(cllm_speaker_answer(&speaker, show, &shown, &interrupted, &end), 0);
    assert_int_equal(end, CLLM_SPEAKER_INTERRUPTED);
    assert_in_range(speaker.said_tokens, 3, 20);
    cllm_speaker_fini(&speaker);
}

static void what_is_shown_is_what_was_said_up_to_the_stop(void **state)
{
    struct cllm_speaker_wish w = wish(200);
    struct cllm_speaker speaker;
    enum cllm_speaker_end end;
    struct shown all = {.n = 0}, cut = {.n = 0};
    char stop[3] = "";

    (void)state;
    init(&speaker, &w);
    assert_int_equal(cllm_speaker_read(&speaker, prompt, CLLM_LEN(prompt)), 0);
    assert_int_equal(cllm_speaker_answer(&speaker, show, &all, NULL, &end), 0);
    assert_int_equal(all.n, 200); /* random bytes, nothing lost or replaced */
    for (uint32_t i = 0; i < 200; i++)
        assert_int_equal((unsigned char)all.text[i],
                         speaker.history[CLLM_LEN(prompt) + i]);
    cllm_speaker_fini(&speaker);
    /* two bytes without a NUL that come in it */
    for (uint32_t i = 50; stop[0] == '\0' || stop[1] == '\0'; i++)
        memcpy(stop, all.text + i, 2);
    assert_int_equal(cllm_stop_add(&w.stop, stop), 0);
    init(&speaker, &w);
    assert_int_equal(cllm_speaker_read(&speaker, prompt, CLLM_LEN(prompt)), 0);
    assert_int_equal(cllm_speaker_answer(&speaker, show, &cut, NULL, &end), 0);
    assert_int_equal(end, CLLM_SPEAKER_STOP);
    assert_true(cut.n < all.n);
    assert_memory_equal(cut.text, all.text, cut.n);
    assert_memory_equal(all.text + cut.n, stop, 2);
    cllm_speaker_fini(&speaker);
}

static void a_penalty_keeps_it_from_saying_the_same(void **state)
{
    struct cllm_speaker_wish w = wish(40);
    struct cllm_speaker speaker;
    enum cllm_speaker_end end;
    uint32_t distinct[2] = {0};

    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        bool seen[256] = {false};

        w.sample.temperature = 0;
        w.penalty = i == 0 ? 1 : 50;
        init(&speaker, &w);
        assert_int_equal(cllm_speaker_read(&speaker, prompt, CLLM_LEN(prompt)), 0);
        assert_int_equal(cllm_speaker_answer(&speaker, NULL, NULL, NULL, &end), 0);
        for (uint32_t t = 0; t < 40; t++) {
            uint32_t token = speaker.history[CLLM_LEN(prompt) + t];

            distinct[i] += !seen[token];
            seen[token] = true;
        }
        cllm_speaker_fini(&speaker);
    }
    assert_true(distinct[1] > distinct[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(how_it_is_told_does_not_matter),
        cmocka_unit_test(two_answers_are_one_cut_in_two),
        cmocka_unit_test(a_text_longer_than_the_context_is_read),
        cmocka_unit_test(an_interrupt_ends_the_answer),
        cmocka_unit_test(what_is_shown_is_what_was_said_up_to_the_stop),
        cmocka_unit_test(a_penalty_keeps_it_from_saying_the_same),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
