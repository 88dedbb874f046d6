#!/bin/bash
# Runs the test programs, then the end-to-end scripts, and ends with the counts.
#
#   tests/run.sh [--unit] BUILD [NAME...]
#
# BUILD is a build directory (build/release); NAME picks programs (ring, test_ring) or
# scripts (e2e/crash). A quiet line for each, output only when something failed. Every
# program must leave no shared memory and no process behind.
set -u

unit_only=0
if [ "${1:-}" = --unit ]; then
    unit_only=1
    shift
fi
if [ $# -lt 1 ]; then
    echo "usage: tests/run.sh [--unit] BUILD [NAME...]" >&2
    exit 2
fi
cd "$(dirname "$0")/.." || exit 2
build=$(realpath "$1")
shift
export CLLM_BUILD=$build CLLM_BIN=$build/bin
# Sanitizers are slow; CLLM_TEST_SLOW=5 gives every limit five times as long.
slow=${CLLM_TEST_SLOW:-1}
unit_limit=$((120 * slow))
e2e_limit=$((400 * slow))

work=$(mktemp -d "${TMPDIR:-/tmp}/cllm-tests.XXXXXX") || exit 2
export TMPDIR=$work/tmp
trap 'rm -rf "$work"' EXIT
out=$work/out
passed=0 failed=0 skipped=0

shm_names()
{
    find /dev/shm -maxdepth 1 -name '*cllm-*' -printf '%f\n' 2>/dev/null | sort
}

# Processes whose program lies in this build, as "PID NAME".
our_processes()
{
    local pid exe

    for pid in /proc/[0-9]*; do
        exe=$(readlink "$pid/exe" 2>/dev/null) || continue
        case "$exe" in
        "$build"/*) echo "${pid#/proc/} $(basename "${exe% (deleted)}")" ;;
        esac
    done
}

# Names that are new since $work/shm and still there a moment later. The objects of a run
# share a prefix (cllm-UID-RUN-); a run that a process of another build has mapped is alive
# and none of our business.
new_shm_names()
{
    local name others

    comm -13 "$work/shm" <(shm_names) >"$work/new"
    [ -s "$work/new" ] || return
    sleep 0.3
    while read -r name; do
        [ -e "/dev/shm/$name" ] || continue
        others=$(grep -lsF "/dev/shm/${name%-*}-" /proc/[0-9]*/maps | cut -d/ -f3 |
            while read -r pid; do readlink "/proc/$pid/exe"; done 2>/dev/null |
            grep -vc "^$build/")
        [ "$others" != 0 ] || echo "$name"
    done <"$work/new"
}

# What the last program left behind, as text. Processes are ended, so that the next program
# starts clean; shared memory is only named, in case it belongs to someone else after all.
leftovers()
{
    local name pid text=

    while read -r pid name; do
        [ -n "$pid" ] || continue
        text+="process $pid ($name) left running; "
        kill -9 "$pid" 2>/dev/null
    done < <(our_processes | comm -13 "$work/processes" -)
    while read -r name; do
        text+="/dev/shm/$name left behind; "
    done < <(new_shm_names)
    name=$(find "$TMPDIR" -mindepth 1 -maxdepth 1 -printf '%f ' 2>/dev/null)
    [ -z "$name" ] || text+="files left in TMPDIR: $name; "
    rm -rf "$TMPDIR"
    printf '%s' "${text%; }"
}

# sum PATTERN: adds up the numbers that follow PATTERN in the output
sum()
{
    sed -n "s/^$1\([0-9][0-9]*\).*/\1/p" "$out" | awk '{ n += $1 } END { print n + 0 }'
}

# run NAME LIMIT KIND COMMAND...
run()
{
    local name=$1 limit=$2 kind=$3 rc p f s left start end note=
    shift 3

    shm_names >"$work/shm"
    our_processes | sort >"$work/processes"
    mkdir -p "$TMPDIR"
    start=$(date +%s%N)
    { timeout -k 5 "$limit" "$@"; } >"$out" 2>&1 </dev/null
    rc=$?
    end=$(date +%s%N)
    if [ "$kind" = unit ]; then
        # cmocka's summary lines; a group that dies prints none, so count what it finished.
        p=$(sum '\[  PASSED  \] ')
        f=$(sum '\[  FAILED  \] ')
        s=$(sum '\[  SKIPPED \] ')
        [ $((p + f + s)) -gt 0 ] || p=$(grep -c '^\[       OK \]' "$out")
    else
        p=$(grep -c '^ok ' "$out")
        s=$(grep -c '^ok .*# SKIP' "$out")
        p=$((p - s))
        f=$(grep -c '^not ok ' "$out")
    fi
    if [ $rc = 124 ] || [ $rc = 137 ]; then
        note="no end within $limit s"
    elif [ $rc != 0 ] && [ "$f" = 0 ]; then
        note="exit code $rc"
    elif [ $((p + f + s)) = 0 ]; then
        note="ran no test"
    fi
    left=$(leftovers)
    [ -z "$left" ] || note="${note:+$note; }$left"
    [ -z "$note" ] || f=$((f + 1))
    printf '  %-28s %4d passed' "$name" "$p"
    [ "$f" = 0 ] || printf ', %d failed' "$f"
    [ "$s" = 0 ] || printf ', %d skipped' "$s"
    printf '  %6.2f s\n' "$(((end - start) / 10000000))e-2"
    if [ "$f" != 0 ]; then
        sed 's/^/    | /' "$out"
        [ -z "$note" ] || printf '    ! %s: %s\n' "$name" "$note"
    elif [ "$s" != 0 ]; then
        grep -E '^\[  SKIPPED \] [^0-9]|# SKIP' "$out" | sed 's/^/    | /'
    fi
    passed=$((passed + p))
    failed=$((failed + f))
    skipped=$((skipped + s))
}

# wanted NAME PICKED...: whether NAME was picked, or nothing was
wanted()
{
    local name=$1 pick
    shift

    [ $# != 0 ] || return 0
    for pick; do
        case "$name" in
        "$pick" | "test_$pick" | "e2e/$pick") return 0 ;;
        esac
    done
    return 1
}

for name in $(make -s --no-print-directory list-tests); do
    wanted "$name" "$@" || continue
    run "$name" $unit_limit unit "$build/tests/$name"
done
if [ $unit_only = 0 ]; then
    for script in tests/e2e/*.sh; do
        name=e2e/$(basename "$script" .sh)
        case "$name" in
        e2e/lib | 'e2e/*') continue ;;
        esac
        wanted "$name" "$@" || continue
        run "$name" $e2e_limit e2e bash "$script"
    done
fi

echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ $((passed + skipped)) -gt 0 ]
