#!/bin/bash
# Every fault point: a process is killed the first time it comes by, and the bits are those
# of a run that was left alone. The deep form is tests/crash/points --deep.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=${CLLM_BUILD:-build/release}
exec "$build/tests/crash/points" "$build"
