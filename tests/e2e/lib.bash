# tests/e2e/lib.bash - what end-to-end scripts share. Source it; it makes $work and a small
# corpus in $work/data, and counts ok and not ok.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${CLLM_BUILD:-$root/build/release}/bin
work=$(mktemp -d "${TMPDIR:-/tmp}/cllm-e2e.XXXXXX") || exit 1
n=0 bad=0

cleanup()
{
    local pid dir

    for pid in $(jobs -p); do
        kill -9 "$pid" 2>/dev/null
    done
    wait 2>/dev/null
    sleep 0.1 # Node Zero and its children follow their guardian
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
# until_step NAME STEP: wait until the run has committed that step
until_step()
{
    until grep -qs "\"step\":$2," "$work/runs/$1/journal.jsonl"; do
        kill -0 $coord 2>/dev/null || return 1
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

# What the bits of a finished run are: every file of its last checkpoint, and the journal.
bits()
{
    (cd "$work/runs/$1/checkpoints/last/" && sha256sum ./*.safetensors ./*.json) 2>&1
    sha256sum <"$work/runs/$1/journal.jsonl"
}
