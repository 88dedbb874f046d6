#!/bin/bash
# Every header compiles alone and twice, with gcc and with clang, and has the guard
# CLLM_FOLDER_FILE_H.
set -u
cd "$(dirname "$0")/.." || exit 2

bad=0
for header in */*.h */*/*.h; do
    guard=CLLM_$(tr 'a-z/.' 'A-Z__' <<<"$header")
    if ! grep -q "^#ifndef $guard\$" "$header"; then
        echo "$header: include guard is not $guard" >&2
        bad=1
    fi
    for cc in gcc clang; do
        command -v $cc >/dev/null || continue
        if ! printf '#include "%s"\n#include "%s"\n' "$header" "$header" |
            $cc -std=c11 -D_GNU_SOURCE -I. -Wall -Wextra -Werror -fsyntax-only -x c -; then
            echo "$header: does not compile alone with $cc" >&2
            bad=1
        fi
    done
done
exit $bad
