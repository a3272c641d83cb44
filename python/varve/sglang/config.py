# SPDX-License-Identifier: Apache-2.0
"""The keys of --hicache-storage-backend-extra-config, checked.

KEYS is the one table: parsing, messages and docs/sglang.md follow it. Options of the store itself (varve.options()) are keys as well. A key that
nobody knows is an error that names the nearest right one, because a misspelt limit is no limit.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import varve


class ConfigError(ValueError):
    """What is wrong with the configuration, and what to write instead."""


class Key(NamedTuple):
    kind: str  # "text", "int", "number" or "bool"
    default: Any
    least: float
    help: str


KEYS: dict[str, Key] = {
    "path": Key("text", "", 0, "Directory of the cache, on a local file system. All ranks, and all servers with the same path, share it."),
    "capacity": Key("text", "", 0, "Hard limit on what lies under `path` (\"500G\"), for all who share it together."),
    "write_budget": Key("text", "", 0, "Most bytes to write in a day (\"2T\"), all together; or \"0.5x\": times the capacity. What exceeds it is not stored."),
    "quota": Key("text", "", 0, "Most that the pages of this model may take of `capacity` (\"200G\"), of all its ranks together; each pool of a hybrid model so much. Others keep theirs."),
    "ttl": Key("int", 0, 0, "Seconds after which a page that nobody used is never loaded again. 0: none."),
    "model": Key("text", "", 0, "Identity of the weights, instead of what the server says (model path, revision, quantization, served name)."),
    "weight_version": Key("text", "", 0, "Change it when the weights change under the same name: pages of other versions are never used."),
    "prefill_us_per_token": Key("number", 0.0, 0, "Microseconds the GPU takes to prefill one token. 0: every hit is reported, however slow the disk."),
    "prefill_us_per_token_per_1k": Key("number", 0.0, 0, "Microseconds a token takes longer for every 1,000 tokens before it."),
    "breaker_failures": Key("int", 3, 1, "Failing calls in a row after which the disk is left alone."),
    "breaker_pause_s": Key("number", 5.0, 0.01, "Seconds until it is tried again; doubles up to 16 times while it keeps failing."),
    "stall_s": Key("number", 15.0, 0.01, "A call that takes longer counts as failed."),
    "metrics_file": Key("text", "", 0, "Prometheus text file, rewritten every metrics_interval_s. Empty: <path>/metrics/<rank>.prom. \"off\": none."),
    "metrics_interval_s": Key("number", 10.0, 0.05, "Seconds between two writes of metrics_file."),
    "metrics_port": Key("int", 0, 0, "Serve the same text over HTTP on 127.0.0.1 at this port + rank. 0: off."),
}  # fmt: skip

# Keys that SGLang reads. Those it takes out of the JSON in some releases and leaves in others are here as well.
SGLANG_KEYS = {
    "backend_name",
    "module_path",
    "class_name",
    "interface_v1",
    "allocator",
    "prefetch_threshold",
    "prefetch_timeout_base",
    "prefetch_timeout_per_ki_token",
    "prefetch_timeout_max",
    "hicache_storage_pass_prefix_keys",
    "tp_lcm_size",
}

_SIZES = ("capacity", "quota", "write_budget")
_TYPES = {"text": (str,), "int": (int,), "number": (int, float), "bool": (bool,)}
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size_bytes(text: str | int, name: str = "capacity") -> int:
    """Bytes of "500G", "64M" or a plain number, as the store reads sizes. `name`: the key, for the message."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", str(text).upper())
    if match is None:
        raise ConfigError(
            f'{name}: {text!r} is no size; write bytes, or a number with K, M, G or T (powers of 1024): "500G"'
        )
    return int(float(match.group(1)) * _UNITS[match.group(2)])


@dataclass(frozen=True)
class Config:
    """Checked configuration. Fields as in KEYS; `store` are the other options for varve.Store."""

    path: str
    capacity: str | int = ""
    write_budget: str | int = ""
    quota: str | int = ""
    ttl: int = 0
    model: str = ""
    weight_version: str = ""
    prefill_us_per_token: float = 0.0
    prefill_us_per_token_per_1k: float = 0.0
    breaker_failures: int = 3
    breaker_pause_s: float = 5.0
    stall_s: float = 15.0
    metrics_file: str = ""
    metrics_interval_s: float = 10.0
    metrics_port: int = 0
    interface_v1: bool = False
    store: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, extra: Mapping[str, Any] | None) -> Config:
        """Raises ConfigError."""
        extra = dict(extra or {})
        options = {option["name"] for option in varve.options()}
        known = sorted(set(KEYS) | options | SGLANG_KEYS)
        for name in extra:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1, 0.5)
                hint = f"did you mean {near[0]!r}?" if near else "the keys are in docs/sglang.md"
                raise ConfigError(f"hicache-storage-backend-extra-config: no key {name!r}; {hint}")
        values = {name: _checked(name, key, extra[name]) for name, key in KEYS.items() if name in extra}
        if not values.get("path"):
            raise ConfigError(
                'hicache-storage-backend-extra-config: "path" is missing: the directory for the cache, on a local disk, for example '
                '"path": "/nvme/kv", "capacity": "500G"'
            )
        for name in _SIZES:
            if values.get(name) and not _is_times(name, values[name]):
                size_bytes(values[name], name)
        store = {name: extra[name] for name in options if name in extra and name not in KEYS}
        return cls(**values, interface_v1=bool(extra.get("interface_v1", 0)), store=store)

    def store_options(self) -> dict[str, Any]:
        """For varve.Store."""
        options = dict(self.store)
        for name in ("capacity", "write_budget"):
            value = getattr(self, name)
            if value:
                options[name] = value if _is_times(name, value) else size_bytes(value, name)
        return options

    def patience_s(self) -> float:
        """About what a call takes that waits in vain for the process that owns the store."""
        defaults = {option["name"]: option["default"] for option in varve.options()}
        return 0.9 * int(self.store.get("peer_timeout_ms", defaults["peer_timeout_ms"])) / 1000

    def quota_bytes(self, parts: int) -> int:
        """Of one namespace, where the pages of a pool are in `parts` of them; 0: no quota."""
        return size_bytes(self.quota, "quota") // parts if self.quota else 0


def _is_times(name: str, value: str | int) -> bool:
    """Whether it is "0.5x": times the capacity of whichever store it is given to."""
    return name == "write_budget" and re.fullmatch(r"\d+(\.\d{1,6})?[xX]", str(value)) is not None


def _checked(name: str, key: Key, value: Any) -> Any:
    if name in _SIZES and isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, _TYPES[key.kind]) or (isinstance(value, bool) and key.kind != "bool"):
        raise ConfigError(f"hicache-storage-backend-extra-config: {name!r} must be a {key.kind}, not {value!r}")
    if isinstance(value, (int, float)) and not value >= key.least:
        raise ConfigError(
            f"hicache-storage-backend-extra-config: {name!r} must be at least {key.least:g}, not {value!r}"
        )
    return value
