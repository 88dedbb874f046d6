/*
 * coordinator/step.h - one training step: compute, fold, norm, update, evaluate, commit.
 *
 * A state machine over the lane and chunk tables. Phases are left when a predicate over
 * states holds ("all lanes folded"), so a death changes who is assigned, never what is
 * waited for. Nothing in here waits, starts processes, or knows time: events go in
 * (cllm_step_take, cllm_step_revoke), assignments come out (cllm_step_assign).
 */
#ifndef CLLM_COORDINATOR_STEP_H
#define CLLM_COORDINATOR_STEP_H

#include "base/config.h"
#include "coordinator/sweep.h"
#include "shm/control.h"

/* The step cannot go on as it is; done as soon as nobody owes an answer about chunks. */
enum cllm_step_turn {
    CLLM_TURN_NO = 0,
    CLLM_TURN_VERIFY, /* from the committed version once more (T2), after all of it has
                         been hashed */
    CLLM_TURN_SKIP,   /* the next version is a copy of the committed one */
};

struct cllm_step {
    struct cllm_control *control;
    const struct cllm_config *config;
    uint32_t workers;
    uint64_t numerics; /* of the kernel path; into every record */

    uint64_t step; /* being computed; 0 = version 0 is being made */
    struct cllm_sweep sweep;
    enum cllm_step_turn turn;
    enum cllm_skip skip; /* why, once it was decided */
    bool verified;       /* what is committed, since the step was opened */
    uint32_t
        group_fold; /* fold that holds the present group's sum; CLLM_NONE = none yet */
    uint32_t total_fold; /* fold that holds the finished groups' sum */
    uint32_t run_hi;     /* lanes [0, run_hi) will be folded when the active run is */

    struct cllm_step_record record; /* of this step, filled on the way */
};

/* What the step machine must be told about the rest of the world. */
struct cllm_step_world {
    uint64_t filled; /* the loader's watermark */
    bool eval_ready; /* all validation batches are in the ring */
    bool
        target_pinned; /* the saver still reads the version that the update would write */
    uint32_t idle;     /* workers without work */
};

enum cllm_step_outcome {
    CLLM_STEP_GOING = 0,
    CLLM_STEP_PINNED,    /* all that is left waits for the saver */
    CLLM_STEP_COMPLETE,  /* commit it */
    CLLM_STEP_NONFINITE, /* loss or gradient is not finite; error text says where */
    CLLM_STEP_DAMAGED,   /* the committed version is not what was committed; error text */
};

/* What came of a report, for whoever knows processes. */
struct cllm_step_news {
    bool refetch;          /* a batch was damaged in the ring: the loader starts again */
    bool late;             /* nobody waited for it */
    bool redo;             /* a lane's results are in doubt: the step is done again */
    uint32_t confirm;      /* lane that another worker must confirm; CLLM_NONE = none */
    uint32_t lane, odd[2]; /* slots that were outvoted over @lane; CLLM_NONE = none */
    enum cllm_skip skipping; /* the step is being skipped from now on */
};

void cllm_step_init(struct cllm_step *step, struct cllm_control *control,
                    const struct cllm_config *config, uint32_t workers);

/* Make version 0 from the seed: complete when all chunks are initialised. */
void cllm_step_open_initial(struct cllm_step *step);

/* Load a checkpoint: @record is what the run goes on from; the saver fills its version.
 */
void cllm_step_open_load(struct cllm_step *step, const struct cllm_step_record *record);

/* Begin the step after @committed. */
void cllm_step_open(struct cllm_step *step, const struct cllm_step_record *committed);

/* Move on as far as states allow. */
enum cllm_step_outcome cllm_step_advance(struct cllm_step *step,
                                         const struct cllm_step_world *world);

/*
 * A new Node Zero takes the step after @committed over, all processes of the old one
 * confirmed dead: reports that are there are taken, lanes that are finished or folded
 * stay so, a validation goes on. With @suspect nothing but the committed version is
 * trusted, and that is verified. What every slot owed is void afterwards. Returns the
 * number of lanes that need not be computed again.
 */
uint32_t cllm_step_adopt(struct cllm_step *step, const struct cllm_step_record *committed,
                         bool suspect);

/*
 * A fault signal ended a worker, or two found different bits: nothing but what was
 * committed is trusted, and that is verified. Do the step again.
 */
void cllm_step_suspect(struct cllm_step *step);

/* The open step changes no parameter, because of @why: its version is a copy. */
void cllm_step_skip(struct cllm_step *step, enum cllm_skip why);

/* A lane is POISONED: follow the policy. Returns 0, or a negative code with text. */
int cllm_step_poisoned(struct cllm_step *step, uint32_t lane);

/*
 * Give @slot one more piece of work; false when there is none for it now. Lanes assigned
 * before @overdue_ns may be computed twice (0 = none).
 */
bool cllm_step_assign(struct cllm_step *step, uint32_t slot, uint64_t overdue_ns);

/* Work that is left is so much that a second assignment ahead makes sense. */
bool cllm_step_plenty(const struct cllm_step *step);

/*
 * A valid report of @slot, the answer to @asked. Returns 0 with *@news filled, or a
 * negative code with text that ends the run.
 */
int cllm_step_take(struct cllm_step *step, uint32_t slot,
                   const struct cllm_assignment *asked, const struct cllm_report *report,
                   struct cllm_step_news *news);

/* Will the step wait for an answer of @slot, or for its death? */
bool cllm_step_needs(const struct cllm_step *step, uint32_t slot);

/* All that the step waits for is that @slot, which was given up, is confirmed dead. */
bool cllm_step_waits_for_death(const struct cllm_step *step, uint32_t slot);

/* Seal: step->record is complete, root hash included, and nothing is published yet. */
void cllm_step_seal(struct cllm_step *step);

/*
 * Commit what was sealed: record, then the committed counter. Release; afterwards another
 * step may be opened.
 */
void cllm_step_commit(struct cllm_step *step);

/* Does the committed step @record end with a validation? */
bool cllm_step_evaluates(const struct cllm_config *config, uint64_t step);

#endif /* CLLM_COORDINATOR_STEP_H */
