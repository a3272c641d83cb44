#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make an environment in which the real SGLang package runs on a CPU, for the tests of the plugin and for scripts/sglang_table.py.
#
#   scripts/sglang_setup.sh        build/venv-sglang and build/sglang/<release>/, and the varve package of this tree in them
#
# SGLang asks for CUDA libraries that its memory and controller modules do not need. So it is installed without its dependencies, next to the
# list below, which is what those modules import. The releases share the environment; what they want in different versions lies beside each.
# Does nothing that is done already. Exits with 77 where packages cannot be had.
set -eu
cd "$(dirname "$0")/.."

NEWEST=0.5.23
OLDER=0.5.13
TORCH=2.13.0

VENV=build/venv-sglang
STAMP=$VENV/complete
BASE="torch==$TORCH numpy==2.4.6 setuptools==84.2.1
    aiohttp==3.14.5 dill==0.4.1 filelock==4.2.11 gguf==0.19.0 httpx==0.28.1 huggingface_hub==2.4.0 ipython==9.18.1 loguru==0.7.3
    msgspec==0.22.0 ninja==1.13.2 orjson==3.13.0 packaging==26.3 pillow==13.0.0 prometheus_client==0.26.0 psutil==7.2.2
    pybase64==1.5.1 pydantic==2.14.3 pytest==9.2.0 PyYAML==6.0.3 pyzmq==27.3.0 regex==2026.11.15 requests==2.34.2
    safetensors==0.8.0 sentencepiece==0.2.3 starlette==1.10.0 tokenizers==0.23.3 tqdm==4.70.1 transformers==5.19.0"
# Their own dependencies are torch for CUDA, which must not replace the one above.
ALONE="apache-tvm-ffi==0.1.11 compressed-tensors==0.20.0 torchvision==0.28.0 triton==3.7.1"
BESIDE_OLDER="transformers==5.8.1 tokenizers==0.22.2 huggingface_hub==1.33.0 openai==3.54.0 sniffio==1.3.1 einops==0.8.2
    partial_json_parser==0.2.1.1.post7"

say() {
    echo "sglang_setup: $*"
}

install() {
    "$VENV/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-warn-conflicts "$@" >>"$VENV/log" 2>&1
}

install_all() {
    # shellcheck disable=SC2086 # lists of words
    install $BASE && install --no-deps $ALONE &&
        install --no-deps --target "build/sglang/$NEWEST" "sglang==$NEWEST" &&
        install --no-deps --target "build/sglang/$OLDER" "sglang==$OLDER" $BESIDE_OLDER
}

wanted=$(cksum <"$0")
if [ ! -e "$STAMP" ] || [ "$(cat "$STAMP")" != "$wanted" ]; then
    say "installing sglang $NEWEST and $OLDER with CPU torch $TORCH (about 3 GB, some minutes)"
    rm -rf "$VENV" build/sglang
    mkdir -p build
    python3 -m venv "$VENV"
    if ! install_all; then
        say "packages cannot be had: $(grep -m 1 ERROR "$VENV/log" || tail -n 1 "$VENV/log")"
        exit 77
    fi
    echo "$wanted" >"$STAMP"
fi
install --no-deps --no-build-isolation --force-reinstall ./python || {
    say "the varve package cannot be built:"
    tail -n 20 "$VENV/log"
    exit 1
}
