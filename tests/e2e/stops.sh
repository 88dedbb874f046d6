#!/bin/bash
# Processes that are stopped, continued after others did their work, or hang: the same bits.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

long=(--set train.steps=300 --set checkpoint.every=50)
coord golden -n 2 "${long[@]}"
golden=$(bits golden)

# said NAME PATTERN: wait until the run has said it
said()
{
    for _ in $(seq 6000); do
        ! grep -qE "$2" "$work/$1.log" || return 0
        sleep 0.01
    done
    return 1
}

# A worker is stopped, another one computes its lanes too, then it goes on.
start_coord awake -n 3 "${long[@]}" --set train.steps=2000 --set checkpoint.every=1000
until_step awake 20
victim=$(children worker | head -n 1)
kill -STOP "$victim"
check "a stopped worker is noticed" said awake "worker . \(pid $victim\) was stopped by a signal at "
sleep 0.3
kill -CONT "$victim"
check "and so is that it goes on" said awake "worker . \(pid $victim\) goes on at "
sleep 0.2
check "it was not replaced" kill -0 "$victim"
"$bin/cllm-ctl" "$work/runs/awake" stop >/dev/null
wait $coord
same "the run stops as asked" 75 $?
coord plain -n 2 "${long[@]}" --set train.steps=2000 --set checkpoint.every=1000
coord awake -n 2 "${long[@]}" --set train.steps=2000 --set checkpoint.every=1000 --resume
same "with the same bits" "$(bits plain)" "$(bits awake)"

# Stopped for good: ended after two seconds, and replaced.
for role in worker loader saver; do
    start_coord "$role" -n 2 "${long[@]}" --set train.steps=20000
    until_step "$role" 10
    kill -STOP "$(children $role | head -n 1)"
    check "a $role that stays stopped is ended" said "$role" "$role [0-9]+ .* stays stopped at .*: ended"
    check "and replaced" said "$role" "$role [0-9]+ .* killed by SIGKILL .*; started again"
    "$bin/cllm-ctl" "$work/runs/$role" stop >/dev/null
    wait $coord
    same "the run goes on and stops when asked" 75 $?
done

# A worker that runs in circles is ended for it.
CLLM_FAULTS=lane_zeroed:hang:50 start_coord circles -n 2 "${long[@]}" --set train.steps=100000
check "a hanging worker is suspected" said circles "worker . .* makes no progress"
check "and ended" said circles "worker . .* hangs \(no progress for .*, state R\) at .*: ended"
"$bin/cllm-ctl" "$work/runs/circles" stop >/dev/null
wait $coord
same "the run goes on without it" 75 $?
CLLM_FAULTS=lane_zeroed:hang:50 coord circle -n 2 "${long[@]}"
same "and comes to the same bits" "$golden" "$(bits circle)"

# Audits change nothing but the time; a worker that errs is found and retired.
coord audit -n 2 "${long[@]}" --set run.audit=3
same "a run that computes every third lane twice has the same bits" "$golden" "$(bits audit)"

# With a spare the same.
start_coord spare -n 2 "${long[@]}" --set run.spares=1
until_step spare 20
same "a spare stands by" 3 "$(children worker | wc -l)"
kill -9 "$(children worker | head -n 1)"
wait $coord
same "a run with a spare ends" 0 $?
same "with the same bits" "$golden" "$(bits spare)"

# A fault signal: the committed version is verified, the step done again.
start_coord fault -n 2 "${long[@]}"
until_step fault 20
sleep 0.1
kill -SEGV "$(children worker | head -n 1)"
wait $coord
same "a run with a fault ends" 0 $?
check "and says what was done" grep -q "what is committed is verified, step [0-9]* is done again" "$work/fault.log"
same "with the same bits" "$golden" "$(bits fault)"
finish
