/*
 * base/config_help.c - the configuration in words: as .ini text, as help, as Markdown.
 */
#include "base/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/option.h"

char *cllm_config_text(const struct cllm_config *config)
{
    const char *section = "";
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);

    if (!out)
        return NULL;
    for (size_t i = 0; i < CLLM_N_OPTIONS; i++) {
        const struct cllm_option *opt = &cllm_options[i];

        if (strcmp(section, opt->section) != 0) {
            (void)fprintf(out, "%s[%s]\n", section[0] ? "\n" : "", opt->section);
            section = opt->section;
        }
        if (opt->kind == CLLM_OPTION_LIST) {
            const struct cllm_config_list *list = cllm_option_const_field(config, opt);

            for (uint32_t k = 0; k < list->n; k++)
                (void)fprintf(out, "%s = %s\n", opt->name, list->item[k]);
            continue;
        }
        if (opt->kind == CLLM_OPTION_STR &&
            !*(char *const *)cllm_option_const_field(config, opt))
            continue;
        (void)fprintf(out, "%s = ", opt->name);
        cllm_option_print(out, config, opt);
        (void)fputc('\n', out);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static void print_allowed(const struct cllm_option *opt, char *out, size_t bytes)
{
    switch (opt->kind) {
    case CLLM_OPTION_U64:
    case CLLM_OPTION_AUTO:
        if (opt->max_u64 == UINT64_MAX)
            (void)snprintf(out, bytes, "%" PRIu64 "...", opt->min_u64);
        else
            (void)snprintf(out, bytes, "%s%" PRIu64 "..%" PRIu64,
                           opt->kind == CLLM_OPTION_AUTO ? "auto, " : "", opt->min_u64,
                           opt->max_u64);
        break;
    case CLLM_OPTION_F64:
        (void)snprintf(out, bytes, "%g..%g", opt->min_f64, opt->max_f64);
        break;
    case CLLM_OPTION_ENUM:
    case CLLM_OPTION_BOOL:
        (void)snprintf(out, bytes, "%s", opt->choices);
        break;
    case CLLM_OPTION_STR:
        (void)snprintf(out, bytes, "text");
        break;
    case CLLM_OPTION_LIST:
    default:
        (void)snprintf(out, bytes, "text, repeatable");
    }
}

void cllm_config_help(void)
{
    const char *section = "";
    char allowed[96];

    for (size_t i = 0; i < CLLM_N_OPTIONS; i++) {
        const struct cllm_option *opt = &cllm_options[i];

        if (strcmp(section, opt->section) != 0) {
            (void)printf("%s[%s]\n", section[0] ? "\n" : "", opt->section);
            section = opt->section;
        }
        print_allowed(opt, allowed, sizeof allowed);
        (void)printf("  %s = %s\n      %s\n      allowed: %s%s%s\n", opt->name,
                     opt->def[0]                     ? opt->def
                     : opt->kind == CLLM_OPTION_LIST ? "(none)"
                                                     : "(required)",
                     opt->help, allowed, opt->unit[0] ? " " : "", opt->unit);
    }
}

void cllm_config_markdown(void)
{
    const char *section = "";
    char allowed[96];

    (void)printf(
        "# Options\n\nMade by `make docs` from `base/options.def`; do not edit.\n");
    for (size_t i = 0; i < CLLM_N_OPTIONS; i++) {
        const struct cllm_option *opt = &cllm_options[i];

        if (strcmp(section, opt->section) != 0) {
            section = opt->section;
            (void)printf("\n## [%s]\n\n| key | default | allowed | unit | meaning |\n"
                         "| --- | --- | --- | --- | --- |\n",
                         section);
        }
        print_allowed(opt, allowed, sizeof allowed);
        for (char *p = allowed; *p; p++)
            if (*p == '|')
                *p = '/';
        (void)printf("| %s | %s | %s | %s | %s |\n", opt->name,
                     opt->def[0]                     ? opt->def
                     : opt->kind == CLLM_OPTION_LIST ? "none"
                                                     : "required",
                     allowed, opt->unit, opt->help);
    }
}
