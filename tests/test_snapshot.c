/*
 * tests/test_snapshot.c - a committed version as the saver reads it: once, in order, what
 * it held when it was pinned, or a refusal.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/err.h"
#include "saver/snapshot.h"
#include "shm/chunk.h"
#include "tests/saver_run.h"

#define STEP    5
#define VERSION (STEP & 1)

struct fixture {
    struct saver_run *run;
    struct cllm_control control; /* as the saver has it */
    struct cllm_snapshot snapshot;
    float *held, *found; /* (3, n_elements) */
    uint64_t n;
};

static void begin(struct fixture *fixture, struct saver_run *run)
{
    struct cllm_slot *slot = &run->control.slots[run->slot];

    *fixture = (struct fixture){.run = run,
                                .control = run->control,
                                .n = run->control.header->geometry.n_elements};
    fixture->control.slot = run->slot;
    fixture->control.own = &slot->own;
    fixture->held = malloc(3 * fixture->n * sizeof *fixture->held);
    fixture->found = calloc(3 * fixture->n, sizeof *fixture->found);
    assert_non_null(fixture->held);
    assert_non_null(fixture->found);
    saver_run_commit(run, STEP, 0);
    cllm_store_relaxed(&run->control.state->hurry_version, 0);
    memcpy(fixture->held, run->params[VERSION].base,
           3 * fixture->n * sizeof *fixture->held);
    assert_int_equal(cllm_snapshot_begin(&fixture->snapshot, &fixture->control,
                                         run->eventfd, STEP, VERSION),
                     0);
}

static void end(struct fixture *fixture)
{
    cllm_snapshot_end(&fixture->snapshot);
    assert_int_equal(cllm_load_acquire(&fixture->control.own->status.holds_version), 0);
    free(fixture->held);
    free(fixture->found);
}

/* The next stretch, which must go on at *@at, into found. Returns what the call does. */
static int take(struct fixture *fixture, uint64_t *at)
{
    struct cllm_stretch stretch;
    int rc = cllm_snapshot_next(&fixture->snapshot, &stretch);

    if (rc != 1)
        return rc;
    assert_int_equal(stretch.lo, *at);
    assert_true(stretch.n > 0 && stretch.n <= fixture->n - *at);
    for (uint32_t part = 0; part < 3; part++)
        memcpy(fixture->found + part * fixture->n + *at, stretch.part[part],
               stretch.n * sizeof(float));
    *at += stretch.n;
    return 1;
}

static void assert_held(const struct fixture *fixture)
{
    assert_memory_equal(fixture->found, fixture->held,
                        3 * fixture->n * sizeof *fixture->held);
}

static uint32_t n_stretches(struct saver_run *run)
{
    struct fixture fixture;
    uint64_t at = 0;
    uint32_t n = 0;

    begin(&fixture, run);
    while (take(&fixture, &at) == 1) {
        n++;
        assert_int_equal(cllm_load_acquire(&fixture.control.own->status.holds_version),
                         at < fixture.n ? VERSION + 1 : 0);
    }
    assert_int_equal(at, fixture.n);
    assert_held(&fixture);
    end(&fixture);
    return n;
}

static void every_element_comes_once(void **state)
{
    struct saver_fixture *saver = *state;
    struct saver_run *large = saver_fixture_open_other(saver, &saver_run_large);
    uint32_t n_chunks = large->control.header->geometry.n_chunks;

    assert_int_equal(n_stretches(&saver->run),
                     saver->run.control.header->geometry.n_chunks);
    assert_true(n_stretches(large) > 2 * (n_chunks - 1)); /* several to a chunk */
}

/* Asked at any place, also within a chunk; the next update writes at once. */
static void who_is_hurried_lets_go_and_loses_nothing(void **state)
{
    struct saver_fixture *saver = *state;
    struct saver_run *run = saver_fixture_open_other(saver, &saver_run_large);
    uint32_t n = n_stretches(run);

    for (uint32_t before = 0; before < n; before++) {
        struct fixture fixture;
        uint64_t at = 0;

        begin(&fixture, run);
        for (uint32_t i = 0; i < before; i++)
            assert_int_equal(take(&fixture, &at), 1);
        cllm_store_release(&run->control.state->hurry_version, VERSION + 1);
        assert_int_equal(take(&fixture, &at), 1);
        assert_int_equal(cllm_load_acquire(&fixture.control.own->status.holds_version),
                         0);
        memset(run->params[VERSION].base, 0xff, run->params[VERSION].bytes);
        while (take(&fixture, &at) == 1)
            continue;
        assert_int_equal(at, fixture.n);
        assert_held(&fixture);
        end(&fixture);
    }
}

/* Wherever it is in its chunk: the chunk's last stretch is never given. */
static void a_flipped_bit_ends_its_chunk(void **state)
{
    struct saver_fixture *saver = *state;
    struct saver_run *run = saver_fixture_open_other(saver, &saver_run_large);
    const struct cllm_geometry *geometry = &run->control.header->geometry;

    for (uint32_t chunk = 0; chunk < geometry->n_chunks; chunk++) {
        uint64_t lo = cllm_chunk_lo(geometry, chunk), hi = cllm_chunk_hi(geometry, chunk);
        const uint64_t places[] = {lo, lo + (hi - lo) / 2, hi - 1};

        for (uint32_t i = 0; i < 3 * CLLM_LEN(places); i++) {
            struct fixture fixture;
            uint64_t at = 0;
            uint32_t *word;
            int rc;

            begin(&fixture, run);
            word = (uint32_t *)(void *)run->params[VERSION].base +
                   (uint64_t)(i % 3) * fixture.n + places[i / 3];
            *word ^= 1u << i;
            while ((rc = take(&fixture, &at)) == 1)
                continue;
            assert_int_equal(rc, -EBADMSG);
            assert_true(at >= lo && at < hi);
            assert_non_null(strstr(cllm_err_text(), "hash of its updater"));
            end(&fixture);
        }
    }
}

#define T(name) \
    cmocka_unit_test_setup_teardown(name, saver_fixture_set_up, saver_fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(every_element_comes_once),
        T(who_is_hurried_lets_go_and_loses_nothing),
        T(a_flipped_bit_ends_its_chunk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
