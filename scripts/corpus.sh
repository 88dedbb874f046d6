#!/bin/bash
# Makes data/kjv: token shards of the King James Bible, from the text that the Debian
# package bible-kjv carries, with a vocabulary of its own. Does nothing when they are there
# and newer than the text.
#
#   scripts/corpus.sh [DIRECTORY OF THE PROGRAMS]
set -eu
cd "$(dirname "$0")/.."
bin=${1:-build/release/bin}

mkdir -p data
if [ ! -s data/kjv.txt ]; then
    # "Ge1:1 In the beginning": the label goes; an empty line begins a new chapter.
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
vocab=4096 # configs/demo.ini says the same
if ! grep -qs "\"vocab\": $vocab" data/kjv/dataset.json ||
    [ data/kjv.txt -nt data/kjv/dataset.json ]; then
    "$bin/cllm-prep" --force -o data/kjv --train-vocab "$vocab" data/kjv.txt
fi
