#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw JSON lines that varve printed: replays over several capacities, or bench phases.

  for c in 64M 128M 256M; do
      varve replay chat.jsonl --dir /tmp/kv-$c --capacity $c --page-bytes 64K --json
  done > runs.jsonl
  plot_replay.py runs.jsonl -o runs.png

Lines of replays give hit rate, speed and write amplification against capacity, one line per trace; lines of benches
give bars of GB/s per phase, one group per page size and engine. A file may hold only one of the two.
"""

import argparse
import json
import sys

GIB = float(1 << 30)


def read_rows(path):
    """The objects of a file of JSON lines; standard input for -."""
    with sys.stdin if path == "-" else open(path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    if not rows:
        raise ValueError(f"{path} is empty")
    return rows


def plot_replays(rows, plt):
    panels = [("hit_rate", "hit rate, %", 100.0), ("get_gb_per_s", "get, GB/s", 1.0),
              ("put_gb_per_s", "put, GB/s", 1.0), ("write_amplification", "bytes written / payload put", 1.0)]
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), sharex=True)
    traces = sorted({row["trace"] for row in rows})
    for axis, (key, label, factor) in zip(axes.flat, panels):
        for trace in traces:
            points = sorted((row["capacity_bytes"] / GIB, row[key] * factor) for row in rows
                            if row["trace"] == trace and row.get(key) is not None)
            axis.plot([x for x, _ in points], [y for _, y in points], marker="o", label=trace.rsplit("/", 1)[-1])
        axis.set_ylabel(label)
        axis.set_ylim(0, 1.05 * axis.get_ylim()[1])
        axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("capacity, GiB")
    axes[0][0].legend()
    return figure


def plot_benches(rows, plt):
    phases = [phase for phase in ("raw_write", "put", "raw_read", "get") if any(row["phase"] == phase for row in rows)]
    groups = sorted({(row["page_bytes"], row["engine"]) for row in rows if row["phase"] in phases})
    figure, axis = plt.subplots(figsize=(11, 5))
    width = 0.8 / len(phases)
    for index, phase in enumerate(phases):
        speeds = {(row["page_bytes"], row["engine"]): row["gb_per_s"] for row in rows if row["phase"] == phase}
        places = [(place, speeds[group]) for place, group in enumerate(groups) if speeds.get(group) is not None]
        axis.bar([place + index * width for place, _ in places], [speed for _, speed in places], width, label=phase)
    axis.set_xticks([place + width * (len(phases) - 1) / 2 for place in range(len(groups))])
    axis.set_xticklabels([f"{page_bytes // 1024} KiB\n{engine}" for page_bytes, engine in groups])
    axis.set_ylabel("GB/s")
    axis.grid(axis="y", alpha=0.3)
    axis.legend()
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", help="file of JSON lines, - for standard input")
    parser.add_argument("-o", "--output", default="replay.png", help="the picture (replay.png)")
    args = parser.parse_args()
    try:
        rows = read_rows(args.rows)
    except (OSError, ValueError) as error:
        print(f"plot_replay.py: {error}", file=sys.stderr)
        return 2
    import matplotlib  # here: --help and bad input need no matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure = plot_benches(rows, plt) if "phase" in rows[0] else plot_replays(rows, plt)
    figure.tight_layout()
    figure.savefig(args.output, dpi=120)
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
