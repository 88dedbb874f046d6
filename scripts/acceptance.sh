#!/bin/bash
# The long proof of what the tests show in short: every worker count, ten kills of each role at
# random moments, 63 workers, and the memory of a 124-million-parameter run against the forecast.
# `make acceptance`; three to fifteen minutes on two cores. ACCEPT="bits kill many memory" picks parts.
set -u
. "$(dirname "$0")/../tests/e2e/lib.bash"
cd "$root" || exit 1
make_corpus || exit 1
parts=${ACCEPT:-bits kill many memory}

# Private memory of all processes of the run in the background, and its shared objects, in KiB.
private_kib()
{
    local pid
    for pid in $coord $(node_zero) $(children worker) $(children loader) $(children saver); do
        cat "/proc/$pid/smaps_rollup" 2>/dev/null
    done | awk '/^Pss_(Anon|File):/ { n += $2 } END { print n + 0 }'
}
shared_kib()
{
    du -ck /dev/shm/cllm-"$(id -u)"-"$1"-* 2>/dev/null | tail -n 1 | cut -f1
}

coord golden -n 1
golden=$(bits golden)

if [[ $parts == *bits* ]]; then
    for workers in 2 3 5 8 12; do
        coord "w$workers" -n $workers
        same "tiny, 50 steps: the same SHA-256 with $workers workers" "$golden" "$(bits w$workers)"
    done
    start_coord stop -n 2
    until_step stop 20
    kill -TERM $coord
    wait $coord
    same "stopped at step 20" 75 $?
    coord stop -n 5 --resume
    same "resumed with five workers: the same SHA-256" "$golden" "$(bits stop)"
    setarch -R "$bin/cllm-coord" configs/tiny.ini --set "run.dir=$work/runs/fixed" \
        --set "data.train=$work/data/train_*.bin" --set "data.valid=$work/data/val_*.bin" \
        -n 2 >"$work/fixed.log" 2>&1
    same "without address randomisation: the same SHA-256" "$golden" "$(bits fixed)"
fi

if [[ $parts == *kill* ]]; then
    began=${EPOCHREALTIME//[!0-9]/}
    coord timed -n 2
    life=$(((${EPOCHREALTIME//[!0-9]/} - began) / 1000)) # milliseconds
    for role in worker loader saver; do
        hits=0 runs=0 right=0
        while [ $hits -lt 10 ] && [ $runs -lt 40 ]; do
            runs=$((runs + 1))
            start_coord "$role$runs" -n 2
            until [ -n "$(children "$role")" ]; do sleep 0.005; done
            moment=$((RANDOM % life))
            sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
            victim=$(children "$role" | shuf -n 1)
            # A run that ended before its random moment does not count.
            [ -n "$victim" ] && kill -9 "$victim" 2>/dev/null && hits=$((hits + 1))
            wait $coord
            [ "$golden" = "$(bits "$role$runs")" ] && right=$((right + 1))
            rm -rf "${work:?}/runs/$role$runs"
        done
        same "$role killed at a random moment in $hits of $runs runs: the same SHA-256 in all" \
            "10 $runs" "$hits $right"
    done
fi

if [[ $parts == *many* ]]; then
    coord many -n 63
    same "63 workers on tiny end" 0 $?
    same "with the same SHA-256" "$golden" "$(bits many)"
    start_coord lasting -n 63 --set train.steps=100000
    until_step lasting 3
    until [ "$(children worker | wc -l)" = 63 ]; do sleep 0.1; done
    sleep 5
    median=$(for pid in $(children worker); do
        awk '/^Pss_(Anon|File):/ { n += $2 } END { print n }' "/proc/$pid/smaps_rollup"
    done | sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)], "KiB, of", NR, "workers" }')
    echo "# private memory of a worker (PSS less shared memory), median: $median"
    kill -TERM $coord
    wait $coord
    same "and can be stopped" 75 $?
fi

if [[ $parts == *memory* ]]; then
    large=(--set "run.dir=$work/runs/gpt2" --set "data.train=$work/data/train_*.bin"
        --set data.valid= --set train.batch=12 --set train.steps=5 --set run.log_every=1)
    "$bin/cllm-coord" configs/gpt2-124M.ini "${large[@]}" --dry-run >"$work/forecast.txt"
    sed 's/^/# /' "$work/forecast.txt"
    "$bin/cllm-coord" configs/gpt2-124M.ini "${large[@]}" >"$work/gpt2.log" 2>&1 &
    coord=$! peak=0
    id=$(head -n 1 "$work/forecast.txt" | cut -d' ' -f2)
    while kill -0 $coord 2>/dev/null; do
        now=$(($(private_kib) + $(shared_kib "$id")))
        [ $now -gt $peak ] && peak=$now
        sleep 0.5
    done
    wait $coord
    same "124M parameters at context 1024, five steps" 0 $?
    sed 's/^/# /' "$work/gpt2.log"
    forecast=$(awk '$1 == "total" { print $2, $3 }' "$work/forecast.txt")
    echo "# forecast: $forecast; measured peak: $(awk -v k=$peak 'BEGIN { printf "%.2f GiB", k / 1048576 }')"
fi
finish
