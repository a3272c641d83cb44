# SPDX-License-Identifier: Apache-2.0
"""The ablations of a benchmark report: what rows of bench/ablation_bench say, as tables and plots. docs/ablations.md explains them."""

import html

from bench_plot import line_plot, number

# An ablation, a table of it, and its columns: key of the rows, head. A row belongs to the table if it has the first key.
TABLES = (
    ("order", "Order of keys, and extents: what an index of the same pages takes",
     (("disk_bytes_per_page", "on disk,<br>bytes a page"), ("memory_bytes_per_page", "in memory"),
      ("memtable_bytes_per_page", "in a memtable"), ("flushed_bytes_per_page", "flushed"), ("merged_bytes_per_page", "merged"),
      ("insert_us_per_page", "insert,<br>us a page"), ("runs", "runs"))),
    ("order", "Probe of a chain",
     (("us_per_chain", "us"), ("blocks_per_chain", "index blocks read"), ("runs", "of runs"),
      ("part_of_load_16k", "part of loading<br>16 KiB pages"), ("part_of_load_256k", "256 KiB pages"))),
    ("locator", "Locator against Bloom filters, lookups of single pages",
     (("filter_bytes_per_page", "memory,<br>bytes a page"), ("false_positives_per_run", "false positives<br>a run"),
      ("miss_ns", "miss, ns"), ("hit_ns", "hit, ns"), ("cold_miss_us", "cold miss, us"), ("cold_miss_blocks", "blocks read"),
      ("cold_hit_us", "cold hit, us"), ("cold_hit_blocks", "blocks read"))),
    ("values", "Pages in a log of their own against pages in the runs",
     (("written_per_byte", "bytes written<br>a byte put"), ("put_gb_per_s", "put, GB/s"), ("put_and_rest_gb_per_s", "and merges, GB/s"),
      ("core_s_per_gb", "core-s<br>per GB"), ("get_gb_per_s", "cold get, GB/s"), ("read_per_byte", "bytes read<br>a byte got"))),
    ("hashlog", "LSM index against hash table, pages of no bytes",
     (("open_ms", "open, ms"), ("killed_open_ms", "after a kill, ms"), ("killed_lost_pages", "lost then, pages"),
      ("memory_bytes_per_page", "memory,<br>bytes a page"), ("cache_bytes_per_page", "block cache"),
      ("put_us_per_page", "put,<br>us a page"), ("sync_ms", "sync, ms"), ("sync_mb", "sync, MB"), ("lookup_ns", "lookup, ns"),
      ("miss_ns", "miss, ns"), ("cold_lookup_us", "cold lookup, us"), ("chain_us", "chain, us"), ("cold_chain_us", "cold chain, us"))),
    ("hashlog", "The same with payload", (("put_gb_per_s", "put, GB/s"), ("get_gb_per_s", "cold get, GB/s"))),
    ("controller", "The controller, a workload that shifts between writing and reading",
     (("operations_s", "operations<br>a second"), ("seconds", "seconds"), ("switches", "switches"), ("reverts", "taken back"),
      ("controller_core_percent", "the controller's<br>own, % of a core"))),
    ("stages", "The same, stage by stage",
     (("stage_operations_s", "operations<br>a second"), ("stage_seconds", "seconds"), ("memtable_mb", "memtable, MB"),
      ("cache_mb", "block cache, MB"), ("stage_runs", "runs"))),
)

STATES = ("cold, unmerged", "cold", "small cache", "warm")  # of an index: as many as there is room for beside each other

# An ablation, a title, the key that y shows, its name, whether y is logarithmic, the scenes along x (None: all).
PLOTS = (
    ("order", "Probe of a chain, by state of the index", "us_per_chain", "us", True, STATES),
    ("order", "Index blocks read by a probe of a chain", "blocks_per_chain", "blocks", False, STATES),
    ("locator", "Lookup of a page that is not there", "miss_ns", "ns", False, None),
    ("locator", "The same with nothing in the block cache", "cold_miss_us", "us", True, None),
    ("values", "Bytes written for each byte put", "written_per_byte", "bytes", False, None),
    ("values", "Puts, until merges are done", "put_and_rest_gb_per_s", "GB/s", False, None),
    ("hashlog", "Open", "open_ms", "ms", True, None),
    ("hashlog", "Probe of a chain, warm", "chain_us", "us", False, None),
    ("hashlog", "Lookup of a single page, warm", "lookup_ns", "ns", True, None),
    ("stages", "Shifting workload, stage by stage", "stage_operations_s", "operations/s", True, None),
)


def names(rows, ablation, key):
    """(variants, scenes) that have a figure, each in the order of the rows."""
    found = [row for row in rows.ablations if row.get("ablation") == ablation and row.get(key) is not None]
    return tuple(list(dict.fromkeys(row[name] for row in found)) for name in ("variant", "scene"))


def one_table(rows, table, ablation, title, columns):
    variants, scenes = names(rows, ablation, columns[0][0])
    lines = [[html.escape(variant), html.escape(scene), *(number(rows.ablation(ablation, variant, scene, key)) for key, _ in columns)]
             for scene in scenes for variant in variants if rows.ablation(ablation, variant, scene, columns[0][0]) is not None]
    return f"<h3>{html.escape(title)}</h3>" + table(["", "", *(head for _, head in columns)], lines) if lines else ""


def one_plot(rows, ablation, title, key, y_name, logarithmic, wanted):
    variants, scenes = names(rows, ablation, key)
    scenes = [scene for scene in wanted or scenes if scene in scenes]
    lines = {variant: [rows.ablation(ablation, variant, scene, key) for scene in scenes] for variant in variants}
    return line_plot(title, scenes, lines, y_name, logarithmic) if scenes else ""


def ablation_section(rows, table, plots):
    """HTML; `table` and `plots` are those of the report."""
    return plots(*(one_plot(rows, *plot) for plot in PLOTS)) + "".join(one_table(rows, table, *spec) for spec in TABLES)
