# SPDX-License-Identifier: Apache-2.0
"""Every pool and layout of SGLang, in place and copied; several pools that have to agree; pages as tensors."""

import dataclasses
import random

import pytest
import sglang_support as sgl
import torch
import varve
from sglang_support import PAGE, PoolHitPolicy, PoolName, PoolTransfer
from varve.sglang import compat, regions

pytest_plugins = ["sglang_support"]  # its fixtures
pytestmark = pytest.mark.usefixtures("process_groups_of_one")


HAS_STOPS = "restorable_prefix_pages" in {field.name for field in dataclasses.fields(compat.PoolTransferResult)}


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
    assert sgl.reads_back(backend, pool, keys, slots) == 3


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
    assert sgl.reads_back(backend, pool, keys, slots) == 5


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
    assert sgl.reads_back(backend, pool, keys, slots) == 20
    assert backend.stats()["get_ok_pages"] == 20


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


def test_a_coded_tensor_without_a_target(make, pool):
    """What a page takes on disk is not its size, and a room that is too small says nothing against the page."""
    backend = make(pool, interface_v1=0, codec="on")
    key = sgl.hashes(sgl.tokens_of(1, 1))[0]
    page = (torch.randn(32768) * 0.02).to(torch.bfloat16)
    assert backend.set(key, page)
    assert backend.store_stats()["codec_put_pages"] == 1
    assert torch.equal(backend.get(key), page.view(torch.uint8))
    target = torch.zeros_like(page)
    bare, filled = backend.batch_get([key, key], [None, target])
    assert torch.equal(bare, page.view(torch.uint8))
    assert filled is target and torch.equal(target, page)
    backend._io.sizes = lambda spec, ids: [0]
    assert backend.get(key) is None
    assert backend.exists(key)
    assert backend.stats()["get_size_pages"] == 0


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
