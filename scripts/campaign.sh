#!/bin/bash
# The chaos campaign: goes on for as long as it is left to, chunk after chunk with new seeds.
# Each chunk appends a line to tests/crash/results.jsonl (or $RESULTS); the first mismatch ends
# it, with the line that does the run again and the run's directory kept.
#
#   scripts/campaign.sh [BUILD]          CAMPAIGN_SECONDS=600: no new chunk after so long
set -u
cd "$(dirname "$0")/.." || exit 2
build=${1:-build/release}
chaos=$build/tests/crash/chaos
results=${RESULTS:-tests/crash/results.jsonl}
limit=${CAMPAIGN_SECONDS:-0}

[ -x "$chaos" ] || { echo "campaign: $chaos is not there: make build-tests" >&2; exit 2; }
trap 'echo; total; exit 0' INT TERM

# Sums over the results file, this campaign's and all before it.
total()
{
    [ -s "$results" ] || return 0
    awk '
        function number(name) {
            if (!match($0, "\"" name "\":[0-9.]+"))
                return 0
            return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3)
        }
        match($0, /"mode":"[^"]*"/) {
            mode = substr($0, RSTART + 8, RLENGTH - 9)
            if (mode ~ /^(kill|node-zero|stop|fault)$/) {
                hits[mode] += number("hits"); all += number("hits")
                runs += number("runs"); wrong += number("mismatches")
            }
        }
        END {
            printf "total so far: %d signals (", all
            for (m in hits) printf "%s%s %d", n++ ? ", " : "", m, hits[m]
            printf ") in %d runs, %d mismatches\n", runs, wrong
        }' "$results"
}

chunk()
{
    "$chaos" --results "$results" "$@"
    case $? in
    0) return ;;
    130) total; exit 0 ;; # somebody ended it
    esac
    total
    echo "campaign: stopped at the first mismatch; its directory is kept"
    exit 1
}

for ((n = 0; limit == 0 || SECONDS < limit; n++)); do
    case $((n % 10)) in
    3) chunk --mode node-zero --hits 200 ;;
    5) chunk --model tiny --hits 500 ;;
    7) chunk --mode stop --hits 200 ;;
    9) chunk --mode fault --hits 500 ;;
    *) chunk --hits 2000 ;;
    esac
    total
done
