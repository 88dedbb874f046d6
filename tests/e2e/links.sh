#!/bin/bash
# Which libraries each program loads: no more than its floors allow, so that a fault in
# one of them cannot reach a process that has no business with it.
set -u
bin=${CLLM_BUILD:-build/release}/bin
n=0 bad=0

# links_not PROGRAM LIBRARY...
links_not()
{
    local program=$1 library needed
    shift

    needed=$(readelf -d "$bin/$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    for library; do
        n=$((n + 1))
        if [ -n "$needed" ] && ! grep -q "^lib$library" <<<"$needed"; then
            echo "ok $n - $program does not load $library"
        else
            bad=1
            echo "not ok $n - $program does not load $library"
            echo "# it loads: ${needed//$'\n'/ }"
        fi
    done
}

links_not cllm-coord dnnl uring gomp ncurses
links_not cllm-worker uring jansson crypto ncurses
links_not cllm-loader dnnl gomp ncurses
links_not cllm-saver dnnl uring gomp ncurses
links_not cllm-shm dnnl uring gomp
links_not cllm-prep dnnl uring gomp ncurses
links_not cllm-generate uring ncurses
links_not cllm-eval uring ncurses
echo "1..$n"
exit $bad
