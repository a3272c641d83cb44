#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw what bench_shift.py --ten printed: operations a second over time for each variant, and when the controller decided what.

  scripts/bench_shift.py build/bench/shift_bench DIR --ten > shift.jsonl
  plot_shift.py shift.jsonl -o shift.png
"""

import argparse
import json
import sys

COLORS = {"controller": "tab:blue", "nominal": "lightskyblue", "off": "dimgray"}


def read_rows(path):
    """Stages by variant, and the controller's decisions; standard input for -."""
    with sys.stdin if path == "-" else open(path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    stages = {}
    for row in rows:
        if row["ablation"] == "stages":
            stages.setdefault(row["variant"], []).append(row)
    if "controller" not in stages:
        raise ValueError(f"{path} is not what bench_shift.py prints")
    return stages, [row for row in rows if row["ablation"] == "decisions" and row["variant"] == "controller"]


def plot_rates(axis, stages):
    """A step a stage, over the time that the variant itself took."""
    for index, (variant, rows) in enumerate(stages.items()):
        times = [row["begin_s"] for row in rows] + [rows[-1]["begin_s"] + rows[-1]["stage_seconds"]]
        axis.stairs([row["stage_operations_s"] for row in rows], times, label=variant, color=COLORS.get(variant, f"C{index + 1}"), baseline=None,
                    linewidth=2.4 if variant == "controller" else 1.2)
    axis.set_yscale("log")
    axis.set_ylabel("operations/s")
    axis.legend(fontsize=7)


def plot_memory(axis, stages, decisions):
    """What the controller had in force at the end of each stage, and its decisions as lines."""
    rows = stages["controller"]
    ends = [row["begin_s"] + row["stage_seconds"] for row in rows]
    axis.step(ends, [row["cache_mb"] for row in rows], where="pre", label="block cache, MB", color="tab:blue")
    axis.step(ends, [row["memtable_mb"] for row in rows], where="pre", label="one memtable, MB", color="tab:orange")
    for decision in decisions:
        axis.axvline(decision["at_s"], color="tab:red" if " revert " in decision["decision"] else "tab:green", linewidth=0.8)
    axis.set_ylabel("MB; lines: decisions")
    axis.set_xlabel("seconds")
    axis.legend(fontsize=7)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", help="JSON lines, or -")
    parser.add_argument("-o", "--output", required=True, help="the picture: .png, .svg, .pdf")
    args = parser.parse_args()
    try:
        stages, decisions = read_rows(args.rows)
    except (OSError, ValueError) as error:
        print(f"plot_shift.py: {error}", file=sys.stderr)
        return 2
    import matplotlib  # pylint: disable=import-outside-toplevel

    matplotlib.use("Agg")
    from matplotlib import pyplot  # pylint: disable=import-outside-toplevel

    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(11, 7), sharex=True)
    plot_rates(upper, stages)
    plot_memory(lower, stages, decisions)
    figure.tight_layout()
    figure.savefig(args.output, dpi=130)
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
