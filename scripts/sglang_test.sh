#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Test the SGLang plugin against real releases of SGLang.
#
#   scripts/sglang_test.sh [pytest arguments]
#
# Where their packages cannot be had the tests are reported as skipped, and the exit code is 77; with CI=true or VARVE_REQUIRE_PYTHON=1 that is a failure.
set -eu
cd "$(dirname "$0")/.."

status=0
scripts/sglang_setup.sh || status=$?
if [ $status -eq 77 ] && [ "${CI:-}" != true ] && [ "${VARVE_REQUIRE_PYTHON:-0}" != 1 ]; then
    for test in tests/python/test_sglang_*.py; do
        echo "SKIPPED $test: sglang and its packages cannot be had"
    done
    exit 77
fi
[ $status -eq 0 ] || exit $status

# SGLang compiles its hash when it is first used; and both need ninja from the environment.
here=$PWD
PATH=$here/build/venv-sglang/bin:$PATH
TORCH_EXTENSIONS_DIR=$here/build/torch-extensions
export PATH TORCH_EXTENSIONS_DIR
for release in build/sglang/*; do
    echo "== sglang ${release##*/}"
    PYTHONPATH=$here/$release python -W ignore -m pytest -q -rs -p no:cacheprovider -W ignore::pytest.PytestAssertRewriteWarning "$@" tests/python/test_sglang_*.py || status=1
done
exit $status
