/*
 * tools/devices.c - cllm-devices: what OpenCL devices there are, as JSON, and nothing
 * else.
 *
 * A program of its own because asking loads the drivers of all devices into the process,
 * and these may print, crash or hang: whoever asks (cllm-info, Node Zero) starts it,
 * reads its output, and ends it when it takes too long.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "compute/opencl/opencl.h"
#include "formats/json.h"

#define PROGRAM "cllm-devices"

static void print_help(void)
{
    (void)printf(
        "Usage: " PROGRAM " [--json]\n"
        "List the OpenCL devices of this machine, as JSON on standard output.\n\n"
        "      --json      nothing else than without it\n"
        "      --help      this text\n"
        "      --version   version\n\n"
        "Exit code: 0 done, also when there is none; 1 failure; 2 usage.\n");
}

static void set_text(json_t *object, const char *key, const char *text)
{
    json_t *value = json_string(text); /* NULL: a driver's text is not UTF-8 */

    (void)json_object_set_new(object, key, value ? value : json_string("?"));
}

static void set_number(json_t *object, const char *key, uint64_t number)
{
    (void)json_object_set_new(object, key, json_integer((json_int_t)number));
}

static json_t *describe(const struct cllm_opencl_device *device)
{
    json_t *out = json_object();

    set_number(out, "platform", device->platform);
    set_number(out, "device", device->device);
    set_text(out, "platform_name", device->platform_name);
    set_text(out, "platform_version", device->platform_version);
    set_text(out, "name", device->name);
    set_text(out, "vendor", device->vendor);
    set_text(out, "version", device->version);
    set_text(out, "driver", device->driver);
    set_text(out, "kind", cllm_opencl_kind_names[device->kind]);
    set_number(out, "units", device->units);
    set_number(out, "megahertz", device->megahertz);
    set_number(out, "most_group", device->most_group);
    set_number(out, "memory_bytes", device->memory_bytes);
    set_number(out, "most_bytes", device->most_bytes);
    set_number(out, "local_bytes", device->local_bytes);
    (void)json_object_set_new(out, "local_is_fast", json_boolean(device->local_is_fast));
    (void)json_object_set_new(out, "unified", json_boolean(device->unified));
    set_number(out, "nvidia_major", device->nvidia_major);
    set_number(out, "nvidia_minor", device->nvidia_minor);
    return out;
}

/* The reason why there is none, with its detail. */
static void set_reason(json_t *out)
{
    struct cllm_err_text why;
    char text[1600];

    cllm_err_save(&why);
    (void)snprintf(text, sizeof text, "%s%s%s", why.text, why.detail[0] ? ": " : "",
                   why.detail);
    set_text(out, "error", text);
}

/* Standard output is the list alone: what drivers print goes to standard error. Returns
 * the descriptor to write to, or a negative code with text. */
static int keep_output(void)
{
    int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);

    if (fd < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return cllm_err(-errno, "cannot write to standard output");
    return fd;
}

static int list(void)
{
    static struct cllm_opencl_device devices[CLLM_OPENCL_DEVICES];
    json_t *out = json_object(), *array = json_array();
    uint32_t n = 0;
    int fd = keep_output(), rc = fd < 0 ? fd : 0;

    if (rc == 0) {
        if (cllm_opencl_list(devices, CLLM_OPENCL_DEVICES, &n) != 0)
            set_reason(out);
        for (uint32_t i = 0; i < n; i++)
            (void)json_array_append_new(array, describe(&devices[i]));
        (void)json_object_set(out, "devices", array);
        rc = cllm_json_write(out, fd, "standard output");
    }
    json_decref(array);
    json_decref(out);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        print_help();
        return CLLM_EXIT_OK;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        (void)printf(PROGRAM " (cllm) " CLLM_VERSION "\n");
        return CLLM_EXIT_OK;
    }
    if (argc > 1 && (argc > 2 || strcmp(argv[1], "--json") != 0)) {
        (void)fprintf(stderr,
                      PROGRAM ": unexpected argument %s\n"
                              "Try '" PROGRAM " --help' for more information.\n",
                      argv[1]);
        return CLLM_EXIT_USAGE;
    }
    if (list() == 0)
        _exit(CLLM_EXIT_OK); /* drivers may not survive their own end */
    cllm_err_print(PROGRAM);
    return CLLM_EXIT_FAILURE;
}
