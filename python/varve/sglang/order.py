# SPDX-License-Identifier: Apache-2.0
"""Which page comes before which: the parent of a batch that is about to be put.

Right parents put a conversation's pages next to each other on disk; wrong ones cost speed, never correctness, and unknown ones are fine. In
this order:
  1. prefix_keys, where the server passes them (hicache_storage_pass_prefix_keys);
  2. a query: prompts are asked for before they are computed, and a query names its whole chain in order;
  3. the batch before on the same thread, when it was a full one: SGLang cuts what one radix node holds into batches of 128.

Threads: any. A lost race costs a parent.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from .keys import ids_of

FULL_BATCH_PAGES = 128
_GENERATION_KEYS = 65536


class Order:
    def __init__(self) -> None:
        # Two generations, so that forgetting is O(1): a full young one becomes the old one.
        self._young: dict[str, str] = {}
        self._old: dict[str, str] = {}
        self._last = threading.local()

    def saw_query(self, keys: Sequence[str], hits: int, prefix_keys: Sequence[str] | None) -> None:
        """A chain was asked for, and its first `hits` pages are stored: the rest may soon be put."""
        first = max(hits, 1)
        young = self._young
        young.update(zip(keys[first:], keys[first - 1 :]))
        if hits == 0 and prefix_keys and keys:
            young[keys[0]] = prefix_keys[-1]
        if len(young) > _GENERATION_KEYS:
            self._old, self._young = young, {}

    def parent(self, pool: str, keys: Sequence[str], prefix_keys: Sequence[str] | None) -> bytes | None:
        """The id before keys[0], or None; remembers the batch as the one before the next."""
        last = self._last.__dict__.get(pool)
        self._last.__dict__[pool] = keys[-1] if len(keys) == FULL_BATCH_PAGES else None
        if prefix_keys:
            key: str | None = prefix_keys[-1]
        else:
            key = self._young.get(keys[0]) or self._old.get(keys[0]) or last
        return ids_of([key]) if key else None
