#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Everything that a change has to pass: all tests with ASan and UBSan, those with threads again with TSan, then lint. All steps
# run, whatever fails; the last line says how it went.
set -u
cd "$(dirname "$0")/.."
began=$(date +%s)
failed=

# Sanitizers of older compilers cannot cope with the address layout of newer kernels: run without randomization where that is allowed.
run=
if command -v setarch >/dev/null 2>&1 && setarch "$(uname -m)" -R true 2>/dev/null; then
    run="setarch $(uname -m) -R"
fi
export ASAN_OPTIONS=abort_on_error=1:detect_leaks=1:strict_string_checks=1
export UBSAN_OPTIONS=halt_on_error=1:abort_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:abort_on_error=1:second_deadlock_stack=1

step() { # name, command...
    name=$1
    shift
    echo "== $name"
    if ! "$@"; then
        failed="$failed $name"
    fi
}

build() { # directory, sanitizers
    [ -f "$1/build.ninja" ] || meson setup "$1" -Dbuildtype=debugoptimized -Db_sanitize="$2" >"$1.log" 2>&1 ||
        { cat "$1.log"; return 1; }
    rm -f "$1.log"
    ninja -C "$1" --quiet
}

tests() { # directory, arguments of meson test...
    dir=$1
    shift
    # shellcheck disable=SC2086 # words
    $run meson test -C "$dir" --no-rebuild --print-errorlogs "$@"
}

count() { # directory, result: how many tests ended so
    log=$1/meson-logs/testlog.txt
    if [ -f "$log" ]; then
        awk -v key="$2:" '$1 == key { n = $2 } END { print n + 0 }' "$log"
    else
        echo 0
    fi
}

rm -f build-asan/meson-logs/testlog.txt build-tsan/meson-logs/testlog.txt
step build-asan build build-asan address,undefined
step tests-asan tests build-asan
step build-tsan build build-tsan thread
step tests-tsan tests build-tsan --suite threads
step lint scripts/lint.sh

passed=$(($(count build-asan Ok) + $(count build-tsan Ok)))
bad=$(($(count build-asan Fail) + $(count build-tsan Fail) + $(count build-asan Timeout) + $(count build-tsan Timeout)))
skipped=$(($(count build-asan Skipped) + $(count build-tsan Skipped)))
echo "make test: $passed passed, $bad failed, $skipped skipped in $(($(date +%s) - began)) s${failed:+; failed steps:$failed}"
[ -z "$failed" ]
