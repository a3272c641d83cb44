#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Branch coverage of the library (src/) by the suites unit, api and fuzz and by the simulator, in build-cov. Prints the branches
# taken by file, with the lines of the others, and the figures of the two groups that have a target.
#
#   scripts/coverage.sh [--check]     --check: exit code 1 when a group is below its target
#
# What is counted: gcc's branches without optimization, in every file of src/, of one run that begins at zero. Only what cannot
# happen by construction is left out, by one rule: the branches of lines that begin with "assert(". An assertion that fails ends
# the process, so no test can take that branch and be counted. The assertions themselves stay compiled in, as in releases. What a
# killed process had done is not counted either, since it never writes its counts (tests/api/crash_test.c).
set -eu
cd "$(dirname "$0")/.."
build=build-cov
recovery_least=95
library_least=85
seeds=100 # of the simulator: the suite sim runs many more, which take no other branches
check=0

case "${1:-}" in
"") ;;
--check) check=1 ;;
*)
    echo "usage: scripts/coverage.sh [--check]" >&2
    exit 2
    ;;
esac

simulate() { # arguments of the simulator, in one word; its report only when it fails
    # shellcheck disable=SC2086 # words
    $build/tests/sim/sim $1 >$build/sim.log 2>&1 || { cat $build/sim.log; return 1; }
}

# Warnings are for the other builds: gcc has wrong ones without optimization.
[ -f $build/build.ninja ] || CC=gcc meson setup $build -Dbuildtype=debug -Db_coverage=true -Dwerror=false \
    -Dc_args=-fprofile-update=atomic >/dev/null
find $build -name '*.gcda' -delete
ninja -C $build --quiet
meson test -C $build --no-rebuild --print-errorlogs --timeout-multiplier 4 --suite unit --suite api --suite fuzz
simulate "--file=tests/seeds.txt"
simulate "--seeds=1..$seeds"
simulate "--seeds=1..$seeds --faults"
for op in alloc read write sync create rename sync_dir; do
    simulate "--nth=$op --seeds=1..1 --ops=60"
done

report() { # arguments of gcovr...
    gcovr --root . --exclude-branches-by-pattern '^\s*assert\(' "$@"
}

group() { # name, least percentage, filters...
    name=$1
    least=$2
    shift 2
    total=$(report --add-tracefile $build/coverage.json --branches "$@" | awk '$1 == "TOTAL" { print $2, $3 }')
    echo "$total" | awk -v name="$name" -v least="$least" '{
        percent = 100 * $2 / $1
        printf "coverage: %s: %d of %d branches, %.1f %% (target %d %%)\n", name, $2, $1, percent, least
        exit percent < least
    }' || low="$low $name"
}

report --filter src/ $build --json $build/coverage.json
report --add-tracefile $build/coverage.json --branches
low=
group "recovery, format, manifest" $recovery_least --filter src/format/ --filter src/manifest/ \
    --filter 'src/store/(recover|replay|sweep)\.c'
group "library" $library_least --filter src/
[ $check -eq 0 ] || [ -z "$low" ] || { echo "coverage: below the target:$low" >&2; exit 1; }
