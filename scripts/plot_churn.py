#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw what churn_bench --json printed: disk bytes against capacity over time, and the times of gets by phase.

  build/bench/churn_bench /mnt/nvme/churn --json > churn.jsonl
  plot_churn.py churn.jsonl -o churn.png
"""

import argparse
import json
import sys

MIB = float(1 << 20)
COLORS = {1: "tab:green", 2: "tab:red", 3: "tab:blue"}
NAMES = {1: "A no reclaim", 2: "B reclaim", 3: "C no writer"}


def read_rows(path):
    """The phases, the objects of all rounds together, and the samples; standard input for -."""
    with sys.stdin if path == "-" else open(path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    samples = [row for row in rows if row["phase"] == "samples"]
    sums = {row["phase"]: row for row in rows if row.get("round") == 0}
    if len(samples) != 1 or not sums:
        raise ValueError(f"{path} is not what churn_bench --json prints")
    return sums, samples[0]


def stretches(phases):
    """(phase, first, last) of each run of samples in one measured phase."""
    found = []
    for index, phase in enumerate(phases):
        if phase != 0 and found and found[-1][0] == phase and found[-1][2] == index - 1:
            found[-1][2] = index
        elif phase != 0:
            found.append([phase, index, index])
    return found


def plot_space(axis, samples):
    seconds = [ms / 1000 for ms in samples["ms"]]
    axis.plot(seconds, [value / MIB for value in samples["capacity_bytes"]], color="black", linewidth=1.5,
              label="capacity", drawstyle="steps-post")
    axis.plot(seconds, [value / MIB for value in samples["disk_bytes"]], color="tab:orange", linewidth=1,
              label="allocated in the directory")
    seen = set()
    for phase, first, last in stretches(samples["phases"]):
        axis.axvspan(seconds[first], seconds[last], color=COLORS[phase], alpha=0.15,
                     label=None if phase in seen else NAMES[phase])
        seen.add(phase)
    axis.set_xlabel("s")
    axis.set_ylabel("MiB")
    axis.set_ylim(0, 1.05 * axis.get_ylim()[1])
    axis.grid(alpha=0.3)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=5, frameon=False)


def plot_times(axis, sums):
    keys = [("get_us_p50", "p50"), ("get_us_p99", "p99"), ("get_us_p999", "p99.9")]
    width = 0.8 / len(NAMES)
    for phase, name in NAMES.items():
        places = [index + (phase - 1) * width for index in range(len(keys))]
        values = [(sums[name][key] or 0) / 1000 for key, _ in keys]
        bars = axis.bar(places, values, width, color=COLORS[phase], alpha=0.7, label=name)
        axis.bar_label(bars, fmt="%.1f", fontsize=8)
    axis.set_xticks([index + width for index in range(len(keys))])
    axis.set_xticklabels([label for _, label in keys])
    axis.set_ylabel("ms a get of a chain")
    axis.margins(y=0.1)
    axis.grid(axis="y", alpha=0.3)
    axis.legend()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", help="file of JSON lines, - for standard input")
    parser.add_argument("-o", "--output", default="churn.png", help="the picture (churn.png)")
    args = parser.parse_args()
    try:
        sums, samples = read_rows(args.rows)
    except (OSError, ValueError, KeyError) as error:
        print(f"plot_churn.py: {error}", file=sys.stderr)
        return 2
    import matplotlib  # here: --help and bad input need no matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(13, 5), gridspec_kw={"width_ratios": [2, 1]})
    plot_space(axes[0], samples)
    plot_times(axes[1], sums)
    figure.tight_layout()
    figure.savefig(args.output, dpi=120)
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
