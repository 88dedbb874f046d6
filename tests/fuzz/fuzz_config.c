/*
 * tests/fuzz/fuzz_config.c - the configuration: .ini text, or one --set.
 *
 * What is accepted must come back from its own text: children and tools read the text
 * that Node Zero makes of what it has read.
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/err.h"

#define SET "--set " /* an input that begins so is an override */

/* The text of @config, parsed, must give the same text again. */
static void must_come_back(const struct cllm_config *config)
{
    struct cllm_config again;
    char *text = cllm_config_text(config), *other;

    CLLM_ASSERT(text);
    cllm_config_init(&again);
    CLLM_ASSERT(cllm_config_parse(&again, text, "again") == 0);
    other = cllm_config_text(&again);
    CLLM_ASSERT(other && strcmp(text, other) == 0);
    CLLM_ASSERT(cllm_config_check(config) == cllm_config_check(&again));
    cllm_config_fini(&again);
    free(other);
    free(text);
}

int fuzz_config(const uint8_t *data, size_t size)
{
    struct cllm_config config;
    char *text = malloc(size + 1); /* of its own: one byte too far is seen */
    int rc;

    CLLM_ASSERT(text);
    memcpy(text, data, size);
    text[size] = '\0';
    cllm_config_init(&config);
    if (strncmp(text, SET, strlen(SET)) == 0)
        rc = cllm_config_set(&config, text + strlen(SET));
    else
        rc = cllm_config_parse(&config, text, "fuzz.ini");
    if (rc == 0)
        must_come_back(&config);
    else
        CLLM_ASSERT(cllm_err_text()[0] != '\0');
    fuzz_n_accepted += rc == 0;
    cllm_config_fini(&config);
    free(text);
    return 0;
}
