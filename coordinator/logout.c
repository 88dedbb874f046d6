/*
 * coordinator/logout.c - what logind.conf says about RemoveIPC.
 */
#include "coordinator/logout.h"

#include <dirent.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define FIRST_USER 1000 /* SYS_UID_MAX + 1 */

static const char *const config[] = {
    "/usr/lib/systemd/logind.conf",   "/etc/systemd/logind.conf",
    "/usr/lib/systemd/logind.conf.d", "/run/systemd/logind.conf.d",
    "/etc/systemd/logind.conf.d",     NULL,
};
const struct cllm_logout_paths cllm_logout_paths = {
    .running = "/run/systemd/seats",
    .linger = "/var/lib/systemd/linger",
    .config = config,
};

/* RemoveIPC of one file, if it says so. */
static void read_config(const char *path, bool *removes)
{
    FILE *file = fopen(path, "re");
    char line[256];

    while (file && fgets(line, sizeof line, file)) {
        char value[16];

        if (sscanf(line, " RemoveIPC = %15s", value) != 1)
            continue;
        *removes = strcasecmp(value, "no") != 0 && strcasecmp(value, "false") != 0 &&
                   strcasecmp(value, "off") != 0 && strcmp(value, "0") != 0;
    }
    if (file)
        (void)fclose(file); /* read only */
}

static int is_config(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');

    return dot && strcmp(dot, ".conf") == 0;
}

/* A file, or the *.conf of a directory in order of their names. */
static void read_all(const char *path, bool *removes)
{
    struct dirent **entry = NULL;
    int n = scandir(path, &entry, is_config, alphasort);

    if (n < 0)
        read_config(path, removes);
    for (int i = 0; i < n; i++) {
        char file[512];

        if (snprintf(file, sizeof file, "%s/%s", path, entry[i]->d_name) <
            (int)sizeof file)
            read_config(file, removes);
        free(entry[i]);
    }
    free(entry);
}

bool cllm_logout_removes(const struct cllm_logout_paths *paths, uint32_t uid,
                         const char *name)
{
    bool removes = true; /* what logind does unless told otherwise */
    char path[512];

    if (uid < FIRST_USER || access(paths->running, F_OK) != 0)
        return false;
    if (name &&
        snprintf(path, sizeof path, "%s/%s", paths->linger, name) < (int)sizeof path &&
        access(path, F_OK) == 0)
        return false;
    for (uint32_t i = 0; paths->config[i]; i++)
        read_all(paths->config[i], &removes);
    return removes;
}

void cllm_logout_warn(void)
{
    const struct cllm_logout_paths *paths = &cllm_logout_paths;
    uint32_t uid = (uint32_t)geteuid();
    const struct passwd *user;

    if (!cllm_logout_removes(paths, uid, NULL))
        return;
    user = getpwuid(uid);
    if (user && !cllm_logout_removes(paths, uid, user->pw_name))
        return;
    cllm_warn("the end of your last session here would take the run's shared memory away "
              "(RemoveIPC of systemd-logind): loginctl enable-linger, or RemoveIPC=no in "
              "/etc/systemd/logind.conf, before you log out");
}
