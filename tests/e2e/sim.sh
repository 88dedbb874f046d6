#!/bin/bash
# The simulator of the protocol, for about five seconds: every store a place to die. The
# deep form is make test-crash; a failure prints its seed.
set -u
cd "$(dirname "$0")/../.." || exit 1

sim=${CLLM_BUILD:-build/release}/tests/crash/sim
if text=$("$sim" --quick 2>&1); then
    echo "ok 1 - every interleaving and every death of the simulator ends in the golden bits"
else
    echo "not ok 1 - the simulator found a violation"
fi
printf '%s\n' "$text" | sed 's/^/# /'
echo "1..1"
[[ $text == *"0 violations"* ]]
