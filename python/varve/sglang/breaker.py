# SPDX-License-Identifier: Apache-2.0
"""A circuit breaker: a failing disk costs a few calls, not every one.

Closed, calls go through. After `failures` bad calls in a row (errors, or slower than `stall_s`: SGLang's threads wait for every call) it
opens: calls are refused at once, which the plugin answers with misses. When the pause is over one call may try; success closes the
breaker, failure doubles the pause, up to 16 times. Recovery needs nobody.

A call that does not come back cannot be cut short: its buffers are the engine's, and the device may still write to them. But while one is out
for longer than `stall_s` all others are refused, so that nothing more waits behind a disk that hangs.

Threads: any. The clock is an argument so that tests need not wait.
"""

from __future__ import annotations

import threading
import time
from typing import Callable

_PAUSES_MAX = 16


class Breaker:
    def __init__(
        self, failures: int, pause_s: float, stall_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._pause_s = pause_s
        self._stall_s = stall_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0  # in a row
        self._pauses = 1  # the present pause, in units of pause_s
        self._open_until: float | None = None  # None: closed
        self._trying = False  # one call may find out
        self._out: dict[int, float] = {}  # calls in flight: thread -> since when
        self.opened = 0  # times, for the metrics

    @property
    def is_open(self) -> bool:
        with self._lock:
            return self._open_until is not None or self._stuck()

    def allow(self) -> bool:
        """Whether a call may be made. Whoever got True reports the outcome with done(), on the same thread."""
        with self._lock:
            if self._stuck():
                return False
            if self._open_until is not None:
                if self._trying or self._clock() < self._open_until:
                    return False
                self._trying = True
            self._out[threading.get_ident()] = self._clock()
            return True

    def _stuck(self) -> bool:
        return bool(self._out) and self._clock() - min(self._out.values()) > self._stall_s

    def trip(self) -> None:
        """Open it, if it is closed: another breaker's calls are of no use, for a reason that these have, too."""
        with self._lock:
            if self._open_until is None:
                self._open()

    def _open(self) -> None:
        self._trying = False
        self._open_until = self._clock() + self._pauses * self._pause_s
        self.opened += 1

    def done(self, ok: bool, elapsed_s: float = 0.0, at_once: bool = False) -> bool:
        """The outcome of a call. `at_once`: one that is bad is enough. Returns True when this one opened the breaker, or kept it open."""
        ok = ok and elapsed_s <= self._stall_s
        with self._lock:
            self._out.pop(threading.get_ident(), None)
            if ok:
                self._failures, self._pauses, self._open_until, self._trying = 0, 1, None, False
                return False
            self._failures += 1
            if self._trying:
                self._pauses = min(2 * self._pauses, _PAUSES_MAX)
            elif self._open_until is not None or (self._failures < self._limit and not at_once):
                return False  # a straggler from before it opened, or not enough yet
            self._open()
            return True
