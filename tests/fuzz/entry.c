/*
 * tests/fuzz/entry.c - the libFuzzer program of one target: CLLM_FUZZ_TARGET says which.
 */
#include "tests/fuzz/fuzz.h"

#ifndef CLLM_FUZZ_TARGET
#    define CLLM_FUZZ_TARGET config
#endif
#define JOIN_(a, b) a##b
#define JOIN(a, b)  JOIN_(a, b)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return JOIN(fuzz_, CLLM_FUZZ_TARGET)(data, size);
}
