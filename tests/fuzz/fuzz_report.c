/*
 * tests/fuzz/fuzz_report.c - the page that a child writes, as Node Zero takes it: hello
 * and reports.
 *
 * Input: flags, then changes (fuzz_patch) to a page in which hello and the answers to two
 * assignments stand. The flags choose the work that was asked for and which sums are made
 * right again after the changes.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "base/atomic.h"
#include "base/hash.h"
#include "shm/slot.h"

enum {
    FIX_REPORTS = 1,
    FIX_HELLO = 2,
    FIX_SEQ = 4,
    KIND_SHIFT = 4, /* two bits */
};

#define GENERATION  3
#define LANE_TOKENS (2 * 3 * 7) /* of the geometry below */

static struct cllm_slot slot;
static struct cllm_own page; /* as a child in good health leaves it */
static struct cllm_header header = {
    .geometry = {.lanes = 8, .microbatches = 2, .sequences = 3, .model = {.context = 7}}};
static struct cllm_control control = {.header = &header, .slots = &slot, .own = &page};

static const struct cllm_assignment works[4] = {
    {.kind = CLLM_WORK_LANE, .step = 9, .lane = 4, .buffer = 1},
    {.kind = CLLM_WORK_FOLD, .step = 9, .lane_hi = 3, .chunk_lo = 1, .chunk_hi = 65},
    {.kind = CLLM_WORK_UPDATE, .step = 9, .version = 1, .chunk_hi = 2},
    {.kind = CLLM_WORK_SAVE, .step = 8},
};

/* Node Zero has posted @work twice, a child has answered both. */
static void begin(const struct cllm_assignment *work)
{
    struct cllm_assignment asked = *work;
    struct cllm_report report;

    memset(&slot.command, 0, sizeof slot.command);
    cllm_store_relaxed(&slot.command.generation, GENERATION - 1);
    CLLM_ASSERT(cllm_slot_renew(&control, 0) == GENERATION);
    cllm_slot_say_hello(&control, GENERATION, 77, "reference", -1);
    for (uint64_t seq = 1; seq <= 2; seq++) {
        CLLM_ASSERT(cllm_slot_post(&control, 0, work) == seq);
        asked.generation = GENERATION;
        cllm_slot_answer(&report, &asked);
        report.flags = CLLM_REPORT_FINITE;
        report.loss = 1.5;
        report.tokens = work->kind == CLLM_WORK_LANE ? LANE_TOKENS : 0;
        cllm_slot_report(&control, &report, seq, -1);
    }
    memcpy(&slot.own, &page, sizeof page);
}

static void fix(uint8_t flags)
{
    struct cllm_status *status = &slot.own.status;

    for (uint64_t seq = 1; seq <= 2; seq++) {
        struct cllm_report *report = &slot.own.report[seq & 1];

        if (flags & FIX_SEQ)
            cllm_store_relaxed(&report->seq, seq);
        if (flags & FIX_REPORTS)
            report->sum = cllm_hash(report, offsetof(struct cllm_report, sum), seq);
    }
    if (flags & FIX_HELLO) {
        uint64_t sum = cllm_hash(&status->pid, sizeof status->pid, GENERATION);

        sum = cllm_hash(&status->numerics, sizeof status->numerics, sum);
        status->hello_sum = cllm_hash(status->kernels, sizeof status->kernels, sum);
        cllm_store_relaxed(&status->hello_generation, GENERATION);
    }
}

static void harvest(const struct cllm_assignment *work)
{
    struct cllm_report report;
    struct cllm_assignment asked;

    for (uint64_t seq = 1; seq <= 3; seq++) {
        uint64_t before = slot.command.reported;
        enum cllm_harvest got = cllm_slot_harvest(&control, 0, &report, &asked);

        CLLM_ASSERT(slot.command.posted == 2 && before <= 2);
        if (got != CLLM_HARVEST_REPORT) {
            CLLM_ASSERT(slot.command.reported == before);
            CLLM_ASSERT(got == CLLM_HARVEST_NONE || got == CLLM_HARVEST_BAD);
            return;
        }
        CLLM_ASSERT(slot.command.reported == before + 1 && seq <= 2);
        CLLM_ASSERT(asked.kind == work->kind && report.kind == work->kind);
        CLLM_ASSERT(report.step == work->step && report.generation == GENERATION);
        CLLM_ASSERT(report.lane == work->lane && report.buffer == work->buffer);
        CLLM_ASSERT(report.chunk_lo == work->chunk_lo);
        CLLM_ASSERT(report.chunk_hi == work->chunk_hi);
        CLLM_ASSERT(work->kind != CLLM_WORK_LANE || report.tokens == LANE_TOKENS ||
                    report.flags & (CLLM_REPORT_FAILED | CLLM_REPORT_BAD_BATCH));
        fuzz_n_accepted++;
    }
}

int fuzz_report(const uint8_t *data, size_t size)
{
    struct fuzz_reader in = {data, data + size};
    uint8_t flags = fuzz_u8(&in);
    const struct cllm_assignment *work = &works[flags >> KIND_SHIFT & 3];
    char kernels[64];
    uint64_t numerics;

    begin(work);
    while (in.at < in.end)
        (void)fuzz_patch(&in, &slot.own, sizeof slot.own, NULL);
    fix(flags);
    if (cllm_slot_hello(&control, 0, &numerics, kernels))
        CLLM_ASSERT(memchr(kernels, '\0', sizeof kernels));
    else
        CLLM_ASSERT(!(flags & FIX_HELLO));
    harvest(work);
    return 0;
}
