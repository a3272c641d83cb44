#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Kill processes that share one directory, under ASan, on disk and on tmpfs: half of KILLS on each. SEED=N repeats a run.
#
#   scripts/soak_share.sh [KILLS]     500 by default
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

kills=$((${1:-500} / 2))
seed=${SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
build build-asan address,undefined tests/soak/share_soak
for dir in build-asan /dev/shm; do
    # shellcheck disable=SC2154,SC2086 # words, from lib.sh
    $run build-asan/tests/soak/share_soak --kills="$kills" --seed="$seed" --dir="$dir"
done
