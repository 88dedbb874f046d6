#!/bin/bash
# The deep form of every crash test, one after the other: within an hour on two cores, so
# the longest are given a time and go through their cases in an order that a seed gives.
# `make test-crash`; T="chaos-kill sim" picks some, --list names them. Ends with the counts.
#
#   scripts/test-crash.sh [--list] BUILD [NAME...]
set -u
cd "$(dirname "$0")/.." || exit 2

list=0
if [ "${1:-}" = --list ]; then
    list=1
    shift
fi
build=${1:-build/release}
[ $# -eq 0 ] || shift
picked=$*
tests=$build/tests/crash
results=${RESULTS:-tests/crash/results.jsonl}
out=$(mktemp "${TMPDIR:-/tmp}/cllm-test-crash.XXXXXX") || exit 2
trap 'rm -f "$out"' EXIT
passed=0 failed=0

# form NAME COMMAND...: its last lines when it is good, all of it when it is not
form()
{
    local name=$1 start=$SECONDS
    shift

    if [ $list = 1 ]; then
        printf '%-16s %s\n' "$name" "$*"
        return
    fi
    [ -z "$picked" ] || [[ " $picked " == *" $name "* ]] || return 0
    if "$@" >"$out" 2>&1 </dev/null; then
        passed=$((passed + 1))
        printf '  %-16s ok      %5d s\n' "$name" $((SECONDS - start))
        tail -n 3 "$out" | sed 's/^/    | /'
    else
        failed=$((failed + 1))
        printf '  %-16s FAILED  %5d s\n' "$name" $((SECONDS - start))
        tail -n 100 "$out" | sed 's/^/    | /'
    fi
}

chaos=("$tests/chaos" --results "$results")

form points "$tests/points" --deep --seconds 480 "$build"
form sim "$tests/sim" --events 100000000
form states "$tests/states" --seconds 360
form corrupt "$tests/corrupt" --seconds 240
form faults "$tests/faults" --seconds 120
form stepping "$tests/stepping"
form stepping-llama "$tests/stepping" --quick --config configs/tiny-llama.ini
form nth "$tests/nth" --seconds 300
form chaos-kill "${chaos[@]}" --hits 20000 --seconds 450
form chaos-tiny "${chaos[@]}" --model tiny --hits 1000 --seconds 90
form chaos-llama "${chaos[@]}" --model tiny-llama --set train.optimizer=muon --hits 1000 --seconds 90
form chaos-node-zero "${chaos[@]}" --mode node-zero --hits 2800 --seconds 180
form chaos-stop "${chaos[@]}" --mode stop --hits 2000 --seconds 90
form chaos-fault "${chaos[@]}" --mode fault --hits 1000 --seconds 90
form chaos-load "${chaos[@]}" --mode load --seconds 90
form chaos-mttr "${chaos[@]}" --mode mttr
form chaos-goodput "${chaos[@]}" --mode goodput --hits 1 --seconds 60

[ $list = 0 ] || exit 0
echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
