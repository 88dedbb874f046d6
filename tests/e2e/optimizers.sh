#!/bin/bash
# Every optimizer, and groups of parameters: the same bits with any number of workers and
# threads, after kills, a stop and a resume, in f32 and bf16; another one is refused on resume.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

# Matrices span several chunks; a run is long enough that it can be stopped in the middle.
model=(--set train.steps=40 --set checkpoint.every=15 --set run.chunk=1024)

seen=
for kind in adamw lion sgd muon; do
    options=("${model[@]}" --set "train.optimizer=$kind")
    case $kind in
    lion) options+=(--set train.learning_rate=5e-4) ;;
    sgd) options+=(--set train.learning_rate=0.1 --set train.weight_decay=0.001) ;;
    muon) options+=(--set compute.precision=bf16) ;;
    esac
    coord $kind -n 2 "${options[@]}"
    same "$kind: a run with two workers ends" 0 $?
    golden=$(bits $kind)
    case $seen in
    *"$golden"*) not_ok "$kind has bits of its own" ;;
    *) ok "$kind has bits of its own" ;;
    esac
    seen="$seen $golden"
    # shellcheck disable=SC2016 # awk's $
    check "$kind learns" awk -F'"loss":' '/"loss"/ { split($2, x, ","); if (!first) first = x[1]; last = x[1] }
        END { exit !(last < first - 0.2) }' "$work/runs/$kind/metrics.jsonl"
    for workers in 1 5; do
        coord "$kind$workers" -n $workers "${options[@]}"
        same "$kind: the same bits with $workers workers" "$golden" "$(bits "$kind$workers")"
    done
    coord "$kind-threads" -n 2 "${options[@]}" --set compute.threads=2
    same "$kind: the same bits with two threads each" "$golden" "$(bits "$kind-threads")"

    CLLM_FAULTS=$(creep 3) start_coord "$kind-hurt" -n 3 "${options[@]}"
    until_step "$kind-hurt" 3
    kill -9 "$(children worker | head -1)"
    release "$kind-hurt" 6
    until_step "$kind-hurt" 6
    kill -SEGV "$(children worker | tail -1)"
    release "$kind-hurt" 9
    until_step "$kind-hurt" 9
    kill -9 "$(node_zero)"
    release "$kind-hurt" 13
    until_step "$kind-hurt" 13
    kill -TERM $coord
    wait $coord
    same "$kind: SIGTERM ends a run that was hurt with 75" 75 $?
    check "$kind: it goes on" coord "$kind-hurt" -n 2 "${options[@]}" --resume
    same "$kind: and ends with the same bits" "$golden" "$(bits "$kind-hurt")"
done

# In the other precision than above, hurt on the way.
for kind in adamw lion sgd; do
    options=("${model[@]}" --set "train.optimizer=$kind" --set compute.precision=bf16
        --set train.steps=10)
    coord "$kind-bf16" -n 2 "${options[@]}"
    golden=$(bits "$kind-bf16")
    check "$kind in bf16 is what it says" grep -q "ready: .*, bf16" "$work/$kind-bf16.log"
    coord "$kind-bf16-ref" -n 5 "${options[@]}" --set compute.isa=ref
    same "$kind in bf16: the same bits in plain C, with five workers" "$golden" \
        "$(bits "$kind-bf16-ref")"
    CLLM_FAULTS=$(creep 3) start_coord "$kind-bf16-hurt" -n 3 "${options[@]}" --set compute.threads=2
    until_step "$kind-bf16-hurt" 3
    kill -9 "$(children worker | head -1)"
    release "$kind-bf16-hurt" 6
    until_step "$kind-bf16-hurt" 6
    kill -9 "$(node_zero)"
    release "$kind-bf16-hurt"
    wait $coord
    same "$kind in bf16: and after two kills" "$golden" "$(bits "$kind-bf16-hurt")"
done

coord muon-f32 -n 3 "${model[@]}" --set train.optimizer=muon
first=$(bits muon-f32)
coord muon-one -n 1 "${model[@]}" --set train.optimizer=muon
same "muon in f32: the same bits with one worker" "$first" "$(bits muon-one)"

llama=(--set model.arch=llama --set model.kv_heads=1 --set train.optimizer=muon --set train.steps=8)
coord llama -n 3 "${model[@]}" "${llama[@]}"
first=$(bits llama)
coord llama-one -n 1 "${model[@]}" "${llama[@]}"
same "muon with a Llama: the same bits with one worker" "$first" "$(bits llama-one)"

# ---- groups, schedule ----

options=("${model[@]}" --set "train.group=*.h.0.* rate=0" --set train.schedule=wsd)
coord frozen -n 3 "${options[@]}"
same "a run with frozen tensors ends" 0 $?
coord frozen1 -n 1 "${options[@]}"
same "with the same bits with one worker" "$(bits frozen)" "$(bits frozen1)"
rates=$(sed -n 's/.*"learning_rate":\([^,]*\),.*/\1/p' "$work/runs/frozen/metrics.jsonl" | tr '\n' ' ')
check "wsd is stable, then decays" \
    grep -qE '(0\.003 ){23}0\.00[0-9]* .*0\.0001 $' <<<"$rates"

coord frozen --resume "${model[@]}" --set "train.group=*.h.1.* rate=0" --set train.schedule=wsd
same "a resume with another group is refused" 3 $?
check "and named" grep -qF 'train.group is "*.h.1.* rate=0", was "*.h.0.* rate=0"' "$work/frozen.log"
coord muon-f32 --resume "${model[@]}" --set train.optimizer=lion
same "and one with another optimizer" 3 $?
check "and both are named" grep -q "train.optimizer is lion, was muon" "$work/muon-f32.log"

plan()
{
    "$bin/cllm-coord" "$root/configs/tiny.ini" --dry-run --set "run.dir=$work/runs/dry" \
        --set "data.train=$work/data/train_*.bin" --set "data.valid=$work/data/val_*.bin" "$@" 2>&1
}
check "--dry-run says what a group has" \
    grep -q "group  *\*\.bias rate=0\.5: 13 tensors" <<<"$(plan --set "train.group=*.bias rate=0.5")"
check "and what stays zero" \
    grep -q "second moments of .* parameters stay zero" <<<"$(plan --set train.optimizer=sgd)"
check "and what Muon takes" grep -q "optimizer  *muon for .* parameters, adamw for the rest; .*B for it in each worker" \
    <<<"$(plan --set train.optimizer=muon)"
plan --set "train.group=*.wet.* rate=0" >"$work/plan.log"
same "a pattern for no tensor is refused" 2 $?
check "with the nearest name" grep -q "nearest is 'transformer.wte.weight'" "$work/plan.log"
finish
