#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The controller against configurations held fast: runs bench/shift_bench on copies of one store, and prints JSON rows.

  bench_shift.py SHIFT_BENCH DIR              two stages of writing and two of reading, and the payload-bound check
  bench_shift.py SHIFT_BENCH DIR --ten        the ten-stage workload, for the plot over time
  bench_shift.py SHIFT_BENCH DIR --quick      small stores, to see that it works

All variants have the same memory for memtables and block cache, begin with the same files, and do the same operations in the same order.
"best fixed" is the fixed one with the least time in all; "oracle" takes for each stage the fixed one that was fastest in it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys

# Conversations of 2,048 pages of 512 bytes: what a page of one token of one layer takes. The index is several times the memory.
INDEX_BOUND = {"turn": 1024, "first-turns": 2, "chains": 100000, "hot": 850, "page-bytes": 512, "preload-begins": 65}
PAYLOAD_BOUND = {"turn": 64, "first-turns": 1, "chains": 6000, "page-bytes": 65536, "preload-begins": 50, "gets": 100}
SIZES = {  # operations of the preload, and the stages
    "full": ((6000, "100/0:3000,0/2:40000,100/0:3000,0/2:40000"), (300, "40/10:1600")),
    "ten": ((6000, "100/0:2000,40/2:4000,10/2:12000,0/2:25000,0/2:25000,100/0:2000,60/2:3000,20/2:8000,0/2:25000,0/2:25000"), None),
    "quick": ((300, "100/0:100,0/2:2000"), (20, "40/10:40"))}
PAYLOAD = "payload-bound"
PAYLOAD_ROUNDS = 3  # of both variants in turn: the disk's own changes are larger than what is looked for
MEMORY = ("block_cache_bytes=40M", "memtable_bytes=8M")  # 64 MiB with three memtables
VARIANTS = (  # name, whether it is a fixed one, options
    ("off", True, ("controller=off", *MEMORY)),
    ("fixed: cache, T=8 K=3 Z=1", True, ("controller=off", "block_cache_bytes=61M", "memtable_bytes=1M")),
    ("fixed: cache, T=10 K=4 Z=2", True, ("controller=off", "block_cache_bytes=61M", "memtable_bytes=1M", "size_ratio=10",
                                           "runs_per_level=4", "runs_last_level=2")),
    ("fixed: memtables, T=6 K=4 Z=2", True, ("controller=off", "block_cache_bytes=4M", "memtable_bytes=20M", "size_ratio=6",
                                              "runs_per_level=4", "runs_last_level=2")),
    ("nominal", False, ("controller=nominal", *MEMORY)),
    ("controller", False, ("controller=on", *MEMORY)))
CHANGED = (".manifest", "CURRENT", "HEAT", "LOCK", "CONTROL")  # files that a store rewrites; all others never change


def words(shift_bench, directory, settings, preload, options):
    given = [f"--{name}={value}" for name, value in settings.items()]
    return [shift_bench, directory, *given, f"--preload={preload}", "--json",
            *(word for option in ("capacity=60G", *options) for word in ("--set", option))]


def copy_store(source, target):
    """Files that never change are shared."""
    os.makedirs(target)
    for name in os.listdir(source):
        path = os.path.join(source, name)
        if name.endswith(CHANGED):
            shutil.copy2(path, target)
        elif os.path.isfile(path):
            os.link(path, os.path.join(target, name))


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def rows_of(name, scene, lines):
    """One row for the whole; of the workload that shifts, one for each stage and each decision, too."""
    stages = [line for line in lines if "stage" in line]
    operations, seconds = sum(row["operations"] for row in stages), sum(row["seconds"] for row in stages)
    windows_us = sum(row["control_time_us"] for row in stages)
    yield {"ablation": "controller", "variant": name, "scene": scene, "operations_s": operations / seconds, "seconds": seconds,
           "switches": sum(row["control_switches"] for row in stages), "reverts": sum(row["control_reverts"] for row in stages),
           "controller_core_percent": windows_us / 1e4 / seconds}
    if scene == PAYLOAD:
        return
    for row in stages:
        yield {"ablation": "stages", "variant": name, "scene": f"{row['stage'] + 1}: {row['begin_percent']} % begin",
               "stage_operations_s": row["operations_s"], "stage_seconds": row["seconds"], "begin_s": row["begin_s"],
               "memtable_mb": row["control_memtable_bytes"] / 1e6, "cache_mb": row["control_cache_bytes"] / 1e6,
               "stage_runs": row["runs"]}
    for line in lines:
        if "decision" in line:
            yield {"ablation": "decisions", "variant": name, "scene": scene, **line}


def compare(scene, results):
    """The best fixed variant, the oracle, and what the controller is worth."""
    fixed = [lines for name, lines in results.items() if any(name == variant and held for variant, held, _ in VARIANTS)]
    stage_seconds = [[line["seconds"] for line in lines if "stage" in line] for lines in fixed]
    operations = sum(line["operations"] for line in fixed[0] if "stage" in line)
    best, oracle = min(map(sum, stage_seconds)), sum(map(min, zip(*stage_seconds)))
    yield {"ablation": "controller", "variant": "best fixed", "scene": scene, "operations_s": operations / best, "seconds": best}
    yield {"ablation": "controller", "variant": "oracle", "scene": scene, "operations_s": operations / oracle, "seconds": oracle}


def regime(args, scene, settings, size, variants):
    preload, stages = size
    base, copy = os.path.join(args.dir, "base"), os.path.join(args.dir, "copy")
    run([*words(args.shift_bench, base, settings, preload, ("controller=off", *MEMORY)), "--prepare"])
    results = {}
    for name, _, options in variants:
        print(f"{scene}: {name}", file=sys.stderr, flush=True)
        copy_store(base, copy)
        results[name] = run([*words(args.shift_bench, copy, settings, preload, options), f"--stages={stages}"])
        shutil.rmtree(copy)
        for row in rows_of(name, scene, results[name]):
            print(json.dumps(row), flush=True)
    shutil.rmtree(base)
    if variants is VARIANTS:
        for row in compare(scene, results):
            print(json.dumps(row), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shift_bench", help="the program, build/bench/shift_bench")
    parser.add_argument("dir", help="a new directory on the disk to be measured; 30 GB, 1 GB with --quick")
    parser.add_argument("--ten", dest="size", action="store_const", const="ten", default="full")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick")
    args = parser.parse_args()
    os.makedirs(args.dir)
    index_bound, payload_bound = SIZES[args.size]
    try:
        regime(args, "index-bound", INDEX_BOUND, index_bound, VARIANTS)
        if payload_bound is not None:
            regime(args, PAYLOAD, PAYLOAD_BOUND, payload_bound, [VARIANTS[0], VARIANTS[-1]] * PAYLOAD_ROUNDS)
    finally:
        shutil.rmtree(args.dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
