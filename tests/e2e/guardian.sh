#!/bin/bash
# What the guardian does about a Node Zero that lives and does not answer: a stopped one is
# replaced, one that goes on in time is left alone, and the bits are the same.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

long=(--set train.steps=200 --set checkpoint.every=20)
coord golden -n 2 "${long[@]}"
golden=$(bits golden)

# Stopped for ever.
CLLM_FAULTS=$(creep 12) start_coord stopped -n 2 "${long[@]}"
until_step stopped 12
zero=$(node_zero)
began=$(date +%s%N)
kill -STOP "$zero"
while [ "$(node_zero)" = "$zero" ] && kill -0 $coord 2>/dev/null; do sleep 0.02; done
took=$((($(date +%s%N) - began) / 1000000))
if [ $took -ge 2000 ]; then
    ok "a stopped Node Zero is ended after two seconds and a little ($took ms)"
else
    not_ok "a stopped Node Zero is ended after two seconds and a little" "$took ms"
fi
release stopped
wait $coord
same "its run ends" 0 $?
same "with the same bits" "$golden" "$(bits stopped)"
check "and people are told why" grep -q \
    "Node Zero stopped answering (stopped for [0-9]* s, state T): ended; a new one takes the run over" \
    "$work/stopped.log"

# Stopped for a moment, several times.
CLLM_FAULTS=$(creep 10) start_coord moment -n 2 "${long[@]}"
late=0
for step in 10 60 110; do
    until_step moment $step
    zero=$(node_zero)
    began=$(date +%s%N)
    kill -STOP "$zero"
    sleep 0.5
    kill -CONT "$zero"
    # A machine so busy that this took two seconds has had Node Zero replaced, rightly.
    [ $((($(date +%s%N) - began) / 1000000)) -lt 1900 ] || late=$((late + 1))
    [ $step = 110 ] || release moment $((step + 50))
done
release moment
wait $coord
same "a run whose Node Zero is stopped for half a second ends" 0 $?
same "with the same bits" "$golden" "$(bits moment)"
replaced=$(grep -c 'Node Zero stopped answering' "$work/moment.log")
check "and nobody is replaced, but for $late stops that took longer" test "$replaced" -le $late

# Guardian and Node Zero stopped together, for longer than the grace: nobody listened.
CLLM_FAULTS=$(creep 12) start_coord both -n 2 "${long[@]}"
until_step both 12
zero=$(node_zero)
kill -STOP $coord "$zero"
sleep 3.5
kill -CONT "$zero" $coord
release both
wait $coord
same "a run whose guardian was stopped with it ends" 0 $?
same "with the same bits" "$golden" "$(bits both)"
same "and nobody is replaced" 0 "$(grep -c 'Node Zero' "$work/both.log")"

# A fault signal ends Node Zero: its successor is told to distrust what it left.
CLLM_FAULTS=$(creep 12) start_coord fault -n 2 "${long[@]}"
until_step fault 12
zero=$(node_zero)
kill -SEGV "$zero"
until [ -n "$(node_zero)" ] && [ "$(node_zero)" != "$zero" ]; do
    kill -0 $coord 2>/dev/null || break
    sleep 0.01
done
until grep -qsa suspect "/proc/$(node_zero)/cmdline" || ! kill -0 $coord 2>/dev/null; do
    sleep 0.01
done
check "after SIGSEGV the next Node Zero is told" grep -qsa suspect "/proc/$(node_zero)/cmdline"
release fault
wait $coord
same "its run ends" 0 $?
same "with the same bits" "$golden" "$(bits fault)"

# Hung: asleep for ten minutes, and running in circles. Both at once, for it takes a while.
export CLLM_FAULTS=journal_written:sleep=600000:12
start_coord asleep -n 2 "${long[@]}"
asleep=$coord
export CLLM_FAULTS=journal_written:hang:12
start_coord circles -n 2 "${long[@]}"
circles=$coord
unset CLLM_FAULTS
began=$SECONDS
wait $asleep
same "a run whose Node Zero fell asleep ends" 0 $?
check "long before it would have woken" [ $((SECONDS - began)) -lt 300 ]
wait $circles
same "a run whose Node Zero runs in circles ends" 0 $?
for run in asleep circles; do
    same "with the same bits" "$golden" "$(bits $run)"
done
check "and people are told of the first" grep -q \
    "Node Zero stopped answering (no heartbeat for [0-9]* s, state S): ended" "$work/asleep.log"
check "and of the second" grep -q \
    "Node Zero stopped answering (no heartbeat for [0-9]* s, state R, running in circles): ended" \
    "$work/circles.log"
finish
