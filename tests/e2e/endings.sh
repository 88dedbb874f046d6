#!/bin/bash
# Ways for a run to end, and to go on: nothing that is committed is lost, nothing is made up.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

long=(-n 2 --set train.steps=300 --set checkpoint.best=no)
quiet=("${long[@]}" --set checkpoint.every=0)
coord golden "${long[@]}"
golden=$(bits golden)

coord golden "${long[@]}" --resume
same "to resume a finished run is no error" 0 $?
same "and changes nothing" "$golden" "$(bits golden)"

# One stop signal while the last checkpoint is being written: it is still written.
CLLM_FAULTS=saver_begin:sleep=60000 start_coord late "${quiet[@]}"
said late "fault point saver_begin in saver: sleep"
kill -TERM $coord
check "a stop signal during the last save is heard" said late "once more to leave at once"
kill -9 "$(children saver)"
wait $coord
same "and the run ends as it should" 0 $?
same "with its checkpoint" "$golden" "$(bits late)"

# Two of them: at once, but what no checkpoint has stays in shared memory.
CLLM_FAULTS="saver_begin:sleep=60000:1*1000" start_coord twice "${quiet[@]}"
said twice "fault point saver_begin in saver: sleep"
kill -TERM $coord
said twice "once more to leave at once"
kill -TERM $coord
wait $coord
same "two stop signals end a run at once" 130 $?
check "and its memory is kept" grep -q "exist in shared memory alone" "$work/twice.log"
arm twice ""
check "for --resume" coord twice "${quiet[@]}" --resume
same "which writes the checkpoint" "$golden" "$(bits twice)"

# Somebody began to remove a dead run, by hand or as a Node Zero that was killed while it did
# so: what is left is no run.
for part in params1 ring; do
    CLLM_FAULTS=$(creep 25) start_coord torn "${long[@]}"
    until_step torn 25
    kill_tree
    for object in /dev/shm/cllm-*-torn-*-$part; do
        [ -O "$object" ] && rm "$object"
    done
    check "a run without its $part goes on from its checkpoint" coord torn "${long[@]}" --resume
    says "and says so ($part)" torn "cannot be gone on from .somebody began to remove it.: it is removed"
    same "with the same bits ($part)" "$golden" "$(bits torn)"
    rm -rf "$work/runs/torn"
done

# The checkpoint directory cannot be written: training goes on, the end says so.
CLLM_FAULTS=$(creep 2) start_coord full "${long[@]}"
until_step full 2
until [ -f "$work/runs/full/checkpoints" ]; do # the saver may make it again in between
    rm -rf "$work/runs/full/checkpoints"
    touch "$work/runs/full/checkpoints"
done
release full
wait $coord
same "a run that cannot save ends with 1" 1 $?
check "after training to the end" grep -q '"step":300,' "$work/runs/full/journal.jsonl"
check "and says why" grep -q "cannot save step" "$work/full.log"
rm "$work/runs/full/checkpoints"
check "--resume saves what is in memory" coord full "${long[@]}" --resume
same "with the same bits" "$golden" "$(bits full)"

CLLM_FAULTS=$(creep 1) start_coord early "${long[@]}"
until [ -s "$work/runs/early/node-zero.ini" ] || ! kill -0 $coord 2>/dev/null; do sleep 0.001; done
kill -TERM $coord
wait $coord
same "a stop signal before Node Zero listens is heard" 75 $?
check "and the run goes on from there" coord early "${long[@]}" --resume
same "with the same bits" "$golden" "$(bits early)"

# A replayed step that does not give the recorded root is neither committed nor saved.
CLLM_FAULTS=$(creep 60) start_coord replay "${long[@]}" --set checkpoint.every=50
until_step replay 60
until [ -e "$work/runs/replay/checkpoints/last" ] || ! kill -0 $coord 2>/dev/null; do sleep 0.01; done
kill_tree
"$bin/cllm-shm" clean "$work/runs/replay" >/dev/null
cp "$work/runs/replay/journal.jsonl" "$work/journal.kept"
# The step after the newest checkpoint, however far the run came.
newest=$(basename "$(find "$work/runs/replay/checkpoints" -name 'step-??????????' | sort | tail -n 1)")
wrong=$((10#${newest#step-} + 1))
check "the run was killed after a checkpoint" grep -q "\"step\":$wrong," "$work/journal.kept"
sed -i "/\"step\":$wrong,/s/\"root\":\"[0-9a-f]*\"/\"root\":\"0123456789abcdef\"/" \
    "$work/runs/replay/journal.jsonl"
coord replay "${long[@]}" --resume --set checkpoint.every=50
same "a step that is done again with other bits stops the run with 3" 3 $?
check "and is not saved" test ! -e "$work/runs/replay/checkpoints/$(printf 'step-%010d' $wrong)"
cp "$work/journal.kept" "$work/runs/replay/journal.jsonl"
check "with the right record it goes on" coord replay "${long[@]}" --resume \
    --set checkpoint.every=50
same "to the same bits" "$golden" "$(bits replay)"

# A run that never saved anything is begun again with another configuration.
CLLM_FAULTS=$(creep 5) start_coord again "${quiet[@]}" --set train.learning_rate=1e-3
until_step again 5
kill_tree
"$bin/cllm-shm" clean "$work/runs/again" >/dev/null
check "what was never saved may be begun again, otherwise" coord again "${long[@]}"
same "with the bits of its configuration" "$golden" "$(bits again)"

# The directory of a live run is gone: nobody else may take its memory.
start_coord gone -n 1 --set train.steps=100000
until_step gone 3
mv "$work/runs/gone" "$work/runs/elsewhere"
"$bin/cllm-coord" "$root/configs/tiny.ini" --set "run.dir=$work/runs/gone" --set train.steps=100000 \
    --set "data.train=$work/data/train_*.bin" --set "data.valid=$work/data/val_*.bin" \
    -n 1 --resume >"$work/second.log" 2>&1
same "the memory of a live run is not taken over" 1 $?
check "and it is said why" grep -q "is alive in shared memory" "$work/second.log"
rm -rf "$work/runs/gone"
mv "$work/runs/elsewhere" "$work/runs/gone"
kill -TERM $coord
wait $coord
same "the live run does not mind" 75 $?

# The configuration is edited while the run goes on, then Node Zero is killed.
sed "s|^dir = .*|dir = $work/runs/edited|; s|data/tiny|$work/data|" "$root/configs/tiny.ini" >"$work/edited.ini"
CLLM_FAULTS=$(creep 5) "$bin/cllm-coord" "$work/edited.ini" "${long[@]}" >"$work/edited.log" 2>&1 &
coord=$!
until_step edited 5
sed -i 's/^learning_rate.*/learning_rate = 1e-4/' "$work/edited.ini"
kill -9 "$(node_zero)"
release edited
wait $coord
same "an edited configuration does not reach a run that goes on" "$golden" "$(bits edited)"

# Processes of an earlier start that are not gone yet, for a disk does not answer them, are waited
# for.
mkdir -p "$work/runs/held"
lock=$work/runs/held/generation.lock
(
    exec 9>"$lock"
    flock 9
    exec sleep 600
) &
holder=$!
while flock -n "$lock" true; do sleep 0.01; done
start_coord held "${long[@]}"
check "who is not gone yet is waited for" said held "processes of an earlier start of this run have not ended yet"
kill -9 $holder
wait $holder 2>/dev/null # bash says "Killed"
wait $coord
same "and then the run goes" 0 $?
same "to the same bits" "$golden" "$(bits held)"

(
    trap '' CHLD
    coord chld "${long[@]}"
)
same "an inherited SIGCHLD=ignore does no harm" "$golden" "$(bits chld)"
finish
