/*
 * formats/manifest.c - shards against what dataset.json says of them.
 */
#include "formats/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/hash.h"
#include "formats/file.h"

int cllm_manifest_edges(const struct cllm_shard *shard, uint64_t *hash)
{
    uint8_t edge[2 * CLLM_MANIFEST_EDGE_BYTES];
    uint64_t data = shard->file_bytes - shard->data_off;
    size_t n = (size_t)cllm_min_u64(data, CLLM_MANIFEST_EDGE_BYTES);
    int rc = cllm_file_pread_all(shard->fd, edge, n, shard->data_off, shard->path);

    if (rc == 0)
        rc = cllm_file_pread_all(shard->fd, edge + n, n, shard->file_bytes - n,
                                 shard->path);
    if (rc == 0)
        *hash = cllm_hash(edge, 2 * n, 0);
    return rc;
}

json_t *cllm_manifest_pack(const struct cllm_manifest_shard *shard)
{
    char edges[17];

    (void)snprintf(edges, sizeof edges, "%016" PRIx64, shard->edges);
    return json_pack("{s:s, s:I, s:I, s:s, s:s}", "name", shard->name, "tokens",
                     (json_int_t)shard->n_tokens, "bytes", (json_int_t)shard->file_bytes,
                     "sha256", shard->sha256, "edges", edges);
}

/* Exactly @digits lower-case hexadecimal digits? */
static bool is_hex(const char *text, size_t digits)
{
    return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

int cllm_manifest_unpack(struct cllm_manifest_shard *out, const json_t *json,
                         const char *where)
{
    const char *name = NULL, *sha256 = NULL, *edges = NULL;
    int rc = cllm_json_get_text(json, where, "name", &name);

    memset(out, 0, sizeof *out);
    if (rc == 0)
        rc = cllm_json_get_text(json, where, "sha256", &sha256);
    if (rc == 0)
        rc = cllm_json_get_u64(json, where, "tokens", &out->n_tokens);
    if (rc == 0)
        rc = cllm_json_get_u64(json, where, "bytes", &out->file_bytes);
    out->has_edges = json_object_get(json, "edges") != NULL;
    if (rc == 0 && out->has_edges)
        rc = cllm_json_get_text(json, where, "edges", &edges);
    if (rc < 0)
        return rc;
    if (name[0] == '\0' || strlen(name) >= sizeof out->name || strchr(name, '/') != NULL)
        return cllm_err(CLLM_EDATA,
                        "%s: \"name\": expected a file's name, found \"%.80s\"", where,
                        name);
    if (!is_hex(sha256, CLLM_SHA256_HEX_BYTES - 1) ||
        (out->has_edges && !is_hex(edges, 16)))
        return cllm_err(CLLM_EDATA,
                        "%s: %s: expected hashes of 64 (\"sha256\") and 16 (\"edges\") "
                        "hexadecimal digits",
                        where, name);
    memcpy(out->name, name, strlen(name) + 1);
    memcpy(out->sha256, sha256, CLLM_SHA256_HEX_BYTES);
    if (out->has_edges)
        out->edges = strtoull(edges, NULL, 16);
    return 0;
}

/* Find shard @name among those of split @split; 0 found, 1 not, or CLLM_EDATA. */
static int find(struct cllm_manifest_shard *out, const json_t *json, const char *split,
                const char *path, const char *name)
{
    json_t *object = NULL, *list = NULL;
    int rc = cllm_json_get_object(json, path, split, &object);

    if (rc == 0)
        rc = cllm_json_get_array(object, path, "shards", &list);
    for (size_t i = 0; rc == 0 && i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *listed = json_string_value(json_object_get(entry, "name"));
        if (listed != NULL && strcmp(listed, name) == 0)
            return cllm_manifest_unpack(out, entry, path);
    }
    return rc < 0 ? rc : 1;
}

/* The shard and what is listed for it. */
static int compare(const struct cllm_shard *shard,
                   const struct cllm_manifest_shard *listed, const char *path)
{
    uint64_t edges = 0;
    int rc;

    if (shard->n_tokens != listed->n_tokens || shard->file_bytes != listed->file_bytes) {
        rc = cllm_err(CLLM_EDATA, "%s is not the shard that %s lists", shard->path, path);
        cllm_err_detail("expected %" PRIu64 " tokens in %" PRIu64 " bytes, found %" PRIu64
                        " in %" PRIu64,
                        listed->n_tokens, listed->file_bytes, shard->n_tokens,
                        shard->file_bytes);
        cllm_err_hint("copy the whole data set again, or run cllm-prep again");
        return rc;
    }
    if (!listed->has_edges)
        return 0;
    rc = cllm_manifest_edges(shard, &edges);
    if (rc < 0 || edges == listed->edges)
        return rc;
    rc = cllm_err(CLLM_EDATA, "%s is not the shard that %s lists", shard->path, path);
    cllm_err_detail("hash of its first and last tokens: expected %016" PRIx64
                    ", found %016" PRIx64,
                    listed->edges, edges);
    cllm_err_hint("copy the whole data set again, or run cllm-prep again");
    return rc;
}

/* One directory's dataset.json, while its shards are checked. */
struct open_manifest {
    char dir[CLLM_FILE_PATH_BYTES];
    char path[CLLM_FILE_PATH_BYTES];
    json_t *json; /* NULL: there is none */
};

/* Is there a data set that is not finished? */
static int check_finished(const char *dir)
{
    char partial[CLLM_FILE_PATH_BYTES];
    int rc = cllm_file_join(partial, dir, CLLM_MANIFEST_UNFINISHED);

    if (rc < 0 || access(partial, F_OK) != 0)
        return rc;
    rc = cllm_err(CLLM_EDATA, "the data set in %s is not finished", dir);
    cllm_err_detail("it has %s and no %s", CLLM_MANIFEST_UNFINISHED, CLLM_MANIFEST_NAME);
    cllm_err_hint("run cllm-prep again with the same arguments, it goes on");
    return rc;
}

/* Load what lies in the directory of @shard_path, if it is another than before. */
static int load(struct open_manifest *manifest, const char *shard_path)
{
    const char *slash = strrchr(shard_path, '/');
    size_t n = slash == NULL ? 1 : slash == shard_path ? 1 : (size_t)(slash - shard_path);
    const char *dir = slash == NULL ? "." : shard_path;
    const char *format = NULL;

    if (n >= sizeof manifest->dir)
        return cllm_err(-ENAMETOOLONG, "cannot use the path %.200s...", shard_path);
    if (strncmp(manifest->dir, dir, n) == 0 && manifest->dir[n] == '\0')
        return 0;
    json_decref(manifest->json);
    manifest->json = NULL;
    memcpy(manifest->dir, dir, n);
    manifest->dir[n] = '\0';
    int rc = cllm_file_join(manifest->path, manifest->dir, CLLM_MANIFEST_NAME);
    if (rc < 0)
        return rc;
    if (access(manifest->path, F_OK) != 0)
        return check_finished(manifest->dir);
    rc = cllm_json_load(manifest->path, CLLM_MANIFEST_CAP, &manifest->json);
    if (rc == 0)
        rc = cllm_json_get_text(manifest->json, manifest->path, "format", &format);
    if (rc == 0 && strcmp(format, "cllm-dataset") != 0)
        rc = cllm_err(CLLM_EDATA,
                      "%s: \"format\": expected \"cllm-dataset\", found \"%.40s\"",
                      manifest->path, format);
    return rc;
}

int cllm_manifest_check(const struct cllm_shard *shard, uint32_t n)
{
    struct open_manifest manifest = {.json = NULL};
    struct cllm_manifest_shard listed;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        const char *slash = strrchr(shard[i].path, '/');
        const char *name = slash == NULL ? shard[i].path : slash + 1;
        rc = load(&manifest, shard[i].path);
        if (rc < 0 || manifest.json == NULL)
            continue;
        rc = find(&listed, manifest.json, "train", manifest.path, name);
        if (rc == 1)
            rc = find(&listed, manifest.json, "val", manifest.path, name);
        if (rc == 1) {
            rc = cllm_err(CLLM_EDATA, "%s does not list %s, which lies beside it",
                          manifest.path, name);
            cllm_err_hint("remove it if it is left from an earlier data set, or give "
                          "it a directory of its own");
        }
        if (rc == 0)
            rc = compare(&shard[i], &listed, manifest.path);
    }
    json_decref(manifest.json);
    return rc;
}
