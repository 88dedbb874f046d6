#!/bin/bash
# What cannot work is refused before training, with what, where, expected, found, and how to mend
# it; nothing is overwritten.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

# refuses NAME EXIT PATTERN [ARGUMENT...]
refuses()
{
    local name=$1 code=$2 pattern=$3 rc
    shift 3
    coord bad "$@"
    rc=$?
    if [ $rc = "$code" ] && grep -qE "$pattern" "$work/bad.log"; then
        ok "$name"
    else
        not_ok "$name" "exit $rc, expected $code; expected /$pattern/ in:
$(cat "$work/bad.log")"
    fi
    rm -rf "$work/runs/bad"
}

shard=$work/data/train_000.bin

refuses "a missing shard" 2 "nowhere" --set "data.train=$work/nowhere_*.bin"
head -c 5000 "$shard" >"$work/short.bin"
refuses "a truncated shard" 3 "short.bin.*" --set "data.train=$work/short.bin"
(printf 'not a shard at all'; head -c 4000 /dev/zero) >"$work/magic.bin"
refuses "a file with the wrong magic" 3 "magic" --set "data.train=$work/magic.bin"
refuses "a token beyond the vocabulary" 3 "token" --set model.vocab=64
refuses "an unknown option" 2 "did you mean 'learning_rate'" --set train.lerning_rate=1
refuses "zero workers" 2 "workers.*'0'.*from 1" -n 0
refuses "a context longer than a shard" 3 "context|window" --set model.context=60000 --set train.batch=12
refuses "a batch that lanes do not divide" 2 "nearest: 24 or 36" --set train.batch=30
refuses "an unwritable run directory" 1 "run directory|cannot make|Not a directory" \
    --set "run.dir=/proc/cllm"
refuses "more shared memory than there is" 1 "the run needs .* of shared memory, .* are free" --set model.width=8192 \
    --set model.layers=64 --set run.lane_buffers=12

start_coord first -n 1 --set train.steps=100000 --set train.warmup=1
until_step first 2
"$bin/cllm-coord" "$root/configs/tiny.ini" --set "run.dir=$work/runs/first" \
    --set "data.train=$work/data/train_*.bin" --set "data.valid=$work/data/val_*.bin" \
    >"$work/second.log" 2>&1
same "a second coordinator on the same run is refused" 1 $?
check "and told who drives it" grep -q "another coordinator drives the run" "$work/second.log"
if "$bin/cllm-shm" clean "$work/runs/first" >/dev/null 2>&1; then
    not_ok "a live run is not cleaned away"
else
    ok "a live run is not cleaned away"
fi
kill -INT $coord
wait $coord
same "an interrupt ends a run with 75" 75 $?

coord short -n 2 --set train.steps=3 --set train.eval_every=0
check "a run of three steps ends" test -d "$work/runs/short/checkpoints/step-0000000003"
before=$(bits short)
coord short -n 2 --set train.steps=3 --set train.eval_every=0
same "a run directory with a run in it is not begun again" 2 $?
same "and nothing in it has changed" "$before" "$(bits short)"
finish
