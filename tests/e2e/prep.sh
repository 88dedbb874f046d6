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

# ---- killed at named places, each of its lives at another

# lives NAME POINT...: cllm-prep with $arguments into $work/NAME, killed at each point in turn
lives()
{
    local name=$1 point code first=1
    shift
    for point; do
        CLLM_FAULTS=$point "$bin/cllm-prep" -o "$work/$name" "${arguments[@]}" >"$work/$name.log" 2>&1
        code=$?
        if [ $code != 137 ]; then
            not_ok "killed at $point" "exit code $code: $(tail -n 3 "$work/$name.log")"
        elif [ $first = 0 ] && ! grep -q "going on with" "$work/$name.log"; then
            not_ok "it went on, and was killed at $point" "$(tail -n 3 "$work/$name.log")"
        else
            ok "killed at $point"
        fi
        first=0
    done 2>/dev/null # bash says "Killed"
}
# last_life NAME: it ends, and comes to the bytes of $work/whole
last_life()
{
    check "it ends at last" prep -o "$work/$1" "${arguments[@]}"
    same "what was killed gives the same bytes" "$(all "$work/whole")" "$(all "$work/$1")"
    same "nothing else is left" "" "$(find "$work/$1" -name '.*' -mindepth 1)"
}

arguments=(--tokenizer "$work/t1" --shard-tokens 3000000 "$work/big")
check "a data set in peace" prep -o "$work/whole" "${arguments[@]}"
lives killed prep_piece:kill:7 prep_synced:kill prep_safe:kill
text=$(prep -o "$work/killed" --tokenizer "$work/t1" "$work/big")
same "other arguments are refused" 1 $?
case "$text" in
*"other arguments"*) ok "and it says why" ;;
*) not_ok "and it says why" "$text" ;;
esac
lives killed prep_piece:kill:70 prep_safe:kill:2 prep_cleared:kill prep_cut:kill prep_shard:kill \
    prep_kept:kill:2
"$bin/cllm-coord" "$root/configs/tiny.ini" --set "run.dir=$work/runs/partial" \
    --set "data.train=$work/killed/train_*.bin" --dry-run >/dev/null 2>&1
same "an unfinished data set is not trained on" 1 $(($? != 0))
lives killed prep_shards:kill prep_described:kill
last_life killed

# ---- the same with new ids by frequency, which are known when all text is encoded

text 12 >"$work/some"
mv "$work/whole" "$work/plainly"
arguments=(--tokenizer "$work/t1" --shard-tokens 200000 --renumber "$work/some")
check "a renumbered data set in peace" prep -o "$work/whole" "${arguments[@]}"
lives reordered prep_piece:kill:11 prep_cut:kill prep_shard:kill:3 prep_kept:kill prep_shards:kill \
    prep_described:kill
last_life reordered
if [ "$(all "$work/whole")" != "$(all "$work/plainly")" ]; then
    ok "which are others than without it"
else
    not_ok "which are others than without it"
fi
rm -rf "$work/whole"
mv "$work/plainly" "$work/whole"
arguments=(--tokenizer "$work/t1" --shard-tokens 3000000 "$work/big")

# start_stopped NAME POINT:N [ARGUMENT...]: $pid is a cllm-prep that stands there, stopped
start_stopped()
{
    local name=$1 point=${2%:*} nth=${2##*:}
    shift 2
    CLLM_FAULTS=$point:stop:$nth "$bin/cllm-prep" -o "$work/$name" "$@" "${arguments[@]}" \
        >"$work/$name.log" 2>&1 &
    pid=$!
    until grep -qs '^State:.T' "/proc/$pid/status"; do
        if ! kill -0 $pid 2>/dev/null; then
            not_ok "one stands at $point" "$(tail -n 3 "$work/$name.log")"
            return
        fi
        sleep 0.01
    done
    ok "one stands at $point"
}

# ---- asked to stop

for point in prep_piece:50 prep_kept:2; do
    start_stopped stopped $point
    kill -TERM $pid
    kill -CONT $pid
    wait $pid
    same "and is stopped by a signal" 130 $?
done
last_life stopped

# ---- two at once

start_stopped both prep_piece:20
text=$(prep -o "$work/both" "${arguments[@]}")
same "a second one in the same directory is refused" 1 $?
kill -CONT $pid
wait $pid
same "the first one does not mind" "$(all "$work/whole")" "$(all "$work/both")"

# ---- memory

start_stopped peak prep_described:1 -q --threads 2
peak=$(($(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB$/\1/p' "/proc/$pid/status") / 1024))
kill -CONT $pid
wait $pid
if [ $peak -gt 0 ] && [ $peak -lt 50 ]; then
    ok "60 MB of text in $peak MiB"
else
    not_ok "bounded memory" "peak: $peak MiB"
fi

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
