#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make the images of a new format version: make_golden.sh BUILD vN. Refuses to change a set that exists.
set -eu
umask 077
build=$(realpath "$1")
cd "$(dirname "$0")"
if [ -e "$2" ]; then
    echo "make_golden.sh: $2 exists, and an old set never changes" >&2
    exit 1
fi
mkdir "$2"
cd "$2"
"$build/tests/golden/make_golden" .
for dir in */; do
    name=${dir%/}
    tar -c --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 "$name" | gzip -9n >"$name.tar.gz"
    rm -r "$name"
done
