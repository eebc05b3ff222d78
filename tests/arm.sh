#!/bin/sh
# arm.sh [BUILD_DIR [SUITE ...]] -- cross-compile navmap for AArch64 and run tests of it under qemu.
#
# Called by `make arm`, which sees to .venv and PATH.  The suites are kernel, format and unit unless
# others are named: what instructions, layout and byte order can break.  The others test time and
# processes, and an emulator tells nothing of those; for the same reason unit tests `fork` and `view`
# are left out, which look at what a fork does to mappings, and at /proc/self/maps, where they see
# the emulator's own.  On an AArch64 machine `make test` is the way.
#
# Needs Debian's cross compiler, its arm64 libraries and qemu; they are installed where apt and the
# right to use it exist.  Without them the script names what is missing and skips: status 77.
set -eu

build=${1:-build-arm}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- kernel format unit
cd "$(dirname "$0")/.."

tools='gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static pkg-config'
libraries='liblmdb-dev libxxhash-dev libcmocka-dev'
pkgconfig=/usr/lib/aarch64-linux-gnu/pkgconfig

say() { printf 'arm.sh: %s\n' "$*"; }
skip() {
    printf 'arm.sh: skipped: %s\n' "$*" >&2
    exit 77
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The proof is a program that runs: any of compiler, libc and emulator may be half there.
arm_works() {
    echo 'int main(void) { return 42; }' >"$scratch/probe.c"
    aarch64-linux-gnu-gcc -o "$scratch/probe" "$scratch/probe.c" >/dev/null 2>&1 || return 1
    status=0
    qemu-aarch64-static "$scratch/probe" >/dev/null 2>&1 || status=$?
    [ $status -eq 42 ]
}
has_libraries() {
    for name in lmdb libxxhash cmocka; do
        PKG_CONFIG_LIBDIR=$pkgconfig pkg-config --exists $name 2>/dev/null || return 1
    done
}
ready() { arm_works && has_libraries; }

# shellcheck source=tools/apt.sh
. tools/apt.sh
# A foreign architecture is a setting of the machine, and stays.  Its lists come by an update only.
install_packages() {
    if ! dpkg --print-foreign-architectures | grep -qx arm64; then
        as_root dpkg --add-architecture arm64 || return 1
    fi
    foreign=
    for name in $libraries; do foreign="$foreign $name:arm64"; done
    # shellcheck disable=SC2086 # lists of package names, split on purpose
    as_root apt-get update -q && apt_install $tools $foreign
}

[ "$(uname -m)" != aarch64 ] || skip 'this is an AArch64 machine; use make test'
if ! ready; then
    may_apt || skip "missing some of: $tools, and of the arm64 edition of: $libraries"
    say "installing with apt: $tools, for arm64 $libraries"
    install_packages >"$scratch/apt.log" 2>&1 || {
        tail -n 5 "$scratch/apt.log" >&2
        skip 'apt could not install them'
    }
    ready || skip 'installed, and still no arm64 program can be made and run'
fi

[ -f "$build/build.ninja" ] ||
    meson setup "$build" --cross-file tests/aarch64.ini -Dtests=enabled -Dpython=disabled
suites=
for suite in "$@"; do suites="$suites --suite $suite"; done
# shellcheck disable=SC2086 # lists of options and names
{
    names=$(meson test -C "$build" --list $suites 2>/dev/null |
        sed -n 's/.*navmap://p' | grep -vx -e fork -e view)
    # NAVMAP_SHORT: emulation is slower by ten to fifty times, as a sanitizer is.
    NAVMAP_SHORT=1 meson test -C "$build" --timeout-multiplier 10 --print-errorlogs $suites $names
}
