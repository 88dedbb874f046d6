/*
 * tests/test_file_scan.c - whole files: every byte once, in order; their hash is that of
 * xxhsum -H2.
 */
#include "tests/formats_temp.h"

#include <errno.h>

#include "formats/file_scan.h"

#define N_A 1000000

static const struct {
    size_t bytes;
    const char *text, *hex;
} vectors[] = {
    {0, "", "99aa06d3014798d86001c324468d497f"},
    {3, "abc", "06b05ab6733a618578af5f94892f3950"},
};
static const char million_a[] = "a545df8e384a9579b1fd6fae5285c4eb";

static void a_file_has_the_hash_that_others_print(void **state)
{
    char hex[CLLM_HASH128_HEX_BYTES];
    char *a = malloc(N_A);
    uint64_t bytes;

    for (size_t i = 0; i < CLLM_LEN(vectors); i++) {
        put_file(in(*state, "file"), vectors[i].text, vectors[i].bytes);
        assert_int_equal(cllm_file_hash128(in(*state, "file"), hex, &bytes), 0);
        assert_string_equal(hex, vectors[i].hex);
        assert_int_equal(bytes, vectors[i].bytes);
    }
    assert_non_null(a);
    memset(a, 'a', N_A);
    put_file(in(*state, "file"), a, N_A);
    free(a);
    assert_int_equal(cllm_file_hash128(in(*state, "file"), hex, &bytes), 0);
    assert_string_equal(hex, million_a);
    assert_int_equal(bytes, N_A);
}

static void pieces_make_no_difference(void **state)
{
    struct cllm_hasher *hasher = cllm_hasher_new();
    char hex[CLLM_HASH128_HEX_BYTES], a[8192];

    (void)state;
    assert_non_null(hasher);
    memset(a, 'a', sizeof a);
    for (int round = 0; round < 2; round++) {
        cllm_hasher_begin128(hasher);
        for (size_t left = N_A, piece = 1; left > 0; left -= piece, piece += 7) {
            piece = cllm_min_u64(piece, left);
            cllm_hasher_add128(hasher, a, piece);
        }
        cllm_hasher_end128(hasher, hex);
        assert_string_equal(hex, million_a);
    }
    cllm_hasher_free(&hasher);
}

static void what_is_no_file_is_said(void **state)
{
    char hex[CLLM_HASH128_HEX_BYTES] = "as it was";
    uint64_t bytes = 7;

    assert_int_equal(cllm_file_hash128(in(*state, "absent"), hex, &bytes), -ENOENT);
    assert_error_says("absent");
    assert_int_equal(cllm_file_hash128(*state, hex, &bytes), -EINVAL);
    assert_error_says("not a regular file");
    assert_string_equal(hex, "as it was");
    assert_int_equal(bytes, 7);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_file_has_the_hash_that_others_print),
        T(pieces_make_no_difference),
        T(what_is_no_file_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
