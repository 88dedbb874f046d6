#!/bin/bash
# The same bits with any number of workers, after a stop and resume, with and without ASLR.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

check "a run with two workers ends" coord two -n 2
golden=$(bits two)
for workers in 1 3 5 12; do
    coord "w$workers" -n $workers
    same "the same bits with $workers workers" "$golden" "$(bits w$workers)"
done

CLLM_FAULTS=$(creep 10) start_coord stop -n 3
until_step stop 10
kill -TERM $coord
wait $coord
same "SIGTERM ends a run with 75" 75 $?
check "it goes on from its checkpoint with another number of workers" coord stop -n 2 --resume
same "and ends with the same bits" "$golden" "$(bits stop)"

if command -v setarch >/dev/null; then
    setarch -R "$bin/cllm-coord" "$root/configs/tiny.ini" --set "run.dir=$work/runs/fixed" \
        --set "data.train=$work/data/train_*.bin" --set "data.valid=$work/data/val_*.bin" \
        -n 2 >"$work/fixed.log" 2>&1
    same "the same bits without address randomisation" "$golden" "$(bits fixed)"
fi

coord few -n 2 --set run.lane_buffers=3
same "the same bits with three lane buffers" "$golden" "$(bits few)"
# One lane or two stay in their buffers until the update.
coord folded -n 2 --set train.steps=12 --set train.batch=120 --set train.eval_batch=120
for lanes in 1 2; do
    extra=(--set "run.lanes=$lanes" --set train.steps=12 --set train.batch=120 --set train.eval_batch=120)
    coord kept -n 2 "${extra[@]}"
    coord alone -n 1 "${extra[@]}"
    CLLM_FAULTS=fold_written:kill:3,update_written:kill:6 coord hurt -n 2 "${extra[@]}"
    same "kept lanes ($lanes): the same bits with one worker and with two" "$(bits kept)" "$(bits alone)"
    same "kept lanes ($lanes): and after deaths" "$(bits kept)" "$(bits hurt)"
    check "kept lanes ($lanes): there were some" grep -q "killed by SIGKILL" "$work/hurt.log"
    near "kept lanes ($lanes): the loss is that of a fold" "$(loss kept 12)" "$(loss folded 12)"
    rm -rf "$work"/runs/{kept,alone,hurt}
done
coord pread -n 2 --set loader.method=pread
same "the same bits through pread" "$golden" "$(bits pread)"
for option in run.lanes=24 run.lanes=5 train.micro_batch=1 loss.crystalline=0.1 model.crystalline_bias=yes; do
    extra=(--set "$option" --set train.steps=12 --set train.batch=120 --set train.eval_batch=120)
    coord one -n 1 "${extra[@]}"
    coord four -n 4 "${extra[@]}"
    same "with $option the same bits with one and with four workers" "$(bits one)" "$(bits four)"
    rm -rf "$work/runs/one" "$work/runs/four"
done

coord other -n 2 --set train.seed=2
if [ "$golden" != "$(bits other)" ]; then
    ok "another seed gives other bits"
else
    not_ok "another seed gives other bits"
fi
finish
