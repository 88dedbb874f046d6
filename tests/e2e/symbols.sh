#!/bin/bash
# What the arithmetic is made of: nothing of libm in cllm-worker or in the archives whose
# numbers become weights, since its last digits differ from version to version; and outside
# matrix products no instruction that rounds otherwise than a multiply and an add do.
# What a library takes from libm is its own affair.
set -u
. "$(dirname "$0")/lib.bash"
build=${CLLM_BUILD:-$root/build/release}

# Every name that libm offers, also those that libc offers too (ldexp).
libm=$(ldd "$build/tests/math/math_all" | awk '/libm\.so/ { print $3 }')
[ -z "$libm" ] || nm -D --defined-only "$libm" | awk '{ sub(/@.*/, "", $3); print $3 }' |
    sort -u >"$work/libm"

# imports FILE [OPTION]: the names that a program or archive takes from elsewhere
imports()
{
    nm --undefined-only "${@:2}" "$1" 2>/dev/null |
        awk '$1 == "U" { sub(/@.*/, "", $2); print $2 }' | sort -u
}
# no_libm NAME FILE [OPTION]
no_libm()
{
    local name=$1 found
    shift

    imports "$@" >"$work/imports"
    found=$(comm -12 "$work/libm" "$work/imports")
    if [ -s "$work/imports" ] && [ -z "$found" ]; then
        ok "$name takes nothing from libm"
    else
        not_ok "$name takes nothing from libm" "${found:-it cannot be read: $1}"
    fi
}

check "libm's names are known" grep -qx exp "$work/libm"
imports "$build/tests/math/math_all" -D >"$work/imports"
same "who uses libm is found" exp "$(comm -12 "$work/libm" "$work/imports" | grep -x exp)"
for archive in compute model worker; do
    no_libm "lib$archive.a" "$build/lib/lib$archive.a"
done
if nm -D "$bin/cllm-worker" | grep -Eq ' __(asan|tsan|ubsan)'; then
    echo "ok $((n += 1)) - cllm-worker takes nothing from libm # SKIP sanitizers use it"
else
    no_libm cllm-worker "$bin/cllm-worker" -D
    same "cllm-worker does not load libm itself" 0 \
        "$(readelf -d "$bin/cllm-worker" | grep NEEDED | grep -c 'libm\.so')"
fi

# Fused multiply-adds round once instead of twice; reciprocals are approximations. Matrix
# products alone fuse, and say so in their source.
for archive in compute model; do
    objdump -d --no-show-raw-insn "$build/lib/lib$archive.a" 2>/dev/null |
        awk '/file format/ { name = $1 } name !~ /^(blocked|rows|tiles_fma)\./ { print name, $0 }' >"$work/code"
    check "lib$archive.a has code that multiplies" \
        grep -Eq '[[:space:]]v?mul[sp][sd] ' "$work/code"
    same "lib$archive.a fuses and approximates nothing" "" "$(
        grep -E '[[:space:]]v?(fn?m(add|sub)[a-z0-9]*|(rcp|rsqrt)[0-9]*[sp]s) ' "$work/code" |
            awk '{ print $1 }' | sort | uniq -c)"
done
finish
