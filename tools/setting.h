/*
 * tools/setting.h - settings written into a configuration file of somebody's own: in
 * their place, in one step, and only when the file then says what is meant.
 */
#ifndef CLLM_TOOLS_SETTING_H
#define CLLM_TOOLS_SETTING_H

#include "base/base.h"
#include "formats/file.h"

struct cllm_setting {
    const char *section, *key, *value;
};

/*
 * Can @path be written? A regular file, or links to one, in a directory that may be
 * written too. @real becomes the file itself. Returns 0 or a negative code with text.
 */
int cllm_setting_check(char real[CLLM_FILE_PATH_BYTES], const char *path);

/*
 * Put @n settings into the file @real (as check gave it) and leave everything else in it
 * as it is, its owner and mode too. What it would say afterwards is read and compared
 * before it is replaced. Returns 0 or a negative code with text; the file is unchanged
 * then.
 */
int cllm_setting_write(const char *real, const struct cllm_setting *settings, uint32_t n);

#endif /* CLLM_TOOLS_SETTING_H */
