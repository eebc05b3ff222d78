#!/bin/sh
# sanitized.sh SANITIZERS BUILD_DIR -- every test in short form in a build with SANITIZERS (as for
# meson's b_sanitize).  Called by `make asan` and `make tsan`, which see to .venv and PATH.
# With the thread sanitizer, of the Python tests those of threads only: it takes what glibc does with
# the thread-local storage of a thread that ended for a race, in an interpreter it knows nothing of.
set -eu

sanitizers=$1
build=$2
cd "$(dirname "$0")/.."

# Some kernels place mappings where an older thread sanitizer cannot shadow them, and the program
# dies before main().  Without address randomisation it runs.
launcher=
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
echo 'int main(void) { return 0; }' >"$scratch/probe.c"
${CC:-cc} -fsanitize="$sanitizers" -o "$scratch/probe" "$scratch/probe.c" || {
    echo "sanitized.sh: ${CC:-cc} cannot build with -fsanitize=$sanitizers" >&2
    exit 1
}
for _ in 1 2 3 4 5; do
    if ! "$scratch/probe" >/dev/null 2>&1; then
        launcher="setarch $(uname -m) -R"
        $launcher "$scratch/probe"
        break
    fi
done

[ -f "$build/build.ninja" ] || meson setup "$build" \
    -Dtests=enabled -Dpython=enabled -Ddefault_library=static \
    -Db_sanitize="$sanitizers" -Db_lundef=false -Doptimization=1
ninja -C "$build" --quiet
build=$(cd "$build" && pwd)
rm -rf "$build/stage"
DESTDIR=$build/stage meson install -C "$build" --no-rebuild --quiet --tags python-runtime,cli

export NAVMAP_SHORT=1
# A suppression file would hide real findings: there is none.
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:die_after_fork=0
files=
[ "$sanitizers" != thread ] || files=tests/python/test_threads.py
$launcher python tests/run.py "$build" --python $files --stage "$build/stage"
