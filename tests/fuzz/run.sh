#!/bin/bash
# Fuzzes targets one after the other and says how many executions each had.
#
#   tests/fuzz/run.sh BUILD TARGET...
#
# FUZZ_SECONDS (60) or FUZZ_RUNS limits each target. What is found goes to
# BUILD/findings/TARGET-*, what is new and worth keeping to BUILD/corpus/TARGET; the kept
# inputs in tests/fuzz/corpus are read, not written.
set -u
cd "$(dirname "$0")/../.." || exit 2
if [ $# -lt 2 ]; then
    echo "usage: tests/fuzz/run.sh BUILD TARGET..." >&2
    exit 2
fi
build=$1
shift
if [ -n "${FUZZ_RUNS:-}" ]; then
    limit=-runs=$FUZZ_RUNS
else
    limit=-max_total_time=${FUZZ_SECONDS:-60}
fi
# A small quarantine and short stacks: twice as many executions.
ASAN_OPTIONS=quarantine_size_mb=4:malloc_context_size=1:max_redzone=64
export ASAN_OPTIONS=$ASAN_OPTIONS:allocator_release_to_os_interval_ms=-1
export UBSAN_OPTIONS=print_stacktrace=1
bad=0

mkdir -p "$build/findings"
for target; do
    log=$build/findings/$target.log
    mkdir -p "$build/corpus/$target"
    "$build/fuzz/$target" "$limit" -rss_limit_mb=1024 -timeout=10 -max_len=4096 \
        -print_final_stats=1 -verbosity=1 -artifact_prefix="$build/findings/$target-" \
        "$build/corpus/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1
    rc=$?
    awk -v name="$target" -v rc=$rc '
        /^stat::number_of_executed_units:/ { n = $2 }
        /^stat::average_exec_per_sec:/ { rate = $2 }
        END { printf "  %-12s %10d executions, %6d a second%s\n", name, n, rate,
            rc ? ", FINDING" : "" }' "$log"
    if [ $rc != 0 ]; then
        bad=1
        tail -40 "$log" | sed 's/^/    | /'
    fi
done
exit $bad
