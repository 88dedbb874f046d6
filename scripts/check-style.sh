#!/bin/bash
# What clang-format cannot see: banned calls, long lines, tabs, long files, long or deeply
# nested functions, notes to oneself, include order, files that no list in the Makefile
# names.
set -u
cd "$(dirname "$0")/.." || exit 2

max_file=600 max_function=70 max_depth=4
bad=0
complain()
{
    echo "style: $*" >&2
    bad=1
}

# Functions that may be longer than $max_function lines, each with its reason.
long_functions="
"

banned='strcpy strcat sprintf vsprintf gets strtok atoi atol atof rand srand system popen
alloca usleep signal longjmp'

stripped=$(mktemp)
trap 'rm -f "$stripped"' EXIT
for file in */*.c */*.h compute/*/*.[ch] tests/*/*.c tests/*/*.h; do
    [ -f "$file" ] || continue
    awk -f scripts/strip-c.awk "$file" >"$stripped"
    case "$file" in
    tests/*) words=${banned/ system popen/} ;;
    *) words="$banned assert" ;;
    esac
    case "$file" in
    compute/* | model/*) words="$words printf fprintf puts" ;;
    esac
    # shellcheck disable=SC2086 # a list of words
    pattern=$(echo $words | tr ' ' '|')
    while IFS=: read -r line text; do
        [ -z "$line" ] || complain "$file:$line: banned call:$text"
    done < <(grep -nE "(^|[^A-Za-z0-9_>.])($pattern)[ ]*\(" "$stripped" |
        grep -vE 'signal\([A-Za-z0-9_]+, SIG_(IGN|DFL)\)') # handlers are for sigaction
    while IFS=: read -r line text; do
        [ -z "$line" ] || complain "$file:$line: volatile only as volatile sig_atomic_t"
    done < <(grep -nE '(^|[^A-Za-z_])volatile([^A-Za-z_]|$)' "$stripped" |
        grep -vE 'volatile sig_atomic_t|asm volatile')
    while IFS=: read -r line text; do
        [ -z "$line" ] || complain "$file:$line:$text"
    done < <(awk -v max=$max_function -v depth_max=$max_depth -v file="$file" '
        /^{/ { start = NR; name = before; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name) }
        start {
            for (i = 1; i <= length($0); i++) {
                c = substr($0, i, 1)
                depth += (c == "{") - (c == "}")
                if (depth - 1 > deepest)
                    deepest = depth - 1
            }
        }
        /^}/ && start {
            if (NR - start + 1 > max)
                print start ": function " name " has " NR - start + 1 " lines, at most " max
            if (deepest > depth_max)
                print start ": function " name " nests " deepest " deep, at most " depth_max
            start = depth = deepest = 0
        }
        !/^[ \t{}]/ && /\(/ { before = $0 }
    ' "$stripped" | grep -vFf <(awk 'NF { print " " $1 " has " }' <<<"$long_functions"))
    # The own header comes first, so that every header proves that it compiles alone.
    own=${file%.c}.h
    if [ "$own" != "$file" ] && [ -f "$own" ]; then
        first=$(grep -m1 '^#include' "$file")
        [ "$first" = "#include \"$own\"" ] || complain "$file: the first include is not $own"
    fi
    lines=$(wc -l <"$file")
    [ "$lines" -le $max_file ] || complain "$file: $lines lines, at most $max_file"
    [ "$(head -c 2 "$file")" = '/*' ] || complain "$file: no comment at its head"
done

while IFS=: read -r file line _; do
    complain "$file:$line: line of more than 90 columns"
done < <(grep -nE '^.{91,}' -- */*.c */*.h compute/*/*.[ch] tests/*/*.[ch])
while IFS=: read -r file line _; do
    complain "$file:$line: tab or white space at the end"
done < <(grep -nP '\t|[ \t]+$' -- */*.c */*.h */*.def compute/*/*.[ch] tests/*/*.[ch] tests/*/*.def \
    scripts/*.sh tests/*.sh tests/*/*.sh)
while IFS=: read -r file line _; do
    complain "$file:$line: note to oneself; do it, or write an issue"
done < <(grep -nwE 'TODO|FIXME|XXX|HACK' -- */*.c */*.h */*.def compute/*/*.[ch] tests/*/*.[ch] tests/*/*.def)

# The lists in the Makefile name every source, sorted; bench programs build on their own.
listed=$(make -s --no-print-directory list-sources | sort)
while read -r file; do
    complain "$file is not named in the Makefile's lists"
done < <(comm -13 <(echo "$listed") <(printf '%s\n' */*.c compute/*/*.c tests/*/*.c | sort))
while read -r file; do
    complain "$file is named in the Makefile's lists but does not exist"
done < <(comm -23 <(echo "$listed") <(printf '%s\n' */*.c compute/*/*.c tests/*/*.c | sort))
while read -r folder; do
    names=$(make -s --no-print-directory list-sources | grep "^$folder/[^/]*$" |
        if [ "$folder" = tests ]; then grep /test_; else cat; fi)
    LC_ALL=C sort -c <<<"$names" 2>/dev/null || complain "the list of $folder is not sorted"
done < <({ cut -d/ -f1 <<<"$listed"; echo compute/opencl; } | sort -u)

exit $bad
