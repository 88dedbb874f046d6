/*
 * tools/shm_json.h - runs as JSON for programs. Keys are stable: added to, never renamed.
 *
 * Hashes are texts of 16 hexadecimal digits, times are in nanoseconds or Unix seconds as
 * their names say, numbers that are not finite are null.
 */
#ifndef CLLM_TOOLS_SHM_JSON_H
#define CLLM_TOOLS_SHM_JSON_H

#include "formats/json.h"
#include "tools/shm_ring.h"
#include "tools/shm_view.h"

/* Each returns a new object, or NULL when memory is out; the caller json_decref()s. */
json_t *cllm_shm_json_list(const struct cllm_shm_view *views, uint32_t n_views);
json_t *cllm_shm_json_show(const struct cllm_shm_view *view);
json_t *cllm_shm_json_lanes(const struct cllm_shm_view *view, bool chunks);
json_t *cllm_shm_json_ring(const struct cllm_shm_view *view,
                           const struct cllm_shm_ring *ring);

/* Print @json (NULL = memory is out) to stdout and drop it. 0 or a negative code. */
int cllm_shm_json_print(json_t *json);

#endif /* CLLM_TOOLS_SHM_JSON_H */
