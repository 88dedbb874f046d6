#!/bin/bash
# Random windows of a cold 4 GiB shard: the loader's ways to read against mmap, pread and,
# where it is installed, fio at the same block size and depth: what the disk gives.
#
#   scripts/bench-loader.sh [WINDOWS [RUNS]]     windows in a run (40000), runs (5)
#
# The shard is made under $TMPDIR, or ./data without one, and removed at the end. It must
# lie on a real disk: a file in memory cannot be cold. CLLM_BUILD is the build directory,
# CLLM_BENCH_MIB the size of the shard. The kernel of a virtual machine sees a cold file;
# its host may still have the blocks in memory.
set -eu

cd "$(dirname "$0")/.."
bench=${CLLM_BUILD:-build/release}/tests/bench_loader
mib=${CLLM_BENCH_MIB:-4096}
dir=${TMPDIR:-data}

if [ ! -x "$bench" ]; then
    echo "bench-loader: $bench is not built: make bench-loader builds it" >&2
    exit 2
fi
mkdir -p "$dir"
kind=$(stat -f -c %T "$dir")
if [ "$kind" = tmpfs ] || [ "$kind" = ramfs ]; then
    echo "bench-loader: $dir lies in memory ($kind), so nothing there is cold:" \
        "set TMPDIR to a directory on a disk" >&2
    exit 2
fi
free=$(df --output=avail -m "$dir" | tail -1)
if [ "$free" -lt $((mib + 1024)) ]; then
    echo "bench-loader: $dir has $free MiB free, $((mib + 1024)) MiB are needed:" \
        "set TMPDIR or CLLM_BENCH_MIB" >&2
    exit 2
fi

shard=$(mktemp "$dir/bench-loader.XXXXXX.bin")
trap 'rm -f "$shard" "$shard.tmp"' EXIT
trap 'exit 130' INT TERM
echo "making a shard of $mib MiB: $shard" >&2
"$bench" make "$shard" "$mib"
"$bench" run "$shard" "$@"
