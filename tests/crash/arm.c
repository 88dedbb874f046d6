/*
 * tests/crash/arm.c - arms the fault points of a run that goes on, or disarms them.
 *
 * A test that does something to a run must meet it before its end, on any machine. So it
 * lets the run creep from some step on (a sleep in every lane), does what it has to do,
 * and takes the sleep away. `arm DIR TEXT` arms in the run of directory DIR what TEXT
 * says, as cllm_fault_arm() does, in place of all that was armed; "" disarms. Exit code 1
 * with text when there is no such run in memory.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/fault.h"
#include "shm/control.h"

static int arm(const char *directory, const char *text)
{
    struct cllm_control control;
    char id[CLLM_RUN_ID_BYTES], *path = realpath(directory, NULL);
    int rc;

    if (!path)
        return cllm_err(-1, "there is no directory %s", directory);
    cllm_run_id_of(id, path);
    free(path);
    if (cllm_control_adopt(&control, id) != CLLM_ATTACH_OK)
        return cllm_err(-1, "run %s is not in memory", id);
    rc = cllm_fault_arm(control.faults, text);
    cllm_control_detach(&control);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        (void)fputs("usage: arm DIR TEXT\n", stderr);
        return 2;
    }
    if (arm(argv[1], argv[2]) >= 0)
        return 0;
    cllm_err_print("arm");
    return 1;
}
