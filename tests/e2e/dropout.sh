#!/bin/bash
# Dropout, of attention's probabilities too: the same bits with any number of workers and threads,
# with what is computed again, after kills and after stop and resume; of both families.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }
drop=(--set train.dropout=0.2 --set train.attention_dropout=0.1 --set train.steps=16)

for config in tiny tiny-llama; do
    coord "$config" -n 2 "${drop[@]}"
    same "$config trains with dropout" 0 $?
    golden=$(bits "$config")
    coord "$config-1" -n 1 "${drop[@]}" --set compute.threads=3
    same "one worker of three threads has the same bits" "$golden" "$(bits "$config-1")"
    coord "$config-5" -n 5 "${drop[@]}" --set compute.recompute=block --set compute.isa=ref
    same "and five in plain C that compute blocks again" "$golden" "$(bits "$config-5")"
    for other in train.dropout train.attention_dropout; do
        coord "$config-without-$other" -n 2 "${drop[@]}" --set $other=0
        if [ "$golden" != "$(bits "$config-without-$other")" ]; then
            ok "and without $other they are others"
        else
            not_ok "and without $other they are others"
        fi
    done

    CLLM_FAULTS=$(creep 5) start_coord "$config-hurt" -n 2 "${drop[@]}"
    until_step "$config-hurt" 5
    kill -9 "$(children worker | head -1)"
    release "$config-hurt" 9
    until_step "$config-hurt" 9
    kill -TERM $coord
    wait $coord
    same "SIGTERM ends a run with 75" 75 $?
    for other in train.dropout train.attention_dropout; do
        if coord "$config-hurt" -n 1 --resume "${drop[@]}" --set $other=0.3; then
            not_ok "another share of $other is another run" "$(cat "$work/$config-hurt.log")"
        else
            ok "another share of $other is another run"
        fi
    done
    coord "$config-hurt" -n 3 "${drop[@]}" --resume
    same "it goes on to the same bits" "$golden" "$(bits "$config-hurt")"
done
finish
