# SPDX-License-Identifier: Apache-2.0
"""The plugin's decisions, each on its own: keys, order, stop points, load or recompute, the breaker, the configuration."""

import hashlib
import itertools
import json
import pathlib
import random
import threading
from array import array
from types import SimpleNamespace

import pytest
import sglang_support  # noqa: F401 - skips where sglang is not installed
import varve
from varve.sglang import keys, v2
from varve.sglang.breaker import Breaker
from varve.sglang.config import KEYS, Config, ConfigError, size_bytes
from varve.sglang.guard import Guard
from varve.sglang.identity import element_type
from varve.sglang.metrics import Metrics
from varve.sglang.order import Order
from varve.sglang.regions import Located
from varve.sglang.transfer import Transfer


def key(n):
    return hashlib.sha256(b"%d" % n).hexdigest()


def test_plain_keys_are_their_digest():
    assert keys.ids_of([key(1), key(2)]) == bytes.fromhex(key(1) + key(2))


@pytest.mark.parametrize("bad", ["", "x" * 64, key(1)[:-1], key(1) + "0", key(1)[:-1] + " ", key(1) + ".draft"])
def test_other_keys_are_not_plain(bad):
    assert keys.ids_of([key(2), bad]) is None


def test_two_keys_whose_lengths_only_add_up_are_not_plain():
    assert keys.ids_of([key(1)[:63], key(2) + "0"]) is None


def test_every_string_has_an_id_and_no_two_share_one():
    strings = [
        key(1),
        key(1) + ".draft",
        key(1) + ".other",
        key(1) + ".",
        "short",
        "",
        key(1)[:63],
        key(1).upper() + "0",
    ]
    found = keys.groups(strings)
    assert sorted(itertools.chain.from_iterable(positions for positions, _ in found.values())) == list(
        range(len(strings))
    )
    ids = {
        (pool, part[32 * i : 32 * i + 32]) for pool, (positions, part) in found.items() for i in range(len(positions))
    }
    assert len(ids) == len(strings)
    assert found["draft"] == ([1], bytes.fromhex(key(1)))


def naive_stops(kv, pools):
    """All stop points, by definition."""
    stops = []
    for stop in range(1, len(kv) + 1):
        if not all(kv[:stop]):
            break
        legal = True
        for policy, window, stored in pools:
            needed = stored[:stop] if policy == "all" else stored[max(0, stop - window) : stop]
            legal = legal and all(needed)
        if legal:
            stops.append(stop)
    return stops


def random_bits(rng, pages):
    return bytes(rng.random() < 0.8 for _ in range(pages))


def test_stop_points_against_their_definition():
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    for _ in range(3000):
        pages = rng.randrange(0, 14)
        kv = random_bits(rng, pages)
        pools = [
            (rng.choice(("all", "trailing")), rng.randrange(1, 4), random_bits(rng, pages))
            for _ in range(rng.randrange(3))
        ]
        kv_pages = v2.leading(kv)
        gates = []
        for policy, window, stored in pools:
            stored = stored[:kv_pages]
            gates.append(range(1, v2.leading(stored) + 1) if policy == "all" else v2.trailing_stops(stored, window))
        assert v2.common_stops(kv_pages, gates) == naive_stops(kv, pools), f"seed {seed}"


def test_the_least_of_the_longest_is_not_a_stop_point():
    assert v2.common_stops(3, [[1, 3], [1, 2]]) == [1]


def test_guard_off_by_default_and_exact_at_the_boundary():
    assert not Guard(0, 0, 16).active
    guard = Guard(10, 0, 16)  # 160 us a page
    assert guard.best_stop([160, 320], [1, 2], 0) == 2
    assert guard.best_stop([161, 322], [1, 2], 0) == 0
    assert guard.best_stop([1000, 1001, 1002, 1003, 1004, 1005, 1006], list(range(1, 8)), 0) == 7
    assert guard.best_stop([100, 200, 900], [1, 2, 3], 0) == 2


def test_guard_knows_that_deep_tokens_cost_more():
    guard = Guard(10, 1, 16)
    assert guard.best_stop([400], [1], 0) == 0
    assert guard.best_stop([400], [1], 1000) == 1


def test_order_from_prefix_queries_and_full_batches():
    order = Order()
    chain = [key(n) for n in range(300)]
    assert order.parent("kv", chain[:1], None) is None
    assert order.parent("kv", chain[5:6], chain[:5]) == bytes.fromhex(chain[4])
    order.saw_query(chain[:200], 100, None)
    assert order.parent("kv", chain[150:160], None) == bytes.fromhex(chain[149])
    assert order.parent("kv", chain[100:228], None) == bytes.fromhex(chain[99])
    assert order.parent("kv", chain[228:230], None) == bytes.fromhex(chain[227])  # the batch before was a full one
    assert order.parent("kv", [key(999)], None) is None
    assert order.parent("swa", chain[228:230], None) is None


def test_order_forgets_in_bounded_memory():
    order = Order()
    for round_ in range(20):
        order.saw_query([key(round_ * 10000 + n) for n in range(10000)], 0, None)
    assert len(order._young) + len(order._old) < 200_000
    assert order.parent("kv", [key(199_999)], None) == bytes.fromhex(key(199_998))


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_breaker():
    clock = Clock()
    breaker = Breaker(3, 5.0, 1.0, clock)
    for _ in range(2):
        assert breaker.allow()
        breaker.done(False)
    assert breaker.allow()
    breaker.done(True)  # not in a row
    for _ in range(3):
        assert breaker.allow()
        breaker.done(False)
    assert breaker.is_open
    assert not breaker.allow()
    clock.now = 5.1
    assert breaker.allow()
    assert not breaker.allow()  # one call finds out for all
    assert breaker.done(False)
    clock.now = 10.2
    assert not breaker.allow()  # the pause is twice as long now
    clock.now = 15.3
    assert breaker.allow()
    breaker.done(True)
    assert not breaker.is_open
    assert breaker.allow()
    assert breaker.opened == 2


def test_breaker_counts_slow_calls():
    breaker = Breaker(2, 5.0, 1.0, Clock())
    for _ in range(2):
        assert breaker.allow()
        breaker.done(True, elapsed_s=2.0)
    assert not breaker.allow()


def test_breaker_while_a_call_does_not_come_back():
    clock = Clock()
    breaker = Breaker(3, 5.0, 1.0, clock)
    gone, back = threading.Event(), threading.Event()

    def hang():
        assert breaker.allow()
        gone.set()
        back.wait()
        breaker.done(True, elapsed_s=2.0)

    thread = threading.Thread(target=hang)
    thread.start()
    gone.wait()
    assert breaker.allow()
    breaker.done(True)
    clock.now = 1.5
    assert breaker.is_open
    assert not breaker.allow()
    back.set()
    thread.join()
    assert not breaker.is_open
    assert breaker.allow()


class Stingy:
    """A handle and its namespace: of each batch the first page is stored, the others exceed the write budget."""

    lost = False

    def namespace(self, _spec):
        return self

    def put_batch(self, ids, *_args, **_keywords):
        return array("i", [varve.OK] + [varve.SKIPPED] * (len(ids) // 32 - 1))


def test_pages_over_the_write_budget_are_not_stored_and_no_errors():
    metrics = Metrics()
    io = Transfer(Stingy(), metrics, Breaker(1, 5, 15), Breaker(1, 5, 15), 3)
    for _ in range(3):
        assert io.put(None, bytes(3 * 32), Located([1, 2, 3], 10, 1, 10), None) == [True, False, False]
    counts = metrics.counts()
    assert (counts["put_ok_pages"], counts["put_skipped_pages"]) == (3, 6)
    assert counts["put_failed_pages"] == counts["put_full_pages"] == counts["refused_pages"] == 0
    assert counts["put_bytes"] == 30
    assert not io.writes.is_open


BASE = {"backend_name": "varve", "module_path": "varve.sglang", "class_name": "VarveHiCache", "path": "/nvme/kv"}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"path": ""}, '"path" is missing'),
        ({"pathh": "/x"}, "no key 'pathh'; did you mean 'path'?"),
        ({"capasity": "1G"}, "did you mean 'capacity'?"),
        ({"segment_byte": "1M"}, "did you mean 'segment_bytes'?"),
        ({"quite_something_else": 1}, "docs/sglang.md"),
        ({"capacity": "lots"}, "'lots' is no size"),
        ({"qouta": "1G"}, "did you mean 'quota'?"),
        ({"write_buget": "1T"}, "did you mean 'write_budget'?"),
        ({"quota": "0.5x"}, "quota: '0.5x' is no size"),
        ({"write_budget": "x"}, "write_budget: 'x' is no size"),
        ({"ttl": "1h"}, "'ttl' must be a int, not '1h'"),
        ({"ttl": -1}, "must be at least 0"),
        ({"capacity": 1.5}, "'capacity' must be a text, not 1.5"),
        ({"path": 7}, "'path' must be a text, not 7"),
        ({"breaker_failures": True}, "'breaker_failures' must be a int, not True"),
        ({"breaker_failures": 0}, "'breaker_failures' must be at least 1"),
        ({"prefill_us_per_token": -1}, "must be at least 0"),
    ],
)
def test_wrong_configuration(extra, message):
    with pytest.raises(ConfigError) as caught:
        Config.parse({**BASE, **extra})
    assert message in str(caught.value)


def test_right_configuration():
    config = Config.parse({**BASE, "capacity": "1.5G", "io_engine": "threads", "interface_v1": 1, "tp_lcm_size": 8})
    assert config.store == {"io_engine": "threads"}
    assert config.interface_v1
    assert config.store_options() == {"io_engine": "threads", "capacity": 3 << 29}
    assert Config.parse(BASE).store_options() == {}


def test_limits_are_of_all_ranks_together():
    config = Config.parse(
        {**BASE, "capacity": "1T", "quota": "800G", "write_budget": "2T", "ttl": 60, "min_free": "10G"}
    )
    assert config.store_options() == {"capacity": 1 << 40, "write_budget": 2 << 40, "min_free": "10G"}
    assert config.quota_bytes(1) == 800 << 30
    assert config.quota_bytes(8) == 100 << 30  # of one of the namespaces that the model's pages are in
    config = Config.parse({**BASE, "write_budget": "0.5x"})
    assert config.store_options() == {"write_budget": "0.5x"}
    assert config.quota_bytes(8) == 0


def test_patience_is_that_of_the_store():
    assert Config.parse({**BASE, "peer_timeout_ms": 500}).patience_s() == pytest.approx(0.45)
    default = next(option["default"] for option in varve.options() if option["name"] == "peer_timeout_ms")
    assert Config.parse(BASE).patience_s() == pytest.approx(0.9 * int(default) / 1000)


@pytest.mark.parametrize("key", ["ranks", "replicas"])
def test_what_ranks_needed_once_is_no_key(key):
    with pytest.raises(ConfigError, match=f"no key '{key}'"):
        Config.parse({**BASE, key: 2})


@pytest.mark.parametrize(
    ("text", "size"), [("4096", 4096), (4096, 4096), ("64M", 64 << 20), ("1T", 1 << 40), ("2 GiB", 2 << 30)]
)
def test_sizes(text, size):
    assert size_bytes(text) == size


def test_the_guide_has_every_key():
    guide = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "sglang.md").read_text()
    for name in KEYS:
        assert f"| `{name}` |" in guide
    for example in ("launch.sh", "config.json", "hits.py"):
        assert (pathlib.Path(__file__).resolve().parents[2] / "examples" / "sglang" / example).exists()


def test_the_example_configuration_is_right():
    path = pathlib.Path(__file__).resolve().parents[2] / "examples" / "sglang" / "config.json"
    config = Config.parse(json.loads(path.read_text()))
    assert config.interface_v1
    assert config.store_options()["capacity"] == 500 << 30


@pytest.mark.parametrize(
    ("host", "device", "wanted"),
    [
        ("torch.bfloat16", None, "bf16"),
        ("torch.float16", "torch.float16", "fp16"),
        ("torch.float32", "torch.float32", "fp32"),
        ("torch.uint8", "torch.float8_e4m3fn", "fp8"),
        ("torch.float8_e5m2", None, "fp8"),
        ("torch.uint8", None, "bytes"),
        ("torch.uint8", "torch.uint8", "bytes"),
    ],
)
def test_the_store_is_told_what_elements_are(host, device, wanted):
    pool = SimpleNamespace(dtype=host)
    if device is not None:
        pool.device_pool = SimpleNamespace(dtype=device)
    assert element_type(pool) == wanted
