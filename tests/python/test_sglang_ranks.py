# SPDX-License-Identifier: Apache-2.0
"""Several processes, each with SGLang's real controller, and one directory.

Ranks of one server agree on hits through torch.distributed: a prefix counts as far as all ranks have it, and a rank that lost pages, or whose disk fails, must
not make the other wait. Replicas are servers of their own. Whoever owns the store may be killed, may hang, or may have to open it again: the others go on.
Every page that a prefetch reports is compared with what was backed up.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sglang_support as sgl

CHILD = """
import json, sys, time
sys.path[:0] = {path!r}
import sglang_support as sgl
with sgl.process_groups({rank}, {size}, {rendezvous!r}):
    engine = sgl.Engine(kind={kind!r}, pages=300)
    engine.attach("dynamic", sgl.extra_config({directory!r}, **{extra!r}))
    backend, handle = engine.backend, engine.backend._handle
    def timed(call):
        start = time.monotonic()
        return call(), time.monotonic() - start
    print("0", flush=True)
    for line in sys.stdin:
        print(json.dumps(eval(line)), flush=True)
"""


class Process:
    """A rank, or a replica."""

    def __init__(self, tmp_path, rank=0, size=1, kind="mha", env=None, **extra):
        code = CHILD.format(
            path=sys.path,
            rank=rank,
            size=size,
            rendezvous=str(tmp_path / "rendezvous") if size > 1 else None,
            kind=kind,
            directory=str(tmp_path / "cache"),
            extra={"capacity": "128M", **extra},
        )
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})},
        )  # fmt: skip

    def begin(self, call):
        """Evaluate an expression there."""
        self.process.stdin.write(f"{call}\n")
        self.process.stdin.flush()
        return self

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise AssertionError(self.process.stderr.read())
        return json.loads(line)

    def ask(self, call):
        return self.begin(call).answer()

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path):
    """Starts processes: `size` ranks of one server, or replicas, the owner of the store first."""
    processes = []

    def begin(replicas=1, size=1, **how):
        begun = [Process(tmp_path, rank=rank % size, size=size, **how) for rank in range(max(replicas, size))]
        processes.extend(begun)
        for process in begun:
            process.answer()
        if size == 1:
            begun.sort(key=lambda process: -process.ask("backend.store_stats()['owner']"))
        return begun

    yield begin
    for process in processes:
        process.end()


def prompt(seed):
    return f"sgl.tokens_of(20, {seed})"


def hashes(seed):
    return f"sgl.hashes({prompt(seed)})"


def both(ranks, call):
    """All ranks do it together, as a controller does."""
    for rank in ranks:
        rank.begin(call)
    return [rank.answer() for rank in ranks]


def test_ranks_agree(start):
    ranks = start(size=2, breaker_pause_s=60)
    assert both(ranks, f"engine.prefetch({prompt(1)})") == [0, 0]
    assert both(ranks, f"engine.backup({prompt(1)})") == [20, 20]
    assert both(ranks, f"engine.prefetch({prompt(1)})") == [20, 20]
    lost = f"handle.namespace(backend._pools['kv'].specs[0]).remove_batch(bytes.fromhex(''.join({hashes(1)}[12:])))"
    assert ranks[1].ask(lost) == 8
    assert both(ranks, f"engine.prefetch({prompt(1)})") == [12, 12]
    assert both(ranks, f"engine.backup({prompt(1)})") == [20, 20]
    assert both(ranks, f"engine.prefetch({prompt(1)})") == [20, 20]
    ranks[1].ask("handle._store.close()")
    assert both(ranks, f"engine.prefetch({prompt(1)})") == [0, 0]
    assert both(ranks, f"backend.batch_exists({hashes(1)})") == [20, 0]


def test_ranks_have_one_store(start, tmp_path):
    ranks = start(size=2, metrics_file="")
    both(ranks, f"engine.backup({prompt(1)})")
    stats = both(ranks, "backend.store_stats()")
    assert sorted(one["owner"] for one in stats) == [0, 1]
    assert [one["capacity_bytes"] for one in stats] == [128 << 20] * 2
    assert max(one["put_pages"] for one in stats) == 40
    sgl.wait_until(lambda: len(list((tmp_path / "cache" / "metrics").glob("*.prom"))) == 2, "metrics")


def test_replicated_kv_is_written_once(start):
    """MLA: SGLang has rank 0 write, and rank 1 hits at once."""
    ranks = start(size=2, kind="mla")
    assert both(ranks, "engine.controller.backup_skip") == [False, True]
    assert both(ranks, f"engine.backup({prompt(1)})") == [20, 0]
    assert ranks[1].ask(f"backend.batch_exists({hashes(1)})") == 20
    assert both(ranks, f"engine.prefetch({prompt(1)})") == [20, 20]
    assert both(ranks, "backend.stats()['put_pages']") == [20, 0]
    assert max(both(ranks, "backend.store_stats()['put_pages']")) == 20
    for seed in range(2, 12):
        both(ranks, f"engine.backup({prompt(seed)})")
        assert both(ranks, f"engine.prefetch({prompt(seed)})") == [20, 20]


def test_replicas_share(start):
    first, second = start(replicas=2)
    assert first.ask(f"engine.backup({prompt(1)})") == 20
    assert second.ask(f"engine.prefetch({prompt(1)})") == 20
    assert second.ask(f"engine.backup({prompt(2)})") == 20
    assert first.ask(f"engine.prefetch({prompt(2)})") == 20
    assert both([first, second], f"engine.backup({prompt(3)})") == [20, 20]  # at once
    assert both([first, second], f"engine.prefetch({prompt(3)})") == [20, 20]
    first.ask("backend.clear()")
    assert both([first, second], f"backend.batch_exists({hashes(1)})") == [0, 0]


def test_an_owner_that_is_killed(start):
    first, second = start(replicas=2)
    for seed in range(1, 4):
        assert first.ask(f"engine.backup({prompt(seed)})") == 20
    assert second.ask(f"engine.backup({prompt(4)})") == 20
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    pages, elapsed_s = second.ask(f"timed(lambda: engine.prefetch({prompt(1)}))")
    assert pages == 20
    assert elapsed_s < 5
    assert second.ask("backend.store_stats()['owner']") == 1
    assert [second.ask(f"engine.prefetch({prompt(seed)})") for seed in (2, 3, 4)] == [20, 20, 20]
    (third,) = start()
    assert third.ask(f"engine.backup({prompt(5)})") == 20
    assert both([second, third], f"engine.prefetch({prompt(5)})") == [20, 20]
    assert second.ask("backend.stats()['exceptions']") == 0


def test_an_owner_that_hangs(start):
    """Misses, soon, and no more waiting after that; and hits when it goes on."""
    first, second = start(replicas=2, peer_timeout_ms=500, breaker_pause_s=1)
    assert second.ask(f"engine.backup({prompt(1)})") == 20
    first.process.send_signal(signal.SIGSTOP)
    try:
        pages, elapsed_s = second.ask(f"timed(lambda: backend.batch_exists({hashes(1)}))")
        assert pages == 0
        assert elapsed_s < 3
        assert second.ask("[backend._io.reads.is_open, backend._io.writes.is_open]") == [True, True]
        for call in (f"engine.prefetch({prompt(1)})", f"engine.backup({prompt(2)})"):
            pages, elapsed_s = second.ask(f"timed(lambda: {call})")
            assert pages == 0
            assert elapsed_s < 8
    finally:
        first.process.send_signal(signal.SIGCONT)
    sgl.wait_until(lambda: second.ask(f"backend.batch_exists({hashes(1)})") == 20, "hits")
    assert second.ask(f"engine.prefetch({prompt(1)})") == 20
    sgl.wait_until(lambda: second.ask(f"engine.backup({prompt(2)})") == 20, "writes")
    assert both([first, second], f"engine.prefetch({prompt(2)})") == [20, 20]
    assert second.ask("backend.stats()['exceptions']") == 0


def test_opening_again_makes_nobody_miss(start):
    """Whoever owns the store hands it over, and the others notice nothing."""
    first, second = start(replicas=2)
    assert first.ask(f"engine.backup({prompt(1)})") == 20
    for _ in range(3):
        second.begin(f"[engine.prefetch({prompt(1)}) for _ in range(30)]")
        time.sleep(0.05)
        first.ask("handle.reopen()")
        assert second.answer() == [20] * 30
        assert first.ask(f"engine.prefetch({prompt(1)})") == 20
        second.ask("handle.reopen()")
        assert both([first, second], f"engine.prefetch({prompt(1)})") == [20, 20]
    assert sorted(both([first, second], "backend.store_stats()['owner']")) == [0, 1]


def test_an_owner_whose_sync_failed_and_that_never_writes(start, tmp_path):
    """As a rank other than 0 of an MLA model may be. It opens the store again because others cannot write."""
    library = tmp_path / "fail_sync.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-o", library, Path(__file__).with_name("fail_sync.c")], check=True
    )
    failing = {"LD_PRELOAD": str(library), "FAIL_SYNC": str(tmp_path / "fail")}
    quick = {"breaker_pause_s": 0.2, "sync_interval_ms": 1, "io_engine": "threads"}
    first, second = start(replicas=2, env=failing, **quick)
    assert second.ask(f"engine.backup({prompt(1)})") == 20
    (tmp_path / "fail").touch()
    seeds = iter(range(2, 10000))
    sgl.wait_until(
        lambda: second.ask(f"engine.backup({prompt(next(seeds))})") < 20 or first.ask("handle.reopened") > 0, "trouble"
    )
    (tmp_path / "fail").unlink()
    sgl.wait_until(lambda: first.ask("handle.reopened") > 0, "opening again")
    sgl.wait_until(lambda: second.ask(f"engine.backup({prompt(next(seeds))})") == 20, "writes")
    assert both([first, second], f"engine.prefetch({prompt(1)})") == [20, 20]
