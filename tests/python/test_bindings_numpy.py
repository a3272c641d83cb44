# SPDX-License-Identifier: Apache-2.0
"""The Python package with arrays of numpy and tensors of torch, neither of which it needs."""

from array import array

import pytest
import varve
from util import addresses_of, make_bytes, make_ids


def test_numpy_arrays(ns):
    np = pytest.importorskip("numpy")
    pages = np.random.default_rng(1).integers(0, 256, (8, 2, 2048), dtype=np.uint8)
    back = np.zeros_like(pages)
    ids = np.frombuffer(make_ids(8), dtype=np.uint8).reshape(8, 32)
    steps = (np.arange(16) * 2048).reshape(8, 2)
    for dtype in (np.uint64, np.int64):
        places = (pages.ctypes.data + steps).astype(dtype)
        assert set(ns.put_batch(ids, places, np.int64(2048), parts=2)) == {varve.OK}
        there = (back.ctypes.data + steps).astype(dtype)
        assert set(ns.get_batch(ids, there, np.full((8, 2), 2048), parts=2)) == {varve.OK}
        assert (back == pages).all()
        back[:] = 0
    rows = list(back)
    assert set(ns.get_buffers(ids, rows)) == {varve.OK}
    assert (back == pages).all()
    sizes = np.zeros(8, dtype=np.uint64)
    ns.get_buffers(ids, rows, page_sizes=sizes)
    assert (sizes == 4096).all()
    tokens = np.arange(256, dtype=np.int64)
    assert varve.chain(tokens, 64) == varve.chain(tokens.astype(np.uint32), 64) == varve.chain(list(range(256)), 64)
    assert ns.probe(ids) == 8


class Tensor:
    """What a torch tensor on the CPU looks like from here: no buffer protocol, but numpy()."""

    def __init__(self, memory):
        self.memory = memory

    def numpy(self):
        return memoryview(self.memory)


def test_objects_with_numpy(ns):
    ids = make_ids(3)
    memory, back = bytearray(make_bytes(3 * 4096)), bytearray(3 * 4096)
    places = Tensor(array("q", addresses_of(memory, 4096)))
    assert set(ns.put_batch(Tensor(ids), places, Tensor(array("q", [4096] * 3)))) == {varve.OK}
    parts = [memoryview(back)[i * 4096 : (i + 1) * 4096] for i in range(3)]
    assert set(ns.get_buffers(ids, [Tensor(part) for part in parts])) == {varve.OK}
    assert back == memory
    assert varve.chain(Tensor(array("I", range(64))), 64) == varve.chain(range(64), 64)


def test_torch_tensors(ns):
    torch = pytest.importorskip("torch")
    pages = torch.randint(0, 256, (4, 4096), dtype=torch.uint8)
    back = torch.zeros_like(pages)
    ids = make_ids(4)
    places = pages.data_ptr() + torch.arange(4) * 4096
    assert set(ns.put_batch(ids, places, torch.tensor(4096))) == {varve.OK}
    assert set(ns.get_buffers(ids, list(back))) == {varve.OK}
    assert torch.equal(pages, back)
    assert varve.chain(torch.arange(128), 64) == varve.chain(range(128), 64)
