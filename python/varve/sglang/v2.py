# SPDX-License-Identifier: Apache-2.0
"""How far a prefix can be restored when several pools have to agree (batch_exists_v2).

A prefix of p pages is restorable when every pool allows the stop point p. KV allows each p up to its first missing page. A pool says by its
policy: all_pages wants every page before p; trailing_pages wants only the last n before p, as a state or a window does, so its stop points have
holes, and the shortest of the pools' longest prefixes need not be one of them. The answer is the greatest stop point that all share.

Pure functions; a page is a byte, 1 where it is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ALL_PAGES = "all_pages"
TRAILING_PAGES = "trailing_pages"
BLOCK_GROUPS = "block_groups"


def policy_of(transfer: Any) -> str:
    """The policy's name, whatever type the release gives it."""
    policy = getattr(transfer, "hit_policy", ALL_PAGES)
    return str(getattr(policy, "value", policy))


def leading(stored: bytes) -> int:
    """Pages before the first missing one."""
    first = stored.find(b"\0")
    return len(stored) if first < 0 else first


def trailing_stops(stored: bytes, window: int) -> list[int]:
    """Stop points p with all of [p - window, p) stored; before the window is full, all of [0, p)."""
    stops, run = [], 0
    for index, page in enumerate(stored):
        run = run + 1 if page else 0
        if run >= min(window, index + 1):
            stops.append(index + 1)
    return stops


def leading_groups(stored: bytes, group_pages: int) -> int:
    """Whole groups before the first incomplete one."""
    return leading(stored) // max(1, group_pages)


def group_keys(transfer: Any, keys: Sequence[str]) -> list[str]:
    """The keys of a pool that holds `group_pages` pages for each block of `block_pages`: at the blocks' ends, unless they are given."""
    if transfer.keys:
        return list(transfer.keys)
    block = max(1, int(getattr(transfer, "block_pages", 0) or 1))
    group = max(1, int(getattr(transfer, "group_pages", 0) or 1))
    ends = range(block, len(keys) + 1, block)
    return [key for end in ends for key in keys[max(0, end - group) : end]]


def window_of(transfer: Any) -> int:
    return max(1, len(transfer.keys) if transfer.keys else 1)


def common_stops(kv_pages: int, pools: Sequence[Sequence[int]]) -> list[int]:
    """The stop points that KV and all of `pools` allow, ascending."""
    stops = set(range(1, kv_pages + 1))
    for allowed in pools:
        stops.intersection_update(allowed)
    return sorted(stops)
