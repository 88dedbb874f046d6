#!/bin/bash
# Processes that are stopped, continued after others did their work, or hang: the same bits.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

long=(--set train.steps=120 --set checkpoint.every=50)
coord golden -n 2 "${long[@]}"
golden=$(bits golden)

# A worker is stopped in a lane, others compute it too, then it goes on: within two seconds, or it
# is replaced. On a machine so busy that this script comes too late, it is tried again.
for try in 1 2 3 4 5; do
    run=awake$try
    CLLM_FAULTS='lane_begun:sleep=30:100*1000000,lane_summed:stop:120' start_coord $run -n 3 "${long[@]}"
    said $run 'worker . \(pid [0-9]+\) was stopped by a signal at (validation )?lane ' && noticed=yes
    victim=$(sed -n 's/.*worker . (pid \([0-9]*\)) was stopped.*/\1/p' "$work/$run.log")
    until_step $run $(($(field $run step) + 2))
    arm $run "$(creep 1)"
    kill -CONT "$victim" 2>/dev/null
    said $run "worker . \(pid $victim\) (goes on|stays stopped) at "
    grep -q "(pid $victim) stays stopped" "$work/$run.log" || break
    kill_tree 2>/dev/null
    "$bin/cllm-shm" clean "$work/runs/$run" >/dev/null
done
same "a worker that is stopped in a lane is noticed" yes "${noticed:-no}"
if grep -q "(pid $victim) stays stopped" "$work/$run.log"; then
    ok "and so is that it goes on # SKIP this machine is too busy"
    kill_tree 2>/dev/null
else
    check "and so is that it goes on" grep -q "worker . (pid $victim) goes on at " "$work/$run.log"
    until_step $run $(($(field $run step) + 2))
    "$bin/cllm-ctl" "$work/runs/$run" stop >/dev/null
    wait $coord
    same "the run stops as asked" 75 $?
    same "it was not replaced" 0 \
        "$(grep -cE "\(pid $victim\) (stays stopped|hangs|killed|exit code)" "$work/$run.log")"
    coord $run -n 2 "${long[@]}" --resume
    same "and comes to the same bits" "$golden" "$(bits $run)"
fi

# One that is stopped while others cannot do its work, for it may still write there, is ended at
# once, when nothing else is left to do.
for point in fold_opened update_written; do
    CLLM_FAULTS=$point:stop:100 coord $point -n 3 "${long[@]}"
    same "a run one of whose workers stops at $point ends" 0 $?
    check "having been rid of it" grep -qE "stays stopped at (fold|update) .*: ended" "$work/$point.log"
    same "with the same bits" "$golden" "$(bits $point)"
done

# Stopped for good: ended after two seconds, and replaced.
for role in worker loader saver; do
    start_coord "$role" -n 2 "${long[@]}" --set train.steps=1000000
    until_step "$role" 10
    kill -STOP "$(children $role | head -n 1)"
    check "a $role that stays stopped is ended" said "$role" "$role [0-9]+ .* stays stopped at .*: ended"
    check "and replaced" said "$role" "$role [0-9]+ .* killed by SIGKILL .*; started again"
    "$bin/cllm-ctl" "$work/runs/$role" stop >/dev/null
    wait $coord
    same "the run goes on and stops when asked" 75 $?
done

# A worker that runs in circles is ended for it.
CLLM_FAULTS=lane_begun:hang:50 start_coord circles -n 2 "${long[@]}" --set train.steps=1000000
check "a hanging worker is suspected" said circles "worker . .* makes no progress"
check "and ended" said circles "worker . .* hangs \(no progress for .*, state R\) at .*: ended"
"$bin/cllm-ctl" "$work/runs/circles" stop >/dev/null
wait $coord
same "the run goes on without it" 75 $?
CLLM_FAULTS=lane_begun:hang:50 coord circle -n 2 "${long[@]}"
same "and comes to the same bits" "$golden" "$(bits circle)"

# Audits change nothing but the time.
coord audit -n 2 "${long[@]}" --set run.audit=3
same "a run that computes every third lane twice has the same bits" "$golden" "$(bits audit)"

# A worker whose every gradient has one wrong bit is found and retired, also for the next Node Zero.
CLLM_FAULTS='lane_erred:flip:1*1000000:1,lane_begun:sleep=40:1*1000000,lane_summed:sleep=1500:700*1000000' \
    start_coord errs -n 3 "${long[@]}" --set run.audit=1
check "a worker that errs is found" said errs "worker 1 found other bits for lane .*: it is retired"
until_step errs $(($(field errs step) + 2))
zero=$(node_zero)
kill -9 "$zero"
check "its Node Zero dies" said errs "took over at step"
until_step errs $(($(field errs step) + 5))
same "it stays retired" 1 "$(grep -c "it is retired" "$work/errs.log")"
"$bin/cllm-ctl" "$work/runs/errs" stop >/dev/null
wait $coord
same "and the run stops when asked" 75 $?
coord errs -n 3 "${long[@]}" --resume
same "a resume begins with all of them, to the same bits" "$golden" "$(bits errs)"

# With a spare the same.
CLLM_FAULTS=$(creep 10) start_coord spare -n 2 "${long[@]}" --set run.spares=1
until_step spare 10
check "a spare stands by" until_children worker 3
kill -9 "$(children worker | head -n 1)"
release spare
wait $coord
same "a run with a spare ends" 0 $?
same "with the same bits" "$golden" "$(bits spare)"

# A fault signal: the committed version is verified, the step done again.
CLLM_FAULTS=$(creep 10) start_coord fault -n 2 "${long[@]}"
until_step fault 10
kill -SEGV "$(children worker | head -n 1)"
release fault
wait $coord
same "a run with a fault ends" 0 $?
check "and says what was done" grep -q "what is committed is verified, step [0-9]* is done again" "$work/fault.log"
same "with the same bits" "$golden" "$(bits fault)"
finish
