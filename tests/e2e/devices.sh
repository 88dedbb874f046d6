#!/bin/bash
# What a run on an OpenCL device may do beyond the usual: smoothed targets, the learned bias of
# attention, adapters on a frozen model; what is counted and shown; a device that was lost stays
# lost when another Node Zero takes over; what is said of each way to fail; who has which device.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

# Kernels are compiled once for the whole script.
export CLLM_CACHE_DIR=${CLLM_CACHE_DIR:-$work/cache}
mkdir -p "$CLLM_CACHE_DIR"
cl=(--set compute.backend=opencl)

if ! "$bin/cllm-devices" | grep -q '"platform"'; then
    ok "training on a device # SKIP no OpenCL device: $("$bin/cllm-devices" | tr -d '\n' | tr -s ' ' | cut -c1-200)"
    finish
fi

# ---- the flavours

# flavour NAME CONFIG ARGUMENT...: its losses on the processor, and its bits with one worker,
# with two, and with one that is killed
flavour()
{
    local name=$1 config=$2
    shift 2
    coord "$name-cpu" -n 2 "$@"
    coord "$name" -n 1 "${cl[@]}" "$@"
    same "$name: a run on a device ends" 0 $?
    near "$name: with the loss of the processor" "$(loss "$name" 30)" "$(loss "$name-cpu" 30)"
    CLLM_FAULTS=$(creep 4) start_coord "$name-2" -n 2 "${cl[@]}" "$@"
    until_step "$name-2" 4
    kill -9 "$(children worker | head -1)"
    release "$name-2"
    wait $coord
    same "$name: the same bits with two workers, one of them killed" "$(bits "$name")" \
        "$(bits "$name-2")"
}
short=(--set train.steps=30 --set train.eval_every=15)
flavour bias tiny --set model.crystalline_bias=yes "${short[@]}"
flavour smooth tiny-llama --set loss.crystalline=0.1 --set model.crystalline_bias=yes "${short[@]}"
coord base -n 2 --set train.steps=20
check "a model is converted" "$bin/cllm-convert" -q "$work/runs/base" "$work/hf"
lora=(--set "train.from=$work/hf" --set lora.rank=4 --set train.learning_rate=1e-2 "${short[@]}")
flavour lora tiny "${lora[@]}" --set loss.crystalline=0.05

# ---- what is counted

# The run in the background is paused after step 20: what cllm-shm says of it.
look()
{
    until_step "$1" 20
    "$bin/cllm-ctl" "$work/runs/$1" pause >/dev/null
    until "$bin/cllm-shm" show --json "$work/runs/$1" >"$work/shm.json" 2>/dev/null &&
        grep -q '"run_state": "paused"' "$work/shm.json"; do
        kill -0 $coord 2>/dev/null || break
        sleep 0.05
    done
    "$bin/cllm-shm" show "$work/runs/$1" >"$work/shm.txt" 2>/dev/null
    release "$1"
    "$bin/cllm-ctl" "$work/runs/$1" resume >/dev/null
    wait $coord
}
counter()
{
    sed -n "/\"device\": {/,/}/s/.*\"$1\": \([0-9]*\).*/\1/p" "$work/shm.json" | head -n 1
}
CLLM_FAULTS=$(creep 20) start_coord counted -n 1 "${cl[@]}" "${lora[@]}" --set compute.profile=yes
look counted
lanes=$(sed -n 's/.*"lanes_done": \([0-9]*\).*/\1/p' "$work/shm.json" | head -n 1)
evals=$(sed -n 's/.*"evals_done": \([0-9]*\).*/\1/p' "$work/shm.json" | head -n 1)
trained=$(sed -n "s/.*run [^ ]*: \([0-9]*\) parameters.*/\1/p" "$work/counted.log" | head -n 1)
pages=$(((trained + 1023) / 1024)) batch=$((2 * 33 * 4))
vector=$((pages * 4096))
same "adapters go up once a step, and the tokens: no frozen weight" \
    "$(($(counter weights_put) * vector + (lanes + evals) * batch))" "$(counter up_bytes)"
same "no buffer is made once everything is warm" 0 "$(counter buffer_creates)"
same "each buffer that was wanted was found" "$(counter buffer_acquires)" "$(counter buffer_hits)"
if [ "$(counter program_loads)" -gt 10 ] && [ "$(counter program_ns)" -gt 0 ] &&
    [ "$(counter warm_ns)" -gt "$(counter program_ns)" ]; then
    ok "the start says how long programs took"
else
    not_ok "the start says how long programs took" "$(grep -A 20 '"device": {' "$work/shm.json")"
fi
if [ "$(counter kernel_ns)" -gt 0 ] && [ "$(counter copy_ns)" -gt 0 ] &&
    [ "$(counter overlap_ns)" -le "$(counter copy_ns)" ]; then
    ok "a profile says how long kernels and transfers ran"
else
    not_ok "a profile says how long kernels and transfers ran" "$(grep -A 20 '"device": {' "$work/shm.json")"
fi
check "for people, too" grep -Eq "kernels ran for .*, transfers for .*, both for " "$work/shm.txt"
check "and what was moved" grep -Eq "device .*: .* up, .* down, [0-9]+ launches" "$work/shm.txt"
same "the same bits with a profile" "$(coord again -n 1 "${cl[@]}" "${lora[@]}"; bits again)" \
    "$(bits counted)"
# A step without validation: adapters, and the tokens of 12 lanes; 12 gradients and a few words.
line=$(grep '"step":7,' "$work/runs/counted/metrics.jsonl")
number()
{
    sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" <<<"$line"
}
same "a line of the metrics has the bytes that went up" $((vector + 12 * batch)) \
    "$(number device_up_bytes)"
few=$(($(number device_down_bytes) - 12 * vector))
same "and those that came down" 1 $((few >= 0 && few <= 12 * 64))
same "and no buffer" 0 "$(number device_buffers_made)"
check "and the times of a profile" grep -q '"device_kernel_s":[0-9.]*,"device_copy_s"' <<<"$line"
same "none of that without a device" "" "$(grep -h device_ "$work/runs/base/metrics.jsonl")"

# ---- a device that was lost stays lost

# Worker 1's device fails for good from the sixth lane on; the processor takes its place.
gone='device_lane:errno=EIO:6*1000:1'
CLLM_FAULTS="$gone,$(creep 1 30)" start_coord lost -n 2 "${cl[@]}" \
    --set compute.on_device_loss=cpu --set train.steps=120
until grep -q "the next worker there computes on the processor" "$work/lost.log"; do
    kill -0 $coord 2>/dev/null || break
    sleep 0.02
done
"$bin/cllm-shm" show "$work/runs/lost" >"$work/lost.txt" 2>/dev/null
step=$(wc -l <"$work/runs/lost/journal.jsonl")
until_step lost $((step + 3))
kill -9 "$(node_zero)"
arm lost "$gone"
wait $coord
same "a run whose Node Zero died after a device was lost ends" 0 $?
says "another one took over" lost "took over at step"
says "and knows of the loss" lost "worker 1 computes on the processor: its device was lost before"
same "the device was not tried again" 3 "$(grep -c 'worker 1 .*exit code 6' "$work/lost.log")"
check "cllm-shm says it" grep -q "lost its device" "$work/lost.txt"
coord plain -n 2 --set train.steps=120
near "the losses are the same" "$(loss lost 120)" "$(loss plain 120)"

# ---- how a device fails, and what is said

# Once, in mid-run: a worker that dies of it is started again, and no bit changes.
coord golden -n 1 "${cl[@]}"
CLLM_FAULTS=device_launch:errno=EIO:20000 coord launch -n 1 "${cl[@]}"
same "a launch that fails costs time alone" "$(bits golden)" "$(bits launch)"
says "what, where and why is said" launch "device [0-9:]*: cannot launch kernel [a-z_]*"
says "with OpenCL's name for it" launch "OpenCL: CL_OUT_OF_RESOURCES"
says "and where to look" launch "dmesg"
CLLM_FAULTS=device_wait:errno=EIO:3000 coord wait -n 2 "${cl[@]}"
same "so does a device that is lost while it computes" "$(bits golden)" "$(bits wait)"
says "which is said" wait "cannot go on: the device has failed"
says "with OpenCL's name for it" wait "OpenCL: CL_DEVICE_NOT_AVAILABLE"

# For good, from the start.
CLLM_FAULTS='device_memory:errno=ENOMEM:4*1000' coord memory -n 1 "${cl[@]}"
same "a device without memory stops the run" 6 $?
says "what was wanted is said" memory "cannot get .* of the device's memory"
says "and how to need less" memory "it has .*, of which this process holds .*: fewer sequences in a micro-batch"
mkdir "$work/kernels"
cp "$root"/compute/opencl/*.cl "$work/kernels/"
sed -i 's/^kernel void rope(/kernel void no_such_type rope(/' "$work/kernels/rope.cl"
CLLM_OPENCL_KERNELS=$work/kernels coord build -n 1 "${cl[@]}"
same "kernels that do not compile stop the run" 6 $?
says "which ones is said" build "cannot compile the kernels common.cl rope.cl for "
says "and what the compiler says" build "error: rope.cl:[0-9]+:"
says "and what to do" build "CLLM_LOG=debug shows all that the compiler says"

# A kernel that never ends, once the model is so good: not to be mended by trying again.
cp "$root/compute/opencl/rope.cl" "$work/kernels/"
awk '/sum_losses\(/ { found = 1 }
     { print }
     found && /if \(item == 0\)/ { print "        while (scratch[0].x / n < 5.0f) scratch[0].y = 0.0f;"; found = 0 }' \
    "$root/compute/opencl/loss.cl" >"$work/kernels/loss.cl"
CLLM_OPENCL_KERNELS=$work/kernels coord spin -n 1 "${cl[@]}" --set compute.on_device_loss=cpu
same "a kernel that never ends takes a worker's device" 0 $?
says "its worker hangs and is ended" spin "worker 0 .*hangs .*ended"
says "three times" spin "failed 3 times in a row: the next worker there computes on the processor"
near "and the run goes on" "$(loss spin 50)" "$(loss golden 50)"

# ---- who has which device

device=$(sed -n 's/.*lanes are computed with OpenCL on \([^;,]*\).*/\1/p' "$work/golden.log" | head -n 1)
check "a run says its device" test -n "$device"
says "and so does each worker" golden "worker 0 is ready: opencl.*; device [0-9]*:[0-9]*, ."
coord mapped -n 3 "${cl[@]}" --set 'compute.device=0:0, cpu'
says "slots take the list in turn: the first" mapped "worker 0 is ready: opencl.*; device 0:0, "
same "the second is the processor" 1 "$(grep -c 'worker 1 is ready: [^o]' "$work/mapped.log")"
says "and the third again a device" mapped "worker 2 is ready: opencl.*; device 0:0, "
says "a mixed run says that its bits are its own" mapped "bits of this run are its own"
near "the losses are the same" "$(loss mapped 50)" "$(loss golden 50)"
coord unknown -n 1 "${cl[@]}" --set compute.device=abacus:
same "a device that is not there is refused" 6 $?
says "by name" unknown "abacus"
finish
