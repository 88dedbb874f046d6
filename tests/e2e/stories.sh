#!/bin/bash
# tests/e2e/stories.sh - the published 260K model of llama2.c: it says what it is known to
# say, in every kind of files, is trained on, and leaves again.

. "$(dirname "$0")/lib.bash"
stories=$foreign/stories260K
if [ ! -r "$stories/stories260K.bin" ]; then
    ok "the published model # SKIP $stories is not there"
    finish
fi
golden="403 407 261 378 432 383 286 261 376 298 315 421 395 317 426 338 401 396 267 337"
golden+=" 410 408 419 292 411 322 265 282 295 433 426 385 328 432 358 394 261 370 432 352"

convert()
{
    "$bin/cllm-convert" -q --tokenizer="$stories/tok512.bin" "$@"
}
# says CHECKPOINT: 40 tokens, the likeliest each time, from the begin of a text
says()
{
    "$bin/cllm-generate" --prompt-ids=1 --greedy -n 40 --json "$1" |
        tr -d '\n ' | sed 's/.*"tokens":\[\([0-9,]*\)\].*/\1/; s/,/ /g'
}

check "it is read" convert --to=cllm "$stories/stories260K.bin" "$work/cllm"
same "its 40 golden tokens" "$golden" "$(says "$work/cllm")"
for kind in hf gguf; do
    convert --to=$kind "$stories/stories260K.bin" "$work/$kind"
    convert --to=cllm "$work/$kind" "$work/from-$kind"
    same "the same from $kind" "$golden" "$(says "$work/from-$kind")"
    same "and the same weights" "$(sha256sum <"$work/cllm/model.safetensors")" \
        "$(sha256sum <"$work/from-$kind/model.safetensors")"
done
convert --dtype=q8_0 "$stories/stories260K.bin" "$work/q8.gguf"
convert --to=cllm "$work/q8.gguf" "$work/from-q8"
same "the first 20 of a q8_0 file" "${golden:0:79}" "$(says "$work/from-q8" | cut -c1-79)"

# Trained on, on other text; its numbers are its own.
make_corpus
cat >"$work/finetune.ini" <<INI
[run]
dir = $work/runs/finetune
workers = 2
[data]
train = $work/data/train_*.bin
[model]
context = 64
[train]
from = $stories/stories260K.bin
steps = 20
batch = 12
learning_rate = 1e-4
warmup = 2
eval_every = 0
INI
check "it is finetuned for 20 steps" "$bin/cllm-coord" "$work/finetune.ini"
same "and learns" yes "$(sed -n 's/.*"loss":\([0-9.]*\).*/\1/p' \
    "$work/runs/finetune/metrics.jsonl" |
    awk 'NR == 1 { first = $1 } END { print $1 < first ? "yes" : "no" }')"
check "it leaves as GGUF" convert "$work/runs/finetune" "$work/tuned.gguf"
check "and is sound" "$bin/cllm-convert" --check -q "$work/tuned.gguf"
finish
