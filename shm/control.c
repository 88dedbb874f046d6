/*
 * shm/control.c - make, publish and map the control object.
 *
 * Attaching trusts nothing: magic, version, layout hash, sizes and the bounds of every
 * section are checked before a pointer into the object is made.
 */
#include "shm/control.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/hash.h"

static_assert((int)CLLM_FAULT_WORKER == (int)CLLM_ROLE_WORKER, "roles agree");
static_assert((int)CLLM_FAULT_LOADER == (int)CLLM_ROLE_LOADER, "roles agree");
static_assert((int)CLLM_FAULT_SAVER == (int)CLLM_ROLE_SAVER, "roles agree");

#define NEWEST_TRIES 8

static uint64_t header_sum(const struct cllm_header *header)
{
    return cllm_hash(header, offsetof(struct cllm_header, sum), CLLM_LAYOUT_MAGIC);
}

static uint64_t texts_sum(const struct cllm_header *header, const void *config,
                          const void *manifest)
{
    return cllm_hash(manifest, header->manifest_bytes,
                     cllm_hash(config, header->config_bytes, 0));
}

uint64_t cllm_step_record_sum(const struct cllm_step_record *record)
{
    return cllm_hash(record, offsetof(struct cllm_step_record, sum), record->step);
}

uint64_t cllm_process_start_ticks(uint64_t pid)
{
    char path[64], text[1024];
    const char *at;
    uint64_t ticks = 0;
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof path, "/proc/%" PRIu64 "/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof text - 1);
    (void)close(fd); /* read only */
    if (n <= 0)
        return 0;
    text[n] = '\0';
    /* The command name may hold anything; the fields begin after its last ')', with
     * field 3. */
    at = strrchr(text, ')');
    if (at && (at[1] == '\0' || at[2] == 'Z' || at[2] == 'X'))
        return 0; /* ended, and only not reaped yet */
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (at)
        ticks = strtoull(at + 1, NULL, 10);
    return ticks;
}

static void read_boot_id(char *out, size_t bytes)
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

    out[0] = '\0';
    if (!file)
        return;
    if (fgets(out, (int)bytes, file))
        out[strcspn(out, "\n")] = '\0';
    (void)fclose(file); /* read only */
}

/* Offsets of all sections; returns the size of the whole. */
static uint64_t place_sections(struct cllm_header *header)
{
    const struct cllm_geometry *g = &header->geometry;
    uint64_t off = CLLM_PAGE;

    header->state_off = off;
    off += CLLM_PAGE;
    header->records_off = off;
    off += CLLM_PAGE;
    header->lanes_off = off;
    off += cllm_align_up(g->lanes * sizeof(struct cllm_lane), CLLM_PAGE);
    header->chunks_off = off;
    off += cllm_align_up(g->n_chunks * sizeof(struct cllm_chunk), CLLM_PAGE);
    header->events_off = off;
    off += cllm_align_up(CLLM_N_EVENTS * sizeof(struct cllm_event), CLLM_PAGE);
    header->faults_off = off;
    off += sizeof(struct cllm_fault_page);
    header->slots_off = off;
    off += g->n_slots * sizeof(struct cllm_slot);
    header->config_off = off;
    off += cllm_align_up(header->config_bytes, CLLM_PAGE);
    header->manifest_off = off;
    off += cllm_align_up(header->manifest_bytes, CLLM_PAGE);
    return off;
}

static void plan_header(struct cllm_header *header, const struct cllm_control_plan *plan)
{
    memset(header, 0, sizeof *header);
    header->geometry = plan->geometry;
    header->config_bytes = strlen(plan->config) + 1;
    header->manifest_bytes = strlen(plan->manifest) + 1;
    header->total_bytes = place_sections(header);
}

uint64_t cllm_control_bytes(const struct cllm_control_plan *plan)
{
    struct cllm_header header;

    plan_header(&header, plan);
    return header.total_bytes;
}

/* Pointers into a mapped object whose header has been checked or just made. */
static void point(struct cllm_control *control)
{
    uint8_t *base = control->region.base;
    struct cllm_header *header = (struct cllm_header *)(void *)base;

    control->header = header;
    control->state = (struct cllm_state *)(void *)(base + header->state_off);
    control->record = (struct cllm_step_record *)(void *)(base + header->records_off);
    control->lane = (struct cllm_lane *)(void *)(base + header->lanes_off);
    control->chunk = (struct cllm_chunk *)(void *)(base + header->chunks_off);
    control->event = (struct cllm_event *)(void *)(base + header->events_off);
    control->faults = (struct cllm_fault_page *)(void *)(base + header->faults_off);
    control->slots = (struct cllm_slot *)(void *)(base + header->slots_off);
    control->config = (const char *)(base + header->config_off);
    control->manifest = (const char *)(base + header->manifest_off);
}

int cllm_control_clear_slots(struct cllm_control *control)
{
    const struct cllm_geometry *g = &control->header->geometry;

    for (uint32_t i = 0; i < g->n_slots; i++) {
        struct cllm_command *command = &control->slots[i].command;

        cllm_fault(CLLM_FAULT_control_slot);
        command->role = i < g->n_worker_slots    ? CLLM_ROLE_WORKER
                        : i == g->n_worker_slots ? CLLM_ROLE_LOADER
                                                 : CLLM_ROLE_SAVER;
        command->parent = CLLM_NONE;
        command->state = command->retired ? CLLM_SLOT_DISABLED : CLLM_SLOT_EMPTY;
        command->pid = 0;
        command->posted = 0;
        command->reported = 0;
        if (sem_init(&control->slots[i].bell.semaphore, 1, 0) != 0)
            return cllm_err(-errno, "cannot make the bell of slot %u", i);
    }
    return 0;
}

int cllm_control_create(struct cllm_control *control,
                        const struct cllm_control_plan *plan)
{
    char name[CLLM_REGION_NAME_BYTES];
    struct cllm_header header;
    int rc;

    *control = (struct cllm_control){.slot = CLLM_NONE};
    if (strlen(plan->run_id) >= CLLM_RUN_ID_BYTES ||
        strlen(plan->run_dir) >= CLLM_PATH_BYTES) {
        rc = cllm_err(CLLM_ECONFIG, "run directory %s: path too long", plan->run_dir);
        cllm_err_hint("at most %d bytes", CLLM_PATH_BYTES - 1);
        return rc;
    }
    plan_header(&header, plan);
    header.magic = CLLM_LAYOUT_MAGIC;
    header.layout_version = CLLM_LAYOUT_VERSION;
    header.layout_hash = cllm_layout_hash();
    (void)snprintf(header.run_id, sizeof header.run_id, "%s", plan->run_id);
    (void)snprintf(header.run_dir, sizeof header.run_dir, "%s", plan->run_dir);
    read_boot_id(header.boot_id, sizeof header.boot_id);
    header.created_unix_s = (int64_t)time(NULL);
    header.creator_pid = (uint64_t)getpid();
    header.creator_start_ticks = cllm_process_start_ticks(header.creator_pid);
    header.config_hash = plan->config_hash;
    header.manifest_hash = plan->manifest_hash;
    header.texts_sum = texts_sum(&header, plan->config, plan->manifest);
    header.sum = header_sum(&header);

    cllm_region_name(name, plan->run_id, "control");
    rc = cllm_region_create(&control->region, name, header.total_bytes);
    if (rc != 0)
        return rc;
    memcpy(control->region.base, &header, offsetof(struct cllm_header, ready));
    point(control);
    cllm_fault_attach(control->faults, CLLM_FAULT_NODE_ZERO, CLLM_FAULT_ANY);
    cllm_fault(CLLM_FAULT_control_header);
    memcpy(control->region.base + header.config_off, plan->config, header.config_bytes);
    memcpy(control->region.base + header.manifest_off, plan->manifest,
           header.manifest_bytes);
    cllm_fault(CLLM_FAULT_control_texts);
    rc = cllm_control_clear_slots(control);
    cllm_fault(CLLM_FAULT_control_made);
    if (rc != 0) {
        cllm_fault_detach(control->faults);
        cllm_region_close(&control->region);
        (void)cllm_region_unlink(name);
    }
    return rc;
}

void cllm_control_publish(struct cllm_control *control)
{
    cllm_fault(CLLM_FAULT_control_publish);
    /* release: pairs with the acquire in check_header() */
    cllm_store_release(&control->header->ready, CLLM_LAYOUT_MAGIC);
    cllm_fault(CLLM_FAULT_control_ready);
}

static bool section_fits(const struct cllm_header *header, uint64_t off, uint64_t bytes)
{
    return off % CLLM_PAGE == 0 && off <= header->total_bytes &&
           bytes <= header->total_bytes - off;
}

/* Do the sections stand where their sizes put them, and inside the object? */
static bool sections_agree(const struct cllm_header *header)
{
    struct cllm_header again = *header;

    if (header->geometry.lanes > CLLM_MAX_LANES ||
        header->geometry.n_chunks > (1u << 24) ||
        header->geometry.n_slots > CLLM_MAX_WORKERS + 2 ||
        header->geometry.n_worker_slots + 2 != header->geometry.n_slots ||
        header->config_bytes == 0 || header->manifest_bytes == 0 ||
        header->config_bytes > (1u << 28) || header->manifest_bytes > (1u << 28))
        return false;
    if (place_sections(&again) != header->total_bytes)
        return false;
    return again.slots_off == header->slots_off &&
           again.chunks_off == header->chunks_off &&
           again.config_off == header->config_off &&
           again.manifest_off == header->manifest_off &&
           again.lanes_off == header->lanes_off && again.state_off == header->state_off &&
           again.records_off == header->records_off &&
           again.events_off == header->events_off &&
           again.faults_off == header->faults_off &&
           section_fits(header, header->manifest_off, header->manifest_bytes);
}

static enum cllm_attach check_header(const struct cllm_region *region)
{
    const struct cllm_header *header =
        (const struct cllm_header *)(const void *)region->base;

    /* acquire: pairs with the release in cllm_control_publish() */
    if (cllm_load_acquire(&header->ready) != CLLM_LAYOUT_MAGIC ||
        header->magic != CLLM_LAYOUT_MAGIC) {
        (void)cllm_err(-EAGAIN, "%s is not a finished control object", region->name);
        cllm_err_detail("ready word %" PRIx64 ", magic %" PRIx64 ", expected %" PRIx64,
                        (uint64_t)cllm_load_relaxed(&header->ready), header->magic,
                        CLLM_LAYOUT_MAGIC);
        return CLLM_ATTACH_NOT_YET;
    }
    if (header->layout_version != CLLM_LAYOUT_VERSION ||
        header->layout_hash != cllm_layout_hash()) {
        (void)cllm_err(-EPROTO, "%s was made by another build of CLLM", region->name);
        cllm_err_detail("layout version %u hash %016" PRIx64
                        ", this program has %u %016" PRIx64,
                        header->layout_version, header->layout_hash, CLLM_LAYOUT_VERSION,
                        cllm_layout_hash());
        cllm_err_hint("use the programs that started the run");
        return CLLM_ATTACH_BAD;
    }
    if (header->sum != header_sum(header) || header->total_bytes > region->bytes ||
        !sections_agree(header) ||
        region->base[header->config_off + header->config_bytes - 1] != '\0' ||
        region->base[header->manifest_off + header->manifest_bytes - 1] != '\0') {
        (void)cllm_err(-EBADMSG, "the header of %s is damaged", region->name);
        cllm_err_hint("cllm-shm clean removes it once its processes are gone");
        return CLLM_ATTACH_BAD;
    }
    return CLLM_ATTACH_OK;
}

enum cllm_attach cllm_control_use(struct cllm_control *control,
                                  const struct cllm_region *region)
{
    enum cllm_attach result = check_header(region);

    *control = (struct cllm_control){.slot = CLLM_NONE};
    if (result == CLLM_ATTACH_OK) {
        control->region = *region;
        point(control);
    }
    return result;
}

static enum cllm_attach attach(struct cllm_control *control, const char *run_id,
                               enum cllm_region_mode mode)
{
    struct cllm_region region = {0};
    char name[CLLM_REGION_NAME_BYTES];
    enum cllm_attach result;
    int rc;

    *control = (struct cllm_control){.slot = CLLM_NONE};
    cllm_region_name(name, run_id, "control");
    rc = cllm_region_open(&region, name, sizeof(struct cllm_header), mode);
    if (rc == -ENOENT)
        return CLLM_ATTACH_NONE;
    if (rc != 0)
        return rc == -EINVAL ? CLLM_ATTACH_NOT_YET : CLLM_ATTACH_ERROR;
    result = cllm_control_use(control, &region);
    if (result != CLLM_ATTACH_OK)
        cllm_region_close(&region);
    return result;
}

enum cllm_attach cllm_control_attach(struct cllm_control *control, const char *run_id,
                                     uint32_t slot)
{
    enum cllm_attach result = attach(control, run_id, CLLM_REGION_READ);
    size_t off;
    int rc;

    if (result != CLLM_ATTACH_OK || slot == CLLM_NONE)
        return result;
    if (slot >= control->header->geometry.n_slots) {
        (void)cllm_err(-EINVAL, "run %s has no slot %u", run_id, slot);
        cllm_control_detach(control);
        return CLLM_ATTACH_ERROR;
    }
    off = control->header->slots_off + slot * sizeof(struct cllm_slot) +
          offsetof(struct cllm_slot, own);
    rc = cllm_region_open_window(
        &control->window, control->region.name, off,
        sizeof(struct cllm_slot) - offsetof(struct cllm_slot, own), "own");
    if (rc == 0)
        rc = cllm_region_open_window(&control->fault_window, control->region.name,
                                     control->header->faults_off, sizeof *control->faults,
                                     "faults");
    if (rc != 0) {
        cllm_control_detach(control);
        return CLLM_ATTACH_ERROR;
    }
    control->slot = slot;
    control->faults = (struct cllm_fault_page *)(void *)control->fault_window.base;
    control->own = (struct cllm_own *)(void *)control->window.base;
    control->crash =
        (struct cllm_crash_record *)(void *)(control->window.base +
                                             offsetof(struct cllm_slot, crash) -
                                             offsetof(struct cllm_slot, own));
    control->bell = (struct cllm_bell *)(void *)(control->window.base +
                                                 offsetof(struct cllm_slot, bell) -
                                                 offsetof(struct cllm_slot, own));
    return CLLM_ATTACH_OK;
}

/* Children take their orders from the texts: a run whose texts rotted does not go on. */
static enum cllm_attach check_texts(struct cllm_control *control)
{
    if (control->header->texts_sum ==
        texts_sum(control->header, control->config, control->manifest))
        return CLLM_ATTACH_OK;
    (void)cllm_err(-EBADMSG, "the configuration or the manifest in %s is damaged",
                   control->region.name);
    cllm_err_hint("cllm-shm clean removes it once its processes are gone");
    cllm_control_detach(control);
    return CLLM_ATTACH_BAD;
}

enum cllm_attach cllm_control_adopt(struct cllm_control *control, const char *run_id)
{
    enum cllm_attach result = attach(control, run_id, CLLM_REGION_READ_WRITE);

    if (result == CLLM_ATTACH_OK)
        result = check_texts(control);
    if (result == CLLM_ATTACH_OK)
        cllm_fault_attach(control->faults, CLLM_FAULT_NODE_ZERO, CLLM_FAULT_ANY);
    return result;
}

void cllm_control_detach(struct cllm_control *control)
{
    cllm_fault_detach(control->faults);
    cllm_region_close(&control->fault_window);
    cllm_region_close(&control->window);
    cllm_region_close(&control->region);
    *control = (struct cllm_control){.slot = CLLM_NONE};
}

void cllm_control_void_record(struct cllm_control *control, uint32_t index)
{
    CLLM_ASSERT(index < CLLM_N_RECORDS);
    cllm_clear_words(&control->record[index].sum, sizeof control->record[index].sum);
    cllm_fence_release();
}

void cllm_control_put_record(struct cllm_control *control, uint32_t index,
                             const struct cllm_step_record *record)
{
    /* A torn record has a wrong sum. */
    cllm_control_void_record(control, index);
    cllm_write_words(&control->record[index], record, sizeof *record);
}

static bool look_for_newest(const struct cllm_control *control,
                            struct cllm_step_record *out)
{
    bool found = false;

    for (uint32_t i = 0; i < 2; i++) {
        struct cllm_step_record record;

        cllm_read_words(&record, &control->record[i], sizeof record);
        if (record.sum != cllm_step_record_sum(&record) || (record.step & 1) != i)
            continue;
        if (!found || record.step > out->step)
            *out = record;
        found = true;
    }
    return found;
}

bool cllm_control_newest_record(const struct cllm_control *control,
                                struct cllm_step_record *out)
{
    bool found = false;

    /* One of the two is valid at any instant, but they are looked at one after the other:
     * while the run goes on, both may have been caught being written. */
    for (uint32_t tries = 0; tries < NEWEST_TRIES; tries++) {
        /* acquire: pairs with the release of the commit */
        uint64_t committed = cllm_load_acquire(&control->state->committed);

        found = look_for_newest(control, out);
        if (found && out->step >= committed)
            break;
    }
    return found;
}

bool cllm_control_holds(const struct cllm_control *control, uint64_t step)
{
    struct cllm_step_record record;

    cllm_read_words(&record, &control->record[step & 1], sizeof record);
    return record.step == step && record.sum == cllm_step_record_sum(&record);
}

void cllm_control_event(struct cllm_control *control, const char *text)
{
    uint64_t newest = 0;
    struct cllm_event *event;
    struct timespec now;

    for (uint32_t i = 0; i < CLLM_N_EVENTS; i++)
        newest = cllm_max_u64(newest, cllm_load_relaxed(&control->event[i].seq));
    event = &control->event[newest % CLLM_N_EVENTS];
    cllm_store_relaxed(&event->seq, 0);
    cllm_fence_release();
    cllm_fault(CLLM_FAULT_event_cleared);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    event->unix_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    (void)snprintf(event->text, sizeof event->text, "%s", text);
    cllm_fault(CLLM_FAULT_event_filled);
    /* release: pairs with the acquire of tools that read events */
    cllm_store_release(&event->seq, newest + 1);
    cllm_fault(CLLM_FAULT_event_stored);
}

bool cllm_control_alive(const struct cllm_control *control)
{
    uint64_t pid = control->state->node_zero_pid;
    uint64_t ticks = control->state->node_zero_start_ticks;

    if (pid == 0) {
        pid = control->header->creator_pid;
        ticks = control->header->creator_start_ticks;
    }
    return ticks != 0 && cllm_process_start_ticks(pid) == ticks;
}
