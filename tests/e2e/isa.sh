#!/bin/bash
# The same bits with every instruction set that this CPU has, in each precision; a run goes on
# with another one; bf16 survives a kill.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

# Every instruction set up to the best of this CPU, which has those before it too.
best=$("$bin/cllm-info" --json | sed -n 's/.*"kernels": *"\([a-z0-9]*\),.*/\1/p')
sets=
for set in avx2 avx512 avx512bf16 amx; do
    [ "$best" != ref ] || break
    sets+=" $set"
    [ "$set" != "$best" ] || break
done
[ "$best" = ref ] || same "cllm-info names the best instruction set" "$best" "${sets##* }"
precisions="f32 bf16 bf16-amx f32-amx"
short=(--set train.steps=3 --set train.batch=12 --set train.eval_batch=12)

for precision in $precisions; do
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
same "the precisions differ" 4 \
    "$(for p in $precisions; do bits "ref-$p" | sha256sum; done | sort -u | wc -l)"

CLLM_ISA=ref coord env -n 1 "${short[@]}" --set train.steps=1
check "CLLM_ISA reaches the workers" grep -q "ready: ref, f32" "$work/env.log"
CLLM_ISA=mmx coord wrong -n 1 "${short[@]}"
check "and is refused when nobody knows it" grep -q "CLLM_ISA=mmx" "$work/wrong.log"

moved_goes_on()
{
    local precision=$1 moved=(--set train.steps=14 --set "compute.precision=$1")
    coord "golden-$precision" -n 2 "${moved[@]}"
    CLLM_FAULTS=$(creep 8) start_coord "moved-$precision" -n 2 "${moved[@]}"
    until_step "moved-$precision" 8
    kill -9 "$(children worker | head -1)"
    kill -TERM $coord
    wait $coord
    same "SIGTERM ends a run in $precision with 75" 75 $?
    check "it goes on with another instruction set" coord "moved-$precision" -n 2 \
        "${moved[@]}" --set compute.isa=ref --resume
    same "and ends with the same bits" "$(bits "golden-$precision")" "$(bits "moved-$precision")"
}
moved_goes_on bf16
moved_goes_on bf16-amx
moved_goes_on f32-amx
for precision in bf16 f32-amx; do
    if coord "moved-$precision" -n 1 --set train.steps=14 \
        --set compute.precision=bf16-amx --resume; then
        not_ok "another precision is another run" "$(cat "$work/moved-$precision.log")"
    else
        ok "another precision is another run"
    fi
done
finish
