/*
 * tests/crash/chaos_result.c - one line for each chunk of a campaign.
 */
#include "tests/crash/chaos_result.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/err.h"

static void print_cells(const struct chaos_tally *tally)
{
    (void)printf("%-10s", "");
    for (int p = 0; p < CHAOS_PHASES; p++)
        (void)printf(" %8s", chaos_phase_name((enum chaos_phase)p));
    (void)printf("\n");
    for (int r = 0; r < CHAOS_ROLES; r++) {
        (void)printf("%-10s", chaos_role_name((enum chaos_role)r));
        for (int p = 0; p < CHAOS_PHASES; p++)
            (void)printf(" %8" PRIu64, tally->hits[r][p]);
        (void)printf("\n");
    }
}

void chaos_result_print(const struct chaos_result *result)
{
    const struct chaos_score *score = result->score;
    const struct chaos_tally *tally = &score->tally;

    print_cells(tally);
    (void)printf("%s on %s, seed %" PRIu64 ": %" PRIu64 " hits in %" PRIu64
                 " runs, %" PRIu64 " wrong; %.0f s, %.1f hits/s; %" PRIu64 " of %" PRIu64
                 " aimed shots hit their phase; %" PRIu64 " resumed, %" PRIu64
                 " lanes redone\n",
                 result->mode, result->model, result->seed, tally->n, score->runs,
                 score->failed, result->seconds, (double)tally->n / result->seconds,
                 tally->on_aim, tally->aimed, score->resumed, score->lanes_redone);
    if (score->stops.continued + score->stops.ended > 0)
        (void)printf("stopped: %" PRIu64 " were continued, %" PRIu64
                     " of them after their work was given to others; %" PRIu64
                     " were ended before\n",
                     score->stops.continued, score->stops.replaced, score->stops.ended);
    if (score->takeovers.n > 0)
        (void)printf("takeovers: %" PRIu64 " with a step open; of %" PRIu64
                     " finished lanes %" PRIu64 " were computed again, of %" PRIu64
                     " begun ones %" PRIu64 "; at most %u lanes in a takeover, %" PRIu64
                     " takeovers with more than there are workers\n",
                     score->takeovers.n, score->takeovers.finished, score->takeovers.lost,
                     score->takeovers.begun, score->takeovers.redone,
                     score->takeovers.worst, score->takeovers.beyond);
    (void)fflush(stdout);
}

void chaos_result_name_commit(struct chaos_result *result)
{
    FILE *pipe = popen("git rev-parse --short HEAD 2>/dev/null", "re");
    char *out = result->commit;

    if (!pipe || !fgets(out, sizeof result->commit, pipe))
        out[0] = '\0';
    if (pipe)
        (void)pclose(pipe);
    out[strcspn(out, "\n")] = '\0';
    if (out[0] == '\0')
        (void)snprintf(out, sizeof result->commit, "unknown");
}

static void write_cells(FILE *out, const struct chaos_tally *tally)
{
    const char *comma = "";

    (void)fprintf(out, ",\"cells\":{");
    for (int r = 0; r < CHAOS_ROLES; r++)
        for (int p = 0; p < CHAOS_PHASES; p++) {
            if (tally->hits[r][p] == 0)
                continue;
            (void)fprintf(out, "%s\"%s:%s\":%" PRIu64, comma,
                          chaos_role_name((enum chaos_role)r),
                          chaos_phase_name((enum chaos_phase)p), tally->hits[r][p]);
            comma = ",";
        }
    (void)fprintf(out, "}");
}

int chaos_result_append(const struct chaos_result *result, const char *path)
{
    const struct chaos_score *score = result->score;
    char date[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    FILE *out;

    if (gmtime_r(&now, &tm))
        (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
    out = fopen(path, "ae");
    if (!out)
        return cllm_err(-errno, "cannot append to %s", path);
    (void)fprintf(
        out,
        "{\"date\":\"%s\",\"commit\":\"%s\",\"mode\":\"%s\",\"model\":\"%s\","
        "\"seed\":%" PRIu64 ",\"workers\":%u,\"hits\":%" PRIu64 ",\"runs\":%" PRIu64
        ",\"mismatches\":%" PRIu64 ",\"resumed\":%" PRIu64 ",\"steps\":%" PRIu64
        ",\"deaths\":%" PRIu64 ",\"lanes_redone\":%" PRIu64 ",\"seconds\":%.1f",
        date, result->commit, result->mode, result->model, result->seed, result->workers,
        score->tally.n, score->runs, score->failed, score->resumed, score->steps,
        score->deaths, score->lanes_redone, result->seconds);
    write_cells(out, &score->tally);
    if (score->stops.continued + score->stops.ended > 0)
        (void)fprintf(
            out, ",\"continued\":%" PRIu64 ",\"replaced\":%" PRIu64 ",\"ended\":%" PRIu64,
            score->stops.continued, score->stops.replaced, score->stops.ended);
    if (score->takeovers.n > 0)
        (void)fprintf(out,
                      ",\"takeovers\":%" PRIu64 ",\"finished\":%" PRIu64
                      ",\"lost\":%" PRIu64 ",\"begun\":%" PRIu64 ",\"redone\":%" PRIu64
                      ",\"worst\":%u,\"beyond\":%" PRIu64,
                      score->takeovers.n, score->takeovers.finished,
                      score->takeovers.lost, score->takeovers.begun,
                      score->takeovers.redone, score->takeovers.worst,
                      score->takeovers.beyond);
    (void)fprintf(out, "%s}\n", result->extra);
    return fclose(out) == 0 ? 0 : cllm_err(-errno, "cannot write %s", path);
}
