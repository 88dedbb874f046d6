/*
 * base/config.h - the configuration of a run: one .ini file, overridden by --set.
 *
 * Every option is a row of base/options.def and a field `section_name` here. Unknown
 * sections and keys, values out of range, trailing junk and repeated keys are errors that
 * name the file, the line, what is allowed and the nearest known key. cllm_config_text()
 * gives the effective configuration as .ini text; the run's control segment carries that
 * text, so that children and tools read exactly what Node Zero read.
 */
#ifndef CLLM_BASE_CONFIG_H
#define CLLM_BASE_CONFIG_H

#include "base/base.h"

#define CLLM_CONFIG_PATH_BYTES 4096
#define CLLM_CONFIG_LIST_MAX   64
#define CLLM_CONFIG_AUTO       0 /* value of an OPT_AUTO option left to the program */

enum cllm_config_policy { CLLM_POLICY_STOP = 0, CLLM_POLICY_SKIP };
enum cllm_config_method { CLLM_METHOD_AUTO = 0, CLLM_METHOD_URING, CLLM_METHOD_PREAD };
enum cllm_config_direct { CLLM_DIRECT_AUTO = 0, CLLM_DIRECT_YES, CLLM_DIRECT_NO };
enum cllm_config_pin { CLLM_PIN_AUTO = 0, CLLM_PIN_YES, CLLM_PIN_NO };
enum cllm_config_backend { CLLM_BACKEND_CPU = 0, CLLM_BACKEND_OPENCL, CLLM_BACKEND_AUTO };
enum cllm_config_loss { CLLM_LOSS_CPU = 0, CLLM_LOSS_STOP };
enum cllm_config_sandbox { CLLM_SANDBOX_AUTO = 0, CLLM_SANDBOX_OFF };

struct cllm_config_list {
    uint32_t n;
    char *item[CLLM_CONFIG_LIST_MAX]; /* heap */
};

struct cllm_config {
#define OPT_U64(s, n, def, min, max, unit, help) uint64_t s##_##n;
#define OPT_AUTO(s, n, min, max, unit, help)     uint64_t s##_##n;
#define OPT_F64(s, n, def, min, max, unit, help) double s##_##n;
#define OPT_ENUM(s, n, def, choices, help)       uint32_t s##_##n;
#define OPT_BOOL(s, n, def, help)                bool s##_##n;
#define OPT_STR(s, n, def, help)                 char *s##_##n;
#define OPT_LIST(s, n, help)                     struct cllm_config_list s##_##n;
#include "base/options.def"
#undef OPT_U64
#undef OPT_AUTO
#undef OPT_F64
#undef OPT_ENUM
#undef OPT_BOOL
#undef OPT_STR
#undef OPT_LIST
    uint32_t *given; /* how often each option was given, by row; heap */
};

/* Defaults; lists empty. Pair with fini. Without memory for them the program ends. */
void cllm_config_init(struct cllm_config *config);
void cllm_config_fini(struct cllm_config *config);

/* Read an .ini file. Returns 0, or CLLM_ECONFIG / a negative errno with "FILE:LINE: ..."
 * text. */
int cllm_config_read(struct cllm_config *config, const char *path);

/* The same from memory; @name stands for the file in messages. */
int cllm_config_parse(struct cllm_config *config, const char *text, const char *name);

/* One override "section.key=value" from the command line. Replaces lists; with an empty
 * value, empties them. */
int cllm_config_set(struct cllm_config *config, const char *assignment);

/* Was "section.key" given, in the file or as an override? The key
 * must exist. */
bool cllm_config_given(const struct cllm_config *config, const char *name);

/* What single rows cannot know: required keys, divisibility, combinations. Derives
 * nothing. */
int cllm_config_check(const struct cllm_config *config);

/* Effective configuration as .ini text; heap, the caller frees. NULL when memory is
 * out. */
char *cllm_config_text(const struct cllm_config *config);

/* Which options that change a run's weights differ, for people: "train.seed is 2, was 1;
 * ..." into @out, as far as it fits. Returns how many. */
uint32_t cllm_config_compare(const struct cllm_config *here,
                             const struct cllm_config *there, char *out, size_t bytes);

/* All options for people (--help-options), or as the Markdown of docs/options.md. To
 * stdout. */
void cllm_config_help(void);
void cllm_config_markdown(void);

#endif /* CLLM_BASE_CONFIG_H */
