#!/bin/bash
# tests/e2e/lora.sh - adapters on a frozen model: the start is the model, the bits are the
# same for any number of workers and however it is killed, also while it begins; what comes
# out merges, speaks and is measured; what is not the same model is refused.

. "$(dirname "$0")/lib.bash"
make_corpus

# shellcheck disable=SC2317 # called by check
convert()
{
    "$bin/cllm-convert" -q "$@"
}

# tune NAME FROM [ARGUMENT...]
tune_options=(--set train.steps=24 --set train.eval_every=8 --set checkpoint.every=8
    --set train.warmup=2 --set train.learning_rate=1e-2)
tune()
{
    local name=$1 from=$2
    shift 2
    coord "$name" --set "train.from=$from" "${tune_options[@]}" --set lora.rank=4 "$@"
}
start_tune()
{
    local name=$1 from=$2
    shift 2
    start_coord "$name" --set "train.from=$from" "${tune_options[@]}" --set lora.rank=4 "$@"
}
losses()
{
    sed -n 's/.*"step":\([0-9]*\),"loss":\([0-9.]*\).*/\1 \2/p' "$work/runs/$1/metrics.jsonl"
}
# refused NAME CODE TEXT ARGUMENT...: the run NAME ends with CODE and says TEXT
refused()
{
    local name=$1 code=$2 text=$3
    shift 3
    tune "$name" "$@"
    same "refused with $code: $text" "$code" $?
    check "and named" grep -q -- "$text" "$work/$name.log"
}

for config in tiny tiny-llama; do
    base=$config-base hf=$work/$config-hf
    targets=all
    [ $config = tiny ] || targets='q_proj, v_proj'

    coord $base -n 2 --set train.steps=60 --set train.eval_every=60
    check "$config: a model is converted" convert "$work/runs/$base" "$hf"
    coord plain -n 1 --set "train.from=$hf" "${tune_options[@]}" --set train.steps=2
    tune golden "$hf" -n 1 --set "lora.targets=$targets"
    same "$config: adapters are trained" 0 $?
    golden=$(bits golden)
    same "$config: the first loss is the frozen model's" "$(losses plain | head -1)" \
        "$(losses golden | head -1)"
    same "$config: and less afterwards" yes "$(losses golden | awk '
        NR == 1 { first = $2 } END { print $2 < first ? "yes" : "no" }')"
    for workers in 2 3; do
        tune other "$hf" -n $workers --set "lora.targets=$targets" \
            --set compute.recompute=block --set run.lane_buffers=4
        same "$config: the same bits with $workers workers" "$golden" "$(bits other)"
        rm -rf "$work/runs/other"
    done

    # Workers, saver and Node Zero are killed while it trains; then all, and it is resumed.
    CLLM_FAULTS=$(creep 2) start_tune killed "$hf" -n 2 --set "lora.targets=$targets"
    for step in 2 5 9 13; do
        until_step killed $step
        { children worker | head -1 && children saver; } | xargs -r kill -9 2>/dev/null
        release killed $((step + 2))
        until_step killed $((step + 2))
        kill -9 "$(node_zero)"
        release killed $((step + (step == 2 ? 3 : 4)))
    done
    until_step killed 17
    kill_tree 2>/dev/null
    release killed
    same "$config: it was killed before its end" 0 \
        "$(grep -c '"step":24,' "$work/runs/killed/journal.jsonl")"
    tune killed "$hf" -n 1 --set "lora.targets=$targets" --resume
    same "$config: the same bits after kills of everything" "$golden" "$(bits killed)"
    rm -rf "$work/runs/killed"

    # Killed while it begins, at any moment, by the whole tree or Node Zero alone.
    for ((i = 0; i < 12; i++)); do
        start_tune killed "$hf" -n 2 --set "lora.targets=$targets" --resume
        sleep "0.0$((i % 10))"
        [ $((i % 2)) = 0 ] || kill -9 "$(node_zero)" 2>/dev/null
        sleep "0.0$((i % 3))"
        kill -9 "$coord" 2>/dev/null
        wait "$coord" 2>/dev/null
    done
    tune killed "$hf" -n 2 --set "lora.targets=$targets" --resume
    same "$config: the same bits after kills while it began" "$golden" "$(bits killed)"
    rm -rf "$work/runs/killed" "$work/runs/plain"

    # What comes out.
    run=$work/runs/golden merged=$work/$config-merged
    check "$config: adapters are merged into a model" convert "$run" "$merged"
    check "$config: into a GGUF file" convert --to=gguf "$run" "$merged.gguf"
    for model in "$run" "$merged" "$merged.gguf" "$run/base"; do
        "$bin/cllm-eval" --json -T 1 "$model" "$work/data" 2>/dev/null |
            sed -n 's/.*"loss_sum_hex": "\([^"]*\).*/\1/p' >"$work/loss.${model##*/}"
    done
    check "$config: the adapted model has a loss" grep -q 0x1 "$work/loss.golden"
    same "$config: what is merged has the same loss" "$(cat "$work/loss.golden")" \
        "$(cat "$work/loss.$config-merged")"
    same "$config: also as GGUF" "$(cat "$work/loss.golden")" \
        "$(cat "$work/loss.$config-merged.gguf")"
    if [ "$(cat "$work/loss.golden")" = "$(cat "$work/loss.base")" ]; then
        not_ok "$config: and another than the frozen model"
    else
        ok "$config: and another than the frozen model"
    fi
    for model in "$run" "$merged"; do
        "$bin/cllm-generate" --greedy -n 24 -p "the fox" "$model" \
            >"$work/said.${model##*/}" 2>/dev/null
    done
    check "$config: it says something" grep -q fox "$work/said.golden"
    same "$config: and says the same" "$(cat "$work/said.golden")" \
        "$(cat "$work/said.$config-merged")"
    [ $config = tiny ] && mv "$run" "$work/runs/first"
    rm -rf "$work/runs/golden"
done

config=tiny hf=$work/tiny-hf

# Without shared memory, and without the model that it began from.
CLLM_FAULTS=$(creep 11) start_tune away "$hf" -n 2 --set lora.targets=all
until_step away 11
kill_tree 2>/dev/null
same "it is killed before its end" 0 \
    "$(grep -c '"step":24,' "$work/runs/away/journal.jsonl")"
"$bin/cllm-shm" clean "$work/runs/away" >/dev/null 2>&1
mv "$hf" "$work/gone"
cp -r "$work/runs/away" "$work/away.copy"
tune away "$hf" --set lora.targets=all -n 1 --resume
same "resumed from a checkpoint, the model gone: the same bits" \
    "$(cd "$work/runs/first/checkpoints/last/" && sha256sum ./*.safetensors ./*.json)" \
    "$(cd "$work/runs/away/checkpoints/last/" && sha256sum ./*.safetensors ./*.json)"

# A frozen model that has changed.
damage()
{
    rm -rf "$work/runs/away"
    cp -r "$work/away.copy" "$work/runs/away"
}
damage
printf '\001' | dd of="$work/runs/away/base/model.safetensors" bs=1 seek=20000 conv=notrunc 2>/dev/null
refused away 3 "does not hold the weights that the adapters are for" "$hf" \
    --set lora.targets=all --resume
damage
rm -rf "$work/runs/away/base"
cp -r "$work/tiny-llama-hf" "$work/runs/away/base"
refused away 3 "is not the model that the adapters are for" "$hf" --set lora.targets=all \
    --resume
damage
refused away 3 "lora.rank is 5, was 4" "$hf" --set lora.targets=all --resume \
    --set lora.rank=5
cp -r "$work/runs/away/checkpoints/step-0000000008" "$work/alone"
if "$bin/cllm-convert" "$work/alone" "$work/x" 2>"$work/alone.log"; then
    not_ok "adapters alone are no model"
else
    check "adapters alone are no model, and that is said" \
        grep -q "holds adapters alone" "$work/alone.log"
fi
mv "$work/gone" "$hf"

# An adapter as peft leaves it: two files, and a name for the model beneath.
# peft DIR BASE: the last checkpoint's, so named
peft()
{
    mkdir -p "$1"
    cp "$work/runs/first/checkpoints/last/adapter_model.safetensors" "$1"
    sed "s|\"\.\./\.\./base\"|\"$2\"|; s|\"lora_dropout\": 0.0|\"lora_dropout\": 0.05|" \
        "$work/runs/first/checkpoints/last/adapter_config.json" >"$1/adapter_config.json"
}
peft "$work/peft" "$hf"
check "an adapter of peft's is merged" convert "$work/peft" "$work/from-peft"
same "to the same weights as in its run" "$(sha256sum <"$work/tiny-merged/model.safetensors")" \
    "$(sha256sum <"$work/from-peft/model.safetensors")"
same "and speaks" "$(cat "$work/said.tiny-merged")" \
    "$("$bin/cllm-generate" --greedy -n 24 -p "the fox" "$work/peft" 2>/dev/null)"
peft "$work/stray" openai-community/gpt2
if convert "$work/stray" "$work/x" 2>"$work/stray.log"; then
    not_ok "an adapter whose model is not here is refused"
else
    check "an adapter whose model is not here is refused" \
        grep -q "model beneath the adapter is not here" "$work/stray.log"
fi
check "unless --base names it" convert --base="$hf" "$work/stray" "$work/x"
same "with the same weights" "$(sha256sum <"$work/from-peft/model.safetensors")" \
    "$(sha256sum <"$work/x/model.safetensors")"

# onward NAME [ARGUMENT...]: training goes on with it
onward()
{
    local name=$1
    shift
    coord "$name" --set "train.from=$hf" --set "lora.from=$work/stray" "${tune_options[@]}" "$@"
}
onward golden -n 1
same "training goes on with an adapter" 0 $?
golden=$(bits golden)
coord plain -n 1 --set "train.from=$work/from-peft" "${tune_options[@]}" --set train.steps=2
same "it begins with the merged model's loss" yes \
    "$(paste <(losses plain) <(losses golden) | awk '
        NR == 1 { d = $2 - $4; print d * d < 1e-8 ? "yes" : "no" }')"
onward other -n 3 --set compute.threads=2
same "with the same bits from three workers" "$golden" "$(bits other)"
rm -rf "$work/runs/other"
for ((i = 0; i < 8; i++)); do # killed while it begins
    start_coord other -n 2 --set "train.from=$hf" --set "lora.from=$work/stray" \
        "${tune_options[@]}" --resume
    sleep "0.0$i"
    [ $((i % 2)) = 0 ] || kill -9 "$(node_zero)" 2>/dev/null
    sleep "0.0$((i % 3))"
    kill -9 "$coord" 2>/dev/null
    wait "$coord" 2>/dev/null
done
CLLM_FAULTS=$(creep 11) start_coord other -n 2 --set "train.from=$hf" \
    --set "lora.from=$work/stray" "${tune_options[@]}" --resume
until_step other 11
kill_tree 2>/dev/null
release other
mv "$work/stray" "$work/gone"
onward other -n 1 --resume
same "killed, and resumed without the adapter: the same bits" "$golden" "$(bits other)"
mv "$work/gone" "$work/stray"
onward again -n 2 --set "lora.from=$work/runs/first"
same "the same bits from the run that made the adapter" \
    "$(cd "$work/runs/golden/checkpoints/last/" && sha256sum ./adapter* ./optimizer*)" \
    "$(cd "$work/runs/again/checkpoints/last/" && sha256sum ./adapter* ./optimizer*)"
rm -rf "$work/runs/golden" "$work/runs/other" "$work/runs/again"

# unfit CODE TEXT ARGUMENT...: training does not go on with it, and says why
unfit()
{
    local code=$1 text=$2
    shift 2
    onward bad -n 1 "$@"
    same "refused with $code: $text" "$code" $?
    check "and named" grep -q -- "$text" "$work/bad.log"
}
unfit 2 "rank is 5, that of .*stray is 4" --set lora.rank=5
unfit 2 "lora.from is given, but not train.from" --set train.from=none
config=tiny-llama unfit 3 "names no matrix" --set "train.from=$work/tiny-llama-hf"
head -c 3000 "$work/peft/adapter_model.safetensors" >"$work/stray/adapter_model.safetensors"
unfit 3 "stray/adapter_model.safetensors"
sed -i 's/"use_dora": false/"use_dora": true/' "$work/stray/adapter_config.json"
unfit 3 "use_dora"

# What cannot be.
refused bad 2 "'q_proj' names no matrix" "$hf" --set lora.targets=q_proj
refused bad 2 "rank 33 is more than" "$hf" --set lora.rank=33
refused bad 2 "lora.rank is given, but not train.from" none
text=$("$bin/cllm-coord" "$root/configs/tiny.ini" --dry-run --set "run.dir=$work/runs/dry" \
    --set "data.train=$work/data/train_*.bin" --set "data.valid=" \
    --set "train.from=$hf" --set lora.rank=4 2>&1)
case $text in
*"frozen weights"*"once for all"*) ok "--dry-run shows what is frozen" ;;
*) not_ok "--dry-run shows what is frozen" "$text" ;;
esac
case $text in
*"1.5k parameters (4.43 %) of rank 4 on 2 matrices"*) ok "and what learns" ;;
*) not_ok "and what learns" "$text" ;;
esac
finish
