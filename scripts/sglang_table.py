# SPDX-License-Identifier: Apache-2.0
"""Varve beside SGLang's own `file` backend, driven by SGLang's cache controller as a server drives it.

    scripts/sglang_setup.sh
    PYTHONPATH=build/sglang/0.5.23 build/venv-sglang/bin/python -W ignore scripts/sglang_table.py /nvme/scratch --json table.json

For each model's KV shape and page size: batches of 128 pages go through the controller's own page functions, from and to a host pool in memory.
set     until the backend says that the batch is written; with sync: until it is on the disk
exists  batch_exists of 128 stored pages
get     after the page cache was told to forget the files (Varve reads past it)
The median of --repeat runs, which alternate between the backends.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "python"))

import sglang_support as sgl
import torch
from sglang.srt.managers.cache_controller import PrefetchOperation

MODELS = {
    "Llama-3.1-8B": {"kind": "mha", "layers": 32, "head_num": 8, "head_dim": 128},
    "DeepSeek-V3": {"kind": "mla", "layers": 61, "kv_lora_rank": 512, "qk_rope_head_dim": 64},
}
PAGE_TOKENS = (1, 16, 64)
BATCH = 128
COLUMNS = ("set", "set_sync", "exists", "get")


def attach(engine, backend, directory):
    if backend == "file":
        os.environ["SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR"] = str(directory)
        directory.mkdir(parents=True)
        engine.attach("file", {})
    else:
        engine.attach("dynamic", sgl.extra_config(directory, capacity="64G"))


def forget(directory):
    """Drop the files' pages from the page cache."""
    os.sync()
    for path in directory.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def run(engine, backend, directory, batches):
    """Seconds for all batches, by column."""
    shutil.rmtree(directory, ignore_errors=True)
    attach(engine, backend, directory)
    controller, page = engine.controller, engine.pool.page_size
    slots = torch.arange(BATCH * page)
    seconds = {}
    try:
        start = time.perf_counter()
        for keys in batches:
            assert controller.page_set_func(keys, slots, sgl.HiCacheStorageExtraInfo())
        seconds["set"] = time.perf_counter() - start
        os.sync()
        seconds["set_sync"] = time.perf_counter() - start
        forget(directory)
        start = time.perf_counter()
        for keys in batches:
            assert engine.backend.batch_exists(keys) == BATCH
        seconds["exists"] = time.perf_counter() - start
        operation = PrefetchOperation("table", [])
        start = time.perf_counter()
        for keys in batches:
            assert controller.page_get_func(operation, keys, slots, sgl.HiCacheStorageExtraInfo()) == BATCH
        seconds["get"] = time.perf_counter() - start
    finally:
        engine.detach()
        shutil.rmtree(directory, ignore_errors=True)
        os.sync()
    return seconds


def measure(model, page_tokens, args):
    engine = sgl.Engine(layout="page_first", pages=BATCH, page=page_tokens, **MODELS[model])
    engine.pool.kv_buffer.view(torch.uint8).random_(0, 256)
    page_bytes = engine.pool.get_data_page(0).nbytes
    count = max(1, args.bytes // (page_bytes * BATCH))
    tokens = sgl.tokens_of(count * BATCH, 1, page_tokens)
    keys = sgl.hashes(tokens, page=page_tokens)
    batches = [keys[first : first + BATCH] for first in range(0, len(keys), BATCH)]
    runs = {"file": [], "varve": []}
    for _ in range(args.repeat):
        for backend, found in runs.items():
            found.append(run(engine, backend, Path(args.directory) / f"table-{backend}", batches))
    pages = count * BATCH
    rows = []
    for backend, found in runs.items():
        row = {"model": model, "page_tokens": page_tokens, "page_bytes": page_bytes, "pages": pages, "backend": backend}
        for column in COLUMNS:
            seconds = statistics.median(one[column] for one in found)
            row[f"{column}_pages_per_s"] = pages / seconds
            row[f"{column}_gb_per_s"] = pages * page_bytes / seconds / 1e9
        rows.append(row)
    return rows


def show(rows):
    print(
        "| model | page | KiB | backend | set pages/s | GB/s | with sync GB/s | exists pages/s | get pages/s | GB/s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['model']} | {row['page_tokens']} | {row['page_bytes'] / 1024:,.0f} | {row['backend']} "
            f"| {row['set_pages_per_s']:,.0f} | {row['set_gb_per_s']:.2f} | {row['set_sync_gb_per_s']:.2f} "
            f"| {row['exists_pages_per_s']:,.0f} | {row['get_pages_per_s']:,.0f} | {row['get_gb_per_s']:.2f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", help="on the disk to measure; table-* in it are removed")
    parser.add_argument("--bytes", type=int, default=2 << 30, help="KV bytes a run (default 2 GiB)")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", help="write the rows there")
    args = parser.parse_args()
    rows = []
    with sgl.process_groups():
        for model in MODELS:
            for page_tokens in PAGE_TOKENS:
                rows += measure(model, page_tokens, args)
                print(f"{model}, {page_tokens} tokens a page: done", file=sys.stderr)
    print(f"sglang {sgl.RELEASE}, {os.cpu_count()} cores, {args.bytes >> 20} MiB a run, median of {args.repeat}\n")
    show(rows)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"sglang": sgl.RELEASE, "bytes": args.bytes, "repeat": args.repeat, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
