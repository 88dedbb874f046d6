/*
 * formats/token.c - one loop for each kind, so that none looks at the kind again.
 */
#include "formats/token.h"

#include <string.h>

static const struct {
    const char *name;
    uint32_t bytes;
    bool is_signed;
} kinds[] = {
    [CLLM_TOKEN_U16] = {"u16", 2, false}, [CLLM_TOKEN_U8] = {"u8", 1, false},
    [CLLM_TOKEN_U32] = {"u32", 4, false}, [CLLM_TOKEN_I8] = {"i8", 1, true},
    [CLLM_TOKEN_I16] = {"i16", 2, true},  [CLLM_TOKEN_I32] = {"i32", 4, true},
    [CLLM_TOKEN_I64] = {"i64", 8, true},
};
_Static_assert(CLLM_LEN(kinds) == CLLM_N_TOKEN_KINDS, "all of them");

uint32_t cllm_token_bytes(enum cllm_token_kind kind)
{
    CLLM_ASSERT(kind < CLLM_N_TOKEN_KINDS);
    return kinds[kind].bytes;
}

bool cllm_token_signed(enum cllm_token_kind kind)
{
    CLLM_ASSERT(kind < CLLM_N_TOKEN_KINDS);
    return kinds[kind].is_signed;
}

const char *cllm_token_name(enum cllm_token_kind kind)
{
    CLLM_ASSERT(kind < CLLM_N_TOKEN_KINDS);
    return kinds[kind].name;
}

/* @value as a token; what is none is UINT32_MAX. */
static uint32_t token_of(int64_t value)
{
    return value < 0 || value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

#define WIDEN(type)                        \
    for (uint64_t i = 0; i < n; i++) {     \
        type value;                        \
        memcpy(&value, in, sizeof value);  \
        in += sizeof value;                \
        out[i] = token_of((int64_t)value); \
        largest = larger(largest, out[i]); \
    }

uint32_t cllm_token_widen(uint32_t *out, const void *raw, enum cllm_token_kind kind,
                          uint64_t n)
{
    const uint8_t *in = raw;
    uint32_t largest = 0;

    switch (kind) {
    case CLLM_TOKEN_U8:
        WIDEN(uint8_t)
        break;
    case CLLM_TOKEN_U16:
        WIDEN(uint16_t)
        break;
    case CLLM_TOKEN_U32:
        memcpy(out, in, n * sizeof *out);
        for (uint64_t i = 0; i < n; i++)
            largest = larger(largest, out[i]);
        break;
    case CLLM_TOKEN_I8:
        WIDEN(int8_t)
        break;
    case CLLM_TOKEN_I16:
        WIDEN(int16_t)
        break;
    case CLLM_TOKEN_I32:
        WIDEN(int32_t)
        break;
    case CLLM_TOKEN_I64:
        WIDEN(int64_t)
        break;
    case CLLM_N_TOKEN_KINDS:
    default:
        CLLM_ASSERT(kind < CLLM_N_TOKEN_KINDS);
    }
    return largest;
}
