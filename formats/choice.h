/*
 * formats/choice.h - multiple-choice examples: a JSON object on each line.
 *
 *     {"ctx": "The cat sits on the", "endings": ["mat.", "moon."], "label": 0, ...}
 *
 * HellaSwag's names; label may be text ("0") as in its files; other members are passed
 * over. The text of an ending is what follows the context, a space between them.
 */
#ifndef CLLM_FORMATS_CHOICE_H
#define CLLM_FORMATS_CHOICE_H

#include "base/base.h"

#define CLLM_CHOICE_ENDINGS   16         /* of an example, at most */
#define CLLM_CHOICE_LINE_MOST (1u << 20) /* bytes of a line */

struct cllm_choice {
    char *context;                     /* heap, not empty */
    uint32_t n;                        /* endings, at least 2 */
    char *ending[CLLM_CHOICE_ENDINGS]; /* heap, not empty, without the space */
    uint32_t label;                    /* the right one */
};

/* Read the @bytes of one line, without its end; @name and @line are for messages. Returns
 * 0, CLLM_EDATA or -ENOMEM with text; then there is nothing to free. */
int cllm_choice_parse(struct cllm_choice *out, const char *text, size_t bytes,
                      const char *name, uint64_t line);
void cllm_choice_free(struct cllm_choice *choice); /* safe on a zeroed one */

/* ---- a file of them ---- */

struct cllm_choices {
    uint64_t n;
    struct cllm_choice *choice; /* [n] heap */
    uint64_t hash;              /* of the file's bytes */
};

/* All of the file; empty lines are passed over. A file without an example is refused.
 * Returns 0, CLLM_EDATA or a negative errno with text; then there is nothing to free. */
int cllm_choices_load(struct cllm_choices *out, const char *path);
void cllm_choices_free(struct cllm_choices *choices);

#endif /* CLLM_FORMATS_CHOICE_H */
