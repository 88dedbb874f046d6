/*
 * base/fault.c - the list of points as a table, the text that arms them, and what happens
 * at one that is armed.
 */
#include "base/fault.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

#define ITEM_BYTES 128

/* Nothing in it is armed unless cllm_fault_arm() was asked to before there was a run. */
static struct cllm_fault_page own_page;

struct cllm_fault_page *cllm_fault_page = &own_page;

static struct {
    enum cllm_fault_role role;
    uint32_t slot;
} self = {.role = CLLM_FAULT_NODE_ZERO, .slot = CLLM_FAULT_ANY};

/* ---- tables ---- */

#define ZERO     (1u << CLLM_FAULT_NODE_ZERO)
#define WORKER   (1u << CLLM_FAULT_WORKER)
#define LOADER   (1u << CLLM_FAULT_LOADER)
#define SAVER    (1u << CLLM_FAULT_SAVER)
#define GUARDIAN (1u << CLLM_FAULT_GUARDIAN)
#define PREP     (1u << CLLM_FAULT_PREP)
#define CHILDREN (WORKER | LOADER | SAVER)

static const struct cllm_fault_row row[] = {
#define FAULT(id, who, what, sentence) \
    [CLLM_FAULT_##id] = {              \
        .name = #id, .text = (sentence), .roles = (who), .kind = CLLM_FAULT_##what},
#include "base/fault.def"
#undef FAULT
};
static_assert(CLLM_LEN(row) == CLLM_FAULT_LAST, "a row for every point");

static const char *const role_name[] = {
    [CLLM_FAULT_NODE_ZERO] = "node-zero", [CLLM_FAULT_WORKER] = "worker",
    [CLLM_FAULT_LOADER] = "loader",       [CLLM_FAULT_SAVER] = "saver",
    [CLLM_FAULT_GUARDIAN] = "guardian",   [CLLM_FAULT_PREP] = "prep",
};
static_assert(CLLM_LEN(role_name) == CLLM_FAULT_ROLES, "name every role");

static const char *const action_name[] = {
    [CLLM_FAULT_OFF] = "off",     [CLLM_FAULT_COUNT] = "count",
    [CLLM_FAULT_KILL] = "kill",   [CLLM_FAULT_SEGV] = "segv",
    [CLLM_FAULT_ABORT] = "abort", [CLLM_FAULT_STOP] = "stop",
    [CLLM_FAULT_HANG] = "hang",   [CLLM_FAULT_SLEEP] = "sleep",
    [CLLM_FAULT_EXIT] = "exit",   [CLLM_FAULT_ERRNO] = "errno",
    [CLLM_FAULT_SHORT] = "short", [CLLM_FAULT_FLIP] = "flip",
};
static_assert(CLLM_LEN(action_name) == CLLM_FAULT_ACTIONS, "name every action");

/* The errors that tests ask for. */
static const struct {
    const char *name;
    int32_t number;
} errno_name[] = {
    {"EIO", EIO},       {"ENOSPC", ENOSPC}, {"EINTR", EINTR},   {"EAGAIN", EAGAIN},
    {"ENOMEM", ENOMEM}, {"EMFILE", EMFILE}, {"EACCES", EACCES}, {"EDQUOT", EDQUOT},
    {"EROFS", EROFS},   {"EBUSY", EBUSY},   {"EPERM", EPERM},   {"EINVAL", EINVAL},
    {"ENOLCK", ENOLCK},
};

const struct cllm_fault_row *cllm_fault_row(enum cllm_fault_point point)
{
    CLLM_ASSERT(point < CLLM_FAULT_LAST);
    return &row[point];
}

const char *cllm_fault_role_name(enum cllm_fault_role role)
{
    CLLM_ASSERT(role < CLLM_FAULT_ROLES);
    return role_name[role];
}

/* ---- the page ---- */

static void disarm_all(struct cllm_fault_page *page)
{
    for (uint32_t p = 0; p < CLLM_FAULT_ROOM; p++)
        cllm_store_relaxed(&page->armed[p], CLLM_FAULT_OFF);
}

/* The entry first, then the word that makes it visible. */
static void arm_point(struct cllm_fault_page *page, uint32_t point, uint32_t action,
                      const struct cllm_fault_entry *how)
{
    struct cllm_fault_entry *entry = &page->entry[point];

    entry->roles = how->roles;
    entry->slot = how->slot;
    entry->argument = how->argument;
    entry->times = how->times;
    cllm_store_relaxed(&entry->left, cllm_load_relaxed(&how->left));
    cllm_store_relaxed(&entry->fired, cllm_load_relaxed(&how->fired));
    for (uint32_t r = 0; r < CLLM_FAULT_ROLES; r++)
        cllm_store_relaxed(&entry->hits[r], cllm_load_relaxed(&how->hits[r]));
    /* release: pairs with the acquire in cllm_fault_hit() */
    cllm_store_release(&page->armed[point], action);
}

static bool any(const struct cllm_fault_page *page)
{
    for (uint32_t p = 0; p < CLLM_FAULT_LAST; p++)
        if (cllm_load_relaxed(&page->armed[p]) != CLLM_FAULT_OFF)
            return true;
    return false;
}

bool cllm_fault_any(void)
{
    return any(cllm_fault_page);
}

void cllm_fault_attach(struct cllm_fault_page *page, enum cllm_fault_role role,
                       uint32_t slot)
{
    if (any(&own_page)) {
        disarm_all(page);
        for (uint32_t p = 0; p < CLLM_FAULT_LAST; p++)
            arm_point(page, p, cllm_load_relaxed(&own_page.armed[p]), &own_page.entry[p]);
        disarm_all(&own_page);
    }
    self.role = role;
    self.slot = slot;
    cllm_fault_page = page;
}

void cllm_fault_detach(const struct cllm_fault_page *page)
{
    if (cllm_fault_page == page)
        cllm_fault_page = &own_page;
}

/* ---- the text ---- */

/* One item of the text, cut into its parts. */
struct item {
    uint32_t first, last; /* points */
    uint32_t action;
    struct cllm_fault_entry how;
};

static int bad_item(const char *item, const char *what)
{
    int rc = cllm_err(CLLM_ECONFIG, CLLM_FAULT_ENVIRONMENT ": '%s': %s", item, what);

    cllm_err_hint("POINT:ACTION[=ARGUMENT][:N[*TIMES][:SLOT or ROLE]],...; the points "
                  "stand in base/fault.def");
    return rc;
}

/* A whole number in [@min, @max], and nothing after it. */
static bool number(const char *text, int64_t min, int64_t max, int64_t *out)
{
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0' && *out >= min && *out <= max;
}

static bool find_point(const char *name, struct item *item)
{
    if (strcmp(name, "all") == 0) {
        item->first = 0;
        item->last = CLLM_FAULT_LAST - 1;
        return true;
    }
    for (uint32_t p = 0; p < CLLM_FAULT_LAST; p++) {
        if (strcmp(name, row[p].name) != 0)
            continue;
        item->first = item->last = p;
        return true;
    }
    return false;
}

static bool find_argument(const char *text, struct item *item)
{
    int64_t n = 0;

    switch (item->action) {
    case CLLM_FAULT_SLEEP:
        if (!text || !number(text, 0, 3600 * 1000, &n))
            return false;
        break;
    case CLLM_FAULT_EXIT:
        if (!text || !number(text, 0, 255, &n))
            return false;
        break;
    case CLLM_FAULT_ERRNO:
        for (uint32_t i = 0; text && i < CLLM_LEN(errno_name); i++)
            if (strcmp(text, errno_name[i].name) == 0)
                n = errno_name[i].number;
        if (n == 0)
            return false;
        break;
    default:
        if (text)
            return false;
    }
    item->how.argument = (int32_t)n;
    return true;
}

static bool find_action(char *text, struct item *item)
{
    char *argument = strchr(text, '=');

    if (argument)
        *argument++ = '\0';
    for (item->action = CLLM_FAULT_COUNT; item->action < CLLM_FAULT_ACTIONS;
         item->action++)
        if (strcmp(text, action_name[item->action]) == 0)
            return find_argument(argument, item);
    return false;
}

static bool find_when(char *text, struct item *item)
{
    char *times = strchr(text, '*');
    int64_t n = 1, k = 1;

    if (times)
        *times++ = '\0';
    if (!number(text, 1, INT32_MAX, &n) || (times && !number(times, 1, INT32_MAX, &k)))
        return false;
    cllm_store_relaxed(&item->how.left, n);
    item->how.times = (uint32_t)k;
    return true;
}

static bool find_who(const char *text, struct item *item)
{
    int64_t slot;

    for (uint32_t r = 0; r < CLLM_FAULT_ROLES; r++) {
        if (strcmp(text, role_name[r]) != 0)
            continue;
        item->how.roles = 1u << r;
        return true;
    }
    if (!number(text, 0, UINT32_MAX - 1, &slot))
        return false;
    item->how.slot = (uint32_t)slot;
    return true;
}

/* Does the action belong to what the point is? */
static const char *mismatch(const struct item *item)
{
    enum cllm_fault_kind kind = row[item->first].kind;

    if (item->first != item->last && item->action != CLLM_FAULT_COUNT)
        return "all points can only be counted";
    if (item->action == CLLM_FAULT_ERRNO && kind != CLLM_FAULT_ERROR &&
        kind != CLLM_FAULT_IO)
        return "no error can be met at that point";
    if (item->action == CLLM_FAULT_SHORT && kind != CLLM_FAULT_IO)
        return "no bytes are moved at that point";
    if (item->action == CLLM_FAULT_FLIP && kind != CLLM_FAULT_DATA)
        return "nothing is computed at that point";
    return NULL;
}

static int parse_item(const char *text, struct item *item)
{
    char copy[ITEM_BYTES], *part[4] = {copy, NULL, NULL, NULL};
    const char *what;

    (void)snprintf(copy, sizeof copy, "%s", text);
    for (uint32_t i = 1; i < CLLM_LEN(part) && part[i - 1]; i++) {
        part[i] = strchr(part[i - 1], ':');
        if (part[i])
            *part[i]++ = '\0';
    }
    *item = (struct item){.how = {.slot = CLLM_FAULT_ANY, .times = 1, .left = 1}};
    if (!find_point(part[0], item))
        return bad_item(text, "there is no such fault point");
    item->how.roles = row[item->first].roles;
    if (item->first != item->last)
        item->how.roles = UINT32_MAX;
    if (!part[1] || !find_action(part[1], item))
        return bad_item(text, "no such action, or not with that argument");
    if (part[2] && !find_when(part[2], item))
        return bad_item(text, "when it acts is not N or N*TIMES");
    if (part[3] && !find_who(part[3], item))
        return bad_item(text, "who it is meant for is neither slot nor role");
    what = mismatch(item);
    return what ? bad_item(text, what) : 0;
}

/* Cut the next item off *@text into @out; false at the end. */
static bool next_item(const char **text, char out[ITEM_BYTES])
{
    size_t n = strcspn(*text, ",");

    if (**text == '\0')
        return false;
    (void)snprintf(out, ITEM_BYTES, "%.*s", (int)cllm_min_u64(n, ITEM_BYTES), *text);
    *text += n + ((*text)[n] == ',' ? 1 : 0);
    return true;
}

int cllm_fault_arm(struct cllm_fault_page *page, const char *text)
{
    static struct item items[CLLM_FAULT_LAST];
    char one[ITEM_BYTES];
    uint32_t n = 0;
    int points = 0;

    if (!page)
        page = cllm_fault_page;
    while (next_item(&text, one)) {
        int rc = n < CLLM_LEN(items) ? parse_item(one, &items[n])
                                     : bad_item(one, "there are not so many points");

        for (uint32_t i = 0; rc == 0 && i < n; i++)
            if (items[i].first <= items[n].last && items[n].first <= items[i].last)
                rc = bad_item(one, "that point was named before");
        if (rc != 0)
            return rc;
        n++;
    }
    disarm_all(page);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t p = items[i].first; p <= items[i].last; p++, points++)
            arm_point(page, p, items[i].action, &items[i].how);
    return points;
}

int cllm_fault_arm_environment(enum cllm_fault_role role)
{
    const char *text = getenv(CLLM_FAULT_ENVIRONMENT);

    self.role = role;
    return text ? cllm_fault_arm(NULL, text) : 0;
}

/* ---- what happens ---- */

/* Not through base/log.h: a point may stand anywhere, and one write cannot be torn. */
static void say(enum cllm_fault_point point, uint32_t action)
{
    char text[160];
    int n = snprintf(text, sizeof text, "fault point %s in %s: %s\n", row[point].name,
                     role_name[self.role], action_name[action]);

    if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
        return; /* nobody to tell */
}

static void wild_store(void)
{
    volatile sig_atomic_t *nowhere = (volatile sig_atomic_t *)(uintptr_t)CLLM_PAGE;

    *nowhere = 1;
}

static int act(uint32_t action, int32_t argument, size_t *bytes)
{
    struct timespec wait = cllm_timespec((uint64_t)argument * CLLM_NS_PER_MS);

    switch (action) {
    case CLLM_FAULT_KILL:
        (void)raise(SIGKILL);
        break;
    case CLLM_FAULT_SEGV:
        wild_store();
        break;
    case CLLM_FAULT_ABORT:
        abort();
    case CLLM_FAULT_STOP:
        (void)raise(SIGSTOP);
        break;
    case CLLM_FAULT_HANG:
        for (;;)
            cllm_fence_acquire();
    case CLLM_FAULT_SLEEP:
        (void)nanosleep(&wait, NULL);
        break;
    case CLLM_FAULT_EXIT:
        _exit(argument);
    case CLLM_FAULT_ERRNO:
        return -argument;
    case CLLM_FAULT_SHORT:
        if (bytes && *bytes > 1)
            *bytes /= 2;
        break;
    case CLLM_FAULT_FLIP:
        return 1;
    default:
        break;
    }
    return 0;
}

int cllm_fault_hit(enum cllm_fault_point point, size_t *bytes)
{
    struct cllm_fault_page *page = cllm_fault_page;
    struct cllm_fault_entry *entry = &page->entry[point];
    /* acquire: pairs with the release in arm_point() */
    uint32_t action = cllm_load_acquire(&page->armed[point]);
    int saved_errno = errno, rc;
    int64_t left;

    if ((entry->roles >> self.role & 1u) == 0 ||
        (entry->slot != CLLM_FAULT_ANY && entry->slot != self.slot))
        return 0;
    (void)atomic_fetch_add_explicit(&entry->hits[self.role], 1, memory_order_relaxed);
    if (action <= CLLM_FAULT_COUNT)
        return 0;
    left = atomic_fetch_sub_explicit(&entry->left, 1, memory_order_relaxed);
    if (left > 1 || left <= 1 - (int64_t)entry->times)
        return 0;
    if (left == 2 - (int64_t)entry->times)
        cllm_store_relaxed(&page->armed[point], CLLM_FAULT_OFF);
    (void)atomic_fetch_add_explicit(&entry->fired, 1, memory_order_relaxed);
    say(point, action);
    rc = act(action, entry->argument, bytes);
    errno = saved_errno;
    return rc;
}
