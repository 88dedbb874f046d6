#!/bin/bash
# Llama: the same bits with any number of workers, after kills, stop and resume, with several
# threads, with what is computed again, with any instruction set, in f32 and bf16; and its files.
set -u
. "$(dirname "$0")/lib.bash"
config=tiny-llama
make_corpus || { not_ok "prepare a corpus"; finish; }

check "a run with two workers ends" coord two -n 2
golden=$(bits two)
for workers in 1 3 5 12; do
    coord "w$workers" -n $workers
    same "the same bits with $workers workers" "$golden" "$(bits w$workers)"
done
check "it learns" awk -F'"loss":' '/"loss":/ { split($2, x, ","); loss[++n] = x[1] }
    END { exit !(n >= 50 && loss[n] < loss[1] - 1) }' "$work/runs/two/journal.jsonl"

CLLM_FAULTS=$(creep 10) start_coord stop -n 3 --set compute.recompute=attention
until_step stop 10
kill -TERM $coord
wait $coord
same "SIGTERM ends a run with 75" 75 $?
check "it goes on with other numbers of workers and threads" coord stop -n 2 --resume \
    --set compute.threads=3 --set compute.recompute=block
same "and ends with the same bits" "$golden" "$(bits stop)"

CLLM_FAULTS=$(creep 3) start_coord hurt -n 2
for step in 3 6 9 12; do
    until_step hurt $step
    kill -9 "$(children worker | head -1)"
    release hurt $((step + 3))
done
until_step hurt 15
kill -9 "$(node_zero)"
release hurt
wait $coord
same "a run whose processes are killed ends" 0 $?
same "with the same bits" "$golden" "$(bits hurt)"

CLLM_FAULTS=$(creep 10) start_coord dead -n 2
until_step dead 10
kill_tree
release dead
check "--resume goes on after everything was killed" coord dead -n 3 --resume
same "with the same bits" "$golden" "$(bits dead)"

short=(--set train.steps=5 --set train.batch=12 --set train.eval_batch=12)
for precision in f32 bf16; do
    coord "ref-$precision" -n 2 "${short[@]}" --set compute.isa=ref \
        --set "compute.precision=$precision"
    coord "best-$precision" -n 3 "${short[@]}" --set compute.threads=2 \
        --set "compute.precision=$precision"
    check "it trains in $precision" grep -q "ready: ref, $precision" "$work/ref-$precision.log"
    same "with the best instruction set as in plain C" "$(bits "ref-$precision")" \
        "$(bits "best-$precision")"
done

CLLM_FAULTS=$(creep 6) start_coord hurt-bf16 -n 3 --set compute.precision=bf16
for step in 6 11; do
    until_step hurt-bf16 $step
    kill -9 "$(children worker | head -1)"
    release hurt-bf16 $((step + 5))
done
until_step hurt-bf16 16
kill -9 "$(node_zero)"
release hurt-bf16
wait $coord
coord whole-bf16 -n 1 --set compute.precision=bf16
same "in bf16: the same bits after kills as with one worker" "$(bits whole-bf16)" \
    "$(bits hurt-bf16)"

for option in run.lanes=24 run.lanes=5 train.micro_batch=1 run.lane_buffers=3 loader.method=pread \
    loss.crystalline=0.1 model.crystalline_bias=yes; do
    extra=(--set "$option" --set train.steps=6 --set train.batch=120 --set train.eval_batch=120)
    coord one -n 1 "${extra[@]}"
    coord four -n 4 "${extra[@]}" --set compute.recompute=block
    same "with $option the same bits with one and with four workers" "$(bits one)" "$(bits four)"
    rm -rf "$work/runs/one" "$work/runs/four"
done

for option in model.tied=yes model.kv_heads=1 model.rope_theta=500000 "model.rope_scaling=linear --set model.rope_factor=4"; do
    # shellcheck disable=SC2086 # some are two
    coord other -n 2 "${short[@]}" --set $option
    if [ "$(bits other)" != "$(bits best-f32)" ]; then
        ok "$option is another model"
    else
        not_ok "$option is another model" "$(cat "$work/other.log")"
    fi
    rm -rf "$work/runs/other"
done
if coord two -n 2 --resume --set model.rope_theta=500; then
    not_ok "another base of the angles is another run" "$(cat "$work/two.log")"
else
    ok "another base of the angles is another run"
fi
coord bad -n 2 --set model.kv_heads=3
same "heads that do not divide are refused" 2 $?
check "with a word on how to mend it" grep -q "divisor of 4" "$work/bad.log"

check "config.json is Llama's" grep -q '"LlamaForCausalLM"' \
    "$work/runs/two/checkpoints/last/config.json"
check "cllm-generate goes on writing" "$bin/cllm-generate" "$work/runs/two" -n 20 -p "the "
finish
