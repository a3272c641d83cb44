# SPDX-License-Identifier: Apache-2.0
"""Batches to and from the store: cut to its limits, timed, counted, and kept from a failing disk by the breakers.

Every function raises varve.Error when a call failed as a whole; what happens to single pages is in the answer. While a breaker is open nothing is
tried, and all is a miss.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from typing import Any, Callable, TypeVar

import numpy as np

import varve

from .breaker import Breaker
from .handle import Handle, Spec
from .keys import ID_BYTES, chosen
from .metrics import Metrics
from .regions import Located

Answer = TypeVar("Answer")

# Statuses of a page that say something about the disk, or the process that owns the store.
_TROUBLE = {varve.E_IO, varve.E_READONLY, varve.E_CORRUPT, varve.E_TIMEOUT}


class Transfer:
    def __init__(self, handle: Handle, metrics: Metrics, reads: Breaker, writes: Breaker, patience_s: float) -> None:
        """patience_s: what a call takes that waits in vain for the process that owns the store."""
        self._handle = handle
        self._patience_s = patience_s
        self._metrics = metrics
        self.reads = reads
        self.writes = writes

    def prefix(self, spec: Spec, ids: bytes, estimate: bool) -> tuple[int, list[int]]:
        """Stored pages from the front; with `estimate`, microseconds to load the first k + 1 of them."""
        pages = 0
        load_us: list[int] = []
        for first, count in _cuts(ids):
            part = ids[first * ID_BYTES : (first + count) * ID_BYTES]
            if estimate:
                found, _, times = self._estimate(spec, part)
                before = load_us[-1] if load_us else 0
                load_us.extend(before + us for us in times)
            else:
                found = self._probe(spec, part)
            pages += found
            if found < count:
                break
        return pages, load_us

    def _probe(self, spec: Spec, ids: bytes) -> int:
        return self._call("query", self.reads, spec, len(ids) // ID_BYTES, lambda ns: ns.probe(ids), 0)

    def _estimate(self, spec: Spec, ids: bytes) -> tuple[int, list[int], list[int]]:
        nothing: tuple[int, list[int], list[int]] = (0, [], [])
        return self._call("query", self.reads, spec, len(ids) // ID_BYTES, lambda ns: ns.probe_estimate(ids), nothing)

    def exists(self, spec: Spec, ids: bytes) -> bytes:
        """A byte a page, 1 where it is stored."""
        cuts = _cuts(ids)
        return b"".join(self._exists(spec, ids[first * ID_BYTES : (first + count) * ID_BYTES]) for first, count in cuts)

    def _exists(self, spec: Spec, ids: bytes) -> bytes:
        count = len(ids) // ID_BYTES
        return self._call("query", self.reads, spec, count, lambda ns: ns.exists_batch(ids), bytes(count))

    def touch(self, spec: Spec, ids: bytes) -> None:
        """Mark pages as used now."""
        for first, count in _cuts(ids):
            self._touch(spec, ids[first * ID_BYTES : (first + count) * ID_BYTES])

    def _touch(self, spec: Spec, ids: bytes) -> None:
        self._call("query", self.reads, spec, 0, lambda ns: ns.touch(ids), 0)

    def sizes(self, spec: Spec, ids: bytes) -> list[int]:
        """Bytes of stored pages, 0 for those that are not: what a get without any room says. (An estimate has what they take on disk.)"""
        sizes: list[int] = []
        for first, count in _cuts(ids):
            sizes += self._sizes(spec, ids[first * ID_BYTES : (first + count) * ID_BYTES])
        return sizes

    def _sizes(self, spec: Spec, ids: bytes) -> list[int]:
        count = len(ids) // ID_BYTES
        nowhere = array("Q", bytes(8 * count))
        stored = array("Q", bytes(8 * count))
        statuses = self._call(
            "query", self.reads, spec, count, lambda ns: ns.get_batch(ids, nowhere, 0, page_sizes=stored), None
        )
        return [size if status == varve.E_ARG else 0 for status, size in zip(statuses or [varve.MISS] * count, stored)]

    def get(self, spec: Spec, ids: bytes, at: Located, guessed: list[bool] | None = None) -> list[bool]:
        """Read pages; True for those whose bytes are there, verified, and of the size that was asked for.

        A page of another size is removed, but for those whose size was only `guessed`.
        """
        good: list[bool] = []
        guessed = guessed or [False] * (len(ids) // ID_BYTES)
        for first, count in _cuts(ids):
            part = ids[first * ID_BYTES : (first + count) * ID_BYTES]
            good += self._get(spec, part, *_part(at, first, count), guessed[first : first + count])
        return good

    def _get(self, spec: Spec, ids: bytes, addresses: Any, sizes: Any, parts: int, guessed: list[bool]) -> list[bool]:
        count = len(ids) // ID_BYTES
        stored = array("Q", bytes(8 * count))
        start = time.perf_counter()
        statuses = self._call(
            "get", self.reads, spec, count,
            lambda ns: ns.get_batch(ids, addresses, sizes, parts=parts, page_sizes=stored), None,
        )  # fmt: skip
        elapsed_s = time.perf_counter() - start
        if statuses is None:
            self._metrics.count(get_pages=count)
            return [False] * count
        wanted = _page_sizes(sizes, parts, count)
        good = [status == varve.OK and size == want for status, size, want in zip(statuses, stored, wanted)]
        unfit = [status in (varve.OK, varve.E_ARG) and not ok for status, ok in zip(statuses, good)]
        wrong = [bad and not guess for bad, guess in zip(unfit, guessed)]
        if any(wrong):
            self._remove_pages(spec, ids, wrong)
        hits = sum(good)
        size_bytes = sum(size for size, ok in zip(wanted, good) if ok)
        missing = sum(status == varve.MISS for status in statuses) + sum(unfit) - sum(wrong)
        self._metrics.count(
            get_pages=count, get_ok_pages=hits, get_missing_pages=missing, get_size_pages=sum(wrong),
            get_failed_pages=count - hits - missing - sum(wrong), get_bytes=size_bytes,
        )  # fmt: skip
        self._metrics.sample("get", hits, size_bytes, elapsed_s)
        return good

    def _remove_pages(self, spec: Spec, ids: bytes, which: list[bool]) -> None:
        """Pages of another size than the pool's can never be used, and would stand in the way of those that can."""
        gone = chosen(ids, which)
        self._call("put", self.writes, spec, 0, lambda ns: ns.remove_batch(gone), 0)

    def put(self, spec: Spec, ids: bytes, at: Located, parent: bytes | None) -> list[bool]:
        """Store consecutive pages of a chain; True for those that are stored now, or were before."""
        good: list[bool] = []
        for first, count in _cuts(ids):
            part = ids[first * ID_BYTES : (first + count) * ID_BYTES]
            good += self._put(spec, part, *_part(at, first, count), parent)
            parent = part[-ID_BYTES:]
        return good

    def _put(self, spec: Spec, ids: bytes, addresses: Any, sizes: Any, parts: int, parent: bytes | None) -> list[bool]:
        count = len(ids) // ID_BYTES
        start = time.perf_counter()
        statuses = self._call(
            "put", self.writes, spec, count,
            lambda ns: ns.put_batch(ids, addresses, sizes, parts=parts, parent=parent), None,
        )  # fmt: skip
        elapsed_s = time.perf_counter() - start
        if statuses is None:
            self._metrics.count(put_pages=count)
            return [False] * count
        good = [status == varve.OK for status in statuses]
        hits, full = sum(good), sum(status in (varve.E_NOSPC, varve.E_ARG) for status in statuses)
        skipped = sum(status == varve.SKIPPED for status in statuses)
        size_bytes = sum(size for size, ok in zip(_page_sizes(sizes, parts, count), good) if ok)
        self._metrics.count(
            put_pages=count, put_ok_pages=hits, put_full_pages=full, put_skipped_pages=skipped,
            put_failed_pages=count - hits - full - skipped, put_bytes=size_bytes,
        )  # fmt: skip
        self._metrics.sample("put", hits, size_bytes, elapsed_s)
        return good

    def _call(
        self,
        op: str,
        breaker: Breaker,
        spec: Spec,
        pages: int,
        call: Callable[[varve.Namespace], Answer],
        refused: Answer,
    ) -> Answer:
        """One call of the store, if its breaker lets it; `refused` otherwise."""
        if not breaker.allow():
            self._metrics.count(refused_pages=pages)
            return refused
        start = time.perf_counter()
        ok = unanswered = False
        try:
            answer = call(self._handle.namespace(spec))
            statuses = answer if isinstance(answer, array) else ()
            ok = _TROUBLE.isdisjoint(statuses)
            unanswered = varve.E_TIMEOUT in statuses or (_is_nothing(answer) and self._waited(start))
            return answer
        except varve.Error as err:
            unanswered = err.code == varve.E_TIMEOUT
            raise
        finally:
            elapsed_s = time.perf_counter() - start
            self._metrics.call(op, elapsed_s)
            opened = breaker.done(ok and not unanswered, elapsed_s, unanswered)
            if unanswered:
                self.reads.trip()
                self.writes.trip()
            if opened:
                self._handle.repair()

    def _waited(self, start: float) -> bool:
        """Whether a call took so long that it must have waited for an owner that does not answer: the store calls that a miss."""
        return time.perf_counter() - start >= self._patience_s


def _is_nothing(answer: Any) -> bool:
    """Whether a call found nothing at all."""
    if isinstance(answer, array):
        return varve.OK not in answer and varve.E_ARG not in answer
    return not any(answer) if isinstance(answer, bytes) else answer in (0, (0, [], []))


def _cuts(ids: bytes) -> Iterator[tuple[int, int]]:
    """(first page, pages) of the calls that a batch takes: one, but for very long prompts."""
    pages = len(ids) // ID_BYTES
    for first in range(0, pages, varve.BATCH_PAGES_MAX):
        yield first, min(varve.BATCH_PAGES_MAX, pages - first)


def _part(at: Located, first: int, count: int) -> tuple[Any, Any, int]:
    """Addresses, sizes and regions a page of `count` pages from `first` on."""
    span = slice(first * at.parts, (first + count) * at.parts)
    return at.addresses[span], at.sizes if isinstance(at.sizes, int) else at.sizes[span], at.parts


def _page_sizes(sizes: Any, parts: int, count: int) -> list[int]:
    """Bytes of each page."""
    if isinstance(sizes, int):
        return [sizes * parts] * count
    found: list[int] = np.asarray(sizes).reshape(count, parts).sum(axis=1).tolist()
    return found
