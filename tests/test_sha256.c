/*
 * tests/test_sha256.c - SHA-256 against the vectors of FIPS 180-4 and NIST.
 */
#include "tests/formats_temp.h"

#include <errno.h>

#include "formats/sha256.h"

static const struct {
    const char *text;
    const char *hex;
} vectors[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};
static const char million_a[] =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

static void known_texts_have_known_digests(void **state)
{
    char hex[CLLM_SHA256_HEX_BYTES];

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(vectors); i++) {
        const char *text = vectors[i].text;
        assert_int_equal(cllm_sha256_text(text, strlen(text), hex), 0);
        assert_string_equal(hex, vectors[i].hex);
    }
}

static void pieces_and_reuse_make_no_difference(void **state)
{
    struct cllm_sha256 sha = {0};
    uint8_t digest[CLLM_SHA256_BYTES];
    char hex[CLLM_SHA256_HEX_BYTES];

    (void)state;
    for (int round = 0; round < 2; round++) {
        assert_int_equal(cllm_sha256_begin(&sha), 0);
        for (int left = 1000000, piece = 1; left > 0; left -= piece, piece += 7) {
            char a[8192];
            if (piece > left)
                piece = left;
            memset(a, 'a', sizeof a);
            cllm_sha256_add(&sha, a, (size_t)piece);
        }
        cllm_sha256_end(&sha, digest);
        cllm_sha256_hex(hex, digest);
        assert_string_equal(hex, million_a);
    }
    cllm_sha256_fini(&sha);
}

static void a_file_is_read_to_its_end(void **state)
{
    char hex[CLLM_SHA256_HEX_BYTES];
    char *a = malloc(1000000);
    uint64_t bytes = 0;

    assert_non_null(a);
    memset(a, 'a', 1000000);
    put_file(in(*state, "million"), a, 1000000);
    free(a);
    assert_int_equal(cllm_sha256_file(in(*state, "million"), hex, &bytes), 0);
    assert_string_equal(hex, million_a);
    assert_int_equal(bytes, 1000000);
    assert_int_equal(cllm_sha256_file(in(*state, "absent"), hex, &bytes), -ENOENT);
    assert_int_equal(cllm_sha256_file(*state, hex, &bytes), -EINVAL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(known_texts_have_known_digests),
        T(pieces_and_reuse_make_no_difference),
        T(a_file_is_read_to_its_end),
    };

    return cmocka_run_group_tests_name("sha256", tests, NULL, NULL);
}
