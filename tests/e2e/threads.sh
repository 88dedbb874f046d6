#!/bin/bash
# Workers of several threads: the bits of one, also after one was killed and after one
# crashed, whose record is there; every thread sits in the sandbox and stays on its CPUs; a run
# goes on with another number.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

# Wide enough that most operations are cut.
model=(--set model.width=96 --set model.heads=6 --set model.context=96 --set train.batch=48
    --set train.eval_batch=48 --set train.steps=24 --set checkpoint.every=8)

coord golden -n 2 "${model[@]}"
golden=$(bits golden)
coord three -n 2 "${model[@]}" --set compute.threads=3
check "a worker says that it has three threads" grep -q "ready: .*f32, 3 threads" "$work/three.log"
same "and has the bits of one" "$golden" "$(bits three)"

# of_threads PID FIELD: that line of every thread's status, each value once
of_threads()
{
    cat "/proc/$1"/task/*/status 2>/dev/null | sed -n "s/^$2:[[:space:]]*//p" | sort -u | tr '\n' ' '
}

CLLM_FAULTS=$(creep 1) start_coord hurt -n 2 "${model[@]}" --set compute.threads=3
until_field hurt workers_ready 2
victim=$(children worker | head -1)
same "a worker has as many threads as it says" 3 "$(find "/proc/$victim/task" -mindepth 1 -maxdepth 1 | wc -l)"
same "numbered" "thread 1 thread 2 " "$(cat "/proc/$victim"/task/*/comm | grep thread | sort | tr '\n' ' ')"
if grep -q "no sandbox\|no seccomp" "$work/hurt.log"; then
    echo "ok $((n += 1)) - all of them sit in the sandbox # SKIP there is none"
else
    same "all of them sit in the sandbox" "2 /1 " \
        "$(of_threads "$victim" Seccomp)/$(of_threads "$victim" NoNewPrivs)"
fi
kill -9 "$victim"
said hurt "\(pid $victim\) killed by SIGKILL"
until_field hurt workers_ready 2
victim=$(children worker | head -1) # the older one, which is up
kill -SEGV "$victim"
said hurt "\(pid $victim\) killed by SIGSEGV"
release hurt
wait $coord
same "a run whose workers are killed ends" 0 $?
same "twice" 2 "$(grep -c 'started again' "$work/hurt.log")"
same "with the same bits" "$golden" "$(bits hurt)"
check "and with the record of the crash" \
    sh -c "cat '$work/runs/hurt/crash/'*.txt | grep -q 'killed by SIGSEGV: sent by process'"

CLLM_FAULTS=$(creep 2) start_coord pinned -n 1 "${model[@]}" --set compute.threads=2 --set run.pin=yes
until_step pinned 2
worker=$(children worker)
check "threads have one set of CPUs" test "$(of_threads "$worker" Cpus_allowed_list | wc -w)" = 1
release pinned 8
until_step pinned 8
kill -TERM $coord
wait $coord
same "SIGTERM ends a run with 75" 75 $?
check "it goes on with another number of threads" coord pinned -n 2 "${model[@]}" \
    --set compute.threads=5 --resume
same "and has the same bits" "$golden" "$(bits pinned)"

plan()
{
    "$bin/cllm-coord" "$root/configs/tiny.ini" --dry-run --set "run.dir=$work/runs/dry" \
        --set "data.train=$work/data/train_*.bin" --set "data.valid=$work/data/val_*.bin" "$@" 2>&1
}
check "--dry-run counts cores for each worker" \
    grep -q "workers  *1 (auto) of 64 threads on" <<<"$(plan --set compute.threads=64)"
check "more threads than there can be are refused" \
    grep -q "compute.threads" <<<"$(plan --set compute.threads=65)"
finish
