#!/bin/bash
# tests/e2e/finetune.sh - a model out of CLLM and in again: converted to every kind of
# files, each the beginning of a run; the same bits for every kind, any number of workers
# and however often it is killed while it begins.

. "$(dirname "$0")/lib.bash"
make_corpus

convert()
{
    "$bin/cllm-convert" -q "$@"
}

# The model that everything begins with.
coord base -n 1 --set train.steps=20 --set train.eval_every=20
check "a model is converted to a directory of Hugging Face" \
    convert "$work/runs/base" "$work/hf"
check "to GGUF" convert --to=gguf "$work/hf" "$work/m.gguf"
check "to llm.c" convert --to=llmc "$work/m.gguf" "$work/m.bin"
check "to a checkpoint" convert --to=cllm "$work/m.bin" "$work/checkpoint"
check "and that back again" convert "$work/checkpoint" "$work/hf2"
same "the way round changes no bit" "$(sha256sum <"$work/hf/model.safetensors")" \
    "$(sha256sum <"$work/hf2/model.safetensors")"
check "what is there is checked" "$bin/cllm-convert" --check "$work/m.gguf"
if convert "$work/hf" "$work/hf2" 2>/dev/null; then
    not_ok "what exists is not overwritten"
else
    ok "what exists is not overwritten"
fi
check "but with --force it is" convert --force "$work/hf" "$work/hf2"

# finetune NAME FROM [ARGUMENT...]
finetune()
{
    local name=$1 from=$2
    shift 2
    coord "$name" --set "train.from=$from" --set train.steps=12 --set train.eval_every=6 \
        --set checkpoint.every=6 --set train.learning_rate=1e-4 "$@"
}

finetune golden "$work/hf" -n 1
golden=$(bits golden)
for from in "$work/m.gguf" "$work/m.bin" "$work/checkpoint" "$work/runs/base"; do
    finetune other "$from" -n 2
    same "the same bits from ${from##*/}" "$golden" "$(bits other)"
    rm -rf "$work/runs/other"
done
first_loss()
{
    sed -n '1s/.*"loss":\([0-9.]*\).*/\1/p' "$work/runs/$1/metrics.jsonl"
}
same "it goes on from what was learnt" yes \
    "$(awk "BEGIN { print $(first_loss golden) < $(first_loss base) - 0.5 ? \"yes\" : \"no\" }")"

# Other weights.
coord base2 -n 1 --set train.steps=21 --set train.eval_every=21
finetune otherbits "$work/runs/base2" -n 1
if [ "$golden" = "$(bits otherbits)" ]; then
    not_ok "other weights are another run"
else
    ok "other weights are another run"
fi

# Killed while it begins, at any moment, by the whole tree; then resumed.
for ((i = 0; i < 12; i++)); do
    start_coord killed --resume --set "train.from=$work/hf" --set train.steps=12 \
        --set train.eval_every=6 --set checkpoint.every=6 --set train.learning_rate=1e-4
    sleep "0.0$((i % 10))"
    kill -9 "$coord" 2>/dev/null
    wait "$coord" 2>/dev/null
done
coord killed --resume --set "train.from=$work/hf" --set train.steps=12 \
    --set train.eval_every=6 --set checkpoint.every=6 --set train.learning_rate=1e-4
same "the same bits after 12 kills while it began" "$golden" "$(bits killed)"

# Resumed when the model is gone.
mv "$work/hf" "$work/gone"
CLLM_FAULTS=$(creep 3) start_coord away --set "train.from=$work/hf2" --set train.steps=400 --set train.eval_every=0
until_step away 3
kill_tree 2>/dev/null
release away
mv "$work/hf2" "$work/gone2"
coord away --resume --set "train.from=$work/hf2" --set train.steps=400 --set train.eval_every=0
same "a run is resumed when its model is gone" 0 $?
mv "$work/gone" "$work/hf"

# The vocabulary goes with the run, killed or not, into every checkpoint and out again.
printf '{"a": 1}' >"$work/data/vocab.json"
printf '#version: 0.2\n' >"$work/data/merges.txt"
CLLM_FAULTS=$(creep 7) start_coord words -n 2 --set train.steps=400 --set checkpoint.every=5 --set train.eval_every=0
until_step words 7
kill_tree 2>/dev/null
release words
rm "$work/data/vocab.json" "$work/data/merges.txt"
coord words --resume -n 2 --set train.steps=400 --set checkpoint.every=5 --set train.eval_every=0
same "a run with a vocabulary ends" 0 $?
same "its last checkpoint has it" '{"a": 1}' \
    "$(cat "$work/runs/words/checkpoints/last/vocab.json" 2>&1)"
check "and lists it" grep -q merges.txt "$work/runs/words/checkpoints/last/manifest.json"

# Another epsilon in LayerNorm.
coord epsilon -n 1 --set train.steps=3 --set train.eval_every=0 --set model.norm_epsilon=1e-6
check "a GPT-2 with another epsilon is converted" convert "$work/runs/epsilon" "$work/epsilon"
check "config.json says so" grep -qE '"layer_norm_epsilon": (1e-0*6|1.0e-0*6|9.99[0-9]*e-0*7),' "$work/epsilon/config.json"
text=$("$bin/cllm-convert" -q --to=llmc "$work/epsilon" "$work/epsilon.bin" 2>&1)
same "llm.c's files cannot hold it" 1 $?
case $text in
*"norm_epsilon than 1e-5"*) ok "and that is said" ;;
*) not_ok "and that is said" "$text" ;;
esac
coord from-epsilon -n 2 --set "train.from=$work/epsilon" --set train.steps=3 --set train.eval_every=0
same "it is finetuned with its own" "model.norm_epsilon 1" "model.norm_epsilon $(grep -c \
    '^norm_epsilon = 9.9999999999999995e-07' "$work/runs/from-epsilon/config.ini")"
coord from-epsilon --resume --set "train.from=$work/hf" --set train.steps=3 --set train.eval_every=0
same "and is another run than with 1e-5" 3 $?

# Sizes.
cat >"$work/bare.ini" <<INI
[run]
dir = $work/runs/bare
workers = 1
[data]
train = $work/data/train_*.bin
[train]
from = $work/hf
steps = 3
batch = 12
eval_every = 0
INI
check "[model] follows from the model" "$bin/cllm-coord" "$work/bare.ini"
text=$("$bin/cllm-coord" "$work/bare.ini" --set "run.dir=$work/runs/wrong" \
    --set model.width=64 2>&1)
same "sizes that differ are refused" 2 $?
case $text in
*"[model] width is 64"*) ok "and named" ;;
*) not_ok "and named" "$text" ;;
esac
# Llama, out and in again.
config=tiny-llama
coord llama -n 2 --set train.steps=10 --set train.eval_every=0
check "a Llama is converted to a directory of Hugging Face" convert "$work/runs/llama" "$work/llama"
check "to GGUF" convert --to=gguf "$work/llama" "$work/llama.gguf"
check "to a checkpoint" convert --to=cllm "$work/llama" "$work/llama.checkpoint"
check "and that back again" convert "$work/llama.checkpoint" "$work/llama2"
same "the way round changes no bit" "$(sha256sum <"$work/llama/model.safetensors")" \
    "$(sha256sum <"$work/llama2/model.safetensors")"
finetune llama-golden "$work/llama" -n 1
golden=$(bits llama-golden)
for from in "$work/llama.gguf" "$work/llama.checkpoint" "$work/runs/llama"; do
    CLLM_FAULTS=$(creep 5) start_coord llama-other --set "train.from=$from" --set train.steps=12 --set train.eval_every=6 \
        --set checkpoint.every=6 --set train.learning_rate=1e-4 -n 2
    until_step llama-other 5
    kill -9 "$(children worker | head -1)"
    release llama-other
    wait $coord
    same "the same bits from ${from##*/}, a worker being killed" "$golden" "$(bits llama-other)"
    rm -rf "$work/runs/llama-other"
done
finish
