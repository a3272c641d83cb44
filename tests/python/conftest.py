# SPDX-License-Identifier: Apache-2.0
"""Shared by the tests of the Python package: stores in temporary directories."""

import pytest
import varve

# Small, so that a test writes little.
STORE_OPTIONS = {"capacity": "64M", "memtable_bytes": "256K", "block_cache_bytes": "1M"}


@pytest.fixture
def store_path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def open_store(store_path):
    """Opens the test's store, again after a close if need be; what is still open at the end is closed."""
    opened = []

    def open_it(**options):
        opened.append(varve.Store(store_path, **{**STORE_OPTIONS, **options}))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store):
    return open_store()


@pytest.fixture
def ns(store):
    return store.namespace("test")
