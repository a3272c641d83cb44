# SPDX-License-Identifier: Apache-2.0
"""What VarveHiCache adds to the contract: every pool and layout in place, damage, full disks, failing disks, numbers, wrong configurations."""

import dataclasses
import logging
import os
import random
import shutil
import subprocess
import time
import urllib.request

import pytest
import sglang_support as sgl
import torch
import varve
from sglang_support import PAGE, Engine, PoolHitPolicy, PoolName, PoolTransfer
from varve.sglang import compat, regions
from varve.sglang.config import ConfigError
from varve.sglang.identity import Coordinates, namespace_names

HAS_STOPS = "restorable_prefix_pages" in {field.name for field in dataclasses.fields(compat.PoolTransferResult)}


@pytest.fixture(scope="module", autouse=True)
def groups():
    with sgl.process_groups():
        yield


@pytest.fixture
def make(tmp_path):
    """Makes backends from SGLang's factory; closes them at the end."""
    made = []

    def build(pool=None, config=None, **extra):
        made.append(sgl.create(tmp_path / "cache", pool, config, **extra))
        return made[-1]

    yield build
    for backend in made:
        backend.close()


@pytest.fixture
def pool():
    return sgl.host_pool()


@pytest.fixture
def stored(make, pool):
    """A backend with 20 pages of one prompt, their keys, and their slots in the pool."""
    backend = make(pool)
    keys = sgl.hashes(sgl.tokens_of(20, 1))
    slots = pool.alloc(20 * PAGE)
    sgl.fill(pool, slots, keys)
    assert backend.batch_set_v1(keys, slots) == [True] * 20
    return backend, keys, slots


def reads_back(backend, pool, keys, slots):
    sgl.wipe(pool, slots)
    good = backend.batch_get_v1(keys, slots)
    assert sgl.matching(pool, slots, keys[: good.index(False) if False in good else len(good)]) == sum(good)
    return sum(good)


@pytest.mark.parametrize("page", [1, 16, 64])
def test_chain_is_sglangs_hash(page):
    tokens = sgl.tokens_of(10, 3, page)
    keys = sgl.hashes(tokens, page=page)
    assert varve.chain(tokens, page).hex() == "".join(keys)
    assert varve.chain(tokens[4 * page :], page, bytes.fromhex(keys[3])).hex() == "".join(keys[4:])


# Pools and layouts


@pytest.mark.parametrize(("kind", "layout"), sgl.LAYOUTS)
@pytest.mark.parametrize("page", [1, 16])
def test_addresses_are_the_pools_own(kind, layout, page):
    pool = sgl.host_pool(kind, layout, page=page, pages=12)
    way = regions.access(pool)
    assert isinstance(way, regions.Regions)
    assert way._linear is not None
    slots = torch.cat([torch.arange(n * page, (n + 1) * page) for n in (7, 0, 11, 3)])
    addresses, sizes = pool.get_page_buffer_meta(slots)
    [located] = way.locate(slots, 4)
    assert located.addresses.tolist() == addresses
    assert located.sizes == sizes[0] and set(sizes) == {sizes[0]}
    assert located.parts * 4 == len(addresses)
    assert located.page_bytes == sum(sizes) // 4


def test_slots_that_are_no_pages_are_refused(make, pool):
    backend = make(pool)
    keys = sgl.hashes(sgl.tokens_of(2, 1))
    beyond = torch.arange(pool.size - PAGE, pool.size + PAGE)
    for bad in (torch.arange(PAGE), torch.arange(2 * PAGE).flip(0), torch.arange(-PAGE, PAGE), beyond, None):
        assert backend.batch_set_v1(keys, bad) == [False, False]
        assert backend.batch_get_v1(keys, bad) == [False, False]
    assert backend.stats()["bad_calls"] == 10
    assert backend.batch_exists(keys) == 0


def test_a_pool_that_moved_is_noticed():
    pool = sgl.host_pool(pages=12)
    way = regions.access(pool)
    pool.kv_buffer = pool.kv_buffer.clone()
    slots = torch.arange(2 * PAGE)
    assert way.locate(slots, 2)[0].addresses.tolist() == pool.get_page_buffer_meta(slots)[0]


def test_more_regions_than_a_page_may_have(make):
    """130 layers of K and V, apart: pages are copied then."""
    pool = sgl.host_pool("mha", "layer_first", pages=8, layers=130)
    backend = make(pool)
    assert isinstance(backend._pools["kv"].access, regions.Copies)
    keys = sgl.hashes(sgl.tokens_of(3, 1))
    slots = pool.alloc(3 * PAGE)
    sgl.fill(pool, slots, keys)
    assert backend.batch_set_v1(keys, slots) == [True] * 3
    assert reads_back(backend, pool, keys, slots) == 3


def test_split_heads(make):
    """Heterogeneous TP: each group of heads is stored by itself."""
    pool = sgl.host_pool("mha", "page_head")
    backend = make(pool, config={"tp_size": 2, "tp_lcm_size": 4, "should_split_heads": True})
    assert [spec.name.split(" tp=")[1].split()[0] for spec in backend._pools["kv"].specs] == ["0/4", "1/4"]
    keys = sgl.hashes(sgl.tokens_of(5, 1))
    slots = pool.alloc(5 * PAGE)
    sgl.fill(pool, slots, keys)
    assert backend.batch_set_v1(keys, slots) == [True] * 5
    assert backend.batch_exists(keys) == 5
    assert reads_back(backend, pool, keys, slots) == 5


def test_an_anchor_without_bytes(make):
    """DeepSeek-V4: the KV pool is logical, and all bytes are in side pools."""
    anchor = sgl.LogicalHostPool(64 * PAGE, PAGE)
    side = sgl.host_pool("mla")
    backend = make(anchor)
    backend.register_mem_host_pool_v2(anchor, PoolName.KV)
    backend.register_mem_host_pool_v2(side, PoolName.DEEPSEEK_V4_C4)
    keys = sgl.hashes(sgl.tokens_of(6, 1))
    slots = side.alloc(6 * PAGE)
    sgl.fill(side, slots, keys)
    transfer = PoolTransfer(name=PoolName.DEEPSEEK_V4_C4, host_indices=slots, keys=keys)
    assert backend.batch_set_v2([transfer]) == {PoolName.DEEPSEEK_V4_C4: [True] * 6}
    assert backend.batch_exists(keys) == 0
    assert backend.batch_set_v1(keys[:4], anchor.alloc(4 * PAGE)) == [True] * 4
    result = backend.batch_exists_v2(keys, [transfer])
    assert result.kv_hit_pages == 4
    assert backend.batch_get_v1(keys, anchor.alloc(6 * PAGE)) == [True] * 4 + [False] * 2
    sgl.wipe(side, slots)
    assert backend.batch_get_v2([transfer]) == {PoolName.DEEPSEEK_V4_C4: [True] * 6}
    assert sgl.matching(side, slots, keys) == 6


# v2


def test_stop_points_with_holes(make, pool):
    """Two trailing pools at {1, 3} and {1, 2}: only 1 is common."""
    backend = make(pool)
    sides = {name: sgl.host_pool("mla") for name in (PoolName.SWA, PoolName.MAMBA)}
    for name, side in sides.items():
        backend.register_mem_host_pool_v2(side, name)
    keys = sgl.hashes(sgl.tokens_of(3, 1))
    backend.batch_set_v1(keys, pool.alloc(3 * PAGE))
    for name, pages in ((PoolName.SWA, (0, 2)), (PoolName.MAMBA, (0, 1))):
        named = [keys[page] for page in pages]
        backend.batch_set_v2([PoolTransfer(name=name, host_indices=sides[name].alloc(2 * PAGE), keys=named)])
    asked = [PoolTransfer(name=name, keys=keys[-1:], hit_policy=PoolHitPolicy.TRAILING_PAGES) for name in sides]
    result = backend.batch_exists_v2(keys, asked)
    assert result.kv_hit_pages == 1
    assert result.extra_pool_hit_pages == {"kv": 3, "swa": 3, "mamba": 2}
    if HAS_STOPS:
        assert result.restorable_prefix_pages == [1]


@pytest.mark.skipif(
    not HAS_STOPS, reason=f"sglang {sgl.RELEASE}: the file backend takes the least of the longest prefixes"
)
def test_stop_points_are_those_of_the_file_backend(make, pool, tmp_path):
    side_names = (PoolName.INDEXER, PoolName.SWA)
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    peer = sgl.create(tmp_path / "files", pool, name="file")
    backend = make(pool)
    sides = {name: sgl.host_pool("mla") for name in side_names}
    for each in (backend, peer):
        for name, side in sides.items():
            each.register_mem_host_pool_v2(side, name)
    slot = torch.arange(PAGE)
    for round_ in range(25):
        keys = sgl.hashes(sgl.tokens_of(8, 1000 + round_))
        for key in keys:
            if rng.random() < 0.85:
                backend.batch_set_v1([key], slot)
                peer.batch_set([key], [pool.get_data_page(0)])
            transfers = [
                PoolTransfer(name=name, host_indices=slot, keys=[key]) for name in side_names if rng.random() < 0.8
            ]
            backend.batch_set_v2(transfers)
            peer.batch_set_v2(transfers)
        window = keys[-rng.randrange(1, 4) :]
        asked = [
            PoolTransfer(name=PoolName.INDEXER, keys=keys),
            PoolTransfer(name=PoolName.SWA, keys=window, hit_policy=PoolHitPolicy.TRAILING_PAGES),
        ]
        ours, theirs = backend.batch_exists_v2(keys, asked), peer.batch_exists_v2(keys, asked)
        assert ours.kv_hit_pages == theirs.kv_hit_pages, f"seed {seed}"
        assert ours.restorable_prefix_pages == theirs.restorable_prefix_pages, f"seed {seed}"
        if theirs.kv_hit_pages:
            assert ours.extra_pool_hit_pages == theirs.extra_pool_hit_pages, f"seed {seed}"


@pytest.mark.skipif(not hasattr(PoolHitPolicy, "BLOCK_GROUPS"), reason=f"sglang {sgl.RELEASE} has no block groups")
def test_block_groups_do_not_gate(make, pool):
    backend = make(pool)
    side = sgl.host_pool("mla")
    backend.register_mem_host_pool_v2(side, PoolName.DEEPSEEK_V4_C128)
    keys = sgl.hashes(sgl.tokens_of(12, 1))
    backend.batch_set_v1(keys, pool.alloc(12 * PAGE))
    groups = [keys[page] for end in (4, 8, 12) for page in (end - 2, end - 1)]
    put = PoolTransfer(name=PoolName.DEEPSEEK_V4_C128, host_indices=side.alloc(5 * PAGE), keys=groups[:5])
    assert backend.batch_set_v2([put]) == {PoolName.DEEPSEEK_V4_C128: [True] * 5}
    for given in (groups, None):
        asked = PoolTransfer(
            name=PoolName.DEEPSEEK_V4_C128,
            keys=given,
            hit_policy=PoolHitPolicy.BLOCK_GROUPS,
            block_pages=4,
            group_pages=2,
        )
        result = backend.batch_exists_v2(keys, [asked])
        assert result.kv_hit_pages == 12
        assert result.extra_pool_hit_pages[PoolName.DEEPSEEK_V4_C128] == 8


def test_pools_nobody_registered(make, pool):
    backend = make(pool)
    keys = sgl.hashes(sgl.tokens_of(2, 1))
    transfer = PoolTransfer(name=PoolName.SWA, host_indices=torch.arange(2 * PAGE), keys=keys)
    assert backend.batch_set_v2([transfer]) == {PoolName.SWA: [False, False]}
    assert backend.batch_get_v2([transfer]) == {PoolName.SWA: [False, False]}


def test_thousands_of_keys_in_one_call(make, pool):
    backend = make(pool)
    keys = [f"{n:064x}" for n in range(40000)]
    assert backend.batch_exists(keys) == 0
    assert backend.batch_exists_v2(keys, [PoolTransfer(name=PoolName.SWA, keys=keys[:1])]).kv_hit_pages == 0


def test_batches_longer_than_a_call_may_be(make, pool, monkeypatch):
    monkeypatch.setattr(varve, "BATCH_PAGES_MAX", 6)
    backend = make(pool, prefill_us_per_token=1e6)
    keys = sgl.hashes(sgl.tokens_of(20, 1))
    slots = pool.alloc(20 * PAGE)
    sgl.fill(pool, slots, keys)
    assert backend.batch_set_v1(keys, slots) == [True] * 20
    assert backend.batch_exists(keys) == 20
    pages, load_us = backend._io.prefix(backend._pools["kv"].specs[0], bytes.fromhex("".join(keys)), True)
    assert pages == 20
    assert load_us == sorted(load_us) and load_us[5] < load_us[11] < load_us[19]
    assert reads_back(backend, pool, keys, slots) == 20
    assert backend.stats()["get_ok_pages"] == 20


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
    assert reads_back(again, pool, keys, slots) == 0
    counts = again.stats()
    assert counts["get_missing_pages"] == 20
    assert counts["get_failed_pages"] == 0
    assert not again._io.reads.is_open
    sgl.fill(pool, slots, keys)
    assert again.batch_set_v1(keys, slots) == [True] * 20
    assert again.batch_exists(keys) == 20
    assert reads_back(again, pool, keys, slots) == 20


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
    assert reads_back(backend, pool, keys, slots) == 20


# Space


def disk_usage(directory):
    return sum(os.stat(os.path.join(at, name)).st_blocks * 512 for at, _, names in os.walk(directory) for name in names)


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
    """Somebody else fills the disk: pages are refused one by one, those that were not are there, and it recovers when there is room."""
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
        refused = 0
        for seed in range(2, 40):
            keys = sgl.hashes(sgl.tokens_of(64, seed))
            sgl.fill(pool, slots, keys)
            good = backend.batch_set_v1(keys, slots)
            refused += good.count(False)
            assert backend.batch_get_v1(keys, slots) == good
            assert sgl.matching(pool, slots, keys) == 64
        counts = backend.stats()
        assert refused > 0
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

    lost = False
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

    def reopen(self):
        raise AssertionError("nothing is lost")


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
    sgl.wait_until(lambda: backend._handle.reopened == 1, "reopening")
    assert reads_back(backend, pool, keys, slots) == 20


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
    assert reads_back(backend, pool, keys, slots) == 20


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


# Tensors


def test_tensors_with_and_without_a_target(make, pool):
    backend = make(pool, interface_v1=0)
    keys = sgl.hashes(sgl.tokens_of(3, 1))
    pages = [sgl.content(key, pool) for key in keys]
    assert backend.batch_set(keys, pages) is True
    assert backend.exists(keys[0])
    bare = backend.get(keys[1])
    assert torch.equal(bare, pages[1].view(torch.uint8))
    assert backend.get(sgl.hashes(sgl.tokens_of(1, 9))[0]) is None
    strided = torch.zeros(pages[0].numel(), 2, dtype=pages[0].dtype)[:, 0]
    assert backend.get(keys[0], strided) is strided
    assert torch.equal(strided.contiguous().view(torch.uint8), pages[0].view(torch.uint8))


def test_keys_that_name_a_pool(make, pool):
    """Older releases put a draft model's pages under "<key>.draft"."""
    backend = make(pool)
    keys = sgl.hashes(sgl.tokens_of(4, 1))
    drafts = [f"{key}.draft" for key in keys]
    pages = [torch.full((100,), n, dtype=torch.uint8) for n in range(4)]
    assert backend.batch_set(drafts, pages)
    assert backend.batch_exists(keys) == 0
    assert backend.batch_exists(drafts) == 4
    found = backend.batch_get(drafts, [torch.zeros(100, dtype=torch.uint8) for _ in drafts])
    assert [int(page[0]) for page in found] == [0, 1, 2, 3]
    backend.clear()
    assert backend.batch_exists(drafts) == 0


# Load or recompute


def test_hits_that_do_not_pay_are_not_reported(stored, make, pool):
    backend, keys, _slots = stored
    assert backend.batch_exists(keys) == 20
    backend.close()
    quick = make(pool, prefill_us_per_token=0.0001)
    assert quick.batch_exists(keys) == 0
    assert quick.stats()["query_slow_pages"] == 20
    assert quick.batch_exists_v2(keys, []).kv_hit_pages == 0
    quick.close()
    slow = make(pool, prefill_us_per_token=1e6)
    assert slow.batch_exists(keys) == 20


# Numbers


def test_samples_are_taken_once(stored, pool):
    backend, keys, slots = stored
    backend.batch_get_v1(keys[:7], slots[: 7 * PAGE])
    taken = backend.get_stats()
    assert type(taken) is compat.StorageMetrics
    assert taken.backup_pgs == [20]
    assert taken.prefetch_pgs == [7]
    assert len(taken.backup_bandwidth) == len(taken.prefetch_bandwidth) == 1
    assert 0 < taken.prefetch_bandwidth[0] < 1000
    assert backend.get_stats() == compat.StorageMetrics()


def test_counters(stored):
    backend, keys, slots = stored
    more = sgl.hashes(sgl.tokens_of(5, 2), keys[-1])
    assert backend.batch_exists(keys + more) == 20
    backend.batch_get_v1(more, slots[: 5 * PAGE])
    counts = backend.stats()
    assert (counts["query_pages"], counts["query_hit_pages"]) == (25, 20)
    assert (counts["get_pages"], counts["get_ok_pages"], counts["get_missing_pages"]) == (5, 0, 5)
    assert (counts["put_pages"], counts["put_ok_pages"]) == (20, 20)


def parse(text):
    """Prometheus text: name with labels -> value."""
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


def test_prometheus_file_and_port(make, pool, tmp_path):
    path = tmp_path / "varve.prom"
    backend = make(pool, metrics_file=str(path), metrics_interval_s=0.05, metrics_port=29871)
    keys = sgl.hashes(sgl.tokens_of(3, 1))
    backend.batch_set_v1(keys, pool.alloc(3 * PAGE))
    tags = '{directory="tp0-of-1",model="test-model"}'
    name = f"varve_sglang_put_ok_pages_total{tags}"
    sgl.wait_until(lambda: path.exists() and parse(path.read_text()).get(name) == 3, "metrics file")
    with urllib.request.urlopen("http://127.0.0.1:29871/metrics", timeout=10) as answer:
        values = parse(answer.read().decode())
    assert values[name] == 3
    assert values[f"varve_sglang_reads_stopped{tags}"] == 0
    assert values[f'varve_sglang_call_seconds_count{{{tags[1:-1]},op="put"}}'] == 1
    assert any(line.startswith("varve_put_pages{") for line in values)
    backend.close()
    with pytest.raises(OSError):
        urllib.request.urlopen("http://127.0.0.1:29871/metrics", timeout=1)


# Identity


def names(pool="kv", weights=None, host=None, **fields):
    at = Coordinates(sgl.storage_config(**fields))
    return namespace_names(weights or {"name": "m"}, at, pool, host or sgl.host_pool(), "")


def test_what_is_not_interchangeable_has_another_name():
    different = [
        names(),
        names(weights={"name": "n"}),
        names(weights={"name": "m", "weight_version": "2"}),
        names(pool="swa"),
        names(host=sgl.host_pool("mla")),
        names(host=sgl.host_pool("mha", "page_first_direct")),
        names(host=sgl.host_pool(page=64)),
        names(host=sgl.host_pool(layers=4)),
        names(tp_rank=0, tp_size=2),
        names(tp_rank=1, tp_size=2),
        names(pp_rank=0, pp_size=2),
        names(pp_rank=1, pp_size=2),
        names(attn_cp_rank=1, attn_cp_size=2),
        names(weights={"name": "m" * 5000}),
        names(weights={"name": "m" * 5000 + "n"}),
    ]
    texts = [text for one in different for text in one]
    assert len(set(texts)) == len(different)
    assert max(len(text.encode()) for text in texts) <= 1023


def test_replicated_kv_has_one_name_and_its_side_pools_have_many():
    ranks = [{"tp_rank": rank, "tp_size": 4, "is_mla_model": True} for rank in range(4)]
    assert len({names(**rank)[0] for rank in ranks}) == 1
    assert len({names(pool="indexer", **rank)[0] for rank in ranks}) == 1
    assert len({names(pool="mamba", **rank)[0] for rank in ranks}) == 4
    assert len({names(pool="draft", **rank)[0] for rank in ranks}) == 4


def test_other_weights_share_the_directory_but_no_page(stored, make, pool):
    backend, keys, slots = stored
    backend.close()
    other = make(pool, weight_version="2")
    assert other.batch_exists(keys) == 0
    assert other.batch_set_v1(keys, slots) == [True] * 20
    other.clear()
    assert other.batch_exists(keys) == 0
    other.close()
    again = make(pool)
    assert reads_back(again, pool, keys, slots) == 20


def test_ranks_have_directories_of_their_own(make, pool, tmp_path):
    keys = sgl.hashes(sgl.tokens_of(2, 1))
    backends = [make(pool, config={"tp_rank": rank, "tp_size": 2}) for rank in range(2)]
    assert all(backends[0].batch_set_v1(keys, torch.arange(2 * PAGE)))
    assert [backend.batch_exists(keys) for backend in backends] == [2, 0]
    assert sorted(os.listdir(tmp_path / "cache")) == ["tp0-of-2", "tp1-of-2"]


def test_replicated_kv_on_several_ranks(make):
    """A store belongs to one process, so every rank has to write; releases where that cannot be are told apart."""
    config = sgl.storage_config(sgl.extra_config("/nowhere"), tp_rank=1, tp_size=2, is_mla_model=True)
    if not hasattr(config, "is_storage_writer"):
        with pytest.raises(ConfigError, match="--enable-dp-attention"):
            make(sgl.host_pool("mla"), config={"tp_rank": 1, "tp_size": 2, "is_mla_model": True})
        return
    backend = make(sgl.host_pool("mla"), config={"tp_rank": 1, "tp_size": 2, "is_mla_model": True})
    assert " tp=all " in backend._pools["kv"].specs[0].name
    assert not config.is_storage_writer
    from varve.sglang.backend import _write_on_every_rank

    _write_on_every_rank(config, Coordinates(config))
    assert config.is_storage_writer


# What a wrong or missing configuration prints


def attach(engine, directory, **extra):
    engine.attach("dynamic", {k: v for k, v in sgl.extra_config(directory, **extra).items() if v is not None})


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"path": None}, '"path" is missing'),
        ({"capasity": "1G"}, "did you mean 'capacity'?"),
        ({"capacity": "12"}, "capacity"),
        ({"io_engine": "warp"}, "io_engine"),
        ({"path": "/proc/varve"}, "cannot make the cache directory"),
    ],
)
def test_a_wrong_configuration_fails_the_attach(tmp_path, extra, message):
    engine = Engine()
    with pytest.raises((ConfigError, varve.Error)) as caught:
        attach(engine, tmp_path / "cache", **extra)
    assert message in str(caught.value)
    assert not engine.controller.enable_storage
    attach(engine, tmp_path / "cache")
    engine.detach()


def test_a_directory_in_use(make, pool):
    make(pool)
    with pytest.raises(ConfigError, match='in use by another process.*"replicas"'):
        make(pool)


def test_replicas_have_a_store_each(make, pool, tmp_path):
    first = make(pool, replicas=2)
    second = make(pool, replicas=2)
    assert sorted(os.listdir(tmp_path / "cache")) == ["tp0-of-1", "tp0-of-1.replica1"]
    assert first.store_stats()["capacity_bytes"] == second.store_stats()["capacity_bytes"] == 32 << 20


def test_interface_v1_missing_is_said(make, pool, caplog):
    with caplog.at_level(logging.WARNING, "varve.sglang"):
        make(pool, interface_v1=0)
    assert '"interface_v1": 1 is missing' in caplog.text


def test_a_nameless_model_is_refused(make, pool):
    with pytest.raises(ConfigError, match='add "model"'):
        make(pool, config={"model_name": None})
    make(pool, config={"model_name": None}, model="llama@rev1")


def test_calls_of_the_plugin_are_quick(stored):
    """A query of a chain is memory only; generous, for machines that do other things."""
    backend, keys, _slots = stored
    start = time.perf_counter()
    for _ in range(200):
        backend.batch_exists(keys)
    assert (time.perf_counter() - start) / 200 < 0.002
