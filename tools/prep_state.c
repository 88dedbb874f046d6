/*
 * tools/prep_state.c - the state as JSON, both ways.
 */
#include "tools/prep_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/file.h"

#define STATE_FORMAT "cllm-prep"
#define STATE_CAP    ((size_t)256 << 20)

static const char *const stages[] = {"encode", "cut"};

/* The numbers by their names. */
struct number {
    const char *name;
    uint64_t *value;
};
#define N_NUMBERS 10

static void numbers_of(struct cllm_prep_state *state, struct number out[N_NUMBERS])
{
    const struct number numbers[N_NUMBERS] = {
        {"file", &state->place.file},     {"offset", &state->place.off},
        {"line", &state->place.line},     {"tokens", &state->tokens},
        {"entries", &state->entries},     {"bytes", &state->bytes},
        {"documents", &state->documents}, {"mistakes", &state->mistakes},
        {"empty", &state->empty},         {"bad", &state->bad},
    };

    memcpy(out, numbers, sizeof numbers);
}

int cllm_prep_state_init(struct cllm_prep_state *state, size_t n_sources)
{
    state->source = calloc(n_sources, sizeof *state->source);
    state->n_sources = n_sources;
    return state->source == NULL ? cllm_err(-ENOMEM, "cannot count the documents") : 0;
}

void cllm_prep_state_fini(struct cllm_prep_state *state)
{
    free(state->source);
    free(state->shard);
    memset(state, 0, sizeof *state);
}

int cllm_prep_state_add(struct cllm_prep_state *state,
                        const struct cllm_manifest_shard *shard)
{
    struct cllm_manifest_shard *larger =
        realloc(state->shard, (state->n_shards + 1) * sizeof *larger);

    if (larger == NULL)
        return cllm_err(-ENOMEM, "cannot list the shards");
    state->shard = larger;
    state->shard[state->n_shards++] = *shard;
    return 0;
}

/* ---- writing ---- */

static json_t *pack_sources(const struct cllm_prep_state *state)
{
    json_t *list = json_array();
    bool ok = list != NULL;

    for (size_t i = 0; ok && i < state->n_sources; i++)
        ok = json_array_append_new(
                 list, json_pack("[I, I]", (json_int_t)state->source[i].documents,
                                 (json_int_t)state->source[i].bytes)) == 0;
    if (!ok) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *pack_shards(const struct cllm_prep_state *state)
{
    json_t *list = json_array();
    bool ok = list != NULL;

    for (size_t i = 0; ok && i < state->n_shards; i++)
        ok = json_array_append_new(list, cllm_manifest_pack(&state->shard[i])) == 0;
    if (!ok) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *pack(struct cllm_prep_state *state)
{
    struct number number[N_NUMBERS];
    json_t *json = json_pack(
        "{s:s, s:i, s:s, s:s, s:b, s:b, s:o, s:o}", "format", STATE_FORMAT, "version", 1,
        "identity", state->identity, "stage", stages[state->stage], "open",
        (int)state->place.open, "in_line", (int)state->place.in_line, "sources",
        pack_sources(state), "shards", pack_shards(state));
    bool ok = json != NULL;

    numbers_of(state, number);
    for (size_t i = 0; ok && i < N_NUMBERS; i++)
        ok = json_object_set_new(json, number[i].name,
                                 json_integer((json_int_t)*number[i].value)) == 0;
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}

int cllm_prep_state_save(struct cllm_prep_state *state, const char *path)
{
    size_t bytes = 0;
    json_t *json = pack(state);
    char *text = json == NULL ? NULL : cllm_json_dump(json, &bytes);
    int rc = text == NULL ? cllm_err(-ENOMEM, "cannot write %s", path)
                          : cllm_file_replace(path, text, bytes);

    json_decref(json);
    free(text);
    return rc;
}

/* ---- reading ---- */

static int unpack_sources(struct cllm_prep_state *state, const json_t *list,
                          const char *path)
{
    if (json_array_size(list) != state->n_sources)
        return cllm_err(CLLM_EDATA, "%s: \"sources\": expected %zu, found %zu", path,
                        state->n_sources, json_array_size(list));
    for (size_t i = 0; i < state->n_sources; i++) {
        const json_t *pair = json_array_get(list, i);
        state->source[i].documents =
            (uint64_t)json_integer_value(json_array_get(pair, 0));
        state->source[i].bytes = (uint64_t)json_integer_value(json_array_get(pair, 1));
    }
    return 0;
}

static int unpack_shards(struct cllm_prep_state *state, const json_t *list,
                         const char *path)
{
    struct cllm_manifest_shard shard;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < json_array_size(list); i++) {
        rc = cllm_manifest_unpack(&shard, json_array_get(list, i), path);
        if (rc == 0)
            rc = cllm_prep_state_add(state, &shard);
    }
    return rc;
}

static int unpack(struct cllm_prep_state *state, const json_t *json, const char *path)
{
    struct number number[N_NUMBERS];
    json_t *sources = NULL, *shards = NULL;
    const char *stage = NULL;
    int rc = cllm_json_get_text(json, path, "stage", &stage);

    numbers_of(state, number);
    for (size_t i = 0; rc == 0 && i < N_NUMBERS; i++)
        rc = cllm_json_get_u64(json, path, number[i].name, number[i].value);
    if (rc == 0)
        rc = cllm_json_get_bool(json, path, "open", &state->place.open);
    if (rc == 0)
        rc = cllm_json_get_bool(json, path, "in_line", &state->place.in_line);
    if (rc == 0)
        rc = cllm_json_get_array(json, path, "sources", &sources);
    if (rc == 0)
        rc = cllm_json_get_array(json, path, "shards", &shards);
    if (rc == 0)
        rc = unpack_sources(state, sources, path);
    if (rc == 0)
        rc = unpack_shards(state, shards, path);
    if (rc == 0)
        state->stage =
            strcmp(stage, stages[CLLM_PREP_CUT]) == 0 ? CLLM_PREP_CUT : CLLM_PREP_ENCODE;
    return rc;
}

int cllm_prep_state_load(struct cllm_prep_state *state, const char *path)
{
    const char *identity = NULL;
    json_t *json = NULL;

    if (access(path, F_OK) != 0 && errno == ENOENT)
        return 0;
    int rc = cllm_json_load(path, STATE_CAP, &json);
    if (rc == 0)
        rc = cllm_json_get_text(json, path, "identity", &identity);
    if (rc == 0 && strcmp(identity, state->identity) != 0) {
        rc = cllm_err(CLLM_EREFUSED, "%s is of a run with other arguments or other input",
                      path);
        cllm_err_hint("to go on, give the arguments of that run; to throw it away and "
                      "begin again: --force");
    }
    if (rc == 0)
        rc = unpack(state, json, path);
    json_decref(json);
    return rc == 0 ? 1 : rc;
}
