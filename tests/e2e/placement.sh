#!/bin/bash
# Pinned workers: each on one CPU of its own, also those that come after a death, and
# nobody else; more workers than cores are let loose. The bits know nothing of it.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

# As on a slow disk nothing is left to chance: the run must last as long as it is looked at.
long=(--set train.steps=1000000 --set checkpoint.every=0 --set train.eval_every=0)

# cpus PID: "0" or "0-1"
cpus()
{
    sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null
}
# lines ROLE: the CPUs of all children of that role, sorted, in one line
lines()
{
    local pid
    for pid in $(children "$1"); do cpus "$pid"; done | sort | tr '\n' ' '
}
# until_lines ROLE WANTED: wait until they are so
until_lines()
{
    local limit=$((SECONDS + patience))
    while [ $SECONDS -lt $limit ]; do
        [ "$(lines "$1")" != "$2" ] || return 0
        sleep 0.02
    done
    echo "$1: '$(lines "$1")' instead of '$2'"
    return 1
}
stop_coord()
{
    kill_tree
}

all=$(cpus $$)
first=${all%%[-,]*}
start_coord pinned -n 1 --set run.pin=yes "${long[@]}"
until_step pinned 2
check "the worker has one CPU" until_lines worker "$first "
check "the loader has all" until_lines loader "$all "
check "so has the saver" until_lines saver "$all "
same "and Node Zero" "$all" "$(cpus "$(node_zero)")"
old=$(children worker)
kill -9 "$old"
until [ -n "$(children worker)" ] && [ "$(children worker)" != "$old" ]; do sleep 0.02; done
check "who comes after a killed worker has the same" until_lines worker "$first "
old=$(node_zero)
kill -9 "$old"
until [ -n "$(node_zero)" ] && [ "$(node_zero)" != "$old" ] &&
    [ -n "$(children worker)" ]; do sleep 0.02; done
check "so has the worker of the next Node Zero" until_lines worker "$first "
stop_coord

# policy PID: of the kernel's scheduler, 0 = SCHED_OTHER, 3 = SCHED_BATCH, 5 = SCHED_IDLE
policy()
{
    sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 39
}
start_coord turns -n 1 "${long[@]}"
until_step turns 2
if [ "$(policy $$)" -eq 0 ]; then
    same "a worker asks for long turns" 3 "$(policy "$(children worker)")"
else
    same "a worker leaves a policy that was chosen" "$(policy $$)" "$(policy "$(children worker)")"
fi
same "the loader does not" "$(policy $$)" "$(policy "$(children loader)")"
stop_coord

start_coord loose -n 1 --set run.pin=no "${long[@]}"
until_step loose 2
check "with pin = no the worker has all CPUs" until_lines worker "$all "
stop_coord

start_coord spare -n 1 --set run.pin=yes --set run.spares=1 "${long[@]}"
until_step spare 2
wanted=$(printf '%s\n' "$first" "$all" | sort | tr '\n' ' ')
check "a spare is not pinned" until_lines worker "$wanted"
stop_coord

coord golden -n 2 --set run.pin=no
coord auto -n 2 --set run.pin=yes
coord yes -n 3 --set run.pin=yes
same "two pinned workers make the same bits" "$(bits golden)" "$(bits auto)"
same "three that share cores do too" "$(bits golden)" "$(bits yes)"

# Five workers, two of them at once: the others have their turns every 16 steps.
# lanes_done NAME: of each worker, so far
lanes_done()
{
    "$bin/cllm-shm" --json show "$work/runs/$1" | sed -n 's/.*"lanes_done": \([0-9]*\).*/\1/p'
}
# differ A B: so many of their lines
differ()
{
    diff <(echo "$1") <(echo "$2") | grep -c '^>'
}
CLLM_FAULTS=$(creep 6 20) start_coord few -n 5 --set run.active=2 "${long[@]}"
until_step few 7
before=$(lanes_done few)
until_step few 13
after=$(lanes_done few)
check "that they have turns is said" said few "5 workers in turns, 2 at once"
check "all of them are there" until_field few workers_ready 5
same "two of five compute" 2 "$(differ "$before" "$after")"
release few 120
until_step few 120
check "80 steps later all have" test "$(differ "$after" "$(lanes_done few)")" = 5
stop_coord
coord few-short -n 5 --set run.active=2
same "they make the same bits" "$(bits golden)" "$(bits few-short)"

text=$("$bin/cllm-coord" "$root/configs/tiny.ini" --dry-run --set run.pin=yes \
    --set "run.dir=$work/runs/dry" --set "data.train=$work/data/train_*.bin" \
    --set "data.valid=$work/data/val_*.bin" 2>&1)
check "--dry-run says how many workers auto gives" \
    grep -q "workers .*(auto) on [0-9]* core" <<<"$text"
check "and where they stay" grep -q "stays on its CPU, of: $first" <<<"$text"
text=$(HWLOC_SYNTHETIC="node:2 core:4 pu:2" "$bin/cllm-info")
check "cllm-info tells of a described machine" \
    grep -q "8 cores, 16 logical CPUs, 2 NUMA nodes" <<<"$text"
check "and what auto would be there" \
    grep -q "auto = 8, .* on CPU 0 8 2 10 4 12 6 14" <<<"$text"
finish
