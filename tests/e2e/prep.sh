#!/bin/bash
# cllm-prep as a process: killed and started again, several threads, a larger input in
# bounded memory, compressed with the tools that people have.
# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

# text MEGABYTES: words and numbers, no line like another
text()
{
    awk -v bytes=$(($1 * 1000000)) 'BEGIN {
        n = split("the quick brown fox jumps over a lazy dog and then it rests under trees", w, " ")
        x = 99
        for (out = 0; out < bytes; out += length(line) + 1) {
            line = ""
            for (i = 0; i < 12; i++) {
                x = (x * 1103515245 + 12345) % 2147483648
                line = line w[1 + int(x / 65536) % n] " "
            }
            print line x
        }
    }'
}
# all DIR: a sum of everything in it
all()
{
    (cd "$1" && find . -type f | sort | xargs sha256sum)
}
prep()
{
    "$bin/cllm-prep" "$@" 2>&1
}

text 60 >"$work/big"
text 2 >"$work/small"

# ---- the same bytes from any number of threads

prep -o "$work/t1" --threads 1 --train-vocab 500 "$work/small" >/dev/null
for threads in 2 5; do
    prep -o "$work/t$threads" --threads $threads --train-vocab 500 "$work/small" >/dev/null
    same "$threads threads give the bytes of one" "$(all "$work/t1")" "$(all "$work/t$threads")"
done

# ---- killed again and again

arguments=(--tokenizer "$work/t1" --shard-tokens 3000000 "$work/big")
check "a data set in peace" prep -o "$work/whole" "${arguments[@]}"
resumed=0 kills=0
for wait in 0.3 0.5 0.7 0.9 0.6 0.8 1.0 1.2 1.4 1.6 1.8 2 3 4 5 6 7 8 9 10; do
    "$bin/cllm-prep" -o "$work/killed" "${arguments[@]}" >"$work/killed.log" 2>&1 &
    pid=$!
    (sleep $wait && kill -9 $pid) 2>/dev/null &
    wait $pid 2>/dev/null
    code=$?
    grep -q "going on with" "$work/killed.log" && resumed=$((resumed + 1))
    [ $code = 137 ] || break
    kills=$((kills + 1))
    if [ $kills = 2 ]; then
        text=$(prep -o "$work/killed" --tokenizer "$work/t1" "$work/big")
        same "other arguments are refused" 1 $?
        case "$text" in
        *"other arguments"*) ok "and it says why" ;;
        *) not_ok "and it says why" "$text" ;;
        esac
        "$bin/cllm-coord" "$root/configs/tiny.ini" --set "run.dir=$work/runs/partial" \
            --set "data.train=$work/killed/train_*.bin" --dry-run >/dev/null 2>&1
        same "an unfinished data set is not trained on" 1 $(($? != 0))
    fi
done
same "it ends at last" 0 "$code"
if [ $kills -ge 1 ] && [ $resumed -ge 1 ]; then
    ok "killed $kills times, it went on $resumed times"
else
    not_ok "killed and went on" "$kills kills, $resumed times it went on"
fi
same "what was killed gives the same bytes" "$(all "$work/whole")" "$(all "$work/killed")"
same "nothing else is left" "" "$(find "$work/killed" -name '.*' -mindepth 1)"

# ---- asked to stop

"$bin/cllm-prep" -o "$work/stopped" "${arguments[@]}" >"$work/stopped.log" 2>&1 &
pid=$!
sleep 0.6
kill -TERM $pid
wait $pid
code=$?
if [ $code = 130 ] || [ $code = 0 ]; then ok "a signal stops it"; else not_ok "a signal stops it" "exit code $code"; fi
if [ $code = 130 ]; then
    check "and the same command goes on" prep -o "$work/stopped" "${arguments[@]}"
fi
same "to the same bytes" "$(all "$work/whole")" "$(all "$work/stopped")"

# ---- two at once

"$bin/cllm-prep" -o "$work/both" "${arguments[@]}" >/dev/null 2>&1 &
pid=$!
until [ -e "$work/both/.partial/state.json" ] || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
text=$(prep -o "$work/both" "${arguments[@]}")
same "a second one in the same directory is refused" 1 $?
wait $pid
same "the first one does not mind" "$(all "$work/whole")" "$(all "$work/both")"

# ---- memory

peak=$(python3 - "$bin/cllm-prep" -q -o "$work/peak" --force "${arguments[@]}" <<'PYTHON'
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
PYTHON
)
if [ "${peak:-999}" -lt 120 ]; then ok "60 MB of text in $peak MiB"; else not_ok "bounded memory" "peak: $peak MiB"; fi

# ---- compressed by others

gzip -c "$work/small" >"$work/small.gz"
gzip -1 -c "$work/small" >>"$work/small.gz"
cat "$work/small" "$work/small" >"$work/twice"
prep -o "$work/plain" "$work/twice" >/dev/null
prep -o "$work/gzip" "$work/small.gz" >/dev/null
same "gzip" "$(sha256sum <"$work/plain/train_000.bin")" "$(sha256sum <"$work/gzip/train_000.bin")"
if command -v zstd >/dev/null; then
    zstd -q "$work/twice" -o "$work/twice.zst"
    prep -o "$work/zstd" "$work/twice.zst" >/dev/null
    same "zstd" "$(sha256sum <"$work/plain/train_000.bin")" \
        "$(sha256sum <"$work/zstd/train_000.bin")"
else
    ok "zstd # SKIP the program zstd is not here"
fi
head -c 300000 "$work/small.gz" >"$work/short.gz"
text=$(prep -o "$work/short" "$work/short.gz")
same "a stream cut short is bad data" 3 $?
case "$text" in
*"short.gz: the gzip stream is cut short"*) ok "and it says so" ;;
*) not_ok "and it says so" "$text" ;;
esac
same "nothing is left of it" no "$([ -e "$work/short" ] && echo yes || echo no)"

# ---- trained on, and refused when it has changed

"$bin/cllm-coord" "$root/configs/tiny.ini" --set "run.dir=$work/runs/dry" \
    --set "data.train=$work/plain/train_*.bin" --set "data.valid=$work/plain/val_*.bin" \
    --dry-run >/dev/null 2>&1
same "a prepared data set is trained on" 0 $?
printf 'X' | dd of="$work/plain/train_000.bin" bs=1 seek=1030 conv=notrunc 2>/dev/null
text=$("$bin/cllm-coord" "$root/configs/tiny.ini" --set "run.dir=$work/runs/dry" \
    --set "data.train=$work/plain/train_*.bin" --set "data.valid=$work/plain/val_*.bin" \
    --dry-run 2>&1)
same "not after it has changed" 3 $?
case "$text" in
*"is not the shard that"*) ok "and it says why" ;;
*) not_ok "and it says why" "$text" ;;
esac
finish
