#!/bin/bash
# The same bits with every instruction set that this CPU has, in f32 and in bf16; a run goes on
# with another one; bf16 survives a kill.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

best=$("$bin/cllm-info" --json | sed -n 's/.*"kernels": *"\([a-z0-9]*\),.*/\1/p')
case $best in
avx512bf16) sets="avx2 avx512 avx512bf16" ;;
avx512) sets="avx2 avx512" ;;
avx2) sets=avx2 ;;
*) sets= ;;
esac
short=(--set train.steps=3 --set train.batch=12 --set train.eval_batch=12)

for precision in f32 bf16; do
    coord "ref-$precision" -n 2 "${short[@]}" --set compute.isa=ref \
        --set "compute.precision=$precision"
    check "plain C trains in $precision" grep -q "ready: ref, $precision" "$work/ref-$precision.log"
    golden=$(bits "ref-$precision")
    for set in $sets; do
        coord "$set-$precision" -n 3 "${short[@]}" --set "compute.isa=$set" \
            --set "compute.precision=$precision"
        check "$set trains in $precision" grep -q "ready: $set, $precision" "$work/$set-$precision.log"
        same "and gives the bits of plain C" "$golden" "$(bits "$set-$precision")"
    done
done
if [ "$(bits ref-f32)" != "$(bits ref-bf16)" ]; then
    ok "the precisions differ"
else
    not_ok "the precisions differ"
fi

CLLM_ISA=ref coord env -n 1 "${short[@]}" --set train.steps=1
check "CLLM_ISA reaches the workers" grep -q "ready: ref, f32" "$work/env.log"
CLLM_ISA=mmx coord wrong -n 1 "${short[@]}"
check "and is refused when nobody knows it" grep -q "CLLM_ISA=mmx" "$work/wrong.log"

moved=(--set train.steps=14 --set compute.precision=bf16)
coord golden -n 2 "${moved[@]}"
CLLM_FAULTS=$(creep 8) start_coord moved -n 2 "${moved[@]}"
until_step moved 8
kill -9 "$(children worker | head -1)"
kill -TERM $coord
wait $coord
same "SIGTERM ends a run with 75" 75 $?
check "it goes on with another instruction set" coord moved -n 2 "${moved[@]}" \
    --set compute.isa=ref --resume
same "and ends with the same bits" "$(bits golden)" "$(bits moved)"
if coord moved -n 1 --set train.steps=14 --resume; then
    not_ok "another precision is another run" "$(cat "$work/moved.log")"
else
    ok "another precision is another run"
fi
finish
