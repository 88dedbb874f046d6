#!/bin/bash
# cllm-generate: the same text for the same seed and any number of threads; stop strings,
# prompts of every kind, lines answered one by one; and cllm-eval: whole splits, the loss of
# training, results that survive kills, multiple choice.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }
coord model -n 2 --set train.steps=150
same "a small model is trained" 0 $?
model=$work/runs/model

generate()
{
    "$bin/cllm-generate" "$model" "$@" 2>"$work/generate.log"
}
text=$(generate -p "the quick" -n 120)
check "it writes on" test ${#text} -gt 100
same "the prompt comes first" "the quick" "${text:0:9}"
same "the same seed, the same text" "$text" "$(generate -p "the quick" -n 120)"
if [ "$text" != "$(generate -p "the quick" -n 120 -s 2)" ]; then
    ok "another seed, another text"
else
    not_ok "another seed, another text"
fi
for threads in 2 3; do
    same "$threads threads, the same text" "$text" "$(generate -p "the quick" -n 120 -T $threads)"
done
same "a prompt from standard input" "$text" "$(printf 'the quick' | generate -p - -n 120)"
same "a prompt of tokens" "$(generate -p "the" -n 30 --json | sed -n '/"tokens"/,/\]/p')" \
    "$(generate --prompt-ids 116,104,101 -n 30 --json | sed -n '/"tokens"/,/\]/p')"
same "greedy is temperature 0" "$(generate -p a -n 60 -t 0)" "$(generate -p a -n 60 --greedy)"
same "of one likeliest there is no choice" "$(generate -p a -n 60 -t 0)" "$(generate -p a -n 60 -k 1)"
stopped=$(generate -p "the quick" -n 120 --stop " brown" --stop " fox")
case $text in
"$stopped"*) ok "a stop string ends the text before it" ;;
*) not_ok "a stop string ends the text before it" "$stopped" ;;
esac
check "and is not shown" test "${stopped% brown}" = "$stopped"
check "longer than the context goes on" test "$(generate -p a -n 300 | wc -c)" -ge 301
generate -p a -n 20 -v >/dev/null
check "-v says tokens per second" grep -q "read 1 token in .*; wrote 20 in .* tokens/s" "$work/generate.log"
same "lines are answered one by one" 2 "$(printf 'the\na\n' | generate -i -n 10 --stop '.' | grep -c .)"
if generate -p a --repeat-penalty 5 --repeat-last 0 -n 60 | grep -q .; then
    ok "a penalty for repetition"
else
    not_ok "a penalty for repetition" "$(cat "$work/generate.log")"
fi
# refuses PROGRAM EXIT PATTERN ARGUMENT...
refuses()
{
    local program=$1 code=$2 pattern=$3 rc
    shift 3
    "$bin/$program" "$@" >"$work/out" 2>&1
    rc=$?
    if [ $rc = "$code" ] && grep -qE -- "$pattern" "$work/out"; then
        ok "$program refuses: $pattern"
    else
        not_ok "$program refuses: $pattern" "exit $rc: $(cat "$work/out")"
    fi
}
refuses cllm-generate 2 "stop string must have" "$model" --stop ""
refuses cllm-generate 2 "prompt-ids.*0 to 255" "$model" --prompt-ids 1,256
refuses cllm-generate 2 "both --prompt and" "$model" -p a --prompt-ids 1
refuses cllm-generate 2 "cannot be interactive" "$model" -i --json
refuses cllm-generate 2 "top-p=2" "$model" --top-p 2

# ---- cllm-eval ----

evaluate()
{
    "$bin/cllm-eval" "$model" "$@" 2>"$work/eval.log"
}
field()
{
    sed -n "s/.*\"$1\": \"\{0,1\}\([^\",]*\).*/\1/p"
}
all=$(evaluate --json -T 1)
for threads in 2 5; do
    same "$threads threads, the same loss to the bit" "$(field loss_sum_hex <<<"$all")" \
        "$(evaluate --json -T $threads | field loss_sum_hex)"
done
same "a prepared directory is the run's validation data" "$(field loss_sum_hex <<<"$all")" \
    "$(evaluate --json "$work/data" | field loss_sum_hex)"
trained=$(sed -n 's/.*"valid_loss":\([0-9.]*\).*/\1/p' "$model/metrics.jsonl" | tail -1)
found=$(evaluate --json --windows 24 | field loss)
check "the windows of training give the loss of training ($trained)" \
    awk -v a="$trained" -v b="$found" 'BEGIN { exit !(a - b < 1e-5 && b - a < 1e-5) }'
check "bits per byte of a byte-level model are its loss in bits" \
    awk -v l="$(field loss <<<"$all")" -v b="$(field bits_per_byte <<<"$all")" \
    'BEGIN { d = l / log(2) - b; exit !(d < 1e-9 && d > -1e-9) }'
check "people are told" grep -q "^bits per byte  [0-9.]*, of [0-9]* bytes" <(evaluate)
check "the crystalline cost is called a constant" grep -q "^crystalline.*no weight can change" \
    <(evaluate --crystalline)
tail -c +1025 "$work/data/val_000.bin" >"$work/bare.bin"
same "headerless tokens, the same loss" "$(field loss_sum_hex <<<"$all")" \
    "$(evaluate --json "$work/bare.bin" | field loss_sum_hex)"
check "and what they were taken for is said" grep -q "nanoGPT's" "$work/eval.log"

# Killed again and again, it ends with the same sum, and did everything once.
state=$work/state
rm -f "$state"
evaluate --state "$state" -T 1 >/dev/null
whole=$(sha256sum <"$state")
lines=$(wc -l <"$state")
for cut in 0 7 300 1000; do
    head -c $cut "$state" >"$state.cut"
    same "a file of results cut at byte $cut goes on to the same sum" "$(field loss_sum_hex <<<"$all")" \
        "$(evaluate --json --state "$state.cut" | field loss_sum_hex)"
    same "and is the same file" "$whole" "$(sha256sum <"$state.cut")"
done
same "all windows are in it, once" "$(field windows <<<"$all")" $((lines - 1))
refuses cllm-eval 3 "another evaluation" "$model" --state "$state" --windows 5
refuses cllm-eval 2 "val or train" "$model" --split test "$work/data"
refuses cllm-eval 2 "at once" "$model" --choices x "$work/data"
refuses cllm-eval 2 "no shard matches" "$model" "$work/nothing_*.bin"

for i in 0 1 2 3 4 5 6 7; do
    echo "{\"ctx\": \"the quick brown fox jumps over\", \"label\": \"$((i % 2))\"," \
        "\"endings\": [\"$([ $((i % 2)) = 0 ] && echo a lazy dog || echo zq xx kj)\"," \
        "\"$([ $((i % 2)) = 1 ] && echo a lazy dog || echo zq xx kj)\"]}"
done >"$work/choices.jsonl"
same "it finds what it has read" 1.0 "$(evaluate --json --choices "$work/choices.jsonl" | field accuracy)"
same "also by the byte" 1.0 "$(evaluate --json --choices "$work/choices.jsonl" | field accuracy_by_byte)"
same "with 3 threads the same loss" "$(evaluate --json -T 1 --choices "$work/choices.jsonl" | field loss_sum_hex)" \
    "$(evaluate --json -T 3 --choices "$work/choices.jsonl" | field loss_sum_hex)"
# ---- a vocabulary of its own, text beyond ASCII, and the other family ----

for ((i = 0; i < 400; i++)); do
    printf 'der Fluß trägt %d Äpfel — 日本語 😀 the river carries them\n' $((i % 7))
done >"$work/utf8.txt"
"$bin/cllm-prep" -o "$work/bpe" --train-vocab 300 "$work/utf8.txt" >/dev/null 2>"$work/prep.log"
same "a vocabulary is trained" 0 $?
coord words -n 2 --set model.arch=llama --set model.vocab=300 --set train.steps=60 \
    --set train.eval_batch=12 --set "data.train=$work/bpe/train_*.bin" --set "data.valid=$work/bpe/val_*.bin"
same "a model of it is trained" 0 $?
model=$work/runs/words
said=$(generate -p "der Fluß" -n 80 -t 1.5)
check "the tokenizer is found with the data, and the prompt comes back" test "der Fluß${said#der Fluß}" = "$said"
same "more threads, the same text" "$said" "$(generate -p "der Fluß" -n 80 -t 1.5 -T 2)"
check "greedy text is whole characters" iconv -f UTF-8 -t UTF-8 <(generate -p "der Fluß" -n 80 --greedy)
check "the same with the tokenizer given" test "$said" = \
    "$(generate -p "der Fluß" -n 80 -t 1.5 --tokenizer "$work/bpe")"
check "bits per byte count bytes, not tokens" awk -v t="$(evaluate --json | field tokens)" \
    -v b="$(evaluate --json | field bytes)" 'BEGIN { exit !(b > 1.5 * t) }'
refuses cllm-generate 3 "has [0-9]+ tokens, the model" "$work/runs/model" --tokenizer "$work/bpe"
model=$work/runs/model

# A real model of another program's, and what it says.
stories=$foreign/stories260K
if [ -r "$stories/stories260K.bin" ]; then
    model=$stories/stories260K.bin
    same "a model of llama2.c tells its story" \
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red" \
        "$(generate --tokenizer "$stories/tok512.bin" --greedy -n 41)"
    same "and so it does from its tokens alone" "403 407 261 378 432 383 286 261 376 298" \
        "$(generate --prompt-ids 1 --greedy -n 10 --json | sed -n '/"tokens"/,/\]/p' | tr -dc '0-9\n' | xargs)"
    "$bin/cllm-convert" -q --tokenizer "$stories/tok512.bin" "$model" "$work/stories.gguf" 2>/dev/null
    told=$(generate --prompt-ids 1 --greedy -n 60 --json | sed -n '/"tokens"/,/\]/p')
    model=$work/stories.gguf
    same "as GGUF it says the same" "$told" \
        "$(generate --prompt-ids 1 --greedy -n 60 --json | sed -n '/"tokens"/,/\]/p')"
    model=$work/runs/model
else
    ok "a model of llama2.c tells its story # SKIP there is no $stories"
fi

echo '{"ctx": "a"}' >>"$work/choices.jsonl"
refuses cllm-eval 3 "choices.jsonl:9: .endings" "$model" --choices "$work/choices.jsonl"
finish
