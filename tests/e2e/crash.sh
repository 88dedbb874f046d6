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

# has_handlers PID: does it catch SEGV, FPE, BUS, ABRT and ILL?
has_handlers()
{
    local mask
    mask=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null)
    [ $((16#${mask:-0} & 0x4e8)) = $((0x4e8)) ]
}

# crash_while ROLE: every fault signal for a process of the role, one after the other
crash_while()
{
    local role=$1 run=$1 signal victim step=3

    CLLM_FAULTS=$(creep 3 20) start_coord "$run" -n 2 "${long[@]}"
    for signal in SEGV BUS ABRT FPE ILL; do
        # In a step of its own each: a lane that kills three is poison.
        until_step "$run" $((step++))
        until victim=$(children "$role" | head -n 1) && has_handlers "${victim:-none}"; do
            kill -0 $coord 2>/dev/null || break
            sleep 0.01
        done
        kill -s $signal "$victim"
        check "a $role got SIG$signal" said "$run" "$role .*\(pid $victim\) killed by SIG$signal"
        [ $signal = BUS ] || continue
        "$bin/cllm-shm" crashes "$work/runs/$run" >"$work/$role.live" 2>&1
        "$bin/cllm-shm" crashes --json "$work/runs/$run" >"$work/$role.json" 2>&1
    done
    release "$run"
    wait $coord
    same "the run ends" 0 $?
    same "with the same bits" "$golden" "$(bits "$run")"
    same "a line for each" 5 \
        "$(grep -cE "$role .*killed by SIG.*sent by process [0-9]+, at .*crash/[0-9]+.txt.*started again" \
            "$work/$run.log")"
    same "and a file for each" 5 \
        "$(cat "$work/runs/$run"/crash/*.txt | grep -cE "^$role [0-9]+ \(pid [0-9]+\) killed by SIG[A-Z]+: sent by process [0-9]+, at ")"
    same "which are listed after the end" 5 \
        "$("$bin/cllm-shm" crashes "$work/runs/$run" | grep -c ' killed by SIG')"
    check "a live run's crashes are listed" grep -q "^  2.txt .* $role " "$work/$role.live"
    check "with the record in shared memory" \
        grep -qE "^  $role [0-9]+ \(pid [0-9]+, generation [0-9]+.*SIG" "$work/$role.live"
    check "as JSON too" grep -q '"signal": "SIG' "$work/$role.json"
}

crash_while worker
crash_while loader
crash_while saver

# The command in a file finds the line where the process was: in a function of its own, for who
# waits in a library may have no frames above.
CLLM_FAULTS=lane_summed:segv:50 coord place -n 2 "${long[@]}"
same "a worker that faults by itself costs nothing" "$golden" "$(bits place)"
command=$(sed -n 's/^lines: //p' "$work"/runs/place/crash/1.txt)
if command -v addr2line >/dev/null; then
    # shellcheck disable=SC2086 # a command with its arguments
    check "addr2line finds the lines" sh -c '$1 | grep -q "main at "' - "$command"
else
    ok "addr2line finds the lines # SKIP no addr2line here"
fi

# A run directory that takes no crash file: a warning, and the run goes on.
CLLM_FAULTS=$(creep 3) start_coord full -n 2 "${long[@]}"
until_step full 3
touch "$work/runs/full/crash"
victim=$(children worker | head -n 1)
until has_handlers "$victim" || ! kill -0 $coord 2>/dev/null; do sleep 0.01; done
kill -s SEGV "$victim"
said full "crash.*; the run goes on"
release full
wait $coord
same "a crash that cannot be kept does not end the run" 0 $?
check "and is told" grep -q "crash.*; the run goes on" "$work/full.log"
same "with the same bits" "$golden" "$(bits full)"
finish
