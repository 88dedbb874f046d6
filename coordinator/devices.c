/*
 * coordinator/devices.c - see coordinator/devices.h.
 */
#include "coordinator/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/pulse.h"
#include "coordinator/children.h"
#include "formats/json.h"
#include "model/model.h"

#define LOOK_NS (30 * CLLM_NS_PER_S) /* drivers that take longer to load are hung */

enum { ANSWER = 256 * 1024 };

/* ---- what there is ---- */

/* What is written to @fd until it closes, at most ANSWER - 1 bytes. False: too late. */
static bool read_answer(int fd, char *answer, size_t *bytes)
{
    uint64_t until = cllm_now_ns() + LOOK_NS;

    *bytes = 0;
    while (*bytes < ANSWER - 1 && cllm_now_ns() < until) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        ssize_t n;

        cllm_pulse();
        if (poll(&ready, 1, 100) <= 0)
            continue;
        n = read(fd, answer + *bytes, ANSWER - 1 - *bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            answer[*bytes] = '\0';
            return true;
        }
        *bytes += (size_t)n;
    }
    return false;
}

/* Let cllm-devices say what there is. Returns 0 or a negative code with the reason why
 * nobody knows. */
static int ask(char *answer, size_t *bytes)
{
    struct cllm_process process = {.pidfd = -1};
    struct cllm_spawn how = {.device = true};
    struct cllm_ending ending;
    char directory[1024], path[1100];
    char *argv[] = {path, (char[]){"--json"}, NULL};
    int ends[2], rc = cllm_binary_directory(directory, sizeof directory);
    bool whole;

    if (rc != 0)
        return rc;
    (void)snprintf(path, sizeof path, "%s/cllm-devices", directory);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return cllm_err(-errno, "cannot ask cllm-devices");
    how.output = ends[1];
    rc = cllm_process_spawn(&process, path, argv, &how);
    (void)close(ends[1]);
    if (rc != 0) {
        (void)close(ends[0]);
        return rc;
    }
    whole = read_answer(ends[0], answer, bytes);
    (void)close(ends[0]);
    if (!whole || !cllm_process_ended(&process, 1000))
        cllm_process_signal(&process, SIGKILL);
    cllm_process_reap(&process, &ending);
    if (!whole)
        return cllm_err(-ETIMEDOUT, "a driver does not answer within %d s",
                        (int)(LOOK_NS / CLLM_NS_PER_S));
    if (ending.by_signal)
        return cllm_err(-EIO, "a driver ended cllm-devices: %s", ending.text);
    return 0;
}

/* What an answer says: the first GPU, else, unless @gpu, the first device. */
struct found {
    char name[CLLM_DEVICE_BYTES]; /* "0:1"; "" = there is none */
    char text[128];               /* for people; or why there is none */
};

static int take_device(const json_t *device, bool gpu, struct found *found)
{
    const char *where = "cllm-devices", *kind, *name;
    uint64_t platform, number;
    int rc = cllm_json_get_text(device, where, "kind", &kind);

    if (rc == 0)
        rc = cllm_json_get_text(device, where, "name", &name);
    if (rc == 0)
        rc = cllm_json_get_u64(device, where, "platform", &platform);
    if (rc == 0)
        rc = cllm_json_get_u64(device, where, "device", &number);
    if (rc != 0)
        return rc;
    if (gpu && strcmp(kind, "gpu") != 0)
        return 0;
    (void)snprintf(found->name, sizeof found->name, "%u:%u", (unsigned)platform,
                   (unsigned)number);
    (void)snprintf(found->text, sizeof found->text, "%.100s", name);
    return 0;
}

/* Look for a device; without any, found->text says why. */
static int look(struct found *found, bool only_gpu)
{
    static char answer[ANSWER];
    json_t *json = NULL, *devices = NULL;
    const char *error;
    size_t bytes = 0;
    int rc = ask(answer, &bytes);

    *found = (struct found){.text = "none was found"};
    if (rc == 0)
        rc = cllm_json_parse(answer, bytes, "cllm-devices", &json);
    if (rc != 0)
        return rc;
    rc = cllm_json_get_array(json, "cllm-devices", "devices", &devices);
    for (size_t i = 0; rc == 0 && found->name[0] == '\0' && i < json_array_size(devices);
         i++)
        rc = take_device(json_array_get(devices, i), true, found);
    if (rc == 0 && found->name[0] == '\0' && !only_gpu && json_array_size(devices) > 0)
        rc = take_device(json_array_get(devices, 0), false, found);
    if (rc == 0 && json_array_size(devices) == 0 && json_object_get(json, "error") &&
        cllm_json_get_text(json, "cllm-devices", "error", &error) == 0)
        (void)snprintf(found->text, sizeof found->text, "%.120s", error);
    json_decref(json);
    return rc;
}

/* ---- what slots get ---- */

/* One more entry: @len bytes at @at, without the blanks around; auto is @chosen. */
static int take_entry(struct cllm_devices *devices, const char *at, size_t len,
                      const char *chosen)
{
    char *entry = devices->entry[devices->n];
    int n;

    while (len > 0 && at[0] == ' ')
        at++, len--;
    while (len > 0 && at[len - 1] == ' ')
        len--;
    if (len == 0)
        return cllm_err(CLLM_ECONFIG, "compute.device has an empty entry");
    if (len == 3 && strncmp(at, "cpu", len) == 0)
        n = 0;
    else if (len == 4 && strncmp(at, "auto", len) == 0)
        n = snprintf(entry, CLLM_DEVICE_BYTES, "%s", chosen);
    else
        n = snprintf(entry, CLLM_DEVICE_BYTES, "%.*s", (int)len, at);
    if (n >= CLLM_DEVICE_BYTES)
        return cllm_err(CLLM_ECONFIG, "compute.device: an entry has more than %d bytes",
                        CLLM_DEVICE_BYTES - 1);
    devices->n++;
    return 0;
}

static int take_list(struct cllm_devices *devices, const char *list, const char *chosen)
{
    int rc = 0;

    for (const char *at = list; rc == 0 && at != NULL;) {
        size_t len = strcspn(at, ",");

        if (devices->n == CLLM_DEVICES_MAX)
            return cllm_err(CLLM_ECONFIG, "compute.device has more than %d entries",
                            CLLM_DEVICES_MAX);
        rc = take_entry(devices, at, len, chosen);
        at = at[len] == ',' ? at + len + 1 : NULL;
    }
    return rc;
}

static int check_mixture(const struct cllm_devices *devices,
                         const struct cllm_config *config)
{
    int rc;

    if (!cllm_devices_mixed(devices) || config->run_audit == 0)
        return 0;
    rc = cllm_err(CLLM_ECONFIG,
                  "run.audit compares what two workers compute, and compute.device = %s "
                  "lets them make different numbers",
                  config->compute_device);
    cllm_err_hint("--set run.audit=0, or the same device for all");
    return rc;
}

/* Tiles of AMX are the processor's. */
static int check_precision(const struct cllm_config *config)
{
    bool bf16 = config->compute_precision == CLLM_PRECISION_BF16_AMX;
    int rc;

    if (!bf16 && config->compute_precision != CLLM_PRECISION_F32_AMX)
        return 0;
    rc = cllm_err(CLLM_ECONFIG,
                  "compute.precision = %s-amx is for processors: an OpenCL device "
                  "multiplies in f32 or bf16",
                  bf16 ? "bf16" : "f32");
    cllm_err_hint("--set compute.precision=%s, or --set compute.backend=cpu",
                  bf16 ? "bf16" : "f32");
    return rc;
}

/* There is none: stay with the processor, or say why not. */
static int without(struct cllm_devices *devices, const struct cllm_config *config,
                   const struct found *found, int rc)
{
    const char *why = rc != 0 ? cllm_err_text() : found->text;

    *devices = (struct cllm_devices){0};
    if (config->compute_backend == CLLM_BACKEND_AUTO ||
        config->compute_on_device_loss == CLLM_LOSS_CPU) {
        (void)snprintf(devices->why, sizeof devices->why,
                       "lanes are computed on the processor: no OpenCL %s: %.200s",
                       config->compute_backend == CLLM_BACKEND_AUTO ? "GPU" : "device",
                       why);
        return 0;
    }
    if (rc == 0) {
        rc = cllm_err(CLLM_EDEVICE, "compute.backend = opencl, but there is no device");
        cllm_err_detail("%s", found->text);
    } else {
        cllm_err_add("compute.backend = opencl");
        rc = CLLM_EDEVICE;
    }
    cllm_err_hint("cllm-info lists devices; --set compute.backend=cpu computes on the "
                  "processor, backend = auto or on_device_loss = cpu when there is none");
    return rc;
}

int cllm_devices_choose(struct cllm_devices *devices, const struct cllm_config *config)
{
    bool automatic = config->compute_backend == CLLM_BACKEND_AUTO;
    struct found found;
    int rc;

    *devices = (struct cllm_devices){0};
    if (config->compute_backend == CLLM_BACKEND_CPU)
        return 0;
    rc = look(&found, automatic);
    if (rc != 0 || found.name[0] == '\0')
        return without(devices, config, &found, rc);
    rc = take_list(devices, config->compute_device, found.name);
    if (rc == 0)
        rc = check_mixture(devices, config);
    if (rc == 0)
        rc = check_precision(config);
    if (rc != 0)
        return rc;
    (void)snprintf(
        devices->why, sizeof devices->why,
        "lanes are computed with OpenCL on %.80s%s%s%s%s; the first start "
        "there compiles the kernels, which takes a while",
        strcmp(config->compute_device, "auto") == 0 ? found.text : config->compute_device,
        automatic ? " (auto: a GPU was found)" : "",
        devices->n > 1 ? ", which workers take in turn" : "",
        config->compute_threads > 1 ? "; a worker with a device has one thread, whatever "
                                      "compute.threads says"
                                    : "",
        cllm_devices_mixed(devices)
            ? "; the bits of this run are its own: they depend on who "
              "computes what"
            : "");
    return 0;
}

const char *cllm_devices_of(const struct cllm_devices *devices, uint32_t slot)
{
    if (devices->n == 0 || slot >= CLLM_MAX_WORKERS || devices->lost[slot])
        return "";
    return devices->entry[slot % devices->n];
}

bool cllm_devices_mixed(const struct cllm_devices *devices)
{
    bool processor = false, device = false;

    for (uint32_t i = 0; i < devices->n; i++) {
        processor |= devices->entry[i][0] == '\0';
        device |= devices->entry[i][0] != '\0';
    }
    return processor && device;
}

bool cllm_devices_may_mix(const struct cllm_devices *devices)
{
    for (uint32_t i = 1; i < devices->n; i++)
        if (strcmp(devices->entry[i], devices->entry[0]) != 0)
            return true;
    for (uint32_t slot = 0; slot < CLLM_MAX_WORKERS; slot++)
        if (devices->lost[slot])
            return true;
    return false;
}

bool cllm_devices_failed(struct cllm_devices *devices, uint32_t slot, bool worked)
{
    if (worked)
        devices->failures[slot] = 0;
    return ++devices->failures[slot] >= CLLM_DEVICE_FAILURES;
}

void cllm_devices_remember(const struct cllm_devices *devices, uint32_t slot,
                           struct cllm_command *command)
{
    command->device_failures = devices->failures[slot];
    command->device_lost = devices->lost[slot];
}

bool cllm_devices_recall(struct cllm_devices *devices, uint32_t slot,
                         const struct cllm_command *command)
{
    if (devices->n == 0)
        return false;
    devices->failures[slot] = command->device_failures;
    devices->lost[slot] = command->device_lost != 0;
    return devices->lost[slot];
}
