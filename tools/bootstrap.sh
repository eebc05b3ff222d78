#!/bin/sh
# bootstrap.sh -- make this machine able to build and test navmap; quick when there is nothing to do.
#
# System packages come from apt where apt and the right to use it exist; otherwise they are named
# and nothing is changed.  What comes from PyPI goes into .venv at the project's root, and nowhere
# else.  PYTHON=python3.x chooses the interpreter that .venv is made from.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/.venv
python=${PYTHON:-python3}
requirements=$root/tools/requirements.txt

say() { printf 'bootstrap: %s\n' "$*"; }
die() {
    printf 'bootstrap: %s\n' "$*" >&2
    exit 1
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# A compiler counts when it makes a program: gcc without libc's headers does not.
compiler_works() {
    printf '#include <stdio.h>\n#include <pthread.h>\nint main(void) { return puts("") < 0; }\n' \
        >"$scratch/probe.c"
    ${CC:-cc} -o "$scratch/probe" "$scratch/probe.c" >/dev/null 2>&1
}
has_library() { pkg-config --exists "$1" 2>/dev/null; }
python_runs() { "$python" -c '' >/dev/null 2>&1; }
# Debian splits ensurepip off into python3-venv, and Python.h into python3-dev.
python_has_venv() { "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; }
python_has_headers() {
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' \
        >/dev/null 2>&1
}

missing_packages() {
    compiler_works || echo gcc libc6-dev
    command -v make >/dev/null 2>&1 || echo make
    command -v pkg-config >/dev/null 2>&1 || echo pkg-config
    has_library lmdb || echo liblmdb-dev
    has_library libxxhash || echo libxxhash-dev
    has_library cmocka || echo libcmocka-dev
    python_runs || echo python3
    python_has_venv || echo python3-venv
    python_has_headers || echo python3-dev
}

# shellcheck source=tools/apt.sh
. "$root"/tools/apt.sh

# shellcheck disable=SC2046,SC2086 # a list of package names, split on purpose
install_packages() {
    say "installing with apt: $*"
    # Old or absent package lists show as a failure, and only then are they worth fetching.
    apt_install "$@" >"$scratch/apt.log" 2>&1 && return 0
    as_root apt-get update -q >"$scratch/apt.log" 2>&1 &&
        apt_install "$@" >>"$scratch/apt.log" 2>&1 && return 0
    tail -n 20 "$scratch/apt.log" >&2
    die "apt could not install: $*"
}

packages=$(missing_packages | tr '\n' ' ')
if [ -n "$packages" ]; then
    if ! may_apt; then
        die "missing: ${packages}
           These are Debian's names.  Install them (Debian, Ubuntu: sudo apt-get install ${packages})
           and run the command again."
    fi
    # shellcheck disable=SC2086
    install_packages $packages
    packages=$(missing_packages | tr '\n' ' ')
    [ -z "$packages" ] || die "still missing after installation: ${packages}
           With an interpreter of your own, PYTHON=/usr/bin/python3 may help."
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$("$python" --version) is too old: Python 3.11 or newer is needed (PYTHON=python3.x chooses)"

# .venv is complete when it carries these requirements and its programs still run: they do not
# after the project was moved, or the interpreter that .venv was made from went away.
stamp=$venv/bootstrap.stamp
venv_runs() { "$venv/bin/python" -c '' && "$venv/bin/meson" --version; } >/dev/null 2>&1
if venv_runs && cmp -s "$requirements" "$stamp"; then
    exit 0
fi
if [ -e "$venv/pyvenv.cfg" ] && ! venv_runs; then
    rm -rf "$venv"
fi
say "making $venv with $("$python" --version)"
[ -d "$venv" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" ||
    die "pip could not install what $requirements lists"
cp "$requirements" "$stamp"
