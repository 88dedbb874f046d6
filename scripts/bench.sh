#!/bin/bash
# Tokens a second of a configuration for 1, 2, ... workers, and what they wait for. The
# medians leave out the first step, in which pages are touched for the first time.
#
#   scripts/bench.sh [CONFIG.ini [STEPS [OPTION OF cllm-coord]...]]
#
# The default is the demonstration for 40 steps. CLLM_BUILD is the build directory.
set -eu
cd "$(dirname "$0")/.."
bin=${CLLM_BUILD:-build/release}/bin
config=${1:-configs/demo.ini}
steps=${2:-40}
shift $(($# < 2 ? $# : 2))

scripts/corpus.sh "$bin"
work=$(mktemp -d "${TMPDIR:-/tmp}/cllm-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT

# median KEY FILE: of all steps but the first
median()
{
    sed -n "2,\$s/.*\"$1\":\([0-9.e+-]*\).*/\1/p" "$2" | sort -g |
        awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : 0 }'
}

printf '%s, %s steps\n' "$config" "$steps"
printf '%7s %12s %12s %14s %14s\n' workers tokens/s ms/step 'data wait s' 'saver wait s'
for ((workers = 1; workers <= $(nproc); workers *= 2)); do
    run=$work/$workers
    "$bin/cllm-coord" "$config" -n "$workers" --set "run.dir=$run" \
        --set "train.steps=$steps" --set train.eval_every=0 --set checkpoint.every=0 \
        "$@" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        exit 1
    }
    printf '%7s %12.0f %12.1f %14s %14s\n' "$workers" \
        "$(median tokens_per_s "$run/metrics.jsonl")" \
        "$(awk -v s="$(median step_s "$run/metrics.jsonl")" 'BEGIN { print 1000 * s }')" \
        "$(median wait_data_s "$run/metrics.jsonl")" \
        "$(median wait_saver_s "$run/metrics.jsonl")"
done
