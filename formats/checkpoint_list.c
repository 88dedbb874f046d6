/*
 * formats/checkpoint_list.c - names of checkpoints: made, recognised, listed.
 */
#include "formats/checkpoint_list.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/checkpoint.h"
#include "formats/file.h"

#define PREFIX      "step-"
#define STEP_DIGITS 10

void cllm_checkpoint_name(char name[32], uint64_t step, bool temp)
{
    CLLM_ASSERT(step <= CLLM_CHECKPOINT_STEP_MAX);
    (void)snprintf(name, 32, PREFIX "%010" PRIu64 "%s", step, temp ? ".tmp" : "");
}

bool cllm_checkpoint_parse_name(const char *name, bool temp, uint64_t *step)
{
    const char *digits = name + strlen(PREFIX);

    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0 ||
        strspn(digits, "0123456789") != STEP_DIGITS ||
        strcmp(digits + STEP_DIGITS, temp ? ".tmp" : "") != 0)
        return false;
    *step = strtoull(digits, NULL, 10);
    return true;
}

static int newest_first(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;

    return *left < *right ? 1 : *left > *right ? -1 : 0;
}

static int append(struct cllm_checkpoint_list *list, uint64_t step)
{
    uint64_t *larger = realloc(list->step, (list->n + 1) * sizeof *larger);

    if (larger == NULL)
        return cllm_err(-ENOMEM, "cannot list the checkpoints");
    larger[list->n++] = step;
    list->step = larger;
    return 0;
}

int cllm_checkpoint_list(const char *checkpoints, bool temp,
                         struct cllm_checkpoint_list *list)
{
    struct dirent *entry;
    uint64_t step = 0;
    int rc = 0;

    memset(list, 0, sizeof *list);
    DIR *dir = opendir(checkpoints);
    if (dir == NULL)
        return cllm_err(-errno, "cannot read the directory %s", checkpoints);
    while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        if (cllm_checkpoint_parse_name(entry->d_name, temp, &step))
            rc = append(list, step);
    }
    if (rc == 0 && errno != 0)
        rc = cllm_err(-errno, "cannot read the directory %s", checkpoints);
    (void)closedir(dir);
    if (rc < 0) {
        free(list->step);
        memset(list, 0, sizeof *list);
    } else if (list->n > 0) {
        qsort(list->step, list->n, sizeof *list->step, newest_first);
    }
    return rc;
}

int cllm_checkpoint_linked(const char *checkpoints, const char *name, uint64_t *step)
{
    char link[CLLM_FILE_PATH_BYTES], target[32];
    int rc = cllm_file_join(link, checkpoints, name);

    if (rc < 0)
        return rc;
    ssize_t n = readlink(link, target, sizeof target - 1);
    if (n < 0 && (errno == ENOENT || errno == EINVAL)) /* EINVAL: it is no link */
        return 0;
    if (n < 0)
        return cllm_err(-errno, "cannot read the link %s", link);
    target[n] = '\0';
    return cllm_checkpoint_parse_name(target, false, step) ? 1 : 0;
}
