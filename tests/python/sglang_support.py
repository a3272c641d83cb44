# SPDX-License-Identifier: Apache-2.0
"""Drives the real SGLang package on a CPU: its pools, its factory, its controllers and their threads.

Nothing of SGLang is imitated. What it cannot do without a GPU is left out rather than faked: copies between device and host (the tests write and
read host pages directly, through the pool's own functions), and several ranks. Two releases differ in how a prefetch is started and awaited;
Engine hides that.
"""

import contextlib
import os
import tempfile
import threading
import time
from types import SimpleNamespace

import pytest
import torch

PAGE = 16
LAYERS = 3
WAIT_S = 30


def _import_torchvision():
    """The torchvision of the registry is built for CUDA. Without it its operators do not exist, and declaring their shapes fails; SGLang
    imports the package but uses none of them.
    """
    real = torch.library.register_fake

    def register(op, *args, **kwargs):
        if isinstance(op, str) and op.startswith("torchvision::"):
            return lambda function: function
        return real(op, *args, **kwargs)

    torch.library.register_fake = register
    try:
        with contextlib.suppress(ImportError):
            import torchvision  # noqa: F401
    finally:
        torch.library.register_fake = real


_import_torchvision()
pytest.importorskip("sglang", reason="sglang is not installed: run `make test-sglang`")

from sglang.srt.managers.cache_controller import HiCacheController
from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator
from sglang.srt.mem_cache.hicache_storage import (
    HiCacheStorageConfig,
    HiCacheStorageExtraInfo,
    PoolHitPolicy,
    PoolName,
    PoolTransfer,
)
from sglang.srt.mem_cache.hybrid_cache.hybrid_cache_controller import HybridCacheController
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, MLATokenToKVPool
from sglang.srt.mem_cache.memory_pool_host import LogicalHostPool
from sglang.srt.mem_cache.storage import StorageBackendFactory
from sglang.srt.mem_cache.utils import get_hash_str
from sglang.version import __version__ as RELEASE

try:
    from sglang.srt.mem_cache.pool_host.group import HostPoolGroup, PoolEntry
except ImportError:
    from sglang.srt.mem_cache.memory_pool_host import HostPoolGroup, PoolEntry
try:
    from sglang.srt.mem_cache.pool_host.mha import MHATokenToKVPoolHost
    from sglang.srt.mem_cache.pool_host.mla import MLATokenToKVPoolHost

    HOST_POOLS_TAKE_INFO = True  # a description of the device pool, and not the pool
except ImportError:
    from sglang.srt.mem_cache.memory_pool_host import MHATokenToKVPoolHost, MLATokenToKVPoolHost

    HOST_POOLS_TAKE_INFO = False

__all__ = [
    "RELEASE",
    "Engine",
    "HiCacheStorageExtraInfo",
    "LogicalHostPool",
    "PoolHitPolicy",
    "PoolName",
    "PoolTransfer",
]

LAYOUTS = [("mha", layout) for layout in ("layer_first", "page_first", "page_first_direct", "page_head")]
LAYOUTS += [("mla", layout) for layout in ("layer_first", "page_first", "page_first_direct")]


SHAPES = {"mha": {"head_num": 4, "head_dim": 16}, "mla": {"kv_lora_rank": 32, "qk_rope_head_dim": 16}}


def device_pool(kind, page=PAGE, tokens=256, layers=LAYERS, **shape):
    cls = MLATokenToKVPool if kind == "mla" else MHATokenToKVPool
    common = {
        "size": tokens,
        "page_size": page,
        "dtype": torch.bfloat16,
        "layer_num": layers,
        "device": "cpu",
        "enable_memory_saver": False,
    }
    return cls(**common, **(shape or SHAPES[kind]))


def host_pool(kind="mha", layout="page_first", page=PAGE, pages=64, device=None, layers=LAYERS):
    """A real host pool in ordinary memory."""
    device = device or device_pool(kind, page, tokens=pages // 2 * page, layers=layers)
    cls = MLATokenToKVPoolHost if kind == "mla" else MHATokenToKVPoolHost
    where = {"page_size": page, "layout": layout, "pin_memory": False, "device": "cpu"}
    ratio = pages * page / device.size
    if not HOST_POOLS_TAKE_INFO:
        return cls(device, ratio, 0, **where)
    info = device.get_device_pool_infos()[0].buffer_info
    where.update(device_capacity_tokens=device.size, start_layer=0, end_layer=layers)
    if kind == "mla":
        where["target_layer_num"] = layers
    return cls(info, ratio, 0, **where)


def storage_config(extra=None, **fields):
    """SGLang's config object for one rank of a server."""
    values = {
        "tp_rank": 0, "tp_size": 1, "pp_rank": 0, "pp_size": 1, "attn_cp_rank": 0, "attn_cp_size": 1, "is_mla_model": False,
        "enable_storage_metrics": True, "is_page_first_layout": True, "model_name": "test-model", "extra_config": extra,
    }  # fmt: skip
    return HiCacheStorageConfig(**{**values, **fields})


def extra_config(directory, **more):
    """What --hicache-storage-backend-extra-config would hold, for Varve and for SGLang's file backend alike."""
    values = {
        "backend_name": "varve", "module_path": "varve.sglang", "class_name": "VarveHiCache", "interface_v1": 1,
        "path": str(directory), "capacity": "64M", "metrics_file": "off",
    }  # fmt: skip
    return {**values, **more}


def create(directory, pool=None, config=None, name="dynamic", **extra):
    """A backend from SGLang's factory, with `pool` registered as the controller does it."""
    if name == "file":
        extra = {"file_storage_path": str(directory)}
        os.environ["SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR"] = str(directory)
    else:
        extra = extra_config(directory, **extra)
    config = storage_config(extra, **(config or {}))
    backend = StorageBackendFactory.create_backend(name, config, pool)
    if pool is not None:
        backend.register_mem_pool_host(pool)
    return backend


def hashes(tokens, prior=None, page=PAGE):
    """SGLang's own keys of a sequence, page by page."""
    keys = []
    for first in range(0, len(tokens) - page + 1, page):
        prior = get_hash_str(tokens[first : first + page], prior)
        keys.append(prior[0] if isinstance(prior, list) else prior)
        prior = keys[-1]
    return keys


def tokens_of(pages, seed, page=PAGE):
    """Token ids of a prompt of its own."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 150000, (pages * page,), generator=generator).tolist()


def content(key, pool):
    """Bytes that belong to a key, as a flat page of the pool."""
    page = pool.get_dummy_flat_data_page()
    generator = torch.Generator().manual_seed(int(key[:15], 16))
    raw = torch.randint(0, 256, (page.numel() * page.element_size(),), dtype=torch.uint8, generator=generator)
    return raw.view(page.dtype)


def bytes_at(pool, index):
    return pool.get_data_page(int(index), flat=True).contiguous().view(torch.uint8)


def fill(pool, indices, keys):
    """Write the bytes of each key to its page of the pool."""
    for i, key in enumerate(keys):
        pool.set_from_flat_data_page(int(indices[i * pool.page_size]), content(key, pool))


def wipe(pool, indices):
    for i in range(0, len(indices), pool.page_size):
        pool.set_from_flat_data_page(int(indices[i]), torch.zeros_like(pool.get_dummy_flat_data_page()))


def matching(pool, indices, keys):
    """Pages from the front that hold the bytes of their keys."""
    for i, key in enumerate(keys):
        wanted = content(key, pool).view(torch.uint8)
        if not torch.equal(bytes_at(pool, indices[i * pool.page_size]), wanted):
            return i
    return len(keys)


@contextlib.contextmanager
def process_groups(rank=0, size=1, rendezvous=None):
    """What the controllers ask of torch.distributed, for one of `size` tensor-parallel ranks that meet at the file `rendezvous`."""
    meeting = f"file://{rendezvous or os.path.join(tempfile.mkdtemp(), 'rendezvous')}"
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    try:
        from sglang.srt.runtime_context import get_parallel
    except ImportError:
        get_parallel = None
    if get_parallel is not None and hasattr(get_parallel(), "override"):
        values = {
            f"{name}_{what}": 1 - k for name in ("pp", "attn_dp", "attn_dcp") for k, what in enumerate(("size", "rank"))
        }
        values.update(
            {f"{name}_{what}": n for name in ("tp", "attn_tp") for what, n in (("rank", rank), ("size", size))}
        )
        with get_parallel().override(**values):
            yield
        return
    from sglang.srt.distributed import parallel_state

    if parallel_state._TP is None:
        parallel_state.init_distributed_environment(
            world_size=size, rank=rank, distributed_init_method="env://", local_rank=rank, backend="gloo"
        )
        parallel_state.initialize_model_parallel(tensor_model_parallel_size=size)
    yield


def wait_until(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"no {what} in {WAIT_S} s"
        time.sleep(0.002)


class Engine:
    """A real cache controller with its storage threads. `sides`: more pools of a hybrid model, name -> (host pool, policy)."""

    def __init__(self, kind="mha", layout="page_first", pages=300, sides=None, page=PAGE, layers=LAYERS, **shape):
        self.device = device_pool(kind, page, min(256, pages * page // 2 // page * page), layers, **shape)
        self.pool = host_pool(kind, layout, page, pages, self.device, layers)
        self.sides = sides or {}
        allocator = PagedTokenToKVPoolAllocator(
            size=self.device.size,
            page_size=page,
            dtype=torch.bfloat16,
            device="cpu",
            kvcache=self.device,
            need_sort=False,
        )
        group = self.pool
        if self.sides:
            entries = [
                PoolEntry(PoolName.KV, self.pool, self.device, lambda layer: layer, is_primary_index_anchor=True)
            ]
            entries += [PoolEntry(name, pool, None, lambda layer: layer) for name, (pool, _) in self.sides.items()]
            group = HostPoolGroup(entries)
        cls = HybridCacheController if self.sides else HiCacheController
        self.controller = cls(
            token_to_kv_pool_allocator=allocator, mem_pool_host=group, page_size=page, tp_group=torch.distributed.group.WORLD,
            load_cache_event=threading.Event(), write_policy="write_through", io_backend="direct", enable_storage_metrics=True,
        )  # fmt: skip

    @property
    def backend(self):
        return self.controller.storage_backend

    def attach(self, name, extra):
        more = {"host_pools": self.controller.mem_pool_host.entries} if self.sides else {}
        self.controller.attach_storage_backend(
            name, prefetch_threshold=PAGE, model_name="test-model", storage_backend_extra_config=extra, **more
        )

    def detach(self):
        self.controller.detach_storage_backend()

    def _transfers(self, keys, for_backup):
        """The pool transfers of a hybrid operation, and their host indices to give back."""
        transfers, taken = [], []
        for name, (pool, policy) in self.sides.items():
            if policy == PoolHitPolicy.ALL_PAGES:
                transfers.append(PoolTransfer(name=name, hit_policy=policy, indices_from_pool=PoolName.KV))
                continue
            window = keys[-2:]
            indices = pool.alloc(len(window) * pool.page_size)
            taken.append((pool, indices))
            if for_backup:
                fill(pool, indices, window)
            else:
                wipe(pool, indices)
            transfers.append(PoolTransfer(name=name, host_indices=indices, keys=list(window), hit_policy=policy))
        return transfers, taken

    def backup(self, tokens, prior=None, prefix_keys=None):
        """Compute a prompt, so to speak, and let the backup thread write it. Returns the pages that it says are written."""
        keys = hashes(tokens, prior)
        indices = self.pool.alloc(len(keys) * PAGE)
        fill(self.pool, indices, keys)
        more, taken = {}, []
        if self.sides:
            transfers, taken = self._transfers(keys, True)
            more = {"extra_pools": transfers}
            for pool, policy in self.sides.values():
                if policy == PoolHitPolicy.ALL_PAGES:
                    fill(pool, indices, keys)
        self.controller.write_storage(indices, tokens, hash_value=keys, prefix_keys=prefix_keys, **more)
        operation = self.controller.ack_backup_queue.get(timeout=WAIT_S)
        for pool, slots in [(self.pool, indices), *taken]:
            wipe(pool, slots)
            pool.free(slots)
        return operation.completed_tokens // PAGE

    def prefetch(self, tokens, prior=None, prefix_keys=None):
        """Let the prefetch threads find and load a prompt. Returns its pages, each of them compared with what was backed up; with side
        pools, also the pages that those loaded.
        """
        keys = hashes(tokens, prior)
        more, taken = {}, []
        if self.sides:
            transfers, taken = self._transfers(keys, False)
            more = {"extra_pools": transfers}
        pages, indices, loaded = self._run_prefetch(tokens, prior, prefix_keys, len(keys), more)
        try:
            assert matching(self.pool, indices, keys[:pages]) == pages, "a page has wrong bytes"
            for transfer in more.get("extra_pools", []):
                pool, policy = self.sides[transfer.name]
                at = indices if policy == PoolHitPolicy.ALL_PAGES else transfer.host_indices
                named = keys[:pages] if policy == PoolHitPolicy.ALL_PAGES else list(transfer.keys)
                if pages:
                    assert matching(pool, at, named) == len(named), f"{transfer.name} has wrong bytes"
        finally:
            self.pool.free(indices)
            for pool, slots in taken:
                pool.free(slots)
        return (pages, loaded) if self.sides else pages

    def _run_prefetch(self, tokens, prior, prefix_keys, pages, more):
        if HOST_POOLS_TAKE_INFO:
            return self._prefetch_hit_sized(tokens, prior, prefix_keys, more)
        return self._prefetch_preallocated(tokens, prior, prefix_keys, pages, more)

    def _prefetch_hit_sized(self, tokens, prior, prefix_keys, more):
        """Newer releases: the scheduler allocates when the number of hits is known."""
        controller = self.controller
        rid = SimpleNamespace(rid="request") if self.sides else "request"
        controller.prefetch(rid, tokens, prior, prefix_keys, **more)
        operation = controller.prefetch_hit_queue.get(timeout=WAIT_S)
        if operation.storage_hit_count < controller.prefetch_threshold:
            return 0, torch.empty(0, dtype=torch.int64), {}
        operation.host_indices = self.pool.alloc(operation.storage_hit_count)
        wipe(self.pool, operation.host_indices)
        controller.prefetch_buffer.put(operation)
        done, loaded = 0, {}
        while True:
            ack = controller.ack_prefetch_queue.get(timeout=WAIT_S)
            done = max(done, ack.completed_tokens or 0)
            loaded.update({name: count for name, count in (ack.pool_hits or {}).items() if count})
            if ack.completed_req:
                return done // PAGE, operation.host_indices, loaded

    def _prefetch_preallocated(self, tokens, prior, prefix_keys, pages, more):
        """Older releases: host pages for the whole prompt are handed over with the request."""
        controller = self.controller
        indices = self.pool.alloc(pages * PAGE)
        wipe(self.pool, indices)
        operation = controller.prefetch("request", indices, tokens, prior, prefix_keys, **more)

        def finished():
            if not controller.prefetch_revoke_queue.empty():
                return True
            transferred = operation.completed_tokens == len(operation.hash_value) * PAGE
            return operation.is_terminated() or (
                bool(operation.hash_value) and transferred and getattr(operation, "pool_transfers_done", True)
            )

        wait_until(finished, "end of the prefetch")
        if not controller.prefetch_revoke_queue.empty():
            controller.prefetch_revoke_queue.get()
            return 0, indices, {}
        results = getattr(getattr(operation, "pool_storage_result", None), "extra_pool_hit_pages", {})
        return operation.completed_tokens // PAGE, indices, dict(results)


# Fixtures, for modules that name this one in pytest_plugins.


@pytest.fixture(scope="module")
def process_groups_of_one():
    """What the controllers ask of torch.distributed, for the tests of a module."""
    with process_groups():
        yield


@pytest.fixture
def make(tmp_path):
    """Makes backends from SGLang's factory; closes them at the end."""
    made = []

    def build(pool=None, config=None, **extra):
        made.append(create(tmp_path / "cache", pool, config, **extra))
        return made[-1]

    yield build
    for backend in made:
        backend.close()


@pytest.fixture
def pool():
    return host_pool()


@pytest.fixture
def stored(make, pool):
    """A backend with 20 pages of one prompt, their keys, and their slots in the pool."""
    backend = make(pool)
    keys = hashes(tokens_of(20, 1))
    slots = pool.alloc(20 * PAGE)
    fill(pool, slots, keys)
    assert backend.batch_set_v1(keys, slots) == [True] * 20
    return backend, keys, slots


def reads_back(backend, pool, keys, slots):
    wipe(pool, slots)
    good = backend.batch_get_v1(keys, slots)
    assert matching(pool, slots, keys[: good.index(False) if False in good else len(good)]) == sum(good)
    return sum(good)
