# SPDX-License-Identifier: Apache-2.0
"""What the plugin counts, and how it is read.

Three readers: SGLang itself takes samples of batches (StorageMetrics), cleared by the taking; Prometheus text, in a file and over HTTP if
wanted, with the plugin's counters and the store's; and tests. A miss has a reason here, which the engine does not see.

Threads: any. Counting costs one lock of a few instructions.
"""

from __future__ import annotations

import bisect
import contextlib
import logging
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable

from . import compat

logger = logging.getLogger("varve.sglang")

COUNTERS = {
    "query_pages": "Pages that were asked for",
    "query_hit_pages": "Pages of those that were reported as stored",
    "query_slow_pages": "Pages that are stored but were not reported: loading takes longer than computing",
    "get_pages": "Pages that were to be read",
    "get_ok_pages": "Pages that were read and verified",
    "get_missing_pages": "Pages that were gone, or failed their checksum, when they were to be read",
    "get_failed_pages": "Pages that the disk did not give",
    "get_size_pages": "Pages whose stored size was not the pool's; they were removed",
    "get_bytes": "Bytes read into host pages",
    "put_pages": "Pages that were to be stored",
    "put_ok_pages": "Pages that were stored, or were there already",
    "put_full_pages": "Pages that were refused because the disk is full, or a page does not fit",
    "put_skipped_pages": "Pages that were not stored on purpose: over the write budget, or out of reach in a full store",
    "put_failed_pages": "Pages that the disk did not take",
    "put_bytes": "Bytes handed to the store",
    "refused_pages": "Pages that were not tried because the disk was failing",
    "bad_calls": "Calls whose arguments did not fit the pool",
    "exceptions": "Exceptions that were kept from SGLang",
}
# What a peer says of the store. The owner counts all that passes through it, whoever asked, and the gauges are its own: said again by each peer, they would be counted
# once for each. What peers read they read, and check, themselves.
OF_PEERS = {
    "owner",
    "get_calls",
    "get_pages",
    "get_bytes",
    "get_misses",
    "get_corrupt",
    "get_errors",
    "get_copied_bytes",
    "get_reads",
    "get_time_us",
    "codec_get_pages",
    "codec_get_bytes",
    "codec_get_stored_bytes",
    "codec_decode_us",
    "put_copied_bytes",
    "peer_reconnects",
    "peer_timeouts",
}
OPERATIONS = ("query", "get", "put")
_BOUNDS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_SAMPLES_MAX = 10000  # nobody takes them when the server runs without metrics


class Metrics:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._times = {op: [0] * (len(_BOUNDS_S) + 1) for op in OPERATIONS}
        self._time_sums = dict.fromkeys(OPERATIONS, 0.0)
        self._samples: dict[str, list[tuple[int, float]]] = {"get": [], "put": []}

    def count(self, **amounts: int) -> None:
        with self._lock:
            for name, amount in amounts.items():
                self._counts[name] += amount

    def call(self, op: str, elapsed_s: float) -> None:
        with self._lock:
            self._times[op][bisect.bisect_left(_BOUNDS_S, elapsed_s)] += 1
            self._time_sums[op] += elapsed_s

    def sample(self, op: str, pages: int, size_bytes: int, elapsed_s: float) -> None:
        """A batch for StorageMetrics: pages, and GB/s."""
        if pages == 0:
            return
        with self._lock:
            samples = self._samples[op]
            if len(samples) < _SAMPLES_MAX:
                samples.append((pages, size_bytes / max(elapsed_s, 1e-9) / 1e9))

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def take_samples(self) -> Any:
        """SGLang's own StorageMetrics with the batches since the last call; None where the release has no such class."""
        if compat.StorageMetrics is None:
            return None
        taken = compat.StorageMetrics()
        with self._lock:
            gets, puts = self._samples["get"], self._samples["put"]
            self._samples = {"get": [], "put": []}
        taken.prefetch_pgs.extend(pages for pages, _ in gets)
        taken.prefetch_bandwidth.extend(rate for _, rate in gets)
        taken.backup_pgs.extend(pages for pages, _ in puts)
        taken.backup_bandwidth.extend(rate for _, rate in puts)
        return taken

    def text(self, labels: dict[str, str], gauges: dict[str, tuple[str, float]], store: dict[str, int]) -> str:
        """Prometheus text. `gauges`: name -> (help, value); `store`: what Handle.stats() says."""
        tags = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
        lines = []
        with self._lock:
            for name, amount in self._counts.items():
                metric = f"varve_sglang_{name}_total"
                lines += [
                    f"# HELP {metric} {COUNTERS[name]}.",
                    f"# TYPE {metric} counter",
                    f"{metric}{{{tags}}} {amount}",
                ]
            metric = "varve_sglang_call_seconds"
            lines += [f"# HELP {metric} Time of calls of the store.", f"# TYPE {metric} histogram"]
            for op in OPERATIONS:
                total = 0
                for bound, amount in zip((*_BOUNDS_S, "+Inf"), self._times[op]):
                    total += amount
                    lines.append(f'{metric}_bucket{{{tags},op="{op}",le="{bound}"}} {total}')
                lines.append(f'{metric}_sum{{{tags},op="{op}"}} {self._time_sums[op]:.6f}')
                lines.append(f'{metric}_count{{{tags},op="{op}"}} {total}')
        for name, (help_text, value) in gauges.items():
            metric = f"varve_sglang_{name}"
            lines += [f"# HELP {metric} {help_text}.", f"# TYPE {metric} gauge", f"{metric}{{{tags}}} {value:g}"]
        role = "owner" if store.get("owner") else "peer"
        for name, value in store.items():
            if role == "owner" or name in OF_PEERS:
                lines.append(f'varve_{name}{{{tags},role="{role}"}} {value}')
        return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Exporter:
    """Writes the text to a file now and then, and serves it over HTTP. Both are optional, and neither stops the cache by failing."""

    def __init__(self, text: Callable[[], str], path: str | None, interval_s: float, port: int) -> None:
        self._text = text
        self._path = path
        self._stop = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._threads: list[threading.Thread] = []
        if path:
            self._run(self._write_often, interval_s)
        if port:
            self._serve(port)

    def _run(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="varve-metrics", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _write_often(self, interval_s: float) -> None:
        while True:
            self.write()
            if self._stop.wait(interval_s):
                return

    def write(self) -> None:
        """Replace the file, so that no reader sees half of it."""
        if not self._path:
            return
        scratch = f"{self._path}.{os.getpid()}"
        try:
            with open(scratch, "w", encoding="utf-8") as file:
                file.write(self._text())
            os.replace(scratch, self._path)
        except Exception as err:  # noqa: BLE001 - the disk may be full, or the store closed
            logger.debug("varve: %s: %s", self._path, err)
            with contextlib.suppress(OSError):
                os.unlink(scratch)

    def _serve(self, port: int) -> None:
        text = self._text

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = text().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as err:
            logger.warning("varve: metrics_port %d: %s; no metrics over HTTP", port, err.strerror)
            return
        self._run(self._server.serve_forever)

    def close(self) -> None:
        self._stop.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        for thread in self._threads:
            thread.join(timeout=5)
        self._threads = []
