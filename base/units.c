/*
 * base/units.c - see base/units.h. Integer arithmetic only: a text never depends on the
 * locale's decimal comma or on how a double rounds.
 */
#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"

/*
 * @n in the largest unit of @units that keeps it at 1 or above: one decimal below 100,
 * none above, and never "1000k" or "1024 KiB", because rounding up moves on to the next
 * unit.
 */
static void scaled(char out[CLLM_UNITS_BYTES], uint64_t n, uint64_t base,
                   const char *const units[], size_t n_units)
{
    uint64_t unit = 1;
    size_t i = 0;

    while (i + 1 < n_units && n / unit >= base) {
        unit *= base;
        i++;
    }
    if (i == 0) {
        (void)snprintf(out, CLLM_UNITS_BYTES, "%" PRIu64 "%s", n, units[0]);
        return;
    }

    /* rounded to tenths; the remainder is below 2^60, so ten times it still fits */
    uint64_t rest = n % unit;
    unsigned whole = (unsigned)(n / unit);
    unsigned tenths = whole * 10 + (unsigned)((rest * 10 + unit / 2) / unit);

    if (tenths < 1000) {
        (void)snprintf(out, CLLM_UNITS_BYTES, "%u.%u%s", tenths / 10, tenths % 10,
                       units[i]);
        return;
    }
    if (rest >= unit - unit / 2)
        whole++;
    if (whole >= base && i + 1 < n_units)
        (void)snprintf(out, CLLM_UNITS_BYTES, "1.0%s", units[i + 1]);
    else
        (void)snprintf(out, CLLM_UNITS_BYTES, "%u%s", whole, units[i]);
}

const char *cllm_format_bytes(char out[CLLM_UNITS_BYTES], uint64_t bytes)
{
    static const char *const units[] = {" B",   " KiB", " MiB", " GiB",
                                        " TiB", " PiB", " EiB"};

    scaled(out, bytes, 1024, units, CLLM_LEN(units));
    return out;
}

const char *cllm_format_count(char out[CLLM_UNITS_BYTES], uint64_t n)
{
    static const char *const units[] = {"", "k", "M", "G", "T", "P", "E"};

    scaled(out, n, 1000, units, CLLM_LEN(units));
    return out;
}

/* Times below a minute, in the unit that keeps them at 1 or above. */
static void short_duration(char out[CLLM_UNITS_BYTES], uint64_t ns)
{
    if (ns == 0)
        (void)snprintf(out, CLLM_UNITS_BYTES, "0s");
    else if (ns < 1000)
        (void)snprintf(out, CLLM_UNITS_BYTES, "%" PRIu64 "ns", ns);
    else if (ns < CLLM_NS_PER_MS)
        (void)snprintf(out, CLLM_UNITS_BYTES, "%" PRIu64 "us", ns / 1000);
    else if (ns < 100 * CLLM_NS_PER_MS)
        (void)snprintf(out, CLLM_UNITS_BYTES, "%" PRIu64 ".%" PRIu64 "ms",
                       ns / CLLM_NS_PER_MS, ns / (CLLM_NS_PER_MS / 10) % 10);
    else if (ns < CLLM_NS_PER_S)
        (void)snprintf(out, CLLM_UNITS_BYTES, "%" PRIu64 "ms", ns / CLLM_NS_PER_MS);
    else
        (void)snprintf(out, CLLM_UNITS_BYTES, "%" PRIu64 ".%" PRIu64 "s",
                       ns / CLLM_NS_PER_S, ns / (CLLM_NS_PER_S / 10) % 10);
}

/* Rounded down, as clocks do: "59.9s" never shows as "60.0s". */
const char *cllm_format_duration(char out[CLLM_UNITS_BYTES], uint64_t ns)
{
    uint64_t s = ns / CLLM_NS_PER_S;

    if (s < 60)
        short_duration(out, ns);
    else if (s < 3600)
        (void)snprintf(out, CLLM_UNITS_BYTES, "%" PRIu64 "m%02" PRIu64 "s", s / 60,
                       s % 60);
    else if (s < 86400)
        (void)snprintf(out, CLLM_UNITS_BYTES, "%" PRIu64 "h%02" PRIu64 "m", s / 3600,
                       s / 60 % 60);
    else
        (void)snprintf(out, CLLM_UNITS_BYTES, "%" PRIu64 "d%02" PRIu64 "h", s / 86400,
                       s / 3600 % 24);
    return out;
}

const char *cllm_plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

const char *cllm_plural_es(uint64_t n)
{
    return n == 1 ? "" : "es";
}
