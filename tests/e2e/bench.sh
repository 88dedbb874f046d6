#!/bin/bash
# cllm-bench: the figures are there and within reason, what cannot work is refused, and nothing
# is left behind, not even by a signal.
set -u
. "$(dirname "$0")/lib.bash"
cd "$root" || exit 1
export TMPDIR=$work/tmp
mkdir -p "$TMPDIR"

# Ours alone: run directories of cllm-bench are called "run" and lie in $TMPDIR.
left_behind()
{
    ls -A "$TMPDIR"
    "$bin/cllm-shm" list --json 2>/dev/null | grep -F "$TMPDIR"
}

# bench NAME [ARGUMENT...]: output in $work/NAME.out and .err
bench()
{
    local name=$1
    shift
    "$bin/cllm-bench" "$@" >"$work/$name.out" 2>"$work/$name.err"
}

# numbers KEY FILE: every number under that key, one a line
numbers()
{
    awk -v key="\"$1\":" '
        $1 == key && NF > 1 && $2 != "{" && $2 != "[" { print $2 + 0 }
        $1 == key && ($2 == "{" || $2 == "[") { on = 1; next }
        on && /[]}]/ { on = 0 }
        on { print ($1 ~ /:$/ ? $2 : $1) + 0 }' "$2"
}
# between NAME KEY LEAST MOST FILE: there are such numbers, and all lie there
between()
{
    local got
    got=$(numbers "$2" "$5")
    if [ -n "$got" ] && awk -v a="$3" -v b="$4" '$1 < a || $1 > b { bad = 1 } END { exit bad }' \
        <<<"$got"; then
        ok "$1"
    else
        not_ok "$1" "$2 from $3 to $4, found:
$got"
    fi
}

bench json nano --workers 2 --repeat 1 --steps 50 --json
same "a benchmark of nano succeeds" 0 $?
json=$work/json.out
between "tokens a second are counted" median 1 1e9 "$json"
between "the peak was measured" peak_gflops 0.1 1e6 "$json"
between "a copy was measured" copy_gb_s 0.01 1e5 "$json"
# What was measured at different times need not fit together on a busy machine.
between "shares of the peak are there" share_of_peak 0 100 "$json"
between "shares of the time are shares" phases 0 1.2 "$json"
between "workers are busy for a share of the time" busy 0 2 "$json"
between "processes have a share of a core" cpu_share 0 3 "$json"
between "Node Zero has one" node_zero_cpu_share 0 3 "$json"
between "bandwidth is a share of a copy's" share_of_copy 0 100 "$json"
same "the memory of guardian, Node Zero, two workers, loader and saver" 6 \
    "$(grep -c '^          "pss_bytes": [1-9]' "$json")"
same "the phases are all of the time" 1.00 \
    "$(numbers phases "$json" | awk '{ sum += $1 } END { printf "%.2f", sum }')"
same "nothing is left" "" "$(left_behind)"

bench turns nano --workers 1,2 --repeat 2 --steps 20 --set train.eval_every=5 --json
same "two numbers of workers take turns" 0 $?
same "with a repeat each and again" "2 2 2 2" \
    "$(awk '/"samples"/ { on = 1; n = 0; next } on && /]/ { on = 0; printf "%s ", n } on { n++ }
        /"workers":/ { w++ } END { print n, w }' "$work/turns.out" | cut -d' ' -f1-4)"
between "validation takes a share of the time when it is asked for" eval 1e-6 1 "$work/turns.out"

bench save nano --workers 1 --repeat 1 --steps 20 --checkpoint 10
same "what checkpoints cost is measured" 0 $?
check "and said" grep -q "checkpoints every 10 steps cost" "$work/save.out"
bench table nano --workers 1 --repeat 1 --steps 20 --markdown
check "a table for documents has as many cells as its head" \
    awk -F'|' '/^\|/ { if (n && NF != n) bad = 1; n = NF; rows++ } END { exit bad || rows != 3 }' \
    "$work/table.out"
bench kernels nano --kernels --json
same "every kernel alone" 0 $?
between "reaches something" reached 1e-6 1e6 "$work/kernels.out"
same "nothing is left" "" "$(left_behind)"

# refuses NAME PATTERN [ARGUMENT...]
refuses()
{
    local name=$1 pattern=$2 rc
    shift 2
    bench refused "$@"
    rc=$?
    if [ $rc = 2 ] && grep -qE "$pattern" "$work/refused.err" && [ ! -s "$work/refused.out" ]; then
        ok "refused: $name"
    else
        not_ok "refused: $name" "exit $rc; expected 2 and /$pattern/ in:
$(cat "$work/refused.err")"
    fi
}
refuses "no workers" '"0"' nano --workers 0
refuses "too many workers" '144.*"145"' nano -n 145
refuses "a list that ends with a comma" '"1,"' nano -n 1,
refuses "steps that are no number" 'steps.*"1x"' nano --steps 1x
refuses "too many repeats" '100.*"101"' nano --repeat 101
refuses "an empty number" 'repeat' nano --repeat=
refuses "two forms at once" 'json.*markdown' nano --json --markdown
refuses "checkpoints for several numbers of workers" 'checkpoint' nano -n 1,2 --checkpoint 5
refuses "two configurations" '"tiny"' nano tiny
refuses "a configuration that is nowhere" 'configs/nowhere.ini' nowhere
refuses "an option that is unknown" 'bogus' nano --bogus
refuses "a key that is unknown" "lanez.*" nano --set run.lanez=1
refuses "sizes that do not fit" 'multiple' nano --set model.width=7
# begun PID: wait until that benchmark's run has done steps
begun()
{
    until [ -s "$(echo "$TMPDIR"/cllm-bench.*/run/journal.jsonl)" ] || ! kill -0 "$1" 2>/dev/null; do
        sleep 0.05
    done
}
"$bin/cllm-bench" nano --workers 1 --steps 1000000 >"$work/dies.out" 2>"$work/dies.err" &
pid=$!
begun $pid
kill -KILL "$(pgrep -P $pid -x cllm-coord)"
wait $pid
same "a run that dies is a failure" 1 $?
check "and told, with what it said last" grep -q "detail: cllm-coord said: ..*" "$work/dies.err"
same "nothing is left" "" "$(left_behind)"

"$bin/cllm-bench" nano --workers 1 --steps 1000000 >"$work/signal.out" 2>"$work/signal.err" &
pid=$!
begun $pid
kill -TERM $pid
wait $pid
same "a signal ends it with 130" 130 $?
same "nothing is left" "" "$(left_behind)"
for delay in 0.02 0.1 0.2 0.4 0; do
    "$bin/cllm-bench" nano --workers 1 --steps 1000000 >"$work/twice.out" 2>"$work/twice.err" &
    pid=$!
    sleep $delay
    [ $delay != 0 ] || begun $pid
    kill -TERM $pid
    kill -TERM $pid
    wait $pid
done
same "nor when it is interrupted twice, while it begins or later" "" "$(left_behind)"
check "and it says why it ended" grep -q "ended by a signal" "$work/twice.err"
finish
