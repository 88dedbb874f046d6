/*
 * tests/test_gguf.c - the writer's bytes, and a reader that believes nothing.
 */
#include "tests/formats_temp.h"

#include <errno.h>
#include <math.h>

#include "base/random.h"
#include "formats/gguf_writer.h"
#include "formats/half.h"

/* A file under construction, byte by byte. */
struct image {
    uint8_t bytes[4096];
    size_t n;
};

static void add(struct image *image, const void *data, size_t n)
{
    assert_true(image->n + n <= sizeof image->bytes);
    memcpy(image->bytes + image->n, data, n);
    image->n += n;
}

static void u32(struct image *image, uint32_t value)
{
    add(image, &value, sizeof value);
}

static void u64(struct image *image, uint64_t value)
{
    add(image, &value, sizeof value);
}

static void text(struct image *image, const char *string)
{
    u64(image, strlen(string));
    add(image, string, strlen(string));
}

static void head(struct image *image, uint64_t n_tensors, uint64_t n_values)
{
    image->n = 0;
    add(image, "GGUF", 4);
    u32(image, 3);
    u64(image, n_tensors);
    u64(image, n_values);
}

static void tensor(struct image *image, const char *name, uint64_t ne0, uint64_t ne1,
                   uint32_t type, uint64_t off)
{
    text(image, name);
    u32(image, 2);
    u64(image, ne0);
    u64(image, ne1);
    u32(image, type);
    u64(image, off);
}

/* Zeros up to the data, then @data of them. */
static void finish(struct image *image, size_t align, size_t data)
{
    while (image->n % align != 0)
        add(image, "", 1);
    assert_true(image->n + data <= sizeof image->bytes);
    memset(image->bytes + image->n, 0, data);
    image->n += data;
}

/* Parse a heap copy of exact size, so that the sanitizer sees reads beyond it. */
static int parse(const struct image *image, struct cllm_gguf *gguf, bool *is_short)
{
    static uint8_t *copy;

    free(copy);
    copy = malloc(image->n + 1);
    assert_non_null(copy);
    memcpy(copy, image->bytes, image->n);
    int rc = cllm_gguf_parse(gguf, copy, image->n, image->n, "m.gguf", is_short);
    if (rc != 0) {
        free(copy);
        copy = NULL;
    }
    return rc;
}

static void refused(const struct image *image, const char *says)
{
    struct cllm_gguf gguf;

    assert_int_equal(parse(image, &gguf, NULL), CLLM_EDATA);
    assert_error_says(says);
    assert_error_says("m.gguf");
}

/* One of each kind, and four tensors of 192 numbers or 5. */
static void write_all(const char *path, const float *data, const float *five)
{
    static const uint64_t shape[2] = {3, 64}, vector[1] = {5};
    static const int32_t numbers[3] = {1, -2, 3};
    static const float scores[2] = {0.5f, -1};
    struct cllm_gguf_writer writer;

    cllm_gguf_writer_init(&writer);
    cllm_gguf_put_text(&writer, "general.architecture", "gpt2");
    cllm_gguf_put_u32(&writer, "a.u32", 7);
    cllm_gguf_put_f32(&writer, "a.f32", 0.25f);
    cllm_gguf_put_bool(&writer, "a.bool", true);
    cllm_gguf_put_texts(&writer, "a.texts", 2);
    cllm_gguf_put_item(&writer, "one", 3);
    cllm_gguf_put_item(&writer, "", 0);
    cllm_gguf_put_i32s(&writer, "a.i32s", numbers, 3);
    cllm_gguf_put_f32s(&writer, "a.f32s", scores, 2);
    cllm_gguf_add_tensor(&writer, "v", CLLM_GGUF_TYPE_F32, vector, 1);
    cllm_gguf_add_tensor(&writer, "f16", CLLM_GGUF_TYPE_F16, shape, 2);
    cllm_gguf_add_tensor(&writer, "bf16", CLLM_GGUF_TYPE_BF16, shape, 2);
    cllm_gguf_add_tensor(&writer, "q8", CLLM_GGUF_TYPE_Q8_0, shape, 2);
    assert_int_equal(cllm_gguf_writer_begin(&writer, path, false), 0);
    assert_int_equal(cllm_gguf_writer_put(&writer, 0, five), 0);
    for (uint32_t i = 1; i < 4; i++)
        assert_int_equal(cllm_gguf_writer_put(&writer, i, data), 0);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(cllm_gguf_writer_finish(&writer), 0);
}

static void values_that_are_written_read_back(void **state)
{
    static const int32_t numbers[3] = {1, -2, 3};
    const float data[192] = {0}, five[5] = {0};
    const char *path = in(*state, "m.gguf"), *found;
    struct cllm_gguf gguf;
    const struct cllm_gguf_value *value;
    const uint8_t *at;
    uint64_t number = 0, bytes = 0;
    double real = 0;

    write_all(path, data, five);
    assert_int_equal(cllm_gguf_open(&gguf, path), 0);
    assert_int_equal(gguf.n_values, 7);
    assert_int_equal(cllm_gguf_get_text(&gguf, "general.architecture", &found, &bytes),
                     0);
    assert_int_equal(bytes, 4);
    assert_memory_equal(found, "gpt2", 4);
    assert_int_equal(cllm_gguf_get_u64(&gguf, "a.u32", &number), 0);
    assert_int_equal(number, 7);
    assert_int_equal(cllm_gguf_get_f64(&gguf, "a.f32", &real), 0);
    assert_true(real == 0.25);
    assert_int_equal(cllm_gguf_get_array(&gguf, "a.texts", CLLM_GGUF_TEXT, &value), 0);
    assert_int_equal(value->n, 2);
    at = value->data;
    assert_memory_equal(cllm_gguf_next_text(&at, &bytes), "one", 3);
    assert_int_equal(bytes, 3);
    (void)cllm_gguf_next_text(&at, &bytes);
    assert_int_equal(bytes, 0);
    assert_int_equal(cllm_gguf_get_array(&gguf, "a.i32s", CLLM_GGUF_I32, &value), 0);
    assert_memory_equal(value->data, numbers, sizeof numbers);
    assert_int_equal(cllm_gguf_get_u64(&gguf, "a.f32", &number), CLLM_EDATA);
    assert_error_says("expected a whole number, found f32");
    assert_int_equal(cllm_gguf_get_u64(&gguf, "a.none", &number), CLLM_EDATA);
    assert_error_says("a.none: expected a whole number, found nothing");
    assert_int_equal(cllm_gguf_get_array(&gguf, "a.u32", CLLM_GGUF_TEXT, &value),
                     CLLM_EDATA);
    cllm_gguf_close(&gguf);
}

static void tensors_that_are_written_read_back(void **state)
{
    static const struct {
        const char *name;
        double most; /* error, for numbers up to 0.5 */
    } types[] = {{"f16", 0x1p-13}, {"bf16", 0x1p-10}, {"q8", 0.5 / 254 + 1e-4}};
    const char *path = in(*state, "m.gguf");
    float data[192], out[192], five[5] = {1, 2, 3, 4, 5};
    struct cllm_gguf gguf;

    for (size_t i = 0; i < CLLM_LEN(data); i++)
        data[i] = cllm_random_f32(1, CLLM_RANDOM_TEST, i) - 0.5f;
    write_all(path, data, five);
    assert_int_equal(cllm_gguf_open(&gguf, path), 0);
    assert_int_equal(gguf.n_tensors, 4);
    assert_int_equal(cllm_gguf_read(&gguf, cllm_gguf_tensor(&gguf, "v"), 0, 5, out), 0);
    assert_memory_equal(out, five, sizeof five);
    for (size_t t = 0; t < CLLM_LEN(types); t++) {
        const struct cllm_gguf_tensor *it = cllm_gguf_tensor(&gguf, types[t].name);
        assert_non_null(it);
        assert_int_equal(it->ne[0], 64);
        assert_int_equal(it->ne[1], 3);
        assert_int_equal(it->data_off % 32, 0);
        assert_int_equal(cllm_gguf_read(&gguf, it, 0, 192, out), 0);
        for (size_t i = 0; i < 192; i++)
            assert_true(fabs((double)out[i] - (double)data[i]) <= types[t].most);
        assert_int_equal(cllm_gguf_read(&gguf, it, 64, 32, out + 64), 0);
        assert_int_equal(cllm_gguf_read(&gguf, it, 192, 32, out), CLLM_EDATA);
    }
    assert_int_equal(cllm_gguf_read(&gguf, cllm_gguf_tensor(&gguf, "q8"), 1, 32, out),
                     CLLM_EDATA);
    cllm_gguf_close(&gguf);
}

static void a_number_that_does_not_fit_is_refused_by_name(void **state)
{
    static const uint64_t shape[1] = {32};
    struct cllm_gguf_writer writer;
    float data[32] = {0};

    data[7] = 1e6f;
    cllm_gguf_writer_init(&writer);
    cllm_gguf_add_tensor(&writer, "w", CLLM_GGUF_TYPE_F16, shape, 1);
    cllm_gguf_add_tensor(&writer, "x", CLLM_GGUF_TYPE_Q8_0, shape, 1);
    assert_int_equal(cllm_gguf_writer_begin(&writer, in(*state, "m.gguf"), false), 0);
    assert_int_equal(cllm_gguf_writer_put(&writer, 0, data), CLLM_EREFUSED);
    assert_error_says("tensor \"w\": element 7, 1e+06, does not fit f16");
    data[7] = NAN;
    assert_int_equal(cllm_gguf_writer_put(&writer, 1, data), CLLM_EREFUSED);
    cllm_gguf_writer_abort(&writer);
    assert_int_not_equal(access(in(*state, "m.gguf.tmp"), F_OK), 0);
}

static void what_exists_is_replaced_only_when_asked(void **state)
{
    static const uint64_t shape[1] = {1};
    const char *path = in(*state, "m.gguf");
    struct cllm_gguf_writer writer;
    const float one = 1;

    put_file(path, "old", 3);
    for (int force = 0; force < 2; force++) {
        cllm_gguf_writer_init(&writer);
        cllm_gguf_add_tensor(&writer, "w", CLLM_GGUF_TYPE_F32, shape, 1);
        assert_int_equal(cllm_gguf_writer_begin(&writer, path, force),
                         force ? 0 : CLLM_EREFUSED);
        if (force) {
            assert_int_equal(cllm_gguf_writer_put(&writer, 0, &one), 0);
            assert_int_equal(cllm_gguf_writer_finish(&writer), 0);
        } else {
            assert_error_says("exists");
            cllm_gguf_writer_abort(&writer);
        }
    }
    struct cllm_gguf gguf;
    assert_int_equal(cllm_gguf_open(&gguf, path), 0);
    cllm_gguf_close(&gguf);
}

static void a_long_header_is_read_in_growing_parts(void **state)
{
    const char *path = in(*state, "long.gguf");
    struct cllm_gguf_writer writer;
    const struct cllm_gguf_value *value;
    struct cllm_gguf gguf;
    char item[64];

    cllm_gguf_writer_init(&writer);
    cllm_gguf_put_texts(&writer, "t", 100000);
    for (uint32_t i = 0; i < 100000; i++) {
        (void)snprintf(item, sizeof item, "token number %u of many", i);
        cllm_gguf_put_item(&writer, item, strlen(item));
    }
    assert_int_equal(cllm_gguf_writer_begin(&writer, path, false), 0);
    assert_true(writer.used > 3u << 20);
    assert_int_equal(cllm_gguf_writer_finish(&writer), 0);
    assert_int_equal(cllm_gguf_open(&gguf, path), 0);
    assert_int_equal(cllm_gguf_get_array(&gguf, "t", CLLM_GGUF_TEXT, &value), 0);
    assert_int_equal(value->n, 100000);
    cllm_gguf_close(&gguf);
}

static void sound_files_of_others_are_read(void **state)
{
    struct image image;
    struct cllm_gguf gguf;
    uint64_t number = 0;

    (void)state;
    head(&image, 1, 4);
    text(&image, "general.alignment");
    u32(&image, CLLM_GGUF_U32);
    u32(&image, 64);
    text(&image, "i8");
    u32(&image, CLLM_GGUF_I8);
    add(&image, "\x05", 1);
    text(&image, "negative");
    u32(&image, CLLM_GGUF_I16);
    add(&image, "\xff\xff", 2);
    text(&image, "u64");
    u32(&image, CLLM_GGUF_U64);
    u64(&image, UINT64_MAX);
    tensor(&image, "w", 256, 2, 12 /* q4_k */, 0);
    finish(&image, 64, 288);
    assert_int_equal(parse(&image, &gguf, NULL), 0);
    assert_int_equal(gguf.align, 64);
    assert_int_equal(gguf.tensor[0].data_off % 64, 0);
    assert_int_equal(gguf.tensor[0].bytes, 288);
    assert_int_equal(cllm_gguf_get_u64(&gguf, "i8", &number), 0);
    assert_int_equal(number, 5);
    assert_int_equal(cllm_gguf_get_u64(&gguf, "u64", &number), 0);
    assert_true(number == UINT64_MAX);
    assert_int_equal(cllm_gguf_get_u64(&gguf, "negative", &number), CLLM_EDATA);
    assert_error_says("0 or more");
    cllm_gguf_close(&gguf);
}

static void lies_in_the_header_are_refused(void **state)
{
    struct image image;

    (void)state;
    head(&image, 0, 0);
    memcpy(image.bytes, "GGML", 4);
    refused(&image, "does not begin with GGUF");
    head(&image, 0, 0);
    image.bytes[4] = 1;
    refused(&image, "version is not known");
    head(&image, 0, 0);
    memcpy(image.bytes + 4, "\0\0\0\3", 4);
    refused(&image, "big-endian");
    head(&image, 0, UINT64_MAX);
    refused(&image, "counts more");
    head(&image, UINT64_C(1) << 61, 0);
    refused(&image, "counts more");
    head(&image, 0, 1);
    u64(&image, 0);
    finish(&image, 32, 32);
    refused(&image, "empty or too long");
    head(&image, 0, 1);
    u64(&image, UINT64_MAX - 3);
    finish(&image, 32, 32);
    refused(&image, "ends too soon");
    head(&image, 0, 1);
    text(&image, "k");
    u32(&image, 13);
    finish(&image, 32, 32);
    refused(&image, "no known type");
    head(&image, 0, 1);
    text(&image, "k");
    u32(&image, CLLM_GGUF_BOOL);
    add(&image, "\2", 1);
    refused(&image, "neither 0 nor 1");
    head(&image, 0, 1);
    text(&image, "k");
    u32(&image, CLLM_GGUF_ARRAY);
    u32(&image, CLLM_GGUF_ARRAY);
    u64(&image, 1);
    finish(&image, 32, 32);
    refused(&image, "array of arrays");
    head(&image, 0, 1);
    text(&image, "k");
    u32(&image, CLLM_GGUF_ARRAY);
    u32(&image, CLLM_GGUF_F64);
    u64(&image, UINT64_C(1) << 61); /* times 8 is 0 */
    finish(&image, 32, 32);
    refused(&image, "counts more");
    head(&image, 0, 2);
    for (int i = 0; i < 2; i++) {
        text(&image, "same");
        u32(&image, CLLM_GGUF_U32);
        u32(&image, 1);
    }
    refused(&image, "a key is there twice");
    static const uint32_t aligns[] = {0, 3, 1u << 21};
    for (size_t i = 0; i < CLLM_LEN(aligns); i++) {
        head(&image, 0, 1);
        text(&image, "general.alignment");
        u32(&image, CLLM_GGUF_U32);
        u32(&image, aligns[i]);
        refused(&image, "power of two");
    }
}

static void lies_about_tensors_are_refused(void **state)
{
    struct image image;

    (void)state;
    head(&image, 1, 0);
    tensor(&image, "w", 4, 2, 0, 0);
    finish(&image, 32, 31);
    refused(&image, "beyond the end");
    head(&image, 1, 0);
    tensor(&image, "w", 4, 2, 0, 32);
    finish(&image, 32, 64);
    refused(&image, "not where they must be");
    head(&image, 2, 0);
    tensor(&image, "w", 4, 2, 0, 0);
    tensor(&image, "w", 4, 2, 0, 32);
    finish(&image, 32, 64);
    refused(&image, "a tensor is there twice");
    head(&image, 1, 0);
    tensor(&image, "w", 4, 2, 99, 0);
    finish(&image, 32, 64);
    refused(&image, "type is not known");
    head(&image, 1, 0);
    tensor(&image, "w", 33, 2, CLLM_GGUF_TYPE_Q8_0, 0);
    finish(&image, 32, 128);
    refused(&image, "rows do not fill it");
    head(&image, 1, 0);
    tensor(&image, "w", UINT64_C(1) << 40, UINT64_C(1) << 40, 0, 0);
    finish(&image, 32, 64);
    refused(&image, "shape overflows");
    head(&image, 1, 0);
    tensor(&image, "w", UINT64_C(1) << 61, 2, 0, 0); /* bytes overflow */
    finish(&image, 32, 64);
    refused(&image, "");
    head(&image, 1, 0);
    tensor(&image, "0123456789012345678901234567890123456789012345678901234567890123", 1,
           1, 0, 0);
    finish(&image, 32, 64);
    refused(&image, "name is empty, too long");
    head(&image, 1, 0);
    text(&image, "w");
    u32(&image, 5);
    finish(&image, 32, 64);
    refused(&image, "rank is above 4");
}

static void every_truncation_is_refused(void **state)
{
    struct image image, part;
    struct cllm_gguf gguf;
    bool is_short = false;
    size_t header;

    (void)state;
    head(&image, 1, 1);
    text(&image, "general.architecture");
    u32(&image, CLLM_GGUF_TEXT);
    text(&image, "gpt2");
    tensor(&image, "w", 4, 2, 0, 0);
    header = image.n;
    finish(&image, 32, 32);
    for (size_t n = 0; n < image.n; n++) {
        part = image;
        part.n = n;
        assert_int_equal(parse(&part, &gguf, NULL), CLLM_EDATA);
        if (n >= header)
            continue;
        /* The same bytes of a file that goes on: more must be read. */
        assert_int_equal(
            cllm_gguf_parse(&gguf, image.bytes, n, image.n, "m.gguf", &is_short),
            CLLM_EDATA);
        assert_true(is_short);
    }
    assert_int_equal(parse(&image, &gguf, &is_short), 0);
    assert_false(is_short);
    cllm_gguf_close(&gguf);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(values_that_are_written_read_back),
        T(tensors_that_are_written_read_back),
        T(a_number_that_does_not_fit_is_refused_by_name),
        T(what_exists_is_replaced_only_when_asked),
        T(a_long_header_is_read_in_growing_parts),
        T(sound_files_of_others_are_read),
        T(lies_in_the_header_are_refused),
        T(lies_about_tensors_are_refused),
        T(every_truncation_is_refused),
    };

    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
