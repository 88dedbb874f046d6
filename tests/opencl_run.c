/*
 * tests/opencl_run.c - see tests/opencl_run.h.
 */
#include "tests/opencl_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/opencl_simulated.h"

void cllm_opencl_run_write(const struct cllm_opencl_run *run, const char *kernels)
{
    char path[512];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/kernels/test.cl", run->directory);
    file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(kernels, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

void cllm_opencl_run_begin(struct cllm_opencl_run *run, const char *kernels)
{
    const char *parent = getenv("TMPDIR");
    char path[512];

    (void)snprintf(run->directory, sizeof run->directory, "%s/cllm-opencl-XXXXXX",
                   parent ? parent : "/tmp");
    assert_non_null(mkdtemp(run->directory));
    (void)snprintf(path, sizeof path, "%s/cache", run->directory);
    assert_int_equal(setenv("CLLM_CACHE_DIR", path, kernels != NULL), 0);
    (void)snprintf(path, sizeof path, "%s/kernels", run->directory);
    assert_int_equal(mkdir(path, 0700), 0);
    if (kernels) {
        assert_int_equal(setenv("CLLM_OPENCL_KERNELS", path, 1), 0);
        cllm_opencl_run_write(run, kernels);
    }
}

void cllm_opencl_run_keep_none(void)
{
    char path[512];

    (void)snprintf(path, sizeof path, "%s/pocl", getenv("CLLM_CACHE_DIR"));
    assert_int_equal(setenv("POCL_CACHE_DIR", path, 1), 0);
    assert_int_equal(setenv("CLLM_CACHE_DIR", "/dev/null", 1), 0);
}

void cllm_opencl_run_end(struct cllm_opencl_run *run)
{
    char command[600];

    (void)snprintf(command, sizeof command, "rm -rf '%s'", run->directory);
    assert_int_equal(system(command), 0);
}

static void open_or_skip(const struct cllm_opencl_options *options)
{
    struct cllm_err_text text;

    if (cllm_opencl_simulated())
        cllm_opencl_simulate();
    if (cllm_opencl_open(options) == 0)
        return;
    cllm_err_save(&text);
    print_message("skipped: %s %s\n", text.text, text.detail);
    skip();
}

void cllm_opencl_run_open(size_t most_bytes)
{
    open_or_skip(
        &(struct cllm_opencl_options){.most_bytes = most_bytes, .profile = true});
}

void cllm_opencl_run_open_for(bool bf16)
{
    open_or_skip(&(struct cllm_opencl_options){.profile = true, .bf16 = bf16});
}

void cllm_opencl_run_fine(int rc)
{
    struct cllm_err_text text;

    if (rc == 0)
        return;
    cllm_err_save(&text);
    print_message("%s %s\n", text.text, text.detail);
    fail();
}

void cllm_opencl_run_not_simulated(void)
{
    if (cllm_opencl_simulated())
        skip();
}

void cllm_opencl_run_only_if_long(void)
{
    if (getenv("CLLM_LONG") != NULL)
        return;
    print_message("skipped: minutes of compiling: CLLM_LONG=1, make test-opencl-long\n");
    skip();
}

size_t cllm_opencl_run_other(size_t i)
{
    return i * 37 % 70 + 1;
}

bool cllm_opencl_run_wants(const char *style)
{
    const char *only = getenv("CLLM_OPENCL_STYLE");

    return only == NULL || strcmp(only, style) == 0;
}
