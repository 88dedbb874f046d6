/*
 * tests/fuzz/fuzz_choice.c - a line of a multiple-choice file.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "base/err.h"
#include "formats/choice.h"

int fuzz_choice(const uint8_t *data, size_t size)
{
    struct cllm_choice choice;

    if (cllm_choice_parse(&choice, (const char *)data, size, "fuzz.jsonl", 1) != 0) {
        CLLM_ASSERT(cllm_err_text()[0] != '\0');
        return 0;
    }
    fuzz_n_accepted++;
    CLLM_ASSERT(choice.n >= 2 && choice.n <= CLLM_CHOICE_ENDINGS);
    CLLM_ASSERT(choice.label < choice.n && choice.context[0] != '\0');
    for (uint32_t i = 0; i < choice.n; i++)
        CLLM_ASSERT(strlen(choice.ending[i]) > 0);
    cllm_choice_free(&choice);
    return 0;
}
