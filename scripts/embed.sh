#!/bin/sh
# Writes a C file with the given .cl files in it, in the order given:
#
#   scripts/embed.sh compute/opencl/common.cl ... > sources.c
#
# Numbers and not strings: C compilers need take no more than 4095 characters of these.
set -eu
export LC_ALL=C

echo '/* Made by scripts/embed.sh. */'
echo '#include "compute/opencl/program.h"'
i=0
for file in "$@"; do
    printf '\nstatic const unsigned char text%d[] = { // %s\n' "$i" "$file"
    od -An -v -tu1 "$file" | sed 's/ *\([0-9][0-9]*\)/\1,/g'
    printf '};\n'
    i=$((i + 1))
done
printf '\nconst struct cllm_cl_source cllm_cl_sources[] = {\n'
i=0
for file in "$@"; do
    printf '    {"%s", text%d, sizeof text%d},\n' "${file##*/}" "$i" "$i"
    i=$((i + 1))
done
printf '    {0},\n};\n'
