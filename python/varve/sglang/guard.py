# SPDX-License-Identifier: Apache-2.0
"""Load or recompute: how much of a hit is worth reporting.

The engine computes a token in a + e * depth microseconds: a is `prefill_us_per_token`, e comes from `prefill_us_per_token_per_1k`. The store
says how long loading any prefix of a hit would take. What is reported is the length that leaves the least to wait for: loading its pages, and
computing what comes after them. That is none, where the disk is slower than the GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import varve


class Guard:
    def __init__(self, us_per_token: float, us_per_token_per_1k: float, page_tokens: int) -> None:
        self._base = us_per_token
        self._slope = us_per_token_per_1k / 1000.0
        self._page_tokens = page_tokens

    @property
    def active(self) -> bool:
        return self._base > 0 or self._slope > 0

    def best_stop(self, load_us: Sequence[int], stops: Sequence[int], first_page: int) -> int:
        """Of the legal stop points (pages, ascending), the one with the shortest wait; 0 when loading never pays.

        Args:
            load_us: microseconds to load the first k + 1 pages.
            first_page: pages of the chain before these.
        """
        times = [varve.PLAN_NEVER] * len(load_us)
        for stop in stops:
            times[stop - 1] = load_us[stop - 1]
        return varve.plan(
            times,
            page_tokens=self._page_tokens,
            token_us=self._base,
            depth_us=self._slope,
            tokens_before=first_page * self._page_tokens,
        ).count
