#!/bin/bash
# All checks that do not run the programs. Without arguments: every source of the
# Makefile's lists; clang-tidy can be given fewer: scripts/lint.sh shm/ring.c
# shellcheck disable=SC2317 # functions are called through step
set -u
cd "$(dirname "$0")/.." || exit 2

bad=0
step()
{
    local name=$1 start
    shift

    start=$SECONDS
    if "$@"; then
        printf '  %-14s ok  %3d s\n' "$name" $((SECONDS - start))
    else
        printf '  %-14s FAILED\n' "$name"
        bad=1
    fi
}

flags="-std=c11 -D_GNU_SOURCE -I."

tidy()
{
    # shellcheck disable=SC2086 # lists of words
    printf '%s\n' "$@" | xargs -P "$(nproc)" -n 4 sh -c '
        clang-tidy --quiet --warnings-as-errors="*" "$@" -- '"$flags"' 2>/dev/null' sh
}

cpp_check()
{
    # missingIncludeSystem: system headers are not looked into, which is as it should be.
    # unusedFunction is not enabled: a noun is offered whole, and tests use parts of it.
    # style is not enabled: constParameter does not know callbacks, and -Wshadow is better.
    # In tests, uninitvar takes arrays that a called function fills for uninitialised, and
    # invalidFunctionArg the 0 before a loop for what the loop leaves.
    cppcheck --quiet --std=c11 --enable=warning,portability,performance \
        --inline-suppr --error-exitcode=1 -j "$(nproc)" \
        --suppress=missingIncludeSystem '--suppress=uninitvar:tests/*' \
        '--suppress=invalidFunctionArg:tests/*' -D_GNU_SOURCE -I. "$@"
}

[ $# -gt 0 ] || mapfile -t sources < <(make -s --no-print-directory list-sources)
[ $# -eq 0 ] || sources=("$@")

step shellcheck shellcheck -S warning scripts/*.sh tests/run.sh tests/e2e/*.sh .ci/run
step style scripts/check-style.sh
step floor-plan scripts/check-floorplan.sh
step headers scripts/check-headers.sh
step cppcheck cpp_check "${sources[@]}"
step clang-tidy tidy "${sources[@]}"
exit $bad
