# SPDX-License-Identifier: Apache-2.0
"""What the plugin takes from SGLang, wherever the installed release keeps it.

Modules move between releases, fields come and go. Everything that depends on the release is looked up here, once, at import; the rest of the
plugin knows one shape. Only HiCacheStorage is required; what a release lacks is None, and the callers that need it are not called there.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

_STORAGE = "sglang.srt.mem_cache.hicache_storage"
_TRANSFER = "sglang.srt.mem_cache.pool_transfer"
_METRICS = ("sglang.srt.observability.metrics_collector", "sglang.srt.metrics.collector")

# What tells one set of weights from another among the arguments of a server. Those of the KV bytes are in the list as well: the host
# pool only knows how it stores them (fp8_e4m3 and fp8_e5m2 are both uint8 there).
_SERVER_FIELDS = (
    "model_path",
    "revision",
    "weight_version",
    "quantization",
    "kv_cache_dtype",
    "json_model_override_args",
    "speculative_draft_model_path",
    "speculative_draft_model_revision",
)


def _find(name: str, *modules: str) -> Any:
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    return None


HiCacheStorage = _find("HiCacheStorage", _STORAGE)
if HiCacheStorage is None:
    raise ImportError(
        "varve.sglang is a plugin for SGLang and needs its class HiCacheStorage (sglang.srt.mem_cache.hicache_storage), which "
        "cannot be imported here: run it in the environment of the SGLang server (pip install varve there)"
    )
PoolTransferResult = _find("PoolTransferResult", _STORAGE, _TRANSFER)
StorageMetrics = _find("StorageMetrics", *_METRICS)


def transfer_result(hit_pages: int, pool_pages: dict[str, int], restorable: list[int] | None) -> Any:
    """A PoolTransferResult; the legal stop points go in where the release has room for them."""
    fields = {field.name for field in dataclasses.fields(PoolTransferResult)}
    if "restorable_prefix_pages" in fields:
        return PoolTransferResult(hit_pages, pool_pages, restorable_prefix_pages=restorable)
    return PoolTransferResult(hit_pages, pool_pages)


def server_identity() -> dict[str, str]:
    """What the arguments of the server in this process say about its weights; {} outside a server."""
    for module, getter in (
        ("sglang.srt.runtime_context", "get_server_args"),
        ("sglang.srt.server_args", "get_global_server_args"),
    ):
        find = _find(getter, module)
        try:
            args = find() if find is not None else None
        except Exception:  # noqa: BLE001 - every release has its own way to say that there is none
            args = None
        if args is not None:
            values = {name: getattr(args, name, None) for name in _SERVER_FIELDS}
            return {name: str(value) for name, value in values.items() if value not in (None, "", "{}")}
    return {}


def attention_dp_size() -> int:
    """Ranks of attention data parallelism in this server; 1 where there are none, or the release does not say."""
    parallel = _find("get_parallel", "sglang.srt.runtime_context")
    try:
        return max(1, int(parallel().attn_dp_size))
    except Exception:  # noqa: BLE001 - not set up outside a server
        return 1


def every_rank_writes(pool: str) -> bool:
    """Whether SGLang has all TP ranks write a pool of a model whose KV is replicated; it has only rank 0 write the KV itself."""
    controller = _find("HybridCacheController", "sglang.srt.mem_cache.hybrid_cache.hybrid_cache_controller")
    return pool == "mamba" and hasattr(controller, "should_backup")
