#!/bin/bash
# What the crystalline options do to held-out cross-entropy, and what they cost: each
# setting trained with the same seeds for the same steps, in turns. Prints the table of
# docs/crystalline.md.
#
#   scripts/ablate-crystalline.sh [OPTION OF cllm-coord]...
#
#   CLLM_BUILD  build directory                  (build/release)
#   SEEDS       of initial weights and order of the data (1 2 3)
#   STEPS       optimizer steps of each run      (500)
#   EPSILONS    values of [loss] crystalline     (0.03 0.1 0.3)
#   EPSILON     the one that is combined with the other forms (0.03)
#   ONLY        names of settings, as a pattern of grep -E; plain is always trained
#   CONFIG      configuration                    (configs/demo.ini)
#   TEXT        what its data was made of        (data/kjv.txt)
#   OUT         results.tsv                      (build/ablation)
#
# A renumbered data set (cllm-prep --renumber) has the same tokens of the same text under
# other ids, so that losses can be compared.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${CLLM_BUILD:-build/release}/bin
seeds=${SEEDS:-1 2 3} steps=${STEPS:-500} config=${CONFIG:-configs/demo.ini}
epsilon=${EPSILON:-0.03} text=${TEXT:-data/kjv.txt} only=${ONLY:-.}
out=${OUT:-build/ablation}
options=("$@")

[ "$config" != configs/demo.ini ] || scripts/corpus.sh "$bin"
mkdir -p "$out"
run=$(mktemp -d "${TMPDIR:-/tmp}/cllm-ablation.XXXXXX")
trap 'rm -rf "$run"' EXIT

# Where the shards of the configuration lie, and with them their tokenizer.
data=$(dirname "$(sed -n 's/^train *= *//p' "$config" | head -n 1)")
tokenizer=bytes
[ ! -e "$data/tokenizer.json" ] || tokenizer=$data
"$bin/cllm-prep" -q -o "$run/data" --renumber --tokenizer "$tokenizer" "$text"
renumbered=(--set "data.train=$run/data/train_*.bin" --set "data.valid=$run/data/val_*.bin")

# train NAME SEED OPTION...: a line "NAME SEED loss seconds of all processors"
train()
{
    local name=$1 seed=$2 before after
    shift 2
    [ "$name" = plain ] || grep -qE -- "$only" <<<"$name" || return 0
    before=$(cut -d ' ' -f 14-17 "/proc/$$/stat")
    "$bin/cllm-coord" "$config" --set "run.dir=$run/run" --set "train.steps=$steps" \
        --set "train.seed=$seed" --set train.eval_every=0 --set checkpoint.every=0 \
        --set checkpoint.keep=1 "${options[@]}" "$@" >"$run/log" 2>&1 || {
        cat "$run/log" >&2
        exit 1
    }
    after=$(cut -d ' ' -f 14-17 "/proc/$$/stat")
    # user and system time of children that have ended, in ticks
    awk -v name="$name" -v seed="$seed" -v ticks="$(getconf CLK_TCK)" \
        -v before="$before" -v after="$after" '
        /"valid_loss"/ { inside = 1 }
        inside && /"decimal"/ { gsub(/[",]/, "", $2); loss = $2; inside = 0 }
        END {
            split(before, b, " ")
            split(after, a, " ")
            printf "%s\t%d\t%s\t%.2f\n", name, seed, loss,
                (a[3] + a[4] - b[3] - b[4]) / ticks
        }' "$run/run/checkpoints/last/run.json" | tee -a "$out/results.tsv"
    rm -rf "$run/run"
}

bias=(--set model.crystalline_bias=yes)
: >"$out/results.tsv"
for seed in $seeds; do
    train plain "$seed"
    for e in ${EPSILONS:-0.03 0.1 0.3}; do
        train "crystalline = $e" "$seed" --set "loss.crystalline=$e"
    done
    train "attention bias" "$seed" "${bias[@]}"
    train renumbered "$seed" "${renumbered[@]}"
    train "renumbered, crystalline = $epsilon, attention bias" "$seed" \
        "${renumbered[@]}" --set "loss.crystalline=$epsilon" "${bias[@]}"
done

awk -F '\t' '
    !($1 in n) { order[++names] = $1 }
    { n[$1]++; sum[$1] += $3; square[$1] += $3 * $3; time[$1] += $4; loss[$1, $2] = $3; seed[$2] }
    END {
        print "| setting | held-out cross-entropy, mean | deviation | against plain | least to most, seed by seed | time |"
        print "| --- | --- | --- | --- | --- | --- |"
        for (i = 1; i <= names; i++) {
            name = order[i]
            mean = sum[name] / n[name]
            spread = n[name] > 1 ? sqrt((square[name] - n[name] * mean * mean) / (n[name] - 1)) : 0
            least = 1e9; most = -1e9
            for (s in seed) {
                d = loss[name, s] - loss["plain", s]
                least = d < least ? d : least
                most = d > most ? d : most
            }
            printf "| %s | %.4f | %.4f | %+.4f | %+.4f to %+.4f | %.2fx |\n", name, mean, spread,
                mean - sum["plain"] / n["plain"], least, most, time[name] / time["plain"]
        }
    }' "$out/results.tsv"
