#!/bin/bash
# A sample of the system calls and allocations of a run that can fail: the run goes on, or
# stops and says why and can be resumed. The deep form is tests/crash/nth without --quick.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=${CLLM_BUILD:-build/release}
if "$build/tests/crash/nth" --quick; then
    echo "ok 1 - nth"
else
    echo "not ok 1 - nth"
fi
echo "1..1"
