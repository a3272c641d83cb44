# SPDX-License-Identifier: Apache-2.0
"""Stores and namespaces. See help(varve) for the shape of things; include/varve.h has the promises in full.

Words used below:

ids         page ids, 32 bytes each, one after the other: bytes or anything else with the buffer protocol; n is their
            number, 0 to 16,384 (varve.BATCH_PAGES_MAX; more raise varve.Error: split them).
integers    a buffer of n 64-bit integers (array('Q'), a numpy array of int64 or uint64, in C order), an object whose
            numpy() gives one (a torch tensor on the CPU), or a list, tuple or other sequence of int. Buffers are the
            fastest.
statuses    array('i') with one number a page, in the order of the ids: varve.OK (0), varve.MISS (1),
            varve.SKIPPED (2) or a negative varve.E_*.

Objects with the buffer protocol are held while a call runs, so they cannot be resized or freed; their bytes must not be
changed by another thread meanwhile. Memory given by address is the caller's altogether: it must stay valid until the
call returns.

Raises, all calls alike: TypeError and ValueError for arguments that make no sense, before anything is done; varve.Error
when the call as a whole failed, or the store is closed. What happens to single pages is in the statuses, never an
exception.
"""

from __future__ import annotations

import os
import warnings
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Union

from . import _native

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence
    from types import TracebackType

    from typing_extensions import Buffer

    class SupportsNumpy(Protocol):
        """A torch tensor on the CPU, say."""

        def numpy(self) -> Any: ...

    Option = Union[str, int, bool]
    Exporter = Union[Buffer, SupportsNumpy]
    Integers = Union[Exporter, Sequence[int]]
    Statuses = array[int]
    Exporters = Union[list[Exporter], list[bytes], list[bytearray], list[memoryview], tuple[Exporter, ...]]

_ELEMENTS = {
    "bytes": _native.ELEMENT_BYTES,
    "bf16": _native.ELEMENT_BF16,
    "fp16": _native.ELEMENT_FP16,
    "fp32": _native.ELEMENT_FP32,
    "fp8": _native.ELEMENT_FP8,
}
_HINT_MAX = 2**64 - 1


def _option_text(name: str, value: Option) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (int, str)):
        return str(value)
    raise TypeError(f"option {name}: str, int or bool is needed, not {type(value)}")


class Store:
    """An open store: one directory, with one limit on its size, owned by this process or used through the one that owns it.

    Threads: any number may call anything at once. Not for use in a child after fork(): every call raises varve.Error
    there.
    """

    def __init__(self, path: str | bytes | os.PathLike[Any], **options: Option) -> None:
        """Open the store in directory `path`, or create it where the directory is absent or empty.

        Args:
            path: the directory, on a local file system.
            options: by name, see varve.options(): sizes as int (bytes) or text ("64G"), switches as bool. `capacity` is
                the one to set.

        Raises:
            varve.Error: E_ARG (no such option: names the nearest; out of range), E_LOCKED (in use by a process that
                does not share it), E_NOSTORE (create=False and there is none, or other files are there), E_VERSION, E_IO, ...

        Blocks on the device: what a killed process left behind is recovered here.
        """
        self.path = path
        self._native = _native.Store(path, tuple((name, _option_text(name, value)) for name, value in options.items()))

    def namespace(self, name: str, element_type: str = "bytes", page_bytes_hint: int = 0) -> Namespace:
        """Find or make the namespace `name`: pages that may be used for each other.

        Args:
            name: 1 to 1,023 bytes of UTF-8. It must say all that makes KV bytes interchangeable: model, revision,
                dtype, layout, page size, rank coordinates, pool.
            element_type: "bytes", "bf16", "fp16", "fp32" or "fp8": what the bytes are. Recorded when the namespace is
                made.
            page_bytes_hint: usual size of a page in bytes, 0 unknown. Recorded when the namespace is made.
        """
        if element_type not in _ELEMENTS:
            raise ValueError(f"element_type: {element_type!r} is none of {', '.join(_ELEMENTS)}")
        if not 0 <= page_bytes_hint <= _HINT_MAX:
            raise ValueError(f"page_bytes_hint: {page_bytes_hint} is no size")
        return Namespace(self, name, _native.Namespace(self._native, name, _ELEMENTS[element_type], page_bytes_hint))

    def sync(self) -> None:
        """Return once all that was put before the call survives a power failure. Blocks on the device."""
        self._native.sync()

    def close(self) -> None:
        """Wait for the calls in flight and release the directory.

        The process that owns the store makes everything durable first; in another one, call sync() before where that matters.

        Calls that begin later raise varve.Error. Closing again does nothing; a second thread that closes waits for the
        first. In a child after fork() it does nothing: the store is the parent's. The store is closed even when an
        error is raised.
        """
        self._native.close()

    @property
    def closed(self) -> bool:
        """Whether calls would be refused: close() began, or the store is another process's."""
        return self._native.closed

    def set_option(self, name: str, value: Option) -> None:
        """Change an option that varve.options() marks as live. Takes effect with the next decision that it governs."""
        self._native.set_option(name, _option_text(name, value))

    def stats(self) -> dict[str, int]:
        """All counters and gauges by name, as varve.stat_descriptions() lists them. Never blocks on the device."""
        return self._native.stats()

    def control_log(self) -> list[str]:
        """The last decisions of the controller of the index, the oldest first: up to 64 lines of text for people.

        Those of the process that owns the store; `varve stat DIR` prints earlier ones, too. docs/controller.md says how to read them. Never
        blocks on the device.
        """
        return self._native.control_log()

    @property
    def io_align(self) -> int:
        """Bytes that addresses and sizes of buffers should be multiples of, so that nothing is copied (512 to 4096)."""
        return self._native.io_align

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self, _warn: Any = warnings.warn) -> None:  # the interpreter may be on its way down, globals gone
        native = getattr(self, "_native", None)  # none where opening failed
        if native is not None and not native.closed:
            _warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            native.close()

    def __repr__(self) -> str:
        return f"<varve.Store {os.fspath(self.path)!r}{' (closed)' if self._native.closed else ''}>"


class Namespace:
    """Pages of one store that may be used for each other; made by Store.namespace().

    Ownership: it holds a reference to its store. Pages go between the device and the memory that is given, without a
    copy in Python.
    Threads: any number may call anything at once.
    """

    def __init__(self, store: Store, name: str, native: _native.Namespace) -> None:
        """Not for users: see Store.namespace()."""
        self.store = store
        self.name = name
        self._native = native

    def put_batch(
        self,
        ids: Exporter,
        addresses: Integers,
        sizes: int | Integers,
        *,
        parts: int = 1,
        parent: Exporter | None = None,
        sync: bool = False,
    ) -> Statuses:
        """Store n consecutive pages of one chain from memory given by address.

        Args:
            ids: the pages' ids; each page's parent is the page before it.
            addresses: n * parts integers: where the regions of page 0 are, then those of page 1, and so on.
            sizes: bytes of each region: one int for all, or n * parts integers. A page is at most 64 MiB; 0 is a page
                without bytes.
            parts: regions a page, 1 to 256: 2 where K and V lie apart.
            parent: the id before ids[0] on the chain (32 bytes), None at the root or where it is unknown. A wrong or
                unknown one costs speed, never correctness.
            sync: return only when the pages survive a power failure.

        Returns:
            statuses: OK (stored, or was stored already), SKIPPED (not stored, to stay within the option write_budget:
                the last new pages of the batch), E_ARG (page too large), E_NOSPC, E_IO, E_READONLY, E_NOMEM.
        """
        return array("i", self._native.put_batch(ids, addresses, sizes, parts, parent, sync))

    def get_batch(
        self,
        ids: Exporter,
        addresses: Integers,
        sizes: int | Integers,
        *,
        parts: int = 1,
        page_sizes: MutableSequence[int] | None = None,
    ) -> Statuses:
        """Read n pages into memory given by address.

        Ask for a chain in one call and in order: neighbours are read together.

        Args:
            ids, addresses, sizes, parts: as for put_batch(); sizes say how much room there is.
            page_sizes: None, or a writable buffer of n 64-bit integers, array('Q', [0]) * n say, to be filled with the
                sizes of the stored pages in bytes. Those of pages that are neither OK nor E_ARG mean nothing.

        Returns:
            statuses: OK (read, and every byte verified; room beyond the page is untouched), MISS (not stored, or it
                failed its checksum: the room may then hold anything), E_ARG (too little room: page_sizes says what is
                needed), E_IO, E_NOMEM.
        """
        return array("i", self._native.get_batch(ids, addresses, sizes, parts, page_sizes))

    def put_buffers(
        self, ids: Exporter, buffers: Exporters, *, parent: Exporter | None = None, sync: bool = False
    ) -> Statuses:
        """put_batch() from objects with the buffer protocol.

        Args:
            buffers: list or tuple of n contiguous buffers of any type and shape, one a page; or torch tensors on the
                CPU of a type that numpy knows (view bfloat16 as uint8).
        """
        return array("i", self._native.put_buffers(ids, buffers, parent, sync))

    def get_buffers(
        self, ids: Exporter, buffers: Exporters, *, page_sizes: MutableSequence[int] | None = None
    ) -> Statuses:
        """get_batch() into objects with the buffer protocol: a list or tuple of n contiguous, writable buffers."""
        return array("i", self._native.get_buffers(ids, buffers, page_sizes))

    def probe(self, ids: Exporter) -> int:
        """The number of pages in the longest stored prefix of `ids`, a chain or a part of one in order.

        Marks them as used. Memory only, but for index blocks that are not cached.
        """
        return self._native.probe(ids)

    def probe_estimate(self, ids: Exporter) -> tuple[int, list[int], list[int]]:
        """probe(), and what loading would take.

        Returns:
            pages: as probe().
            bytes: list of `pages` ints; entry k: bytes to load for the first k + 1 pages.
            microseconds: the same for the time to load, estimated from what this store measured.
        """
        return self._native.probe_estimate(ids)

    def plan(self, ids: Exporter, **prefill: Any) -> LoadPlan:
        """probe_estimate(), and plan() on what it says. `prefill`: the keywords of plan()."""
        return plan(self.probe_estimate(ids)[2], **prefill)

    def exists_batch(self, ids: Exporter) -> bytes:
        """n bytes: 1 where the page is stored, else 0, each page on its own. Marks nothing as used."""
        return self._native.exists_batch(ids)

    def touch(self, ids: Exporter) -> int:
        """Mark pages as used now, without reading them. Returns how many of them are stored."""
        return self._native.touch(ids)

    def remove_batch(self, ids: Exporter) -> int:
        """Forget pages for good; they can be put again. Returns how many were stored."""
        return self._native.remove_batch(ids)

    def pin(self, ids: Exporter) -> int:
        """Keep pages: they are not given up for age, quota or time to live.

        Pins the longest stored prefix of `ids`, and the ancestors of the first; what exceeds the option pin_bytes is
        not pinned. Pins last until unpin(), removal or clear(); after opening a store again, pin again.

        Returns:
            the number of pages of `ids` that are pinned now.
        """
        return self._native.pin(ids)

    def unpin(self, ids: Exporter) -> int:
        """Take pins back, each page on its own. Returns how many were pinned.

        Ancestors that pin() pinned unnamed stay so until they are named here.
        """
        return self._native.unpin(ids)

    def limits(self, *, quota: int = 0, ttl: int = 0) -> None:
        """Set both limits of the namespace. They are this process's, and not stored: set them after each opening.

        Args:
            quota: bytes that its pages may take while they are kept; the least recently used ones beyond are given up.
                0: none.
            ttl: seconds after which a page that nobody put, probed, read or touched is a miss; never sooner, and 1/32
                later at most. 0: none.
        """
        for name, value, most in ("quota", quota, _HINT_MAX), ("ttl", ttl, 1 << 32):
            if not 0 <= value <= most:
                raise ValueError(f"{name}: {value} is not between 0 and {most}")
        self._native.limits(quota, ttl)

    def clear(self) -> None:
        """Forget every page of the namespace for good, in O(1). Pages put meanwhile may or may not be forgotten."""
        self._native.clear()

    def __repr__(self) -> str:
        return f"<varve.Namespace {self.name!r} of {self.store!r}>"


def chain(tokens: Integers, page_tokens: int, prior: Exporter | None = None) -> bytes:
    """Token ids to page ids, byte for byte what SGLang computes (get_hash_str). Needs no store.

    id of page i = SHA-256(id of page i - 1, where there is one | its token ids as little-endian uint32).

    Args:
        tokens: token ids from 0 to 2**32 - 1: a buffer of 32-bit integers (used in place) or of 64-bit ones, or a
            sequence of int.
        page_tokens: tokens a page, at least 1.
        prior: the id before tokens[0] (32 bytes), None at the root.

    Returns:
        32 bytes for each full page; the len(tokens) % page_tokens tokens at the end make none.
    """
    return _native.chain(tokens, page_tokens, prior)


class LoadPlan(NamedTuple):
    """Load pages [first, first + count), compute the rest."""

    first: int  # 0, but for plans that load a tail
    count: int  # 0: compute all
    ttft_us: float  # expected time to the first token, microseconds
    all_us: float  # the same if all pages were loaded
    none_us: float  # the same if none were


def plan(
    prefix_time_us: Integers,
    *,
    page_tokens: int,
    token_us: float,
    depth_us: float = 0.0,
    tokens_before: int = 0,
    tokens_after: int = 0,
    tail: bool = False,
) -> LoadPlan:
    """Load or recompute: which of the pages that a probe found to load, so that the first token comes soonest.

    Args:
        prefix_time_us: microseconds to load the first k + 1 pages, as Namespace.probe_estimate() says; PLAN_NEVER where
            loading may not end after page k.
        page_tokens: tokens a page.
        token_us, depth_us: the engine computes a token with d tokens before it in token_us + d * depth_us microseconds.
        tokens_before: tokens of the prompt before the first page; in the engine's memory already.
        tokens_after: tokens of the prompt after the last page; computed in any case.
        tail: the engine can compute a head while the tail is loaded.
    """
    return LoadPlan(*_native.plan(prefix_time_us, page_tokens, token_us, depth_us, tokens_before, tokens_after, tail))


def options() -> list[dict[str, Any]]:
    """The options of Store(): a dict for each.

    Its keys: name, type ("size", "int", "bool" or "enum: a|b|c"), default (text), help, live (True: set_option() may
    change it while the store is open).
    """
    return _native.options()


def stat_descriptions() -> list[dict[str, Any]]:
    """The statistics of Store.stats(), in order: a dict for each with name, help, and gauge (False: it only grows)."""
    return _native.stat_descriptions()


def strerror(code: int) -> str:
    """Text of a status or error code: "VARVE_E_NOSPC: ..."."""
    return _native.strerror(code)
