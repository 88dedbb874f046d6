/*
 * tests/test_safetensors.c - the writer's plan, and a reader that believes nothing.
 */
#include "tests/formats_temp.h"

#include <errno.h>
#include <fcntl.h>

#include "formats/safetensors.h"

static const struct cllm_tensor two[] = {
    {.name = "wte.weight", .rank = 2, .shape = {3, 5}, .count = 15, .off = 0},
    {.name = "ln.bias", .rank = 1, .shape = {7, 1}, .count = 7, .off = 16},
};

/* A file image: length of @json (or @length when it is not 0), @json, @data zeros. */
static size_t image(uint8_t *out, const char *json, size_t json_bytes, uint64_t length,
                    size_t data)
{
    uint64_t n = length != 0 ? length : json_bytes;

    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(n >> (8 * i));
    memcpy(out + 8, json, json_bytes);
    memset(out + 8 + json_bytes, 0, data);
    return 8 + json_bytes + data;
}

/* Parse from a heap copy of exact size, so that the sanitizer sees reads beyond it. */
static int parse(struct cllm_safetensors *st, const uint8_t *bytes, size_t n)
{
    uint8_t *copy = malloc(n + (n == 0));

    assert_non_null(copy);
    memcpy(copy, bytes, n);
    int rc = cllm_safetensors_parse(st, copy, n, n, "m.safetensors");
    free(copy);
    return rc;
}

#define META "\"__metadata__\":{\"format\":\"pt\"}"
#define A(dtype, shape, offsets) \
    "\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define B(dtype, shape, offsets) \
    "\"b\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void sound_headers_are_read(void **state)
{
    static const struct {
        const char *json;
        size_t data;
        uint32_t n_tensors;
    } good[] = {
        {"{}", 0, 0},
        {"{" META "}", 0, 0},
        {"{" META "," A("F32", "[2,3]", "[0,24]") "}", 24, 1},
        {"{" A("F32", "[]", "[0,4]") "}", 4, 1},  /* a scalar */
        {"{" A("F32", "[0]", "[0,0]") "}", 0, 1}, /* nothing */
        {"{" A("F32", "[3,0]", "[4,4]") "," B("F32", "[1]", "[0,4]") "}", 4, 2},
        {"{" A("F32", "[1]", "[4,8]") "," B("F32", "[1]", "[0,4]") "}", 8, 2},
        {"{" A("F16", "[1]", "[0,2]") "," B("U8", "[3]", "[2,5]") "}", 5, 2},
        {"{" A("BOOL", "[1]", "[0,1]") "}   ", 1, 1}, /* padded */
        {"{ " A("I64", "[1,1,1,1,1,1,1,1]", "[0,8]") " }", 8, 1},
    };
    uint8_t bytes[512];
    struct cllm_safetensors st;

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(good); i++) {
        size_t n = image(bytes, good[i].json, strlen(good[i].json), 0, good[i].data);
        if (parse(&st, bytes, n) != 0)
            fail_msg("%s: %s", good[i].json, cllm_err_text());
        assert_int_equal(st.n_tensors, good[i].n_tensors);
        for (uint32_t k = 1; k < st.n_tensors; k++)
            assert_true(st.tensor[k].data_off >= st.tensor[k - 1].data_off);
        cllm_safetensors_close(&st);
    }
}

static void every_rule_of_the_format_is_enforced(void **state)
{
    static const struct {
        const char *json;
        size_t data;
        const char *says;
    } bad[] = {
        {" {}", 0, "does not begin with '{'"},
        {"[]", 0, "does not begin with '{'"},
        {"{]", 0, "m.safetensors:1:"},
        {"{}x", 0, "m.safetensors:1:"},
        {"{\"a\xff\":1}", 0, "m.safetensors:"},
        {"{" META "," META "}", 0, "m.safetensors:1:"},
        {"{" A("F32", "[1]", "[0,4]") "," A("F32", "[1]", "[4,8]") "}", 8, "duplicate"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "not text"},
        {"{\"__metadata__\":[]}", 0, "not an object"},
        {"{\"a\":1}", 0, "not an object"},
        {"{\"a\":{}}", 0, "nothing else"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "nothing else"},
        {"{\"a\":{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "no dtype"},
        {"{" A("F31", "[1]", "[0,4]") "}", 4, "unknown dtype"},
        {"{" A("none", "[1]", "[0,0]") "}", 0, "unknown dtype"},
        {"{" A("F32", "1", "[0,4]") "}", 4, "not an array"},
        {"{" A("F32", "[1.0]", "[0,4]") "}", 4, "no whole number"},
        {"{" A("F32", "[-1]", "[0,4]") "}", 4, "no whole number"},
        {"{" A("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "rank"},
        {"{" A("F32", "[4294967296,4294967296]", "[0,0]") "}", 0, "overflows"},
        {"{" A("F32", "[4611686018427387905]", "[0,4]") "}", 4, "overflows"},
        {"{" A("F32", "[9223372036854775807,2]", "[0,4]") "}", 4, "overflows"},
        {"{" A("F32", "[1]", "[0]") "}", 4, "not [BEGIN, END]"},
        {"{" A("F32", "[1]", "[0,4,8]") "}", 4, "not [BEGIN, END]"},
        {"{" A("F32", "[1]", "{}") "}", 4, "not [BEGIN, END]"},
        {"{" A("F32", "[1]", "[4,0]") "}", 4, "not [BEGIN, END]"},
        {"{" A("F32", "[1]", "[-4,0]") "}", 4, "not [BEGIN, END]"},
        {"{" A("F32", "[1]", "[0,4.0]") "}", 4, "not [BEGIN, END]"},
        {"{" A("F32", "[2]", "[0,8]") "}", 7, "beyond the end"},
        {"{" A("F32", "[1]", "[9223372036854775803,9223372036854775807]") "}", 4,
         "beyond the end"},
        {"{" A("F32", "[2]", "[0,7]") "}", 7, "do not fit its shape"},
        {"{" A("F32", "[2]", "[0,4]") "}", 4, "do not fit its shape"},
        {"{" A("F32", "[1]", "[4,8]") "}", 8, "hole"},
        {"{" A("F32", "[1]", "[0,4]") "," B("F32", "[1]", "[8,12]") "}", 12, "hole"},
        {"{" A("F32", "[2]", "[0,8]") "," B("F32", "[1]", "[4,8]") "}", 8, "overlap"},
        {"{" A("F32", "[1]", "[0,4]") "," B("F32", "[1]", "[0,4]") "}", 4, "overlap"},
        {"{" A("F32", "[1]", "[0,4]") "}", 5, "behind the last tensor"},
        {"{}", 1, "behind the last tensor"},
    };
    uint8_t bytes[512];
    struct cllm_safetensors st;

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        size_t n = image(bytes, bad[i].json, strlen(bad[i].json), 0, bad[i].data);
        if (parse(&st, bytes, n) != CLLM_EDATA)
            fail_msg("accepted: %s", bad[i].json);
        assert_error_says(bad[i].says);
    }
}

static void lying_lengths_are_refused(void **state)
{
    static const struct {
        uint64_t length;
        const char *says;
    } bad[] = {
        {1, "too small"},
        {3, "longer than the file"},
        {100000000, "longer than"},
        {100000001, "too large"},
        {UINT64_MAX, "too large"},
        {UINT64_MAX - 7, "too large"},
        {UINT64_C(1) << 63, "too large"},
    };
    uint8_t bytes[64];
    struct cllm_safetensors st;

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        size_t n = image(bytes, "{}", 2, bad[i].length, 0);
        assert_int_equal(parse(&st, bytes, n), CLLM_EDATA);
        assert_error_says(bad[i].says);
    }
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(parse(&st, bytes, 8), CLLM_EDATA);
    for (size_t n = 0; n < 8; n++) {
        assert_int_equal(parse(&st, bytes, n), CLLM_EDATA);
        assert_error_says("shorter than 8 bytes");
    }
}

static void every_truncation_and_extension_is_refused(void **state)
{
    static const char json[] =
        "{" META "," A("F32", "[2,3]", "[0,24]") "," B("F32", "[]", "[24,28]") "}  ";
    uint8_t bytes[512];
    size_t n = image(bytes, json, sizeof json - 1, 0, 28);
    struct cllm_safetensors st;

    assert_int_equal(parse(&st, bytes, n), 0);
    cllm_safetensors_close(&st);
    for (size_t cut = 0; cut < n; cut++) {
        assert_int_equal(parse(&st, bytes, cut), CLLM_EDATA);
        put_file(in(*state, "cut"), bytes, cut);
        assert_int_equal(cllm_safetensors_open(&st, in(*state, "cut")), CLLM_EDATA);
    }
    assert_int_equal(parse(&st, bytes, n + 1), CLLM_EDATA);
    assert_int_equal(cllm_safetensors_open(&st, in(*state, "absent")), -ENOENT);
    assert_int_equal(cllm_safetensors_open(&st, *state), CLLM_EDATA);
}

/* What must hold of whatever the reader accepts. */
static void assert_tiled(const struct cllm_safetensors *st, uint64_t header_bytes)
{
    uint64_t off = header_bytes;

    for (uint32_t i = 0; i < st->n_tensors; i++) {
        const struct cllm_safetensors_tensor *tensor = &st->tensor[i];
        uint64_t elements = 1;
        for (uint32_t k = 0; k < tensor->rank; k++)
            elements *= tensor->shape[k];
        assert_int_equal(tensor->n_elements, elements);
        assert_int_equal(tensor->data_off, off);
        off += tensor->bytes;
    }
    assert_int_equal(off, st->file_bytes);
}

static void a_changed_byte_is_refused_or_harmless(void **state)
{
    static const char json[] =
        "{" META "," A("F32", "[2,3]", "[0,24]") "," B("F32", "[]", "[24,28]") "}  ";
    uint8_t bytes[512];
    size_t n = image(bytes, json, sizeof json - 1, 0, 28);
    size_t header = 8 + sizeof json - 1;
    uint32_t accepted = 0;

    (void)state;
    for (size_t at = 0; at < header; at++) {
        uint8_t old = bytes[at];
        for (unsigned value = 0; value < 256; value++) {
            struct cllm_safetensors st;
            bytes[at] = (uint8_t)value;
            int rc = parse(&st, bytes, n);
            if (rc != 0) {
                assert_int_equal(rc, CLLM_EDATA);
                continue;
            }
            accepted++;
            assert_int_equal(st.n_tensors, 2);
            assert_tiled(&st, header);
            cllm_safetensors_close(&st);
        }
        bytes[at] = old;
    }
    /* Letters of names and metadata, dtypes of equal size, spaces: no more than these. */
    assert_in_range(accepted, header, 6000);
}

static void the_plan_is_aligned_and_reads_back(void **state)
{
    static const struct cllm_safetensors_pair meta[] = {{"cllm.step", "7"}};
    const char *path = in(*state, "model.safetensors");
    struct cllm_safetensors_plan plan;
    struct cllm_safetensors st;
    float wte[15], bias[7], out[15];

    for (int i = 0; i < 15; i++)
        wte[i] = (float)i * 0.5f;
    for (int i = 0; i < 7; i++)
        bias[i] = -(float)i;
    assert_int_equal(cllm_safetensors_plan_init(&plan, "transformer.", two, 2, meta, 1),
                     0);
    assert_int_equal(plan.header_bytes % 4096, 0);
    assert_int_equal(plan.data_off[0], plan.header_bytes);
    assert_int_equal(plan.data_off[1], plan.header_bytes + 60);
    assert_int_equal(plan.file_bytes, plan.header_bytes + 88);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(cllm_file_pwrite_all(fd, plan.header, plan.header_bytes, 0, path),
                     0);
    assert_int_equal(cllm_file_pwrite_all(fd, bias, 28, plan.data_off[1], path), 0);
    assert_int_equal(cllm_file_pwrite_all(fd, wte, 60, plan.data_off[0], path), 0);
    assert_int_equal(close(fd), 0);

    assert_int_equal(cllm_safetensors_open(&st, path), 0);
    assert_int_equal(st.n_tensors, 2);
    assert_string_equal(cllm_safetensors_meta(&st, "format"), "pt");
    assert_string_equal(cllm_safetensors_meta(&st, "cllm.step"), "7");
    assert_null(cllm_safetensors_meta(&st, "absent"));
    assert_null(cllm_safetensors_find(&st, "wte.weight"));
    const struct cllm_safetensors_tensor *tensor =
        cllm_safetensors_find(&st, "transformer.wte.weight");
    assert_non_null(tensor);
    assert_int_equal(tensor->rank, 2);
    assert_int_equal(tensor->shape[0], 3);
    assert_int_equal(tensor->shape[1], 5);
    assert_int_equal(cllm_safetensors_read(&st, tensor, 0, 15, out), 0);
    assert_memory_equal(out, wte, sizeof wte);
    assert_int_equal(cllm_safetensors_read(&st, tensor, 14, 1, out), 0);
    assert_memory_equal(out, wte + 14, sizeof *wte);
    assert_int_equal(cllm_safetensors_read(&st, tensor, 14, 2, out), CLLM_EDATA);
    assert_int_equal(cllm_safetensors_read(&st, tensor, UINT64_MAX, 2, out), CLLM_EDATA);
    cllm_safetensors_close(&st);
    cllm_safetensors_plan_fini(&plan);
}

static void moments_come_m_first_then_v(void **state)
{
    static const char *const names[] = {"m.wte.weight", "m.ln.bias", "v.wte.weight",
                                        "v.ln.bias"};
    struct cllm_safetensors_plan plan;
    struct cllm_safetensors st;

    (void)state;
    assert_int_equal(cllm_safetensors_plan_moments(&plan, two, 2), 0);
    assert_int_equal(plan.n_tensors, 4);
    assert_int_equal(cllm_safetensors_parse(&st, plan.header, plan.header_bytes,
                                            plan.file_bytes, "optimizer"),
                     0);
    for (uint32_t i = 0; i < 4; i++) {
        assert_string_equal(st.tensor[i].name, names[i]);
        assert_int_equal(st.tensor[i].data_off, plan.data_off[i]);
    }
    cllm_safetensors_close(&st);
    cllm_safetensors_plan_fini(&plan);
}

static void a_long_header_grows_by_pages(void **state)
{
    const struct cllm_model_config model = {
        .vocab = 256, .context = 64, .layers = 12, .heads = 1, .width = 48};
    struct cllm_parameters parameters;
    struct cllm_safetensors_plan plan;
    struct cllm_safetensors st;

    (void)state;
    assert_int_equal(cllm_parameters_init(&parameters, &model), 0);
    assert_int_equal(cllm_safetensors_plan_init(&plan, "", parameters.tensors,
                                                parameters.n_tensors, NULL, 0),
                     0);
    assert_true(plan.header_bytes > 8192);
    assert_int_equal(plan.header_bytes % 4096, 0);
    assert_int_equal(cllm_safetensors_parse(&st, plan.header, plan.header_bytes,
                                            plan.file_bytes, "model"),
                     0);
    for (uint32_t i = 0; i < parameters.n_tensors; i++)
        assert_string_equal(st.tensor[i].name, parameters.tensors[i].name);
    cllm_safetensors_close(&st);
    cllm_safetensors_plan_fini(&plan);
    cllm_parameters_fini(&parameters);
}

static void another_dtype_is_not_read_as_floats(void **state)
{
    static const char json[] = "{" A("I32", "[1]", "[0,4]") "}";
    uint8_t bytes[256];
    struct cllm_safetensors st;
    float out[1];

    put_file(in(*state, "i32"), bytes, image(bytes, json, sizeof json - 1, 0, 4));
    assert_int_equal(cllm_safetensors_open(&st, in(*state, "i32")), 0);
    assert_int_equal(cllm_safetensors_read(&st, &st.tensor[0], 0, 1, out), CLLM_EDATA);
    assert_error_says("expected dtype F32, F16 or BF16, found I32");
    cllm_safetensors_close(&st);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(sound_headers_are_read),
        T(every_rule_of_the_format_is_enforced),
        T(lying_lengths_are_refused),
        T(every_truncation_and_extension_is_refused),
        T(a_changed_byte_is_refused_or_harmless),
        T(the_plan_is_aligned_and_reads_back),
        T(moments_come_m_first_then_v),
        T(a_long_header_grows_by_pages),
        T(another_dtype_is_not_read_as_floats),
    };

    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
