# SPDX-License-Identifier: Apache-2.0
"""Wrong arguments of the Python package.

Each is an exception that names the argument; nothing is done, and nothing stays held.
"""

import re
import struct
from array import array

import pytest
import varve
from util import addresses_of, make_ids

IDS = make_ids(4)
MEMORY = bytearray(8 * 4096)
PLACES = addresses_of(MEMORY, 4096)


class Contrary:
    """Fails when it is asked for an index or an array."""

    def __index__(self):
        raise RuntimeError("no index today")

    def numpy(self):
        raise RuntimeError("no array today")


def raises(kind, message, call, *args, **keywords):
    with pytest.raises(kind, match=message):
        call(*args, **keywords)


@pytest.mark.parametrize(
    ("ids", "kind", "message"),
    [
        (b"x" * 33, ValueError, "ids: 33 bytes are no multiple of 32"),
        (b"x", ValueError, "ids: 1 bytes are no multiple of 32"),
        ("x" * 32, TypeError, "ids: a bytes-like object is needed, not <class 'str'>"),
        ([b"x" * 32], TypeError, "ids: a bytes-like object is needed, not <class 'list'>"),
        (None, TypeError, "ids: a bytes-like object is needed, not <class 'NoneType'>"),
        (memoryview(IDS * 2)[::2], BufferError, "contiguous"),
        (Contrary(), RuntimeError, "no array today"),
        (make_ids(1) * (varve.BATCH_PAGES_MAX + 1), varve.Error, "16384"),
    ],
)
def test_ids(ns, ids, kind, message):
    for call in (ns.probe, ns.probe_estimate, ns.exists_batch, ns.touch, ns.remove_batch):
        raises(kind, message, call, ids)
    count = len(ids) // 32 if isinstance(ids, bytes) else 4
    raises(kind, message, ns.put_batch, ids, [PLACES[0]] * count, 1)
    raises(kind, message, ns.get_batch, ids, [PLACES[0]] * count, 1)
    raises(kind, message, ns.put_buffers, ids, [b""] * count)
    raises(kind, message, ns.get_buffers, ids, [bytearray()] * count)


@pytest.mark.parametrize(
    ("addresses", "sizes", "parts", "kind", "message"),
    [
        (PLACES[:3], 4096, 1, ValueError, "addresses: 3 given, but 4 pages of parts=1 need 4"),
        (PLACES[:4], 4096, 2, ValueError, "addresses: 4 given, but 4 pages of parts=2 need 8"),
        (array("Q", PLACES), 4096, 1, ValueError, "addresses: 8 given, but 4 pages"),
        (PLACES[0], 4096, 1, ValueError, "addresses: 1 given, but 4 pages"),
        ([], 4096, 1, ValueError, "addresses: 0 given"),
        (PLACES, [4096] * 4, 2, ValueError, "sizes: 4 given, but 4 pages of parts=2 need 8"),
        (PLACES[:4], -1, 1, ValueError, r"sizes\[0\]: -1 is not between 0 and 9223372036854775807"),
        (PLACES[:4], [1, 2, -3, 4], 1, ValueError, r"sizes\[2\]: -3 is not between"),
        (PLACES[:4], array("q", [1, 2, 3, -4]), 1, ValueError, r"sizes\[3\]: -4 is not between"),
        (PLACES[:4], 1 << 63, 1, ValueError, r"sizes\[0\]: 9223372036854775808 is not between"),
        (PLACES[:4], 1 << 100, 1, ValueError, r"sizes\[0\]: 1267650600228229401496703205376 is not between"),
        ([*PLACES[:3], -8], 1, 1, ValueError, r"addresses\[3\]: -8 is not between"),
        (array("Q", [1 << 63] * 4), 1, 1, ValueError, r"addresses\[0\]: 9223372036854775808 is not between"),
        ([*PLACES[:3], 0], 1, 1, ValueError, r"addresses\[3\]: 0 is no address"),
        ([*PLACES[:3], 1.5], 1, 1, TypeError, r"addresses\[3\]: an integer is needed, not <class 'float'>"),
        ([*PLACES[:3], None], 1, 1, TypeError, r"addresses\[3\]: an integer is needed, not <class 'NoneType'>"),
        ([*PLACES[:3], Contrary()], 1, 1, RuntimeError, "no index today"),
        (Contrary(), 1, 1, RuntimeError, "no array today"),
        ("1234", 1, 1, TypeError, "addresses: a buffer or a sequence of integers is needed, not <class 'str'>"),
        (None, 1, 1, TypeError, "addresses: a buffer or a sequence of integers is needed, not <class 'NoneType'>"),
        (iter(PLACES), 1, 1, TypeError, "addresses: a buffer or a sequence of integers is needed"),
        (PLACES[:4], 1.5, 1, TypeError, "sizes: a buffer or a sequence of integers is needed, not <class 'float'>"),
        (
            b"x" * 32,
            1,
            1,
            TypeError,
            r"addresses: a buffer of integers of 8 bytes is needed; this one has format 'B', 1",
        ),
        (
            array("I", [1] * 4),
            1,
            1,
            TypeError,
            "addresses: a buffer of integers of 8 bytes is needed; this one has format 'I'",
        ),
        (
            array("d", [1.0] * 4),
            1,
            1,
            TypeError,
            "addresses: a buffer of integers of 8 bytes is needed; this one has format 'd'",
        ),
        (memoryview(array("Q", PLACES))[::2], 1, 1, BufferError, "contiguous"),
        (PLACES, 4096, 0, ValueError, "parts: 0 is not between 1 and 256"),
        (PLACES, 4096, -1, ValueError, "parts: -1 is not between 1 and 256"),
        (PLACES, 4096, 257, ValueError, "parts: 257 is not between 1 and 256"),
        (PLACES, 4096, 1.0, TypeError, "float"),
    ],
)
def test_addresses_sizes_parts(ns, addresses, sizes, parts, kind, message):
    raises(kind, message, ns.put_batch, IDS, addresses, sizes, parts=parts)
    raises(kind, message, ns.get_batch, IDS, addresses, sizes, parts=parts)
    assert ns.exists_batch(IDS) == bytes(4)


def test_integers_of_another_byte_order_are_refused(ns):
    np = pytest.importorskip("numpy")
    raises(TypeError, "format '>", ns.put_batch, IDS, np.array(PLACES[:4], dtype=">u8"), 4096)
    raises(
        ValueError,
        "not C|C-contiguous",
        ns.put_batch,
        IDS,
        np.array(PLACES, dtype=np.uint64).reshape(2, 4).T,
        4096,
        parts=2,
    )
    raises(TypeError, "format 'l?d'", ns.put_batch, IDS, np.array(PLACES[:4], dtype=float), 4096)


@pytest.mark.parametrize(
    ("buffers", "kind", "message"),
    [
        ([b"x"] * 3, ValueError, "buffers: 3 given, but there are 4 ids"),
        ([b"x"] * 5, ValueError, "buffers: 5 given, but there are 4 ids"),
        (b"xxxx", TypeError, "buffers: a list or a tuple is needed, not <class 'bytes'>"),
        (None, TypeError, "buffers: a list or a tuple is needed, not <class 'NoneType'>"),
        (
            [bytearray(1), "x", bytearray(1), bytearray(1)],
            TypeError,
            r"buffers\[1\]: a .*contiguous object.*not this <class 'str'>",
        ),
        (
            [bytearray(1), bytearray(1), 7, bytearray(1)],
            TypeError,
            r"buffers\[2\]: a .*contiguous object.*not this <class 'int'>",
        ),
        ([memoryview(bytearray(8))[::2]] * 4, TypeError, r"buffers\[0\]: a .*contiguous object.*<class 'memoryview'>"),
        ([bytearray(1), Contrary()] * 2, RuntimeError, "no array today"),
    ],
)
def test_buffers(ns, buffers, kind, message):
    raises(kind, message, ns.put_buffers, IDS, buffers)
    raises(kind, message, ns.get_buffers, IDS, buffers)
    assert ns.exists_batch(IDS) == bytes(4)


@pytest.mark.parametrize("readonly", [b"x" * 100, memoryview(bytearray(100)).toreadonly()], ids=["bytes", "view"])
def test_get_wants_writable_buffers(ns, readonly):
    ns.put_buffers(IDS, [b"y" * 100] * 4)
    buffers = [bytearray(100), bytearray(100), readonly, bytearray(100)]
    message = rf"buffers\[2\]: a writable, contiguous object .* not this {re.escape(repr(type(readonly)))}"
    raises(TypeError, message, ns.get_buffers, IDS, buffers)
    assert bytes(readonly)[:1] in (b"x", b"\0") and buffers[0] == bytearray(100)


def test_page_sizes(ns):
    buffers = [bytearray(1) for _ in range(4)]
    raises(
        ValueError,
        "page_sizes: 24 bytes given, but 4 pages need 32",
        ns.get_buffers,
        IDS,
        buffers,
        page_sizes=array("Q", [0] * 3),
    )
    raises(
        TypeError,
        "page_sizes: a writable buffer is needed, not <class 'bytes'>",
        ns.get_buffers,
        IDS,
        buffers,
        page_sizes=b"x" * 32,
    )
    raises(
        TypeError,
        "page_sizes: a writable buffer is needed, not <class 'list'>",
        ns.get_batch,
        IDS,
        PLACES[:4],
        1,
        page_sizes=[0] * 4,
    )


def test_parent_and_prior(ns):
    for wrong, kind, message in (
        (b"x" * 31, ValueError, "31 bytes"),
        (b"", ValueError, "one page id of 32 bytes"),
        (b"x" * 64, ValueError, "one page id of 32 bytes is needed, not 64"),
        ("x" * 32, TypeError, "bytes-like"),
    ):
        raises(kind, f"parent: .*{message}", ns.put_batch, IDS, PLACES[:4], 10, parent=wrong)
        raises(kind, f"parent: .*{message}", ns.put_buffers, IDS, [b"x"] * 4, parent=wrong)
        raises(kind, f"prior: .*{message}", varve.chain, [1, 2, 3], 1, wrong)
    assert ns.exists_batch(IDS) == bytes(4)


@pytest.mark.parametrize(
    ("tokens", "page_tokens", "kind", "message"),
    [
        ([1, -1], 1, ValueError, r"tokens\[1\]: -1 is not between 0 and 4294967295"),
        ([1, 1 << 32], 1, ValueError, r"tokens\[1\]: 4294967296 is not between 0 and 4294967295"),
        (array("q", [0, 0, -7]), 1, ValueError, r"tokens\[2\]: -7 is not between"),
        (array("Q", [1 << 32]), 1, ValueError, r"tokens\[0\]: 4294967296 is not between"),
        (array("i", [5, -2]), 1, ValueError, r"tokens\[1\]: -2 is negative"),
        (
            array("H", [1]),
            1,
            TypeError,
            "tokens: a buffer of integers of 4 or 8 bytes is needed; this one has format 'H', 2",
        ),
        (
            array("f", [1]),
            1,
            TypeError,
            "tokens: a buffer of integers of 4 or 8 bytes is needed; this one has format 'f', 4",
        ),
        (b"1234", 1, TypeError, "tokens: a buffer of integers of 4 or 8 bytes is needed; this one has format 'B', 1"),
        (["a"], 1, TypeError, r"tokens\[0\]: an integer is needed, not <class 'str'>"),
        ("abc", 1, TypeError, "tokens: a buffer or a sequence of token ids is needed, not <class 'str'>"),
        (None, 1, TypeError, "tokens: a buffer or a sequence of token ids is needed, not <class 'NoneType'>"),
        ([1], 0, ValueError, "page_tokens: 0 is no number of tokens"),
        ([1], -5, ValueError, "page_tokens: -5 is no number of tokens"),
        ([1], "1", TypeError, "str"),
    ],
)
def test_chain(tokens, page_tokens, kind, message):
    raises(kind, message, varve.chain, tokens, page_tokens)


def test_unaligned_tokens_are_taken():
    packed = b"x" + struct.pack("=4I", 1, 2, 3, 4)
    assert varve.chain(memoryview(packed)[1:].cast("I"), 2) == varve.chain([1, 2, 3, 4], 2)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"capacitty": "1G"}, varve.Error, "the nearest is 'capacity'"),
        ({"capacity": "1 G"}, varve.Error, "capacity"),
        ({"capacity": -1}, varve.Error, "capacity"),
        ({"queue_depth": 1 << 40}, varve.Error, "out of range"),
        ({"background": "maybe"}, varve.Error, "background"),
        ({"io_engine": "mmap"}, varve.Error, "io_engine"),
        ({"capacity": 1.5}, TypeError, "option capacity: str, int or bool is needed, not <class 'float'>"),
        ({"capacity": None}, TypeError, "option capacity: str, int or bool is needed"),
        ({"io_engine": "auto\0"}, ValueError, "null"),
    ],
)
def test_options(store_path, options, kind, message):
    with pytest.raises(kind, match=message) as caught:
        varve.Store(store_path, **options)
    assert kind is not varve.Error or caught.value.code == varve.E_ARG
    assert not store_path.exists()


def test_option_of_an_open_store(store):
    raises(varve.Error, "nearest", store.set_option, "sync_interval", 5)
    raises(TypeError, "option sync_bytes", store.set_option, "sync_bytes", 1.0)


def test_paths():
    raises(TypeError, "PathLike", varve.Store, 7.5)
    raises(ValueError, "null", varve.Store, "a\0b")
    raises(varve.Error, "path", varve.Store, "")


def test_namespaces(store):
    raises(ValueError, "element_type: 'int4' is none of bytes, bf16, fp16, fp32, fp8", store.namespace, "a", "int4")
    raises(ValueError, "page_bytes_hint: -1 is no size", store.namespace, "a", page_bytes_hint=-1)
    raises(ValueError, "page_bytes_hint", store.namespace, "a", page_bytes_hint=1 << 64)
    raises(ValueError, "null", store.namespace, "a\0b")
    raises(TypeError, "str", store.namespace, 5)
    raises(varve.Error, "name", store.namespace, "")
    raises(varve.Error, "name", store.namespace, "x" * 1024)
    assert store.stats()["namespaces"] == 0


def test_positional_keywords_and_the_native_types(ns):
    raises(TypeError, "positional", ns.put_batch, IDS, PLACES[:4], 10, 1)
    raises(TypeError, "positional", ns.get_batch, IDS, PLACES[:4], 10, 1)
    native = varve._native
    raises(TypeError, "argument", native.Namespace)
    raises(TypeError, "argument", native.Store)
    raises(TypeError, "keyword", native.Store, "x", (), options=())
    raises(TypeError, "Store", native.Namespace, object(), "x", 0, 0)
    raises(TypeError, "options: pairs of text", native.Store, "x", ("capacity",))


def test_failed_calls_hold_nothing(ns):
    ids, places, sizes = bytearray(IDS), array("Q", PLACES[:4]), array("q", [1, 2, 3, -4])
    buffers = [bytearray(10), bytearray(10), bytearray(10), b"read-only"]
    raises(ValueError, "sizes", ns.put_batch, ids, places, sizes)
    raises(ValueError, "parent", ns.put_batch, ids, places, 1, parent=b"x")
    raises(TypeError, "buffers", ns.get_buffers, ids, buffers)
    raises(ValueError, "parent", ns.put_buffers, ids, buffers, parent=b"x")
    for held in (ids, places, sizes, *buffers[:3]):
        held.append(0)  # BufferError while a view is held
