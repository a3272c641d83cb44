#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The shared library exports the VARVE_API functions of varve.h, at the version node of this release, and nothing else; and
# it does not need liburing to be loaded.
#
#   scripts/check_symbols.sh LIBVARVE_SO VARVE_H
set -eu
library=$1
header=$2
node=VARVE_0.1

exported=$(nm -D --defined-only --with-symbol-versions "$library" | awk -v node="$node" '$3 != node { print $3 }' | sort)
# A declaration may go on over several lines: join them, and take the word before the first parenthesis.
declared=$(tr '\n' ' ' <"$header" | sed 's/VARVE_API/\n&/g' |
    sed -n 's/^VARVE_API [^(]*[ *]\(varve_[a-z_]*\)(.*/\1/p' | sed "s/\$/@@$node/" | sort)
if [ "$exported" != "$declared" ]; then
    echo "exported (<) and declared (>) functions differ:"
    printf '%s\n' "$exported" >"${TMPDIR:-/tmp}/exported.$$"
    printf '%s\n' "$declared" | diff "${TMPDIR:-/tmp}/exported.$$" - || true
    rm -f "${TMPDIR:-/tmp}/exported.$$"
    exit 1
fi
if readelf -d "$library" | grep NEEDED | grep -q liburing; then
    echo "$library needs liburing: it must be loaded at run time, where it is installed"
    exit 1
fi
echo "$(printf '%s\n' "$exported" | wc -l) functions exported, all declared, at $node"
