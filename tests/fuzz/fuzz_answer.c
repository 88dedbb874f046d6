/*
 * tests/fuzz/fuzz_answer.c - what cllm-ctl makes of an answer: JSON of a run that may be
 * of another build.
 */
#include "tests/fuzz/fuzz.h"

#include "base/err.h"
#include "tools/ctl_answer.h"

int fuzz_answer(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    int plain = cllm_ctl_answer(fuzz_sink(), text, size, false);
    int json = cllm_ctl_answer(fuzz_sink(), text, size, true);

    CLLM_ASSERT(plain == json);
    CLLM_ASSERT(plain == 0 || cllm_err_text()[0] != '\0');
    fuzz_n_accepted += plain == 0;
    return 0;
}
