/*
 * tests/control_temp.h - a small run in shared memory for tests, removed again at the
 * end.
 */
#ifndef CLLM_TESTS_CONTROL_TEMP_H
#define CLLM_TESTS_CONTROL_TEMP_H

#include "shm/control.h"

/* A geometry of 24 lanes, 3 worker slots, 5 chunks of 1024 elements, 4 lane buffers. */
struct cllm_geometry control_temp_geometry(void);

/* Create and publish control and objects of a run whose id has this process's pid in it.
 */
void control_temp_make(struct cllm_control *control);
void control_temp_make_of(struct cllm_control *control,
                          const struct cllm_geometry *geometry);
void control_temp_remove(struct cllm_control *control);

/* The run id that the functions above use. */
const char *control_temp_id(void);

#endif /* CLLM_TESTS_CONTROL_TEMP_H */
