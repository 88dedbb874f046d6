/*
 * base/fault.h - named places where a test may let a process die, stop or meet an error.
 *
 * Every place where a death or a failed system call could hurt carries a fault point. All
 * builds have them: an unarmed point costs one load and one branch that is never taken.
 * Points are armed in a page that all processes of a run share, and count down there, so
 * that "the third time somebody comes by" means the third time in the whole run, whoever
 * comes, and a process that is started again does not meet the same fault again.
 *
 * base/fault.def is the list. CLLM_FAULTS in the environment of cllm-coord arms points of
 * a run, in that of cllm-prep its own; the text is described at cllm_fault_arm().
 */
#ifndef CLLM_BASE_FAULT_H
#define CLLM_BASE_FAULT_H

#include <assert.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/base.h"

#define CLLM_FAULT_ENVIRONMENT "CLLM_FAULTS"
#define CLLM_FAULT_ROOM        240        /* points that a page has room for */
#define CLLM_FAULT_ANY         UINT32_MAX /* every slot */

enum cllm_fault_point {
#define FAULT(id, roles, kind, text) CLLM_FAULT_##id,
#include "base/fault.def"
#undef FAULT
    CLLM_FAULT_LAST
};
static_assert(CLLM_FAULT_LAST <= CLLM_FAULT_ROOM, "a page has room for every point");

/* Who comes by. The first four have the numbers of enum cllm_role. */
enum cllm_fault_role {
    CLLM_FAULT_NODE_ZERO = 0,
    CLLM_FAULT_WORKER,
    CLLM_FAULT_LOADER,
    CLLM_FAULT_SAVER,
    CLLM_FAULT_GUARDIAN,
    CLLM_FAULT_PREP, /* cllm-prep, which belongs to no run */
    CLLM_FAULT_ROLES
};

/* What a point can do besides ending, stopping or delaying its process. */
enum cllm_fault_kind {
    CLLM_FAULT_PLACE, /* nothing */
    CLLM_FAULT_ERROR, /* a call that returns an error instead of being made */
    CLLM_FAULT_IO,    /* likewise, or that moves fewer bytes than it was asked to */
    CLLM_FAULT_DATA,  /* what was computed is wrong from here on */
    CLLM_FAULT_KINDS
};

enum cllm_fault_action {
    CLLM_FAULT_OFF = 0,
    CLLM_FAULT_COUNT, /* only count who comes by */
    CLLM_FAULT_KILL,  /* SIGKILL */
    CLLM_FAULT_SEGV,  /* a store to an address that is not mapped */
    CLLM_FAULT_ABORT,
    CLLM_FAULT_STOP, /* SIGSTOP */
    CLLM_FAULT_HANG, /* computes for ever */
    CLLM_FAULT_SLEEP,
    CLLM_FAULT_EXIT,
    CLLM_FAULT_ERRNO, /* not of CLLM_FAULT_PLACE */
    CLLM_FAULT_SHORT, /* of CLLM_FAULT_IO */
    CLLM_FAULT_FLIP,  /* of CLLM_FAULT_DATA */
    CLLM_FAULT_ACTIONS
};

/* Everybody may write all of it; the counters are atomic, the rest is written before. */
struct cllm_fault_entry {
    uint32_t roles;         /* bits 1 << enum cllm_fault_role that it is meant for */
    uint32_t slot;          /* that it is meant for, or CLLM_FAULT_ANY */
    int32_t argument;       /* errno, exit code, milliseconds */
    uint32_t times;         /* it acts so often, one time after the other */
    _Atomic int64_t left;   /* it acts when it counts this down from 1, 0, -1 ... */
    _Atomic uint32_t fired; /* times that it has acted */
    uint32_t pad0;
    _Atomic uint32_t hits[CLLM_FAULT_ROLES]; /* while it was armed, each role */
    uint32_t pad1[2];
};
static_assert(sizeof(struct cllm_fault_entry) == 64, "an entry is one line");

/* Zeros: nothing is armed. */
struct cllm_fault_page {
    /* enum cllm_fault_action; all that an unarmed point looks at */
    _Atomic uint32_t armed[CLLM_FAULT_ROOM];
    struct cllm_fault_entry entry[CLLM_FAULT_ROOM];
    uint8_t pad0[64];
};
static_assert(sizeof(struct cllm_fault_page) == 4 * CLLM_PAGE, "no hidden padding");

/* The page that this process looks at; never NULL. Only for the functions below. */
extern struct cllm_fault_page *cllm_fault_page;

/*
 * From now on @page, zeroed or shared with others, is the one this process looks at.
 * What was armed in this process before (cllm_fault_arm() with NULL) moves there,
 * in place of all that was armed in it; without any, @page stays as it is. @slot is
 * CLLM_FAULT_ANY for a process that has none.
 */
void cllm_fault_attach(struct cllm_fault_page *page, enum cllm_fault_role role,
                       uint32_t slot);

/* @page goes away: if this process looked at it, it looks at its own again. */
void cllm_fault_detach(const struct cllm_fault_page *page);

/*
 * Disarm all points of @page (NULL: of the page that this process looks at), then arm
 * those of @text:
 *
 *     POINT:ACTION[=ARGUMENT][:N[*TIMES][:WHO]][,...]
 *
 * POINT is a name of base/fault.def, or "all" (only with count). ACTION is count, kill,
 * segv, abort, stop, hang, sleep=MS, exit=CODE, errno=NAME, short or flip. It acts when
 * somebody comes by for the N-th time (1), and TIMES - 1 times after that. WHO is a slot,
 * or a role (node-zero, worker, loader, saver, guardian, prep); others pass and do not
 * count. A point stands at most once in a text. "" arms nothing. Returns the number of
 * points that are armed, or CLLM_ECONFIG with text; nothing is armed then.
 */
int cllm_fault_arm(struct cllm_fault_page *page, const char *text);

/* Is any point armed in the page that this process looks at? */
bool cllm_fault_any(void);

/*
 * This process is a @role; arm what CLLM_FAULTS of the environment says, as
 * cllm_fault_arm() with NULL.
 */
int cllm_fault_arm_environment(enum cllm_fault_role role);

/* Id, roles (bits), kind and sentence of a point: a row of base/fault.def. */
struct cllm_fault_row {
    const char *name, *text;
    uint32_t roles;
    enum cllm_fault_kind kind;
};
const struct cllm_fault_row *cllm_fault_row(enum cllm_fault_point point);
const char *cllm_fault_role_name(enum cllm_fault_role role);

/* Somebody comes by an armed point. 0, what cllm_fault_io() returns, or 1 for a flip. */
__attribute__((cold, noinline)) int cllm_fault_hit(enum cllm_fault_point point,
                                                   size_t *bytes);

static inline bool cllm_fault_armed(enum cllm_fault_point point)
{
    return __builtin_expect(cllm_load_relaxed(&cllm_fault_page->armed[point]) != 0, 0);
}

/* A place: what is armed here happens now. */
static inline void cllm_fault(enum cllm_fault_point point)
{
    if (cllm_fault_armed(point))
        (void)cllm_fault_hit(point, NULL);
}

/* In front of a call that can fail: 0 to make it, a negative errno to fail as if it had
 * been made. */
static inline int cllm_fault_error(enum cllm_fault_point point)
{
    return cllm_fault_armed(point) ? cllm_fault_hit(point, NULL) : 0;
}

/* Likewise in front of a call that moves *@bytes bytes; they may become fewer, but not
 * none. */
static inline int cllm_fault_io(enum cllm_fault_point point, size_t *bytes)
{
    return cllm_fault_armed(point) ? cllm_fault_hit(point, bytes) : 0;
}

/* After something was computed: shall a bit of it be wrong, as where a processor errs? */
static inline bool cllm_fault_flips(enum cllm_fault_point point)
{
    return cllm_fault_armed(point) && cllm_fault_hit(point, NULL) > 0;
}

#endif /* CLLM_BASE_FAULT_H */
