/*
 * tools/shm_tables.c - the long tables of cllm-shm: every lane, every chunk, every batch.
 */
#include <inttypes.h>

#include "base/atomic.h"
#include "base/units.h"
#include "tools/shm_text.h"

static void lane_row(FILE *out, const struct cllm_shm_view *view, uint32_t i)
{
    const struct cllm_lane *lane = &view->lane[i];
    bool held = lane->state == CLLM_LANE_ASSIGNED ||
                lane->state == CLLM_LANE_DUPLICATED || lane->state == CLLM_LANE_DONE;
    bool counted = lane->state == CLLM_LANE_DONE || lane->state == CLLM_LANE_FOLDED;

    (void)fprintf(out, "%5u %-9s", i, cllm_lane_state_name(lane->state));
    if (held)
        (void)fprintf(out, "%6u%6u%8u%9" PRIu64, lane->slot, lane->generation,
                      lane->buffer, lane->seq);
    else
        (void)fprintf(out, "%6s%6s%8s%9s", "-", "-", "-", "-");
    if (counted && lane->tokens > 0)
        (void)fprintf(out, "%10.4f%9" PRIu64 "  %016" PRIx64,
                      lane->loss / (double)lane->tokens, lane->tokens, lane->grad_sum);
    else
        (void)fprintf(out, "%10s%9s  %-16s", "-", "-", "-");
    if (lane->crashes > 0)
        (void)fprintf(out, "  %u death%s on it, last of slot %u", lane->crashes,
                      cllm_plural(lane->crashes), lane->crash_slot);
    (void)fprintf(out, "\n");
}

static void chunk_row(FILE *out, const struct cllm_shm_view *view, uint32_t i)
{
    const struct cllm_chunk *chunk = &view->chunk[i];

    (void)fprintf(out, "%5u %-9s", i, cllm_chunk_state_name(chunk->state));
    if (chunk->state == CLLM_CHUNK_ASSIGNED)
        (void)fprintf(out, "%6u%9" PRIu64, chunk->slot, chunk->seq);
    else
        (void)fprintf(out, "%6s%9s", "-", "-");
    (void)fprintf(out, "%14.6e  %016" PRIx64 "  %016" PRIx64 "\n", chunk->sum_squares,
                  chunk->sum[0], chunk->sum[1]);
}

void cllm_shm_text_lanes(FILE *out, const struct cllm_shm_view *view, bool chunks)
{
    (void)fprintf(out, "run %s: %s; step %" PRIu64 ", %s\n", view->id,
                  cllm_shm_life_name(view->life),
                  cllm_load_relaxed(&view->state.committed) + 1,
                  cllm_phase_name(cllm_load_relaxed(&view->state.phase)));
    (void)fprintf(out, "%5s %-9s%6s%6s%8s%9s%10s%9s  %s\n", "LANE", "STATE", "SLOT",
                  "GEN", "BUFFER", "SEQ", "LOSS", "TOKENS", "GRADIENT HASH");
    for (uint32_t i = 0; i < view->n_lanes; i++)
        lane_row(out, view, i);
    if (!chunks)
        return;
    (void)fprintf(out, "\n%5s %-9s%6s%9s%14s  %-16s  %s\n", "CHUNK", "STATE", "SLOT",
                  "SEQ", "SUM SQUARES", "HASH IN PARAMS 0", "HASH IN PARAMS 1");
    for (uint32_t i = 0; i < view->n_chunks; i++)
        chunk_row(out, view, i);
}

static void ring_row(FILE *out, const struct cllm_shm_ring_row *row, uint32_t i)
{
    (void)fprintf(out, "%5u %-9s", i, cllm_shm_batch_name(row->state));
    if (row->state == CLLM_SHM_BATCH_EMPTY)
        (void)fprintf(out, "%12s\n", "-");
    else if (row->validation)
        (void)fprintf(out, "%12" PRIu64 "%10s%6u%7u%6u\n", row->batch, "valid.",
                      row->lane, row->microbatch, row->generation);
    else
        (void)fprintf(out, "%12" PRIu64 "%10" PRIu64 "%6u%7u%6u\n", row->batch, row->step,
                      row->lane, row->microbatch, row->generation);
}

void cllm_shm_text_ring(FILE *out, const struct cllm_shm_view *view,
                        const struct cllm_shm_ring *ring)
{
    const struct cllm_geometry *g = &view->header.geometry;
    char bytes[CLLM_UNITS_BYTES];

    (void)fprintf(out,
                  "run %s: %s; ring of %u batches for %u steps ahead, and %u for the "
                  "validation, %s each\n",
                  view->id, cllm_shm_life_name(view->life), g->ring_slots, g->ring_steps,
                  g->ring_eval_slots,
                  cllm_format_bytes(bytes, ring->batch_tokens * sizeof(uint32_t)));
    (void)fprintf(out, "  verified: %u ok, %u empty, %u changing, %u BAD\n",
                  ring->in_state[CLLM_SHM_BATCH_OK], ring->in_state[CLLM_SHM_BATCH_EMPTY],
                  ring->in_state[CLLM_SHM_BATCH_CHANGED],
                  ring->in_state[CLLM_SHM_BATCH_BAD]);
    for (uint32_t i = 0; i < view->n_slots; i++) {
        const struct cllm_shm_slot *slot = &view->slot[i];

        if (slot->command.role == CLLM_ROLE_LOADER)
            (void)fprintf(
                out, "  loader: %s; %s; batches so far: %" PRIu64 ", %s read\n",
                slot->said_hello ? slot->status.kernels : "not there yet", slot->doing,
                cllm_load_relaxed(&slot->status.filled),
                cllm_format_bytes(bytes, cllm_load_relaxed(&slot->status.read_bytes)));
    }
    (void)fprintf(out, "%5s %-9s%12s%10s%6s%7s%6s\n", "SLOT", "STATE", "BATCH", "STEP",
                  "LANE", "MICRO", "GEN");
    for (uint32_t i = 0; i < ring->n_rows; i++)
        ring_row(out, &ring->row[i], i);
}
