#!/bin/bash
# The crystalline bias of attention, and ids along the spiral: the same bits with any number of
# workers and threads, with what is computed again, in plain C, after kills and stops; checkpoints
# that evaluate and generate as they were trained; files that cannot hold the bias are refused.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

bias=(--set model.crystalline_bias=yes --set train.steps=30)
for config in tiny tiny-llama; do
    coord "$config" -n 2 "${bias[@]}"
    same "a run of $config with the bias ends" 0 $?
    golden=$(bits $config)
    coord "$config-1" -n 1 "${bias[@]}" --set compute.threads=3 --set compute.recompute=block
    same "the same bits with one worker, three threads, and blocks computed again" \
        "$golden" "$(bits "$config-1")"
    coord "$config-5" -n 5 "${bias[@]}" --set compute.recompute=attention
    same "and with five workers" "$golden" "$(bits "$config-5")"
    CLLM_FAULTS=$(creep 6) start_coord "$config-hurt" -n 2 "${bias[@]}"
    until_step "$config-hurt" 6
    kill -9 "$(children worker | head -1)"
    release "$config-hurt" 12
    until_step "$config-hurt" 12
    kill -TERM $coord
    wait $coord
    check "after a kill and a stop it goes on" coord "$config-hurt" -n 3 "${bias[@]}" --resume
    same "with the same bits" "$golden" "$(bits "$config-hurt")"
    coord "$config-plain" -n 2 --set train.steps=30
    if [ "$golden" != "$(bits "$config-plain")" ]; then
        ok "the bias makes another model"
    else
        not_ok "the bias makes another model"
    fi
done
config=tiny
short=(--set model.crystalline_bias=yes --set train.steps=4)
coord ref -n 2 "${short[@]}" --set compute.isa=ref
coord best -n 2 "${short[@]}"
same "the best instruction set has the bits of plain C" "$(bits ref)" "$(bits best)"
coord with -n 2 --set model.crystalline_bias=yes --set train.steps=1
coord without -n 2 --set train.steps=1
first()
{
    sed -n 's/.*"step":1,.*"loss":\([^,]*\),.*/\1/p' "$work/runs/$1/journal.jsonl"
}
check "there is a first loss" test -n "$(first with)"
same "a run begins exactly as without it" "$(first without)" "$(first with)"
coord with -n 2 --resume --set train.steps=1
same "a run of the bias does not go on without it" 1 $(($? != 0))

# ---- files

model=$work/runs/tiny
check "config.json says it" grep -q '"cllm_crystalline_bias": true' "$model/checkpoints/last/config.json"
evaluate()
{
    "$bin/cllm-eval" "$1" "$work/data" --json -T 2 2>"$work/eval.log" |
        sed -n 's/.*"loss_sum_hex": "\([^"]*\)".*/\1/p'
}
loss=$(evaluate "$model")
check "it is evaluated" test -n "$loss"
for to in hf cllm; do
    check "it becomes a directory of $to" "$bin/cllm-convert" --to=$to "$model" "$work/$to"
    same "with the same loss" "$loss" "$(evaluate "$work/$to")"
done
"$bin/cllm-convert" --to=hf "$model" "$work/again" >"$work/again.log" 2>&1
check "what others do without it is said" grep -q "CLLM alone knows" "$work/again.log"
for file in model.gguf model.bin; do
    "$bin/cllm-convert" "$model" "$work/$file" >"$work/refused.log" 2>&1
    same "$file is refused" 1 $(($? != 0))
    check "and it says why" grep -q "cannot hold a crystalline bias" "$work/refused.log"
    check "and leaves nothing" test ! -e "$work/$file"
done
text=$("$bin/cllm-generate" "$model" -p "the quick" -n 60 -t 0 2>&1)
check "it writes on" test ${#text} -gt 60
same "the same with two threads" "$text" \
    "$("$bin/cllm-generate" "$model" -p "the quick" -n 60 -t 0 -T 2 2>&1)"
coord tuned -n 2 --set "train.from=$model" --set train.steps=3
same "it is finetuned, bias and all" 0 $?
check "and keeps it" grep -q cllm_crystalline_bias "$work/runs/tuned/checkpoints/last/config.json"
coord long -n 1 --set model.crystalline_bias=yes --set model.context=9000 --dry-run
same "a context that is too long is refused" 1 $(($? != 0))
check "and it says why" grep -q "crystalline_bias with context = 9000" "$work/long.log"

# ---- ids along the spiral

mkdir "$work/numbered"
check "a data set of bytes is renumbered" "$bin/cllm-prep" -q -o "$work/numbered" --renumber \
    "$work/corpus.txt"
coord spiral -n 2 "${bias[@]}" --set "data.train=$work/numbered/train_*.bin" \
    --set "data.valid=$work/numbered/val_*.bin" --set loss.crystalline=0.05
same "it is trained on" 0 $?
text=$("$bin/cllm-generate" "$work/runs/spiral" -p "the quick" -n 60 2>/dev/null)
same "the run's own tokenizer reads and writes" "the quick" "${text:0:9}"
finish
