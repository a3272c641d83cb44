#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The report of `make bench`, from a small recording. Usage: bench_report_test.py path/to/scripts [unittest options]

What must hold: verdicts follow from the rows and flip with them, the page needs nothing from elsewhere, a suite goes on past an
engine that fails, and the README gets the table of a full suite only.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from html.parser import HTMLParser

KIB, MIB = 1 << 10, 1 << 20
FACTS = {"suite": "full", "date": "2026-01-02T03:04:05+00:00", "cpu": "A <fast> CPU", "cores": 2, "virtual": True, "memory_gib": 4,
         "kernel": "Linux", "file_system": "ext4 (rw)", "device": "disk", "scheduler": "none", "load": "0", "varve": "varve 1",
         "commit": "abc", "seconds": 9}
RUNS = [{"run": 1, "section": "throughput", "label": "pages of 64 KiB", "command": "varve bench 'a<b'", "seconds": 1.0, "code": 3,
         "began": "2026-01-02T03:04:05+00:00", "problem": "failed: no <disk>"}]
TINY_ENGINE = """#!/bin/sh
# Stands in for varve: rocksdb fails, and so those after it have no turn; lmdb was left out.
case "$*" in *rocksdb*) echo '{"engine": "varve", "phase": "verify", "wrong_bytes": 0}'; echo "varve: rocksdb is broken" >&2; exit 3 ;; esac
echo '{"engine": "hashlog", "phase": "verify", "wrong_bytes": '$WRONG'}'
echo '{"engine": "lmdb", "missing": "liblmdb-dev"}'
[ $WRONG = 0 ]
"""


def speeds(engine, put, get, raw=(2.0, 3.0), cost=0.1, size=64 * KIB):
    """The rows of an engine at one page size."""
    common = {"label": f"pages of {size // KIB} KiB", "engine": engine, "page_bytes": size, "pages": 10, "core_s_per_gb": cost}
    names = ("raw_write", "raw_read") if engine == "raw" else ("put", "get")
    return [{**common, "phase": names[0], "gb_per_s": put, "of_raw": put / raw[0]},
            {**common, "phase": names[1], "gb_per_s": get, "of_raw": get / raw[1], "wrong_bytes": 0, "missing_pages": 0}]


def index(pages, open_ms=100.0, memory=5.0, probe_us=20.0, miss_us=0.5):
    common = {"label": f"index of {pages:,} pages", "engine": "varve", "page_bytes": 0, "pages": pages, "us_per_page": 0.5}
    return [{**common, "phase": "put"}, {**common, "phase": "open", "open_ms": open_ms, "index_bytes_per_page": memory},
            {**common, "phase": "probe", "us_per_chain": probe_us}, {**common, "phase": "probe_miss", "us_per_chain": miss_us},
            {**common, "phase": "get"}, {**common, "phase": "verify"}]


def store(gigabytes, get):
    common = {"label": f"store of {gigabytes} GB", "engine": "varve", "page_bytes": 64 * KIB, "pages": gigabytes * 1000}
    return [{**common, "phase": "put", "gb_per_s": 2.0}, {**common, "phase": "get", "gb_per_s": get}]


def ttft(engine, plan, mean):
    return {"label": "4096 tokens", "engine": engine, "plan": plan, "ttft_mean_ms": mean, "ttft_p99_ms": 2 * mean, "wrong_bytes": 0,
            "stages": [{"stage": 1, "ttft_mean_ms": mean}, {"stage": 2, "ttft_mean_ms": mean / 2}]}


def ablation(name, variant, scene, **figures):
    return {"label": f"ablation: {name}", "ablation": name, "variant": variant, "scene": scene, **figures}


def ablations():
    return [ablation("order", "extents", "built", disk_bytes_per_page=29.5), ablation("order", "extents", "cold", us_per_chain=235.0),
            ablation("order", "hash <order>", "cold", us_per_chain=95000.0), ablation("locator", "bloom", "1 run", miss_ns=30.0),
            ablation("values", "rocksdb-inline", "pages of 2 KiB", missing="librocksdb-dev")]


def recording():
    return {"throughput": speeds("raw", 2.0, 3.0) + speeds("varve", 1.9, 2.9) + speeds("varve-threads", 1.8, 2.7) +
                          speeds("file", 0.4, 0.5) + speeds("hashlog", 1.8, 1.0) + [{"engine": "lmdb", "missing": "liblmdb-dev"}],
            "size": index(100_000) + index(10_000_000, probe_us=30.0) + store(2, 2.0) + store(12, 1.9),
            "serving": [ttft("none", "off", 100.0), ttft("varve", "off", 90.0), ttft("varve", "on", 80.0), ttft("file", "off", 95.0)],
            "ablations": ablations()}


def run_bench(arguments, environment):
    """bench.py as make runs it."""
    return subprocess.run([sys.executable, os.path.join(SCRIPTS, "bench.py"), *arguments], env={**os.environ, **environment},
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode


class Checker(HTMLParser):
    """Every element is closed, and none names anything outside of the page."""

    def __init__(self, test):
        super().__init__()
        self.test, self.open, self.plots, self.text = test, [], 0, ""

    def handle_starttag(self, tag, attrs):
        self.test.assertNotIn(tag, ("script", "link", "img", "iframe"))
        self.test.assertTrue(all(value.startswith("#") for name, value in attrs if name in ("href", "src")), attrs)
        self.plots += tag == "svg"
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        self.test.assertEqual(self.open.pop(), tag, self.getpos())

    def handle_data(self, data):
        self.text += data


class ReportTest(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix="varve_report_")
        self.addCleanup(holder.cleanup)
        self.dir = holder.name

    def write(self, rows, facts=None):
        with open(os.path.join(self.dir, "facts.json"), "w", encoding="utf-8") as file:
            json.dump({**FACTS, **(facts or {})}, file)
        for name, lines in {"runs": RUNS, **rows}.items():
            with open(os.path.join(self.dir, f"{name}.jsonl"), "w", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)

    def page(self):
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(bench_report.write_page(self.dir), 0)
        with open(os.path.join(self.dir, "index.html"), encoding="utf-8") as file:
            return file.read()

    def verdict(self, rows, group, what):
        found = [v for v in bench_verdicts.verdicts(bench_verdicts.Rows(**rows)) if v.group == group and v.what.startswith(what)]
        self.assertEqual(len(found), 1, f"{group}, {what}")
        return found[0]

    def test_page(self):
        self.write(recording())
        checker = Checker(self)
        checker.feed(self.page())
        self.assertEqual(checker.open, [])
        self.assertEqual(checker.plots, 10)
        for text in ("A <fast> CPU", "varve bench 'a<b'", "failed: no <disk>", "lmdb is missing: liblmdb-dev", "1 runs failed",
                     "rocksdb-inline is missing: librocksdb-dev", "hash <order>", "95,000", "29.5"):
            self.assertIn(text, checker.text)

    def test_page_of_nothing(self):
        self.write({"throughput": [], "size": [], "serving": []})
        self.assertIn("0 targets met, 0 missed", self.page())

    def test_verdicts_flip(self):
        size, many = "pages of 64 KiB", 10_000_000
        cases = [  # group, what, section, rows that replace those of the same engine and label
            ("Part of the raw speed", f"get, {size}", "throughput", speeds("varve", 1.9, 0.84 * 3)),
            ("Part of the raw speed", f"put, {size}", "throughput", speeds("varve", 0.84 * 2, 2.9)),
            ("Thread pool", f"get, {size}", "throughput", speeds("varve-threads", 1.8, 0.84 * 2.9)),
            ("Cost of a get", size, "throughput", speeds("varve", 1.9, 2.9, cost=0.16)),
            ("Times a peer", f"get, {size}", "throughput", speeds("file", 0.4, 0.98)),
            ("Times a peer", f"put, {size}", "throughput", speeds("varve", 0.94 * 2, 2.9)),
            ("Probe", "a chain of 2,000 pages, warm, of 10,000,000", "size", index(many, probe_us=50.5)),
            ("Probe", "a miss on the first id, of 10,000,000", "size", index(many, miss_us=1.1)),
            ("Index", "open", "size", index(many, open_ms=301.0)),
            ("Index", "memory", "size", index(many, memory=8.1)),
            ("Cost against size", "probe", "size", index(many, probe_us=40.5)),
            ("Cost against size", "get", "size", store(12, 1.7)),
            ("Time to the first token", "varve with a plan against recompute, mean", "serving", [ttft("varve", "on", 102.5)]),
            ("Time to the first token", "varve with a plan against recompute, p99", "serving", [ttft("varve", "on", 102.5)]),
            ("Time to the first token", "varve with a plan against every peer as", "serving", [ttft("file", "off", 79.0)]),
            ("Bytes", "what", "throughput", [dict(row, wrong_bytes=1) for row in speeds("hashlog", 1.8, 1.0)]),
        ]
        for group, what, section, changed in cases:
            with self.subTest(group=group, what=what):
                rows = recording()
                self.assertIs(self.verdict(rows, group, what).met, True)
                names = {(row["engine"], row["label"], row.get("plan")) for row in changed}
                rows[section] = [row for row in rows[section]
                                 if (row["engine"], row.get("label"), row.get("plan")) not in names] + changed
                self.assertIs(self.verdict(rows, group, what).met, False)

    def test_what_is_not_measured_has_no_verdict(self):
        rows = recording()
        self.assertIsNone(self.verdict(rows, "Part of the raw speed", "get, pages of 4 MiB").met)
        rows["size"] = index(100_000)
        self.assertIsNone(self.verdict(rows, "Index", "open").met)
        self.assertIsNone(self.verdict(rows, "Cost against size", "get").met)

    def test_figures_are_medians(self):
        rows = recording()
        rows["throughput"] += speeds("varve", 0.1, 0.1) + speeds("varve", 1.95, 2.95)
        self.assertEqual(bench_verdicts.Rows(**rows).speed("varve", "get", 64 * KIB), 2.9)

    def test_readme(self):
        readme = os.path.join(self.dir, "README.md")
        with open(readme, "w", encoding="utf-8") as file:
            file.write("before\n<!-- bench -->\nold\n<!-- end bench -->\nafter\n")
        self.write(recording(), {"suite": "quick"})
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(bench_report.write_readme(self.dir, readme), 2)
        self.write(recording())
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(bench_report.write_readme(self.dir, readme), 0)
        with open(readme, encoding="utf-8") as file:
            text = file.read()
        self.assertTrue(text.startswith("before\n<!-- bench -->\n2026-01-02, 2 cores (A <fast> CPU, virtual machine)"), text)
        self.assertIn("\n| varve | 1.9 / 2.9 |\n", text)
        self.assertNotIn("old", text)
        self.assertTrue(text.endswith("<!-- end bench -->\nafter\n"))

    def run_suite(self, wrong):
        engine = os.path.join(self.dir, "varve")
        with open(engine, "w", encoding="utf-8") as file:
            file.write(TINY_ENGINE)
        os.chmod(engine, 0o755)
        done = run_bench([engine, "--dir", os.path.join(self.dir, "data"), "--output", os.path.join(self.dir, "out"), "--quick",
                                 "--only", "throughput", "--engines", "varve,rocksdb,hashlog,lmdb"], {"WRONG": str(wrong)})
        return done, bench_report.read_lines(os.path.join(self.dir, "out"), "throughput"), \
            bench_report.read_lines(os.path.join(self.dir, "out"), "runs")

    def test_a_failing_engine_does_not_end_the_suite(self):
        code, rows, runs = self.run_suite(0)
        self.assertEqual(code, 1)
        self.assertEqual([row["engine"] for row in rows], ["varve", "hashlog", "lmdb"] * 2)
        self.assertEqual([run["code"] for run in runs], [3, 0, 3, 0])
        self.assertIn("at rocksdb: varve: rocksdb is broken", runs[0]["problem"])
        self.assertIn("--engines hashlog,lmdb", runs[1]["command"])
        self.assertFalse(os.path.exists(os.path.join(self.dir, "data")))
        self.assertTrue(os.path.exists(os.path.join(self.dir, "out", "index.html")))

    def test_ablations_are_beside_the_command(self):
        program = os.path.join(self.dir, "bench", "ablation_bench")
        os.mkdir(os.path.dirname(program))
        with open(program, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\n" + "echo '{\"ablation\": \"'$3'\", \"variant\": \"a\", \"scene\": \"b\"}'; [ $3 != order ] || exit 3\n")
        os.chmod(program, 0o755)
        self.fake_shift_bench()
        out = os.path.join(self.dir, "out")
        code = run_bench([os.path.join(self.dir, "varve"), "--dir", os.path.join(self.dir, "data"), "--output", out, "--only", "ablations",
                          "--quick"], {})
        self.assertEqual(code, 1)  # one of them failed, and the others were run
        rows = bench_report.read_lines(out, "ablations")
        self.assertEqual([row["ablation"] for row in rows[:4]], ["order", "locator", "values", "hashlog"])
        self.assertEqual([run["code"] for run in bench_report.read_lines(out, "runs")], [3, 0, 0, 0, 0])
        seconds = {(row["scene"], row["variant"]): row["seconds"] for row in rows if row["ablation"] == "controller"}
        self.assertEqual(seconds["index-bound", "controller"], 3.0)
        self.assertEqual(seconds["index-bound", "best fixed"], 5.0)  # 4 + 1, and 2 + 4
        self.assertEqual(seconds["index-bound", "oracle"], 3.0)
        self.assertIn(("payload-bound", "off"), seconds)

    def fake_shift_bench(self):
        """A stage each of writing and reading: a fixed one with much cache takes 4 and 1 seconds, others 2 and 4, the controller 2 and 1."""
        program = os.path.join(self.dir, "bench", "shift_bench")
        keys = ("control_time_us", "control_switches", "control_reverts", "control_memtable_bytes", "control_cache_bytes", "runs",
                "operations", "operations_s", "begin_percent", "begin_s")
        with open(program, "w", encoding="utf-8") as file:
            file.write(f"#!{sys.executable}\nimport json, os, sys\nos.makedirs(sys.argv[1], exist_ok=True)\nwords = ' '.join(sys.argv)\n"
                       "seconds = (2, 1) if 'controller=on' in words else (4, 1) if 'cache_bytes=61M' in words else (2, 4)\n"
                       f"for stage in () if '--prepare' in words else (0, 1):\n    print(json.dumps(dict(stage=stage, seconds=seconds[stage], "
                       f"**dict.fromkeys({keys!r}, 1))))\n")
        os.chmod(program, 0o755)

    def test_wrong_bytes_are_reported(self):
        _, _, runs = self.run_suite(1)
        self.assertTrue(runs[1]["problem"].startswith("wrong bytes"), runs[1])


if __name__ == "__main__":
    SCRIPTS = sys.argv.pop(1)
    sys.path.insert(0, SCRIPTS)
    import bench_report
    import bench_verdicts
    unittest.main()
