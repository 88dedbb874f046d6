#!/bin/bash
# Every child of a run sits in its sandbox, a run without one gives the same bits, and a
# process that a forbidden call would end shows in the log like any other death.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

long=(--set train.steps=60 --set checkpoint.every=20)
# status PID NAME: a line of /proc/PID/status
status()
{
    awk -v name="$2:" '$1 == name { print $2 }' "/proc/$1/status" 2>/dev/null
}

# Slow, until all are up and were looked at: the saver is the last on a busy machine.
CLLM_FAULTS=$(creep 1) start_coord boxed -n 2 "${long[@]}"
until_field boxed workers_ready 2
said boxed "^saver .* is ready" # and so is the loader, after the first step
until_step boxed 1
for role in worker loader saver; do
    mapfile -t pids < <(children $role)
    state=$(status "${pids[0]}" NoNewPrivs)/$(status "${pids[0]}" Seccomp)
    if grep -q "^$role .*, no sandbox" "$work/boxed.log"; then
        echo "ok $((n += 1)) - the $role is in its sandbox # SKIP none in this build"
    elif grep -q "^$role .*, no seccomp" "$work/boxed.log"; then
        echo "ok $((n += 1)) - the $role is in its sandbox # SKIP the system has no seccomp"
    else
        same "the $role is in its sandbox" 1/2 "$state"
    fi
done
kill -TERM $coord
wait $coord
same "the run stops" 75 $?
same "and nobody died" 0 "$(grep -c 'started again' "$work/boxed.log")"
check "it goes on to its end" coord boxed -n 2 "${long[@]}" --resume
check "what holds is said of each role" sh -c "
    for role in worker loader saver; do
        grep -Eq \"^\$role .* is ready: .*, (sandboxed|no (landlock|seccomp|sandbox))\" \
            '$work/boxed.log' || exit 1
    done"

coord free -n 2 "${long[@]}" --set run.sandbox=off
same "a run without sandboxes ends" 0 $?
same "and says so, three times" 3 "$(grep -c 'is ready: .*, no sandbox' "$work/free.log")"
same "with the same bits" "$(bits boxed)" "$(bits free)"
finish
