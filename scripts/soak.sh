#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Look for failures for as long as wanted, with seeds that nobody has tried: simulation, fuzzing, kills on real file systems, threads under TSan.
#
#   scripts/soak.sh [MINUTES]      10 by default; fractions are fine. SEED=N in the environment repeats the seeds of a run.
#
# Each kind of test gets a share of the time. A failure does not end the others; the table at the end counts, the exit code says whether all
# held, and build-soak/ keeps what failed. Ctrl-C ends the run early, with the table.
set -u
cd "$(dirname "$0")/.."
. scripts/lib.sh

minutes=${1:-10}
seed=${SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
jobs=$(nproc)
logs=build-soak
stopped=
failures=0
skips=

budget=$(awk -v minutes="$minutes" 'BEGIN { print int(minutes * 60 + 0.5) }')
[ "$budget" -gt 0 ] || { echo "usage: scripts/soak.sh [MINUTES]" >&2; exit 2; }

trap 'stopped=yes' INT TERM

now() {
    date +%s
}

share() { # percent: sets deadline
    deadline=$(($(now) + (budget * $1 + 99) / 100))
}

left() {
    [ -z "$stopped" ] && [ "$(now)" -lt "$deadline" ]
}

say() {
    echo "== $*"
}

fail() { # log, what
    [ -n "$stopped" ] && return
    failures=$((failures + 1))
    cp "$1" "$logs/failure-$failures.log"
    echo "FAILED: $2 (all of it: $logs/failure-$failures.log)"
    grep -a -E '^(FAIL|repro:)' "$1" || tail -n 20 "$1"
}

skip() {
    echo "skipped: $1"
    skips="$skips
skipped: $1"
}

attempt() { # log, command...: what happened goes to log and log.code
    log=$1
    shift
    # shellcheck disable=SC2154,SC2086 # words, from lib.sh
    $run "$@" >"$log" 2>&1
    echo $? >"$log.code"
}

settle() { # log, totals, what: 77 is a skip, 124 the end of the time
    code=$(cat "$1.code" 2>/dev/null || echo 130)
    case $code in
    0) cat "$1" >>"$2" ;;
    77) skip "$3: $(tail -n 1 "$1")" ;;
    124) ;;
    *) fail "$1" "$3: exit code $code" ;;
    esac
}

seeds() { # totals, seeds a run, program, arguments...: runs side by side with fresh seeds until the time is over
    totals=$1
    step=$2
    simulator=$3
    shift 3
    failures_before=$failures
    while left && [ "$failures" -eq "$failures_before" ]; do
        job=0
        while [ "$job" -lt "$jobs" ]; do
            attempt "$logs/job-$job.log" "$simulator" "--seeds=$seed..$((seed + step - 1))" "$@" &
            seed=$((seed + step))
            job=$((job + 1))
        done
        wait
        job=0
        while [ "$job" -lt "$jobs" ]; do
            settle "$logs/job-$job.log" "$totals" "$simulator $*"
            [ "$code" -ne 0 ] || echo "$step" >>"$totals-seeds"
            job=$((job + 1))
        done
    done
}

simulate() {
    for program in sim sim_threads sim_peers; do
        [ -z "$stopped" ] || return
        if [ ! -x "build-asan/tests/sim/$program" ]; then
            skip "$program: not built"
            continue
        fi
        say "$program"
        share 10
        seeds "$logs/${program#sim_}" 5 "build-asan/tests/sim/$program"
        [ "$program" != sim_peers ] || continue
        say "$program --faults"
        share 10
        seeds "$logs/${program#sim_}" 5 "build-asan/tests/sim/$program" --faults
    done
}

fuzz_mutated() { # examples, mutated by the program itself
    programs=$(find build-asan/tests/fuzz -maxdepth 1 -type f -name 'fuzz_*' -perm -u+x | sort)
    say "fuzzing of examples: $(printf '%s\n' "$programs" | wc -l) targets"
    share 8
    while left; do
        for program in $programs; do
            left || break
            attempt "$logs/job-0.log" "$program" --rounds=200 "--seed=$seed"
            settle "$logs/job-0.log" "$logs/fuzz-output" "$program --seed=$seed"
            [ "$code" -ne 0 ] || echo 200 >>"$logs/fuzz"
            seed=$((seed + 200))
        done
    done
}

fuzz_covered() { # with libFuzzer, which follows the branches
    if ! command -v clang >/dev/null 2>&1; then
        skip "libFuzzer: no clang"
        return
    fi
    count=$(find tests/fuzz -name 'fuzz_*.c' ! -name fuzz_main.c ! -name fuzz_require.c ! -name fuzz_directory.c | wc -l)
    seconds=$((budget * 12 / 100 / count))
    say "libFuzzer: $count targets"
    rm -f build-fuzz/*.log
    attempt "$logs/job-0.log" scripts/fuzz.sh "$((seconds > 0 ? seconds : 1))"
    settle "$logs/job-0.log" "$logs/fuzz-output" "scripts/fuzz.sh"
    cat build-fuzz/*.log 2>/dev/null | sed -n 's/^stat::number_of_executed_units: *//p' >>"$logs/fuzz"
}

kills() { # percent, build, arguments...
    share "$1"
    build=$2
    shift 2
    left || return
    say "kill loop ($build): $*"
    attempt "$logs/job-0.log" "$build/tests/soak/kill_loop" --json "--seed=$seed" "--seconds=$((deadline - $(now)))" "$@"
    settle "$logs/job-0.log" "$logs/kills" "kill loop $*"
    seed=$((seed + 1))
}

kill_all() {
    for engine in uring threads; do
        kills 7 build-asan "--dir=$logs" "--engine=$engine"
        kills 7 build-asan --dir=/dev/shm "--engine=$engine"
    done
    kills 5 build-asan "--dir=$logs" --damage
    kills 4 build-asan "--dir=$logs" --full=tmpfs
    kills 4 build-asan "--dir=$logs" --full=ext4
    kills 5 build-tsan "--dir=$logs" --threads=8
}

stress() {
    say "threads under TSan"
    share 5
    [ "$budget" -ge 400 ] || deadline=$(($(now) + 20)) # one test needs so long
    mkdir -p "$logs/stress"
    while left; do
        attempt "$logs/job-0.log" timeout "$((deadline - $(now)))" env "VARVE_TEST_SEED=$seed" "VARVE_TEST_DIR=$logs/stress" \
            build-tsan/tests/api/threads_test
        settle "$logs/job-0.log" "$logs/stress-output" "VARVE_TEST_SEED=$seed build-tsan/tests/api/threads_test"
        grep -c '\[       OK \]' "$logs/job-0.log" >>"$logs/stress-tests" # what was done before the time was over counts
        seed=$((seed + 1))
    done
    rm -rf "$logs/stress"
}

line() { # pattern: the sum over the lines of the simulator, each a number and what it counts
    awk -v pattern="$1" '$1 ~ /^[0-9]+$/ { text = $0; sub(/^ *[0-9]+ /, "", text); if (text ~ "^(" pattern ")$") n += $1 }
        END { printf "%d", n }' "$logs/sim"
}

key() { # file, key: the sum of its values in lines of JSON
    sed -n "s/.*\"$2\": \([0-9]*\).*/\1/p" "$1" | awk '{ n += $1 } END { printf "%d", n }'
}

sum() {
    awk '{ n += $1 } END { printf "%d", n }' "$1"
}

report() {
    echo "soak: seed $first_seed, $(($(now) - began)) s${stopped:+, stopped early}$skips"
    printf '%-34s %14s\n' "seeds simulated" "$(sum "$logs/sim-seeds")" \
        "seeds simulated with threads" "$(sum "$logs/threads-seeds")" \
        "seeds simulated with several processes" "$(sum "$logs/peers-seeds")" \
        "simulated crashes" "$(line 'deaths of the process|power failures|crashes in (an open|a close)')" \
        "simulated faults" "$(line '(other )?failed [a-z]+|misdirected writes|lost writes|flipped bits')" \
        "simulated pages verified" "$(line 'pages (read and compared|looked for after an open)')" \
        "kills" "$(key "$logs/kills" kills)" "kills while opening" "$(key "$logs/kills" kills_opening)" \
        "kills while closing" "$(key "$logs/kills" kills_closing)" "lives on a full disk" "$(key "$logs/kills" full_lives)" \
        "files damaged" "$(key "$logs/kills" damages)" "second openers locked out" "$(key "$logs/kills" locked_out)" \
        "batches acknowledged" "$(key "$logs/kills" batches_acknowledged)" "pages verified" "$(key "$logs/kills" pages_verified)" \
        "fuzz executions" "$(sum "$logs/fuzz")" "tests of threads under TSan" "$(sum "$logs/stress-tests")" "failures" "$failures"
}

began=$(now)
first_seed=$seed
rm -rf "$logs"
mkdir -p "$logs"
for name in sim sim-seeds threads-seeds peers-seeds kills fuzz stress-tests; do : >"$logs/$name"; done
echo "soak: $budget s from seed $seed (SEED=$seed repeats)"
build build-asan address,undefined || exit 1
build build-tsan thread tests/soak/kill_loop tests/api/threads_test || exit 1
began=$(now)
simulate
fuzz_mutated
[ -n "$stopped" ] || fuzz_covered
kill_all
[ -n "$stopped" ] || stress
report
[ "$failures" -eq 0 ]
