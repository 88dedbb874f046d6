#!/bin/sh
# Installs the Debian packages that building, the demo and the tests need.
#
#   scripts/install-deps.sh                what make, make demo and make test need
#   scripts/install-deps.sh --check-tools  also what make check needs
#   scripts/install-deps.sh --bench        also what benchmarks compare with
#
# Does nothing, quickly, when all is there. As root it runs apt-get, otherwise sudo where
# that works; where neither is possible it prints the command to run and exits with 1.
set -eu

packages="gcc make pkg-config libc6-dev
    liburing-dev libinih-dev libjansson-dev libpcre2-dev libxxhash-dev libssl-dev
    zlib1g-dev libzstd-dev
    libncurses-dev libseccomp-dev libhwloc-dev libcmocka-dev bible-kjv procps python3-minimal
    opencl-c-headers ocl-icd-libopencl1 pocl-opencl-icd oclgrind"
check_tools="clang clang-format clang-tidy libclang-rt-dev cppcheck shellcheck"

case "${1:-}" in
'') ;;
--check-tools) packages="$packages $check_tools" ;;
--bench) packages="$packages fio libclblast-dev" ;;
*)
    echo "usage: scripts/install-deps.sh [--check-tools | --bench]" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    for tool in gcc make; do
        if ! command -v "$tool" >/dev/null; then
            echo "install-deps: this is not a Debian system; install by hand:" >&2
            echo "  a C11 compiler, make, liburing, inih, jansson, PCRE2," >&2
            echo "  xxHash, OpenSSL's libcrypto, zlib, libzstd, ncursesw, libseccomp, hwloc, cmocka," >&2
            echo "  the headers of OpenCL (its library and PoCL are needed by tests alone);" >&2
            echo "  for the demo bible-kjv" >&2
            exit 1
        fi
    done
    echo "install-deps: not a Debian system; going on with what is installed" >&2
    exit 0
fi

missing=
for package in $packages; do
    # shellcheck disable=SC2016 # ${Status} is dpkg-query's own
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    as_root=sudo
else
    echo "install-deps: missing:$missing" >&2
    echo "install-deps: run as root, then again:" >&2
    echo "  apt-get install -y --no-install-recommends$missing" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
apt_install()
{
    # shellcheck disable=SC2086 # lists of words
    $as_root apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends $missing
}

echo "install-deps: installing$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The package lists may be missing or old; they are fetched only when they are needed.
if apt_install >"$log" 2>&1; then
    exit 0
fi
$as_root apt-get -qq update >>"$log" 2>&1 || true
if ! apt_install >>"$log" 2>&1; then
    cat "$log" >&2
    echo "install-deps: apt-get failed; to try by hand:" >&2
    echo "  apt-get update && apt-get install -y --no-install-recommends$missing" >&2
    exit 1
fi
