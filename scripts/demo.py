#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The main job, on this machine: an LLM workload played through the store on disk, every byte verified.

  demo.py VARVE OUTPUT_DIR

Generates a chat workload, replays it at several capacities, checks each store to the last byte, prints a table and draws it.
Exit code 0 only if no byte was wrong and every check was clean.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

PAGE_BYTES = 256 << 10
REQUESTS = 1500
SHARES = (5, 10, 25, 50)  # capacities, in % of the bytes of all different pages
CAPACITY_MIN = 16 << 20
KEYS = ("wrong_bytes", "hit_rate", "get_gb_per_s", "put_gb_per_s", "write_amplification", "disk_bytes_max")


def footprint(trace):
    """Bytes of all different pages of a trace."""
    with open(trace, encoding="utf-8") as lines:
        return len({block for line in lines for block in json.loads(line)["hash_ids"]}) * PAGE_BYTES


def replay(varve, trace, directory, capacity):
    """One replay and a deep check of what it leaves; the replay's row, and whether all is well."""
    played = subprocess.run([varve, "replay", trace, "--dir", directory, "--page-bytes", str(PAGE_BYTES), "--capacity",
                             str(capacity), "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if played.returncode not in (0, 1) or not played.stdout.strip():
        raise RuntimeError(f"the replay failed with exit code {played.returncode}")
    checked = subprocess.run([varve, "check", "--deep", directory, "--capacity", str(capacity), "--json"],
                             stdout=subprocess.PIPE, text=True, check=False)
    row = json.loads(played.stdout.strip().splitlines()[-1])
    clean = checked.returncode == 0
    if not clean:
        print(checked.stdout, end="")
    return row, clean and played.returncode == 0 and row["wrong_bytes"] == 0


def print_row(share, capacity, row, good):
    values = [row[key] for key in KEYS]
    speeds = ["-" if value is None else f"{value:.2f}" for value in values[2:5]]
    print(f"{share:>4} %  {capacity >> 20:>6} MiB  {100 * values[1]:>6.1f} %  {speeds[0]:>8}  {speeds[1]:>8}  "
          f"{speeds[2]:>8}  {values[5] >> 20:>6} MiB  {values[0]:>5}  {'clean' if good else 'BAD'}", flush=True)


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    varve, output = sys.argv[1:]
    began = time.monotonic()
    os.makedirs(output, exist_ok=True)
    trace, rows_file = os.path.join(output, "chat.jsonl"), os.path.join(output, "replays.jsonl")
    subprocess.run([varve, "trace", "chat", "--requests", str(REQUESTS), "-o", trace], check=True)
    total = footprint(trace)
    print(f"\n{REQUESTS} chat requests over {total // PAGE_BYTES} different pages of {PAGE_BYTES >> 10} KiB "
          f"({total >> 20} MiB); for each request: probe, get the stored prefix, put the rest\n")
    print("   capacity           hit rate  get GB/s  put GB/s  written/put   on disk  wrong  check --deep")
    good, rows = True, []
    for share in SHARES:
        capacity = max(total * share // 100, CAPACITY_MIN) >> 20 << 20
        directory = tempfile.mkdtemp(prefix="store-", dir=output)
        try:
            row, well = replay(varve, trace, directory, capacity)
        finally:
            shutil.rmtree(directory)
        rows.append(row)
        good = good and well
        print_row(share, capacity, row, well)
    with open(rows_file, "w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    picture = os.path.join(output, "..", "demo.png")
    plotted = subprocess.run([os.path.join(os.path.dirname(__file__), "plot.sh"), rows_file, "-o",
                              os.path.normpath(picture)], stdout=subprocess.DEVNULL, check=False).returncode == 0
    print(f"\n{'Every byte was right.' if good else 'SOMETHING WAS WRONG: see above.'} "
          f"{time.monotonic() - began:.0f} s.")
    if plotted:
        print(f"The plot: {os.path.normpath(picture)}")
    print(f"Try next: {varve} --help, {varve} bench --help, and the README's example in C")
    return 0 if good and plotted else 1


if __name__ == "__main__":
    sys.exit(main())
