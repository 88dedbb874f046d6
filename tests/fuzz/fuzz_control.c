/*
 * tests/fuzz/fuzz_control.c - a line that a client sends to a run's control socket.
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

#include "coordinator/control_socket.h"

int fuzz_control(const uint8_t *data, size_t size)
{
    struct cllm_control_socket_request request = {.command = CLLM_CONTROL_LAST};
    json_t *refusal = cllm_control_socket_parse(&request, (const char *)data, size);

    if (!refusal) {
        CLLM_ASSERT(size <= CLLM_CONTROL_SOCKET_LINE + 1);
        CLLM_ASSERT(request.command < CLLM_CONTROL_LAST);
        CLLM_ASSERT(request.command == CLLM_CONTROL_WORKERS || request.number == 0);
        fuzz_n_accepted++;
        return 0;
    }
    char *text = cllm_json_dump(refusal, NULL);
    CLLM_ASSERT(text && json_is_false(json_object_get(refusal, "ok")));
    CLLM_ASSERT(json_is_string(json_object_get(refusal, "error")));
    free(text);
    json_decref(refusal);
    return 0;
}
