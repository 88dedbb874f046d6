#!/bin/bash
# Trains a small model on the King James Bible and lets it write. `make demo` installs
# what is missing first; data/ and runs/ are made here and are not part of the repository.
#
#   scripts/demo.sh [OPTION OF cllm-coord]...
set -eu
cd "$(dirname "$0")/.."

run=runs/demo
bin=build/release/bin
start=$SECONDS

say()
{
    printf '\n== %s\n' "$*"
}

say "build"
make --no-print-directory -j "$(nproc)" all

say "corpus: the King James Bible, from the package bible-kjv, and a vocabulary of it"
scripts/corpus.sh "$bin"

say "training: configs/demo.ini (to look inside, in another terminal: $bin/cllm-shm watch)"
if [ -e "$run" ]; then
    echo "an older $run is there; it becomes $run.old"
    "$bin/cllm-shm" clean "$run" >/dev/null 2>&1 || true
    rm -rf "$run.old"
    mv "$run" "$run.old"
fi
"$bin/cllm-coord" configs/demo.ini "$@"

say "what the model writes"
"$bin/cllm-generate" "$run" --prompt "In the beginning" --tokens 150 --temperature 0.6

say "how well it knows the text that it has not seen"
"$bin/cllm-eval" "$run"
say "done in $((SECONDS - start)) s; the run lies in $run"
