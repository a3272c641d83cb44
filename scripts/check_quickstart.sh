#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run the example of the README twice on one directory: the first run stores four pages, the second finds them.
#
#   scripts/check_quickstart.sh QUICKSTART
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
first=$("$1" "$dir/kv")
second=$("$1" "$dir/kv")
expected='of 4 pages are stored
page 2 is "third", status 0'
if [ "$first" != "0 $expected" ] || [ "$second" != "4 $expected" ]; then
    printf 'the first run said:\n%s\nthe second:\n%s\n' "$first" "$second"
    exit 1
fi
