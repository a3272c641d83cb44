#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fuzz the parsers, and whole directories, with libFuzzer (clang).
#
#   scripts/fuzz.sh [--merge] [SECONDS] [TARGET...]     60 seconds each, all targets (tests/fuzz/fuzz_TARGET.c)
#
# Begins with tests/fuzz/corpus/TARGET, examples that the target makes itself, and what earlier runs found (build-fuzz/found/TARGET). An
# input that fails a target lies in build-fuzz/failed; the last lines say how to run it again. --merge: afterwards the kept corpus is made
# anew, from the fewest inputs of at most KEEP_BYTES that reach the same code: KEEP_FILES of them, of all sizes.
set -eu
cd "$(dirname "$0")/.."
build=${FUZZ_BUILD:-build-fuzz}
KEEP_BYTES=4096
KEEP_FILES=${KEEP_FILES:-24}
merge=
seconds=60

if [ "${1:-}" = --merge ]; then
    merge=1
    shift
fi
case "${1:-}" in
[0-9]*)
    seconds=$1
    shift
    ;;
esac
if [ "$#" -eq 0 ]; then
    # shellcheck disable=SC2046 # words
    set -- $(sed -n "s/^  '\([a-z]*\)': {.*/\1/p" tests/fuzz/meson.build)
fi

. scripts/lib.sh

# All of the library is instrumented for coverage: else libFuzzer would see the target only.
if [ ! -f "$build/build.ninja" ]; then
    CC=clang meson setup "$build" -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Ddefault_library=static \
        -Dc_args=-fsanitize=fuzzer-no-link >/dev/null
elif ! grep -q fuzzer-no-link "$build/build.ninja"; then
    meson configure "$build" -Dc_args=-fsanitize=fuzzer-no-link
fi

fuzz() { # target, arguments of libFuzzer...
    target=$1
    shift
    # shellcheck disable=SC2154,SC2086 # words, from lib.sh
    $run "$build/tests/fuzz/libfuzzer_$target" -artifact_prefix="$build/failed/$target-" -rss_limit_mb=2048 -timeout=20 \
        -max_len=65536 "$@"
}

examples() { # target
    [ -d "$build/examples/$1" ] && return
    mkdir -p "$build/examples/$1"
    # shellcheck disable=SC2154,SC2086 # words, from lib.sh
    $run "$build/tests/fuzz/fuzz_$1" --examples="$build/examples/$1" --rounds=200
}

# Small inputs first, so that of two that reach the same code the smaller one stays.
keep() { # target
    rm -rf "$build/small" "$build/kept"
    mkdir "$build/small" "$build/kept"
    find "tests/fuzz/corpus/$1" "$build/found/$1" "$build/examples/$1" -type f -size "-${KEEP_BYTES}c" \
        -exec cp {} "$build/small" \;
    fuzz "$1" -merge=1 "$build/kept" "$build/small" >"$build/$1.merge.log" 2>&1
    mkdir -p "tests/fuzz/corpus/$1"
    # A failure that was found and mended is kept by its name.
    find "tests/fuzz/corpus/$1" -type f ! -name 'fixed-*' -exec rm {} +
    count=$(find "$build/kept" -type f | wc -l)
    step=$(((count + KEEP_FILES - 1) / KEEP_FILES))
    # shellcheck disable=SC2012 # names are digests
    ls -S "$build/kept" | awk -v step="$step" 'NR % step == 0' | while read -r name; do # of all sizes
        cp "$build/kept/$name" "tests/fuzz/corpus/$1/"
    done
    echo "$1: $(find "tests/fuzz/corpus/$1" -type f | wc -l) of $(find "$build/kept" -type f | wc -l) inputs kept"
}

failed=
mkdir -p "$build/failed"
for target in "$@"; do
    ninja -C "$build" "tests/fuzz/libfuzzer_$target" "tests/fuzz/fuzz_$target" >"$build/build.log" 2>&1 ||
        { tail -n 40 "$build/build.log"; exit 1; }
    mkdir -p "$build/found/$target" "tests/fuzz/corpus/$target"
    examples "$target"
    echo "== $target: $seconds s"
    if ! fuzz "$target" -max_total_time="$seconds" -print_final_stats=1 -verbosity=1 "$build/found/$target" \
        "tests/fuzz/corpus/$target" "$build/examples/$target" >"$build/$target.log" 2>&1; then
        tail -n 30 "$build/$target.log"
        failed="$failed $target"
    fi
    grep -E 'cov: ' "$build/$target.log" | tail -n 1 || true
    if [ -n "$merge" ]; then
        keep "$target"
    fi
done
rm -rf "$build/small" "$build/kept"
for target in $failed; do
    echo "fuzz: $target failed; again: $build/tests/fuzz/fuzz_$target $build/failed/$target-*"
done
[ -z "$failed" ]
