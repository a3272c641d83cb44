# SPDX-License-Identifier: Apache-2.0
"""The rows of a benchmark report, and what they say of each target: figure, target, met or missed."""

import collections
import statistics

KIB, MIB = 1 << 10, 1 << 20
GET_OF_RAW = {16 * KIB: 0.70, 64 * KIB: 0.85, 256 * KIB: 0.90, MIB: 0.90, 4 * MIB: 0.90}
PUT_OF_RAW = {64 * KIB: 0.85, 256 * KIB: 0.85, MIB: 0.85, 4 * MIB: 0.85}
THREADS_OF_URING = 0.85
PEERS = ("file", "file-threads", "rocksdb", "lmdb", "hashlog")
TIMES_FILE = {("get", 64 * KIB): 3.0, ("get", MIB): 2.0, ("put", 64 * KIB): 3.0, ("put", 256 * KIB): 3.0, ("put", MIB): 3.0,
              ("put", 4 * MIB): 3.0}
TIMES_ROCKSDB_PUT = 3.0  # of pages of 64 KiB and more
TIMES_PEER = 1.5
OF_RAW_INSTEAD = 0.95  # where that many times a peer is more than the device gives
CORE_SECONDS_PER_GB = 0.15
CHAIN_PAGES, CHAIN_US, MISS_US, LOOKUP_US = 2000, 50.0, 1.0, 1.0
MANY_PAGES = 10_000_000
OPEN_MS, INDEX_BYTES = 300.0, 8.0
PROBE_GROWTH, LARGE_OF_SMALL = 2.0, 0.90
TTFT_OF_NONE = 1.02

# met is None: not measured.
Verdict = collections.namedtuple("Verdict", "group what figure target met labels")


def size_text(size):
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


class Rows:
    """What the suite measured. A figure is the median over its runs, None where there is none."""

    def __init__(self, throughput=(), size=(), serving=(), ablations=()):
        self.throughput, self.size, self.serving, self.ablations = list(throughput), list(size), list(serving), list(ablations)

    @staticmethod
    def median(rows, key, **wanted):
        values = [row[key] for row in rows
                  if row.get(key) is not None and all(row.get(name) == value for name, value in wanted.items())]
        return statistics.median(values) if values else None

    def speed(self, engine, phase, size, key="gb_per_s"):
        """Of pages of one size; engine raw has the phases raw_write and raw_read, here put and get."""
        if engine == "raw":
            phase = {"put": "raw_write", "get": "raw_read"}[phase]
        return self.median(self.throughput, key, engine=engine, phase=phase, page_bytes=size)

    def index(self, phase, pages, key):
        """Of a store of empty pages."""
        rows = [row for row in self.size if row["label"] == f"index of {pages:,} pages"]
        return self.median(rows, key, engine="varve", phase=phase)

    def store(self, phase, label, key="gb_per_s", engine="varve"):
        return self.median(self.size, key, engine=engine, phase=phase, label=label)

    def ttft(self, label, engine, plan, key="ttft_mean_ms"):
        return self.median(self.serving, key, label=label, engine=engine, plan=plan)

    def ablation(self, name, variant, scene, key):
        return self.median(self.ablations, key, ablation=name, variant=variant, scene=scene)

    def page_sizes(self):
        return sorted({row["page_bytes"] for row in self.throughput if row.get("page_bytes")})

    def engines(self):
        return list(dict.fromkeys(row["engine"] for row in self.throughput if "phase" in row))

    def index_sizes(self):
        return sorted({row["pages"] for row in self.size if row.get("page_bytes") == 0 and row["phase"] == "put"})

    def stores(self):
        """Labels of the whole stores, the smallest first."""
        pages = {row["label"]: row["pages"] for row in self.size if row.get("page_bytes") and row["phase"] == "put"}
        return sorted(pages, key=pages.get)

    def workloads(self):
        return list(dict.fromkeys(row["label"] for row in self.serving if "ttft_mean_ms" in row))

    def missing(self):
        """Engines that were left out of the build, and why."""
        return {row.get("engine", row.get("variant")): row["missing"]
                for row in self.throughput + self.size + self.serving + self.ablations if "missing" in row}


def at_most(value, limit):
    return None if value is None else value <= limit


def at_least(value, limit):
    return None if value is None else value >= limit


def part_of(value, whole):
    return None if value is None or not whole else value / whole


def percent(value):
    return "not measured" if value is None else f"{100 * value:.0f} %"


def figure_text(value, unit, decimals=2):
    return "not measured" if value is None else f"{value:,.{decimals}f} {unit}"


def size_label(size):
    return [f"pages of {size_text(size)}"]


def raw_verdicts(rows):
    for phase, targets in (("get", GET_OF_RAW), ("put", PUT_OF_RAW)):
        for size, target in targets.items():
            value = rows.speed("varve", phase, size, "of_raw")
            yield Verdict("Part of the raw speed", f"{phase}, pages of {size_text(size)}", percent(value),
                          f">= {percent(target)} of raw", at_least(value, target), size_label(size))


def engine_verdicts(rows):
    """The store's two I/O engines, and what a get costs."""
    for phase in ("get", "put"):
        for size in rows.page_sizes():
            value = part_of(rows.speed("varve-threads", phase, size), rows.speed("varve", phase, size))
            yield Verdict("Thread pool", f"{phase}, pages of {size_text(size)}", percent(value),
                          f">= {percent(THREADS_OF_URING)} of io_uring", at_least(value, THREADS_OF_URING), size_label(size))
    for size in rows.page_sizes():
        value = rows.speed("varve", "get", size, "core_s_per_gb")
        yield Verdict("Cost of a get", f"pages of {size_text(size)}", figure_text(value, "core-seconds per GB", 3),
                      f"<= {CORE_SECONDS_PER_GB}", at_most(value, CORE_SECONDS_PER_GB), size_label(size))


def times_target(engine, phase, size):
    """How many times as fast as a peer; None: nothing is asked."""
    if engine == "file":
        return TIMES_FILE.get((phase, size))
    return TIMES_ROCKSDB_PUT if engine == "rocksdb" and phase == "put" and size >= 64 * KIB else TIMES_PEER


def beats(own, peer, raw, target):
    """So many times as fast, or nearly all that the device gives where that is less."""
    return own >= target * peer or (target * peer > raw and own >= OF_RAW_INSTEAD * raw)


def peer_verdicts(rows):
    for phase in ("get", "put"):
        for size in rows.page_sizes():
            own, raw = rows.speed("varve", phase, size), rows.speed("raw", phase, size)
            texts, targets, met = [], [], None
            for engine in PEERS:
                peer, target = rows.speed(engine, phase, size), times_target(engine, phase, size)
                if target is None or peer is None or own is None or raw is None:
                    continue
                good = beats(own, peer, raw, target)
                texts.append(f"{engine} {own / peer:.2f}x{'' if good else ' (missed)'}")
                targets.append(f"{engine} {target:g}x")
                met = good and met is not False
            figure = f"{', '.join(texts)}; {percent(part_of(own, raw))} of raw" if texts else "not measured"
            yield Verdict("Times a peer", f"{phase}, pages of {size_text(size)}", figure,
                          f"{', '.join(targets)}; where that exceeds raw, {percent(OF_RAW_INSTEAD)} of raw", met, size_label(size))


def probe_verdicts(rows):
    for pages in rows.index_sizes():
        if pages < CHAIN_PAGES:
            continue
        label = [f"index of {pages:,} pages"]
        value = rows.index("probe", pages, "us_per_chain")
        yield Verdict("Probe", f"a chain of {CHAIN_PAGES:,} pages, warm, of {pages:,}", figure_text(value, "us", 1),
                      f"<= {CHAIN_US:g} us", at_most(value, CHAIN_US), label)
        value = rows.index("probe_miss", pages, "us_per_chain")
        yield Verdict("Probe", f"a miss on the first id, of {pages:,}", figure_text(value, "us"), f"<= {MISS_US:g} us",
                      at_most(value, MISS_US), label)


def index_verdicts(rows):
    label = [f"index of {MANY_PAGES:,} pages"]
    value = rows.index("open", MANY_PAGES, "open_ms")
    yield Verdict("Index", f"open with {MANY_PAGES:,} pages", figure_text(value, "ms", 0), f"<= {OPEN_MS:g} ms",
                  at_most(value, OPEN_MS), label)
    value = rows.index("open", MANY_PAGES, "index_bytes_per_page")
    yield Verdict("Index", f"memory with {MANY_PAGES:,} pages", figure_text(value, "bytes a page"), f"<= {INDEX_BYTES:g}",
                  at_most(value, INDEX_BYTES), label)
    value = rows.index("verify", MANY_PAGES, "us_per_page")  # the last pass: all blocks are in the cache by then
    yield Verdict("Index", f"lookup among {MANY_PAGES:,} pages: a get of an empty page, in calls of 2,000",
                  figure_text(value, "us"), f"<= {LOOKUP_US:g} us", at_most(value, LOOKUP_US), label)


def growth_verdicts(rows):
    few = min(rows.index_sizes(), default=0)
    first, last = rows.index("probe", few, "us_per_chain"), rows.index("probe", MANY_PAGES, "us_per_chain")
    value = part_of(last, first)
    yield Verdict("Cost against size", f"probe of a chain, {MANY_PAGES:,} pages against {few:,}", figure_text(value, "times"),
                  f"<= {PROBE_GROWTH:g} times", at_most(value, PROBE_GROWTH),
                  [f"index of {pages:,} pages" for pages in (few, MANY_PAGES)])
    stores = rows.stores()
    for phase in ("get", "put"):
        value = part_of(rows.store(phase, stores[-1]), rows.store(phase, stores[0])) if len(stores) > 1 else None
        yield Verdict("Cost against size", f"{phase}, {' against '.join(stores[::-1]) or 'two sizes of store'}", percent(value),
                      f">= {percent(LARGE_OF_SMALL)}", at_least(value, LARGE_OF_SMALL), stores)


def serving_verdicts(rows):
    for label in rows.workloads():
        for key, name in (("ttft_p99_ms", "p99"), ("ttft_mean_ms", "mean")):
            none, own = rows.ttft(label, "none", "off", key), rows.ttft(label, "varve", "on", key)
            value = part_of(own, none)
            yield Verdict("Time to the first token", f"varve with a plan against recompute, {name}, {label}", percent(value),
                          f"<= {percent(TTFT_OF_NONE)}", at_most(value, TTFT_OF_NONE), [label])
        for plan, words in (("off", "as they are used today, without a plan"), ("on", "with a plan of ours as well")):
            others = {engine: rows.ttft(label, engine, plan) for engine in PEERS}
            others = {engine: mean for engine, mean in others.items() if mean is not None}
            if own is None or not none or own >= none or not others:  # the disk cannot beat recompute here
                continue
            best = min(others, key=others.get)
            yield Verdict("Time to the first token", f"varve with a plan against every peer {words}, mean, {label}",
                          f"{own:,.1f} ms; the best peer, {best}, {others[best]:,.1f}", "less than every peer",
                          own < others[best], [label])


def byte_verdicts(rows):
    checked = [row for row in rows.throughput + rows.size + rows.serving if "wrong_bytes" in row]
    wrong = sum(row["wrong_bytes"] for row in checked)
    missing = sum(row.get("missing_pages", 0) for row in checked)
    yield Verdict("Bytes", "what all engines returned", f"{wrong:,} bytes wrong, {missing:,} pages missing",
                  "none", wrong + missing == 0 if checked else None, [])


def verdicts(rows):
    """All targets that the suite measures, in the order of the page."""
    found = []
    for group in (raw_verdicts, engine_verdicts, peer_verdicts, probe_verdicts, index_verdicts, growth_verdicts,
                  serving_verdicts, byte_verdicts):
        found.extend(group(rows))
    return found
