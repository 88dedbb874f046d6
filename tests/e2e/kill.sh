#!/bin/bash
# kill -9 of every role while a run goes on: one clear line each, and the same bits.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

# Long enough to be killed many times.
long=(--set train.steps=200 --set checkpoint.every=20)
coord golden -n 2 "${long[@]}"
golden=$(bits golden)

# kill_while ROLE TIMES: kill a process of the role every now and then. A fast machine may
# end a run before that has happened TIMES times; then there is another run.
kill_while()
{
    local role=$1 times=$2 killed=0 runs=0 here run victims

    while [ $killed -lt "$times" ] && [ $runs -lt 8 ]; do
        runs=$((runs + 1)) here=0 run=$role$runs
        start_coord "$run" -n 2 "${long[@]}"
        until_step "$run" 3
        while kill -0 $coord 2>/dev/null && [ $((killed + here)) -lt "$times" ]; do
            mapfile -t victims < <(children "$role")
            [ ${#victims[@]} -gt 0 ] &&
                kill -9 "${victims[RANDOM % ${#victims[@]}]}" 2>/dev/null && here=$((here + 1))
            sleep "0.$((RANDOM % 2))$((RANDOM % 10))"
        done
        wait $coord
        same "run $runs whose $role was killed again and again ends" 0 $?
        same "with the same bits" "$golden" "$(bits "$run")"
        same "and a line for each death" $here \
            "$(grep -c "$role .*killed by SIGKILL.*started again" "$work/$run.log")"
        killed=$((killed + here))
    done
    if [ $killed -ge "$times" ]; then
        ok "the $role was killed $times times"
    else
        not_ok "the $role was killed $times times" "only $killed times; $(tail -n 3 "$work/$run.log")"
    fi
}

kill_while worker 10
kill_while loader 10
kill_while saver 10

# Node Zero: the guardian starts another one, which adopts the run.
start_coord zero -n 2 "${long[@]}"
for step in 12 50 130; do
    until_step zero $step
    kill -9 "$(node_zero)"
done
wait $coord
same "a run whose Node Zero was killed three times ends" 0 $?
same "with the same bits" "$golden" "$(bits zero)"

# Everybody at once: --resume adopts what is in shared memory.
start_coord all -n 2 "${long[@]}"
until_step all 17
kill -9 $coord "$(node_zero)"
wait $coord 2>/dev/null
check "a dead run can be looked at" "$bin/cllm-shm" show "$work/runs/all"
check "--resume goes on after everything was killed" coord all -n 3 "${long[@]}" --resume
check "from shared memory" grep -q "in shared memory: going on" "$work/all.log"
same "with the same bits" "$golden" "$(bits all)"

# The same after a reboot: shared memory is gone, the newest checkpoint counts.
start_coord boot -n 2 "${long[@]}"
until_step boot 55
kill -9 $coord "$(node_zero)"
wait $coord 2>/dev/null
sleep 0.3
check "a dead run can be thrown away" "$bin/cllm-shm" clean "$work/runs/boot"
check "--resume goes on from the newest checkpoint" coord boot -n 1 "${long[@]}" --resume
check "from disk" grep -q "going on from checkpoint" "$work/boot.log"
same "with the same bits" "$golden" "$(bits boot)"
finish
