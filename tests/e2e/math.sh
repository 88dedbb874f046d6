#!/bin/bash
# The proof of the elementary functions (make test-math) over a sample of its inputs, and
# that it can fail.
set -u
. "$(dirname "$0")/lib.bash"
math=${CLLM_BUILD:-$root/build/release}/tests/math/math_all

# fails CODE COMMAND...: it ends with CODE and says so
fails()
{
    local code=$1 rc
    shift

    "$@"
    rc=$?
    [ $rc = "$code" ] || echo "exit code $rc, expected $code"
    [ $rc = "$code" ]
}

check "bounds hold and every instruction set gives the same bits" "$math" --every 997
for function in exp exp_below log tanh erf logistic2 sqrt rsqrt sin cos sin_turn cos_turn; do
    check "a bound that $function breaks is found" \
        fails 1 "$math" --every 997 --bounds 0.4 $function
done
check "a function that is not there is refused" fails 2 "$math" sinh
finish
