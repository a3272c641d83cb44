# SPDX-License-Identifier: Apache-2.0
"""VarveHiCache: what SGLang calls.

SGLang's storage threads die of an exception, and its scheduler waits for some of these calls. So every entry point answers, with the right
type and length, whatever happens: trouble is a miss here and a number in the metrics. A call of SGLang is one call of the store a batch, with the
GIL released, from and into the host pool itself wherever the layout allows.

Calls come from up to four threads at once. What they share is immutable after registration, or has a lock of its own (Handle, Breaker,
Metrics, Order).
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, TypeVar

import varve

from . import compat, v2
from .breaker import Breaker
from .config import Config
from .guard import Guard
from .handle import Handle, Spec
from .identity import Coordinates, element_type, namespace_names, tp_sharded, weights
from .keys import ID_BYTES, chosen, groups, ids_of
from .metrics import Exporter, Metrics
from .order import Order
from .regions import BadIndices, Copies, Markers, Regions, access, tensors
from .seats import Seat
from .transfer import Transfer

logger = logging.getLogger("varve.sglang")
Answer = TypeVar("Answer")

KV = "kv"
_SUFFIX_POOLS = ("draft",)  # pools that releases without draft registration put under "<key>.<pool>"
_LOG_EVERY_S = 30.0


class Pool(NamedTuple):
    """A registered host pool."""

    access: Regions | Markers | Copies
    specs: list[Spec]  # one for each shard


def _answers(fallback: Callable[..., Answer]) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """An entry point that never raises: on an exception the answer is `fallback` of the same arguments."""

    def wrap(method: Callable[..., Answer]) -> Callable[..., Answer]:
        @functools.wraps(method)
        def call(self: VarveHiCache, *args: Any, **kwargs: Any) -> Answer:
            try:
                return method(self, *args, **kwargs)
            except Exception as err:  # noqa: BLE001
                self._kept(method.__name__, err)
                return fallback(*args, **kwargs)

        return call

    return wrap


def _all_false(keys: Sequence[str], *_args: Any, **_kwargs: Any) -> list[bool]:
    return [False] * len(keys or [])


def _all_none(keys: Sequence[str], *_args: Any, **_kwargs: Any) -> list[Any]:
    return [None] * len(keys or [])


def _no_pool(transfers: Sequence[Any], *_args: Any, **_kwargs: Any) -> dict[str, list[bool]]:
    return {transfer.name: [False] * len(transfer.keys or []) for transfer in transfers or []}


class VarveHiCache(compat.HiCacheStorage):
    """A HiCacheStorage over a Varve store."""

    def __init__(self, storage_config: Any, kwargs: Any = None) -> None:
        """Reads the configuration and opens the store. Raises ConfigError or varve.Error: this fails the start, or the attach."""
        self._config = Config.parse(getattr(storage_config, "extra_config", None))
        self._at = Coordinates(storage_config)
        self._weights = weights(self._config, storage_config)
        self._pools: dict[str, Pool] = {}
        self._flat_specs: dict[str, Spec] = {}
        self._order = Order()
        self._metrics = Metrics()
        self._logged: dict[str, float] = {}
        self._handle = Handle(self._config)
        self._seat = self._take_seat()
        limits = (self._config.breaker_failures, self._config.breaker_pause_s, self._config.stall_s)
        self._io = Transfer(self._handle, self._metrics, Breaker(*limits), Breaker(*limits), self._config.patience_s())
        self._guard = Guard(self._config.prefill_us_per_token, self._config.prefill_us_per_token_per_1k, 1)
        self._exporter = Exporter(
            self.prometheus_text, self._metrics_path(), self._config.metrics_interval_s, self._metrics_port()
        )
        logger.info("varve: %s of %s, a cache for %s", self._at.name(), self._handle.directory, self._weights)
        if not self._config.interface_v1:
            logger.warning(
                'varve: "interface_v1": 1 is missing in hicache-storage-backend-extra-config: SGLang copies every page through '
                "Python, several times slower. Add it"
            )

    # Registration

    def register_mem_pool_host(self, mem_pool_host: Any) -> None:
        """The pool of the KV cache, or (older releases) the group of pools whose anchor it is. Raises: this fails the attach."""
        anchor = getattr(mem_pool_host, "anchor_entry", None)
        mem_pool_host = mem_pool_host if anchor is None else anchor.host_pool
        super().register_mem_pool_host(mem_pool_host)
        self._flat_specs = {}
        self._add_pool(KV, mem_pool_host)
        self._guard = Guard(
            self._config.prefill_us_per_token,
            self._config.prefill_us_per_token_per_1k,
            self._pools[KV].access.page_tokens,
        )
        layout = getattr(mem_pool_host, "layout", "")
        if layout == "layer_first" and self._config.interface_v1:
            logger.info(
                "varve: the host layout is layer_first, so a page lies in many small pieces; --hicache-mem-layout page_first is faster"
            )

    def register_mem_host_pool_v2(self, host_pool: Any, host_pool_name: Any) -> None:
        """A pool of a hybrid model, the KV pool included; also later, for pools that come into being."""
        base = getattr(super(), "register_mem_host_pool_v2", None)
        if base is not None:
            base(host_pool, host_pool_name)
        name = str(host_pool_name)
        if name != KV or KV not in self._pools:
            self._add_pool(name, host_pool)

    def _add_pool(self, name: str, host_pool: Any) -> None:
        shards = self._at.head_shards if name == KV else 1
        way = access(host_pool, shards)
        sharded = tp_sharded(name, self._at.replicated_kv, host_pool)
        names = namespace_names(self._weights, self._at, name, host_pool, "" if way.in_place else "flat", sharded)
        parts = self._at.parts(sharded, len(names))
        specs = [Spec(text, element_type(host_pool), way.page_bytes // len(names), parts) for text in names]
        if sharded and self._at.replicated_kv and self._at.tp_size > 1 and not compat.every_rank_writes(name):
            logger.warning(
                "varve: pool %s is another on every TP rank, and this release of SGLang has only rank 0 write it: prompts will not hit. "
                "--enable-dp-attention --dp-size %d (attention TP 1) avoids that",
                name,
                self._at.tp_size,
            )
        for spec in specs:
            self._handle.namespace(spec)
        self._pools[name] = Pool(way, specs)

    # What is stored

    @_answers(lambda *args, **kwargs: False)
    def exists(self, key: str) -> bool:
        return self._prefix([key], None) == 1

    @_answers(lambda *args, **kwargs: 0)
    def batch_exists(self, keys: list[str], extra_info: Any = None) -> int:
        """Pages before the first that is missing, or that is not worth loading."""
        return self._prefix(keys, getattr(extra_info, "prefix_keys", None))

    def _prefix(self, keys: Sequence[str], prefix_keys: Sequence[str] | None) -> int:
        ids = ids_of(keys)
        if ids is None:
            return self._prefix_of_any(keys)
        pages, load_us = self._kv_pages(ids)
        self._order.saw_query(keys, pages, prefix_keys)
        best = self._worthwhile(range(1, pages + 1), load_us, prefix_keys)
        self._metrics.count(query_pages=len(keys), query_hit_pages=best, query_slow_pages=pages - best)
        return best

    def _prefix_of_any(self, keys: Sequence[str]) -> int:
        """For keys that name a pool, or are no hashes."""
        stored = bytearray(len(keys))
        for pool, (positions, ids) in groups(keys).items():
            bits = self._io.exists(self._flat_spec(pool), ids)
            for position, bit in zip(positions, bits):
                stored[position] = bit
        hits = v2.leading(bytes(stored))
        self._metrics.count(query_pages=len(keys), query_hit_pages=hits)
        return hits

    def _kv_pages(self, ids: bytes) -> tuple[int, list[int]]:
        """Stored pages from the front, in all shards; and the time to load each prefix of them, where the guard wants it."""
        pages = len(ids) // ID_BYTES
        load_us: list[int] = []
        for spec in self._kv_specs():
            pages, times = self._io.prefix(spec, ids[: pages * ID_BYTES], self._guard.active)
            load_us = [a + b for a, b in zip(load_us, times)] if load_us else times
        return pages, load_us

    def _worthwhile(self, stops: Sequence[int], load_us: list[int], prefix_keys: Sequence[str] | None) -> int:
        if not stops:
            return 0
        if not self._guard.active:
            return stops[-1]
        return self._guard.best_stop(load_us, stops, len(prefix_keys or ()))

    def batch_exists_v2(self, keys: list[str], pool_transfers: Any = None, extra_info: Any = None) -> Any:
        """The greatest stop point that all pools share, each pool's own pages, and all legal stop points."""
        try:
            return self._exists_v2(keys, pool_transfers or [], getattr(extra_info, "prefix_keys", None))
        except Exception as err:  # noqa: BLE001
            self._kept("batch_exists_v2", err)
            return compat.transfer_result(0, {}, [])

    def _exists_v2(self, keys: list[str], transfers: Sequence[Any], prefix_keys: Sequence[str] | None) -> Any:
        ids = ids_of(keys)
        if ids is None:
            return compat.transfer_result(0, {}, [])
        pages, load_us = self._kv_pages(ids)
        self._order.saw_query(keys, pages, prefix_keys)
        found: dict[str, int] = {KV: pages} if pages else {}
        gates = []
        for transfer in transfers:
            own, allowed = self._pool_stops(transfer, keys, ids[: pages * ID_BYTES])
            if own:
                found[transfer.name] = own
            if allowed is not None:
                gates.append(allowed)
        stops = v2.common_stops(pages, gates)
        best = self._worthwhile(stops, load_us, prefix_keys)
        slow = (stops[-1] if stops else 0) - best
        stops = [stop for stop in stops if stop <= best]
        self._metrics.count(query_pages=len(keys), query_hit_pages=best, query_slow_pages=slow)
        for transfer in transfers:
            self._touch(transfer, ids[: best * ID_BYTES])
        return compat.transfer_result(best, found, stops)

    def _pool_stops(self, transfer: Any, keys: Sequence[str], kv_ids: bytes) -> tuple[int, Sequence[int] | None]:
        """The pages that a pool covers on its own, and the stop points it allows (None: it does not gate)."""
        pool = self._pools.get(str(transfer.name))
        policy = v2.policy_of(transfer)
        if pool is None:
            return 0, None if policy == v2.BLOCK_GROUPS else ()
        spec = pool.specs[0]
        if policy == v2.BLOCK_GROUPS:
            ids = ids_of(v2.group_keys(transfer, keys))
            stored = self._io.exists(spec, ids) if ids else b""
            covered = v2.leading_groups(stored, transfer.group_pages) * max(1, transfer.block_pages)
            return min(covered, len(keys)), None
        stored = self._io.exists(spec, kv_ids)
        if policy == v2.TRAILING_PAGES:
            stops: Sequence[int] = v2.trailing_stops(stored, v2.window_of(transfer))
        else:
            stops = range(1, v2.leading(stored) + 1)
        return (stops[-1] if stops else 0), stops

    def _touch(self, transfer: Any, ids: bytes) -> None:
        """Side pages are as recent as the KV pages that are of no use without them."""
        pool = self._pools.get(str(transfer.name))
        if pool is None or not ids:
            return
        if v2.policy_of(transfer) == v2.TRAILING_PAGES:
            ids = ids[-v2.window_of(transfer) * ID_BYTES :]
        self._io.touch(pool.specs[0], ids)

    # Pages in place

    @_answers(_all_false)
    def batch_get_v1(self, keys: list[str], host_indices: Any, extra_info: Any = None) -> list[bool]:
        return self._get_pool(KV, keys, host_indices)

    @_answers(_all_false)
    def batch_set_v1(self, keys: list[str], host_indices: Any, extra_info: Any = None) -> list[bool]:
        return self._set_pool(KV, keys, host_indices, getattr(extra_info, "prefix_keys", None))

    @_answers(_no_pool)
    def batch_get_v2(self, transfers: list[Any], extra_info: Any = None) -> dict[str, list[bool]]:
        return {
            transfer.name: self._one_pool(lambda name, keys, at: self._get_pool(name, keys, at), transfer)
            for transfer in transfers
        }

    @_answers(_no_pool)
    def batch_set_v2(self, transfers: list[Any], extra_info: Any = None) -> dict[str, list[bool]]:
        prefix_keys = getattr(extra_info, "prefix_keys", None)
        return {
            transfer.name: self._one_pool(lambda name, keys, at: self._set_pool(name, keys, at, prefix_keys), transfer)
            for transfer in transfers
        }

    def _one_pool(self, move: Callable[[str, list[str], Any], list[bool]], transfer: Any) -> list[bool]:
        """One pool's trouble is not its neighbours'."""
        keys = list(transfer.keys or [])
        try:
            return move(str(transfer.name), keys, transfer.host_indices)
        except Exception as err:  # noqa: BLE001
            self._kept(f"transfer of {transfer.name}", err)
            return [False] * len(keys)

    def _get_pool(self, name: str, keys: list[str], host_indices: Any) -> list[bool]:
        ids = ids_of(keys)
        if not keys or ids is None:
            return [False] * len(keys)
        pool = self._pools[name]
        if isinstance(pool.access, Copies):
            room = pool.access.room(host_indices, len(keys))
            good = self._io.get(pool.specs[0], ids, tensors(room))
            for page, ok in enumerate(good):
                if ok:
                    pool.access.page_in(host_indices, page, room[page])
            return good
        parts = pool.access.locate(host_indices, len(keys))
        return _both([self._io.get(spec, ids, part) for spec, part in zip(pool.specs, parts)])

    def _set_pool(self, name: str, keys: list[str], host_indices: Any, prefix_keys: Sequence[str] | None) -> list[bool]:
        ids = ids_of(keys)
        if not keys or ids is None:
            return [False] * len(keys)
        pool = self._pools[name]
        parent = self._order.parent(name, keys, prefix_keys)
        if isinstance(pool.access, Copies):
            pages = pool.access.pages_out(host_indices, len(keys))
            return self._io.put(pool.specs[0], ids, tensors(pages), parent)
        parts = pool.access.locate(host_indices, len(keys))
        return _both([self._io.put(spec, ids, part, parent) for spec, part in zip(pool.specs, parts)])

    # Pages as tensors

    @_answers(lambda *args, **kwargs: None)
    def get(self, key: str, target_location: Any = None, target_sizes: Any = None) -> Any:
        return self._get_tensors([key], [target_location])[0]

    @_answers(_all_none)
    def batch_get(self, keys: list[str], target_locations: Any = None, target_sizes: Any = None) -> list[Any]:
        return self._get_tensors(keys, list(target_locations or [None] * len(keys)))

    @_answers(lambda *args, **kwargs: False)
    def set(self, key: str, value: Any = None, target_location: Any = None, target_sizes: Any = None) -> bool:
        return all(self._set_tensors([key], [value if value is not None else target_location]))

    @_answers(lambda *args, **kwargs: False)
    def batch_set(
        self, keys: list[str], values: Any = None, target_locations: Any = None, target_sizes: Any = None
    ) -> bool:
        return all(self._set_tensors(keys, list(values if values is not None else target_locations)))

    def _get_tensors(self, keys: Sequence[str], targets: list[Any]) -> list[Any]:
        import torch

        answers: list[Any] = [None] * len(keys)
        for pool, (positions, ids) in groups(keys).items():
            spec = self._flat_spec(pool)
            rooms = [targets[position] for position in positions]
            bare = [room is None for room in rooms]
            sizes = iter(self._io.sizes(spec, chosen(ids, bare)))
            for at, room in enumerate(rooms):
                if room is None:
                    rooms[at] = torch.empty(next(sizes), dtype=torch.uint8)
                elif not room.is_contiguous():
                    rooms[at] = torch.empty_like(room, memory_format=torch.contiguous_format)
            for position, room, ok in zip(positions, rooms, self._io.get(spec, ids, tensors(rooms), bare)):
                target = targets[position]
                if ok and target is not None and target is not room:
                    target.copy_(room)
                if ok:
                    answers[position] = room if target is None else target
        return answers

    def _set_tensors(self, keys: Sequence[str], values: list[Any]) -> list[bool]:
        stored = [False] * len(keys)
        for pool, (positions, ids) in groups(keys).items():
            pages = [values[position].contiguous() for position in positions]
            parent = self._order.parent(f"flat {pool}", [keys[position] for position in positions], None)
            for position, ok in zip(positions, self._io.put(self._flat_spec(pool), ids, tensors(pages), parent)):
                stored[position] = ok
        return stored

    def _kv_specs(self) -> list[Spec]:
        """Where SGLang's KV calls go."""
        kv = self._pools[KV]
        if self._config.interface_v1 or isinstance(kv.access, Markers):
            return kv.specs
        return [self._flat_spec("")]

    def _flat_spec(self, pool: str) -> Spec:
        """The namespace of pages that come as tensors; their bytes are in another order than those in place in some layouts.

        `pool`: the one that the key names, "" for KV.
        """
        spec = self._flat_specs.get(pool)
        if spec is None:
            host_pool = getattr(self, "mem_pool_host", None)
            sharded = pool != "" or tp_sharded(KV, self._at.replicated_kv, host_pool)
            name = namespace_names(self._weights, self._at, pool or KV, host_pool, "flat", sharded)[0]
            spec = Spec(name, element_type(host_pool) if pool == "" else "bytes", 0, self._at.parts(sharded, 1))
            self._flat_specs[pool] = spec
        return spec

    # Life and numbers

    @_answers(lambda *args, **kwargs: None)
    def clear(self) -> None:
        """Forget this model's pages of this rank, in O(1), whichever server stored them; those of other models stay."""
        specs = [spec for pool in self._pools.values() for spec in pool.specs]
        specs += [self._flat_spec(pool) for pool in ("", *_SUFFIX_POOLS)]
        for spec in dict.fromkeys(specs):
            self._handle.namespace(spec).clear()
        logger.info("varve: cleared %s of %s", sorted(self._pools), self._handle.directory)

    @_answers(lambda *args, **kwargs: None)
    def get_stats(self) -> Any:
        """Batches since the last call, as SGLang's StorageMetrics."""
        return self._metrics.take_samples()

    def stats(self) -> dict[str, int]:
        """The plugin's own counters (varve.sglang.metrics.COUNTERS), for programs."""
        return self._metrics.counts()

    def store_stats(self) -> dict[str, int]:
        """The store's statistics, as Handle.stats(). Raises varve.Error when it is closed."""
        return self._handle.stats()

    def prometheus_text(self) -> str:
        labels = {
            "directory": os.path.basename(os.path.abspath(self._handle.directory)),
            "rank": self._seat.name if self._seat else self._at.name(),
            "model": self._weights.get("model") or self._weights.get("name", ""),
        }
        gauges = {
            "reads_stopped": ("1 while the disk is left alone for reads", float(self._io.reads.is_open)),
            "writes_stopped": ("1 while the disk is left alone for writes", float(self._io.writes.is_open)),
            "breaker_opened": ("Times that happened", float(self._io.reads.opened + self._io.writes.opened)),
            "reopened": ("Times the store was opened again after a failure", float(self._handle.reopened)),
        }
        try:
            store = self._handle.stats()
        except varve.Error:
            store = {}
        return self._metrics.text(labels, gauges, store)

    def close(self) -> None:
        """Detach. Idempotent; calls that come later are misses."""
        try:
            self._exporter.close()
            self._exporter.write()
            self._handle.close()
            if self._seat:
                self._seat.leave()
        except Exception as err:  # noqa: BLE001
            self._kept("close", err)

    def _take_seat(self) -> Seat | None:
        try:
            return Seat(self._metrics_directory(), self._at.name())
        except OSError as err:
            logger.warning("varve: %s: %s; no metrics_file", self._metrics_directory(), err)
            return None

    def _metrics_directory(self) -> str:
        return os.path.join(self._handle.directory, "metrics")

    def _metrics_path(self) -> str | None:
        if self._config.metrics_file or self._seat is None:
            return self._config.metrics_file if self._config.metrics_file != "off" else None
        return os.path.join(self._metrics_directory(), f"{self._seat.name}.prom")

    def _metrics_port(self) -> int:
        if not self._config.metrics_port:
            return 0
        replica = self._seat.number if self._seat else 0
        return self._config.metrics_port + self._at.index + replica * self._at.ranks

    def _kept(self, where: str, err: Exception) -> None:
        """An exception stops here. It is counted, and logged now and then."""
        self._metrics.count(**{"bad_calls" if isinstance(err, BadIndices) else "exceptions": 1})
        now = time.monotonic()
        if now - self._logged.get(where, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged[where] = now
            expected = isinstance(err, (varve.Error, BadIndices))
            logger.warning("varve: %s: %s: %s", where, type(err).__name__, err, exc_info=None if expected else err)


def _both(shards: list[list[bool]]) -> list[bool]:
    """A page is there when all of its shards are."""
    return shards[0] if len(shards) == 1 else [all(page) for page in zip(*shards)]
