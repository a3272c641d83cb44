# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of a page lie in a host pool, for every pool and layout of SGLang.

A page is one or more regions of memory: K and V, or one of each for every layer (layer_first), or one latent (MLA). Addresses and sizes come
from the pool's own get_page_buffer_meta(), and are never worked out from shapes. That function is Python and takes a few microseconds a
page; for the plain pools, whose regions lie at base + slot * stride, base and stride are learnt from it once and verified, and after that a batch costs
two numpy operations.

No address leaves this module for a slot outside the pool, or for a page whose slots are not consecutive.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from varve import PAGE_PARTS_MAX

# Pools whose regions depend on nothing but the slot. Others may move pages about.
_LINEAR = {"MHATokenToKVPoolHost", "MLATokenToKVPoolHost"}


class BadIndices(ValueError):
    """host_indices that do not describe pages of the pool."""


class Located(NamedTuple):
    """What one call of the store takes for n pages."""

    addresses: Any  # n * parts 64-bit integers
    sizes: Any  # one int, or n * parts 64-bit integers
    parts: int
    page_bytes: int | None  # of each page; None where they differ


class _Pages:
    """Indices of one pool, checked."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.page_tokens = int(getattr(pool, "logical_page_size", None) or getattr(pool, "page_size", None) or 1)

    def starts(self, host_indices: Any, pages: int) -> np.ndarray:
        if host_indices is None or host_indices.numel() != pages * self.page_tokens:
            have = None if host_indices is None else host_indices.numel()
            raise BadIndices(f"{pages} pages of {self.page_tokens} slots need as many indices, there are {have}")
        table = host_indices.detach().cpu().numpy().reshape(pages, self.page_tokens)
        first, last = table[:, 0], table[:, -1]
        limit = getattr(self._pool, "logical_size", None) or getattr(self._pool, "size", None)
        if pages and (first.min() < 0 or (limit is not None and last.max() >= limit)):
            raise BadIndices(f"slots {first.min()} to {last.max()} are not in a pool of {limit}")
        if (last - first != self.page_tokens - 1).any():
            raise BadIndices("a page's slots are not consecutive")
        return first


class Regions(_Pages):
    """Pages that are read from and written to in place. `shards` > 1: one Located for each group of heads (page_head)."""

    in_place = True

    def __init__(self, pool: Any, shards: int = 1) -> None:
        super().__init__(pool)
        self._shards = shards
        self._linear: tuple[int, np.ndarray, np.ndarray] | None = None  # of which buffer, bases, strides
        addresses, sizes = self._ask(np.arange(self.page_tokens))
        self.parts = len(addresses) // shards
        if not 1 <= self.parts <= PAGE_PARTS_MAX:
            raise NotImplementedError(f"{self.parts} regions a page, and {PAGE_PARTS_MAX} is the most")
        self._region_bytes = np.array(sizes, dtype=np.int64)
        self.page_bytes = int(self._region_bytes.sum())
        self._learn(np.array(addresses, dtype=np.int64))

    def locate(self, host_indices: Any, pages: int) -> list[Located]:
        """One Located for each shard. Raises BadIndices."""
        starts = self.starts(host_indices, pages)
        if self._linear is not None and self._linear[0] == self._pool.kv_buffer.data_ptr():
            _, bases, strides = self._linear
            addresses = bases + starts[:, None] * strides
            sizes = self._region_bytes
            uniform = True
        else:
            found, found_sizes = self._ask(host_indices)
            addresses = np.array(found, dtype=np.int64).reshape(pages, -1)
            table = np.array(found_sizes, dtype=np.int64).reshape(pages, -1)
            uniform = bool((table == table[:1]).all())
            sizes = table[0] if uniform and pages else table
        return [self._shard(addresses, sizes, uniform, shard, pages) for shard in range(self._shards)]

    def _shard(self, addresses: np.ndarray, sizes: np.ndarray, uniform: bool, shard: int, pages: int) -> Located:
        columns = slice(shard * self.parts, (shard + 1) * self.parts)
        mine = np.ascontiguousarray(addresses[:, columns]).reshape(-1)
        if not uniform:
            return Located(mine, np.ascontiguousarray(sizes[:, columns]).reshape(-1), self.parts, None)
        one_page = sizes[columns]
        page_bytes = int(one_page.sum())
        if (one_page == one_page[0]).all():
            return Located(mine, int(one_page[0]), self.parts, page_bytes)
        return Located(mine, np.tile(one_page, pages), self.parts, page_bytes)

    def _ask(self, indices: Any) -> tuple[list[int], list[int]]:
        if isinstance(indices, np.ndarray):
            import torch

            indices = torch.from_numpy(indices)
        if self._shards > 1:
            return self._pool.get_split_heads_page_buffer_meta(indices, self._shards)
        return self._pool.get_page_buffer_meta(indices)

    def _learn(self, first: np.ndarray) -> None:
        """Take the strides from the second page, and believe them if they predict the last one."""
        page = self.page_tokens
        last = self._pool.size // page - 1
        if type(self._pool).__name__ not in _LINEAR or last < 1 or getattr(self._pool, "dcp_size", 1) != 1:
            return
        second = np.array(self._ask(np.arange(page, 2 * page))[0], dtype=np.int64)
        strides, rest = np.divmod(second - first, page)
        end, end_sizes = self._ask(np.arange(last * page, (last + 1) * page))
        predicted = first + last * page * strides
        if not rest.any() and (predicted == np.array(end)).all() and (self._region_bytes == np.array(end_sizes)).all():
            self._linear = (self._pool.kv_buffer.data_ptr(), first, strides)


class Markers(_Pages):
    """A pool without bytes (a logical anchor): its pages are stored as records of length 0."""

    in_place = True
    parts = 1
    page_bytes = 0

    def locate(self, host_indices: Any, pages: int) -> list[Located]:
        self.starts(host_indices, pages)
        return [Located(np.zeros(pages, dtype=np.int64), 0, 1, 0)]


class Copies(_Pages):
    """A pool that hands out and takes in whole pages only; each costs a copy."""

    in_place = False

    def __init__(self, pool: Any) -> None:
        super().__init__(pool)
        sample = pool.get_dummy_flat_data_page()
        self.page_bytes = sample.numel() * sample.element_size()

    def pages_out(self, host_indices: Any, pages: int) -> list[Any]:
        """Tensors with the bytes of the pages."""
        return [self._pool.get_data_page(int(at), flat=True) for at in self.starts(host_indices, pages)]

    def room(self, host_indices: Any, pages: int) -> list[Any]:
        """Tensors to read pages into."""
        self.starts(host_indices, pages)
        return [self._pool.get_dummy_flat_data_page() for _ in range(pages)]

    def page_in(self, host_indices: Any, page: int, data: Any) -> None:
        self._pool.set_from_flat_data_page(int(host_indices[page * self.page_tokens]), data)


def tensors(pages: list[Any]) -> Located:
    """Contiguous tensors on the CPU, one a page."""
    sizes = np.array([page.numel() * page.element_size() for page in pages], dtype=np.int64)
    same = int(sizes[0]) if len(sizes) and (sizes == sizes[0]).all() else None
    addresses = np.array([page.data_ptr() for page in pages], dtype=np.int64)
    return Located(addresses, sizes if same is None else same, 1, same)


def access(pool: Any, shards: int = 1) -> Regions | Markers | Copies:
    """How to get at the pages of a pool."""
    if getattr(pool, "kv_buffer", pool) is None:
        return Markers(pool)
    try:
        return Regions(pool, shards)
    except (AttributeError, NotImplementedError, ValueError):
        if shards > 1:
            raise
        return Copies(pool)
