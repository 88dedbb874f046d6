/*
 * tools/ini_edit.c - see tools/ini_edit.h.
 *
 * The library that reads .ini files forgets where it read what, so the lines are looked
 * at once more here, with its rules: a value ends at white space and a ';', a name at '='
 * or
 * ':', and only whole lines are comments otherwise.
 */
#include "tools/ini_edit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/err.h"

#define UTF8_BOM "\xEF\xBB\xBF"
#define BLANKS   " \t\r\v\f"

/* What to replace in a text: bytes [from,to). */
struct place {
    const char *from, *to;
    bool has_key, has_section;
};

static bool is_blank(char c)
{
    return c != '\0' && strchr(BLANKS, c);
}

/* Is [@from,@to) the word @word? */
static bool is_word(const char *from, const char *to, const char *word)
{
    return (size_t)(to - from) == strlen(word) && strncmp(from, word, strlen(word)) == 0;
}

/* Is [@from,@to), a line that begins with '[', the head of section @name? */
static bool is_head_of(const char *from, const char *to, const char *name)
{
    const char *end = memchr(from, ']', (size_t)(to - from));

    return end && is_word(from + 1, end, name);
}

/* The '=' behind the name @key in the line [@from,@to), or NULL. */
static const char *find_equals(const char *from, const char *to, const char *key)
{
    const char *equals = from, *end;

    while (equals < to && *equals != '=' && *equals != ':')
        equals++;
    if (equals == to)
        return NULL;
    end = equals;
    while (end > from && is_blank(end[-1]))
        end--;
    return is_word(from, end, key) ? equals : NULL;
}

/* The value between @equals and the end of its line, @to. */
static void find_value(struct place *place, const char *equals, const char *to)
{
    const char *from = equals + 1, *end = from;

    while (end < to && !(*end == ';' && end > from && is_blank(end[-1])))
        end++;
    while (end > from && is_blank(end[-1]))
        end--;
    while (from < end && is_blank(*from))
        from++;
    place->from = from; /* without a value: right behind the '=' */
    place->to = end;
    place->has_key = true;
}

static struct place find_place(const char *text, const char *section, const char *key)
{
    struct place place = {0};
    bool inside = false;

    if (strncmp(text, UTF8_BOM, strlen(UTF8_BOM)) == 0)
        text += strlen(UTF8_BOM);
    while (*text != '\0' && !place.has_key) {
        const char *to = text + strcspn(text, "\n"), *next = to + (*to == '\n'), *equals;

        if (*text == '[')
            inside = is_head_of(text, to, section);
        if (inside && *text != ';' && *text != '#' && text + strspn(text, BLANKS) < to) {
            equals = *text == '[' ? NULL : find_equals(text, to, key);
            place.from = place.to = next; /* behind the last line that says something */
            place.has_section = true;
            if (equals)
                find_value(&place, equals, to);
        }
        text = next;
    }
    if (!place.has_section)
        place.from = place.to = text; /* the end */
    return place;
}

int cllm_ini_edit_set(const char *text, const char *section, const char *key,
                      const char *value, char **out)
{
    const struct place place = find_place(text, section, key);
    const char *first = strchr(text, '\n');
    const char *eol = first && first > text && first[-1] == '\r' ? "\r\n" : "\n";
    bool unended = place.from > text && place.from[-1] != '\n';
    int before = (int)(place.from - text), n;

    if (place.has_key)
        n = asprintf(out, "%.*s%s%s%s", before, text, place.from == place.to ? " " : "",
                     value, place.to);
    else if (place.has_section)
        n = asprintf(out, "%.*s%s%s = %s%s%s", before, text, unended ? eol : "", key,
                     value, eol, place.to);
    else
        n = asprintf(out, "%s%s%s[%s]%s%s = %s%s", text, unended ? eol : "",
                     *text == '\0' ? "" : eol, section, eol, key, value, eol);
    return n < 0 ? cllm_err(-ENOMEM, "cannot keep the changed text") : 0;
}
