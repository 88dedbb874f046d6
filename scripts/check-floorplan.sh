#!/bin/bash
# Who may include whom, and which library or call has one place: both tables are read
# from ARCHITECTURE.md, so that the picture and the rule cannot differ.
set -u
cd "$(dirname "$0")/.." || exit 2

bad=0
complain()
{
    echo "floor plan: $*" >&2
    bad=1
}

# table NAME: the rows of a table as "cell|cell|...", without blanks around the cells
table()
{
    awk -v name="$1" '
        $0 ~ "^<!-- " name ":" { on = 1; next }
        /^<!-- end/ { on = 0 }
        on && /^\|/ && !/^\| *---/ { if (n++) print }
    ' ARCHITECTURE.md | sed 's/^| *//; s/ *|$//; s/ *| */|/g'
}

floors=$(table floors)
places=$(table places)
if [ -z "$floors" ] || [ -z "$places" ]; then
    complain "ARCHITECTURE.md has no floor or place table"
    exit 1
fi
folders=$(cut -d'|' -f2 <<<"$floors")

# Rule 1: an include line names a folder that is on the including folder's row.
while IFS='|' read -r _ folder allowed _; do
    [ -d "$folder" ] || complain "ARCHITECTURE.md names $folder/, which does not exist"
    allowed=" $folder ${allowed//,/ } "
    while IFS=: read -r file line text; do
        [ -n "$file" ] || continue
        target=${text#*\"}
        target=${target%%\"*}
        case "$target" in
        */*) ;;
        *) complain "$file:$line: include \"$target\" by folder, as \"folder/file.h\"" ;;
        esac
        case "$allowed" in
        *" ${target%%/*} "*) ;;
        *) complain "$file:$line: $folder may not include $target" ;;
        esac
    done < <(grep -rnE '^[ \t]*#[ \t]*include[ \t]*"' --include='*.[ch]' --include='*.def' \
        "$folder" 2>/dev/null)
done <<<"$floors"
for folder in */; do
    folder=${folder%/}
    if compgen -G "$folder/*.c" >/dev/null && ! grep -qx "$folder" <<<"$folders"; then
        complain "$folder/ has sources but no row in ARCHITECTURE.md"
    fi
done

# Rule 2: a header or call with a place appears nowhere else. Comments and strings do not
# count; a place is a file or a whole folder.
stripped=$(mktemp)
trap 'rm -f "$stripped"' EXIT
for folder in $folders; do
    for file in "$folder"/*.[ch] "$folder"/*/*.[ch]; do
        [ -f "$file" ] && awk -f scripts/strip-c.awk "$file" |
            awk -v f="$file" '{ print f ":" NR ":" $0 }'
    done
done >"$stripped"
while IFS='|' read -r things only; do
    for thing in $(tr -d '`' <<<"$things"); do
        case "$thing" in
        \<*) pattern="^[^:]*:[0-9]+:[ \t]*#[ \t]*include[ \t]*${thing//./\\.}" ;;
        *\(\)) pattern="[^A-Za-z0-9_]${thing%()}[ ]*\(" ;;
        *) pattern="[^A-Za-z0-9_]${thing}([^A-Za-z0-9_]|\$)" ;;
        esac
        while IFS=: read -r file line _; do
            [ -n "$file" ] || continue
            case " ${only//,/ } " in
            *" $file "* | *" ${file%%/*} "* | *" ${file%/*} "*) ;;
            *) complain "$file:$line: $thing has its place in $only" ;;
            esac
        done < <(grep -E "$pattern" "$stripped")
    done
done <<<"$places"

exit $bad
