#!/bin/bash
# tests/e2e/vocabulary.sh - what a run begins from besides numbers: its vocabulary, which
# goes into every checkpoint so that it loads elsewhere as it is; a model, whose import can
# be stopped; and what an earlier attempt left in the run's directory.

. "$(dirname "$0")/lib.bash"
make_corpus
words=$work/words
"$bin/cllm-prep" -q -o "$words" --train-vocab 320 "$work/corpus.txt" 2>/dev/null

# run NAME [ARGUMENT...]: three steps on the words
run()
{
    start_run "$@"
    wait $coord
}
start_run()
{
    local name=$1
    shift
    start_coord "$name" -n 1 --set "data.train=$words/train_*.bin" \
        --set "data.valid=$words/val_*.bin" --set model.vocab=320 --set train.steps=3 \
        --set train.eval_every=0 "$@"
}
# number FILE KEY: a whole number of a JSON file
number()
{
    sed -n "s/^.*\"$2\": *\([0-9]*\),\{0,1\}\$/\1/p" "$1" | head -n 1
}

run first
last=$work/runs/first/checkpoints/last
end=$(tr -d '\n' <"$words/vocab.json" | sed -n 's/.*"<|endoftext|>": *\([0-9]*\).*/\1/p')
check "the vocabulary has an end of text" test -n "$end"
same "config.json has its number as the end" "$end" "$(number "$last/config.json" eos_token_id)"
same "and as the begin" "$end" "$(number "$last/config.json" bos_token_id)"
for name in tokenizer.json vocab.json merges.txt tokenizer_config.json special_tokens_map.json \
    generation_config.json; do
    check "the checkpoint has $name" test -s "$last/$name"
    check "and lists it" grep -q "\"$name\"" "$last/manifest.json"
done
"$bin/cllm-convert" -q "$last/" "$work/hf"
for name in tokenizer_config.json special_tokens_map.json generation_config.json config.json; do
    check "cllm-convert writes the same $name" cmp "$last/$name" "$work/hf/$name"
done

# A vocabulary in one file: tokenizer.json, a rank file, or inside the model it begins from.
# data NAME: the same shards, and nothing beside them
data()
{
    mkdir "$work/$1"
    cp "$words"/*.bin "$work/$1"
}
# on NAME [ARGUMENT...]: a run on the data NAME
on()
{
    local name=$1
    shift
    run "$name" --set "data.train=$work/$name/train_*.bin" --set "data.valid=$work/$name/val_*.bin" "$@"
    same "a run on the data $name ends" 0 $?
}
# carries NAME HOW: its checkpoint has all that a checkpoint has, with the ids of the words
carries()
{
    local last=$work/runs/$1/checkpoints/last name
    for name in tokenizer.json tokenizer_config.json generation_config.json; do
        check "with $2 the checkpoint has $name" grep -q "\"$name\"" "$last/manifest.json"
    done
    "$bin/cllm-prep" -q -o "$work/again-$1" --tokenizer "$last" "$work/corpus.txt" 2>/dev/null
    same "which gives the same tokens" "$(sha256sum <"$words/train_000.bin")" \
        "$(sha256sum <"$work/again-$1/train_000.bin")"
}
data json
cp "$words/tokenizer.json" "$work/json"
on json
carries json "tokenizer.json alone"
same "and the same bits" "$(sha256sum <"$last/model.safetensors")" \
    "$(sha256sum <"$work/runs/json/checkpoints/last/model.safetensors")"
data encoder
cp "$words/vocab.json" "$work/encoder/encoder.json"
cp "$words/merges.txt" "$work/encoder/vocab.bpe"
on encoder
carries encoder "encoder.json and vocab.bpe"
"$bin/cllm-convert" -q --to=gguf "$last/" "$work/words.gguf"
data gguf
on gguf --set "train.from=$work/words.gguf"
carries gguf "a vocabulary inside GGUF"
mkdir "$work/ranks"
for ((i = 0; i < 256; i++)); do
    # shellcheck disable=SC2059 # the format is the byte
    printf "\\x$(printf %x $i)" | base64 | sed "s/\$/ $i/"
done >"$work/ranks/bytes.tiktoken"
"$bin/cllm-prep" -q -o "$work/shards" --tokenizer "$work/ranks" "$work/corpus.txt" 2>/dev/null
cp "$work"/shards/*.bin "$work/ranks"
on ranks
for name in tokenizer.json vocab.json merges.txt tokenizer_config.json; do
    check "with a rank file alone the checkpoint has $name" \
        test -s "$work/runs/ranks/checkpoints/last/$name"
done
"$bin/cllm-prep" -q -o "$work/reranked" --tokenizer "$work/runs/ranks/checkpoints/last" \
    "$work/corpus.txt" 2>/dev/null
same "which gives the same tokens" "$(sha256sum <"$work/shards/train_000.bin")" \
    "$(sha256sum <"$work/reranked/train_000.bin")"

# What an attempt that was given up has left.
mkdir -p "$work/runs/second/tokenizer"
echo '{"a": 1}' >"$work/runs/second/tokenizer/vocab.json"
run second
same "a vocabulary that was left is replaced" "$(sha256sum <"$words/vocab.json")" \
    "$(sha256sum <"$work/runs/second/tokenizer/vocab.json")"
same "with the same bits" "$(bits first)" "$(bits second)"
mkdir -p "$work/runs/bytes/tokenizer"
echo '{"a": 1}' >"$work/runs/bytes/tokenizer/vocab.json"
coord bytes -n 1 --set train.steps=3 --set train.eval_every=0
same "data without a vocabulary take none over" no \
    "$([ -e "$work/runs/bytes/checkpoints/last/vocab.json" ] && echo yes || echo no)"
check "it is kept aside" test -s "$work/runs/bytes/tokenizer.old/vocab.json"
mkdir -p "$work/runs/third"
echo '{"step":1,"root":"0123456789abcdef","loss":"0x1p+0"}' >"$work/runs/third/journal.jsonl"
cp "$work/runs/third/journal.jsonl" "$work/old"
CLLM_FAULTS=import_linked:kill:1:node-zero run third --set "train.from=$last"
same "an old journal does not stop a run that begins from a model" 0 $?
check "nor is it thrown away" cmp "$work/old" "$work/runs/third/journal.jsonl.old"

# Stopped while the model is read. Where this script came too late, and it had been read, it is
# tried again.
for when in import_tensor:sleep=3000:1*100 import_tensors:sleep=8000:1; do
    for try in 1 2 3 4 5 6; do
        CLLM_FAULTS=$when:node-zero start_run stopped --set "train.from=$last"
        until [ -d "$work/runs/stopped/checkpoints/step-0000000000.tmp" ]; do
            kill -0 $coord 2>/dev/null || break
            sleep 0.02
        done
        kill -INT $coord
        began=$SECONDS
        wait $coord
        code=$?
        [ $try != 6 ] && [ -d "$work/runs/stopped/checkpoints/step-0000000000" ] || break
        "$bin/cllm-shm" clean "$work/runs/stopped" >/dev/null 2>&1
        rm -rf "$work/runs/stopped"
    done
    same "an import that is stopped (${when%%:*})" 75 $code
    check "stops soon" test $((SECONDS - began)) -lt 60
    same "and leaves nothing" "" "$(ls "$work/runs/stopped/checkpoints")"
    rm -rf "$work/runs/stopped/checkpoints"
done
run stopped --resume --set "train.from=$last"
same "it is resumed" "$(bits third)" "$(bits stopped)"
finish
