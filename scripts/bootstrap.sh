#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install what is missing, and only that, on a Debian machine.
#
#   scripts/bootstrap.sh build|test|demo|bench|coverage
#
# Each tool and library is looked for first, wherever it came from (meson from pip is as good as Debian's). apt-get runs only when
# something is missing, as root or through sudo; where neither is possible, the message says what to install.
set -eu

packages=

want() {
    packages="$packages $1"
}

have() {
    command -v "$1" >/dev/null 2>&1
}

want_command() { # command, package
    have "$1" || want "$2"
}

want_library() { # pkg-config name, package
    if ! have pkg-config || ! pkg-config --exists "$1"; then
        want "$2"
    fi
}

meson_is_new() {
    have meson && meson --version | awk -F. '{ exit !($1 >= 1) }'
}

want_build() {
    want_command cc gcc
    [ -e /usr/include/stdio.h ] || want libc6-dev
    want_command ninja ninja-build
    want_command pkg-config pkg-config
    meson_is_new || want meson
    want_library liburing liburing-dev
    want_library libxxhash libxxhash-dev
    want_library libcrypto libssl-dev
    want_library libzstd libzstd-dev
}

python_can_build() {
    python3 -c 'import ensurepip, os, sysconfig, venv; raise SystemExit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null
}

want_test() {
    want_build
    python_can_build || want "python3-dev python3-venv"
    want_library cmocka libcmocka-dev
    want_command clang clang
    want_command clang-format clang-format
    want_command clang-tidy clang-tidy
    want_command nm binutils
}

want_demo() {
    want_build
    scripts/plot.sh --probe || want python3-matplotlib
}

want_bench() { # the stores of other projects that varve is compared with
    want_build
    want_library rocksdb librocksdb-dev
    want_library lmdb liblmdb-dev
}

want_coverage() {
    want_test
    want_command gcc gcc
    want_command gcovr gcovr
}

install_packages() {
    echo "bootstrap: installing$packages"
    if ! have apt-get; then
        echo "bootstrap: this is no Debian: install what these packages hold, then run make again:$packages" >&2
        exit 1
    fi
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        if ! have sudo; then
            echo "bootstrap: neither root nor sudo: run, as root: apt-get install -y$packages" >&2
            exit 1
        fi
        as_root=sudo
    fi
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # words
    if ! { $as_root apt-get update -q && $as_root apt-get install -y -q --no-install-recommends $packages; }; then
        echo "bootstrap: apt-get failed: see above, and install by hand:$packages" >&2
        exit 1
    fi
}

cd "$(dirname "$0")/.."
case "${1:-}" in
build | test | demo | bench | coverage) "want_$1" ;;
*)
    echo "usage: scripts/bootstrap.sh build|test|demo|bench|coverage" >&2
    exit 2
    ;;
esac
[ -z "$packages" ] || install_packages
