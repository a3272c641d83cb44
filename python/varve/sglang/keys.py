# SPDX-License-Identifier: Apache-2.0
"""SGLang's keys as page ids.

A key is the chained SHA-256 of the tokens up to a page, as 64 hex digits: its 32 bytes are the page id. Some releases append a pool to it
("<64 digits>.draft"); such keys go to the namespace of that pool, under the same id. Anything else is hashed, so that every string has an id,
and two different ones never share one within a namespace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

ID_BYTES = 32
_DIGITS = 2 * ID_BYTES


def ids_of(keys: Sequence[str]) -> bytes | None:
    """The ids of plain keys, one after the other; None when some key is not plain."""
    if any(len(key) != _DIGITS for key in keys):
        return None
    try:
        ids = bytes.fromhex("".join(keys))
    except ValueError:
        return None
    return ids if len(ids) == ID_BYTES * len(keys) else None  # fromhex() skips white space


def split(key: str) -> tuple[str, bytes]:
    """The pool that a key names ("" for none) and its id."""
    head, dot, pool = key.partition(".")
    ids = ids_of([head])
    if ids is None or bool(dot) != bool(pool):
        return "", hashlib.sha256(b"varve-sglang-key\0" + key.encode()).digest()
    return pool, ids


def chosen(ids: bytes, which: Sequence[bool]) -> bytes:
    """Those ids for which `which` says so."""
    return b"".join(ids[k * ID_BYTES : (k + 1) * ID_BYTES] for k, yes in enumerate(which) if yes)


def groups(keys: Sequence[str]) -> dict[str, tuple[list[int], bytes]]:
    """Keys of any kind by pool: for each its positions in `keys`, and their ids."""
    plain = ids_of(keys)
    if plain is not None:
        return {"": (list(range(len(keys))), plain)}
    found: dict[str, tuple[list[int], bytearray]] = {}
    for index, key in enumerate(keys):
        pool, page_id = split(key)
        positions, ids = found.setdefault(pool, ([], bytearray()))
        positions.append(index)
        ids += page_id
    return {pool: (positions, bytes(ids)) for pool, (positions, ids) in found.items()}
