# SPDX-License-Identifier: Apache-2.0
"""Ids, bytes and addresses for the tests of the Python package."""

import ctypes
import hashlib


def make_ids(count, seed=0):
    """`count` page ids, one after the other."""
    return b"".join(hashlib.sha256(b"%d/%d" % (seed, i)).digest() for i in range(count))


def make_bytes(size, seed=0):
    """`size` bytes that depend on the seed."""
    return hashlib.shake_128(b"%d" % seed).digest(size)


def address_of(memory):
    """Where a bytearray's bytes are, as long as it is neither resized nor freed."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def addresses_of(memory, region_bytes):
    """Addresses of the regions of `region_bytes` that make up a bytearray."""
    base = address_of(memory)
    return list(range(base, base + len(memory), region_bytes))
