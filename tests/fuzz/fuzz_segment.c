/*
 * tests/fuzz/fuzz_segment.c - an arbitrary control object, attached to and looked at with
 * everything that cllm-shm has.
 *
 * The image is that of a small run, made once and kept in plain memory, so that a look
 * costs no system call and one byte too far is seen. Input: flags, what to look with,
 * then changes: section, and a patch of it (fuzz_patch). The flags say which sums are
 * made right again after the changes. What was changed is put back from the sound image.
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/hash.h"
#include "shm/ring.h"
#include "tests/shm_run.h"
#include "tools/shm_crashes.h"
#include "tools/shm_json.h"
#include "tools/shm_ring.h"
#include "tools/shm_text.h"

enum {
    FIX_HEADER = 1,
    FIX_RECORDS = 2,
    FIX_CRASHES = 4,
    FIX_RING = 8,
    ALIVE = 0x30, /* both: Node Zero is this process */
    FRESH = 0x40, /* and its heartbeat is new */
};

/* JSON costs most of the time, so it has a quarter of the looks. */
enum { SHOW, LANES, CRASHES, RING, N_LOOKS, JSON = 4, JSON_MASK = 12 };

struct image {
    uint8_t *sound, *bytes; /* heap */
    size_t size;
};

/* What was changed and must be put back. */
struct patch {
    struct image *image;
    size_t off, bytes;
};

#define MOST_PATCHES 64

#define N_EVENTS       2
#define N_SLOTS        5 /* of the run that the image shows */
#define FIRST_SLOT     6 /* sections before the slots' pages */
#define N_SECTIONS     (FIRST_SLOT + 4 * N_SLOTS + 3)
#define RING_SECTION   (N_SECTIONS - 1)
#define SUMMED(type)   offsetof(struct type, sum)
#define AT(image, off) ((void *)((image)->bytes + (off)))

static struct image control_image, ring_image;
static struct patch patches[MOST_PATCHES];
static const struct cllm_header *sound; /* header of control_image.sound */
static uint64_t our_ticks;
static struct cllm_shm_object object = {.name = "cllm-0-fuzz-control", .part_off = 12};
static struct cllm_shm_run run = {
    .id = "fuzz", .object = &object, .n_objects = 1, .has_control = true};

/* Keep a copy of the mapped @region, and a second one to be changed. */
static void keep(struct image *image, const struct cllm_region *region)
{
    image->size = region->bytes;
    image->sound = aligned_alloc(CLLM_PAGE, image->size);
    image->bytes = aligned_alloc(CLLM_PAGE, image->size);
    CLLM_ASSERT(image->sound && image->bytes);
    memcpy(image->sound, region->base, image->size);
    memcpy(image->bytes, region->base, image->size);
}

/* What differs from one start to the next does not belong into an image. */
static void settle(struct image *image)
{
    struct cllm_header *header = (struct cllm_header *)(void *)image->sound;
    struct cllm_state *state = (void *)(image->sound + header->state_off);
    struct cllm_event *event = (void *)(image->sound + header->events_off);
    struct cllm_slot *slot = (void *)(image->sound + header->slots_off);

    header->creator_pid = header->creator_start_ticks = 0;
    header->created_unix_s = 1700000000;
    header->sum = cllm_hash(header, SUMMED(cllm_header), CLLM_LAYOUT_MAGIC);
    state->node_zero_pid = 0;
    state->node_zero_start_ticks = 0;
    cllm_store_relaxed(&state->heartbeat_ns, 2000);
    cllm_store_relaxed(&state->started_ns, 1000);
    fuzz_sound_crash(&slot->crash);
    slot->crash.sum = cllm_crash_sum(&slot->crash);
    for (uint32_t i = 0; i < CLLM_N_EVENTS; i++) {
        event[i].unix_ns = INT64_C(1700000000000000000);
        if (i >= N_EVENTS) /* printing more of them costs most of a look */
            cllm_store_relaxed(&event[i].seq, 0);
    }
    memcpy(image->bytes, image->sound, image->size);
}

static void make_images(void)
{
    struct cllm_geometry geometry = shm_run_geometry();
    struct cllm_control control;
    struct cllm_ring ring;

    (void)shm_run_setup(NULL);
    shm_run_make(shm_run_id, true);
    CLLM_ASSERT(cllm_control_attach(&control, shm_run_id, CLLM_NONE) == CLLM_ATTACH_OK);
    CLLM_ASSERT(cllm_ring_open(&ring, shm_run_id, &geometry, false) == 0);
    CLLM_ASSERT(control.header->geometry.n_slots == N_SLOTS);
    keep(&control_image, &control.region);
    keep(&ring_image, &ring.region);
    cllm_ring_close(&ring);
    cllm_control_detach(&control);
    (void)shm_run_teardown(NULL);
    settle(&control_image);
    sound = (const struct cllm_header *)(const void *)control_image.sound;
    our_ticks = cllm_process_start_ticks((uint64_t)getpid());
}

/* Where section @number lies in its image. */
static struct image *find_section(uint32_t number, size_t *off, size_t *bytes)
{
    const uint64_t start[FIRST_SLOT + 1] = {
        0,
        sound->state_off,
        sound->records_off,
        sound->lanes_off,
        sound->chunks_off,
        sound->events_off,
        sound->slots_off,
    };
    const uint64_t texts = FIRST_SLOT + 4 * N_SLOTS;

    if (number == RING_SECTION) {
        *off = 0;
        *bytes = ring_image.size;
        return &ring_image;
    }
    *off = number < FIRST_SLOT ? start[number]
           : number < texts    ? sound->slots_off + (number - FIRST_SLOT) * CLLM_PAGE
           : number == texts   ? sound->config_off
                               : sound->manifest_off;
    *bytes = number < FIRST_SLOT ? start[number + 1] - *off : CLLM_PAGE;
    return &control_image;
}

static void restore(struct image *image, size_t off, size_t bytes)
{
    memcpy(image->bytes + off, image->sound + off, bytes);
}

/* All sums as they must be. They stand at the sound image's offsets: a header that says
 * otherwise is refused. */
static void fix(uint8_t flags)
{
    struct cllm_header *header = AT(&control_image, 0);
    struct cllm_step_record *record = AT(&control_image, sound->records_off);
    struct cllm_state *state = AT(&control_image, sound->state_off);
    struct cllm_slot *slot = AT(&control_image, sound->slots_off);
    struct cllm_ring_slot *batch = AT(&ring_image, 0);
    uint64_t batch_bytes = cllm_ring_batch_tokens(&sound->geometry) * sizeof(uint32_t);

    if (flags & FIX_HEADER) {
        header->sum = cllm_hash(header, SUMMED(cllm_header), CLLM_LAYOUT_MAGIC);
        cllm_store_relaxed(&header->ready, CLLM_LAYOUT_MAGIC);
    }
    for (int i = 0; flags & FIX_RECORDS && i < 2; i++)
        record[i].sum = cllm_step_record_sum(&record[i]);
    for (int i = 0; flags & FIX_CRASHES && i < N_SLOTS; i++)
        slot[i].crash.sum = cllm_crash_sum(&slot[i].crash);
    if (flags & FIX_RING)
        batch[0].sum = cllm_hash(AT(&ring_image, CLLM_PAGE), batch_bytes, batch[0].batch);
    if ((flags & ALIVE) == ALIVE) {
        state->node_zero_pid = (uint32_t)getpid();
        state->node_zero_start_ticks = our_ticks;
        if (flags & FRESH)
            cllm_store_relaxed(&state->heartbeat_ns, cllm_now_ns());
    }
}

/* Put back what fix() may have written. */
static void unfix(void)
{
    restore(&control_image, 0, sizeof(struct cllm_header));
    restore(&control_image, sound->state_off, sizeof(struct cllm_state));
    restore(&control_image, sound->records_off, 2 * sizeof(struct cllm_step_record));
    for (uint32_t i = 0; i < N_SLOTS; i++)
        restore(&control_image,
                sound->slots_off + i * sizeof(struct cllm_slot) +
                    offsetof(struct cllm_slot, crash) + SUMMED(cllm_crash_record),
                sizeof(uint64_t));
    restore(&ring_image, 0, sizeof(struct cllm_ring_slot));
}

static void look_at_ring(const struct cllm_shm_view *view, bool json)
{
    struct cllm_region region = {.base = ring_image.bytes, .bytes = ring_image.size};
    struct cllm_shm_ring rows;
    struct cllm_ring ring;

    if (cllm_ring_use(&ring, &region, &view->header.geometry) != 0 ||
        cllm_shm_ring_look(&rows, &ring) != 0)
        return;
    if (json)
        json_decref(cllm_shm_json_ring(view, &rows));
    else
        cllm_shm_text_ring(fuzz_sink(), view, &rows);
    cllm_shm_ring_fini(&rows);
}

static void look_at_crashes(const struct cllm_control *control, bool json)
{
    struct cllm_shm_crashes crashes;

    if (cllm_shm_crashes_copy(&crashes, control) != 0)
        return;
    if (json)
        json_decref(cllm_shm_crashes_json(&crashes));
    else
        cllm_shm_crashes_text(fuzz_sink(), &crashes);
    cllm_shm_crashes_fini(&crashes);
}

static void look_at_run(const struct cllm_shm_view *view, bool json)
{
    if (json) {
        json_decref(cllm_shm_json_list(view, 1));
        json_decref(cllm_shm_json_show(view));
        return;
    }
    cllm_shm_text_list(fuzz_sink(), view, 1);
    cllm_shm_text_trouble(fuzz_sink(), view);
    cllm_shm_text_show(fuzz_sink(), view);
}

static void look(const struct cllm_control *control, uint8_t with)
{
    bool json = (with & JSON_MASK) == JSON;
    struct cllm_step_record record;
    struct cllm_shm_view view;

    if (cllm_control_newest_record(control, &record))
        CLLM_ASSERT(record.sum == cllm_step_record_sum(&record));
    if (cllm_shm_view_copy(&view, &run, control) != 0)
        return;
    if (with % N_LOOKS == SHOW)
        look_at_run(&view, json);
    else if (with % N_LOOKS == CRASHES)
        look_at_crashes(control, json);
    else if (with % N_LOOKS == RING)
        look_at_ring(&view, json);
    else if (json)
        json_decref(cllm_shm_json_lanes(&view, true));
    else
        cllm_shm_text_lanes(fuzz_sink(), &view, true);
    cllm_shm_view_fini(&view);
}

/* Change the images as @in says; at most MOST_PATCHES times. Returns how often. */
static uint32_t patch(struct fuzz_reader *in)
{
    uint32_t n = 0;

    while (in->at < in->end && n < MOST_PATCHES) {
        struct patch *made = &patches[n++];
        size_t start, bytes, off;

        made->image = find_section(fuzz_u8(in) % N_SECTIONS, &start, &bytes);
        made->bytes = fuzz_patch(in, made->image->bytes + start, bytes, &off);
        made->off = start + off;
    }
    return n;
}

int fuzz_segment(const uint8_t *data, size_t size)
{
    struct fuzz_reader in = {data, data + size};
    struct cllm_region region;
    struct cllm_control control;
    uint8_t flags = fuzz_u8(&in), with = fuzz_u8(&in);
    uint32_t n;

    if (!sound)
        make_images();
    n = patch(&in);
    fix(flags);
    region =
        (struct cllm_region){.base = control_image.bytes, .bytes = control_image.size};
    if (cllm_control_use(&control, &region) == CLLM_ATTACH_OK) {
        fuzz_n_accepted++;
        look(&control, with);
    }
    unfix();
    while (n-- > 0)
        restore(patches[n].image, patches[n].off, patches[n].bytes);
    return 0;
}
