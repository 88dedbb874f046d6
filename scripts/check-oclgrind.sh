#!/bin/bash
# Every kernel of compute/opencl in a simulator of OpenCL devices that sees data races,
# barriers that not all items reach, reads of what nobody has written, and accesses beside
# buffers: with few and tiny sizes, both styles of kernels, all variants of products. Then
# kernels with faults planted in them, each of which has to be reported.
#
#   scripts/check-oclgrind.sh [BUILD [PART...]]
#
# PART: ops, products, crystal, tensor (a test program each), planted; none: all of them.
# A report fails, and so does a kernel that the sources have and no test has launched: what
# is not judged is not clean. Each program has a limit: CLLM_TEST_SLOW=5 makes it five times
# as long. Without oclgrind it is skipped, visibly.
set -u
cd "$(dirname "$0")/.." || exit 2
build=${1:-build/release}
[ $# -gt 0 ] && shift
parts=${*:-ops products crystal tensor planted}
limit=$((1200 * ${CLLM_TEST_SLOW:-1}))
kernels=compute/opencl
icd=/usr/lib/oclgrind/liboclgrind-rt-icd.so
if [ ! -e "$icd" ]; then
    echo "SKIP oclgrind is not installed (apt-get install oclgrind)"
    exit 0
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/cllm-oclgrind.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT

# The simulator in place of all drivers; what it finds goes to files, one for each context,
# since it empties what it is given whenever one is made (tests/opencl_simulated.h). Calls of
# the host are not checked: asking for what only NVIDIA devices know counts as an error there.
export TMPDIR=$work OCL_ICD_VENDORS=$icd CLLM_OPENCL_SIMULATED=1 CLLM_CACHE_DIR=$work/cache
export OCLGRIND_DATA_RACES=1 OCLGRIND_UNINITIALIZED=1 OCLGRIND_LOG=$work/log/of
export CLLM_OPENCL_LAUNCHED=$work/launched
# Blocks of products for CPUs take what a CPU has.
export OCLGRIND_LOCAL_MEM_SIZE=1048576
bad=0

fail()
{
    echo "FAIL $*"
    bad=1
}

begin_log()
{
    rm -rf "$work/log"
    mkdir "$work/log"
}

said()
{
    cat "$work"/log/* 2>/dev/null
}

# judge PART: its program, and what the simulator says of it
judge()
{
    local program=$build/tests/test_opencl_$1 began=$SECONDS status

    begin_log
    timeout "$limit" stdbuf -oL "$program" 2>&1 | tee "$work/out" |
        grep --line-buffered '^  .* s$'
    status=${PIPESTATUS[0]}
    if [ "$status" != 0 ]; then
        grep -v '^  .* s$' "$work/out" | tail -n 40
        fail "$1: status $status in oclgrind (124: it took more than $limit seconds)"
    fi
    if [ -n "$(said)" ]; then
        said | head -n 60
        fail "$1: oclgrind has found what is above"
    fi
    echo "$1: $((SECONDS - began)) seconds"
}

# ---- was every kernel launched? ----

kernels_of()
{
    awk '/^(kernel|[A-Z]+_KERNEL) / { begun = 1 }
         begun && match($0, /void [a-z0-9_]+\(/) {
             print substr($0, RSTART + 5, RLENGTH - 6)
             begun = 0
         }' "$1"
}

# want KERNEL COUNT PATTERN: that many builds of it, by their options
want()
{
    local n

    n=$(sort -u "$work/launched" | grep -c -E -- "^$1 .*$3")
    [ "$n" -ge "$2" ] || fail "$1: $n builds were launched instead of $2 ($3)"
}

# Rows of the table of variants.
variants()
{
    grep -c "^    $1(\"" "$kernels/variant.c"
}

# want_of FILE KERNEL BIAS: in which ways it is built
want_of()
{
    local vector drop

    case $1 in
    matmul_cpu.cl)
        want "$2" "$(variants CPU)" '-DBLOCK_N=[0-9]+$'
        want "$2" "$(variants CPU)" '-DBLOCK_N=[0-9]+ -DBF16$'
        ;;
    matmul.cl)
        want "$2" "$(variants TILED)" '-DITEM_N=[0-9]+$'
        want "$2" "$(variants TILED)" '-DITEM_N=[0-9]+ -DBF16$'
        ;;
    matmul_mma.cl) want "$2" "$(variants TENSOR)" '-DSTAGES=' ;;
    pack_bf16.cl) want "$2" 1 '' ;;
    attention.cl)
        for vector in 1 16; do
            for drop in 0 1; do
                want "$2" 1 "-DVECTOR=$vector .*-DBIAS=$3 -DDROP=$drop "
            done
        done
        ;;
    *)
        want "$2" 1 '-DVECTOR=1 '
        want "$2" 1 '-DVECTOR=16 '
        ;;
    esac
}

# cover PART: the kernels that it has to launch
cover()
{
    local files kernel file bias=0

    case $1 in
    ops)
        files="activation.cl attention.cl columns.cl embedding.cl loss.cl norm.cl rope.cl
               vector.cl"
        ;;
    products) files="matmul.cl matmul_cpu.cl" ;;
    crystal)
        files="attention.cl crystal.cl"
        bias=1
        ;;
    tensor) files="matmul_mma.cl pack_bf16.cl" ;;
    esac
    covered="$covered $files"
    for file in $files; do
        for kernel in $(kernels_of "$kernels/$file"); do
            want_of "$file" "$kernel" "$bias"
        done
    done
}

# ---- faults ----

# plant WHAT FILE SED PROGRAM ONLY STYLE TEXT: with FILE changed by SED, the simulator says
# TEXT of what ONLY names, and that is all that is waited for; unwritten=0: without looking
# for what is unwritten, of which it would say more
plant()
{
    local began=$SECONDS pid

    rm -rf "$work/kernels"
    mkdir "$work/kernels"
    cp "$kernels"/*.cl "$work/kernels"
    sed -i "$3" "$work/kernels/$2"
    if cmp -s "$kernels/$2" "$work/kernels/$2"; then
        fail "$1: nothing to plant it in ($2)"
        return
    fi
    begin_log
    CLLM_OPENCL_KERNELS=$work/kernels CLLM_OPENCL_ONLY=$5 CLLM_OPENCL_STYLE=$6 \
        CLLM_OPENCL_LAUNCHED=/dev/null \
        OCLGRIND_MAX_ERRORS=100 OCLGRIND_UNINITIALIZED=${unwritten:-1} timeout "$limit" \
        "$build/tests/test_opencl_$4" >"$work/out" 2>&1 & # its results may be wrong, too
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        if said | grep -qi "$7"; then
            kill "$pid"
            break
        fi
        sleep 0.2
    done
    wait "$pid" 2>/dev/null
    if said | grep -qi "$7"; then
        printf '  %-75s %4d s\n' "oclgrind reports $1" $((SECONDS - began))
    else
        said | head -n 20
        tail -n 20 "$work/out"
        fail "oclgrind does not report $1"
    fi
}

plant_all()
{
    unwritten=0 plant "a race: no barrier behind what items share" \
        common.cl '/scratch\[item\] = x;/{n;d}' ops layernorm groups 'data race'
    plant "a barrier that one item alone reaches" common.cl \
        's/scratch\[item\] = x;/&if (item == 0) barrier(CLK_LOCAL_MEM_FENCE);/' \
        ops layernorm groups 'divergence'
    plant "sums of attention that begin anywhere" \
        attention.cl 's/set_own(sum, 0.0f);//' ops attention items 'uninitialized value'
    plant "sums of products that begin anywhere" \
        matmul.cl 's/sum\[i\]\[j\] = 0.0f;/;/' \
        products 8x8-8 groups 'uninitialized value'
    plant "a race: tiles of a product that are overwritten too early" \
        matmul.cl '/multiply(sum, tile_a/{n;d}' products 8x8-8 groups 'data race'
    plant "a race: a target's logit that others may have overwritten" \
        crystal.cl '/before of_target/d' crystal 'smoothed*' groups 'data race'
    unwritten=0 plant "a race: exchanged words of tensor cores without a barrier" \
        ptx_emulated.cl '/mine\[5\] = b.y;/{n;d}' tensor tensor-64x64 groups 'data race'
    plant "a read of what nobody has written" vector.cl \
        's/other\[i\] \* b/other[i + 4000] * b/' ops mix items \
        'uninitialized value'
    plant "a read beside a buffer" vector.cl \
        's/other\[i\] \* b/other[i + (1u << 28)] * b/' ops mix items \
        'invalid read'
}

covered=
: >"$work/launched"
for part in $parts; do
    case $part in
    ops | products | crystal | tensor)
        judge "$part"
        cover "$part"
        ;;
    planted) ;;
    *)
        fail "there is no part $part: ops, products, crystal, tensor, planted"
        ;;
    esac
done
for file in "$kernels"/*.cl; do
    [ $# = 0 ] || break
    case " $covered " in
    *[[:space:]]"$(basename "$file")"[[:space:]]*) continue ;;
    esac
    [ -z "$(kernels_of "$file")" ] || fail "$file: no part has its kernels"
done
[ $bad = 0 ] || exit 1
[ ! -s "$work/launched" ] ||
    echo "oclgrind: $(sort -u "$work/launched" | wc -l) builds of" \
        "$(cut -d' ' -f1 "$work/launched" | sort -u | wc -l) kernels: no data race, no" \
        "uninitialised read, no access beside a buffer"
case " $parts " in
*" planted "*) plant_all ;;
esac
exit $bad
