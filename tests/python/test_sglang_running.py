# SPDX-License-Identifier: Apache-2.0
"""Running it: load or recompute, numbers, identity of pages, ranks, and what a wrong configuration prints."""

import logging
import os
import time
import urllib.request

import pytest
import sglang_support as sgl
import torch
import varve
from sglang_support import PAGE, Engine
from varve.sglang import compat, handle
from varve.sglang.config import ConfigError
from varve.sglang.identity import Coordinates, namespace_names, tp_sharded

pytest_plugins = ["sglang_support"]  # its fixtures
pytestmark = pytest.mark.usefixtures("process_groups_of_one")


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
    tags = '{directory="cache",rank="tp0-of-1",model="test-model"}'
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


def test_the_store_is_counted_once(make, pool):
    """What all ranks' metrics come to: puts are counted by the owner, gets by whoever reads, gauges are the owner's."""
    backends = [make(pool, config={"tp_rank": rank, "tp_size": 3}) for rank in range(3)]
    keys = sgl.hashes(sgl.tokens_of(4, 1))
    for backend in backends:
        assert all(backend.batch_set_v1(keys, torch.arange(4 * PAGE)))
        assert backend.batch_exists(keys) == 4
        assert all(backend.batch_get_v1(keys, torch.arange(4 * PAGE)))
    values = [parse(backend.prometheus_text()) for backend in backends]

    def total(name):
        return sum(value for one in values for sample, value in one.items() if sample.startswith(name + "{"))

    assert total("varve_put_pages") == 12
    assert total("varve_probe_pages") == 12
    assert total("varve_get_pages") == 12
    assert total("varve_capacity_bytes") == 64 << 20
    assert total("varve_owner") == 1
    assert total("varve_sglang_put_ok_pages_total") == 12
    roles = [sample.rpartition("role=")[2] for one in values for sample in one if sample.startswith("varve_get_pages{")]
    assert roles == ['"owner"}', '"peer"}', '"peer"}']


# Identity


def names(pool="kv", weights=None, host=None, **fields):
    at = Coordinates(sgl.storage_config(**fields))
    host = host or sgl.host_pool()
    return namespace_names(weights or {"name": "m"}, at, pool, host, "", tp_sharded(pool, at.replicated_kv, host))


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


@pytest.mark.parametrize(
    ("pool", "kind", "count"),
    [
        ("kv", "mla", 1),
        ("indexer", "mla", 1),
        ("deepseek_v4_c4_state", "mla", 1),
        ("mamba", "mla", 4),
        ("draft", "mla", 1),
        ("draft", "mha", 4),
        ("draft_swa", "mha", 4),
        ("swa", "mla", 1),
        ("swa", "mha", 4),
    ],
)
def test_names_of_pools_where_kv_is_replicated(pool, kind, count):
    """One where every rank has the same bytes, and rank 0 writes them for all."""
    host = sgl.host_pool(kind)
    ranks = [{"tp_rank": rank, "tp_size": 4, "is_mla_model": True} for rank in range(4)]
    assert len({names(pool=pool, host=host, **rank)[0] for rank in ranks}) == count


def test_pools_of_deepseek_v4_are_replicated():
    class DeepSeekV4PagedHostPool:
        pass

    class Newer(DeepSeekV4PagedHostPool):
        pass

    assert not tp_sharded("swa", True, Newer())
    assert tp_sharded("swa", False, Newer())


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
    assert sgl.reads_back(again, pool, keys, slots) == 20


def test_ranks_share_the_store_and_no_page(make, pool, tmp_path):
    keys = sgl.hashes(sgl.tokens_of(2, 1))
    backends = [make(pool, config={"tp_rank": rank, "tp_size": 2}) for rank in range(2)]
    assert all(backends[0].batch_set_v1(keys, torch.arange(2 * PAGE)))
    assert [backend.batch_exists(keys) for backend in backends] == [2, 0]
    assert [backend.store_stats()["owner"] for backend in backends] == [1, 0]
    assert (tmp_path / "cache" / "CURRENT").exists()


def test_the_capacity_is_one(make, pool):
    backends = [make(pool, config={"tp_rank": rank, "tp_size": 2}, capacity="32M") for rank in range(2)]
    assert [backend.store_stats()["capacity_bytes"] for backend in backends] == [32 << 20] * 2


@pytest.mark.parametrize(("mla", "share"), [(False, 4), (True, 1)])
def test_the_quota_is_of_all_ranks_together(make, mla, share):
    """An MHA model of 4 ranks has 4 namespaces, and each takes a quarter."""
    pool = sgl.host_pool("mla" if mla else "mha", pages=64)
    backend = make(pool, config={"tp_rank": 1, "tp_size": 4, "is_mla_model": mla}, capacity="64M", quota="8M")
    slots = pool.alloc(64 * PAGE)
    page_bytes = pool.get_data_page(0).nbytes
    chains = [sgl.hashes(sgl.tokens_of(64, seed)) for seed in range((16 << 20) // (64 * page_bytes))]
    for keys in chains:
        assert backend.batch_set_v1(keys, slots) == [True] * 64
    live = backend.store_stats()["live_bytes"]
    assert (8 << 20) / share * 0.7 < live <= (8 << 20) / share


def test_replicas_share_pages(make, pool, tmp_path):
    """--dp-size without DP attention: all say that they are rank 0, of which each has metrics of its own."""
    first, second = make(pool, metrics_file=""), make(pool, metrics_file="")
    keys = sgl.hashes(sgl.tokens_of(20, 1))
    slots = pool.alloc(20 * PAGE)
    sgl.fill(pool, slots, keys)
    assert first.batch_set_v1(keys, slots) == [True] * 20
    assert second.batch_exists(keys) == 20
    assert sgl.reads_back(second, pool, keys, slots) == 20
    metrics = tmp_path / "cache" / "metrics"
    sgl.wait_until(lambda: len(list(metrics.glob("*.prom"))) == 2, "metrics of both")
    assert sorted(path.name for path in metrics.glob("*.prom")) == ["tp0-of-1.1.prom", "tp0-of-1.prom"]
    first.close()
    third = make(pool, metrics_file="")
    assert third._seat.number == 0
    assert sgl.reads_back(third, pool, keys, slots) == 20


def test_pools_that_nobody_writes_are_said(make, caplog):
    """A draft with heads under an MLA model: each rank has another, and SGLang has rank 0 write for all."""
    backend = make(sgl.host_pool("mla"), config={"tp_rank": 1, "tp_size": 2, "is_mla_model": True})
    with caplog.at_level(logging.WARNING, "varve.sglang"):
        backend.register_mem_host_pool_v2(sgl.host_pool("mla"), "draft")
        assert "will not hit" not in caplog.text
        backend.register_mem_host_pool_v2(sgl.host_pool("mha"), "draft_swa")
    assert "pool draft_swa is another on every TP rank" in caplog.text
    assert compat.every_rank_writes("mamba") == (not sgl.RELEASE.startswith("0.5.13"))


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
        ({"path": "/proc/varve"}, "cannot make directory"),
        ({"path": "/proc/varve/kv"}, "cannot make the cache directory"),
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


def test_a_directory_that_is_not_shared(make, pool, monkeypatch):
    monkeypatch.setattr(handle, "OPEN_WAIT_S", 0.1)
    make(pool, share="off")
    with pytest.raises(varve.Error, match="share") as caught:
        make(pool)
    assert caught.value.code == varve.E_LOCKED


def test_stores_of_an_earlier_version(make, pool, tmp_path):
    (tmp_path / "cache" / "tp0-of-2").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"a store for each rank \(tp0-of-2\).*another \"path\""):
        make(pool)


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
