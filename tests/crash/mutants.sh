#!/bin/bash
# Known bugs of the protocol, put back one at a time into a private copy of the sources: the
# simulator must find every one. tests/crash/mutants.txt is the list.
#
#   tests/crash/mutants.sh [-e EVENTS] [NAME...]
#
# Prints a line for each: which check caught it, after how many events. A text that is not
# in the sources any more, or stands there twice, is a failure of its own: the list must
# keep up with the code.
set -u
cd "$(dirname "$0")/../.." || exit 2

events=600000000
limit=600 # seconds for each
if [ "${1:-}" = -e ]; then
    events=$2
    shift 2
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/cllm-mutants.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
n=0 bad=0

result()
{
    n=$((n + 1))
    if [ "$1" = ok ]; then
        echo "ok $n - $2: $3"
    else
        bad=1
        echo "not ok $n - $2: $3"
    fi
}

build()
{
    make -C "$work/tree" --no-print-directory BUILD="$work/build" \
        "$work/build/tests/crash/sim" >"$work/make.log" 2>&1
}

# replace FILE OLD NEW: exactly once
replace()
{
    local file=$work/tree/$1 text rest

    [ -e "$file" ] || return 1
    # The last character keeps the newlines before it.
    text=$(cat "$file" && echo x) || return 1
    text=${text%x}
    rest=${text#*"$2"}
    [ "$rest" != "$text" ] || return 1
    case "$rest" in
    *"$2"*) return 1 ;;
    esac
    printf '%s%s%s' "${text%%"$2"*}" "$3" "$rest" >"$file"
}

# One mutant, as read: name, file[], old[], new[].
try()
{
    local i rc text why

    for i in "${!file[@]}"; do
        if ! replace "${file[i]}" "${old[i]%$'\n'}" "${new[i]%$'\n'}"; then
            result bad "$name" "its text is not, or not once, in ${file[i]}"
            return
        fi
    done
    if ! build; then
        result bad "$name" "does not compile"
        sed 's/^/# /' "$work/make.log" | grep -m 5 error
        return
    fi
    text=$(timeout $limit nice "$work/build/tests/crash/sim" --seed 1 --events "$events" 2>&1)
    rc=$?
    why=$(sed -n 's/^VIOLATION \([^:]*\):.*/\1/p' <<<"$text" | head -n 1)
    if [ $rc = 0 ]; then
        result bad "$name" "not found"
    elif [ -n "$why" ]; then
        result ok "$name" "$why, $(sed -n 's/^caught \(.* runs\).*/\1/p' <<<"$text")"
    elif [ $rc = 124 ]; then
        result bad "$name" "no end within $limit s"
    else
        result ok "$name" "the simulator died ($rc)"
    fi
}

restore()
{
    local i

    for i in "${!file[@]}"; do
        cp "${file[i]}" "$work/tree/${file[i]}" 2>/dev/null
    done
}

mkdir -p "$work/tree"
cp -r Makefile base compute coordinator formats loader model saver shm tests worker tools \
    "$work/tree" || exit 2
if ! build; then
    echo "not ok 1 - the simulator does not build"
    cat "$work/make.log"
    exit 1
fi
# A mutant counts as found only where the sources as they are have nothing to find.
if text=$(nice "$work/build/tests/crash/sim" --seed 1 --events "$events" 2>&1); then
    result ok "no mutant" "nothing found in $events events"
else
    result bad "no mutant" "the sources as they are fail"
    sed 's/^/# /' <<<"$text" | tail -n 3
    echo "1..$n"
    exit 1
fi

name='' part=''
file=() old=() new=()
while IFS= read -r line || [ -n "$line" ]; do
    case "$line" in
    'mutant '*) name=${line#mutant } file=() old=() new=() ;;
    'file '*) file+=("${line#file }") old+=('') new+=('') ;;
    old | new) part=$line ;;
    '|'*)
        if [ "$part" = old ]; then
            old[-1]+=${line#|}$'\n'
        else
            new[-1]+=${line#|}$'\n'
        fi
        ;;
    end)
        if [ $# = 0 ] || [[ " $* " == *" ${name%%:*} "* ]]; then
            try
            restore
        fi
        ;;
    esac
done <tests/crash/mutants.txt
echo "1..$n"
exit $bad
