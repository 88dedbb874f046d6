#!/bin/bash
# cllm-bench --calibrate: what is better is written, and nothing else; what is not, is not; and
# what cannot work is told before or after, with the file as it was.
set -u
. "$(dirname "$0")/lib.bash"
cd "$root" || exit 1
export TMPDIR=$work/tmp
mkdir -p "$TMPDIR" "$work/bin"

# A coordinator that is slow with one worker, and does not begin with three. Lanes sleep, so that
# the speed is the same however busy the machine is; those of the slow one for so long that a
# second in which nothing of it is scheduled is little beside.
cp "$bin/cllm-bench" "$work/bin/"
cat >"$work/bin/cllm-coord" <<END
#!/bin/bash
export CLLM_FAULTS=lane_summed:sleep=4:1*1000000
case " \$* " in
*" run.workers=1 "*) export CLLM_FAULTS=lane_summed:sleep=40:1*1000000 ;;
*" run.workers=3 "*) exec false ;;
esac
exec "$bin/cllm-coord" "\$@"
END
chmod +x "$work/bin/cllm-coord"

# fresh: $work/my.ini is nano with a value for workers, CRLF and no newline at its end; for lane
# buffers there is no choice
fresh()
{
    sed 's/^lanes = 12$/&\nlane_buffers = 12\nworkers = 1  ; all that I have/; s/$/\r/' configs/nano.ini |
        head -c -2 >"$work/my.ini"
    cp "$work/my.ini" "$work/before.ini"
}
# calibrate NAME BIN MACHINE [ARGUMENT...]: on MACHINE ("" = this one) with the programs in BIN;
# output in $work/NAME.out and .err
calibrate()
{
    local name=$1 bench=$2 machine=$3
    shift 3
    env ${machine:+"HWLOC_SYNTHETIC=$machine"} "$bench/cllm-bench" --calibrate --steps 4 "$@" \
        >"$work/$name.out" 2>"$work/$name.err"
}
# calibrate_found ...: the same, where something better is there to be found. A busy machine may
# have it drown in the spread; then it is tried again.
calibrate_found()
{
    local code
    for _ in {1..12}; do
        calibrate "$@"
        code=$?
        ! grep -q ' better$' "$work/$1.out" || break
    done
    return $code
}
left_behind()
{
    ls -A "$TMPDIR"
    "$bin/cllm-shm" list --json 2>/dev/null | grep -F "$TMPDIR"
}

fresh
calibrate_found gain "$work/bin" "core:2 pu:1" "$work/my.ini"
same "one setting that is slow is found" 0 $?
check "and the better one told" grep -qE '^  auto \(2\) .* better$' "$work/gain.out"
check "and that it is written" grep -q 'workers = auto (was 1)$' "$work/gain.out"
check "and so it is, with every other byte as it was" cmp "$work/my.ini" \
    <(sed 's/^workers = 1/workers = auto/' "$work/before.ini")
check "and the configuration is one" "$bin/cllm-bench" "$work/my.ini" --workers 1 --repeat 1 \
    --steps 10

cp "$work/my.ini" "$work/before.ini"
calibrate stays "$work/bin" "core:2 pu:1" "$work/my.ini"
same "what is the best already" 0 $?
check "stays" grep -q "as good as any of these.*unchanged" "$work/stays.out"
check "and its file is not touched" cmp "$work/my.ini" "$work/before.ini"

fresh
calibrate_found dry "$work/bin" "core:2 pu:1" "$work/my.ini" --dry-run
same "a dry run" 0 $?
check "says what it would write" grep -q "without --dry-run would have" "$work/dry.out"
check "and writes nothing" cmp "$work/my.ini" "$work/before.ini"

calibrate_found three "$work/bin" "core:2 pu:1" "$work/my.ini" --dry-run --workers 2,3
same "a value that does not run" 0 $?
check "is left out" grep -qE "^  3 .* does not run here$" "$work/three.out"
check "for others" grep -q "workers = 2 (was 1)" "$work/three.out"

mkdir "$work/my.ini.tmp"
calibrate_found blocked "$work/bin" "core:2 pu:1" "$work/my.ini"
same "a file that cannot be written" 1 $?
rmdir "$work/my.ini.tmp"
check "is told of" grep -q "cannot create .*my.ini.tmp" "$work/blocked.err"
check "with what it should have" grep -q "workers = auto (was 1)" "$work/blocked.out"
check "and is as it was" cmp "$work/my.ini" "$work/before.ini"

calibrate none "$bin" "core:1 pu:1" "$work/my.ini"
same "a machine that offers no choice" 0 $?
check "is told of" grep -q "^nothing to choose.*unchanged" "$work/none.out"

calibrate real "$bin" "" "$work/my.ini" --steps 3
same "this machine" 0 $?
if grep -q 'has now:$' "$work/real.out"; then
    check "has something better, which is written" awk -F'[] =(]+' '
        NR == FNR { if (/\(was/) want[$3] = $4; next }
        { sub(/\r$/, "") } $1 in want { if ($2 == want[$1]) delete want[$1] }
        END { for (key in want) exit 1 }' "$work/real.out" "$work/my.ini"
else
    check "has nothing better, and the file is as it was" cmp "$work/my.ini" "$work/before.ini"
fi

"$bin/cllm-bench" "$work/my.ini" --calibrate --dry-run --steps 10 2>"$work/pipe.err" | true
same "nothing is left when nobody reads what it finds" "" "$(left_behind)"

# refuses NAME PATTERN [ARGUMENT...]
refuses()
{
    local name=$1 pattern=$2 rc
    shift 2
    "$bin/cllm-bench" "$@" >"$work/refused.out" 2>"$work/refused.err"
    rc=$?
    if [ $rc = 2 ] && grep -qE "$pattern" "$work/refused.err" && [ ! -s "$work/refused.out" ]; then
        ok "refused: $name"
    else
        not_ok "refused: $name" "exit $rc; expected 2 and /$pattern/ in:
$(cat "$work/refused.err")"
    fi
}
refuses "no configuration" 'CONFIG' --calibrate
refuses "figures for programs besides" 'json' nano --calibrate --json
refuses "too few repeats" 'five' nano --calibrate --repeat 4
refuses "a value that is to be found" 'run.pin=yes' nano --calibrate --set run.pin=yes
refuses "a dry run of nothing" 'calibrate' nano --dry-run
refuses "what is no file" 'regular' /dev/null --calibrate --set model.width=16 --set run.lanes=1
printf '[run]\nlanez = 3\n' >"$work/bad.ini"
refuses "a configuration with errors" 'bad.ini:2' "$work/bad.ini" --calibrate
same "nothing is left" "" "$(left_behind)"
finish
