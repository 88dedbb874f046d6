#!/bin/bash
# A machine whose /dev/shm is too small, as containers have it: the run lives in memory that
# the guardian holds, gives the same bits, and any process but the guardian may be killed.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

if [ -z "${CLLM_SMALL_SHM:-}" ]; then
    coord golden -n 2 --set train.steps=200 --set checkpoint.every=20
    golden=$(bits golden)
    same "with room in /dev/shm nobody speaks of memfd" 0 "$(grep -c memfd "$work/golden.log")"
    # shellcheck disable=SC2016 # expanded by the inner shell
    if ! unshare -m sh -c 'mount -t tmpfs -o size=1m none /dev/shm' 2>/dev/null; then
        echo "ok $((n += 1)) - a small /dev/shm # SKIP may not mount one (unshare -m)"
        finish
    fi
    export CLLM_SMALL_SHM=1 CLLM_GOLDEN=$golden
    # The same script again, where /dev/shm has 1 MiB.
    unshare -m sh -c 'mount -t tmpfs -o size=1m none /dev/shm && exec bash "$0"' \
        "$(realpath "$0")"
    exit $((bad | $?))
fi
n=1
golden=$CLLM_GOLDEN

long=(--set train.steps=200 --set checkpoint.every=20)
held()
{
    readlink /proc/"$1"/fd/* 2>/dev/null | grep -c '^/memfd:cllm-.*deleted'
}

CLLM_FAULTS=$(creep 3) start_coord run -n 2 "${long[@]}"
until_step run 3
check "people are told what that means" grep -q \
    '/dev/shm has .* free and the run needs .*memfd.*newest checkpoint counts' "$work/run.log"
objects=$(held $coord)
if [ "$objects" -gt 4 ]; then
    ok "the guardian holds its $objects objects"
else
    not_ok "the guardian holds its objects" "$objects found"
fi
same "and Node Zero none" 0 "$(held "$(node_zero)")"
check "the saver, which looks for its objects, has no Landlock" grep -Eq \
    'saver .* is ready: .*, no (landlock|sandbox)' "$work/run.log"
same "nothing lies in /dev/shm" "" "$(ls /dev/shm)"
check "cllm-shm list finds the run" sh -c "'$bin/cllm-shm' list | grep -q '$work/runs/run'"
check "cllm-shm show too" "$bin/cllm-shm" show "$work/runs/run"
check "cllm-shm clean leaves it alone" sh -c "! '$bin/cllm-shm' clean '$work/runs/run'"
release run
wait $coord
same "it ends" 0 $?
same "with the same bits" "$golden" "$(bits run)"

# Workers, loader, saver.
CLLM_FAULTS=$(creep 2) start_coord kill -n 2 "${long[@]}"
until_step kill 2
for role in worker loader saver; do
    mapfile -t victims < <(children $role)
    [ ${#victims[@]} = 0 ] || kill -9 "${victims[0]}"
done
said kill 'killed by SIGKILL.*started again'
release kill
wait $coord
same "a run whose children were killed ends" 0 $?
same "with the same bits" "$golden" "$(bits kill)"
check "having been killed" grep -q 'killed by SIGKILL.*started again' "$work/kill.log"

# Node Zero.
CLLM_FAULTS=$(creep 2) start_coord zero -n 2 "${long[@]}"
for step in 2 40; do
    until_step zero $step
    kill -9 "$(node_zero)"
    if [ $step = 2 ]; then release zero 40; else release zero; fi
done
wait $coord
same "a run whose Node Zero was killed ends" 0 $?
same "with the same bits" "$golden" "$(bits zero)"
check "having been killed" grep -q 'Node Zero was killed' "$work/zero.log"
same "and each new one went on from memory" \
    "$(grep -c 'Node Zero was killed' "$work/zero.log")" \
    "$(grep -c 'in shared memory: going on from there' "$work/zero.log")"

# Node Zero dies while the objects are being made: there is nothing to go on from, and what
# was made is not in the way.
for point in control_made region_allocate:kill:7 control_publish control_ready; do
    case $point in *:*) fault=$point ;; *) fault=$point:kill ;; esac
    CLLM_FAULTS=$fault coord "${point%%:*}" -n 2 "${long[@]}"
    same "a run whose Node Zero is killed at ${point%%:*} ends" 0 $?
    same "with the same bits" "$golden" "$(bits "${point%%:*}")"
    check "having been killed" grep -q 'Node Zero was killed' "$work/${point%%:*}.log"
done

# The whole tree: the memory is gone, the newest checkpoint counts.
CLLM_FAULTS=$(creep 30) start_coord tree -n 2 "${long[@]}"
until_step tree 30
until [ -e "$work/runs/tree/checkpoints/last" ] || ! kill -0 $coord 2>/dev/null; do sleep 0.01; done
kill -9 $coord
wait $coord 2>/dev/null
coord tree -n 2 "${long[@]}" --resume
same "after the end of the whole tree --resume ends the run" 0 $?
same "with the same bits" "$golden" "$(bits tree)"
check "from the newest checkpoint" grep -q 'going on from checkpoint' "$work/tree.log"

# What ends, ends with its memory.
same "no object is left" "" "$("$bin/cllm-shm" list 2>/dev/null | grep "$work")"
finish
