# SPDX-License-Identifier: Apache-2.0
"""SGLang serves from Varve: a storage backend for HiCache, loaded with --hicache-storage-backend dynamic.

    --hicache-storage-backend-extra-config '{"backend_name": "varve", "module_path": "varve.sglang",
        "class_name": "VarveHiCache", "interface_v1": 1, "path": "/nvme/kv", "capacity": "500G"}'

Where to read on: backend.py is what SGLang calls; config.py has every key of the JSON; identity.py says which pages may stand for each other.
docs/sglang.md is for those who run it.
"""

from .backend import VarveHiCache
from .config import Config, ConfigError

__all__ = ["Config", "ConfigError", "VarveHiCache"]
