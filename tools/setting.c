/*
 * tools/setting.c - see tools/setting.h.
 */
#include "tools/setting.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/config.h"
#include "base/err.h"
#include "base/log.h"
#include "tools/ini_edit.h"

#define MOST_BYTES (1u << 20) /* of a configuration */
#define LINE_BYTES 256

static int no_memory(const char *path)
{
    return cllm_err(-ENOMEM, "cannot change %s", path);
}

int cllm_setting_check(char real[CLLM_FILE_PATH_BYTES], const char *path)
{
    char dir[CLLM_FILE_PATH_BYTES];
    char *found = realpath(path, NULL);
    struct stat st;
    int rc = 0;

    if (!found || stat(found, &st) != 0)
        rc = cllm_err(-errno, "cannot write %s", path);
    else if (!S_ISREG(st.st_mode))
        rc = cllm_err(CLLM_ECONFIG, "cannot write %s: it is not a regular file", path);
    if (rc == 0) {
        (void)snprintf(real, CLLM_FILE_PATH_BYTES, "%s", found);
        (void)snprintf(dir, sizeof dir, "%s", found);
        *(strrchr(dir, '/') + 1) = '\0'; /* the real path begins with one */
        if (access(real, W_OK) != 0)
            rc = cllm_err(-errno, "cannot write %s", path);
        else if (access(dir, W_OK | X_OK) != 0) /* replaced by a new file, beside it */
            rc = cllm_err(-errno, "cannot write into %s, where %s lies", dir, path);
    }
    free(found);
    return rc;
}

/* *@text becomes what it is with @n settings changed. */
static int change(char **text, const struct cllm_setting *settings, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct cllm_setting *s = &settings[i];
        char *changed;
        int rc = cllm_ini_edit_set(*text, s->section, s->key, s->value, &changed);

        if (rc != 0)
            return rc;
        free(*text);
        *text = changed;
    }
    return 0;
}

/* What @text, read as the configuration @path, comes to with @n settings besides; heap.
 */
static int meaning_of(const char *text, const char *path,
                      const struct cllm_setting *settings, uint32_t n, char **out)
{
    struct cllm_config config;
    char set[LINE_BYTES];
    int rc;

    cllm_config_init(&config);
    rc = cllm_config_parse(&config, text, path);
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        (void)snprintf(set, sizeof set, "%s.%s=%s", settings[i].section, settings[i].key,
                       settings[i].value);
        rc = cllm_config_set(&config, set);
    }
    *out = rc == 0 ? cllm_config_text(&config) : NULL;
    if (rc == 0 && !*out)
        rc = no_memory(path);
    cllm_config_fini(&config);
    return rc;
}

/* Does @changed say what @text says with the settings? */
static int verify(const char *changed, const char *text, const char *path,
                  const struct cllm_setting *settings, uint32_t n)
{
    char *want = NULL, *got = NULL;
    int rc = meaning_of(text, path, settings, n, &want);

    if (rc == 0)
        rc = meaning_of(changed, path, NULL, 0, &got);
    if (rc == 0 && strcmp(want, got) != 0)
        rc = cllm_err(CLLM_ECONFIG, "the changed text would say something else");
    if (rc != 0)
        cllm_err_add("cannot change %s", path);
    free(want);
    free(got);
    return rc;
}

/* A new file is in the place of one that had this owner and mode. */
static void restore(const char *path, const struct stat *old)
{
    struct stat st;
    bool same = stat(path, &st) == 0 && st.st_uid == old->st_uid &&
                st.st_gid == old->st_gid && st.st_mode == old->st_mode;

    if (same)
        return;
    if (chown(path, old->st_uid, old->st_gid) != 0 ||
        chmod(path, old->st_mode & 07777) != 0)
        cllm_warn("%s is written, but not with its old owner and mode: %s", path,
                  strerror(errno));
}

int cllm_setting_write(const char *real, const struct cllm_setting *settings, uint32_t n)
{
    char *text = NULL, *changed = NULL;
    struct stat st;
    int rc = cllm_file_read(real, MOST_BYTES, &text, NULL);

    if (rc == 0 && stat(real, &st) != 0)
        rc = cllm_err(-errno, "cannot change %s", real);
    if (rc != 0)
        goto out;
    changed = strdup(text);
    if (!changed) {
        rc = no_memory(real);
        goto out;
    }
    rc = change(&changed, settings, n);
    if (rc == 0)
        rc = verify(changed, text, real, settings, n);
    if (rc == 0)
        rc = cllm_file_replace(real, changed, strlen(changed));
    if (rc == 0)
        restore(real, &st);
out:
    free(changed);
    free(text);
    return rc;
}
