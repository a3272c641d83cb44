#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Format, static analysis, and the limits of CONTRIBUTING.md, over every C file. Exit code 1 when anything is found.
#
#   scripts/lint.sh [FILE...]     all C files, or these
#
# The format is that of clang-format 14; other versions lay out some lines differently, so with those it is not checked.
set -eu
cd "$(dirname "$0")/.."
build=build-tidy
lines_max=800
jobs=$(nproc)
failed=0

if [ "$#" -gt 0 ]; then
    files=$*
else
    files=$(find include src bench tools tests python/native -name '*.[ch]' | sort)
fi

tool() { # clang-format and clang-tidy of version 14 where there are several
    if command -v "$1-14" >/dev/null 2>&1; then
        echo "$1-14"
    else
        echo "$1"
    fi
}

format=$(tool clang-format)
if $format --version | grep -q 'version 14\.'; then
    # shellcheck disable=SC2086 # words
    $format --dry-run -Werror $files || failed=1
else
    echo "lint: $format is not version 14: the format is not checked"
fi

for file in $files; do
    lines=$(wc -l <"$file")
    if [ "$lines" -gt "$lines_max" ]; then
        echo "$file: $lines lines, $lines_max at most: split it"
        failed=1
    fi
    case $(head -n 1 "$file") in
    *SPDX-License-Identifier:\ Apache-2.0*) ;;
    *)
        echo "$file: the first line does not name the licence (SPDX-License-Identifier)"
        failed=1
        ;;
    esac
done

# Configured for clang, since clang-tidy reads the command lines as clang would. Nothing is compiled there. One file a process:
# clang-tidy 14 takes va_lists of the second file on for uninitialized.
[ -f $build/build.ninja ] || CC=clang meson setup $build >/dev/null
ninja -C $build build.ninja >/dev/null # as of now, also where it was configured long ago
# Some sources are compiled twice, once for the simulator of threads: one command line a file.
mkdir -p $build/once
python3 -c '
import json, sys
commands = {}
for command in json.load(open(sys.argv[1])):
    commands.setdefault(command["file"], command)
json.dump(list(commands.values()), open(sys.argv[2], "w"))
' $build/compile_commands.json $build/once/compile_commands.json
# The Python extension is built by pip, so it has no command line here.
sources=$(for file in $files; do case $file in python/*) ;; *.c) echo "$file" ;; esac done)
tidy=$(tool clang-tidy)
if ! printf '%s\n' "$sources" | xargs -P "$jobs" -n 1 "$tidy" -p $build/once --quiet 2>build-tidy/stderr.txt; then
    grep -v 'warnings\? generated' build-tidy/stderr.txt || true
    failed=1
fi
[ $failed -eq 0 ] && echo "lint: $(printf '%s\n' "$files" | wc -w) files clean"
exit $failed
