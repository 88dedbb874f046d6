#!/bin/sh
# Compiles the products for tensor cores to PTX with clang and assembles them with NVIDIA's
# ptxas, for those who have both: the instructions of compute/opencl/ptx.cl are well formed
# for sm_80, sm_90, and fit into registers and local memory. No device is needed, and
# nothing is run.
#
#   scripts/check-ptx.sh
set -eu
cd "$(dirname "$0")/.."

ptxas=$(command -v ptxas || echo /usr/local/cuda/bin/ptxas)
if [ ! -x "$ptxas" ] || ! command -v clang >/dev/null; then
    echo "check-ptx: skipped: clang and ptxas (of NVIDIA's CUDA toolkit) are needed"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What NVIDIA's compiler knows and clang does not.
cat >"$work/known.cl" <<'END'
#define KNOWN __attribute__((overloadable, always_inline))
KNOWN size_t get_local_id(uint i) { return i == 0 ? __nvvm_read_ptx_sreg_tid_x() : 0; }
KNOWN size_t get_group_id(uint i)
{
    return i == 0 ? __nvvm_read_ptx_sreg_ctaid_x() : __nvvm_read_ptx_sreg_ctaid_y();
}
KNOWN void barrier(cl_mem_fence_flags flags) { __syncthreads(); }
END
cat "$work/known.cl" compute/opencl/common.cl compute/opencl/matmul_form.cl compute/opencl/ptx.cl \
    compute/opencl/matmul_mma.cl >"$work/matmul.cl"
for tile in "64 64 32 32 4 2" "128 128 64 32 3 1" "128 64 32 32 3 1"; do
    # shellcheck disable=SC2086
    set -- $tile
    clang -x cl -cl-std=CL1.2 -Xclang -finclude-default-header -target nvptx64-nvidia-cuda \
        -Xclang -target-feature -Xclang +ptx70 -Xclang -target-cpu -Xclang sm_80 -O3 -w \
        -Dasm=__asm__ -DVECTOR=1 -DGROUP=1 -DTILE_M="$1" -DTILE_N="$2" -DWARP_M="$3" \
        -DWARP_N="$4" -DSTAGES="$5" -DPENDING="$6" -S -o "$work/matmul.ptx" "$work/matmul.cl"
    for arch in sm_80 sm_90; do
        printf '%s x %s, %s stages, %s: ' "$1" "$2" "$5" "$arch"
        "$ptxas" -v -arch=$arch -o "$work/matmul.cubin" "$work/matmul.ptx" 2>&1 |
            grep -E 'Used|error' | sed 's/^.*: *//' | tr '\n' ' '
        test -s "$work/matmul.cubin"
        rm "$work/matmul.cubin"
        printf '%s mma\n' "$(grep -c 'mma\.sync' "$work/matmul.ptx")"
    done
done
