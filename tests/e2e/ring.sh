#!/bin/bash
# Batches that are damaged in shared memory are fetched again. That is no process's fault: it
# costs nothing of the restart budget, unless it goes on and on.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }
long=(--set train.steps=150 --set train.eval_every=0 --set run.restart_limit=0)

# damage NAME: every 'e' in the ring becomes an 'f', while the run is paused
damage()
{
    local ring
    "$bin/cllm-ctl" "$work/runs/$1" pause >/dev/null || return
    until "$bin/cllm-shm" show "$work/runs/$1" | grep -q "paused"; do
        kill -0 $coord || return
        sleep 0.02
    done
    ring=$(grep -o '/dev/shm/.*-ring' "/proc/$(children loader | head -n 1)/maps" | head -n 1)
    tr e f <"$ring" >"$work/ring"
    dd if="$work/ring" of="$ring" conv=notrunc bs=1M status=none
    "$bin/cllm-ctl" "$work/runs/$1" resume >/dev/null
}

coord golden -n 2 "${long[@]}"
CLLM_FAULTS=$(creep 20) start_coord dirty -n 2 "${long[@]}"
until_step dirty 20
damage dirty
release dirty 60
until_step dirty 60
damage dirty
release dirty
wait $coord
same "a run whose ring was damaged twice ends, with no death to spare" 0 $?
check "it says what it found" grep -q "batch damaged in the ring: the loader starts again" \
    "$work/dirty.log"
same "with the same bits" "$(bits golden)" "$(bits dirty)"
finish
