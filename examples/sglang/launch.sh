#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# An SGLang server whose KV cache has a third level on local NVMe, in Varve.
#
#   examples/sglang/launch.sh MODEL [more arguments of sglang.launch_server]
#
# config.json beside this file has the path and the size. docs/sglang.md explains every line.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
model=$1
shift
exec python3 -m sglang.launch_server --model-path "$model" --port 30000 \
    --page-size 64 \
    --enable-hierarchical-cache --hicache-ratio 2 --hicache-write-policy write_through \
    --hicache-mem-layout page_first --hicache-io-backend kernel \
    --hicache-storage-backend dynamic --hicache-storage-prefetch-policy timeout \
    --hicache-storage-backend-extra-config "@$here/config.json" \
    --enable-metrics --enable-cache-report "$@"
