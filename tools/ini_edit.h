/*
 * tools/ini_edit.h - one value of an .ini text changed, and not a byte besides: people
 * keep comments, order and blank lines in their files.
 */
#ifndef CLLM_TOOLS_INI_EDIT_H
#define CLLM_TOOLS_INI_EDIT_H

/*
 * *@out becomes @text with @key = @value in [@section]; heap, the caller frees. Where the
 * key has a value that is replaced, a comment behind it stays. Else a line is added:
 * behind the last key of the section, or with the section behind the last line of the
 * text. A key in a comment is a comment. Line ends are those of the text; a line end is
 * added to a last line that has none only where a line is added behind it.
 *
 * Lines are understood as base/config.h understands them; what it would refuse is passed
 * over. Returns 0 or -ENOMEM with text.
 */
int cllm_ini_edit_set(const char *text, const char *section, const char *key,
                      const char *value, char **out);

#endif /* CLLM_TOOLS_INI_EDIT_H */
