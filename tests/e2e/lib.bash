# tests/e2e/lib.bash - what end-to-end scripts share. Source it; it makes $work and a small
# corpus in $work/data, and counts ok and not ok.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${CLLM_BUILD:-$root/build/release}/bin
work=$(mktemp -d "${TMPDIR:-/tmp}/cllm-e2e.XXXXXX") || exit 1
# Files of others, which are no part of the project (tests/foreign.h).
# shellcheck disable=SC2034 # for scripts
foreign=${CLLM_TEST_DATA:-$root/../shared/data}
n=0 bad=0
# How long to wait for what a run is about to do, in seconds: it does it, on any machine.
patience=240

cleanup()
{
    local pid dir level all=

    level=$(jobs -p)
    while [ -n "$level" ]; do
        all+=" $level"
        level=$(pgrep -P "$(paste -sd, <<<"$level")")
    done
    for pid in $(jobs -p); do
        kill -9 "$pid" 2>/dev/null
    done
    wait 2>/dev/null
    # shellcheck disable=SC2086 # Node Zero and its children follow their guardian
    gone $all
    # A run that a test left dead on purpose.
    for dir in "$work"/runs/*/; do
        [ -d "$dir" ] && "$bin/cllm-shm" clean "$dir" >/dev/null 2>&1
    done
    rm -rf "$work"
}
trap cleanup EXIT

# ok NAME / not_ok NAME [TEXT]
ok()
{
    n=$((n + 1))
    echo "ok $n - $1"
}
not_ok()
{
    n=$((n + 1)) bad=1
    echo "not ok $n - $1"
    [ $# -lt 2 ] || printf '%s\n' "$2" | sed 's/^/# /'
}
# check NAME COMMAND...: ok when the command succeeds
check()
{
    local name=$1 text
    shift
    if text=$("$@" 2>&1); then ok "$name"; else not_ok "$name" "$text"; fi
}
# same NAME A B
same()
{
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "expected $2, found $3"; fi
}
finish()
{
    echo "1..$n"
    exit $bad
}

# A text with some order in it, the same on every machine.
make_corpus()
{
    mkdir -p "$work/data"
    awk 'BEGIN {
        split("the quick brown fox jumps over a lazy dog and then it rests under old trees", w, " ")
        x = 12345
        for (i = 0; i < 14000; i++) {
            x = (x * 1103515245 + 12345) % 2147483648
            printf "%s%s", w[1 + int(x / 65536) % 15], i % 12 == 11 ? ".\n" : " "
        }
    }' >"$work/corpus.txt"
    "$bin/cllm-prep" -o "$work/data" "$work/corpus.txt" >/dev/null 2>&1
}

# coord NAME [ARGUMENT...]: train configs/tiny.ini, or $config.ini, in $work/runs/NAME; log in $work/NAME.log
coord()
{
    start_coord "$@"
    wait $coord
}
# The same in the background; $coord is the guardian's pid.
start_coord()
{
    local name=$1
    shift
    "$bin/cllm-coord" "$root/configs/${config:-tiny}.ini" --set "run.dir=$work/runs/$name" \
        --set "data.train=$work/data/train_*.bin" --set "data.valid=$work/data/val_*.bin" \
        --set run.restart_limit=1000 "$@" >"$work/$name.log" 2>&1 &
    coord=$!
}
# CLLM_FAULTS=$(creep STEP [MORE]) start_coord ...: from that step on the run creeps, and MORE
# steps later (4) it nearly stands still, for a minute or more before its end: what is done to
# it in the steps after meets it, however late this script gets to do it; see release.
creep()
{
    echo "lane_summed:sleep=60:$((12 * $1 - 11))*1000000,lane_begun:sleep=1500:$((12 * ($1 + ${2:-4}) - 11))*1000000"
}
# arm NAME TEXT: the fault points of a run that goes on, or is dead in shared memory
arm()
{
    local limit=$((SECONDS + patience)) last=0
    until "${CLLM_BUILD:-$root/build/release}/tests/crash/arm" "$work/runs/$1" "$2"; do
        [ $last = 0 ] || return 1
        kill -0 $coord 2>/dev/null && [ $SECONDS -lt $limit ] || last=1
        sleep 0.05
    done
}
# release NAME [STEP [MORE]]: full speed again; it creeps again from STEP on, if there is one
release()
{
    local to=${2:-0} more=${3:-4} step from still
    step=$(sed -n 's/^{"step":\([0-9]*\),.*/\1/p' "$work/runs/$1/journal.jsonl" | tail -n 1)
    # Lanes are counted from now on; the run may have come further than STEP already.
    from=$((to > step ? to - step : 1))
    still=$((to + more > step ? to + more - step : 1))
    arm "$1" "${2:+$(creep $from $((still > from ? still - from : 0)))}"
}
# until_step NAME STEP: wait until the run has committed that step
until_step()
{
    local last=0
    until grep -qs "\"step\":$2," "$work/runs/$1/journal.jsonl"; do
        [ $last = 0 ] || return 1
        kill -0 $coord 2>/dev/null || last=1
        sleep 0.01
    done
}
# field NAME KEY: what the run says of itself, as soon as it answers
field()
{
    local value limit=$((SECONDS + patience))
    while :; do
        value=$("$bin/cllm-ctl" --json "$work/runs/$1" status 2>/dev/null |
            sed -n "s/^ *\"$2\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p")
        [ -z "$value" ] && kill -0 $coord 2>/dev/null && [ $SECONDS -lt $limit ] || break
        sleep 0.02
    done
    echo "$value"
}
# until_field NAME KEY VALUE: wait until it says that
until_field()
{
    local limit=$((SECONDS + patience))
    until [ "$(field "$1" "$2")" = "$3" ]; do
        kill -0 $coord 2>/dev/null && [ $SECONDS -lt $limit ] || return 1
        sleep 0.02
    done
}
# said NAME PATTERN: wait until the run has said it
said()
{
    local limit=$((SECONDS + patience)) last=0
    until grep -qE "$2" "$work/$1.log"; do
        [ $last = 0 ] || return 1
        kill -0 $coord 2>/dev/null && [ $SECONDS -lt $limit ] || last=1
        sleep 0.01
    done
}
# node_zero: pid of the Node Zero of the run in the background
node_zero()
{
    pgrep -P $coord -x cllm-coord
}

# children ROLE: pids of that role in the run in the background
children()
{
    local parent
    parent=$(node_zero)
    [ -z "$parent" ] || pgrep -P "$parent" -x "cllm-$1"
}

# until_children ROLE N: wait until the run has so many of them
until_children()
{
    local limit=$((SECONDS + patience))
    until [ "$(children "$1" | wc -l)" = "$2" ]; do
        kill -0 $coord 2>/dev/null && [ $SECONDS -lt $limit ] || return 1
        sleep 0.02
    done
}

# gone PID...: wait until those processes have ended
gone()
{
    local pid limit=$((SECONDS + patience))
    for pid; do
        while grep -qs '^State:.[^ZX]' "/proc/$pid/status"; do
            [ $SECONDS -lt $limit ] || return 1
            sleep 0.01
        done
    done
}
# kill_tree: kill -9 for guardian and Node Zero of the run in the background; all its processes
# are gone then
kill_tree()
{
    local zero pids
    zero=$(node_zero)
    mapfile -t pids < <([ -z "$zero" ] || pgrep -P "$zero")
    # shellcheck disable=SC2086 # no Node Zero: no word
    kill -9 $coord $zero
    wait $coord 2>/dev/null
    # shellcheck disable=SC2086
    gone $zero "${pids[@]}"
}

# What the bits of a finished run are: every file of its last checkpoint, and the journal.
bits()
{
    (cd "$work/runs/$1/checkpoints/last/" && sha256sum ./*.safetensors ./*.json) 2>&1
    sha256sum <"$work/runs/$1/journal.jsonl"
}

# loss NAME STEP: as the journal has it, in plain decimals
loss()
{
    sed -n "s/^{\"step\":$2,\"loss\":\([0-9.]*\),.*/\1/p" "$work/runs/$1/metrics.jsonl"
}
# near NAME A B: not more than 1e-3 apart
near()
{
    if awk -v a="$2" -v b="$3" 'BEGIN { d = a - b; exit !(a && b && d < 1e-3 && d > -1e-3) }'; then
        ok "$1"
    else
        not_ok "$1" "$2 and $3"
    fi
}
# says NAME RUN TEXT: the run's log has it
says()
{
    if grep -Eq -- "$3" "$work/$2.log"; then ok "$1"; else not_ok "$1" "$(tail -n 5 "$work/$2.log")"; fi
}
