/*
 * tests/fuzz/fuzz_state.c - what programs leave for themselves, so that interrupted work
 * goes on, and what one program answers another.
 *
 * Input: kind of file, then the file: the state of cllm-prep, the results of cllm-eval,
 * the answer of cllm-devices. What is wanted: what is taken is within its bounds, and of
 * results again what is kept.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "base/err.h"
#include "tools/device_facts.h"
#include "tools/prep_state.h"
#include "tools/tally.h"

enum { STATE, TALLY, ANSWER, N_KINDS };
enum { SOURCES = 2, ITEMS = 9, VALUES = 2 };

#define IDENTITY "fuzz"

static int try_state(const char *path)
{
    struct cllm_prep_state state = {.identity = IDENTITY};
    int rc;

    CLLM_ASSERT(cllm_prep_state_init(&state, SOURCES) == 0);
    rc = cllm_prep_state_load(&state, path);
    CLLM_ASSERT(rc != 0); /* it is there */
    if (rc > 0) {
        CLLM_ASSERT(state.n_sources == SOURCES);
        CLLM_ASSERT(state.stage == CLLM_PREP_ENCODE || state.stage == CLLM_PREP_CUT);
        for (size_t i = 0; i < state.n_shards; i++)
            CLLM_ASSERT(strnlen(state.shard[i].sha256, sizeof state.shard[i].sha256) <
                        sizeof state.shard[i].sha256);
    }
    cllm_prep_state_fini(&state);
    return rc;
}

static int try_tally(const char *path)
{
    static const double value[VALUES] = {0.5, -1};
    struct cllm_tally tally, again;
    int rc = cllm_tally_open(&tally, path, IDENTITY, ITEMS, VALUES);

    if (rc < 0)
        return rc;
    CLLM_ASSERT(tally.n_done <= ITEMS);
    if (tally.n_done < ITEMS)
        CLLM_ASSERT(cllm_tally_add(&tally, value, 1) == 0);
    CLLM_ASSERT(cllm_tally_open(&again, path, IDENTITY, ITEMS, VALUES) == 0);
    CLLM_ASSERT(again.n_done == tally.n_done);
    CLLM_ASSERT(memcmp(again.value, tally.value,
                       tally.n_done * VALUES * sizeof *tally.value) == 0);
    cllm_tally_close(&again);
    cllm_tally_close(&tally);
    return 1;
}

/* Whatever it is, there is a row at least, and its text ends. */
static int try_answer(const char *text, size_t bytes)
{
    struct cllm_facts facts = {.n = 0};

    cllm_device_facts_read(&facts, text, bytes);
    CLLM_ASSERT(facts.n > 0 && facts.n <= CLLM_FACTS_MAX);
    for (uint32_t i = 0; i < facts.n; i++)
        CLLM_ASSERT(strnlen(facts.fact[i].text, sizeof facts.fact[i].text) <
                    sizeof facts.fact[i].text);
    return strncmp(facts.fact[0].text, "none", 4) != 0;
}

int fuzz_state(const uint8_t *data, size_t size)
{
    struct fuzz_reader in = {data, data + size};
    uint8_t kind = fuzz_u8(&in) % N_KINDS;
    size_t bytes = (size_t)(in.end - in.at);
    int rc;

    if (kind == ANSWER)
        rc = try_answer((const char *)in.at, bytes);
    else
        rc = kind == STATE ? try_state(fuzz_file(0, in.at, bytes, bytes))
                           : try_tally(fuzz_file(1, in.at, bytes, bytes));
    if (rc > 0)
        fuzz_n_accepted++;
    CLLM_ASSERT(rc >= 0 || cllm_err_text()[0] != '\0');
    return 0;
}
