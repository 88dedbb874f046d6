/*
 * tests/crash/corrupt_control.c - a damaged control object is not adopted, or what is
 * damaged in it is not used.
 */
#include "tests/crash/corrupt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tests/control_temp.h"

#define VALUES 255

static struct {
    struct tally *tally;
    struct cllm_control made; /* in shared memory, sound */
    uint64_t header, records, texts;
} self;

static void try_header(void)
{
    struct cllm_region copy = self.made.region;
    struct cllm_control control;
    uint8_t value;

    copy.base = aligned_alloc(CLLM_PAGE, copy.bytes);
    CLLM_ASSERT(copy.base != NULL);
    memcpy(copy.base, self.made.region.base, copy.bytes);
    for (uint64_t off = 0; off < sizeof(struct cllm_header); off++) {
        uint8_t was = copy.base[off];

        for (uint32_t i = 0; corrupt_value(self.tally, was, off, i, VALUES, &value);
             i++) {
            if (!tally_case(self.tally, "header:%" PRIu64 ":%u", off, i))
                continue;
            copy.base[off] = value;
            self.header++;
            if (cllm_control_use(&control, &copy) == CLLM_ATTACH_OK)
                (void)tally_fail(self.tally, "accepted");
            else
                self.tally->passed++;
            tally_reason(cllm_err_text());
        }
        copy.base[off] = was;
    }
    /* Cut off anywhere: what is mapped is shorter than the header says. */
    for (uint64_t bytes = CLLM_PAGE; bytes < self.made.region.bytes; bytes += CLLM_PAGE) {
        struct cllm_region cut = {.base = copy.base, .bytes = bytes};

        if (!tally_case(self.tally, "header:cut:%" PRIu64, bytes))
            continue;
        self.header++;
        if (cllm_control_use(&control, &cut) == CLLM_ATTACH_OK)
            (void)tally_fail(self.tally, "accepted");
        else
            self.tally->passed++;
    }
    free(copy.base);
}

/* Steps 4 and 5 are committed. */
static void commit_two(void)
{
    for (uint64_t step = 4; step < 6; step++) {
        struct cllm_step_record *record = &self.made.record[step & 1];

        *record = (struct cllm_step_record){
            .step = step, .root = step * 77, .cursor = step * 5, .tokens = step * 40};
        record->sum = cllm_step_record_sum(record);
    }
}

static void try_records(void)
{
    uint8_t value;

    commit_two();
    for (uint32_t r = 0; r < 2; r++) {
        uint8_t *bytes = (uint8_t *)&self.made.record[r];
        const struct cllm_step_record want = self.made.record[!r];

        for (uint64_t off = 0; off < sizeof want; off++) {
            uint8_t was = bytes[off];

            for (uint32_t i = 0; corrupt_value(self.tally, was, off, i, VALUES, &value);
                 i++) {
                struct cllm_step_record found = {0};

                if (!tally_case(self.tally, "record:%u:%" PRIu64 ":%u", r, off, i))
                    continue;
                bytes[off] = value;
                self.records++;
                if (!cllm_control_newest_record(&self.made, &found) ||
                    memcmp(&found, &want, sizeof want) != 0)
                    (void)tally_fail(self.tally, "step %" PRIu64 " instead of %" PRIu64,
                                     found.step, want.step);
                else
                    self.tally->passed++;
            }
            bytes[off] = was;
        }
    }
}

/* The two texts that children read their orders from. */
static void try_texts(void)
{
    const struct cllm_header *header = self.made.header;
    struct cllm_control control;
    uint8_t value;

    for (uint64_t at = 0; at < header->config_bytes + header->manifest_bytes; at++) {
        uint64_t off = at < header->config_bytes
                           ? header->config_off + at
                           : header->manifest_off + at - header->config_bytes;
        uint8_t was = self.made.region.base[off];

        for (uint32_t i = 0; corrupt_value(self.tally, was, off, i, VALUES, &value);
             i++) {
            if (!tally_case(self.tally, "text:%" PRIu64 ":%u", at, i))
                continue;
            self.made.region.base[off] = value;
            self.texts++;
            if (cllm_control_adopt(&control, control_temp_id()) == CLLM_ATTACH_OK) {
                (void)tally_fail(self.tally, "adopted");
                cllm_control_detach(&control);
            } else {
                self.tally->passed++;
            }
            tally_reason(cllm_err_text());
        }
        self.made.region.base[off] = was;
    }
}

void corrupt_control(struct tally *tally)
{
    self.tally = tally;
    control_temp_make(&self.made);
    try_header();
    try_records();
    try_texts();
    (void)printf("control    %10" PRIu64 " damaged headers, %" PRIu64 " records, %" PRIu64
                 " texts\n",
                 self.header, self.records, self.texts);
    control_temp_remove(&self.made);
}
