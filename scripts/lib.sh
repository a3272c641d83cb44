# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What test.sh and soak.sh share: builds with sanitizers, and how programs from them are run. To be sourced in the root of the tree.

# Sanitizers of older compilers cannot cope with the address layout of newer kernels: run without randomization where that is allowed.
run=
if command -v setarch >/dev/null 2>&1 && setarch "$(uname -m)" -R true 2>/dev/null; then
    run="setarch $(uname -m) -R"
fi
export ASAN_OPTIONS=abort_on_error=1:detect_leaks=1:strict_string_checks=1
export UBSAN_OPTIONS=halt_on_error=1:abort_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:abort_on_error=1:second_deadlock_stack=1

build() { # directory, sanitizers, targets...
    dir=$1
    sanitizers=$2
    shift 2
    [ -f "$dir/build.ninja" ] || meson setup "$dir" -Dbuildtype=debugoptimized -Db_sanitize="$sanitizers" >"$dir.log" 2>&1 ||
        { cat "$dir.log"; return 1; }
    rm -f "$dir.log"
    ninja -C "$dir" --quiet "$@"
}
