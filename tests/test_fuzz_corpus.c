/*
 * tests/test_fuzz_corpus.c - every kept input of every fuzz target, once.
 *
 * Inputs that found a bug stay in tests/fuzz/corpus, so that the bug stays away, whatever
 * the compiler. No fuzzer is needed for that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "formats/file.h"
#include "tests/fuzz/fuzz.h"

#define CORPUS    "tests/fuzz/corpus"
#define CAP_BYTES (1u << 20)

struct target {
    const char *name;
    int (*run)(const uint8_t *data, size_t size);
};

static struct target targets[] = {
#define FUZZ_TARGET(name) {#name, fuzz_##name},
#include "tests/fuzz/targets.def"
#undef FUZZ_TARGET
};

static int run_file(const struct target *target, const char *dir, const char *name)
{
    char path[CLLM_FILE_PATH_BYTES];
    char *text = NULL;
    uint8_t *data;
    size_t bytes = 0;

    assert_int_equal(cllm_file_join(path, dir, name), 0);
    assert_int_equal(cllm_file_read(path, CAP_BYTES, &text, &bytes), 0);
    /* Without the NUL that the reader puts behind it: one byte too far is seen. */
    data = malloc(bytes > 0 ? bytes : 1);
    assert_non_null(data);
    memcpy(data, text, bytes);
    free(text);
    int rc = target->run(data, bytes);
    free(data);
    return rc;
}

static void no_kept_input_does_harm_and_some_are_accepted(void **state)
{
    const struct target *target = *state;
    char dir[CLLM_FILE_PATH_BYTES];
    uint64_t before = fuzz_n_accepted;
    struct dirent *entry;
    int n = 0;

    assert_int_equal(cllm_file_join(dir, CORPUS, target->name), 0);
    DIR *corpus = opendir(dir);
    assert_non_null(corpus);
    while ((entry = readdir(corpus)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        assert_int_equal(run_file(target, dir, entry->d_name), 0);
        n++;
    }
    (void)closedir(corpus);
    assert_in_range(n, 5, 10000);
    assert_true(fuzz_n_accepted > before);
}

static void bytes_without_sense_do_no_harm(void **state)
{
    const struct target *target = *state;
    uint8_t data[512];

    for (size_t size = 0; size < sizeof data; size += 7) {
        uint8_t *exact = malloc(size > 0 ? size : 1);

        assert_non_null(exact);
        for (size_t i = 0; i < size; i++)
            exact[i] = (uint8_t)(i * 37 + size * 11);
        assert_int_equal(target->run(exact, size), 0);
        free(exact);
    }
}

int main(void)
{
    struct CMUnitTest tests[2 * CLLM_LEN(targets)];
    static char names[2 * CLLM_LEN(targets)][64];

    for (size_t i = 0; i < CLLM_LEN(targets); i++) {
        (void)snprintf(names[2 * i], 64, "%s: no kept input does harm", targets[i].name);
        (void)snprintf(names[2 * i + 1], 64, "%s: bytes without sense do no harm",
                       targets[i].name);
        tests[2 * i] = (struct CMUnitTest){
            .name = names[2 * i],
            .test_func = no_kept_input_does_harm_and_some_are_accepted,
            .initial_state = &targets[i]};
        tests[2 * i + 1] =
            (struct CMUnitTest){.name = names[2 * i + 1],
                                .test_func = bytes_without_sense_do_no_harm,
                                .initial_state = &targets[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
