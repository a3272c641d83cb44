# SPDX-License-Identifier: Apache-2.0
"""The Python package: what each call does, on real files.

Wrong arguments are in test_bindings_arguments.py, threads and lifetimes in test_bindings_threads.py, numpy and torch in
test_bindings_numpy.py.
"""

import hashlib
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from array import array

import pytest
import varve
from util import addresses_of, make_bytes, make_ids

PAGE_BYTES = 8192


def put_pages(ns, ids, size=PAGE_BYTES, seed=0, **keywords):
    """Put a page of `size` bytes for each id; returns the pages."""
    pages = [make_bytes(size, seed * 100000 + i) for i in range(len(ids) // 32)]
    assert list(ns.put_buffers(ids, pages, **keywords)) == [varve.OK] * len(pages)
    return pages


def get_pages(ns, count, ids, size=PAGE_BYTES):
    """Statuses and bytes of `count` pages."""
    buffers = [bytearray(size) for _ in range(count)]
    return list(ns.get_buffers(ids, buffers)), buffers


def test_version_and_constants():
    assert varve.__version__.count(".") == 2
    assert (varve.OK, varve.MISS, varve.SKIPPED) == (0, 1, 2)
    errors = [
        varve.E_ARG,
        varve.E_NOMEM,
        varve.E_IO,
        varve.E_NOSPC,
        varve.E_CORRUPT,
        varve.E_VERSION,
        varve.E_LOCKED,
        varve.E_READONLY,
        varve.E_NOSTORE,
    ]
    assert errors == list(range(-1001, -1010, -1))
    assert all(hasattr(varve, name) for name in varve.__all__)
    assert varve.strerror(varve.E_NOSPC).startswith("VARVE_E_NOSPC: ")
    assert varve.strerror(12345) == varve.strerror(1 << 80) == "unknown status"


@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("region_bytes", [4096, 1000])
def test_put_and_get_by_address(ns, parts, region_bytes):
    count = 20
    ids = make_ids(count)
    memory = bytearray(make_bytes(count * parts * region_bytes))
    back = bytearray(len(memory))
    places = addresses_of(memory, region_bytes)
    statuses = ns.put_batch(ids, places, region_bytes, parts=parts)
    assert isinstance(statuses, array) and statuses.typecode == "i" and list(statuses) == [varve.OK] * count
    statuses = ns.get_batch(ids, array("Q", addresses_of(back, region_bytes)), region_bytes, parts=parts)
    assert isinstance(statuses, array) and statuses.typecode == "i" and list(statuses) == [varve.OK] * count
    assert back == memory


def test_addresses_and_sizes_in_every_form(ns):
    ids = make_ids(6)
    memory = bytearray(make_bytes(6 * 4096))
    places = addresses_of(memory, 4096)
    ns.put_batch(ids, places, 4096)
    sizes = [4096] * 6
    unaligned = memoryview(b"x" + array("Q", places).tobytes())[1:].cast("Q") if sys.byteorder == "little" else places
    for form in (
        places,
        tuple(places),
        array("Q", places),
        array("q", places),
        range(places[0], places[0] + 6 * 4096, 4096),
        memoryview(array("L", places)),
        unaligned,
    ):
        for length in (4096, sizes, array("Q", sizes), array("q", sizes), tuple(sizes)):
            back = bytearray(6 * 4096)
            move = addresses_of(back, 4096)[0] - places[0]
            if isinstance(form, (array, memoryview)):
                there = array("Q", [place + move for place in form])
            else:
                there = (
                    type(form)(place + move for place in form)
                    if not isinstance(form, range)
                    else range(form.start + move, form.stop + move, form.step)
                )
            assert list(ns.get_batch(ids, there, length)) == [varve.OK] * 6
            assert back == memory
            assert list(ns.put_batch(ids, form, length)) == [varve.OK] * 6


def test_buffers_of_different_sizes(ns):
    sizes = [0, 1, 100, 4096, 70000]
    ids = make_ids(len(sizes))
    pages = [make_bytes(size, size) for size in sizes]
    assert set(ns.put_buffers(ids, pages)) == {varve.OK}
    buffers = [bytearray(b"\xee" * 70000) for _ in sizes]
    page_sizes = array("Q", [7]) * len(sizes)
    assert set(ns.get_buffers(ids, tuple(buffers), page_sizes=page_sizes)) == {varve.OK}
    assert list(page_sizes) == sizes
    for size, page, buffer in zip(sizes, pages, buffers):
        assert buffer[:size] == page
        assert buffer[size:] == b"\xee" * (70000 - size), "room beyond the page was touched"


def test_too_little_room_is_a_status_that_says_what_is_needed(ns):
    ids = make_ids(3)
    pages = put_pages(ns, ids, 5000)
    buffers = [bytearray(5000), bytearray(4999), bytearray(5000)]
    sizes = array("Q", [0]) * 3
    assert list(ns.get_buffers(ids, buffers, page_sizes=sizes)) == [varve.OK, varve.E_ARG, varve.OK]
    assert list(sizes) == [5000] * 3
    assert (buffers[0], buffers[2]) == (pages[0], pages[2])


def test_pages_without_bytes(ns):
    ids = make_ids(4)
    assert list(ns.put_batch(ids, [0] * 4, 0)) == [varve.OK] * 4
    assert ns.probe(ids) == 4
    assert list(ns.get_batch(ids, [0] * 4, 0)) == [varve.OK] * 4


def test_empty_batches(ns):
    assert list(ns.put_batch(b"", [], [])) == list(ns.get_batch(b"", array("Q"), 4096)) == []
    assert list(ns.put_buffers(b"", [])) == list(ns.get_buffers(b"", ())) == []
    assert (ns.probe(b""), ns.probe_estimate(b""), ns.exists_batch(b"")) == (0, (0, [], []), b"")
    assert (ns.touch(b""), ns.remove_batch(b"")) == (0, 0)


def test_a_missing_page_does_not_fail_its_neighbours(ns):
    ids = make_ids(5)
    put_pages(ns, ids[:64] + ids[96:])
    statuses, _ = get_pages(ns, 5, ids)
    assert statuses == [varve.OK, varve.OK, varve.MISS, varve.OK, varve.OK]
    assert ns.probe(ids) == 2
    assert ns.exists_batch(ids) == bytes([1, 1, 0, 1, 1])


def test_a_page_that_is_too_large_is_a_status(ns):
    ids = make_ids(2)
    memory = bytearray(4096)
    statuses = ns.put_batch(ids, addresses_of(memory, 4096) * 2, [4096, varve.PAGE_BYTES_MAX + 1])
    assert list(statuses) == [varve.OK, varve.E_ARG]


def test_chains_grow_with_parents(ns):
    ids = make_ids(64)
    pages = put_pages(ns, ids[: 32 * 40])
    pages += put_pages(ns, ids[32 * 40 :], seed=1, parent=ids[32 * 39 : 32 * 40])
    assert ns.probe(ids) == 64
    statuses, back = get_pages(ns, 64, ids)
    assert (statuses, back) == ([varve.OK] * 64, pages)


def test_probe_estimate(ns):
    ids = make_ids(10)
    put_pages(ns, ids[:224], 1000)
    pages, cumulated, times = ns.probe_estimate(ids)
    assert pages == len(cumulated) == len(times) == 7
    assert cumulated == [1000 * (i + 1) for i in range(7)]
    assert times == sorted(times) and times[0] > 0


def test_touch_remove_clear(store, ns):
    ids, other = make_ids(6), store.namespace("other")
    put_pages(ns, ids)
    put_pages(other, ids)
    assert ns.touch(ids + make_ids(2, seed=9)) == 6
    assert ns.remove_batch(ids[:64] + make_ids(1, seed=9)) == 2
    assert ns.exists_batch(ids) == bytes([0, 0, 1, 1, 1, 1])
    ns.clear()
    assert (ns.probe(ids), ns.exists_batch(ids)) == (0, bytes(6))
    assert other.probe(ids) == 6, "clearing one namespace reached into another"
    put_pages(ns, ids)
    assert ns.probe(ids) == 6


def test_namespaces(store):
    for element_type in ("bytes", "bf16", "fp16", "fp32", "fp8"):
        ns = store.namespace(f"model/{element_type}", element_type, page_bytes_hint=1 << 20)
        assert (ns.name, ns.store) == (f"model/{element_type}", store)
    assert store.stats()["namespaces"] == 5
    assert "model/fp8" in repr(ns)
    ids = make_ids(3)
    put_pages(store.namespace("één"), ids)
    assert store.namespace("één").probe(ids) == 3


def test_reopen(open_store):
    ids = make_ids(50)
    with open_store() as store:
        pages = put_pages(store.namespace("test"), ids)
    assert store.closed
    with open_store() as store:
        statuses, back = get_pages(store.namespace("test"), 50, ids)
        assert (statuses, back) == ([varve.OK] * 50, pages)


def test_acknowledged_pages_survive_kill_9(store_path, open_store):
    script = """if True:
        import os, signal, sys
        import varve
        from util import make_bytes, make_ids
        store = varve.Store(sys.argv[1], capacity="64M")
        statuses = store.namespace("test").put_buffers(make_ids(9), [make_bytes(5000, i) for i in range(9)], sync=True)
        assert set(statuses) == {0}
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", script, str(store_path)], cwd=os.path.dirname(__file__), check=False)
    assert done.returncode == -signal.SIGKILL
    statuses, back = get_pages(open_store().namespace("test"), 9, make_ids(9), 5000)
    assert (statuses, back) == ([varve.OK] * 9, [make_bytes(5000, i) for i in range(9)])


def test_a_corrupted_page_is_a_miss_and_a_put_heals_it(store_path, store, ns):
    ids = make_ids(5)
    pages = put_pages(ns, ids, sync=True)
    places = [(path, path.read_bytes().find(pages[2])) for path in store_path.iterdir() if path.is_file()]
    [(path, offset)] = [place for place in places if place[1] >= 0]
    with open(path, "r+b") as file:
        file.seek(offset + 4321)
        byte = file.read(1)[0]
        file.seek(offset + 4321)
        file.write(bytes([byte ^ 1]))
        file.flush()
        os.fsync(file.fileno())
    statuses, back = get_pages(ns, 5, ids)
    assert statuses == [varve.OK, varve.OK, varve.MISS, varve.OK, varve.OK]
    assert back[:2] + back[3:] == pages[:2] + pages[3:]
    assert store.stats()["get_corrupt"] == 1
    assert list(ns.put_buffers(ids, pages)) == [varve.OK] * 5
    assert get_pages(ns, 5, ids) == ([varve.OK] * 5, pages)


def test_stats_have_the_described_names(store, ns):
    described = varve.stat_descriptions()
    assert all(set(row) == {"name", "help", "gauge"} and isinstance(row["gauge"], bool) for row in described)
    put_pages(ns, make_ids(4))
    get_pages(ns, 5, make_ids(5))
    stats = store.stats()
    assert list(stats) == [row["name"] for row in described]
    assert all(isinstance(value, int) for value in stats.values())
    assert (stats["put_pages"], stats["put_bytes"], stats["get_pages"], stats["get_misses"]) == (
        4,
        4 * PAGE_BYTES,
        4,
        1,
    )


def test_control_log(store_path, open_store):
    with open_store() as store:
        ns = store.namespace("n")
        assert store.control_log() == []
        put_pages(ns, make_ids(4))  # reads and writes of pages, beside which the index is nothing
        end = time.monotonic() + 60
        while not store.control_log() and time.monotonic() < end:
            ns.exists_batch(make_ids(10000))
        lines = store.control_log()
        assert lines and all(isinstance(line, str) and "\n" not in line for line in lines)
        assert " s  sleep: " in lines[0] or " s  switch " in lines[0]
    with open_store() as store:
        assert store.control_log() == []
    with open(os.path.join(store_path, "CONTROL"), encoding="ascii") as file:
        assert [line.split("  ", 1)[1] for line in file.read().splitlines()[1:]][0].strip() == lines[0].strip()


def test_aligned_buffers_are_not_copied(store, ns):
    align = store.io_align
    assert 512 <= align <= 4096
    ids = make_ids(4)
    memory = bytearray(6 * 4096)
    first = -addresses_of(memory, len(memory))[0] % 4096
    places = [addresses_of(memory, len(memory))[0] + first + 4096 * i for i in range(4)]
    assert set(ns.put_batch(ids, places, 4096)) | set(ns.get_batch(ids, places, 4096)) == {varve.OK}
    stats = store.stats()
    assert (stats["put_copied_bytes"], stats["get_copied_bytes"]) == (0, 0)


def test_options(store_path, open_store):
    rows = {row["name"]: row for row in varve.options()}
    assert all(set(row) == {"name", "type", "default", "help", "live"} for row in rows.values())
    assert rows["capacity"]["type"] == "size" and rows["sync_interval_ms"]["live"] is True
    assert rows["segment_bytes"]["live"] is False and rows["background"]["default"] == "on"
    with open_store(capacity=32 << 20, background=False, io_engine="threads") as store:
        assert store.stats()["capacity_bytes"] == 32 << 20
        assert store.stats()["io_engine_uring"] == 0
        store.set_option("sync_interval_ms", 10)
        store.set_option("sync_bytes", "1M")
        with pytest.raises(varve.Error, match="segment_bytes can only be set when") as caught:
            store.set_option("segment_bytes", "1M")
        assert caught.value.code == varve.E_ARG


def chain_reference(tokens, page_tokens, prior=None):
    ids = []
    for i in range(0, len(tokens) - page_tokens + 1, page_tokens):
        digest = hashlib.sha256(prior or b"")
        for token in tokens[i : i + page_tokens]:
            digest.update(token.to_bytes(4, "little"))
        prior = digest.digest()
        ids.append(prior)
    return b"".join(ids)


@pytest.mark.parametrize("page_tokens", [1, 16, 64, 300])
def test_chain_is_what_hashlib_says(page_tokens):
    dice = random.Random(page_tokens)
    tokens = [dice.randrange(1 << 32) for _ in range(1000)]
    small = [token >> 1 for token in tokens]
    for prior in (None, make_ids(1)):
        expected = chain_reference(tokens, page_tokens, prior)
        assert len(expected) == 32 * (1000 // page_tokens)
        for form in (
            tokens,
            tuple(tokens),
            array("I", tokens),
            array("Q", tokens),
            memoryview(array("I", tokens)).toreadonly(),
        ):
            assert varve.chain(form, page_tokens, prior) == expected
        assert varve.chain(array("i", small), page_tokens, prior) == chain_reference(small, page_tokens, prior)
    assert varve.chain(tokens[: page_tokens - 1], page_tokens) == varve.chain([], page_tokens) == b""


def test_errors_carry_code_message_and_errno(tmp_path, open_store, store_path):
    open_store()
    with pytest.raises(varve.Error) as caught:
        varve.Store(store_path, share="off")
    assert caught.value.code == varve.E_LOCKED and str(caught.value) == caught.value.message != ""
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.code, copy.message, copy.os_errno) == (varve.E_LOCKED, caught.value.message, caught.value.os_errno)
    with pytest.raises(varve.Error) as caught:
        varve.Store(tmp_path / "absent", create=False)
    assert caught.value.code == varve.E_NOSTORE
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(varve.Error) as caught:
        varve.Store(tmp_path / "file")
    assert caught.value.code < -1000 and "file" in caught.value.message


def test_paths_of_every_kind(tmp_path):
    for path in (str(tmp_path / "a"), os.fsencode(tmp_path / "b"), tmp_path / "c"):
        with varve.Store(path, capacity="16M") as store:
            assert store.path == path and repr(os.fspath(path)) in repr(store)
        assert os.path.isdir(path) and "(closed)" in repr(store)


def test_the_example_of_the_readme_runs(tmp_path):
    readme = os.path.join(os.path.dirname(__file__), "..", "..", "python", "README.md")
    with open(readme, encoding="utf-8") as file:
        example = file.read().split("```python\n")[1].split("```")[0]
    for found in (0, 4):  # the second run finds what the first one stored
        done = subprocess.run(
            [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0] == f"{found} of 4 pages are stored"


def test_plan_loads_what_is_quicker_than_computing():
    plan = varve.plan([100, 200, 900], page_tokens=16, token_us=10, tokens_after=4)
    assert plan == varve.LoadPlan(first=0, count=2, ttft_us=400, all_us=940, none_us=520)
    assert varve.plan(array("Q", [100, varve.PLAN_NEVER]), page_tokens=16, token_us=10).count == 1
    assert varve.plan([], page_tokens=1, token_us=1) == (0, 0, 0, 0, 0)
    tail = varve.plan([500 * (i + 1) for i in range(30)], page_tokens=1, token_us=1000, tail=True)
    assert tail.first + tail.count == 30 and 9 <= tail.first <= 11
    assert varve.plan([400], page_tokens=16, token_us=10, depth_us=0.001, tokens_before=16000).count == 1


def test_plan_of_stored_pages(ns):
    ids = make_ids(20)
    put_pages(ns, ids[: 32 * 12])
    assert ns.plan(ids, page_tokens=64, token_us=1e6).count == 12
    assert ns.plan(ids, page_tokens=64, token_us=0).count == 0


@pytest.mark.parametrize(
    ("times", "keywords", "error"),
    [
        ([2, 1], {}, varve.Error),
        ([1], {"token_us": -1}, varve.Error),
        ([1], {"token_us": float("nan")}, varve.Error),
        ([1], {"page_tokens": 0}, varve.Error),
        ([-1], {}, ValueError),
        (["x"], {}, TypeError),
        (5, {}, TypeError),
    ],
)
def test_plan_refuses_nonsense(times, keywords, error):
    with pytest.raises(error):
        varve.plan(times, **{"page_tokens": 1, "token_us": 1.0} | keywords)


def test_pin_and_unpin(store, ns):
    ids = make_ids(20)
    put_pages(ns, ids)
    assert ns.pin(ids[32 * 5 : 32 * 10]) == 5
    assert store.stats()["pinned_bytes"] == 10 * PAGE_BYTES  # and what comes before
    assert ns.pin(ids + make_ids(1, seed=1)) == 20
    assert ns.unpin(ids[: 32 * 15]) == 15
    assert ns.unpin(ids) == 5
    assert ns.pin(b"") == ns.unpin(b"") == 0
    assert store.stats()["pinned_bytes"] == 0
    store.set_option("pin_bytes", 3 * PAGE_BYTES)
    assert ns.pin(ids) == 3


def test_quota(store, ns):
    ns.limits(quota=20 * PAGE_BYTES)
    for seed in range(4):
        put_pages(ns, make_ids(15, seed))
    assert store.stats()["live_bytes"] <= 20 * PAGE_BYTES
    ns.limits()


def test_time_to_live(ns):
    ids = make_ids(15)
    ns.limits(ttl=1)
    began = time.monotonic()
    put_pages(ns, ids)
    while any(ns.exists_batch(ids)):
        assert time.monotonic() < began + 60
    assert time.monotonic() >= began + 1
    assert ns.probe(ids) == 0


@pytest.mark.parametrize("limits", [{"quota": -1}, {"quota": 1 << 64}, {"ttl": -1}, {"ttl": (1 << 32) + 1}])
def test_wrong_limits(ns, limits):
    with pytest.raises(ValueError, match="is not between 0 and"):
        ns.limits(**limits)


def test_write_budget(open_store):
    store = open_store(write_budget="24M")  # 1M an hour
    ns = store.namespace("test")
    statuses = []
    for first in range(0, 400, 20):
        ids = make_ids(400)[32 * first : 32 * (first + 20)]
        parent = make_ids(400)[32 * (first - 1) : 32 * first] or None
        statuses += ns.put_buffers(ids, [bytes(PAGE_BYTES)] * 20, parent=parent)
    assert set(statuses) == {varve.OK, varve.SKIPPED}
    assert statuses == sorted(statuses)  # a prefix
    assert store.stats()["put_skipped"] == statuses.count(varve.SKIPPED)
    assert ns.probe(make_ids(400)) == statuses.count(varve.OK)
