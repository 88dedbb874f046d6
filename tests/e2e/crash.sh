#!/bin/bash
# Fault signals for every role while a run goes on: the same bits, and for each death a line,
# a file in RUN/crash and a record that cllm-shm crashes shows.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

long=(--set train.steps=200 --set checkpoint.every=20)
coord golden -n 2 "${long[@]}"
golden=$(bits golden)
check "a run without crashes says so" \
    sh -c '"$1" crashes "$2" | grep -q "No process of .* has crashed"' - "$bin/cllm-shm" "$work/runs/golden"

# crash_while ROLE: send every fault signal to a process of the role. A fast machine may end a
# run before that; then there is another run for the rest.
crash_while()
{
    local role=$1 runs=0 here run victim zero left=(SEGV BUS ABRT FPE ILL)

    while [ ${#left[@]} -gt 0 ] && [ $runs -lt 5 ]; do
        runs=$((runs + 1)) here=0 run=$role$runs
        start_coord "$run" -n 2 "${long[@]}"
        until_step "$run" 3
        while [ ${#left[@]} -gt 0 ]; do
            zero=$(node_zero) || break
            victim=$(pgrep -P "$zero" -x "cllm-$role" | head -n 1)
            [ -n "$victim" ] || continue
            # Its handlers are there once it waits for work or does it.
            sleep 0.15
            kill -s "${left[0]}" "$victim" 2>/dev/null || continue
            left=("${left[@]:1}") here=$((here + 1))
            until ! kill -0 "$victim" 2>/dev/null; do sleep 0.01; done
            [ $here = 2 ] || continue
            sleep 0.05
            "$bin/cllm-shm" crashes "$work/runs/$run" >"$work/$role.live" 2>&1
            "$bin/cllm-shm" crashes --json "$work/runs/$run" >"$work/$role.json" 2>&1
        done
        wait $coord
        same "run $runs whose $role crashed $here times ends" 0 $?
        same "with the same bits" "$golden" "$(bits "$run")"
        same "a line for each" $here \
            "$(grep -cE "$role .*killed by SIG.*sent by process [0-9]+, at .*crash/[0-9]+.txt.*started again" \
                "$work/$run.log")"
        same "and a file for each" $here \
            "$(cat "$work/runs/$run"/crash/*.txt | grep -cE "^$role [0-9]+ \(pid [0-9]+\) killed by SIG[A-Z]+: sent by process [0-9]+, at ")"
        same "which are listed after the end" $here \
            "$("$bin/cllm-shm" crashes "$work/runs/$run" | grep -c ' killed by SIG')"
    done
    same "the $role got every signal" 0 ${#left[@]}
    check "a live run's crashes are listed" grep -q "^  2.txt .* $role " "$work/$role.live"
    check "with the record in shared memory" \
        grep -qE "^  $role [0-9]+ \(pid [0-9]+, generation [0-9]+.*SIG" "$work/$role.live"
    check "as JSON too" grep -q '"signal": "SIG' "$work/$role.json"
}

crash_while worker
crash_while loader
crash_while saver

# The command in a file finds the line where the process was.
file=$(grep -lE '^  #[0-9]+ +cllm-worker\+0x' "$work"/runs/worker1/crash/*.txt | head -n 1)
command=$(sed -n 's/^lines: //p' "$file")
if command -v addr2line >/dev/null; then
    # shellcheck disable=SC2086 # a command with its arguments
    check "addr2line finds the lines" sh -c '$1 | grep -q "main at "' - "$command"
else
    ok "addr2line finds the lines # SKIP no addr2line here"
fi

# A run directory that takes no crash file: a warning, and the run goes on.
start_coord full -n 2 "${long[@]}"
until_step full 3
touch "$work/runs/full/crash"
kill -s SEGV "$(pgrep -P "$(node_zero)" -x cllm-worker | head -n 1)"
wait $coord
same "a crash that cannot be kept does not end the run" 0 $?
check "and is told" grep -q "crash.*; the run goes on" "$work/full.log"
same "with the same bits" "$golden" "$(bits full)"
finish
