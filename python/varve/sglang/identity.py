# SPDX-License-Identifier: Apache-2.0
"""Names of namespaces: which pages may stand for each other.

SGLang's keys commit to tokens only. All else that makes KV bytes interchangeable is in the namespace's name: weights, the bytes' type and order,
page size, layers, pool, and the rank coordinates that split the data. Two servers whose names are equal share pages; any difference is a miss,
never a wrong page. The rule for TP: KV of MLA models is the same on every rank, everything else is not unless it is known to be.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from . import compat
from .config import Config, ConfigError

FORMAT = 1  # raise it when what is stored under a key changes
_NAME_BYTES_MAX = 1023

# Pools whose bytes every TP rank holds alike where the model's KV is replicated (MLA and its compressed kin): by name, and those whose name says nothing (sliding
# windows, draft models) by the class of their host pool. The others (Mamba state, drafts with heads) are split, and keep their rank there too.
_REPLICATED = re.compile(r"kv|indexer|draft_indexer|deepseek_v4_.*")
_REPLICATED_HOSTS = {"MLATokenToKVPoolHost", "DeepSeekV4PagedHostPool", "DeepSeekV4StateHostPool"}


def tp_sharded(pool: str, replicated_kv: bool, host_pool: Any) -> bool:
    """Whether each TP rank has bytes of its own in `pool`."""
    if not replicated_kv or pool == "mamba":
        return True
    kinds = {kind.__name__ for kind in type(host_pool).__mro__}
    return not (_REPLICATED.fullmatch(pool) or kinds & _REPLICATED_HOSTS)


class Coordinates:
    """Where this process stands, from SGLang's config object; fields that a release lacks have their neutral value."""

    def __init__(self, storage_config: Any) -> None:
        def number(name: str, default: int) -> int:
            value = getattr(storage_config, name, default)
            return default if value is None else int(value)

        self.tp_rank, self.tp_size = number("tp_rank", 0), number("tp_size", 1)
        self.pp_rank, self.pp_size = number("pp_rank", 0), number("pp_size", 1)
        self.cp_rank, self.cp_size = number("attn_cp_rank", 0), number("attn_cp_size", 1)
        self.dcp_rank, self.dcp_size = number("dcp_rank", 0), number("dcp_size", 1)
        self.dp_rank = number("dp_rank", 0)
        self.dp_size = max(number("dp_size", 1), compat.attention_dp_size(), self.dp_rank + 1)
        self.replicated_kv = bool(getattr(storage_config, "is_mla_model", False))
        lcm = number("tp_lcm_size", 0)
        self.head_shards = lcm // self.tp_size if getattr(storage_config, "should_split_heads", False) and lcm else 1

    @property
    def ranks(self) -> int:
        """Processes of this server."""
        return self.tp_size * self.pp_size * self.cp_size * self.dp_size

    @property
    def index(self) -> int:
        """This process's number among them."""
        rank = self.dp_rank
        for rank_of, size in ((self.pp_rank, self.pp_size), (self.cp_rank, self.cp_size), (self.tp_rank, self.tp_size)):
            rank = rank * size + rank_of
        return rank

    def name(self) -> str:
        """For people, and names of files: "tp0-of-8" or "tp1-of-2.pp0-of-4"."""
        name = f"tp{self.tp_rank}-of-{self.tp_size}"
        for axis, rank, size in (
            ("pp", self.pp_rank, self.pp_size),
            ("cp", self.cp_rank, self.cp_size),
            ("dp", self.dp_rank, self.dp_size),
        ):
            if size > 1:
                name += f".{axis}{rank}-of-{size}"
        return name

    def parts(self, sharded: bool, shards: int) -> int:
        """Namespaces that the pages of a pool are in, of all ranks together. `sharded`: as tp_sharded() says; `shards` of them are this rank's."""
        return self.pp_size * self.cp_size * shards * (self.tp_size if sharded else self.dcp_size)


def weights(config: Config, storage_config: Any) -> dict[str, str]:
    """What identifies the weights: the config's word, else the server's."""
    found = {"name": str(getattr(storage_config, "model_name", None) or "")}
    server = compat.server_identity()
    if config.model:
        # The model is the user's word; the type of the KV bytes is not part of it.
        found = {"model": config.model, **{k: v for k, v in server.items() if k == "kv_cache_dtype"}}
    else:
        found.update(server)
    if config.weight_version:
        found["weight_version"] = config.weight_version
    if not any(found.get(name) for name in ("model", "name", "model_path")):
        raise ConfigError(
            'the server gives its model no name, so pages of different models could not be told apart: add "model": "<name and '
            'revision>" to hicache-storage-backend-extra-config'
        )
    return found


def namespace_names(
    weights_of: dict[str, str], at: Coordinates, pool: str, host_pool: Any, detail: str, sharded: bool
) -> list[str]:
    """The namespaces of a pool: one, or one for each head shard where servers of different TP sizes share pages.

    Args:
        host_pool: SGLang's host pool, or None for pages that reach us as tensors only.
        detail: what else the bytes depend on.
        sharded: as tp_sharded() says.
    """
    fields = {
        "format": FORMAT,
        "pool": pool,
        "layout": getattr(host_pool, "layout", None),
        "dtype": str(getattr(host_pool, "dtype", "")).replace("torch.", ""),
        "page": getattr(host_pool, "page_size", None),
        "token_bytes": getattr(host_pool, "size_per_token", None),
        "layers": f"{getattr(host_pool, 'start_layer', None)}-{getattr(host_pool, 'end_layer', None)}",
        "tag": getattr(host_pool, "storage_format_tag", None),
        "detail": detail or None,
        "pp": f"{at.pp_rank}/{at.pp_size}",
        "cp": f"{at.cp_rank}/{at.cp_size}" if at.cp_size > 1 else None,
        "dcp": f"{at.dcp_rank}/{at.dcp_size}" if at.dcp_size > 1 else None,
    }
    text = "sglang " + " ".join(f"{name}={value}" for name, value in fields.items() if value not in (None, ""))
    shards = at.head_shards if pool == "kv" else 1
    names = []
    for shard in range(shards):
        tp = f"{at.tp_rank * shards + shard}/{at.tp_size * shards}" if sharded else "all"
        names.append(_bounded(f"{text} tp={tp}", weights_of))
    return names


def _bounded(text: str, weights_of: dict[str, str]) -> str:
    """A name that fits. What is cut is covered by a digest, so that names differ wherever their parts do."""
    settings = "".join(f" {name}={value!r}" for name, value in sorted(weights_of.items()))
    digest = hashlib.sha256((text + settings).encode()).hexdigest()[:32]
    shown = (text + settings).encode()[: _NAME_BYTES_MAX - len(digest) - 1].decode(errors="ignore")
    return f"{shown} {digest}"


def element_type(host_pool: Any) -> str:
    """The store's word for the pool's elements, a hint for its codec."""
    # SGLang keeps fp8 as uint8; the device's pool still says what it is.
    device_pool = getattr(host_pool, "device_pool", None)
    name = str(getattr(device_pool, "dtype", None) or getattr(host_pool, "dtype", ""))
    kinds = {"torch.bfloat16": "bf16", "torch.float16": "fp16", "torch.float32": "fp32"}
    return kinds.get(name, "fp8" if "float8" in name else "bytes")
