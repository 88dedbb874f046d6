/*
 * tools/argument.c - see tools/argument.h.
 */
#include "tools/argument.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/err.h"

int cllm_argument_whole(const char *name, const char *text, uint64_t min, uint64_t max,
                        uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    if (errno == 0 && end != text && *end == '\0' && text[0] != '-' && *out >= min &&
        *out <= max)
        return 0;
    return cllm_err(CLLM_ECONFIG,
                    "cannot use --%s=%s: it must be a whole number from %" PRIu64
                    " to %" PRIu64,
                    name, text, min, max);
}
