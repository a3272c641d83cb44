# SPDX-License-Identifier: Apache-2.0
"""Which of the processes that say they are the same rank this one is.

Replicas (--dp-size without DP attention) and servers that share a path all have a rank 0, and each wants a file and a port for its metrics. The first one takes seat
0, the next one seat 1: a seat is a file that is locked while the process lives, so it is free again when that is killed, and process ids, which containers have of their
own, are used for nothing.
"""

from __future__ import annotations

import fcntl
import os

_SEATS_MAX = 1024


class Seat:
    def __init__(self, directory: str, name: str) -> None:
        """Takes one. Raises OSError."""
        os.makedirs(directory, exist_ok=True)
        for self.number in range(_SEATS_MAX):
            self.name = f"{name}.{self.number}" if self.number else name
            self._file = os.open(os.path.join(directory, f".{self.name}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                os.close(self._file)
        raise OSError(f"{directory}: {_SEATS_MAX} processes are {name}")

    def leave(self) -> None:
        """Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
