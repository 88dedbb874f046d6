#!/bin/bash
# What `cllm-prep --renumber` does to look-ups in the embedding and to their gradient:
# vocabularies trained on a text (of the size that is asked for, or as many tokens as it
# yields), and GPT-2's where it is, each before and after. Prints the rows of
# docs/crystalline.md.
#
#   scripts/measure-renumbering.sh [TEXT]      (data/kjv.txt, which scripts/corpus.sh makes)
#
#   CLLM_BUILD      build directory with programs and tests     (build/release)
#   VOCABS          sizes of trained vocabularies               (4096 32768)
#   WIDTHS          of the embedding                            (128 768)
#   CLLM_TEST_DATA  directory with gpt2/, GPT-2's vocabulary    (../shared/data)
set -euo pipefail
cd "$(dirname "$0")/.."
build=${CLLM_BUILD:-build/release}
text=${1:-data/kjv.txt}
gpt2=${CLLM_TEST_DATA:-../shared/data}/gpt2

[ -s "$text" ] || scripts/corpus.sh "$build/bin"
work=$(mktemp -d "${TMPDIR:-/tmp}/cllm-renumbering.XXXXXX")
trap 'rm -rf "$work"' EXIT

# compare NAME OPTION OF cllm-prep...
compare()
{
    local name=$1 width
    shift
    rm -rf "$work/before" "$work/after"
    "$build/bin/cllm-prep" -q -o "$work/before" "$@" "$text"
    "$build/bin/cllm-prep" -o "$work/after" --renumber "$@" "$text" 2>&1 |
        sed -n "s/^.*\(renumbered: .*\)/$name: \1/p"
    for width in ${WIDTHS:-128 768}; do
        "$build/tests/bench_embedding" "$width" "$work/before/train_000.bin" \
            "$work/after/train_000.bin"
    done
}

for vocab in ${VOCABS:-4096 32768}; do
    compare "$vocab trained" --train-vocab "$vocab"
done
if [ -d "$gpt2" ]; then
    compare "GPT-2's vocabulary" --tokenizer "$gpt2"
else
    echo "GPT-2's vocabulary is not here: $gpt2 (CLLM_TEST_DATA)"
fi
