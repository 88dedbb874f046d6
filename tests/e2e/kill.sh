#!/bin/bash
# kill -9 of every role while a run goes on: one clear line each, and the same bits.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

# Some work behind the last death, and checkpoints before it.
long=(--set train.steps=200 --set checkpoint.every=20)
coord golden -n 2 "${long[@]}"
golden=$(bits golden)

# kill_while ROLE TIMES: kill a process of the role every now and then
kill_while()
{
    local role=$1 times=$2 i victims victim

    CLLM_FAULTS=$(creep 3 40) start_coord "$role" -n 2 "${long[@]}"
    until_step "$role" 3
    for ((i = 1; i <= times; i++)); do
        mapfile -t victims < <(children "$role")
        while [ ${#victims[@]} = 0 ] && kill -0 $coord 2>/dev/null; do
            mapfile -t victims < <(children "$role")
        done
        victim=${victims[RANDOM % ${#victims[@]}]}
        kill -9 "$victim"
        said "$role" "$role .*\(pid $victim\) killed by SIGKILL.*started again" || break
        sleep "0.$((RANDOM % 2))$((RANDOM % 10))"
    done
    release "$role"
    wait $coord
    same "a run whose $role was killed $times times ends" 0 $?
    same "with the same bits" "$golden" "$(bits "$role")"
    same "and a line for each death" "$times" \
        "$(grep -c "$role .*killed by SIGKILL.*started again" "$work/$role.log")"
}

kill_while worker 10
kill_while loader 10
kill_while saver 10

# Node Zero: the guardian starts another one, which adopts the run.
CLLM_FAULTS=$(creep 12) start_coord zero -n 2 "${long[@]}"
for step in 12 50 130; do
    until_step zero $step
    kill -9 "$(node_zero)"
    case $step in 12) release zero 50 ;; 50) release zero 130 ;; *) release zero ;; esac
done
wait $coord
same "a run whose Node Zero was killed three times ends" 0 $?
same "with the same bits" "$golden" "$(bits zero)"

# Everybody at once: --resume adopts what is in shared memory.
CLLM_FAULTS=$(creep 17) start_coord all -n 2 "${long[@]}"
until_step all 17
kill_tree
check "a dead run can be looked at" "$bin/cllm-shm" show "$work/runs/all"
release all
check "--resume goes on after everything was killed" coord all -n 3 "${long[@]}" --resume
check "from shared memory" grep -q "in shared memory: going on" "$work/all.log"
same "with the same bits" "$golden" "$(bits all)"

# The same after a reboot: shared memory is gone, the newest checkpoint counts.
CLLM_FAULTS=$(creep 55) start_coord boot -n 2 "${long[@]}"
until_step boot 55
kill_tree
check "a dead run can be thrown away" "$bin/cllm-shm" clean "$work/runs/boot"
check "--resume goes on from the newest checkpoint" coord boot -n 1 "${long[@]}" --resume
check "from disk" grep -q "going on from checkpoint" "$work/boot.log"
same "with the same bits" "$golden" "$(bits boot)"
finish
