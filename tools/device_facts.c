/*
 * tools/device_facts.c - see tools/device_facts.h.
 */
#include "tools/device_facts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/units.h"
#include "formats/json.h"
#include "tools/bench_child.h"

#define SECTION  "devices"
#define PATIENCE (30 * CLLM_NS_PER_S) /* drivers that take longer to load are hung */

enum { ANSWER = 256 * 1024, SHOWN = 8 };

/* Keys are kept by address. */
static char keys[SHOWN][64];

static void add_none(struct cllm_facts *facts, const char *why)
{
    cllm_facts_add(facts, SECTION, "opencl", "none: %.400s", why);
}

static int add_device(struct cllm_facts *facts, uint32_t row, const json_t *device)
{
    static const char where[] = "cllm-devices";
    char memory[CLLM_UNITS_BYTES], most[CLLM_UNITS_BYTES], capability[80] = "";
    const char *name, *platform_name, *driver, *kind;
    uint64_t platform, number, units, bytes, most_bytes, major, minor;
    int rc = cllm_json_get_text(device, where, "name", &name);

    if (rc == 0)
        rc = cllm_json_get_text(device, where, "platform_name", &platform_name);
    if (rc == 0)
        rc = cllm_json_get_text(device, where, "driver", &driver);
    if (rc == 0)
        rc = cllm_json_get_text(device, where, "kind", &kind);
    if (rc == 0)
        rc = cllm_json_get_u64(device, where, "platform", &platform);
    if (rc == 0)
        rc = cllm_json_get_u64(device, where, "device", &number);
    if (rc == 0)
        rc = cllm_json_get_u64(device, where, "units", &units);
    if (rc == 0)
        rc = cllm_json_get_u64(device, where, "memory_bytes", &bytes);
    if (rc == 0)
        rc = cllm_json_get_u64(device, where, "most_bytes", &most_bytes);
    if (rc == 0)
        rc = cllm_json_get_u64(device, where, "nvidia_major", &major);
    if (rc == 0)
        rc = cllm_json_get_u64(device, where, "nvidia_minor", &minor);
    if (rc != 0)
        return rc;
    if (major > 0)
        (void)snprintf(capability, sizeof capability,
                       ", compute capability %" PRIu64 ".%" PRIu64, major, minor);
    (void)snprintf(keys[row], sizeof keys[row], "opencl %" PRIu64 ":%" PRIu64, platform,
                   number);
    cllm_facts_add(facts, SECTION, keys[row],
                   "%s: %s, %" PRIu64 " unit%s, %s, buffers up to %s%s; %s, driver %s",
                   name, kind, units, cllm_plural(units),
                   cllm_format_bytes(memory, bytes), cllm_format_bytes(most, most_bytes),
                   capability, platform_name, driver);
    return 0;
}

static int add_devices(struct cllm_facts *facts, const json_t *answer)
{
    const char *why;
    json_t *devices;
    size_t n;
    int rc = cllm_json_get_array(answer, "cllm-devices", "devices", &devices);

    if (rc != 0)
        return rc;
    n = json_array_size(devices);
    if (n == 0) {
        rc = cllm_json_get_text(answer, "cllm-devices", "error", &why);
        if (rc == 0)
            add_none(facts, why);
        return rc;
    }
    for (uint32_t i = 0; rc == 0 && i < n && i < SHOWN; i++)
        rc = add_device(facts, i, json_array_get(devices, i));
    return rc;
}

void cllm_device_facts_read(struct cllm_facts *facts, const char *answer, size_t bytes)
{
    json_t *json;
    int rc = cllm_json_parse(answer, bytes, "cllm-devices", &json);

    if (rc == 0) {
        rc = add_devices(facts, json);
        json_decref(json);
    }
    if (rc != 0)
        add_none(facts, cllm_err_text());
}

void cllm_device_facts_add(struct cllm_facts *facts)
{
    static char answer[ANSWER];
    char *argv[] = {(char[]){"cllm-devices"}, NULL};
    size_t bytes;

    if (cllm_bench_child_ask("cllm-devices", argv, PATIENCE, answer, sizeof answer,
                             &bytes) == 0)
        cllm_device_facts_read(facts, answer, bytes);
    else
        add_none(facts, cllm_err_text());
}
