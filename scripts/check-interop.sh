#!/bin/bash
# scripts/check-interop.sh - do our files load elsewhere, and say the same there?
#
#   scripts/check-interop.sh [BUILD]        (build/release)
#
# Small models are trained here and converted. GGUF files are loaded by llama.cpp (npm's
# node-llama-cpp, installed into build/interop once: needs npm and the network, 85 MB) and
# must give the same greedy tokens as cllm-generate, 64 of 64. Directories of Hugging Face
# and llm.c's files are read by scripts/interop/reference.py (/usr/bin/python3 with torch,
# Debian's python3-torch) and must give the same logits within 1e-4. What is not there is
# said and left out. Not a part of make test. LLMC=DIR names a directory with llm.c's
# program train_gpt2: it then says what a model of ours loses, and must be right to 1e-3.
set -u
build=${1:-build/release}
CLLM_BUILD=$(realpath "$build")
export CLLM_BUILD
. "$(dirname "$0")/../tests/e2e/lib.bash"
kit=$root/build/interop
count=64

skip()
{
    ok "$1 # SKIP $2"
}

# ---- what it takes ----

if ! command -v npm >/dev/null; then
    llama="no npm here"
elif ! [ -d "$kit/node_modules/node-llama-cpp" ] && ! {
    mkdir -p "$kit" && (cd "$kit" && npm init -y >/dev/null &&
        npm i --ignore-scripts --omit=optional --no-audit --no-fund \
            node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1) >"$work/npm.log" 2>&1
}; then
    llama="npm cannot install node-llama-cpp"
else
    llama=
    cp "$root/scripts/interop/llama.mjs" "$kit"
fi
torch=
/usr/bin/python3 -c 'import torch' 2>/dev/null || torch="no /usr/bin/python3 with torch"
make -C "$root" "$build/tests/logits" BUILD="$build" >"$work/make.log" 2>&1 || {
    cat "$work/make.log"
    exit 1
}

# ---- asking both ----

# tokens: the numbers of "tokens" of a JSON object
tokens()
{
    tr -d '\n ' | sed 's/.*"tokens":\[\([0-9,]*\)\].*/\1/; s/,/ /g'
}

# same_text NAME CHECKPOINT GGUF PROMPT: greedy tokens from here and from llama.cpp
same_text()
{
    local there ids

    if [ -n "$llama" ]; then
        skip "$1" "$llama"
        return
    fi
    there=$(cd "$kit" && timeout 300 node llama.mjs "$3" $count "$4" 2>"$work/node.log")
    if [ -z "$there" ]; then
        not_ok "$1" "$(tail -5 "$work/node.log")"
        return
    fi
    ids=${there#*\"prompt\":[}
    ids=${ids%%]*}
    same "$1" "$(tokens <<<"$there")" "$("$bin/cllm-generate" --prompt-ids="$ids" --greedy \
        -n $count --json "$2" | tokens)"
}

# same_prompt NAME CHECKPOINT GGUF PROMPT: llama.cpp cuts the text as we do
same_prompt()
{
    local here there

    if [ -n "$llama" ]; then
        skip "$1" "$llama"
        return
    fi
    there=$(cd "$kit" && timeout 300 node llama.mjs "$3" 1 "$4" 2>"$work/node.log" |
        sed 's/.*"prompt":\[\([0-9,]*\)\].*/\1/' | awk -F, '{ print NF }')
    here=$("$bin/cllm-generate" -p "$4" --greedy -n 1 --json "$2" |
        sed -n 's/.*"prompt_tokens": \([0-9]*\).*/\1/p')
    same "$1" "$there" "$here"
}

# same_logits NAME KIND FILES: as PyTorch computes them
same_logits()
{
    local ids="1 17 40 99 3 250 7 7 128 64 12 31"

    if [ -n "$torch" ]; then
        skip "$1" "$torch"
        return
    fi
    # shellcheck disable=SC2086
    "$CLLM_BUILD/tests/logits" "$3" $ids >"$work/logits"
    # shellcheck disable=SC2086
    check "$1" /usr/bin/python3 "$root/scripts/interop/reference.py" "$2" "$3" \
        "$work/logits" $ids
}

# ---- models ----

make_corpus
prompt="the quick brown fox"

# train NAME ARGUMENT...: a model that has learnt enough to have an opinion
train()
{
    local name=$1
    shift
    coord "$name" -n 2 --set model.context=128 --set model.width=64 --set model.heads=4 \
        --set train.steps=150 --set train.eval_every=0 --set checkpoint.every=0 "$@"
}

# every KIND NAME: all files of a trained model
every()
{
    local dtype

    for dtype in f32 f16 bf16; do
        "$bin/cllm-convert" -q --dtype=$dtype "$work/runs/$2" "$work/$2-$dtype.gguf" || return
    done
    "$bin/cllm-convert" -q "$work/runs/$2" "$work/$2-hf"
    "$bin/cllm-convert" -q --max-shard=100K "$work/runs/$2" "$work/$2-sharded"
    "$bin/cllm-convert" -q --to=cllm "$work/$2-f32.gguf" "$work/$2-back"
    same_text "$1: $count greedy tokens in llama.cpp" "$work/runs/$2" "$work/$2-f32.gguf" "$prompt"
    for dtype in f16 bf16; do
        "$bin/cllm-convert" -q --to=cllm "$work/$2-$dtype.gguf" "$work/$2-$dtype"
        same_text "$1: $count greedy tokens in llama.cpp, $dtype" "$work/$2-$dtype" \
            "$work/$2-$dtype.gguf" "$prompt"
    done
    same_prompt "$1: llama.cpp cuts a text into as many tokens" "$work/runs/$2" \
        "$work/$2-f32.gguf" "It's 12345 o'clock,  really?"
    same_logits "$1: logits in PyTorch" hf "$work/$2-hf"
    same_logits "$1: logits in PyTorch, several files" hf "$work/$2-sharded"
    same_logits "$1: logits in PyTorch, by way of GGUF" hf "$work/$2-back"
}

train gpt2
every "GPT-2 of bytes" gpt2
for dtype in f32 bf16; do
    "$bin/cllm-convert" -q --dtype=$dtype --to=llmc "$work/runs/gpt2" "$work/$dtype.bin"
    same_logits "GPT-2 of bytes: logits in PyTorch from llm.c's file, $dtype" llmc "$work/$dtype.bin"
done
# llm.c's own program takes its model and its data from fixed names, 5 batches of 4 x 64
# tokens for validation; it says what they lose before it trains.
if [ -x "${LLMC:-}/train_gpt2" ]; then
    coord short -n 2 --set model.context=64 --set train.steps=60 --set train.eval_every=0
    shards=$work/llmc/dev/data/tinyshakespeare
    mkdir -p "$shards"
    head -c 1281 "$work/corpus.txt" >"$work/1281.txt"
    "$bin/cllm-prep" -q --val-fraction 0 -o "$work/1281" "$work/1281.txt"
    for split in train val; do
        cp "$work/1281/train_000.bin" "$shards/tiny_shakespeare_$split.bin"
    done
    "$bin/cllm-convert" -q --to=llmc "$work/runs/short" "$work/llmc/gpt2_124M.bin"
    there=$(cd "$work/llmc" && OMP_NUM_THREADS=1 timeout 300 "$(realpath "$LLMC")/train_gpt2" 2>&1 |
        sed -n 's/^val loss \(.*\)/\1/p' | head -1)
    here=$("$bin/cllm-eval" --json "$work/runs/short" "$work/1281/train_000.bin" |
        sed -n 's/.*"loss": \([0-9.]*\).*/\1/p')
    same "llm.c: the same loss ($here here, $there there)" yes "$(awk \
        "BEGIN { d = 0$here - 0$there; print (d * d < 1e-6 && 0$here > 0 ? \"yes\" : \"no\") }")"
else
    skip "llm.c's own program" "LLMC does not name it"
fi

train llama --set model.arch=llama --set model.kv_heads=2
every "Llama of bytes" llama

# With a vocabulary of our own, of which the model has some tokens more. The text is no
# file of the tree's, whose next wording would train other models: sentences of some order,
# so that the models become sure of what follows.
make_text()
{
    awk 'BEGIN {
        subjects = split("the old miller|a quiet gardener|every second sailor|her youngest " \
            "brother|the baker'"'"'s daughter|nobody|that careful astronomer|our neighbour", subject, "|")
        verbs = split("carries|remembers|has painted|would never sell|weighs|looks after|" \
            "borrowed|counts", verb, "|")
        things = split("silver lanterns|wooden boxes|letters from Zürich|barrels of apples|" \
            "small clocks|crème brûlée|maps of the northern coast|sheep", thing, "|")
        places = split("behind the harbour|in the market square|under a roof of slate|" \
            "before sunrise|where the river bends|at the end of winter|on the 😀 bus", place, "|")
        x = 2463534242
        for (i = 0; i < 3000; i++) {
            x = (x * 1103515245 + 12345) % 2147483648
            s = 1 + int(x / 65536) % subjects
            x = (x * 1103515245 + 12345) % 2147483648
            v = 1 + int(x / 65536) % 3 # each has verbs, and each verb things, that it likes
            t = 1 + (3 * s + v) % things
            v = 1 + (2 * s + v) % verbs
            x = (x * 1103515245 + 12345) % 2147483648
            p = 1 + int(x / 65536) % places
            printf "%s %s %d %s %s%s", subject[s], verb[v], 1 + 37 * t, thing[t], place[p],
                i % 5 == 4 ? ".\n" : i % 5 == 2 ? "; it'"'"'s said that " : ", and "
        }
    }'
}
make_text >"$work/text.txt"
"$bin/cllm-prep" -q -o "$work/words" --train-vocab 600 "$work/text.txt"
prompt="the old miller borrowed 75 wooden boxes, it's 12345, crème brûlée 😀"
words=(--set "data.train=$work/words/train_*.bin" --set "data.valid=$work/words/val_*.bin"
    --set model.vocab=640)
train gpt2-words "${words[@]}"
every "GPT-2 with its own vocabulary" gpt2-words
train llama-words "${words[@]}" --set model.arch=llama --set model.kv_heads=2
every "Llama with its own vocabulary" llama-words

# The published model, when it is there.
stories=$foreign/stories260K
if [ -r "$stories/stories260K.bin" ]; then
    for kind in gguf cllm hf; do
        "$bin/cllm-convert" -q --to=$kind --tokenizer="$stories/tok512.bin" \
            "$stories/stories260K.bin" "$work/stories-$kind"
    done
    same_text "llama2.c's 260K model: $count greedy tokens in llama.cpp" "$work/stories-cllm" \
        "$work/stories-gguf" "#1"
    same_logits "llama2.c's 260K model: logits in PyTorch" hf "$work/stories-hf"
else
    skip "llama2.c's 260K model" "$stories is not there"
fi

# ---- tokenizers ----

name="our tokenizer.json gives the same ids in Hugging Face's tokenizers"
given=()
[ ! -r "$foreign/gpt2" ] || given=("$foreign/gpt2")
if ! command -v npm >/dev/null; then
    skip "$name" "no npm here"
elif (cd "$root" && CLLM_BUILD=$build scripts/check-tokenizer.sh "${given[@]}") \
    >"$work/tokenizer.log" 2>&1; then
    ok "$name"
else
    not_ok "$name" "$(tail -5 "$work/tokenizer.log")"
fi
finish
