#!/bin/bash
# Steering a run that goes on: more and fewer workers, pause, checkpoint, stop. Whatever is
# asked, the bits are those of a run that was left alone.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

long=(--set train.steps=200 --set checkpoint.every=100 --set run.lane_buffers=8)
coord golden -n 2 "${long[@]}"
golden=$(bits golden)

# ctl NAME COMMAND [ARGUMENT]
ctl()
{
    local name=$1
    shift
    "$bin/cllm-ctl" "$work/runs/$name" "$@" 2>&1
}
# start_slow NAME [ARGUMENT...]: a run that does not end before it is asked to stop
start_slow()
{
    CLLM_FAULTS='lane_summed:sleep=100:49*1000000,lane_begun:sleep=1500:1000*1000000' \
        start_coord "$@"
}
# go_on NAME: stop it, and on with it to its end, at full speed
go_on()
{
    ctl "$1" stop >/dev/null
    wait $coord
    same "it stops as asked" 75 $?
    coord "$1" -n 2 "${long[@]}" --resume
}
n_workers()
{
    pgrep -P "$(node_zero)" -x cllm-worker | wc -l
}
# until_workers N: wait until there are so many processes
until_workers()
{
    local limit=$((SECONDS + patience))
    until [ "$(n_workers)" = "$1" ]; do
        [ $SECONDS -lt $limit ] || return 1
        sleep 0.05
    done
}

# ---- the number of workers ----

start_slow count -n 1 "${long[@]}"
until_step count 5
same "the socket is for its owner alone" 600 "$(stat -c %a "$work/runs/count/control.sock")"
check "five workers instead of one" ctl count workers 5
check "come" until_field count workers_ready 5
same "as processes" 5 "$(n_workers)"
until_step count $(($(field count step) + 3))
check "two instead of five" ctl count workers 2
check "remain" until_field count workers_ready 2
check "as processes" until_workers 2
until_step count $(($(field count step) + 3))
same "who left did not die" 0 "$(field count deaths)"
text=$(ctl count workers 0)
same "no worker at all is refused as usage" 2 $?
check "with the range" grep -q "1 to 12 workers, not 0" <<<"$text"
ctl count workers 13 >/dev/null
same "so is one too many" 2 $?
ctl count workers 1.5 >/dev/null
same "and what is no number" 2 $?
# Up and down again and again, also before a worker has come up or left.
for workers in 7 1 12 3 1 5 2 9 4 2; do
    ctl count workers $workers >/dev/null
    sleep 0.0$((RANDOM % 10))
done
check "after much to and fro the last word counts" until_field count workers_ready 2
kill -0 $coord 2>/dev/null && ok "while the run went on" || not_ok "while the run went on"
go_on count
same "a run with 1, 5, 2 and other numbers of workers ends" 0 $?
same "with the same bits" "$golden" "$(bits count)"
check "and takes its socket away" test ! -e "$work/runs/count/control.sock"

# A worker is killed, and another stands still, while they are to leave.
start_slow fewer -n 6 "${long[@]}"
until_step fewer 5
mapfile -t victims < <(pgrep -P "$(node_zero)" -x cllm-worker)
ctl fewer workers 2 >/dev/null
kill -9 "${victims[5]}" "${victims[1]}" 2>/dev/null
check "killed as their number is lowered" until_field fewer workers_ready 2
until_step fewer $(($(field fewer step) + 3))
ctl fewer pause >/dev/null
until_field fewer state paused
# One that stands still does not hear that it is to leave. It is asked to within two seconds, or
# it is replaced: then this is tried again.
for _ in 1 2 3 4 5 6; do
    ctl fewer workers 4 >/dev/null
    until_field fewer workers_ready 4
    victim=$(pgrep -n -P "$(node_zero)" -x cllm-worker)
    kill -STOP "$victim"
    until grep -qs '^State:.T' "/proc/$victim/status" || ! kill -0 "$victim" 2>/dev/null; do
        sleep 0.01
    done
    ctl fewer workers 1 >/dev/null
    said fewer "\(pid $victim\) killed by SIGKILL"
    ! grep -q "(pid $victim) killed by SIGKILL.*started again" "$work/fewer.log" || continue
    break
done
check "one worker is left" until_field fewer workers_ready 1
check "and one that does not leave is ended" said fewer "worker [0-9]+ \(pid $victim\) stays stopped at .*: ended"
check "as a process" until_workers 1
check "and it is said that it is not replaced" \
    said fewer "\(pid $victim\) killed by SIGKILL.*not wanted any more"
# Another hears it, and hangs.
arm fewer worker_exit:hang
ctl fewer workers 3 >/dev/null
until_field fewer workers_ready 3
ctl fewer workers 1 >/dev/null
check "who is told to leave and hangs is ended" \
    said fewer "worker [12] \(pid [0-9]+\) does not leave: ended"
check "as a process" until_workers 1
check "is left" until_field fewer workers_ready 1
arm fewer "lane_summed:sleep=100:1*1000000"
ctl fewer resume >/dev/null
go_on fewer
same "a run whose workers die as they leave ends" 0 $?
same "with the same bits" "$golden" "$(bits fewer)"

# Node Zero is killed: the next one wants as many workers, and stays paused.
CLLM_FAULTS=$(creep 5) start_coord zero -n 1 "${long[@]}"
until_step zero 5
ctl zero workers 3 >/dev/null
ctl zero pause >/dev/null
until_field zero state paused
held=$(field zero step)
old=$(node_zero)
kill -9 "$old"
sleep 0.3
check "cllm-ctl waits for the next Node Zero" until_field zero state paused
same "which stays paused at the same step" "$held" "$(field zero step)"
check "with as many workers" until_field zero workers_ready 3
release zero
check "and goes on when asked" ctl zero resume
wait $coord
same "to the end" 0 $?
same "with the same bits" "$golden" "$(bits zero)"

# ---- pause, checkpoint ----

CLLM_FAULTS=$(creep 8) start_coord rest -n 3 "${long[@]}" --set checkpoint.every=0 --set checkpoint.best=no
until_step rest 8
check "a checkpoint now" ctl rest checkpoint
until [ "$(field rest saved_step)" != 0 ] || ! kill -0 $coord 2>/dev/null; do sleep 0.02; done
saved=$(field rest saved_step)
check "as a directory" test -d "$work/runs/rest/checkpoints/step-$(printf %010d "$saved")"
check "pause" ctl rest pause
check "is in force" until_field rest state paused
held=$(field rest step)
check "and seen by cllm-shm" grep -q "live, paused" <("$bin/cllm-shm" show "$work/runs/rest")
sleep 1
same "nothing is committed for a second" "$held" "$(field rest step)"
check "a checkpoint during the pause" ctl rest checkpoint
check "is written" until_field rest saved_step "$held"
kill -9 "$(pgrep -P "$(node_zero)" -x cllm-saver)"
check "a second pause changes nothing" grep -q already <(ctl rest pause)
check "resume" ctl rest resume
check "goes on" until_step rest $((held + 1))
release rest
wait $coord
same "a run that rested ends" 0 $?
same "with the same bits" "$golden" "$(bits rest)"

# ---- stop ----

CLLM_FAULTS=$(creep 7) start_coord stop -n 2 "${long[@]}"
until_step stop 7
check "stop" ctl stop stop
wait $coord
same "ends the run with 75" 75 $?
check "it goes on from there" coord stop -n 3 "${long[@]}" --resume
same "with the same bits" "$golden" "$(bits stop)"

CLLM_FAULTS=$(creep 7) start_coord still -n 2 "${long[@]}" --set checkpoint.every=0
until_step still 7
ctl still pause >/dev/null
until_field still state paused
held=$(field still step)
check "stop during a pause" ctl still stop
wait $coord
same "ends the run with 75 as well" 75 $?
check "with a checkpoint" test -d "$work/runs/still/checkpoints/step-$(printf %010d "$held")"
check "it goes on from there" coord still -n 2 "${long[@]}" --resume
same "with the same bits" "$golden" "$(bits still)"

# Node Zero is killed while the last checkpoint is being written: the next one stops as well.
CLLM_FAULTS=$(creep 7) start_coord heir -n 2 "${long[@]}" --set checkpoint.every=0 --set checkpoint.best=no
until_step heir 7
kill -STOP "$(pgrep -P "$(node_zero)" -x cllm-saver)"
ctl heir stop >/dev/null
until_field heir state stopping
sleep 0.2
kill -9 "$(node_zero)"
wait $coord
same "who asked for a stop need not ask the next Node Zero" 75 $?
check "it goes on from there" coord heir -n 2 "${long[@]}" --resume
same "with the same bits" "$golden" "$(bits heir)"

CLLM_FAULTS=$(creep 7) start_coord term -n 2 "${long[@]}"
until_step term 7
ctl term pause >/dev/null
until_field term state paused
kill -TERM $coord
wait $coord
same "SIGTERM ends a paused run too" 75 $?

# ---- clients that are no clients, runs that are no runs ----

CLLM_FAULTS=$(creep 3) start_coord noise -n 2 "${long[@]}"
until_step noise 3
python=$(command -v python3)
if [ -n "$python" ]; then
    $python - "$work/runs/noise/control.sock" <<'PYTHON'
import os, socket, sys
os.chdir(os.path.dirname(sys.argv[1]))
keep = []
for i in range(100):
    s = socket.socket(socket.AF_UNIX)
    s.connect("control.sock")
    try:
        if i % 4 == 0:
            s.sendall(os.urandom(300))
        elif i % 4 == 1:
            s.sendall(b"status\n")  # and never reads
        elif i % 4 == 2:
            s.sendall(b"stat")      # and never ends its line
    except OSError:
        pass                        # it was slow, and let go
    keep.append(s)
    if len(keep) > 40:
        keep.pop(0).close()
PYTHON
    same "a hundred bad clients come and go" 0 $?
fi
check "an honest one is served" until_field noise workers 2
release noise
wait $coord
same "the run does not mind" 0 $?
same "with the same bits" "$golden" "$(bits noise)"

CLLM_FAULTS=$(creep 5) start_coord dead -n 1 "${long[@]}"
until_step dead 5
kill_tree
text=$(ctl dead status)
same "a dead run cannot be steered" 1 $?
check "and is called dead" grep -q "is dead: nobody drives it" <<<"$text"
release dead
check "--resume replaces the socket it left behind" test -S "$work/runs/dead/control.sock"
check "and ends" coord dead -n 2 "${long[@]}" --resume
same "with the same bits" "$golden" "$(bits dead)"
text=$(ctl dead status)
same "a run that has ended cannot be steered" 1 $?
check "and is not found" grep -q "has ended, or is not in memory" <<<"$text"
"$bin/cllm-ctl" "$work/runs/dead" sing >/dev/null 2>&1
same "an unknown command is usage" 2 $?
"$bin/cllm-ctl" "$work/runs/dead" >/dev/null 2>&1
same "no command as well" 2 $?
finish
