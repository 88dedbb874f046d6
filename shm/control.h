/*
 * shm/control.h - the control object of a run: made by Node Zero, mapped by everybody.
 *
 * Node Zero maps it writable. A child maps it read-only and, besides, writable windows of
 * its own pages with its bell and of the fault points (base/fault.h), and nothing else.
 * Tools map it read-only.
 */
#ifndef CLLM_SHM_CONTROL_H
#define CLLM_SHM_CONTROL_H

#include "shm/layout.h"
#include "shm/region.h"

struct cllm_control {
    struct cllm_region region;
    struct cllm_region window;       /* child: own pages and bell of its slot */
    struct cllm_region fault_window; /* child: fault points */
    uint32_t slot;                   /* child: its slot; else CLLM_NONE */

    /* into the region; const where this process must not write (Node Zero casts by
     * create) */
    struct cllm_header *header;
    struct cllm_state *state;
    struct cllm_step_record *record; /* [CLLM_N_RECORDS] */
    struct cllm_lane *lane;          /* [lanes] */
    struct cllm_chunk *chunk;        /* [n_chunks] */
    struct cllm_event *event;        /* [CLLM_N_EVENTS] */
    struct cllm_slot *slots;         /* [n_slots] */
    struct cllm_fault_page *faults;  /* a child: into its window */
    const char *config;              /* .ini text */
    const char *manifest;            /* shard table */

    /* into the window */
    struct cllm_own *own;
    struct cllm_crash_record *crash;
    struct cllm_bell *bell;
};

/* What of a run the creator decides. Texts are copied. */
struct cllm_control_plan {
    const char *run_id;
    const char *run_dir; /* absolute */
    const char *config;
    const char *manifest;
    uint64_t config_hash, manifest_hash;
    struct cllm_geometry geometry;
};

enum cllm_attach {
    CLLM_ATTACH_OK = 0,
    CLLM_ATTACH_NONE,    /* no such run in shared memory */
    CLLM_ATTACH_NOT_YET, /* half made: try again until your deadline; or its creator died
                          */
    CLLM_ATTACH_BAD,     /* another layout, or damaged; error text shows both sides */
    CLLM_ATTACH_ERROR    /* the system said no; error text */
};

/* Bytes of the control object of @plan. */
uint64_t cllm_control_bytes(const struct cllm_control_plan *plan);

/*
 * Create the control object, all sections filled or zeroed, bells initialised, not yet
 * READY. Returns 0 or a negative errno with text (-EEXIST: a run of that id is in shared
 * memory).
 */
int cllm_control_create(struct cllm_control *control,
                        const struct cllm_control_plan *plan);

/* Last step of creation: READY. Release; pairs with the acquire in cllm_control_attach().
 */
void cllm_control_publish(struct cllm_control *control);

/* Map the control object of @run_id. @slot is the child's slot, CLLM_NONE for a reader.
 */
enum cllm_attach cllm_control_attach(struct cllm_control *control, const char *run_id,
                                     uint32_t slot);

/*
 * What attach does with a mapping: check the header in @region (of at least
 * sizeof(struct cllm_header) bytes) and point @control into it. OK moves the region into
 * @control; anything else leaves it to the caller.
 */
enum cllm_attach cllm_control_use(struct cllm_control *control,
                                  const struct cllm_region *region);

/* Map an existing control object writable, as Node Zero that adopts a run. */
enum cllm_attach cllm_control_adopt(struct cllm_control *control, const char *run_id);

/*
 * All slots without a process, all bells silent: at creation, and when a run is adopted
 * after every process of it is confirmed dead. Generations, deaths and obituaries stay.
 * Returns 0 or a negative errno with text.
 */
int cllm_control_clear_slots(struct cllm_control *control);

void cllm_control_detach(struct cllm_control *control);

/*
 * Node Zero: write record @index (0 and 1 by the parity of the step, or CLLM_RECORD_OPEN)
 * or make it invalid. Others may read it meanwhile: they find the old one, an invalid one
 * or the new one.
 */
void cllm_control_put_record(struct cllm_control *control, uint32_t index,
                             const struct cllm_step_record *record);
void cllm_control_void_record(struct cllm_control *control, uint32_t index);

/*
 * The newest valid step record, copied out; NULL arguments are not allowed. False when
 * neither is valid (nothing committed yet).
 */
bool cllm_control_newest_record(const struct cllm_control *control,
                                struct cllm_step_record *out);

/* Is the version of @step the one that its params object holds, whole and committed? */
bool cllm_control_holds(const struct cllm_control *control, uint64_t step);

/* Hash of a record's bytes before its sum; what record.sum must equal. */
uint64_t cllm_step_record_sum(const struct cllm_step_record *record);

/* Append a line for people to the event log in shared memory. Node Zero only. */
void cllm_control_event(struct cllm_control *control, const char *text);

/* Is the process that Node Zero's state names alive (pid and start time agree)? */
bool cllm_control_alive(const struct cllm_control *control);

/* Field 22 of /proc/@pid/stat; 0 when there is no such process, or it has ended. */
uint64_t cllm_process_start_ticks(uint64_t pid);

/* The id of the run in directory @run_dir, an absolute path without links: "<last part of
 * the directory>-<8 hex digits of its whole path>". */
void cllm_run_id_of(char out[CLLM_RUN_ID_BYTES], const char *run_dir);

/* Names of the tensor objects: params 0/1, lane buffer i, fold i, ring. */
void cllm_params_name(char out[CLLM_REGION_NAME_BYTES], const char *run_id,
                      uint32_t version);
void cllm_buffer_name(char out[CLLM_REGION_NAME_BYTES], const char *run_id,
                      uint32_t buffer);
void cllm_fold_name(char out[CLLM_REGION_NAME_BYTES], const char *run_id, uint32_t fold);
void cllm_ring_name(char out[CLLM_REGION_NAME_BYTES], const char *run_id);

/* Do lanes stay in their buffers until the update, which adds them up itself? */
static inline bool cllm_lanes_kept(const struct cllm_geometry *geometry)
{
    return geometry->n_folds == 0;
}

/* Create all tensor objects and the ring (unmapped), or unlink everything of a run. */
int cllm_objects_create(const char *run_id, const struct cllm_geometry *geometry);

/* Is every object there, and as large as it must be? 0; -ENOENT with a text that names
 * the first that is not, because somebody began to remove the run; another negative code
 * when that cannot be found out. */
int cllm_objects_check(const char *run_id, const struct cllm_geometry *geometry);

void cllm_objects_unlink(const char *run_id, const struct cllm_geometry *geometry);

#endif /* CLLM_SHM_CONTROL_H */
