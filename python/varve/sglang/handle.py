# SPDX-License-Identifier: Apache-2.0
"""The store that all ranks share, as one rank has it open, and its reopening.

A store whose fsync failed serves reads and refuses writes until it is opened again; a disk that went away and came back needs the same. Whoever owns the
store does that: closing it hands it to a peer, if there is one, and what is opened then is a peer. A peer has nothing to open again: it finds the
next owner by itself. This is looked after on a thread of its own, so that no thread of SGLang waits for it, and that an owner which is asked to write by others only
is not forgotten. Whoever calls meanwhile gets varve.Error, and reports a miss.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from typing import Any, NamedTuple

import varve

from .config import Config, ConfigError

logger = logging.getLogger("varve.sglang")

OPEN_WAIT_S = 60.0  # for the rank that opened the store first, and recovers it
_OPEN_PAUSE_S = 0.2
_OLD_LAYOUT = re.compile(r"tp\d+-of-\d+(\.\w+-of-\d+)*(\.replica\d+)?")


class Spec(NamedTuple):
    """A namespace, by what it is opened with, and in how many of them the pages of its pool are, of all ranks."""

    name: str
    element_type: str
    page_bytes_hint: int
    parts: int = 1


class Handle:
    def __init__(self, config: Config) -> None:
        """Opens the store. Raises ConfigError or varve.Error."""
        self.directory = config.path
        self._options = config.store_options()
        self._quota_bytes, self._ttl = config.quota_bytes, config.ttl
        self._lock = threading.Lock()
        self._namespaces: dict[Spec, varve.Namespace] = {}
        self.reopened = 0
        self._store = self._first_open()
        self._stop = False
        self._wake = threading.Event()
        self._tender = threading.Thread(
            target=self._tend_often, args=(config.breaker_pause_s,), name="varve-tend", daemon=True
        )
        self._tender.start()

    def _first_open(self) -> varve.Store:
        parent = os.path.dirname(os.path.abspath(self.directory))
        try:
            os.makedirs(parent, exist_ok=True)
            self._refuse_old_layout()
        except OSError as err:
            raise ConfigError(f"cannot make the cache directory {self.directory!r}: {err.strerror}") from err
        until = time.monotonic() + OPEN_WAIT_S
        while True:
            try:
                return varve.Store(self.directory, **self._options)
            except varve.Error as err:
                if err.code not in (varve.E_LOCKED, varve.E_TIMEOUT) or time.monotonic() >= until:
                    raise
                logger.info("varve: %s: waiting: %s", self.directory, err)
            time.sleep(_OPEN_PAUSE_S)

    def _refuse_old_layout(self) -> None:
        """Ranks once had a store each, in a directory of its own below the path."""
        names = os.listdir(self.directory) if os.path.isdir(self.directory) else []
        old = sorted(name for name in names if _OLD_LAYOUT.fullmatch(name))
        if old and "CURRENT" not in names:
            raise ConfigError(
                f"{self.directory!r} has a store for each rank ({', '.join(old[:3])}{', ...' if old[3:] else ''}), as an earlier version "
                'made them. All ranks share one now: remove these directories, or name another "path"'
            )

    def namespace(self, spec: Spec) -> varve.Namespace:
        """Raises varve.Error."""
        found = self._namespaces.get(spec)
        if found is None:
            with self._lock:
                found = self._store.namespace(spec.name, spec.element_type, spec.page_bytes_hint)
                quota = self._quota_bytes(spec.parts)
                if quota or self._ttl:
                    found.limits(quota=quota, ttl=self._ttl)
                self._namespaces[spec] = found
        return found

    def stats(self) -> dict[str, int]:
        """Of the owner its own counters and the store's gauges; of a peer its own counters. Raises varve.Error."""
        return self._store.stats()

    def repair(self) -> None:
        """Something failed: see soon whether the store has to be opened again."""
        self._wake.set()

    def _tend_often(self, interval_s: float) -> None:
        while not self._stop:
            self._wake.wait(interval_s)
            self._wake.clear()
            if not self._stop:
                self._tend()

    def _tend(self) -> None:
        try:
            if not self._store.closed:
                stats = self._store.stats()
                if not (stats["owner"] and stats["read_only"]):
                    return
            self.reopen()
        except varve.Error as err:
            logger.error("varve: %s cannot be opened again: %s", self.directory, err)

    def reopen(self) -> None:
        """Open the store anew. Raises varve.Error; then it is closed."""
        try:
            self._store.close()
        except varve.Error as err:
            logger.warning("varve: closing %s: %s", self.directory, err)
        store = varve.Store(self.directory, **self._options)
        with self._lock:
            self._store, self._namespaces = store, {}
            stopped = self._stop
        self.reopened += 1
        if stopped:
            store.close()
        logger.warning("varve: %s was opened again", self.directory)

    def close(self) -> None:
        """Idempotent. Waits for calls in flight."""
        with self._lock:
            self._stop = True
            store = self._store
        self._wake.set()
        self._tender.join(timeout=5)
        store.close()
