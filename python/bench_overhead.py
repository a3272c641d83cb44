#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a call from Python costs beyond the C call: a batch of 128 pages of two regions each.

    python bench_overhead.py [--library PATH/libvarve.so] [--directory DIR]

Two calls are timed that move no bytes, so that nothing but calling is measured: a get of pages that are not stored, and
a put of pages that are. With --library (build/src/libvarve.so after `make`), the same calls are made from C structures
that are ready beforehand, through ctypes, less what an empty call through ctypes takes: that is the C call. Each figure
is the least of several rounds.
"""

import argparse
import ctypes
import hashlib
import sys
import tempfile
import time
from array import array
from pathlib import Path

# This directory has the sources of the package, not what was built and installed.
sys.path = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]
import varve

PAGES = 128
PARTS = 2
REGION_BYTES = 4096
ROUNDS = 15
CALLS = 2000


class Region(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Page(ctypes.Structure):
    _fields_ = [
        ("id", ctypes.c_uint8 * 32),
        ("iov", ctypes.POINTER(Region)),
        ("iov_count", ctypes.c_uint32),
        ("status", ctypes.c_int32),
        ("size", ctypes.c_uint64),
    ]


def ids_of(seed):
    return b"".join(hashlib.sha256(b"%d/%d" % (seed, i)).digest() for i in range(PAGES))


def microseconds(call):
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        for _ in range(CALLS):
            call()
        best = min(best, time.perf_counter_ns() - began)
    return best / CALLS / 1000


def time_c(path, directory, addresses, stored, missing):
    """Microseconds of the C calls: put of stored pages, get of missing ones."""
    library = ctypes.CDLL(path)
    store, ns = ctypes.c_void_p(), ctypes.c_void_p()
    if library.varve_open(directory.encode(), None, ctypes.byref(store), None) != 0:
        raise SystemExit(f"cannot open {directory} with {path}")
    library.varve_namespace_open(store, b"bench", None, ctypes.byref(ns), None)

    def pages_of(ids):
        pages = (Page * PAGES)()
        for i in range(PAGES):
            regions = (Region * PARTS)(
                *[Region(address, REGION_BYTES) for address in addresses[i * PARTS : (i + 1) * PARTS]]
            )
            pages[i] = Page((ctypes.c_uint8 * 32)(*ids[32 * i : 32 * i + 32]), regions, PARTS, 0, 0)
        return pages

    put_pages, get_pages = pages_of(stored), pages_of(missing)
    count, flags = ctypes.c_size_t(PAGES), ctypes.c_uint(0)
    put, get, empty = library.varve_put_batch, library.varve_get_batch, library.varve_version_number
    put(store, ns, None, put_pages, count, flags, None)
    if {page.status for page in put_pages} != {varve.OK}:
        raise SystemExit("the put failed")
    put_time = microseconds(lambda: put(store, ns, None, put_pages, count, flags, None))
    put_time -= microseconds(lambda: empty(store, ns, None, put_pages, count, flags, None))
    get_time = microseconds(lambda: get(store, ns, get_pages, count, None))
    get_time -= microseconds(lambda: empty(store, ns, get_pages, count, None))
    if {page.status for page in get_pages} != {varve.MISS}:
        raise SystemExit("the get found pages")
    library.varve_close(store, None)
    return {"put": put_time, "get": get_time}


def time_python(directory, addresses, stored, missing):
    """Microseconds of the same calls from Python, addresses as array, list and one size or many."""
    many = array("Q", [REGION_BYTES]) * (PAGES * PARTS)
    forms = {
        "array('Q') of addresses, one size": (addresses, REGION_BYTES),
        "array('Q') of addresses and sizes": (addresses, many),
        "list of addresses, list of sizes": (list(addresses), list(many)),
    }
    with varve.Store(directory) as store:
        ns = store.namespace("bench")
        if set(ns.put_batch(stored, addresses, REGION_BYTES, parts=PARTS)) != {varve.OK}:
            raise SystemExit("the put failed")
        if set(ns.get_batch(missing, addresses, REGION_BYTES, parts=PARTS)) != {varve.MISS}:
            raise SystemExit("the get found pages")
        for form, (places, sizes) in forms.items():
            yield form, "put", microseconds(lambda: ns.put_batch(stored, places, sizes, parts=PARTS))
            yield form, "get", microseconds(lambda: ns.get_batch(missing, places, sizes, parts=PARTS))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", help="libvarve.so, to subtract the C call")
    parser.add_argument("--directory", help="where to make the temporary stores (default: the system's)")
    args = parser.parse_args()
    memory = bytearray(PAGES * PARTS * REGION_BYTES)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    addresses = array("Q", range(base, base + len(memory), REGION_BYTES))
    stored, missing = ids_of(0), ids_of(1)

    with tempfile.TemporaryDirectory(dir=args.directory) as top:
        c_time = time_c(args.library, f"{top}/c", addresses, stored, missing) if args.library else {}
        meaning = "less the C call" if c_time else "the C call included"
        print(f"{PAGES} pages, parts={PARTS}, microseconds a call ({meaning}):")
        for form, what, total in time_python(f"{top}/python", addresses, stored, missing):
            name = "put of stored pages" if what == "put" else "get of missing pages"
            c_call = f"   (Python {total:6.2f}, C {c_time[what]:6.2f})" if c_time else ""
            print(f"  {form:<36} {name:<21} {total - c_time.get(what, 0):6.2f}{c_call}")


if __name__ == "__main__":
    main()
