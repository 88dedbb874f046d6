/*
 * tools/history.c - see tools/history.h.
 */
#include "tools/history.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/json.h"

#define TAIL_BYTES (1 << 20) /* of the metrics file: some thousand steps */

static void join_neighbours(struct cllm_history *history)
{
    uint32_t n = history->n / 2;

    for (uint32_t i = 0; i < n; i++) {
        history->loss[i] = (history->loss[2 * i] + history->loss[2 * i + 1]) / 2;
        history->step[i] = history->step[2 * i + 1];
    }
    history->n = n;
}

void cllm_history_add(struct cllm_history *history, uint64_t step, double loss)
{
    if (!isfinite(loss) || (history->n > 0 && step <= history->step[history->n - 1]))
        return;
    if (history->n == CLLM_HISTORY_MAX)
        join_neighbours(history);
    history->step[history->n] = step;
    history->loss[history->n] = loss;
    history->n++;
}

static void add_line(struct cllm_history *history, const char *line, size_t bytes)
{
    json_t *json = NULL;
    uint64_t step;
    double loss;

    if (cllm_json_parse(line, bytes, "metrics.jsonl", &json) != 0)
        return;
    if (cllm_json_get_u64(json, "metrics.jsonl", "step", &step) == 0 &&
        cllm_json_get_f64(json, "metrics.jsonl", "loss", &loss) == 0)
        cllm_history_add(history, step, loss);
    json_decref(json);
}

/* The last TAIL_BYTES of @fd into @text; the bytes read. */
static size_t read_tail(int fd, char *text)
{
    off_t end = lseek(fd, 0, SEEK_END);
    off_t from = end > TAIL_BYTES ? end - TAIL_BYTES : 0;
    size_t used = 0;
    ssize_t n = 1;

    while (end > 0 && n > 0 && used < TAIL_BYTES) {
        n = pread(fd, text + used, TAIL_BYTES - used, from + (off_t)used);
        used += n > 0 ? (size_t)n : 0;
    }
    return used;
}

void cllm_history_parse(struct cllm_history *history, const char *text, size_t bytes)
{
    const char *end = text + bytes;

    while (text < end) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));

        if (!stop)
            break; /* being written */
        add_line(history, text, (size_t)(stop - text));
        text = stop + 1;
    }
}

void cllm_history_load(struct cllm_history *history, const char *run_dir)
{
    char path[4200], *text = malloc(TAIL_BYTES);
    int fd;

    (void)snprintf(path, sizeof path, "%s/metrics.jsonl", run_dir);
    fd = text ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd < 0) {
        free(text);
        return;
    }
    /* The first line may be cut at its beginning: then it is no JSON and adds nothing. */
    cllm_history_parse(history, text, read_tail(fd, text));
    (void)close(fd); /* read only */
    free(text);
}

uint32_t cllm_history_columns(const struct cllm_history *history, double *out,
                              uint32_t width, double *low, double *high)
{
    uint32_t columns = history->n < width ? history->n : width;
    uint32_t next = 0;
    double first, span;

    *low = (double)INFINITY;
    *high = -(double)INFINITY;
    if (columns == 0)
        return 0;
    first = (double)history->step[0];
    span = (double)history->step[history->n - 1] - first + 1.0;
    for (uint32_t c = 0; c < columns; c++) {
        double end = first + span * (c + 1) / columns;
        double sum = 0.0;
        uint32_t n = 0;

        while (next < history->n && (double)history->step[next] < end) {
            sum += history->loss[next++];
            n++;
        }
        out[c] = n > 0 ? sum / n : c > 0 ? out[c - 1] : history->loss[0];
        *low = out[c] < *low ? out[c] : *low;
        *high = out[c] > *high ? out[c] : *high;
    }
    return columns;
}
