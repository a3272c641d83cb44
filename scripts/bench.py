#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A fixed suite of benchmarks: runs varve's own commands, keeps what they print, and writes a report (bench_report.py).

  bench.py VARVE --dir DIR            the suite, in DIR, which must be empty or absent; under 20 minutes
  bench.py VARVE --dir DIR --quick    a small one of 3 minutes, to see that it works
  bench.py --report                   the page anew, from the JSON lines that are there
  bench.py --readme                   the table of README.md, from the same

Exit code 0: all was measured, and every byte was right, whatever the targets say; 1: some run failed; 2: wrong usage.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import bench_report
from bench_machine import machine_facts, utc_now

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
ENGINES = "varve,varve-threads,raw,file,file-threads,rocksdb,lmdb,hashlog"
NOISY = ("varve", "varve-threads", "raw", "hashlog")  # fast enough for a second's disturbance to show: measured more than once
MANY_FILES = ("file", "file-threads")  # removed at the very end, since that slows down later ones: docs/benchmarks.md says why
INDEX_CACHE = "block_cache_bytes=512M"  # holds the whole index of 10 million pages
RESERVE_BYTES = 8 * GIB  # to leave free on the disk
MESSAGE_CHARACTERS_MAX = 500
RUN_SECONDS_MIN = 30  # for a run that began just before time was up
SIZES = {"full": (16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB), "quick": (64 * KIB, MIB)}
INDEX_PAGES = {"full": (100_000, 1_000_000, 10_000_000), "quick": (100_000, 1_000_000)}
STORE_GB_SMALL = {"full": 2, "quick": 1}
ABLATIONS = {  # sizes of ablation_bench, and what its stores need on the disk
    "full": {"order": ([], 2 * GIB), "locator": ([], GIB), "values": ([], 8 * GIB), "hashlog": ([], 8 * GIB)},
    "quick": {"order": (["--pages", 200_000, "--bytes", "128M"], GIB), "locator": (["--pages", 100_000, "--lookups", 40_000], GIB),
              "values": (["--bytes", "64M"], 4 * GIB), "hashlog": (["--small-pages", 200_000, "--large-pages", 0, "--bytes", "64M"],
                                                                    4 * GIB)}}
# Prompt tokens, requests, scale, tokens of GPU and host memory: a few requests' prompts fit, so that the storage is asked.
WORKLOADS = {"full": ((4096, 80, 16, 16384, 32768), (16384, 80, 32, 65536, 131072), (65536, 60, 64, 262144, 524288)),
             "quick": ((4096, 40, 32, 16384, 32768),)}
MODELS = {"full": (("glm-4-9b", "h200", 1), ("llama-3-8b", "h100", 2)),  # the last: times the scale, for larger pages
          "quick": (("glm-4-9b", "h200", 1),)}


def throughput_entries(args):
    """All engines once at each page size, then the fast ones again: the report takes medians."""
    for turn in range(args.rounds):
        engines = [name for name in args.engines if turn == 0 or name in NOISY]
        for size in SIZES[args.suite]:
            pages = max(args.bytes // size, 1)
            yield {"section": "throughput", "label": f"pages of {bench_report.size_text(size)}", "kind": "bench",
                   "engines": engines, "needs": args.bytes * len(engines) * 5 // 4, "directory": f"{size}-{turn}",
                   "arguments": ["--page-bytes", size, "--pages", pages, "--batch", 128]}


def size_entries(args):
    """The index alone, by number of pages; then whole stores, the small one again behind the large one."""
    for pages in INDEX_PAGES[args.suite]:
        yield {"section": "size", "label": f"index of {pages:,} pages", "kind": "bench", "engines": ["varve"],
               "needs": pages * 100, "directory": f"index-{pages}",
               "arguments": ["--page-bytes", 0, "--pages", pages, "--batch", 2000, "--set", INDEX_CACHE]}
    small = STORE_GB_SMALL[args.suite]
    for turn, gigabytes in enumerate((small, args.large_gb, small)):
        yield {"section": "size", "label": f"store of {gigabytes} GB", "kind": "bench", "engines": ["varve", "raw"],
               "needs": gigabytes * 10 ** 9 * 9 // 8, "directory": f"store-{turn}",
               "arguments": ["--page-bytes", 64 * KIB, "--pages", gigabytes * 10 ** 9 // (64 * KIB), "--batch", 128]}


def serving_entries(args):
    """An engine a run, since one that fails would take the others with it."""
    for tokens, requests, scale, gpu_tokens, host_tokens in WORKLOADS[args.suite]:
        trace = os.path.join(args.output, f"stages-{tokens}.jsonl")
        yield {"section": "serving", "label": f"trace of {tokens} tokens", "kind": "trace",
               "arguments": ["stages", "--prompt-tokens", tokens, "-n", requests, "-o", trace]}
        for model, gpu, factor in MODELS[args.suite]:
            for engine in ["none"] + [name for name in args.engines if name not in ("raw", "varve-threads")]:
                yield {"section": "serving", "label": f"{tokens} tokens, {model} on {gpu}", "kind": "serve",
                       "engines": [engine], "needs": 6 * GIB, "directory": f"serve-{tokens}-{model}", "trace": trace,
                       "arguments": ["--plan", "both", "--model", model, "--gpu", gpu, "--scale", scale * factor,
                                     "--asap", 1, "--gpu-tokens", gpu_tokens, "--host-tokens", host_tokens]}


def ablation_entries(args):
    """Parts of the design against what stands for them elsewhere."""
    for name, (sizes, needs) in ABLATIONS[args.suite].items():
        yield {"section": "ablations", "label": f"ablation: {name}", "kind": "ablation", "needs": needs,
               "directory": f"ablation-{name}", "arguments": ["--only", name, *sizes]}
    yield {"section": "ablations", "label": "ablation: controller", "kind": "shift", "needs": 30 * GIB if args.suite == "full" else GIB,
           "directory": "shift", "arguments": [] if args.suite == "full" else ["--quick"]}


SECTIONS = {"throughput": throughput_entries, "size": size_entries, "ablations": ablation_entries, "serving": serving_entries}


def command_of(varve, entry, engines, data):
    """The words of a run, and the directory it is given, if any."""
    words = [str(word) for word in entry["arguments"]]
    if entry["kind"] == "trace":
        return [varve, "trace", *words], None
    directory = os.path.join(data, entry["directory"])
    if entry["kind"] == "shift":
        return [sys.executable, os.path.join(ROOT, "scripts", "bench_shift.py"),
                os.path.join(os.path.dirname(varve), "bench", "shift_bench"), directory, *words], directory
    if entry["kind"] == "ablation":
        return [os.path.join(os.path.dirname(varve), "bench", "ablation_bench"), directory, *words, "--json"], directory
    if entry["kind"] == "serve":
        return [varve, "replay", "--serve", entry["trace"], directory, "--engines", engines[0], *words, "--json"], directory
    keep = ["--keep"] if any(name in MANY_FILES for name in engines) else []
    return [varve, "bench", directory, *words, "--engines", ",".join(engines), *keep, "--json"], directory


def execute(words, seconds):
    """(exit code, standard output, standard error); code 124 when it took too long. Ends its children, too."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
        try:
            out, err = child.communicate(timeout=seconds)
            return child.returncode, out, err
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            out, _ = child.communicate()
            return 124, out, f"ended after {seconds:.0f} s: out of time"
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise


def parse_rows(text):
    """The objects of the lines; the last may be cut off where a run was ended."""
    rows = []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def engines_left(engines, rows):
    """(the engine that a bench failed at, those after it): of some it has all phases, the others had no turn."""
    done = {row["engine"] for row in rows if "missing" in row or row.get("phase") in ("verify", "raw_read")}
    order = sorted(engines, key=lambda name: name != "raw")  # raw is first in any case
    left = [name for name in order if name not in done]
    return (left[0], left[1:]) if left else (None, [])


class Suite:
    def __init__(self, args):
        self.args = args
        self.began = time.monotonic()
        self.deadline = self.began + 60 * args.minutes
        self.failed = False
        self.next_run = 1 + max((run["run"] for run in bench_report.read_lines(args.output, "runs")), default=0)

    def keep(self, name, rows):
        with open(os.path.join(self.args.output, f"{name}.jsonl"), "a", encoding="utf-8") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in rows)

    def record(self, entry, words, outcome, rows=()):
        run = {"run": self.next_run, "section": entry["section"], "label": entry["label"], "command": shlex.join(words),
               **outcome}
        self.keep("runs", [run])
        self.keep(entry["section"], [{"run": self.next_run, "label": entry["label"], **row} for row in rows])
        self.next_run += 1
        if outcome.get("problem"):
            self.failed = True
            print(f"         {outcome['problem']}", file=sys.stderr)

    def make_room(self, needed):
        """Remove the stores that were kept so far, where the next ones would not fit beside them."""
        if shutil.disk_usage(self.args.dir).free < needed + RESERVE_BYTES:
            for name in os.listdir(self.args.dir):
                shutil.rmtree(os.path.join(self.args.dir, name), ignore_errors=True)
        return shutil.disk_usage(self.args.dir).free >= needed

    def run_once(self, entry, engines):
        """One command; returns the engines that are still to be run because one before them failed."""
        words, directory = command_of(self.args.varve, entry, engines, self.args.dir)
        left_seconds = self.deadline - time.monotonic()
        outcome = {"began": utc_now(), "seconds": 0.0, "code": None}
        if left_seconds <= 0:
            self.record(entry, words, {**outcome, "problem": "not run: out of time"})
            return []
        if directory is not None and not self.make_room(entry["needs"]):
            self.record(entry, words, {**outcome, "problem": "not run: the disk is too full"})
            return []
        began = time.monotonic()
        code, out, err = execute(words, max(left_seconds, RUN_SECONDS_MIN))
        rows = parse_rows(out) if entry["kind"] != "trace" else []
        outcome.update(seconds=round(time.monotonic() - began, 2), code=code, messages=err.strip()[-MESSAGE_CHARACTERS_MAX:])
        failed, left = None, []
        if code == 1:
            outcome["problem"] = "wrong bytes, or pages missing: " + outcome["messages"]
        elif code != 0 and "left out of this build" in err:  # named in the report, and no failure
            rows.append({"engine": engines[0], "missing": outcome["messages"]})
        elif code != 0:
            failed, left = engines_left(engines, rows) if entry["kind"] == "bench" else (entry.get("engines"), [])
            outcome["problem"] = f"failed, exit code {code}, at {failed}: {outcome['messages']}"
        self.record(entry, words, outcome, rows)
        if code not in (0, 1) and directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        return left

    def run(self, entries):
        for index, entry in enumerate(entries):
            print(f"[{index + 1}/{len(entries)}] {time.monotonic() - self.began:5.0f} s  {entry['section']}: {entry['label']} "
                  f"{','.join(entry.get('engines', []))}", file=sys.stderr, flush=True)
            engines = entry.get("engines", [])
            left = self.run_once(entry, engines)
            while left:
                left = self.run_once(entry, left)


def forget(output, sections):
    """Leave only what is there of the other sections."""
    runs = [run for run in bench_report.read_lines(output, "runs") if run["section"] not in sections]
    with open(os.path.join(output, "runs.jsonl"), "w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(run) + "\n" for run in runs)
    for section in sections:
        with open(os.path.join(output, f"{section}.jsonl"), "w", encoding="utf-8"):
            pass


def suite_name(args):
    """What the report will be of: with --only, a quick one stays quick."""
    try:
        with open(os.path.join(args.output, "facts.json"), encoding="utf-8") as file:
            before = json.load(file)["suite"]
    except FileNotFoundError:
        before = args.suite
    return "quick" if args.only and before == "quick" else args.suite


def run_suite(args):
    made = not os.path.isdir(args.dir)
    os.makedirs(args.dir, exist_ok=True)
    os.makedirs(args.output, exist_ok=True)
    if os.listdir(args.dir):
        print(f"bench.py: {args.dir} is not empty: name an empty or a new directory", file=sys.stderr)
        return 2
    forget(args.output, args.only or SECTIONS)
    facts = {"suite": suite_name(args), **machine_facts(args.varve, args.dir, ROOT)}
    suite = Suite(args)
    try:
        suite.run([entry for section in args.only or SECTIONS for entry in SECTIONS[section](args)])
    finally:
        print("removing the stores", file=sys.stderr, flush=True)
        for name in os.listdir(args.dir):
            shutil.rmtree(os.path.join(args.dir, name), ignore_errors=True)
        if made:
            os.rmdir(args.dir)
        facts["seconds"] = round(time.monotonic() - suite.began)
        with open(os.path.join(args.output, "facts.json"), "w", encoding="utf-8") as file:
            json.dump(facts, file, indent=1)
    return 1 if suite.failed else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("varve", nargs="?", help="the command")
    parser.add_argument("--dir", help="where the stores are made, on the disk to be measured")
    parser.add_argument("--output", default=os.path.join("bench", "report"), help="of the report (bench/report)")
    parser.add_argument("--quick", dest="suite", action="store_const", const="quick", default="full")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; the others stay as they were")
    parser.add_argument("--engines", default=ENGINES, help=f"names, with commas between ({ENGINES})")
    parser.add_argument("--bytes", type=int, help="of a store, for throughput (1 GiB; quick: 256 MiB)")
    parser.add_argument("--large-gb", type=int, help="the large one of the two sizes of store (12; quick: 2)")
    parser.add_argument("--rounds", type=int, help="of throughput (5; quick: 1)")
    parser.add_argument("--minutes", type=float, help="after which nothing more is begun (19; quick: 5)")
    parser.add_argument("--report", action="store_true", help="write the page again")
    parser.add_argument("--readme", action="store_true", help="write the table of README.md")
    args = parser.parse_args()
    if not args.report and not args.readme and (args.varve is None or args.dir is None):
        parser.error("VARVE and --dir are needed")
    args.engines = [name for name in args.engines.split(",") if name]
    for name, full, quick in (("bytes", GIB, 256 * MIB), ("large_gb", 12, 2), ("rounds", 5, 1), ("minutes", 19, 5)):
        if getattr(args, name) is None:
            setattr(args, name, full if args.suite == "full" else quick)
    return args


def main():
    args = parse_arguments()
    if args.readme:
        return bench_report.write_readme(args.output, os.path.join(ROOT, "README.md"))
    code = 0 if args.report else run_suite(args)
    return code if code == 2 else max(code, bench_report.write_page(args.output))


if __name__ == "__main__":
    sys.exit(main())
