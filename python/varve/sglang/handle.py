# SPDX-License-Identifier: Apache-2.0
"""The open store of one rank, and its reopening.

A store whose fsync failed serves reads and refuses writes until it is opened again; a disk that went away and came back needs the same. That
happens here, on a thread of its own, so that no thread of SGLang waits for it. Whoever calls meanwhile gets varve.Error, and reports a miss.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any, NamedTuple

import varve

from .config import Config, ConfigError
from .identity import Coordinates

logger = logging.getLogger("varve.sglang")


class Spec(NamedTuple):
    """A namespace, by what it is opened with."""

    name: str
    element_type: str
    page_bytes_hint: int


class Handle:
    def __init__(self, config: Config, at: Coordinates) -> None:
        """Opens the store. Raises ConfigError or varve.Error."""
        self._options: dict[str, Any] = {"share": "off", **config.store}
        capacity = config.capacity_of_rank(at.ranks)
        if capacity:
            self._options["capacity"] = capacity
        budget = config.write_budget_of_rank(at.ranks)
        if budget:
            self._options["write_budget"] = budget
        self._quota, self._ttl = config.quota_of_rank(at.ranks), config.ttl
        self._lock = threading.Lock()
        self._reopening: threading.Thread | None = None
        self._closed = False
        self._namespaces: dict[Spec, varve.Namespace] = {}
        self.reopened = 0
        self.directory, self._store = self._take_directory(config, at)

    def _take_directory(self, config: Config, at: Coordinates) -> tuple[str, varve.Store]:
        for replica in range(config.replicas):
            directory = os.path.join(config.path, at.directory(replica))
            try:
                os.makedirs(directory, exist_ok=True)
                return directory, varve.Store(directory, **self._options)
            except OSError as err:
                raise ConfigError(f"cannot make the cache directory {directory!r}: {err.strerror}") from err
            except varve.Error as err:
                if err.code != varve.E_LOCKED:
                    raise
        raise ConfigError(
            f'{os.path.join(config.path, at.directory(0))!r} is in use by another process. Give each server its own "path"; '
            'where several processes of one server are the same rank (--dp-size), set "replicas" to their number'
        )

    def namespace(self, spec: Spec) -> varve.Namespace:
        """Raises varve.Error."""
        found = self._namespaces.get(spec)
        if found is None:
            with self._lock:
                found = self._store.namespace(spec.name, spec.element_type, spec.page_bytes_hint)
                if self._quota or self._ttl:
                    found.limits(quota=self._quota, ttl=self._ttl)
                self._namespaces[spec] = found
        return found

    def stats(self) -> dict[str, int]:
        return self._store.stats()

    @property
    def lost(self) -> bool:
        """Whether the store was closed by a reopening that failed."""
        return self._store.closed and not self._closed

    def reopen(self) -> None:
        """Open the store anew, in the background. Does nothing where that is under way."""
        with self._lock:
            if self._closed or self._reopening is not None:
                return
            self._reopening = threading.Thread(target=self._reopen, name="varve-reopen", daemon=True)
            self._reopening.start()

    def _reopen(self) -> None:
        try:
            try:
                self._store.close()
            except varve.Error as err:
                logger.warning("varve: closing %s: %s", self.directory, err)
            store = varve.Store(self.directory, **self._options)
            with self._lock:
                self._store, self._namespaces = store, {}
                closed = self._closed
            self.reopened += 1
            if closed:
                store.close()
            logger.warning("varve: %s was opened again", self.directory)
        except varve.Error as err:
            logger.error("varve: %s cannot be opened again: %s", self.directory, err)
        finally:
            with self._lock:
                self._reopening = None

    def close(self) -> None:
        """Idempotent. Waits for calls in flight."""
        with self._lock:
            self._closed = True
            store = self._store
            reopening = self._reopening
        if reopening is not None:
            reopening.join(timeout=5)
        store.close()
