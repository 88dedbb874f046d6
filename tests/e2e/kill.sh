#!/bin/bash
# kill -9 of every role while a run goes on: one clear line each, and the same bits.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

coord golden -n 2
golden=$(bits golden)

# children NAME ROLE: pids of a run's processes of that role
children()
{
    "$bin/cllm-shm" --json show "$work/runs/$1" 2>/dev/null |
        python3 -c "
import json, sys
run = json.load(sys.stdin)
run = run.get('run', run)
print(*[s['pid'] for s in run['slots'] if s['role'] == '$2' and s['pid']])" 2>/dev/null
}

# kill_while NAME ROLE TIMES: kill one process of the role every now and then
kill_while()
{
    local name=$1 role=$2 times=$3 killed=0 pid coord_pid

    coord "$name" -n 2 &
    coord_pid=$!
    while kill -0 $coord_pid 2>/dev/null && [ $killed -lt "$times" ]; do
        sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
        pid=$(children "$name" "$role" | tr ' ' '\n' | shuf -n 1)
        [ -n "$pid" ] && kill -9 "$pid" 2>/dev/null && killed=$((killed + 1))
    done
    wait $coord_pid
    same "a run whose $role was killed $killed times ends" 0 $?
    same "with the same bits" "$golden" "$(bits "$name")"
    if [ $killed -gt 0 ]; then
        check "and says who died of what" grep -q "$role .*killed by SIGKILL" "$work/$name.log"
    else
        not_ok "the $role was killed at all"
    fi
}

kill_while worker worker 6
kill_while loader loader 4
kill_while saver saver 4

# Node Zero: the guardian starts another one, which adopts the run.
coord zero -n 2 &
guardian=$!
until grep -qs '"step":12,' "$work/runs/zero/journal.jsonl"; do sleep 0.02; done
kill -9 "$(pgrep -P $guardian -x cllm-coord)"
wait $guardian
same "a run whose Node Zero was killed ends" 0 $?
same "with the same bits" "$golden" "$(bits zero)"

# Everybody at once: --resume adopts what is in shared memory.
coord all -n 2 &
guardian=$!
until grep -qs '"step":17,' "$work/runs/all/journal.jsonl"; do sleep 0.02; done
node_zero=$(pgrep -P $guardian -x cllm-coord)
kill -9 $guardian "$node_zero"
wait $guardian 2>/dev/null
check "a dead run can be looked at" "$bin/cllm-shm" show "$work/runs/all"
check "--resume goes on after everything was killed" coord all -n 3 --resume
check "from shared memory" grep -q "in shared memory: going on" "$work/all.log"
same "with the same bits" "$golden" "$(bits all)"

# The same after a reboot: shared memory is gone, the newest checkpoint counts.
coord boot -n 2 &
guardian=$!
until grep -qs '"step":27,' "$work/runs/boot/journal.jsonl"; do sleep 0.02; done
kill -9 $guardian "$(pgrep -P $guardian -x cllm-coord)"
wait $guardian 2>/dev/null
sleep 0.3
check "a dead run can be thrown away" "$bin/cllm-shm" clean "$work/runs/boot"
check "--resume goes on from the newest checkpoint" coord boot -n 1 --resume
same "with the same bits" "$golden" "$(bits boot)"
finish
