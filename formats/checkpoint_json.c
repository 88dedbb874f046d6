/*
 * formats/checkpoint_json.c - write and read config.json, run.json and manifest.json.
 *
 * Texts are in the stable form of formats/json.h. The manifest is refused unless it is
 * byte for byte the text that we would write for the same values, so no flipped byte in
 * it can pass.
 */
#include "formats/checkpoint_json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "formats/adapter.h"
#include "formats/checkpoint_parts.h"
#include "formats/config_json.h"
#include "formats/file_scan.h"
#include "formats/generation_config.h"
#include "formats/json.h"
#include "formats/sha256.h"

#define JSON_CAP_BYTES (1u << 20)
#define RUN_FORMAT     "cllm-run"
#define FILES_FORMAT   "cllm-checkpoint"
#define VERSION        1

/* Behind these come the vocabulary's files that are there. */
static const struct {
    const char *name;
    bool small;  /* its hash is always checked; the others are of tensors */
    bool always; /* listed in any case */
} files[] = {
    {CLLM_CHECKPOINT_CONFIG, true, true},     {CLLM_CHECKPOINT_MODEL, false, false},
    {CLLM_CHECKPOINT_OPTIMIZER, false, true}, {CLLM_CHECKPOINT_RUN, true, true},
    {CLLM_ADAPTER_CONFIG, true, false},       {CLLM_ADAPTER_MODEL, false, false},
};
enum { MODEL = 1, ADAPTER_CONFIG = 4, ADAPTER_MODEL = 5 };
_Static_assert(CLLM_LEN(files) == CLLM_CHECKPOINT_OWN, "all of them");

static bool is_always(size_t i)
{
    return i < CLLM_LEN(files) && files[i].always;
}

static bool is_tensors(size_t i)
{
    return i < CLLM_LEN(files) && !files[i].small;
}

static const char *file_name(size_t i)
{
    return i < CLLM_LEN(files) ? files[i].name
                               : cllm_tokenizer_files[i - CLLM_LEN(files)];
}

/* Read @dir/@name; @path gets its path for messages. */
static int get(const char *dir, const char *name, char path[CLLM_FILE_PATH_BYTES],
               char **text, size_t *bytes)
{
    int rc = cllm_file_join(path, dir, name);

    return rc < 0 ? rc : cllm_file_read(path, JSON_CAP_BYTES, text, bytes);
}

/* ---- config.json ---- */

int cllm_checkpoint_write_config(const char *dir, const struct cllm_checkpoint_info *info)
{
    json_t *config = cllm_config_json_pack(&info->model, info->init_range);
    int rc =
        config == NULL ? 0 : cllm_generation_config_apply(dir, info->model.vocab, config);

    if (rc == CLLM_EDATA || rc == -EFBIG) {
        /* It came with somebody's vocabulary: no reason to save nothing. */
        cllm_warn("%s; config.json does not say how texts end", cllm_err_text());
        rc = 0;
    }
    if (rc != 0) {
        json_decref(config);
        return rc;
    }
    return cllm_json_put(dir, CLLM_CHECKPOINT_CONFIG, config);
}

int cllm_checkpoint_parse_config(const char *text, size_t bytes, const char *name,
                                 struct cllm_checkpoint_info *info)
{
    json_t *json = NULL;
    int rc = cllm_json_parse(text, bytes, name, &json);

    if (rc == 0)
        rc = cllm_config_json_parse(json, name, &info->model, &info->init_range);
    json_decref(json);
    return rc;
}

int cllm_checkpoint_read_config(const char *dir, struct cllm_checkpoint_info *info)
{
    char path[CLLM_FILE_PATH_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    int rc = get(dir, CLLM_CHECKPOINT_CONFIG, path, &text, &bytes);

    if (rc == 0)
        rc = cllm_checkpoint_parse_config(text, bytes, path, info);
    free(text);
    return rc;
}

/* ---- run.json ---- */

/* A loss for people and, exact, for the resumed run. NaN, that is none, becomes null. */
static json_t *pack_loss(double loss)
{
    char decimal[64], hex[64];

    if (!isfinite(loss))
        return json_null();
    (void)snprintf(decimal, sizeof decimal, "%.9g", loss);
    (void)snprintf(hex, sizeof hex, "%a", loss);
    return json_pack("{s:s, s:s}", "decimal", decimal, "hex", hex);
}

static int parse_loss(const json_t *json, const char *path, const char *key, double *out)
{
    json_t *loss = NULL;
    const char *hex = "";
    char *end = NULL;

    if (json_is_null(json_object_get(json, key))) {
        *out = (double)NAN;
        return 0;
    }
    int rc = cllm_json_get_object(json, path, key, &loss);
    if (rc == 0)
        rc = cllm_json_get_text(loss, path, "hex", &hex);
    if (rc < 0)
        return rc;
    *out = strtod(hex, &end);
    if (end == hex || *end != '\0' || !isfinite(*out))
        return cllm_err(CLLM_EDATA, "%s: \"%s\": expected a number, found \"%s\"", path,
                        key, hex);
    return 0;
}

static bool is_hex(const char *text)
{
    size_t len = strlen(text);

    return len > 0 && len < CLLM_CHECKPOINT_HEX_BYTES &&
           strspn(text, "0123456789abcdef") == len;
}

int cllm_checkpoint_write_run(const char *dir, const struct cllm_checkpoint_info *info)
{
    char base[17];

    CLLM_ASSERT(is_hex(info->fingerprint) && is_hex(info->root) && is_hex(info->data));
    json_t *run = json_pack(
        "{s:s, s:i, s:I, s:I, s:I, s:s, s:s, s:s, s:o, s:o, s:I, s:o, s:I}", "format",
        RUN_FORMAT, "version", VERSION, "step", (json_int_t)info->step, "data_cursor",
        (json_int_t)info->cursor, "tokens", (json_int_t)info->tokens, "fingerprint",
        info->fingerprint, "root_hash", info->root, "data_hash", info->data, "train_loss",
        pack_loss(info->train_loss), "valid_loss", pack_loss(info->valid_loss),
        "valid_step", (json_int_t)info->valid_step, "best_loss",
        pack_loss(info->best_loss), "best_step", (json_int_t)info->best_step);

    (void)snprintf(base, sizeof base, "%016" PRIx64, info->base);
    if (run != NULL &&
        (!cllm_checkpoint_put_parts(run, info) ||
         (info->lora.rank > 0 &&
          json_object_set_new(run, "base_hash", json_string(base)) != 0))) {
        json_decref(run);
        run = NULL;
    }
    return cllm_json_put(dir, CLLM_CHECKPOINT_RUN, run);
}

static int expect_format(const json_t *json, const char *path, const char *format)
{
    uint64_t version = 0;
    int rc = cllm_json_expect_text(json, path, "format", format);

    if (rc == 0)
        rc = cllm_json_get_u64(json, path, "version", &version);
    if (rc == 0 && version != VERSION) {
        rc = cllm_err(CLLM_EDATA, "%s: \"version\": expected %d, found %" PRIu64, path,
                      VERSION, version);
        cllm_err_hint("it was written by another version of CLLM");
    }
    return rc;
}

/* Of a run that trains adapters: what lies beneath them. */
static int parse_base(const json_t *json, const char *path,
                      struct cllm_checkpoint_info *info)
{
    const char *text = "";
    int rc;

    info->base = 0;
    info->lora = (struct cllm_lora){0};
    if (json_object_get(json, "base_hash") == NULL)
        return 0;
    rc = cllm_json_get_text(json, path, "base_hash", &text);
    if (rc == 0 && (strlen(text) != 16 || !is_hex(text)))
        rc = cllm_err(CLLM_EDATA, "%s: \"base_hash\": expected 16 digits 0-9 a-f", path);
    if (rc == 0)
        info->base = strtoull(text, NULL, 16);
    info->lora.rank = rc == 0;
    return rc;
}

static int parse_run(const json_t *json, const char *path,
                     struct cllm_checkpoint_info *info)
{
    const struct {
        const char *key;
        uint64_t *out;
    } counts[] = {
        {"step", &info->step},           {"data_cursor", &info->cursor},
        {"tokens", &info->tokens},       {"valid_step", &info->valid_step},
        {"best_step", &info->best_step},
    };
    const struct {
        const char *key;
        char *out;
    } hashes[] = {
        {"fingerprint", info->fingerprint},
        {"root_hash", info->root},
        {"data_hash", info->data},
    };
    int rc = expect_format(json, path, RUN_FORMAT);

    for (size_t i = 0; rc == 0 && i < CLLM_LEN(counts); i++)
        rc = cllm_json_get_u64(json, path, counts[i].key, counts[i].out);
    for (size_t i = 0; rc == 0 && i < CLLM_LEN(hashes); i++) {
        const char *text = "";
        rc = cllm_json_get_text(json, path, hashes[i].key, &text);
        if (rc == 0 && !is_hex(text))
            rc = cllm_err(CLLM_EDATA, "%s: \"%s\": expected 1 to 64 digits 0-9 a-f", path,
                          hashes[i].key);
        if (rc == 0)
            memcpy(hashes[i].out, text, strlen(text) + 1);
    }
    if (rc == 0 && info->step > CLLM_CHECKPOINT_STEP_MAX)
        rc = cllm_err(CLLM_EDATA, "%s: \"step\": expected 0 to %llu, found %" PRIu64,
                      path, (unsigned long long)CLLM_CHECKPOINT_STEP_MAX, info->step);
    if (rc == 0)
        rc = parse_loss(json, path, "train_loss", &info->train_loss);
    if (rc == 0)
        rc = parse_loss(json, path, "valid_loss", &info->valid_loss);
    if (rc == 0)
        rc = parse_loss(json, path, "best_loss", &info->best_loss);
    if (rc == 0)
        rc = cllm_checkpoint_get_parts(json, path, info);
    if (rc == 0)
        rc = parse_base(json, path, info);
    return rc;
}

int cllm_checkpoint_parse_run(const char *text, size_t bytes, const char *name,
                              struct cllm_checkpoint_info *info)
{
    json_t *json = NULL;
    int rc = cllm_json_parse(text, bytes, name, &json);

    if (rc == 0)
        rc = parse_run(json, name, info);
    json_decref(json);
    return rc;
}

int cllm_checkpoint_read_run(const char *dir, struct cllm_checkpoint_info *info)
{
    char path[CLLM_FILE_PATH_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    int rc = get(dir, CLLM_CHECKPOINT_RUN, path, &text, &bytes);

    if (rc == 0)
        rc = cllm_checkpoint_parse_run(text, bytes, path, info);
    free(text);
    return rc;
}

/* ---- manifest.json ---- */

/*
 * Hashes are identities, SHA-256, of what people compare and publish, and checksums,
 * XXH3-128, of tensors, where only accidents are looked for: they are hashed at every
 * save and resume. Those of older versions have SHA-256 as well.
 */
struct hash_kind {
    const char *key, *name;
    size_t digits;
    int (*of_file)(const char *path, char *hex, uint64_t *bytes);
};

static const struct hash_kind identity = {"sha256", "SHA-256", CLLM_SHA256_HEX_BYTES - 1,
                                          cllm_sha256_file},
                              checksum = {"xxh3_128", "XXH3-128",
                                          CLLM_HASH128_HEX_BYTES - 1, cllm_file_hash128};

static const struct hash_kind *kind_of(const char *hash)
{
    return strlen(hash) == checksum.digits ? &checksum : &identity;
}

/* Hash and size of file number @i at @path: as known, or from the file. */
static int look_up(const char *path, size_t i, const struct cllm_checkpoint_digest *known,
                   uint32_t n_known, struct cllm_checkpoint_digest *digest)
{
    for (uint32_t k = 0; k < n_known; k++) {
        if (strcmp(known[k].name, digest->name) == 0) {
            *digest = known[k];
            return 0;
        }
    }
    return (is_tensors(i) ? checksum : identity)
        .of_file(path, digest->hash, &digest->bytes);
}

int cllm_checkpoint_write_manifest(const char *dir,
                                   const struct cllm_checkpoint_digest *known,
                                   uint32_t n_known)
{
    char path[CLLM_FILE_PATH_BYTES];
    json_t *list = json_object();
    int rc = list == NULL ? cllm_err(-ENOMEM, "cannot write the manifest of %s", dir) : 0;

    for (size_t i = 0; rc == 0 && i < CLLM_CHECKPOINT_FILES; i++) {
        struct cllm_checkpoint_digest digest = {.name = file_name(i)};

        rc = cllm_file_join(path, dir, digest.name);
        if (rc == 0 && !is_always(i) && access(path, F_OK) != 0) {
            if (errno == ENOENT)
                continue;
            rc = cllm_err(-errno, "cannot look at %s", path);
        }
        if (rc == 0)
            rc = look_up(path, i, known, n_known, &digest);
        if (rc == 0 &&
            json_object_set_new(list, digest.name,
                                json_pack("{s:I, s:s}", "bytes", (json_int_t)digest.bytes,
                                          kind_of(digest.hash)->key, digest.hash)) != 0)
            rc = cllm_err(-ENOMEM, "cannot write the manifest of %s", dir);
    }
    if (rc < 0) {
        json_decref(list);
        return rc;
    }
    return cllm_json_put(dir, CLLM_CHECKPOINT_MANIFEST,
                         json_pack("{s:s, s:i, s:o}", "format", FILES_FORMAT, "version",
                                   VERSION, "files", list));
}

/* File number @i against what the manifest says of it. */
static int check_file(const char *dir, const struct cllm_checkpoint_file *listed,
                      size_t i, bool deep)
{
    char path[CLLM_FILE_PATH_BYTES], hex[CLLM_SHA256_HEX_BYTES];
    const struct hash_kind *kind;
    struct stat st;
    int rc = cllm_file_join(path, dir, file_name(i));

    if (rc < 0 || !listed->listed)
        return rc;
    if (lstat(path, &st) != 0)
        return cllm_err(errno == ENOENT ? CLLM_EDATA : -errno, "%s is missing", path);
    if (!S_ISREG(st.st_mode))
        return cllm_err(CLLM_EDATA, "%s is not a regular file", path);
    if ((uint64_t)st.st_size != listed->bytes)
        return cllm_err(CLLM_EDATA, "%s: expected %" PRIu64 " bytes, found %lld", path,
                        listed->bytes, (long long)st.st_size);
    if (!deep && (i >= CLLM_LEN(files) || !files[i].small))
        return 0;
    kind = kind_of(listed->hash);
    rc = kind->of_file(path, hex, NULL);
    if (rc == 0 && strcmp(hex, listed->hash) != 0) {
        rc = cllm_err(CLLM_EDATA, "%s: its %s is not that of the manifest", path,
                      kind->name);
        cllm_err_detail("expected %s, found %s", listed->hash, hex);
    }
    return rc;
}

/* Is the text of the manifest the very text that its values make? */
static int check_canonical(const char *path, const char *text, size_t bytes,
                           const json_t *json)
{
    size_t n = 0;
    char *again = cllm_json_dump(json, &n);

    if (again == NULL)
        return cllm_err(-ENOMEM, "cannot check %s", path);
    bool same = n == bytes && memcmp(again, text, n) == 0;
    free(again);
    return same ? 0 : cllm_err(CLLM_EDATA, "%s is not as it was written", path);
}

/* Entry number @i of @list. */
static int parse_file(const json_t *list, const char *where, size_t i,
                      struct cllm_checkpoint_file *out)
{
    const struct hash_kind *kind = &identity;
    const char *hash = "";
    json_t *entry = NULL;
    int rc = 0;

    out->listed = is_always(i) || json_object_get(list, file_name(i)) != NULL;
    if (!out->listed)
        return 0;
    rc = cllm_json_get_object(list, where, file_name(i), &entry);
    if (rc == 0)
        rc = cllm_json_get_u64(entry, where, "bytes", &out->bytes);
    if (rc == 0 && is_tensors(i) && json_object_get(entry, checksum.key) != NULL)
        kind = &checksum;
    if (rc == 0)
        rc = cllm_json_get_text(entry, where, kind->key, &hash);
    if (rc == 0 && (strlen(hash) != kind->digits || !is_hex(hash)))
        rc = cllm_err(CLLM_EDATA, "%s: %s: expected the %zu digits of %s", where,
                      file_name(i), kind->digits, kind->name);
    if (rc == 0 && json_object_size(entry) != 2)
        rc = cllm_err(CLLM_EDATA, "%s: %s: expected \"bytes\" and \"%s\" alone", where,
                      file_name(i), kind->key);
    if (rc == 0)
        memcpy(out->hash, hash, kind->digits + 1);
    return rc;
}

int cllm_checkpoint_parse_manifest(const char *text, size_t bytes, const char *name,
                                   struct cllm_checkpoint_file out[CLLM_CHECKPOINT_FILES])
{
    char where[CLLM_FILE_PATH_BYTES + 16];
    json_t *json = NULL;
    json_t *list = NULL;
    size_t n = 0;
    int rc = cllm_json_parse(text, bytes, name, &json);

    if (rc == 0)
        rc = check_canonical(name, text, bytes, json);
    if (rc == 0)
        rc = expect_format(json, name, FILES_FORMAT);
    if (rc == 0)
        rc = cllm_json_get_object(json, name, "files", &list);
    (void)snprintf(where, sizeof where, "%s: files", name);
    for (size_t i = 0; rc == 0 && i < CLLM_CHECKPOINT_FILES; i++) {
        rc = parse_file(list, where, i, &out[i]);
        n += out[i].listed;
    }
    if (rc == 0 && (json_object_size(json) != 3 || json_object_size(list) != n ||
                    out[MODEL].listed == out[ADAPTER_MODEL].listed ||
                    out[ADAPTER_CONFIG].listed != out[ADAPTER_MODEL].listed))
        rc = cllm_err(CLLM_EDATA, "%s: it lists more or less than a checkpoint's files",
                      name);
    json_decref(json);
    return rc;
}

int cllm_checkpoint_check_manifest(const char *dir, bool deep)
{
    struct cllm_checkpoint_file listed[CLLM_CHECKPOINT_FILES];
    char path[CLLM_FILE_PATH_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    int rc = get(dir, CLLM_CHECKPOINT_MANIFEST, path, &text, &bytes);

    if (rc == -ENOENT) {
        rc = cllm_err(CLLM_EDATA, "%s is missing", path);
        cllm_err_hint(
            "it is written last: the checkpoint was not finished, or it is none");
        return rc;
    }
    if (rc == 0)
        rc = cllm_checkpoint_parse_manifest(text, bytes, path, listed);
    for (size_t i = 0; rc == 0 && i < CLLM_CHECKPOINT_FILES; i++)
        rc = check_file(dir, &listed[i], i, deep);
    free(text);
    return rc;
}
