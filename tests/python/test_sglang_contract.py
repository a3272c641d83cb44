# SPDX-License-Identifier: Apache-2.0
"""What SGLang expects of a storage backend, driven by SGLang's own controllers and threads.

The same tests run over SGLang's `file` backend: what holds there is the contract, and what the tests assume about SGLang is checked by a peer.
Every page that a prefetch reports is compared with the bytes that were backed up.
"""

import os
import signal
import subprocess
import sys
import threading

import pytest
import sglang_support as sgl
import varve
from sglang_support import PAGE, Engine, PoolHitPolicy, PoolName

pytest_plugins = ["sglang_support"]  # its fixtures
pytestmark = pytest.mark.usefixtures("process_groups_of_one")

BACKENDS = ["file", "varve copies", "varve in place"]


def attach_to(engine, backend, directory, **extra):
    if backend == "file":
        os.environ["SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR"] = str(directory)
        directory.mkdir(exist_ok=True)
        engine.attach("file", {})
    else:
        engine.attach("dynamic", sgl.extra_config(directory, interface_v1=int(backend == "varve in place"), **extra))


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture
def attached(backend, tmp_path):
    """Makes an engine with the backend attached; detaches it at the end."""
    engines = []

    def make(**options):
        engine = Engine(**options)
        attach_to(engine, backend, tmp_path / "cache")
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        if engine.controller.enable_storage:
            engine.detach()


def test_the_factory_made_it(attached, backend):
    engine = attached()
    assert type(engine.backend).__name__ == ("HiCacheFile" if backend == "file" else "VarveHiCache")
    in_place = engine.controller.page_get_func.__name__ == "_page_get_zero_copy"
    assert in_place == (backend == "varve in place")


@pytest.mark.parametrize(("kind", "layout"), sgl.LAYOUTS)
def test_round_trip(attached, kind, layout):
    engine = attached(kind=kind, layout=layout)
    prompt = sgl.tokens_of(20, 1)
    assert engine.prefetch(prompt) == 0
    assert engine.backup(prompt) == 20
    assert engine.prefetch(prompt) == 20


def test_longest_prefix(attached):
    engine = attached()
    prompt = sgl.tokens_of(20, 1)
    engine.backup(prompt[: 12 * PAGE])
    assert engine.prefetch(prompt) == 12
    other = prompt[: 5 * PAGE] + sgl.tokens_of(15, 2)
    assert engine.prefetch(other) == 5


def test_a_conversation_that_goes_on(attached):
    engine = attached()
    prompt = sgl.tokens_of(30, 1)
    keys = sgl.hashes(prompt)
    engine.backup(prompt[: 10 * PAGE])
    engine.backup(prompt[10 * PAGE :], prior=keys[9], prefix_keys=keys[:10])
    assert engine.prefetch(prompt) == 30
    assert engine.prefetch(prompt[10 * PAGE :], prior=keys[9], prefix_keys=keys[:10]) == 20


def test_prompts_of_several_batches(attached):
    engine = attached(pages=600)
    prompt = sgl.tokens_of(280, 1)
    assert engine.backup(prompt) == 280
    assert engine.prefetch(prompt) == 280
    assert engine.prefetch(prompt + sgl.tokens_of(5, 2)) == 280


def test_backing_up_again_changes_nothing(attached):
    engine = attached()
    prompt = sgl.tokens_of(10, 1)
    assert engine.backup(prompt) == 10
    assert engine.backup(prompt) == 10
    assert engine.prefetch(prompt) == 10


def test_restart(attached, backend, tmp_path):
    engine = attached()
    prompt = sgl.tokens_of(20, 1)
    engine.backup(prompt)
    engine.detach()
    again = Engine()
    attach_to(again, backend, tmp_path / "cache")
    assert again.prefetch(prompt) == 20
    again.detach()


def test_detach_and_attach(attached, backend, tmp_path):
    engine = attached()
    prompt = sgl.tokens_of(20, 1)
    engine.backup(prompt)
    for _ in range(3):
        engine.detach()
        attach_to(engine, backend, tmp_path / "cache")
    assert engine.prefetch(prompt) == 20


def test_clear(attached):
    engine = attached()
    prompt = sgl.tokens_of(20, 1)
    engine.backup(prompt)
    engine.backend.clear()
    assert engine.prefetch(prompt) == 0
    assert engine.backup(prompt) == 20
    assert engine.prefetch(prompt) == 20


def test_an_empty_batch(attached):
    backend = attached().backend
    assert backend.batch_exists([]) == 0


def test_stats_are_what_sglang_asserts(attached):
    from varve.sglang import compat

    engine = attached()
    engine.backup(sgl.tokens_of(10, 1))
    taken = engine.backend.get_stats()
    assert taken is None or isinstance(taken, compat.StorageMetrics)


def test_threads(attached):
    """Scheduler, prefetch, load and backup threads call at once."""
    engine = attached(pages=600)
    stop, failures = threading.Event(), []

    def ask(seed):
        keys = sgl.hashes(sgl.tokens_of(40, seed))
        while not stop.is_set():
            found = engine.backend.batch_exists(keys)
            if not 0 <= found <= 40:
                failures.append(found)
            engine.backend.get_stats()

    askers = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
    for asker in askers:
        asker.start()
    try:
        for seed in range(8):
            assert engine.backup(sgl.tokens_of(40, seed)) == 40
            assert engine.prefetch(sgl.tokens_of(40, seed // 2)) == 40
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    assert failures == []


CHILD = """
import sys
sys.path[:0] = {path!r}
import sglang_support as sgl
from test_sglang_contract import attach_to
from pathlib import Path
with sgl.process_groups():
    engine = sgl.Engine(pages=300)
    attach_to(engine, {backend!r}, Path({directory!r}))
    for seed in range(1000):
        assert engine.backup(sgl.tokens_of(20, seed)) == 20
        print(seed, flush=True)
"""


def test_kill_9(backend, tmp_path):
    """What was acknowledged before the kill is there afterwards; what was not is there or missing, and never wrong."""
    directory = tmp_path / "cache"
    code = CHILD.format(path=sys.path, backend=backend, directory=str(directory))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        acknowledged = -1
        for line in child.stdout:
            acknowledged = int(line)
            if acknowledged == 5:
                break
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert acknowledged == 5
    engine = Engine(pages=300)
    attach_to(engine, backend, directory)
    for seed in range(6):
        assert engine.prefetch(sgl.tokens_of(20, seed)) == 20
    assert 0 <= engine.prefetch(sgl.tokens_of(20, 6)) <= 20
    engine.detach()


# Hybrid models: side pools, one of which follows the KV pages, and one of which holds a window of two pages at the end.


def hybrid(attached):
    return attached(
        sides={
            PoolName.INDEXER: (sgl.host_pool("mla", "page_first", pages=300), PoolHitPolicy.ALL_PAGES),
            PoolName.SWA: (sgl.host_pool("mha", "page_first", pages=64), PoolHitPolicy.TRAILING_PAGES),
        }
    )


def test_hybrid_round_trip(attached):
    engine = hybrid(attached)
    prompt = sgl.tokens_of(20, 1)
    assert engine.prefetch(prompt)[0] == 0
    assert engine.backup(prompt) == 20
    pages, loaded = engine.prefetch(prompt)
    assert pages == 20
    assert loaded


def test_hybrid_stops_where_the_window_is(attached):
    """The window lies at the end of what was backed up, so nothing shorter can be restored."""
    engine = hybrid(attached)
    prompt = sgl.tokens_of(20, 1)
    engine.backup(prompt[: 12 * PAGE])
    assert engine.prefetch(prompt)[0] == 12
    assert engine.prefetch(prompt[: 8 * PAGE])[0] == 0


def test_varve_is_the_one_under_test():
    assert varve.__version__
    assert sgl.RELEASE
