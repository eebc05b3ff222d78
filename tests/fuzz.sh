#!/bin/sh
# fuzz.sh BUILD_DIR TARGET|all SECONDS SEED -- libFuzzer over the targets in tests/fuzz, under the
# address and undefined-behaviour sanitizers.  Called by `make fuzz`, which sees to .venv and PATH.
#
# What is found is kept in BUILD_DIR/corpus/TARGET for the next run, and what kills the program in
# BUILD_DIR/found/TARGET-*.  Needs clang and its runtime libraries; they are installed where apt and
# the right to use it exist.  Without them the script names what is missing and skips: status 77.
set -eu

build=$1
targets=$2
seconds=$3
seed=$4
cd "$(dirname "$0")/.."
[ "$targets" != all ] || targets='data sealed hnswlib record'

compiler=${FUZZ_CC:-clang}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The proof is a program that is made: Debian has the runtime in a package of its own.
compiler_works() {
    printf '%s\n' '#include <stddef.h>' '#include <stdint.h>' \
        'int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) { return p && n && 0; }' \
        >"$scratch/probe.c"
    "$compiler" -fsanitize=fuzzer,address,undefined -o "$scratch/probe" "$scratch/probe.c" \
        >/dev/null 2>&1
}
# shellcheck source=tools/apt.sh
. tools/apt.sh
# Until bookworm the runtime has no package without a version, and clang brings it along.
install_packages() {
    apt_install clang && apt_install "libclang-rt-$("$compiler" -dumpversion | cut -d. -f1)-dev"
}
skip() {
    printf 'fuzz.sh: skipped: %s\n' "$*" >&2
    exit 77
}

if ! compiler_works; then
    may_apt || skip "$compiler cannot link with -fsanitize=fuzzer: clang and libclang-rt-*-dev"
    echo 'fuzz.sh: installing with apt: clang and its runtime libraries'
    install_packages >"$scratch/apt.log" 2>&1 ||
        { as_root apt-get update -q && install_packages; } >>"$scratch/apt.log" 2>&1 ||
        tail -n 5 "$scratch/apt.log" >&2
    compiler_works || skip "$compiler cannot link with -fsanitize=fuzzer"
fi

# fuzzer-no-link: every file of ours counts what it passes; only the fuzzers have libFuzzer's main.
[ -f "$build/build.ninja" ] || CC=$compiler meson setup "$build" \
    -Dtests=enabled -Dtools=disabled -Ddefault_library=static -Dfuzz=true \
    -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 \
    -Dc_args='-fsanitize=fuzzer-no-link -fno-sanitize-recover=all'
programs=
for target in $targets; do programs="$programs tests/fuzz/fuzzer-$target"; done
# shellcheck disable=SC2086 # a list of names
ninja -C "$build" --quiet $programs

status=0
for target in $targets; do
    mkdir -p "$build/corpus/$target" "$build/found"
    echo "fuzz.sh: $target, $seconds seconds, seed $seed"
    "$build/tests/fuzz/fuzzer-$target" -seed="$seed" -max_total_time="$seconds" \
        -max_len=322 -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=256 -print_final_stats=1 \
        -artifact_prefix="$build/found/$target-" \
        "$build/corpus/$target" "tests/fuzz/corpus/$target" || status=1
done
exit $status
