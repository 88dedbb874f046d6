#!/bin/bash
# Dropout: the same bits with any number of workers and threads, with what is computed again, after
# kills and after stop and resume; of both families.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }
drop=(--set train.dropout=0.2 --set train.steps=30)

for config in tiny tiny-llama; do
    coord "$config" -n 2 "${drop[@]}"
    same "$config trains with dropout" 0 $?
    golden=$(bits "$config")
    coord "$config-1" -n 1 "${drop[@]}" --set compute.threads=3
    same "one worker of three threads has the same bits" "$golden" "$(bits "$config-1")"
    coord "$config-5" -n 5 "${drop[@]}" --set compute.recompute=block --set compute.isa=ref
    same "and five in plain C that compute blocks again" "$golden" "$(bits "$config-5")"
    coord "$config-0" -n 2 --set train.steps=30
    if [ "$golden" != "$(bits "$config-0")" ]; then
        ok "and without dropout they are others"
    else
        not_ok "and without dropout they are others"
    fi

    start_coord "$config-hurt" -n 2 "${drop[@]}"
    until_step "$config-hurt" 7
    kill -9 "$(children worker | head -1)" 2>/dev/null
    until_step "$config-hurt" 12
    kill -TERM $coord
    wait $coord
    same "SIGTERM ends a run with 75" 75 $?
    if coord "$config-hurt" -n 1 --resume --set train.steps=30 --set train.dropout=0.3; then
        not_ok "another share is another run" "$(cat "$work/$config-hurt.log")"
    else
        ok "another share is another run"
    fi
    coord "$config-hurt" -n 3 "${drop[@]}" --resume
    same "it goes on to the same bits" "$golden" "$(bits "$config-hurt")"
done
finish
