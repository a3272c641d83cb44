# SPDX-License-Identifier: Apache-2.0
"""The page of a benchmark suite, from the JSON lines that bench.py kept: tables, plots, verdicts, machine and commands.

The page stands for itself: plots are inline SVG, and nothing is loaded from anywhere.
"""

import html
import json
import os
import re
import sys

from bench_ablations import ablation_section
from bench_plot import line_plot, number
from bench_verdicts import PEERS, Rows, percent, size_text, verdicts
from gen_docs import replace_part

SECTIONS = ("throughput", "size", "serving", "ablations")
MARKER = "bench"  # the generated part of README.md
PHASES = (("put", "Put"), ("get", "Get"))

STYLE = """
:root { color-scheme: light }
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 1320px; margin: 2em auto; padding: 0 1.2em }
h1 { font-size: 1.6em } h2 { font-size: 1.25em; margin-top: 2.2em; border-bottom: 1px solid #ccc } h3 { font-size: 1.05em }
table { border-collapse: collapse; margin: .8em 0; font-variant-numeric: tabular-nums; font-size: 14px }
td, th { padding: .22em .7em; border-bottom: 1px solid #e4e4e4; text-align: right; vertical-align: top }
th { background: #f4f4f4; font-weight: 600 } td:first-child, th:first-child, .text td, .text th { text-align: left }
.own td { font-weight: 600 } .met { color: #16703c; font-weight: 600 } .missed { color: #b3261e; font-weight: 600 } .unknown { color: #777 }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(460px, 1fr)); gap: 1em }
.scroll { overflow-x: auto } svg { width: 100%; height: auto; background: #fff }
svg text { font: 12px system-ui, sans-serif } svg .title { font-weight: 600; font-size: 13px }
svg .grid { stroke: #e4e4e4; stroke-width: 1 } code { font-size: 12.5px; overflow-wrap: anywhere } .note { color: #555; font-size: 14px }
"""


def read_lines(directory, name):
    """The objects of a file of JSON lines; none where there is no such file."""
    try:
        with open(os.path.join(directory, f"{name}.jsonl"), encoding="utf-8") as lines:
            return [json.loads(line) for line in lines if line.strip()]
    except FileNotFoundError:
        return []


def read_report(directory):
    """(facts, runs, rows) of what bench.py left in a directory."""
    with open(os.path.join(directory, "facts.json"), encoding="utf-8") as file:
        facts = json.load(file)
    return facts, read_lines(directory, "runs"), Rows(*(read_lines(directory, section) for section in SECTIONS))


def table(heads, lines, kind=""):
    """An HTML table; cells are HTML already. A line of varve stands out."""
    parts = [f'<div class="scroll"><table class="{kind}"><tr>', *(f"<th>{head}</th>" for head in heads), "</tr>"]
    for line in lines:
        own = ' class="own"' if line[0] in ("varve", "varve, plan") else ""
        parts.append(f"<tr{own}>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>")
    return "".join(parts) + "</table></div>"


def plots(*pictures):
    return f'<div class="plots">{"".join(f"<div>{picture}</div>" for picture in pictures if picture)}</div>'


def slug(label):
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def escape(value):
    return html.escape(str(value))


def machine_text(facts):
    """One line: what the figures were measured on."""
    cores = f"{facts['cores']} cores ({facts['cpu']}{', virtual machine' if facts['virtual'] else ''})"
    return f"{facts['date'][:10]}, {cores}, {facts['memory_gib']} GiB, {facts['device']}, {facts['file_system'].split()[0]}"


def machine_section(facts):
    names = (("date", "date (UTC)"), ("varve", "version"), ("commit", "commit"), ("cpu", "processor"), ("cores", "cores"),
             ("virtual", "virtual machine"), ("memory_gib", "memory, GiB"), ("kernel", "kernel"),
             ("file_system", "file system"), ("device", "device"), ("scheduler", "scheduler"),
             ("load", "load before"), ("seconds", "the suite took, s"))
    return table(("", ""), [(name, escape(facts.get(key, ""))) for key, name in names], "text")


def verdict_section(rows):
    words = {True: '<span class="met">met</span>', False: '<span class="missed">missed</span>',
             None: '<span class="unknown">not measured</span>'}
    found = verdicts(rows)
    lines, group = [], None
    for verdict in found:
        links = ", ".join(f'<a href="#{slug(label)}">{escape(label)}</a>' for label in verdict.labels)
        lines.append((escape(verdict.group) if verdict.group != group else "", escape(verdict.what), escape(verdict.figure),
                      escape(verdict.target), words[verdict.met], links))
        group = verdict.group
    return (f"<p>{verdict_summary(found)}</p>" +
            table(("", "what", "figure", "target", "verdict", "commands"), lines, "text"))


def verdict_summary(found):
    counts = [sum(1 for verdict in found if verdict.met is met) for met in (True, False, None)]
    return f"{counts[0]} targets met, {counts[1]} missed, {counts[2]} not measured."


def throughput_section(rows):
    sizes, engines = rows.page_sizes(), rows.engines()
    parts = [plots(*(line_plot(f"{name}, GB/s", [size_text(size) for size in sizes],
                               {engine: [rows.speed(engine, phase, size) for size in sizes] for engine in engines}, "GB/s")
                     for phase, name in PHASES),
                   *(line_plot(f"{name}, core-seconds per GB", [size_text(size) for size in sizes],
                               {engine: [rows.speed(engine, phase, size, "core_s_per_gb") for size in sizes]
                                for engine in engines}, "core-seconds per GB", True) for phase, name in PHASES))]
    for phase, name in PHASES:
        lines = []
        for engine in engines:
            cells = [engine]
            for size in sizes:
                of_raw = rows.speed(engine, phase, size, "of_raw")
                cells += [number(rows.speed(engine, phase, size)), "" if of_raw is None else percent(of_raw),
                          number(rows.speed(engine, phase, size, "core_s_per_gb"))]
            lines.append(cells)
        heads = ["engine"] + [head for size in sizes for head in (f"{size_text(size)}<br>GB/s", "of raw", "core-s<br>per GB")]
        parts.append(f"<h3>{name}</h3>" + table(heads, lines))
    parts += [f'<p class="missed">{escape(engine)} is missing: {escape(what)}</p>' for engine, what in rows.missing().items()]
    return "".join(parts)


def size_section(rows):
    counts, stores = rows.index_sizes(), rows.stores()
    names = [f"{pages:,}" for pages in counts]
    keys = (("put", "us_per_page", "put, us a page"), ("open", "open_ms", "open, ms"),
            ("open", "index_bytes_per_page", "memory, bytes a page"), ("probe_cold", "us_per_chain", "probe of a chain, cold, us"),
            ("probe", "us_per_chain", "warm, us"), ("probe_miss", "us_per_chain", "miss, us"),
            ("get", "us_per_page", "get, us a page"))
    heads = ["pages"] + [head for _, _, head in keys]
    lines = [[name, *(number(rows.index(phase, pages, key)) for phase, key, _ in keys)] for name, pages in zip(names, counts)]
    parts = [plots(line_plot("Probe of a chain of 2,000 pages, by pages in the store", names,
                             {"varve": [rows.index("probe", pages, "us_per_chain") for pages in counts]}, "us, warm"),
                   line_plot("Get of empty pages, by pages in the store", names,
                             {"varve": [rows.index("get", pages, "us_per_page") for pages in counts]}, "us a page"),
                   line_plot("Throughput by size of store, pages of 64 KiB", stores,
                             {f"{engine} {phase}": [rows.store(key, store, engine=engine) for store in stores]
                              for engine, phase, key in (("varve", "get", "get"), ("varve", "put", "put"),
                                                         ("raw", "read", "raw_read"), ("raw", "write", "raw_write"))}, "GB/s")),
             "<h3>The index alone: pages of 0 bytes</h3>", table(heads, lines)]
    lines = [[store] + [number(rows.store(phase, store, key)) for phase in ("put", "get")
                        for key in ("gb_per_s", "of_raw", "core_s_per_gb")] for store in stores]
    return "".join(parts) + "<h3>Whole stores</h3>" + table(
        ["", "put, GB/s", "of raw", "core-s per GB", "get, GB/s", "of raw", "core-s per GB"], lines)


def serving_engines(rows, label):
    """(name to show, engine, plan), 'none' first."""
    kinds = dict.fromkeys((row["engine"], row["plan"]) for row in rows.serving if row.get("label") == label and "plan" in row)
    return [(engine if engine == "none" else f"{engine}, {'plan' if plan == 'on' else 'no plan'}", engine, plan)
            for engine, plan in kinds]


def stage_curves(rows, label):
    """Mean TTFT by stage: peers as they are used today, varve both ways."""
    lines = {}
    for name, engine, plan in serving_engines(rows, label):
        row = next(row for row in rows.serving if row.get("label") == label and (row.get("engine"), row.get("plan")) == (engine, plan))
        if engine in ("none", "varve") or plan == "off":
            lines[engine if engine in PEERS else name] = [stage["ttft_mean_ms"] for stage in row.get("stages", [])]
    count = max((len(points) for points in lines.values()), default=0)
    return line_plot(label, [str(stage + 1) for stage in range(count)], lines, "mean TTFT, ms, by stage") if count else ""


def serving_section(rows):
    keys = (("ttft_mean_ms", "mean"), ("ttft_p50_ms", "p50"), ("ttft_p90_ms", "p90"), ("ttft_p99_ms", "p99"),
            ("hit_resident", "there"), ("hit_returned", "back"), ("hit_used", "used"),
            ("read_gb_per_s", "read GB/s"), ("write_gb_per_s", "write GB/s"))
    parts = [plots(*(stage_curves(rows, label) for label in rows.workloads()))]
    for label in rows.workloads():
        lines = [[name, *(number(rows.ttft(label, engine, plan, key)) for key, _ in keys)]
                 for name, engine, plan in serving_engines(rows, label)]
        parts.append(f"<h3>{escape(label)}, TTFT in ms</h3>" + table(["engine"] + [head for _, head in keys], lines))
    return "".join(parts)


def command_section(runs):
    lines, seen = [], set()
    for run in runs:
        anchor = "" if run["label"] in seen else f' id="{slug(run["label"])}"'
        seen.add(run["label"])
        problem = f'<br><span class="missed">{escape(run["problem"])}</span>' if run.get("problem") else ""
        lines.append((f"<span{anchor}>{run['run']}</span>", escape(run["label"]), f"<code>{escape(run['command'])}</code>{problem}",
                      run["began"][:19].replace("T", " "), f"{run['seconds']:.1f}", "-" if run["code"] is None else run["code"]))
    return table(("", "what", "command", "began (UTC)", "s", "exit code"), lines, "text")


def page_text(facts, runs, rows):
    """The whole page."""
    title = "Varve: benchmarks"
    quick = "<p class='missed'>The quick suite: too small for figures to count.</p>" if facts["suite"] != "full" else ""
    failed = [run for run in runs if run.get("problem")]
    trouble = f"<p class='missed'>{len(failed)} runs failed or were left out: see the commands.</p>" if failed else ""
    notes = {
        "Targets": "Computed from the rows below. Where something ran several times, the figure is the median. "
                   "Elsewhere: opens after kill -9 (make test), memory of ageing, write amplification and bytes on disk "
                   "(make bench-churn, docs/space.md).",
        "Throughput by page size": "Calls of 128 pages, cold caches, the same bytes in the same order for all; a sync is in put. "
                                   "docs/benchmarks.md says how each engine is tuned.",
        "Cost against size of store": "Chains of 2,000 pages; the block cache of the index alone holds it whole.",
        "Serving simulation": "The ten-stage workload, one request at a time: computing is modelled, I/O is real (docs/serving.md). "
                              "Curves of peers are without a plan, as they are used today.",
        "Ablations": "What each part of the design is worth, and where it loses: docs/ablations.md says how each is measured.",
        "Machine": "", "Commands": ""}
    bodies = (verdict_section(rows), throughput_section(rows), size_section(rows), serving_section(rows),
              ablation_section(rows, table, plots), machine_section(facts), command_section(runs))
    sections = "".join(f'<h2>{head}</h2><p class="note">{note}</p>{body}' for (head, note), body in zip(notes.items(), bodies))
    return (f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head>'
            f"<body><h1>{title}</h1><p>{escape(machine_text(facts))}. {escape(facts['varve'])} {escape(facts['commit'])}</p>"
            f"{quick}{trouble}{sections}</body></html>\n")


def readme_text(facts, rows):
    """The main table: put and get of each engine at each page size."""
    sizes = rows.page_sizes()
    commit = f" ({facts['commit']})" if facts["commit"] else ""
    lines = [f"{machine_text(facts)}; {facts['varve']}{commit}. Put / get in GB/s:", "",
             "| engine | " + " | ".join(size_text(size) for size in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for engine in rows.engines():
        cells = [" / ".join(number(rows.speed(engine, phase, size)) for phase, _ in PHASES) for size in sizes]
        lines.append(f"| {engine} | " + " | ".join(cells) + " |")
    return "\n".join(lines + ["", verdict_summary(verdicts(rows)) + " Every target, plot and command: `make bench`."])


def write_page(directory):
    try:
        text = page_text(*read_report(directory))
    except FileNotFoundError as error:
        print(f"bench.py: there is no report: {error}", file=sys.stderr)
        return 2
    path = os.path.join(directory, "index.html")
    with open(path, "w", encoding="utf-8") as page:
        page.write(text)
    print(f"wrote {path}")
    return 0


def write_readme(directory, path):
    """Fill the part of a document between the markers. A quick suite is not for publication."""
    try:
        facts, _, rows = read_report(directory)
    except FileNotFoundError as error:
        print(f"bench.py: there is no report: {error}", file=sys.stderr)
        return 2
    if facts["suite"] != "full" or not rows.throughput:
        print("bench.py: the README shows the full suite only: run make bench", file=sys.stderr)
        return 2
    with open(path, encoding="utf-8") as document:
        text = document.read()
    with open(path, "w", encoding="utf-8") as document:
        document.write(replace_part(text, MARKER, readme_text(facts, rows)))
    print(f"wrote {path}")
    return 0
