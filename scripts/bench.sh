#!/bin/bash
# How fast CLLM trains, alone or beside others on the same model and batch.
#
#   scripts/bench.sh [MODEL]...            default: cache-384
#
# A MODEL is one of the sizes below, or a name of configs/, or a file. Without PEERS, it is
# cllm-bench with 1, 2, 4 ... workers, and the checkpoints' cost when CHECKPOINT=N is given.
# PEERS="pytorch llmc" measures them too, in turns in one run; $OUT gets results.tsv (every
# repeat), table.md and chart.svg (medians).
#
#   CLLM_BUILD  build directory                       (build/release)
#   REPEATS     of everything, of which the median counts                 (5)
#   STEPS       steps in a repeat of a peer; CLLM takes two seconds' worth (3)
#   LIMIT       seconds after which a repeat of a peer is given up      (900)
#   CORES       cores that everybody may use                       (all of them)
#   WORKERS     "1 2 12": numbers of workers
#   PRECISIONS  of everybody, where they have it         (f32 bf16, and bf16-amx with AMX)
#   PYTHON      an interpreter that has PyTorch            (/usr/bin/python3)
#   LLMC        checkout of llm.c with train_gpt2 built, gpt2_124M.bin and its data
#   OUT         (build/bench)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
bin=${CLLM_BUILD:-build/release}/bin
repeats=${REPEATS:-5} steps=${STEPS:-3} limit=${LIMIT:-900}
cores=${CORES:-$(nproc)}
python=${PYTHON:-/usr/bin/python3}
out=${OUT:-build/bench}
peers=${PEERS:-}
[ $# -gt 0 ] || set -- cache-384
unset OPENBLAS_CORETYPE # where it is set, it would hold the others back

die()
{
    echo "bench: $*" >&2
    exit 1
}

# sizes MODEL: config and batch as the others have them; a lane for each sequence, or few
sizes()
{
    config=$1 set_=()
    case $1 in
    gpt2-124M) set_=(run.lanes=2 train.batch=4 train.eval_batch=4) ;;
    gpt2-124M-64)
        config=gpt2-124M
        set_=(run.lanes=2 train.batch=4 train.eval_batch=4 train.micro_batch=2
            model.context=64)
        ;;
    cache-384 | cache-256)
        set_=(run.lanes=4 train.batch=32 train.eval_batch=32 train.micro_batch=auto)
        ;;
    esac
    sets=()
    for s in "${set_[@]}"; do
        sets+=(--set "$s")
    done
}

if [ -z "$peers" ]; then
    for model in "$@"; do
        sizes "$model"
        list=${WORKERS:-}
        if [ -z "$list" ]; then
            for ((n = 1; n < cores; n *= 2)); do list+="$n "; done
            list+=$cores
        fi
        # shellcheck disable=SC2086 # a list of numbers
        "$bin/cllm-bench" "$config" "${sets[@]}" --repeat "$repeats" \
            --workers "$(echo $list | tr ' ' ,)" || exit
        [ -z "${CHECKPOINT:-}" ] ||
            "$bin/cllm-bench" "$config" "${sets[@]}" --repeat "$repeats" --workers "$cores" \
                --checkpoint "$CHECKPOINT" || exit
    done
    exit
fi

# ---- what each of them is called, and how it is run ----

temporary=$(mktemp -d "${TMPDIR:-/tmp}/cllm-peers.XXXXXX") || exit 1
trap 'rm -rf "$temporary"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$out" || exit 1
results=$out/results.tsv

# Without tiles bf16-amx is bf16 in another order.
precisions=${PRECISIONS:-f32 bf16$(grep -qw amx_bf16 /proc/cpuinfo && echo " bf16-amx")}
contenders=()
for precision in $precisions; do
    contenders+=("cllm $precision $cores")
done
for peer in $peers; do
    case $peer in
    pytorch)
        "$python" -c 'import torch' 2>/dev/null ||
            die "$python has no PyTorch: apt-get install python3-torch, or set PYTHON"
        # With the reference BLAS Debian's PyTorch has a tenth of its speed.
        blas=$(readlink -f "$(ldconfig -p | awk '/libblas\.so\.3 / { print $NF; exit }')")
        case $blas in
        '' | *openblas* | *blis* | *mkl*) ;;
        *) die "PyTorch would use $blas: apt-get install libopenblas0-pthread" ;;
        esac
        # Its bf16 is what the CPU has, tiles too.
        for precision in $(printf '%s\n' $precisions | sed 's/-amx//' | sort -ur); do
            contenders+=("pytorch $precision 1 1")
            [ "$cores" -eq 1 ] || contenders+=("pytorch $precision 1 $cores"
                "pytorch $precision $cores 1")
        done
        ;;
    llmc)
        [ -n "${LLMC:-}" ] || die "PEERS=llmc needs LLMC=/path/to/llm.c"
        for file in train_gpt2 gpt2_124M.bin; do
            [ -e "$LLMC/$file" ] || die "$LLMC/$file is missing: in that directory," \
                "./dev/download_starter_pack.sh (checkpoint and data), then make train_gpt2"
        done
        contenders+=("llmc f32 $cores")
        ;;
    *) die "no peer \"$peer\": there are pytorch and llmc" ;;
    esac
done

# From configs/: value KEY; a key of sets goes first.
value()
{
    local s
    for s in "${set_[@]}"; do
        case $s in *".$1="*)
            echo "${s#*=}"
            return
            ;;
        esac
    done
    sed -n "s/^$1 *= *//p" "$file" | head -n 1
}

# Each prints "tokens/s bytes"; bytes 0: not known.
run_cllm()
{
    local json=$temporary/cllm.json
    timeout "$limit" "$bin/cllm-bench" "$config" "${sets[@]}" --workers "$2" --repeat 1 \
        --set "compute.precision=$1" --json >"$json" || return
    # Keys are sorted, one a line; two levels down are those of the whole.
    sed -n 's/^ *"peak_gflops": \([0-9.]*\).*/\1/p' "$json" >"$temporary/peak.$1"
    sed -n 's/^    "full": \([0-9.]*\).*/\1/p' "$json" >"$temporary/flop"
    sed -n 's/^ *"median": \([0-9.]*\).*/\1/p' "$json"
    sed -n 's/^      "pss_bytes": \([0-9]*\).*/\1/p' "$json"
}
run_pytorch()
{
    local json=$temporary/pytorch.json
    rm -f "$temporary/store"
    timeout "$limit" "$python" scripts/bench_pytorch.py --layers "$(value layers)" \
        --heads "$(value heads)" --width "$(value width)" --vocab "$(value vocab)" \
        --context "$(value context)" --batch "$(value batch)" --precision "$1" \
        --processes "$2" --threads "$3" --steps "$steps" --store "$temporary/store" \
        >"$json" || return
    sed -n 's/.*"tokens_per_s": \([0-9.]*\).*/\1/p' "$json"
    sed -n 's/.*"pss_bytes": \([0-9]*\).*/\1/p' "$json"
}
# Its own loop has one size, batch 4 and 64 tokens; the first step is left out. It goes
# on until nobody reads any more: SIGPIPE is its right end, also where it is ignored.
run_llmc()
{
    [ "$model" = gpt2-124M-64 ] || return 0
    (cd "$LLMC" && OMP_NUM_THREADS=$2 env --default-signal=PIPE timeout "$limit" \
        stdbuf -oL ./train_gpt2 || :) 2>&1 |
        awk -v steps="$steps" '
            /^step .*took/ && n++ { match($0, /took [0-9.]+/)
                ms += substr($0, RSTART + 5, RLENGTH - 5) }
            n > steps { print 256 * steps / (ms / 1000); print 0; good = 1; exit }
            END { exit !good }'
}

# Whoever fails once, or is too slow, is not asked again.
declare -A given_up=()
run_one()
{
    local name=$1 round=$2 words got
    [ -z "${given_up[$model $name]:-}" ] || return 0
    read -ra words <<<"$name"
    if ! got=$("run_${words[0]}" "${words[@]:1}" | tr '\n' '\t'); then
        echo "bench: $model, $name: failed, or took more than $limit s; left out" >&2
        given_up[$model $name]=1
    elif [ -n "$got" ]; then
        printf '%s\t%s\t%s\t%s\n' "$model" "$name" "$round" "${got%$'\t'}" | tee -a "$results"
    fi
}

: >"$results"
: >"$out/limits.tsv"
for model in "$@"; do
    sizes "$model"
    file=$config
    [ -f "$file" ] || file=configs/$config.ini
    [ -f "$file" ] || die "no configuration $file"
    for ((round = 1; round <= repeats; round++)); do
        for contender in "${contenders[@]}"; do
            run_one "$contender" "$round"
        done
        for precision in $precisions; do
            [ -s "$temporary/peak.$precision" ] &&
                printf '%s\t%s\t%s\t%s\n' "$model" "$precision" \
                    "$(cat "$temporary/peak.$precision")" "$(cat "$temporary/flop")" \
                    >>"$out/limits.tsv"
        done
    done
done

for what in table.md chart.svg; do
    awk -f scripts/bench-median.awk -f "scripts/bench-${what%.*}.awk" "$out/limits.tsv" \
        "$results" >"$out/$what" || exit
done
cat "$out/table.md"
echo "written: $results $out/table.md $out/chart.svg"
