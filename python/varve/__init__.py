# SPDX-License-Identifier: Apache-2.0
"""An embedded store for the KV-cache pages of LLM serving engines.

    import varve

    with varve.Store("/nvme/kv", capacity="64G") as store:
        ns = store.namespace("llama-8b/bf16/tp0", "bf16")
        ids = varve.chain(tokens, 64)                   # 32 bytes for each page of 64 tokens
        found = ns.probe(ids)                           # pages of this prefix that are stored
        statuses = ns.get_buffers(ids[: 32 * found], buffers[:found])
        ns.put_buffers(ids, buffers)                    # those that are stored already cost next to nothing

It is a cache: a page that was put may be gone later, but bytes other than those put under the same id are never
returned. Several processes may open a directory: one owns it, the others go through that one. A store must not be used
in a child after fork(). Every call may be made from any number of threads; each is one call of the C library, with the
GIL released, and no page data is copied in Python.
"""

from ._error import Error

try:
    from . import _native
except ImportError as error:
    raise ImportError(
        f"{error}; where varve/ is the source tree: pip install ./python, and start Python in another directory"
    ) from error

from ._native import (
    BATCH_PAGES_MAX,
    E_ARG,
    E_CORRUPT,
    E_IO,
    E_LOCKED,
    E_NOMEM,
    E_NOSPC,
    E_NOSTORE,
    E_READONLY,
    E_TIMEOUT,
    E_VERSION,
    ID_BYTES,
    MISS,
    OK,
    PAGE_BYTES_MAX,
    PAGE_PARTS_MAX,
    PLAN_NEVER,
    SKIPPED,
)
from ._store import LoadPlan, Namespace, Store, chain, options, plan, stat_descriptions, strerror

__version__ = _native.version

__all__ = [
    "BATCH_PAGES_MAX",
    "E_ARG",
    "E_CORRUPT",
    "E_IO",
    "E_LOCKED",
    "E_NOMEM",
    "E_NOSPC",
    "E_NOSTORE",
    "E_READONLY",
    "E_TIMEOUT",
    "E_VERSION",
    "ID_BYTES",
    "MISS",
    "OK",
    "PAGE_BYTES_MAX",
    "PAGE_PARTS_MAX",
    "PLAN_NEVER",
    "SKIPPED",
    "Error",
    "LoadPlan",
    "Namespace",
    "Store",
    "__version__",
    "chain",
    "options",
    "plan",
    "stat_descriptions",
    "strerror",
]
