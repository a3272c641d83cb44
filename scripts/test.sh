#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Everything that a change has to pass: all tests with ASan and UBSan, those with threads again with TSan, then lint. All steps
# run, whatever fails; the last line says how it went.
set -u
cd "$(dirname "$0")/.."
. scripts/lib.sh
began=$(date +%s)
failed=

step() { # name, command...
    name=$1
    shift
    echo "== $name"
    if ! "$@"; then
        failed="$failed $name"
    fi
}

tests() { # directory, arguments of meson test...
    dir=$1
    shift
    # shellcheck disable=SC2154,SC2086 # words, from lib.sh
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
