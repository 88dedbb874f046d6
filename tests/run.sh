#!/bin/bash
# Runs the test programs, then the end-to-end scripts, and ends with the counts.
#
#   tests/run.sh [--unit] BUILD [NAME...]
#
# BUILD is a build directory (build/release); NAME picks programs (ring, test_ring) or
# scripts (e2e/crash). A quiet line for each, output only when something failed. They run
# beside each other, as many as there are processors, at most eight (CLLM_TEST_JOBS says
# otherwise), but for those that measure time, which come last, one by one. None may leave
# shared memory, processes or files behind.
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
# Kernels of OpenCL devices take a driver half a minute: compiled once for all programs.
export CLLM_CACHE_DIR=$build/cache
# Nothing may need so long, on any machine: these only end what hangs. Sanitizers are slow;
# CLLM_TEST_SLOW=5 gives every limit five times as long.
slow=${CLLM_TEST_SLOW:-1}
unit_limit=$((600 * slow)) # a driver that compiles kernels for the first time
e2e_limit=$((900 * slow))
cores=$(nproc)
jobs=${CLLM_TEST_JOBS:-$((cores < 8 ? cores : 8))}
# What measures time has the machine for itself.
measuring=' e2e/bench e2e/calibrate '

work=$(mktemp -d "${TMPDIR:-/tmp}/cllm-tests.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0

shm_names()
{
    find /dev/shm -maxdepth 1 -user "$(id -u)" -name '*cllm-*' -printf '%f\n' 2>/dev/null | sort
}

# Processes whose program lies in this build, one a line.
our_processes()
{
    find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -lname "$build/*" -printf '%h\n' 2>/dev/null |
        sed 's|/proc/||' | sort
}

# own_processes: those that the program with $CLLM_TEST_NUMBER has started
own_processes()
{
    our_processes | while read -r pid; do
        grep -qsz "^CLLM_TEST_NUMBER=$CLLM_TEST_NUMBER$" "/proc/$pid/environ" && echo "$pid"
    done
}

# end_processes: ends those that are read, and says so. The next program starts clean.
end_processes()
{
    local pid
    while read -r pid; do
        printf 'process %s (%s) left running; ' "$pid" "$(cat "/proc/$pid/comm" 2>/dev/null)"
        kill -9 "$pid" 2>/dev/null
    done
}

# Names that are new since $work/shm and still there a while later. The objects of a run
# share a prefix (cllm-UID-RUN-); a run that a process of another build has mapped is alive
# and none of our business, and one that ends there takes its objects along.
new_shm_names()
{
    local name others

    comm -13 "$work/shm" <(shm_names) >"$work/new"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -s "$work/new" ] || return
        sleep 0.3
        comm -12 "$work/new" <(shm_names) >"$work/newer"
        mv "$work/newer" "$work/new"
    done
    while read -r name; do
        [ -e "/dev/shm/$name" ] || continue
        others=$(grep -lsF "/dev/shm/${name%-*}-" /proc/[0-9]*/maps | cut -d/ -f3 |
            while read -r pid; do readlink "/proc/$pid/exe"; done 2>/dev/null |
            grep -vc "^$build/")
        [ "$others" != 0 ] || echo "$name"
    done <"$work/new"
}

# sum PATTERN FILE: adds up the numbers that follow PATTERN in the output
sum()
{
    sed -n "s/^$1\([0-9][0-9]*\).*/\1/p" "$2" | awk '{ n += $1 } END { print n + 0 }'
}

# run NUMBER NAME LIMIT KIND COMMAND...: its lines in $work/NUMBER.text, its counts in
# $work/NUMBER.done
run()
{
    local number=$1 name=$2 limit=$3 kind=$4 rc p f s left start end pid note=''
    local out=$work/$number.out
    shift 4

    # Its own processes have this in their environment, whoever else runs beside it.
    export TMPDIR=$work/$number.tmp CLLM_TEST_NUMBER=$$.$number
    mkdir -p "$TMPDIR"
    shm_names >"$work/$number.before"
    start=$(date +%s%N)
    { timeout -k 5 "$limit" "$@"; } >"$out" 2>&1 </dev/null
    rc=$?
    end=$(date +%s%N)
    shm_names >"$work/$number.after"
    if [ "$kind" = unit ]; then
        # cmocka's summary lines; a group that dies prints none, so count what it finished.
        p=$(sum '\[  PASSED  \] ' "$out")
        f=$(sum '\[  FAILED  \] ' "$out")
        s=$(sum '\[  SKIPPED \] ' "$out")
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
    # Who was killed is gone when it is scheduled next.
    for _ in {1..100}; do
        [ -n "$(own_processes)" ] || break
        sleep 0.3
    done
    left=$(own_processes | end_processes)
    left+=$(find "$TMPDIR" -mindepth 1 -maxdepth 1 -printf '%f left in TMPDIR; ' 2>/dev/null)
    rm -rf "$TMPDIR"
    [ -z "$left" ] || note="${note:+$note; }${left%; }"
    [ -z "$note" ] || f=$((f + 1))
    {
        printf '  %-28s %4d passed' "$name" "$p"
        [ "$f" = 0 ] || printf ', %d failed' "$f"
        [ "$s" = 0 ] || printf ', %d skipped' "$s"
        printf '  %6.2f s\n' "$(((end - start) / 10000000))e-2"
        if [ "$f" != 0 ]; then
            sed 's/^/    | /' "$out"
            [ -z "$note" ] || printf '    ! %s: %s\n' "$name" "$note"
        elif [ "$s" != 0 ]; then
            grep -E '^\[  SKIPPED \] [^0-9]|^skipped: |# SKIP' "$out" | sort -u |
                sed 's/^/    | /'
        fi
    } >"$work/$number.text"
    rm -f "$out"
    echo "$p $f $s" >"$work/$number.new"
    mv "$work/$number.new" "$work/$number.done"
}

# what_failed NUMBER: in a few lines, for the end of the record
what_failed()
{
    sed -nE -e 's/^    \| (not ok .*|# .*|\[  FAILED  \] [^0-9].*|.*: error: .*)/  '"${order[$1]//\//\\/}"': \1/p' \
        -e 's/^    ! /  /p' "$work/$1.text" | head -n 20
}

# Shows what has ended, in the order in which it was started.
told=0 failures=
tell()
{
    local p f s
    while [ -e "$work/$((told + 1)).done" ]; do
        told=$((told + 1))
        cat "$work/$told.text"
        read -r p f s <"$work/$told.done"
        [ "$f" = 0 ] || failures+=$(what_failed $told)$'\n'
        passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    done
}

# Nobody runs any more: what all since the last time have left behind that nobody noticed.
# Shared memory is only named, in case it belongs to someone else after all.
checked=0
check_leftovers()
{
    local name i who text
    text=$(our_processes | comm -13 "$work/processes" - | end_processes)
    if [ -n "$text" ]; then
        failed=$((failed + 1))
        echo "    ! ${text%; }"
        failures+="  ${text%; }"$'\n'
    fi
    while read -r name; do
        who=
        for ((i = checked + 1; i <= told; i++)); do
            grep -qxF "$name" "$work/$i.before" || ! grep -qxF "$name" "$work/$i.after" ||
                who+="${who:+ or }${order[i]}"
        done
        failed=$((failed + 1))
        text="/dev/shm/$name left behind by ${who:-someone}"
        echo "    ! $text"
        failures+="  $text"$'\n'
    done < <(new_shm_names)
    checked=$told
    shm_names >"$work/shm"
    our_processes >"$work/processes"
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

# add NAME LIMIT KIND FILE: to be run, beside others or alone
beside=() alone=()
names=() limits=() kinds=() files=()
add()
{
    case "$measuring" in
    *" $1 "*) alone+=(${#names[@]}) ;;
    *) beside+=(${#names[@]}) ;;
    esac
    names+=("$1") limits+=("$2") kinds+=("$3") files+=("$4")
}
for name in $(make -s --no-print-directory list-tests); do
    wanted "$name" "$@" || continue
    add "$name" $unit_limit unit "$build/tests/$name"
done
if [ $unit_only = 0 ]; then
    for script in tests/e2e/*.sh; do
        name=e2e/$(basename "$script" .sh)
        case "$name" in
        e2e/lib | 'e2e/*') continue ;;
        esac
        wanted "$name" "$@" || continue
        add "$name" $e2e_limit e2e "$script"
    done
fi

shm_names >"$work/shm"
our_processes >"$work/processes"
trap 'for pid in $(jobs -p); do pkill -P "$pid"; done; exit 130' INT TERM
started=0 order=()
# start I: in the background
start()
{
    started=$((started + 1))
    order[started]=${names[$1]}
    if [ "${kinds[$1]}" = unit ]; then
        run $started "${names[$1]}" "${limits[$1]}" unit "${files[$1]}" &
    else
        run $started "${names[$1]}" "${limits[$1]}" e2e bash "${files[$1]}" &
    fi
}
for i in "${beside[@]}"; do
    start "$i"
    while [ "$(jobs -r | wc -l)" -ge "$jobs" ]; do
        wait -n
        tell
    done
done
wait
tell
[ ${#beside[@]} = 0 ] || check_leftovers
for i in "${alone[@]}"; do
    start "$i"
    wait
    tell
    check_leftovers
done

echo
printf '%s' "$failures"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ $((passed + skipped)) -gt 0 ]
