/*
 * tests/prep_run.c - see tests/prep_run.h.
 */
#include "tests/prep_run.h"

#include <sys/wait.h>

#include "tests/formats_temp.h"

char prep_said[65536];
static char program[CLLM_FILE_PATH_BYTES];

bool prep_find(void)
{
    const char *bin = getenv("CLLM_BIN");
    char relative[CLLM_FILE_PATH_BYTES];

    if (cllm_file_join(relative, bin != NULL ? bin : "build/release/bin", "cllm-prep") ==
            0 &&
        realpath(relative, program) != NULL)
        return true;
    (void)fprintf(stderr, "cannot find cllm-prep: set CLLM_BIN\n");
    return false;
}

int prep(const char *dir, const char *arguments)
{
    char command[CLLM_FILE_PATH_BYTES + 1024];

    (void)snprintf(command, sizeof command, "cd '%s' && '%s' %s 2>&1", dir, program,
                   arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = fread(prep_said, 1, sizeof prep_said - 1, pipe);
    prep_said[n] = '\0';
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

void assert_said(const char *part)
{
    if (strstr(prep_said, part) == NULL)
        fail_msg("expected \"%s\" in:\n%s", part, prep_said);
}
