#!/bin/bash
# What is computed again instead of kept takes less memory and gives the same bits; a run goes on
# with another setting, from a checkpoint and from shared memory.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

model=(--set model.layers=4 --set train.steps=150)

# Bytes of a worker, as --dry-run forecasts them.
forecast()
{
    coord forecast -n 2 "${model[@]}" --set "compute.recompute=$1" --dry-run
    awk '$1 == "workers" && $5 == "x" {
        split("KiB MiB GiB", unit)
        for (i in unit)
            if ($7 ~ unit[i])
                print int($6 * 1024 ^ i)
    }' "$work/forecast.log"
}

coord none -n 2 "${model[@]}"
same "training ends" 0 $?
before=$(forecast none)
check "--dry-run forecasts a worker" test "${before:-0}" -gt 0
for setting in attention block; do
    bytes=$(forecast $setting)
    check "and less with $setting" test "${bytes:-$before}" -lt "$before"
    before=$bytes
    coord $setting -n 2 "${model[@]}" --set compute.recompute=$setting
    same "training ends with $setting" 0 $?
    same "and with the bits of none" "$(bits none)" "$(bits $setting)"
done

CLLM_FAULTS=$(creep 7) start_coord moved -n 2 "${model[@]}" --set compute.recompute=none
until_step moved 7
kill -9 "$(children worker | head -1)"
release moved 12
until_step moved 12
kill -TERM $coord
wait $coord
same "SIGTERM ends a run with 75" 75 $?
CLLM_FAULTS=$(creep 60) start_coord moved -n 3 "${model[@]}" --set compute.recompute=block --resume
until_step moved 75
kill_tree 2>/dev/null
release moved
check "a run goes on with another setting" coord moved -n 1 "${model[@]}" \
    --set compute.recompute=attention --resume
check "from shared memory too" grep -q "in shared memory: going on from there" "$work/moved.log"
same "and ends with the same bits" "$(bits none)" "$(bits moved)"

config=tiny-llama
coord llama -n 2 "${model[@]}" --set train.steps=20
before=$(forecast none) after=$(forecast block)
check "Llama: less memory with block" test "${after:-$before}" -lt "$before"
for setting in attention block; do
    coord llama-$setting -n 2 "${model[@]}" --set train.steps=20 --set compute.recompute=$setting
    same "Llama: the same bits with $setting" "$(bits llama)" "$(bits llama-$setting)"
done
config=tiny

coord bad "${model[@]}" --set compute.recompute=all
same "another word is refused" 2 $?
check "and those that there are are named" grep -q "none|attention|block\|none, attention" "$work/bad.log"
finish
