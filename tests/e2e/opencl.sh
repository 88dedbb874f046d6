#!/bin/bash
# Training on an OpenCL device: the losses of the processor, one set of bits however many
# workers and whoever dies, what goes up and down, and what happens without the device.
set -u
. "$(dirname "$0")/lib.bash"
make_corpus || { not_ok "prepare a corpus"; finish; }

# Kernels are compiled once for the whole script.
export CLLM_CACHE_DIR=${CLLM_CACHE_DIR:-$work/cache}
mkdir -p "$CLLM_CACHE_DIR" "$work/none"
cl=(--set compute.backend=opencl)
coord cpu -n 2

# Without any driver: a clear end, or the processor where that is wanted.
OCL_ICD_VENDORS=$work/none coord none -n 1 "${cl[@]}"
same "without a device the run does not begin" 6 $?
says "and says so" none "compute.backend = opencl.*there is no device"
OCL_ICD_VENDORS=$work/none coord auto -n 2 --set compute.backend=auto
same "backend = auto goes on without one" 0 $?
says "and says why" auto "computed on the processor: no OpenCL GPU"
same "with the processor's bits" "$(bits cpu)" "$(bits auto)"
OCL_ICD_VENDORS=$work/none coord gone -n 2 "${cl[@]}" --set compute.on_device_loss=cpu
same "and so does on_device_loss = cpu" "$(bits cpu)" "$(bits gone)"

if ! "$bin/cllm-devices" | grep -q '"platform"'; then
    ok "training on a device # SKIP no OpenCL device: $("$bin/cllm-devices" | tr -d '\n' | tr -s ' ' | cut -c1-200)"
    finish
fi

# The counters of the run in the background, which is paused after step 20: KEY of slot 0.
counter()
{
    sed -n "/\"device\": {/,/}/s/.*\"$1\": \([0-9]*\).*/\1/p" "$work/shm.json" | head -n 1
}
CLLM_FAULTS=$(creep 20) start_coord one -n 1 "${cl[@]}"
until_step one 20
"$bin/cllm-ctl" "$work/runs/one" pause >/dev/null
until "$bin/cllm-shm" show --json "$work/runs/one" >"$work/shm.json" 2>/dev/null &&
    grep -q '"run_state": "paused"' "$work/shm.json"; do
    kill -0 $coord 2>/dev/null || break
    sleep 0.05
done
release one
"$bin/cllm-ctl" "$work/runs/one" resume >/dev/null
wait $coord
same "a run on a device ends" 0 $?
says "its worker says what it computes with" one "worker 0 is ready: opencl"
near "after 50 steps the loss is the processor's" "$(loss one 50)" "$(loss cpu 50)"
golden=$(bits one)

# tiny.ini: 34688 parameters in a vector of whole pages; 12 lanes of 2 x 33 tokens a step.
lanes=$(sed -n 's/.*"lanes_done": \([0-9]*\).*/\1/p' "$work/shm.json" | head -n 1)
evals=$(sed -n 's/.*"evals_done": \([0-9]*\).*/\1/p' "$work/shm.json" | head -n 1)
vector=$((34816 * 4)) batch=$((2 * 33 * 4))
# Step s reads the weights of step s - 1; its validation, those of step s a little early.
same "weights go up once a step" "$((lanes / 12))" \
    "$(($(counter weights_put) - (lanes / 12 % 10 == 0)))"
same "bytes up are weights and tokens" \
    "$(($(counter weights_put) * vector + (lanes + evals) * batch))" "$(counter up_bytes)"
few=$(($(counter down_bytes) - lanes * vector))
if [ $few -ge 0 ] && [ $few -le $(((lanes + evals) * 64)) ]; then
    ok "bytes down are a gradient for each lane and a few words"
else
    not_ok "bytes down are a gradient for each lane and a few words" "$few bytes more, $lanes lanes"
fi
same "no buffer is made once everything is warm" 0 "$(counter buffer_creates)"

for workers in 2 3; do
    coord "w$workers" -n $workers "${cl[@]}"
    same "the same bits with $workers workers" "$golden" "$(bits w$workers)"
done

# Killed again and again, before they are up and in the middle of lanes.
long=(--set train.steps=100 --set checkpoint.every=40)
coord long -n 1 "${cl[@]}" "${long[@]}"
CLLM_FAULTS=$(creep 3 40) start_coord killed -n 2 "${cl[@]}" "${long[@]}"
until_step killed 3
killed=0
while kill -0 $coord 2>/dev/null && [ $killed -lt 20 ]; do
    mapfile -t victims < <(children worker)
    [ ${#victims[@]} -gt 0 ] && kill -9 "${victims[RANDOM % ${#victims[@]}]}" 2>/dev/null &&
        killed=$((killed + 1))
    sleep "0.$((2 + RANDOM % 3))"
done
release killed
wait $coord
same "a run whose workers were killed ends" 0 $?
same "with the same bits" "$(bits long)" "$(bits killed)"
same "they were killed 20 times" 20 $killed

config=tiny-llama coord llama -n 2
config=tiny-llama coord llama1 -n 1 "${cl[@]}"
near "Llama: the loss is the processor's" "$(loss llama1 50)" "$(loss llama 50)"
config=tiny-llama coord llama3 -n 3 "${cl[@]}"
same "and the same bits with three workers" "$(bits llama1)" "$(bits llama3)"

# What is dropped depends on nobody: the processor drops the same.
for config in tiny tiny-llama; do
    drop=(--set train.attention_dropout=0.2 --set train.dropout=0.1)
    coord "drop-$config" -n 2 "${drop[@]}"
    coord "drop-$config-1" -n 1 "${cl[@]}" "${drop[@]}"
    near "$config, dropout: the loss is the processor's" "$(loss "drop-$config-1" 50)" \
        "$(loss "drop-$config" 50)"
    CLLM_FAULTS=$(creep 10) start_coord "drop-$config-3" -n 3 "${cl[@]}" "${drop[@]}"
    until_step "drop-$config-3" 10
    kill -9 "$(children worker | head -1)"
    release "drop-$config-3"
    wait $coord
    same "and the same bits with three workers, of which one was killed" \
        "$(bits "drop-$config-1")" "$(bits "drop-$config-3")"
done
unset config

# Operands of products in bf16.
half=(--set compute.precision=bf16)
coord half-cpu -n 2 "${half[@]}"
coord half1 -n 1 "${cl[@]}" "${half[@]}"
same "a run with bf16 on a device ends" 0 $?
says "its worker says so" half1 "worker 0 is ready: opencl, bf16"
near "bf16: the loss is the processor's" "$(loss half1 50)" "$(loss half-cpu 50)"
coord half3 -n 3 "${cl[@]}" "${half[@]}"
same "and the same bits with three workers" "$(bits half1)" "$(bits half3)"
check "which are not those of f32" test "$golden" != "$(bits half1)"
for precision in bf16-amx f32-amx; do
    coord "tiles-$precision" -n 1 "${cl[@]}" --set "compute.precision=$precision"
    same "a device has no tiles: $precision is refused" 2 $?
    says "and what there is instead is said" "tiles-$precision" \
        "compute.precision=${precision%-amx}"
done

# Which variant of a product is the fastest is measured, and leaves the bits alone.
# In a cache of our own: others may use that of all scripts.
cp -r "$CLLM_CACHE_DIR" "$work/tuned"
export CLLM_CACHE_DIR=$work/tuned
check "products are measured" "$bin/cllm-bench" --tune-opencl "$root/configs/tiny.ini"
check "and what is best is kept" ls "$CLLM_CACHE_DIR"/opencl/*.tune
coord tuned -n 2 "${cl[@]}"
says "workers use it" tuned "worker 0 is ready: opencl, f32, tuned"
same "with the same bits" "$golden" "$(bits tuned)"
for file in "$CLLM_CACHE_DIR"/opencl/*.tune; do echo x >>"$file"; done
coord damaged -n 1 "${cl[@]}"
says "a file that is damaged is not used" damaged "[.]tune is not used"
same "but the rule" 0 "$(grep -c "f32, tuned" "$work/damaged.log")"
same "with the same bits again" "$golden" "$(bits damaged)"
rm -f "$CLLM_CACHE_DIR"/opencl/*.tune

coord auto2 -n 1 --set compute.backend=auto
if "$bin/cllm-devices" | grep -q '"kind": "gpu"'; then
    says "backend = auto takes the GPU" auto2 "computed with OpenCL on .*a GPU was found"
else
    says "backend = auto passes over a device that is the processor" auto2 "no OpenCL GPU"
fi

# Faults: once is no matter, again and again is the policy's.
CLLM_FAULTS=device_lane:errno=EIO:40 coord once -n 2 "${cl[@]}"
same "a device that fails once costs nothing" "$golden" "$(bits once)"
says "and its worker says so" once "worker [01] .*exit code 6.*started again"
CLLM_FAULTS=device_lane:hang:40 coord hang -n 1 "${cl[@]}"
same "a kernel that never ends costs time alone" "$golden" "$(bits hang)"
says "its worker is ended" hang "worker 0 .*hangs .*ended"
CLLM_FAULTS='device_lane:errno=EIO:40*1000' coord stop -n 1 "${cl[@]}"
same "a device that fails for good stops the run" 6 $?
says "which says so" stop "failed 3 times in a row"
CLLM_FAULTS='device_lane:errno=EIO:40*1000:1' coord loss -n 2 "${cl[@]}" \
    --set compute.on_device_loss=cpu
same "or goes on with the processor" 0 $?
says "which it says" loss "the next worker there computes on the processor"
says "and that its bits are its own" loss "bits of this run are its own"
check "and the journal knows" grep -q '"mixed":true' "$work/runs/loss/journal.jsonl"
near "the losses are the same" "$(loss loss 50)" "$(loss cpu 50)"
CLLM_FAULTS='device_open:errno=EIO:1*1000' coord closed -n 2 "${cl[@]}" \
    --set compute.on_device_loss=cpu
same "a device that cannot be opened leaves the processor's bits" "$(bits cpu)" "$(bits closed)"

# Mixed on purpose.
coord mixed -n 2 "${cl[@]}" --set compute.device=auto,cpu
same "workers with and without a device train one model" 0 $?
says "and say that its bits are its own" mixed "bits of this run are its own"
near "the losses are the same" "$(loss mixed 50)" "$(loss cpu 50)"
coord threads -n 2 "${cl[@]}" --set compute.device=auto,cpu --set compute.threads=2
same "also where the processor's worker has two threads" 0 $?
says "the other has one" threads "a worker with a device has one thread"
coord audit -n 2 "${cl[@]}" --set compute.device=auto,cpu --set run.audit=2
same "which cannot be audited" 2 $?
finish
