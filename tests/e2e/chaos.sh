#!/bin/bash
# Random kills, stops and faults for half a minute: no bit is lost. The long form is
# scripts/test-crash.sh, the endless one scripts/campaign.sh.
set -u
. "$(dirname "$0")/lib.bash"
cd "$root" || exit 1
chaos=${CLLM_BUILD:-$root/build/release}/tests/crash/chaos

# storm NAME OPTION...: a campaign in small; its table is shown when something is wrong
storm()
{
    local name=$1 text
    shift
    if text=$("$chaos" --bin "$bin" "$@" 2>&1); then
        ok "$name: $(sed -n 's/.*: \([0-9]* hits in [0-9]* runs\).*/\1/p' <<<"$text")"
    else
        not_ok "$name" "$text"
    fi
}

storm "SIGKILL of everybody in every phase" --hits 500 --seconds 15
storm "SIGKILL of Node Zero and of the whole tree" --mode node-zero --hits 20 --shots 10 --seconds 6
storm "SIGKILL of everybody, a Llama under Muon" --model tiny-llama --set train.optimizer=muon \
    --hits 60 --seconds 8
storm "SIGSTOP, and SIGCONT later" --mode stop --hits 40 --shots 20 --seconds 6
storm "SIGSEGV, SIGABRT, SIGBUS" --mode fault --hits 40 --shots 20 --seconds 5
finish
