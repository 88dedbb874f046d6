#!/bin/bash
# Trains a small model on the King James Bible and lets it write. `make demo` installs
# what is missing first; data/ and runs/ are made here and are not part of the repository.
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

mkdir -p data
if [ ! -s data/kjv.txt ]; then
    say "corpus: the bible-kjv package, verse labels dropped"
    # "Ge1:1 In the beginning": the label goes, a new chapter begins after an empty line.
    bible -f gen1:1-rev22:21 | awk '
        {
            split($1, at, ":")
            if (NR > 1 && at[1] != chapter)
                print ""
            chapter = at[1]
            sub(/^[^ ]+ /, "")
            print
        }' >data/kjv.txt.new
    mv data/kjv.txt.new data/kjv.txt
fi
if [ ! -s data/kjv/dataset.json ] || [ data/kjv.txt -nt data/kjv/dataset.json ]; then
    "$bin/cllm-prep" --force -o data/kjv data/kjv.txt
fi

say "training: configs/demo.ini"
echo "in another terminal: $bin/cllm-shm watch"
if [ -e "$run" ]; then
    echo "an older $run is there; it becomes $run.old"
    rm -rf "$run.old"
    mv "$run" "$run.old"
fi
"$bin/cllm-coord" configs/demo.ini "$@"

say "what the model writes"
"$bin/cllm-generate" "$run" --prompt "In the beginning" --tokens 400 --temperature 0.8 \
    --top-k 40 --seed 1
say "done in $((SECONDS - start)) s; the run lies in $run"
