#!/bin/bash
# A disk that fails while a checkpoint is written: nothing older is harmed, nothing is believed
# durable that is not, and the next attempt succeeds. The deep form is
# tests/crash/faults without --quick.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=${CLLM_BUILD:-build/release}
if "$build/tests/crash/faults" --quick; then
    echo "ok 1 - faults"
else
    echo "not ok 1 - faults"
fi
echo "1..1"
