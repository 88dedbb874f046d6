#!/bin/bash
# Keeps in tests/fuzz/corpus the smallest set of inputs that covers what the kept ones,
# the seeds and the new ones in BUILD/corpus cover together. Inputs named bug-* stay.
#
#   tests/fuzz/merge.sh BUILD [TARGET...]
set -eu
cd "$(dirname "$0")/../.."
if [ $# -lt 1 ]; then
    echo "usage: tests/fuzz/merge.sh BUILD [TARGET...]" >&2
    exit 2
fi
build=$1
shift
[ $# != 0 ] || mapfile -t -O 1 targets < <(ls "$build/fuzz")
[ $# = 0 ] || targets=("$@")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$build/bin/fuzz-seeds" "$work/seeds"
for target in "${targets[@]}"; do
    kept=tests/fuzz/corpus/$target
    mkdir -p "$kept" "$build/corpus/$target" "$work/new"
    # -set_cover_merge would be smaller still; -merge prefers short inputs, which people read
    "$build/fuzz/$target" -merge=1 -max_len=4096 "$work/new" \
        "$kept" "$work/seeds/$target" "$build/corpus/$target" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        exit 1
    }
    find "$kept" -type f ! -name 'bug-*' -delete
    mv "$work/new"/* "$kept"
    printf '  %-12s %5d inputs, %s\n' "$target" "$(find "$kept" -type f | wc -l)" \
        "$(du -sh --apparent-size "$kept" | cut -f1)"
done
