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
from varve.sglang import compat
from varve.sglang.config import ConfigError
from varve.sglang.identity import Coordinates, namespace_names

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
    assert sgl.reads_back(again, pool, keys, slots) == 20


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
