#!/bin/bash
# Our tokenizer.json in Hugging Face's tokenizers library: the same ids as ours?
#
#   scripts/check-tokenizer.sh [TOKENIZER]...
#
# Trains a vocabulary with each pattern on the King James Bible and the project's own
# files, and encodes these with both; then the same with the TOKENIZERs given (whatever
# cllm-prep --tokenizer takes), saved by us first. Needs node, npm and the npm registry;
# no part of make test. Special tokens in the text are taken for themselves, as that library
# always does. CLLM_TEXT names another text, which must be valid UTF-8.
set -eu
cd "$(dirname "$0")/.."
build=${CLLM_BUILD:-build/release}
bench=$build/tests/bench_tokenizer
package=@anush008/tokenizers@0.6.0

command -v npm >/dev/null || { echo "check-tokenizer: npm is not installed" >&2; exit 2; }
make --no-print-directory "$bench" >&2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp scripts/interop/tokenizer.mjs "$work"
(cd "$work" && npm install --no-audit --no-fund --loglevel=error "$package" >&2)
if [ -n "${CLLM_TEXT:-}" ]; then
    cp "$CLLM_TEXT" "$work/text"
else
    {
        bible -f gen1:1-rev22:21
        cat -- */*.[ch] */*/*.[ch] docs/*.md docs/*/*.md scripts/*.sh
    } >"$work/text"
fi

bad=0
# check NAME: the tokenizer in $work/NAME, which has been saved there
check()
{
    "$bench" encode-special "$work/$1" "$work/text" "$work/ids" >"$work/log"
    printf '  %-10s ' "$1"
    (cd "$work" && node tokenizer.mjs "$1/tokenizer.json" text ids) || bad=1
}

for pattern in gpt2 cl100k qwen2 o200k; do
    "$bench" train 8192 "$work/text" "$work/$pattern" 1 "$pattern" >"$work/log"
    check "$pattern"
done
n=0
for tokenizer; do
    n=$((n + 1))
    "$bench" save "$tokenizer" "$work/given-$n"
    check "given-$n"
done
exit $bad
