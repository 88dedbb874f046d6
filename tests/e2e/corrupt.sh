#!/bin/bash
# Damaged checkpoints, token shards and control objects: none is accepted silently. The deep form is
# tests/crash/corrupt without --quick.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=${CLLM_BUILD:-build/release}
if "$build/tests/crash/corrupt" --quick; then
    echo "ok 1 - corrupt"
else
    echo "not ok 1 - corrupt"
fi
echo "1..1"
