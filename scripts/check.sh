#!/bin/bash
# The second half of `make check`: builds without a warning by gcc and by clang, generated
# documents, all tests, and all tests again under AddressSanitizer and UBSan.
set -eu
cd "$(dirname "$0")/.."

build()
{
    echo "== build: $*"
    make --no-print-directory -j "$(nproc)" WERROR=1 "$@" build-tests
}

build CC=clang BUILD=build/check-clang
build CC=gcc BUILD=build/check-gcc

echo "== documents"
if ! build/check-gcc/bin/cllm-coord --options-markdown | diff -u docs/options.md -; then
    echo "docs/options.md is stale: make docs" >&2
    exit 1
fi

echo "== tests"
tests/run.sh build/check-gcc

echo "== tests under AddressSanitizer and UBSan"
build VARIANT=asan BUILD=build/asan
export ASAN_OPTIONS=abort_on_error=0:detect_leaks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=print_stacktrace=1
CLLM_TEST_SLOW=5 tests/run.sh build/asan
