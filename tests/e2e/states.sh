#!/bin/bash
# What a power cut leaves of checkpoints that are written and pruned: a sound one is chosen, the
# newest, from every state of the disk that is legal. The deep form is
# tests/crash/states without --quick.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=${CLLM_BUILD:-build/release}
if "$build/tests/crash/states" --quick; then
    echo "ok 1 - states"
else
    echo "not ok 1 - states"
fi
echo "1..1"
