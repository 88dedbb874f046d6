/*
 * tools/watch.c - see tools/watch.h. The only file that includes curses.
 *
 * Each frame is drawn whole into curses' picture of the screen, and curses sends what
 * changed: no flicker. A frame shows a cllm_shm_view; when the run ends, the last one
 * stays.
 */
#include "tools/watch.h"

#include <curses.h>
#include <errno.h>
#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/units.h"
#include "tools/history.h"
#include "tools/shm_life.h"
#include "tools/shm_runs.h"
#include "tools/shm_slot.h"
#include "tools/shm_text.h"
#include "tools/shm_view.h"

#define MAX_COLUMNS 512
#define WIDE        110 /* columns from which there is room for longer bars */

enum colour { PLAIN = 0, GOOD, WAIT, BAD, WORK, DONE, DIM };

struct watch {
    struct cllm_shm_runs runs; /* of the newest view; the view borrows from it */
    struct cllm_shm_view view;
    bool ended; /* the run is gone from shared memory; the view is its last */
    struct cllm_history history;
    bool utf8, colours;
    int first_slot; /* scrolled to */
    int y;          /* next row to draw */
};

static void paint(struct watch *watch, enum colour colour, bool strong)
{
    attrset(strong ? A_BOLD : A_NORMAL);
    if (watch->colours && colour != PLAIN && colour != DIM)
        attron(COLOR_PAIR(colour));
    else if (colour == DIM)
        attron(A_DIM);
}

/* Text at row @y, column @x, cut at the edge; returns the column after it. */
static int put(int y, int x, const char *fmt, ...) CLLM_PRINTF(3, 4);
static int put(int y, int x, const char *fmt, ...)
{
    char text[1200];
    wchar_t wide[1200];
    size_t n;
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    n = mbstowcs(wide, text, CLLM_LEN(wide));
    if (n == (size_t)-1) { /* not in this locale's letters */
        for (char *c = text; *c != '\0'; c++)
            *c = (unsigned char)*c < 0x80 ? *c : '?';
        n = mbstowcs(wide, text, CLLM_LEN(wide));
    }
    for (size_t i = 0; i < n && n != (size_t)-1 && y >= 0 && y < LINES; i++) {
        int cells = wcwidth(wide[i]);

        if (cells < 0 || x + cells > COLS)
            break;
        (void)mvaddnwstr(y, x, &wide[i], 1);
        x += cells;
    }
    return x;
}

/* Cells of a busy bar: what the terminal can spare. */
static int busy_cells(void)
{
    return COLS >= WIDE ? 10 : 5;
}

static enum colour life_colour(enum cllm_shm_life life)
{
    return life == CLLM_SHM_LIVE ? GOOD
           : life == CLLM_SHM_HUNG || life == CLLM_SHM_STARTING ||
                   life == CLLM_SHM_TAKEOVER
               ? WAIT
               : BAD;
}

static void draw_title(struct watch *watch)
{
    const struct cllm_shm_view *view = &watch->view;
    char rate[CLLM_UNITS_BYTES], eta[CLLM_UNITS_BYTES];
    double tokens = view->tokens_per_s >= 0 ? view->tokens_per_s : 0.0;
    int x;

    paint(watch, PLAIN, true);
    x = put(watch->y, 0, "run %s  ", view->id);
    paint(watch, watch->ended ? DONE : life_colour(view->life), true);
    x = put(watch->y, x, "%s", watch->ended ? "ended" : cllm_shm_life_name(view->life));
    paint(watch, PLAIN, false);
    if (view->has_control)
        x = put(watch->y, x, "  step %" PRIu64 " of %" PRIu64,
                cllm_load_relaxed(&view->state.committed), view->header.geometry.steps);
    if (view->life == CLLM_SHM_LIVE && !watch->ended)
        (void)put(watch->y, x, "  %s tokens/s  ETA %s",
                  cllm_format_count(rate, tokens < 1e18 ? (uint64_t)tokens : 0),
                  cllm_format_duration(eta, cllm_load_relaxed(&view->state.eta_ns)));
    watch->y++;
}

/* What is wrong, line by line as "show" says it. */
static void draw_trouble(struct watch *watch)
{
    char *text = NULL, *line, *rest;
    size_t bytes = 0;
    FILE *out;

    if (watch->ended) {
        paint(watch, DONE, true);
        (void)put(watch->y++, 2,
                  "The run has ended and given its memory back; this is "
                  "the last that was seen.");
        return;
    }
    out = open_memstream(&text, &bytes);
    if (!out)
        return;
    cllm_shm_text_trouble(out, &watch->view);
    (void)fclose(out); /* memory */
    paint(watch, life_colour(watch->view.life), true);
    for (line = text; line && *line != '\0'; line = rest) {
        rest = line + strcspn(line, "\n");
        if (*rest == '\n')
            *rest++ = '\0';
        while ((int)strlen(line) > COLS && watch->y < LINES - 2) { /* commands, whole */
            (void)put(watch->y++, 0, "%.*s", COLS, line);
            line += COLS;
        }
        (void)put(watch->y++, 0, "%s", line);
    }
    free(text);
}

static void draw_bar(struct watch *watch, int y, int x, int width, double share,
                     enum colour colour)
{
    double filled = share > 0 ? share * width + 0.5 : 0.0;

    for (int i = 0; i < width; i++) {
        bool full = (double)(i + 1) <= filled;

        paint(watch, full ? colour : DIM, false);
        (void)put(y, x + i, "%s",
                  watch->utf8 ? (full ? "\u2588" : "\u2591") : (full ? "#" : "."));
    }
    paint(watch, PLAIN, false);
}

static void draw_progress(struct watch *watch)
{
    const struct cllm_shm_view *view = &watch->view;
    const struct cllm_state *state = &view->state;
    uint64_t step = cllm_load_relaxed(&state->committed);
    uint64_t saved = cllm_load_relaxed(&state->saved_step);
    uint64_t steps = view->header.geometry.steps;
    double share = steps ? (double)step / (double)steps : 0.0;
    int width = COLS > 100 ? 80 : COLS - 20, x;
    char spent[CLLM_SHM_TIME];

    x = put(watch->y, 0, "progress  ");
    draw_bar(watch, watch->y, x, width, share, GOOD);
    (void)put(watch->y++, x + width + 1, "%.0f %%", 100.0 * share);

    x = put(watch->y, 0, "loss      ");
    if (isfinite(view->loss))
        x = put(watch->y, x, "%.4f", view->loss);
    if (isfinite(view->valid_loss))
        x = put(watch->y, x, "   validation %.4f at step %" PRIu64, view->valid_loss,
                cllm_load_relaxed(&state->valid_step));
    if (saved > 0)
        (void)put(watch->y, x, "   on disk: step %" PRIu64, saved);
    watch->y++;
    (void)put(watch->y++, 0, "time      %s", cllm_shm_time_text(spent, &view->time));
}

/* Loss as a curve of @rows rows; eighths of a cell where the terminal has them. */
static void draw_curve(struct watch *watch, int rows)
{
    double column[MAX_COLUMNS], low, high;
    int room = COLS - 20 < MAX_COLUMNS ? COLS - 20 : MAX_COLUMNS;
    uint32_t n = cllm_history_columns(&watch->history, column,
                                      room > 0 ? (uint32_t)room : 0, &low, &high);

    if (n < 2) {
        (void)put(watch->y, 10, "(the loss curve appears after two steps)");
        watch->y += rows;
        return;
    }
    for (uint32_t c = 0; c < n; c++) {
        double share = high > low ? (column[c] - low) / (high - low) : 0.5;
        int eighths = 1 + (int)(share * (8 * rows - 1));

        for (int row = 0; row < rows; row++) {
            int left = eighths - 8 * (rows - 1 - row);
            int level = left > 8 ? 8 : left;

            if (level <= 0)
                continue;
            paint(watch, WORK, false);
            if (watch->utf8) /* U+2581 ... U+2588: one to eight eighths */
                (void)put(watch->y + row, 10 + (int)c, "%lc", (wint_t)(0x2580 + level));
            else
                (void)put(watch->y + row, 10 + (int)c, "%c", "._-:=+*##"[level]);
        }
    }
    paint(watch, DIM, false);
    (void)put(watch->y, 11 + (int)n, "%.4f", high);
    if (rows > 1)
        (void)put(watch->y + rows - 1, 11 + (int)n, "%.4f", low);
    paint(watch, PLAIN, false);
    watch->y += rows;
}

static enum colour lane_colour(uint32_t state)
{
    static const enum colour colour[] = {
        [CLLM_LANE_EMPTY] = DIM,     [CLLM_LANE_READY] = WAIT,
        [CLLM_LANE_ASSIGNED] = WORK, [CLLM_LANE_DUPLICATED] = WORK,
        [CLLM_LANE_RECHECK] = WAIT,  [CLLM_LANE_DONE] = DONE,
        [CLLM_LANE_FOLDED] = GOOD,   [CLLM_LANE_POISONED] = BAD,
    };

    return state < CLLM_LEN(colour) ? colour[state] : BAD;
}

static void draw_step(struct watch *watch)
{
    const struct cllm_shm_view *view = &watch->view;
    char cell[CLLM_SHM_CELL], counts[160];
    int x;

    cllm_shm_text_lane_counts(counts, sizeof counts, view);
    (void)put(watch->y++, 0, "step %-5" PRIu64 "%s; lanes: %s",
              cllm_load_relaxed(&view->state.committed) + 1,
              cllm_phase_name(cllm_load_relaxed(&view->state.phase)), counts);
    x = put(watch->y, 0, "lanes     ");
    for (uint32_t i = 0; i < view->n_lanes && x + 5 < COLS; i++) {
        paint(watch, lane_colour(view->lane[i].state), true);
        x = put(watch->y, x, "%s", cllm_shm_text_lane(cell, &view->lane[i])) + 1;
    }
    paint(watch, DIM, false);
    (void)put(++watch->y, 10,
              ". waits for data  R ready  aN at slot N  2 twice  D done  F folded%s",
              COLS >= WIDE ? "  ? to be checked  X poisoned" : "");
    paint(watch, PLAIN, false);
    watch->y++;
    (void)put(watch->y++, 0, "chunks    %u old, %u assigned, %u new",
              view->chunks_in[CLLM_CHUNK_OLD], view->chunks_in[CLLM_CHUNK_ASSIGNED],
              view->chunks_in[CLLM_CHUNK_NEW]);
}

static enum colour slot_colour(uint32_t state)
{
    static const enum colour colour[] = {
        [CLLM_SLOT_EMPTY] = DIM,      [CLLM_SLOT_STARTING] = WAIT,
        [CLLM_SLOT_IDLE] = PLAIN,     [CLLM_SLOT_BUSY] = GOOD,
        [CLLM_SLOT_SUSPECT] = BAD,    [CLLM_SLOT_STOPPED] = BAD,
        [CLLM_SLOT_UNKILLABLE] = BAD, [CLLM_SLOT_KILLING] = BAD,
        [CLLM_SLOT_COOLDOWN] = BAD,   [CLLM_SLOT_DISABLED] = BAD,
    };

    return state < CLLM_LEN(colour) ? colour[state] : BAD;
}

static void draw_slot(struct watch *watch, uint32_t i)
{
    const struct cllm_shm_slot *slot = &watch->view.slot[i];
    const struct cllm_command *command = &slot->command;
    bool down = command->state == CLLM_SLOT_COOLDOWN ||
                command->state == CLLM_SLOT_DISABLED || command->state == CLLM_SLOT_EMPTY;
    char done[CLLM_SHM_DOING];
    int y = watch->y++, x;

    x = put(y, 0, "%4u  %-7s", i, cllm_role_name(command->role));
    paint(watch, slot->gone ? BAD : slot_colour(command->state), false);
    x = put(y, x, "%-9s", cllm_shm_slot_state(slot));
    paint(watch, PLAIN, false);
    cllm_shm_slot_done(done, slot);
    x = put(y, x, "%7u%5u%10s  ", command->pid, command->deaths, done);
    if (slot->busy_share >= 0) {
        draw_bar(watch, y, x, busy_cells(), slot->busy_share, GOOD);
        (void)put(y, x + busy_cells(), "%4.0f%%", 100.0 * slot->busy_share);
    }
    x += busy_cells() + 6;
    if (down && command->obituary[0] != '\0') {
        paint(watch, BAD, false);
        (void)put(y, x, "%s", command->obituary);
    } else {
        (void)put(y, x, "%s", slot->doing);
    }
    paint(watch, PLAIN, false);
}

/* Is there anything to say of slot @i? Here all workers count, one can scroll. */
static bool is_used(const struct cllm_shm_view *view, uint32_t i)
{
    const struct cllm_command *command = &view->slot[i].command;

    return command->state != CLLM_SLOT_EMPTY || command->deaths > 0 ||
           command->role != CLLM_ROLE_WORKER;
}

/* The table of slots in at most @rows rows, from watch->first_slot of the used on. */
static void draw_slots(struct watch *watch, int rows)
{
    const struct cllm_shm_view *view = &watch->view;
    int n = 0, at = 0;

    paint(watch, DIM, false);
    (void)put(watch->y++, 0, "%4s  %-7s%-9s%7s%5s%10s  %-*s%s", "slot", "role", "state",
              "pid", "died", "done", busy_cells() + 6, "busy",
              cllm_shm_life_headless(view) ? "was doing" : "does");
    paint(watch, PLAIN, false);
    for (uint32_t i = 0; i < view->n_slots; i++)
        n += is_used(view, i);
    if (watch->first_slot > n - rows)
        watch->first_slot = n - rows;
    if (watch->first_slot < 0)
        watch->first_slot = 0;
    for (uint32_t i = 0; i < view->n_slots; i++) {
        if (!is_used(view, i))
            continue;
        if (at >= watch->first_slot && at < watch->first_slot + rows)
            draw_slot(watch, i);
        at++;
    }
}

/* How many bytes of @text fit into @room columns, cut between words where that can be. */
static int fitting(const char *text, int room)
{
    int n = (int)strlen(text), cut;

    if (n <= room)
        return n;
    for (cut = room; cut > room / 2 && text[cut] != ' '; cut--)
        ;
    cut = cut > room / 2 ? cut : room;
    while (cut > 0 && ((unsigned char)text[cut] & 0xc0) == 0x80)
        cut--; /* not within a letter */
    return cut;
}

/* One event, on a second line too where it is long and @lines allows; "..." = cut. */
static void draw_event(struct watch *watch, const struct cllm_event *event, int lines)
{
    int64_t ns = watch->view.taken_unix_ns - event->unix_ns;
    const char *text = event->text;
    char age[CLLM_UNITS_BYTES];
    int x, room, n;

    x = put(watch->y, 0, "%7s ago  ",
            cllm_format_duration(age, ns > 0 ? (uint64_t)ns : 0));
    room = COLS - x > 20 ? COLS - x : 20;
    n = fitting(text, room);
    if (text[n] != '\0' && lines > 1) {
        (void)put(watch->y++, x, "%.*s", n, text);
        text += n + (text[n] == ' ');
        x += 2;
        room -= 2;
        n = fitting(text, room);
    }
    if (text[n] != '\0')
        (void)put(watch->y++, x, "%.*s...", fitting(text, room - 3), text);
    else
        (void)put(watch->y++, x, "%s", text);
}

static void draw_events(struct watch *watch)
{
    const struct cllm_shm_view *view = &watch->view;

    paint(watch, DIM, false);
    (void)put(watch->y++, 0, "last events");
    paint(watch, PLAIN, false);
    if (view->n_events == 0)
        (void)put(watch->y++, 2, "none");
    for (uint32_t i = 0; i < view->n_events && watch->y < LINES - 1; i++)
        draw_event(watch, &view->event[i], LINES - 1 - watch->y);
}

static void draw_footer(struct watch *watch)
{
    const struct cllm_shm_view *view = &watch->view;
    char bytes[CLLM_UNITS_BYTES];
    int x;

    paint(watch, DIM, false);
    x = put(LINES - 1, 0, "q quit   %s in %u object%s",
            cllm_format_bytes(bytes, view->run->bytes), view->run->n_objects,
            cllm_plural(view->run->n_objects));
    if (view->has_control) {
        x = put(LINES - 1, x, "   waits for data %.1f ms",
                (double)cllm_load_relaxed(&view->state.wait_data_ns) / 1e6);
        if (view->wait_data_share >= 0)
            x = put(LINES - 1, x, " (%.2f %%)", 100.0 * view->wait_data_share);
        (void)put(LINES - 1, x, "   deaths %" PRIu64,
                  cllm_load_relaxed(&view->state.deaths));
    }
    paint(watch, PLAIN, false);
}

static void draw(struct watch *watch)
{
    const struct cllm_shm_view *view = &watch->view;
    int curve = LINES >= 30 ? (LINES - 22) / 4 : 1, rows;

    erase();
    watch->y = 0;
    draw_title(watch);
    draw_trouble(watch);
    if (view->has_control) {
        draw_progress(watch);
        draw_curve(watch, curve < 8 ? curve : 8);
        draw_step(watch);
        watch->y++;
        rows = LINES - watch->y - 6; /* heading, gap, three events, footer */
        draw_slots(watch, rows > 1 ? rows : 1);
        watch->y++;
        draw_events(watch);
    }
    draw_footer(watch);
    (void)refresh();
}

/* Look again; keeps the old picture when the run is gone. */
static int look(struct watch *watch, const char *id)
{
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;
    const struct cllm_shm_run *run = NULL;
    int rc = cllm_shm_runs_scan(&runs);

    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < runs.n_runs && !run; i++)
        if (strcmp(runs.run[i].id, id) == 0)
            run = &runs.run[i];
    watch->ended = !run || !run->has_control;
    if (watch->ended && watch->view.run) {
        cllm_shm_runs_fini(&runs);
        return 0;
    }
    if (!run) {
        cllm_shm_runs_fini(&runs);
        return cllm_err(-ENOENT, "run %s is no longer in shared memory", id);
    }
    rc = cllm_shm_view_take(&view, run);
    if (rc != 0) {
        cllm_shm_runs_fini(&runs);
        return rc;
    }
    if (watch->history.n == 0 && view.has_control)
        cllm_history_load(&watch->history, view.header.run_dir);
    if (view.has_control)
        cllm_history_add(&watch->history, cllm_load_relaxed(&view.state.committed),
                         view.loss);
    cllm_shm_view_fini(&watch->view);
    cllm_shm_runs_fini(&watch->runs);
    watch->view = view;
    watch->runs = runs;
    return 0;
}

static void choose_colours(struct watch *watch)
{
    const char *no_colour = getenv("NO_COLOR");

    watch->colours = has_colors() && (!no_colour || no_colour[0] == '\0') &&
                     start_color() == OK && use_default_colors() == OK;
    if (!watch->colours)
        return;
    (void)init_pair(GOOD, COLOR_GREEN, -1);
    (void)init_pair(WAIT, COLOR_YELLOW, -1);
    (void)init_pair(BAD, COLOR_RED, -1);
    (void)init_pair(WORK, COLOR_CYAN, -1);
    (void)init_pair(DONE, COLOR_BLUE, -1);
}

static int loop(struct watch *watch, const char *id, uint64_t interval_ns)
{
    int rc;

    timeout((int)(interval_ns / CLLM_NS_PER_MS));
    for (;;) {
        rc = look(watch, id);
        if (rc != 0)
            return rc;
        draw(watch);
        switch (getch()) {
        case 'q':
        case 'Q':
            return 0;
        case KEY_DOWN:
            watch->first_slot++;
            break;
        case KEY_UP:
            watch->first_slot--;
            break;
        default: /* a tick, or KEY_RESIZE: draw again */
            break;
        }
    }
}

int cllm_watch_run(const char *id, uint64_t interval_ns)
{
    struct watch *watch = calloc(1, sizeof *watch);
    SCREEN *screen;
    int rc;

    if (!watch)
        return cllm_err(-ENOMEM, "cannot watch run %s", id);
    (void)setlocale(LC_CTYPE, ""); /* not LC_NUMERIC: decimal points stay points */
    watch->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    screen = newterm(NULL, stdout, stdin);
    if (!screen) {
        free(watch);
        rc = cllm_err(CLLM_ECONFIG, "cannot use this terminal for watch");
        cllm_err_hint("set TERM, or use --once");
        return rc;
    }
    (void)cbreak();
    (void)noecho();
    (void)keypad(stdscr, true);
    (void)curs_set(0);
    choose_colours(watch);
    rc = loop(watch, id, interval_ns);
    (void)endwin();
    delscreen(screen);
    cllm_shm_view_fini(&watch->view);
    cllm_shm_runs_fini(&watch->runs);
    free(watch);
    return rc;
}
