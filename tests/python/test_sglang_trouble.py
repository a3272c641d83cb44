# SPDX-License-Identifier: Apache-2.0
"""Damage, full disks, failing disks, arguments that make no sense: misses and numbers, never an exception, never a wrong page."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sglang_support as sgl
import varve
from sglang_support import PAGE, PoolName, PoolTransfer

pytest_plugins = ["sglang_support"]  # its fixtures
pytestmark = pytest.mark.usefixtures("process_groups_of_one")


# Damage


def flip_bytes(directory):
    """Damage the middle of every page's bytes in the log, with the store closed."""
    files = [os.path.join(at, name) for at, _, names in os.walk(directory) for name in names if name.endswith(".seg")]
    assert files
    for path in files:
        with open(path, "r+b") as file:
            data = file.read()
            file.seek(0)
            file.write(bytes(byte ^ 0xFF if at % 4096 == 2048 and byte else byte for at, byte in enumerate(data)))


def test_a_damaged_page_is_a_miss_and_heals(stored, make, pool, tmp_path):
    backend, keys, slots = stored
    backend.close()
    flip_bytes(tmp_path / "cache")
    again = make(pool)
    assert sgl.reads_back(again, pool, keys, slots) == 0
    counts = again.stats()
    assert counts["get_missing_pages"] == 20
    assert counts["get_failed_pages"] == 0
    assert not again._io.reads.is_open
    sgl.fill(pool, slots, keys)
    assert again.batch_set_v1(keys, slots) == [True] * 20
    assert again.batch_exists(keys) == 20
    assert sgl.reads_back(again, pool, keys, slots) == 20


def test_a_page_of_another_size_is_removed_and_heals(stored, pool):
    backend, keys, slots = stored
    spec = backend._pools["kv"].specs[0]
    namespace = backend._handle.namespace(spec)
    victims = bytes.fromhex(keys[4] + keys[5])
    namespace.remove_batch(victims)
    namespace.put_buffers(victims, [b"short", bytes(1 << 20)])
    good = backend.batch_get_v1(keys, slots)
    assert [n for n, ok in enumerate(good) if not ok] == [4, 5]
    assert backend.stats()["get_size_pages"] == 2
    assert backend.batch_exists(keys) == 4
    sgl.fill(pool, slots, keys)
    assert all(backend.batch_set_v1(keys, slots))
    assert sgl.reads_back(backend, pool, keys, slots) == 20


# Space


def disk_usage(directory):
    total = 0
    for at, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(at, name)).st_blocks * 512
            except FileNotFoundError:  # dropped since it was listed
                continue
    return total


def test_capacity_holds_and_writes_never_fail(make, tmp_path):
    pool = sgl.host_pool(pages=64)
    backend = make(pool, capacity="16M")
    slots = pool.alloc(64 * PAGE)
    page_bytes = pool.get_data_page(0).nbytes
    written = 0
    seed = 0
    while written < 40 << 20:
        keys = sgl.hashes(sgl.tokens_of(64, seed))
        assert backend.batch_set_v1(keys, slots) == [True] * 64
        written += 64 * page_bytes
        seed += 1
    assert disk_usage(tmp_path / "cache") <= 16 << 20
    assert backend.batch_exists(sgl.hashes(sgl.tokens_of(64, seed - 1))) == 64
    assert backend.batch_exists(sgl.hashes(sgl.tokens_of(64, 0))) == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MiB, where that may be mounted."""
    where = tmp_path / "small"
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(where)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def test_full_disk(small_disk):
    """Somebody else fills the disk: pages are refused, or push out others, one by one; what is there is right; and it recovers when there is room."""
    pool = sgl.host_pool(pages=64)
    backend = sgl.create(small_disk / "cache", pool, capacity="16M", breaker_pause_s=0.05)
    try:
        slots = pool.alloc(64 * PAGE)
        first = sgl.hashes(sgl.tokens_of(64, 1))
        assert all(backend.batch_set_v1(first, slots))
        hog = small_disk / "hog"
        with open(hog, "wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(1 << 16))
        refused = gone = 0
        for seed in range(2, 40):
            keys = sgl.hashes(sgl.tokens_of(64, seed))
            sgl.fill(pool, slots, keys)
            good = backend.batch_set_v1(keys, slots)
            refused += good.count(False)
            there = backend.batch_get_v1(keys, slots)
            assert not any(page and not stored for page, stored in zip(there, good))
            gone += good.count(True) - there.count(True)
            assert sgl.matching(pool, slots, keys) == 64
        counts = backend.stats()
        assert refused + gone > 0
        assert refused == counts["put_full_pages"] + counts["put_failed_pages"] + counts["refused_pages"]
        hog.unlink()
        keys = sgl.hashes(sgl.tokens_of(64, 1000))
        sgl.wait_until(lambda: all(backend.batch_set_v1(keys, slots)), "recovery")
        assert backend.batch_exists(keys) == 64
    finally:
        backend.close()


# Failing disks


class Failing:
    """A handle whose store raises, and counts how often it was asked."""

    directory = "nowhere"
    reopened = 0

    def __init__(self, handle):
        self.handle = handle
        self.failing = True
        self.asked = 0

    def namespace(self, spec):
        self.asked += 1
        if self.failing:
            raise varve.Error(varve.E_IO, "input/output error")
        return self.handle.namespace(spec)

    def repair(self):
        self.handle.repair()


def test_breaker_opens_and_recovers(make, pool):
    backend = make(pool, breaker_failures=3, breaker_pause_s=0.2)
    keys = sgl.hashes(sgl.tokens_of(4, 1))
    slots = pool.alloc(4 * PAGE)
    assert all(backend.batch_set_v1(keys, slots))
    failing = Failing(backend._handle)
    backend._io._handle = failing
    for _ in range(20):
        assert backend.batch_exists(keys) == 0
        assert backend.batch_get_v1(keys, slots) == [False] * 4
        assert backend.batch_set_v1(keys, slots) == [False] * 4
    assert backend._io.reads.is_open and backend._io.writes.is_open
    assert failing.asked <= 10  # 3 reads, 3 writes, and hardly a try
    assert backend.stats()["refused_pages"] > 100
    assert "varve_sglang_reads_stopped" in backend.prometheus_text()
    failing.failing = False
    sgl.wait_until(lambda: backend.batch_exists(keys) == 4, "recovery of reads")
    sgl.wait_until(lambda: all(backend.batch_set_v1(keys, slots)), "recovery of writes")
    assert backend.batch_get_v1(keys, slots) == [True] * 4


def test_reopening_keeps_the_pages(stored, pool):
    """What a failed fsync asks for."""
    backend, keys, slots = stored
    backend._handle.reopen()
    assert backend._handle.reopened == 1
    assert sgl.reads_back(backend, pool, keys, slots) == 20


CHILD = """
import os, sys
sys.path[:0] = {path!r}
import sglang_support as sgl
with sgl.process_groups():
    pool = sgl.host_pool(pages=64)
    backend = sgl.create({directory!r}, pool, io_engine="threads", sync_interval_ms=1, breaker_failures=2, breaker_pause_s=0.05)
    slots = pool.alloc(20 * sgl.PAGE)
    def store(seed):
        keys = sgl.hashes(sgl.tokens_of(20, seed))
        sgl.fill(pool, slots, keys)
        return all(backend.batch_set_v1(keys, slots))
    assert store(1)
    open(os.environ["FAIL_SYNC"], "w").close()
    sgl.wait_until(lambda: not store(backend.stats()["put_pages"]), "refusal after a failed sync")
    sgl.wait_until(lambda: not store(2) and backend._io.writes.is_open, "an open breaker")
    assert "varve_sglang_writes_stopped" in backend.prometheus_text()
    os.remove(os.environ["FAIL_SYNC"])
    sgl.wait_until(lambda: store(3), "recovery")
    assert backend._handle.reopened > 0
    for seed in (1, 3):
        assert sgl.reads_back(backend, pool, slots=slots, keys=sgl.hashes(sgl.tokens_of(20, seed))) == 20
    backend.close()
"""


def test_a_failed_sync_stops_writes_until_the_disk_works_again(tmp_path):
    """From the first failed fsync the store takes nothing more; the plugin opens it anew by itself."""
    library = tmp_path / "fail_sync.so"
    source = Path(__file__).with_name("fail_sync.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    code = CHILD.format(path=sys.path, directory=str(tmp_path / "cache"))
    environment = {**os.environ, "LD_PRELOAD": str(library), "FAIL_SYNC": str(tmp_path / "fail")}
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stderr


def test_garbage_in_misses_out(stored, pool):
    backend, keys, slots = stored
    assert backend.batch_exists(["not", "hashes"]) == 0
    assert backend.batch_exists_v2(["not", "hashes"], None).kv_hit_pages == 0
    assert backend.batch_get_v1(["not"] * 3, slots) == [False] * 3
    assert backend.batch_set_v1([1, 2], slots) == [False] * 2
    assert backend.batch_get(keys[:2], [object(), object()]) == [None, None]
    assert backend.batch_set(keys[:2], [None, None]) is False
    assert backend.get(keys[0], 7) is None
    assert backend.set(keys[0]) is False
    assert backend.exists(None) is False
    assert backend.batch_get_v2([PoolTransfer(name=PoolName.KV, keys=keys)]) == {PoolName.KV: [False] * 20}
    assert sgl.reads_back(backend, pool, keys, slots) == 20


def test_after_close_all_is_a_miss(stored):
    backend, keys, slots = stored
    backend.close()
    backend.close()
    assert backend.batch_exists(keys) == 0
    assert backend.batch_get_v1(keys, slots) == [False] * 20
    assert backend.batch_set_v1(keys, slots) == [False] * 20
    assert backend.batch_exists_v2(keys, []).kv_hit_pages == 0
    assert backend.clear() is None
    assert backend.prometheus_text()
