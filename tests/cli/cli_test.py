#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The varve command, run as its users run it. Usage: cli_test.py path/to/varve [unittest options]

Each test has a temporary directory of its own. What must hold: exit codes (0 fine, 1 a problem was found, 2 wrong usage
or input, 3 the store failed), messages that say what to do, JSON keys that are promised, and no wrong byte.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

VARVE = ""
COMMANDS = ["trace", "replay", "bench", "serve", "stat", "tune", "check", "ls", "dump", "options"]
REPLAY_KEYS = """trace requests pages_probed pages_hit pages_put hit_rate wrong_bytes get_gb_per_s put_gb_per_s
    probe_us_p50 probe_us_p99 get_us_p50 get_us_p99 put_us_p50 put_us_p99 disk_bytes_max capacity_bytes
    write_amplification""".split()
BENCH_KEYS = "engine phase page_bytes pages batch gb_per_s us_per_page core_s_per_gb".split()
SERVE_KEYS = """engine model gpu plan policy trace ttft_mean_ms ttft_p50_ms ttft_p90_ms ttft_p99_ms hit_gpu hit_host
    hit_resident hit_returned hit_used requests prompt_tokens computed_tokens recomputed_tokens bytes_read bytes_written
    wrong_bytes pages_failed read_gb_per_s write_gb_per_s gpu_busy makespan_s page_tokens page_bytes scale
    seconds""".split()
MIB = 1 << 20


def varve(*args, stdin=None):
    """Run the command; returns exit code, standard output, standard error."""
    done = subprocess.run([VARVE, *map(str, args)], input=stdin, capture_output=True, text=True, timeout=240,
                          check=False)
    return done.returncode, done.stdout, done.stderr


class CommandTest(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix="varve_cli_")
        self.addCleanup(holder.cleanup)
        self.dir = holder.name

    def path(self, name):
        return os.path.join(self.dir, name)

    def good(self, *args, stdin=None):
        code, out, err = varve(*args, stdin=stdin)
        self.assertEqual(code, 0, f"varve {args}: {err}")
        return out

    def bad(self, expected_code, expected_text, *args, stdin=None):
        code, out, err = varve(*args, stdin=stdin)
        self.assertEqual(code, expected_code, f"varve {args}: {out}{err}")
        self.assertIn(expected_text, err, f"varve {args}")
        self.assertTrue(err.startswith("varve: "), err)

    def make_trace(self, kind="chat", **options):
        trace = self.path(f"{kind}.jsonl")
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        self.good("trace", kind, "-o", trace, *words)
        return trace


class HelpTest(CommandTest):
    def test_help_of_each_command(self):
        text = self.good("--help")
        for command in COMMANDS:
            self.assertIn(f"\n  {command} ", text)
            for flag in ("--help", "-h"):
                own = self.good(command, flag)
                self.assertIn(f"varve {command}", own)
                self.assertIn("Examples:", own)

    def test_version(self):
        self.assertRegex(self.good("--version"), r"^varve \d+\.\d+\.\d+\n$")

    def test_options_in_text_and_json(self):
        rows = [json.loads(line) for line in self.good("options", "--json").splitlines()]
        text = self.good("options")
        self.assertIn("capacity", [row["name"] for row in rows])
        for row in rows:
            self.assertIn(row["name"], text)
            self.assertIn(row["help"], text)

    def test_full_standard_output(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([VARVE, "trace", "chat"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, 3)
        self.assertIn("cannot write", done.stderr)


class BadUsageTest(CommandTest):
    def test_wrong_words(self):
        here = self.dir
        for text, args in (
            ("which command", []),
            ("did you mean 'varve replay'", ["reply"]),
            ("--help", ["frobnicate"]),
            ("did you mean '--page-bytes'", ["replay", "x", "--page-byte-s", "1"]),
            ("unknown option '-z'", ["replay", "x", "-z"]),
            ("needs a value", ["replay", "x", "--dir"]),
            ("missing", ["replay"]),
            ("one word too many", ["stat", here, "more"]),
            ("--page-bytes wants a size", ["replay", "x", "--page-bytes", "12X"]),
            ("--page-bytes wants a size", ["replay", "x", "--page-bytes", "65M"]),
            ("--page-bytes wants a size", ["replay", "x", "--page-bytes", "-1"]),
            ("--page-bytes wants a size", ["replay", "x", "--page-bytes", "99999999999999999999"]),
            ("--batch wants a number from 1 to 128", ["replay", "x", "--batch", "129"]),
            ("--limit wants a number", ["replay", "x", "--limit", "1K"]),
            ("--dir", ["replay", "/dev/null"]),
            ("cannot open the trace", ["replay", self.path("absent"), "--dir", self.path("kv")]),
            ("name=value", ["replay", "x", "--set", "capacity"]),
            ("capacity", ["replay", "x", "--set", "capacty=1G"]),
            ("varve: ", ["replay", "x", "--capacity", "lots"]),
            ("did you mean 'chat'", ["trace", "chta"]),
            ("chat, agent, docqa, stages", ["trace", "nothing-like-it"]),
            ("--sharing wants a number from 0 to 1", ["trace", "chat", "--sharing", "1.5"]),
            ("--sharing wants a number from 0 to 1", ["trace", "chat", "--sharing", "nan"]),
            ("--requests wants a number", ["trace", "chat", "--requests", "0"]),
            ("--rate must be above 0", ["trace", "chat", "--rate", "0"]),
            ("not both", ["stat", here, "--json", "--prometheus"]),
            ("one of", ["ls", here, "--pages", "--extents"]),
        ):
            with self.subTest(args=args):
                self.bad(2, text, *args)

    def test_no_store(self):
        with open(self.path("note.txt"), "w", encoding="ascii") as note:
            note.write("mine")
        for command in ("stat", "ls", "check"):
            self.bad(3, self.dir, command, self.dir)
            self.bad(3, "absent", command, self.path("absent"))
        self.assertEqual(os.listdir(self.dir), ["note.txt"])


class TraceTest(CommandTest):
    def test_same_seed_same_bytes(self):
        for kind in ("chat", "agent", "docqa", "stages"):
            with self.subTest(kind=kind):
                first = self.good("trace", kind, "--requests", 50)
                self.assertEqual(first, self.good("trace", kind, "--requests", 50, "--seed", 1))
                self.assertNotEqual(first, self.good("trace", kind, "--requests", 50, "--seed", 2))
                self.good("trace", kind, "--requests", 50, "-o", self.path("file"))
                with open(self.path("file"), encoding="ascii") as file:
                    self.assertEqual(first, file.read())
                self.assertEqual(len(first.splitlines()), 50)

    def test_keys_and_blocks(self):
        for line in self.good("trace", "stages", "--requests", 20, "--prompt-tokens", 32768, "--block-size",
                              64).splitlines():
            request = json.loads(line)
            self.assertEqual(request["input_length"], 32768)
            self.assertEqual(request["block_size"], 64)
            self.assertEqual(len(request["hash_ids"]), 512)
            self.assertIn(request["stage"], range(1, 11))

    def test_unwritable_output(self):
        self.bad(3, "cannot write", "trace", "chat", "-o", self.path("no/such/dir"))


class ReplayTest(CommandTest):
    def replay(self, trace, *args, stdin=None):
        out = self.good("replay", trace, "--dir", self.path("kv"), "--json", *args, stdin=stdin)
        self.assertEqual(len(out.splitlines()), 1)
        return json.loads(out)

    def expected(self, trace):
        """Pages asked for, and pages that a cache without limits serves."""
        seen, pages, hits = set(), 0, 0
        with open(trace, encoding="ascii") as lines:
            for line in lines:
                ids = json.loads(line)["hash_ids"]
                pages += len(ids)
                hits += len([i for i in ids if i in seen])
                seen.update(ids)
        return pages, hits

    def test_all_fits(self):
        trace = self.make_trace("agent", requests=60)
        pages, hits = self.expected(trace)
        result = self.replay(trace, "--page-bytes", "8K", "--capacity", "256M")
        for key in REPLAY_KEYS:
            self.assertIn(key, result)
        self.assertEqual(result["requests"], 60)
        self.assertEqual(result["pages_probed"], pages)
        self.assertEqual(result["pages_hit"], hits)
        self.assertEqual(result["pages_put"], pages - hits)
        self.assertAlmostEqual(result["hit_rate"], hits / pages, places=4)
        self.assertEqual(result["wrong_bytes"], 0)
        self.assertEqual(result["capacity_bytes"], 256 * MIB)
        self.assertGreater(result["write_amplification"], 1.0)
        self.assertGreaterEqual(result["disk_bytes_max"], (pages - hits) * 8192)
        again = self.replay(trace, "--page-bytes", "8K", "--capacity", "256M")
        self.assertEqual(again["pages_hit"], pages)
        self.assertEqual(again["pages_put"], 0)
        self.assertEqual(again["wrong_bytes"], 0)

    def test_small_capacity(self):
        for threads, engine in ((1, "threads"), (4, "auto")):
            with self.subTest(threads=threads, engine=engine):
                trace = self.make_trace("chat", requests=400, users=8)
                result = self.replay(trace, "--page-bytes", "64K", "--capacity", "24M", "--threads", threads, "--set",
                                     f"io_engine={engine}")
                self.assertEqual(result["wrong_bytes"], 0)
                self.assertEqual(result["capacity_bytes"], 24 * MIB)
                self.assertLessEqual(result["disk_bytes_max"], 24 * MIB)
                self.assertGreater(result["pages_put"] * 65536, 24 * MIB)
                self.assertGreater(result["pages_hit"], 0)

    def test_odd_page_sizes(self):
        trace = self.make_trace("chat", requests=60)
        pages, hits = self.expected(trace)
        for size in (0, 1, 511, 1000, 4097):
            with self.subTest(size=size):
                result = self.replay(trace, "--page-bytes", size, "--capacity", "64M", "--batch", 7)
                self.assertEqual((result["pages_probed"], result["pages_hit"]), (pages, hits))
                self.assertEqual(result["wrong_bytes"], 0)

    def test_stdin_limit_and_text(self):
        trace = self.good("trace", "chat", "--requests", 30)
        result = self.replay("-", "--page-bytes", "4K", "--limit", 10, "--no-verify", stdin=trace)
        self.assertEqual(result["requests"], 10)
        text = self.good("replay", "-", "--dir", self.path("kv"), "--page-bytes", "4K", "--no-get", "--sync",
                         "--progress", stdin=trace)
        for words in ("hit rate", "wrong bytes", "write amplification", "pages put"):
            self.assertIn(words, text)

    def test_corrupt_trace(self):
        trace = self.make_trace("chat", requests=5)
        with open(trace, "a", encoding="ascii") as file:
            file.write('{"timestamp": 5, "hash_ids": [1, }\n')
        self.bad(2, "chat.jsonl:6: not JSON", "replay", trace, "--dir", self.path("kv"), "--page-bytes", "4K")

    def test_wrong_bytes_are_found(self):
        trace = self.make_trace("chat", requests=20)
        self.replay(trace, "--page-bytes", "4K", "--namespace", "same")
        # The same ids with another content: pages of another size, asked for with buffers that are larger.
        self.bad(1, "wrong bytes", "replay", trace, "--dir", self.path("kv"), "--page-bytes", "8K", "--namespace",
                 "same")

    def test_acknowledged_pages_survive_kill(self):
        trace = self.make_trace("agent", requests=3000)
        acks, kv = self.path("acks"), self.path("kv")
        args = ["--dir", kv, "--page-bytes", "16K", "--capacity", "4G"]
        with subprocess.Popen([VARVE, "replay", trace, *args, "--ack-file", acks], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as child:
            end = time.monotonic() + 60
            while (not os.path.exists(acks) or os.path.getsize(acks) < 2000) and time.monotonic() < end:
                self.assertIsNone(child.poll(), "the replay ended too early")
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
        with open(acks, encoding="ascii") as file:
            pages = sum(int(line.split()[2]) for line in file)
        result = json.loads(self.good("replay", trace, *args, "--verify-acks", acks, "--json"))
        self.assertEqual(result["pages_acknowledged"], pages)
        self.assertEqual((result["pages_missing"], result["wrong_pages"]), (0, 0))
        self.good("check", "--deep", kv)

    def test_missing_acknowledged_pages_are_found(self):
        trace = self.make_trace("chat", requests=10)
        self.replay(trace, "--page-bytes", "4K", "--limit", 5)
        acks = self.path("acks")
        with open(trace, encoding="ascii") as lines:
            last = len(json.loads(lines.readlines()[9])["hash_ids"]) - 1  # a page of its own of a request not played
        for text, code, message in ((f"9 {last} 1\n", 1, "missing"), ("9 0 1000\n", 2, "another trace"),
                                    ("99 0 1\n", 2, "another trace"), ("9 0 x\n", 2, "three numbers")):
            with open(acks, "w", encoding="ascii") as file:
                file.write(text)
            self.bad(code, message, "replay", trace, "--dir", self.path("kv"), "--page-bytes", "4K", "--verify-acks",
                     acks)
        with open(acks, "w", encoding="ascii") as file:
            file.write("0 0 1\n9 0")  # a last line without its newline does not count
        self.good("replay", trace, "--dir", self.path("kv"), "--page-bytes", "4K", "--verify-acks", acks)


class InspectTest(CommandTest):
    def setUp(self):
        super().setUp()
        self.trace = self.make_trace("chat", requests=40)
        self.kv = self.path("kv")
        self.result = json.loads(
            self.good("replay", self.trace, "--dir", self.kv, "--page-bytes", "4K", "--capacity", "64M", "--json"))

    def rows(self, *args):
        return [json.loads(line) for line in self.good("ls", self.kv, "--json", *args).splitlines()]

    def test_ls(self):
        put = self.result["pages_put"]
        names = self.rows()
        self.assertEqual([(row["namespace"], row["pages"], row["bytes"]) for row in names],
                         [("replay/bf16/4096", put, put * 4096)])
        self.assertEqual(sum(row["pages"] for row in self.rows("--branches")), put)
        self.assertEqual(sum(row["pages"] for row in self.rows("--extents")), put)
        pages = self.rows("--pages", "--namespace", "replay/bf16/4096")
        self.assertEqual(len(pages), put)
        self.assertEqual(len({row["id_prefix"] for row in pages}), put)
        self.assertEqual(len(self.rows("--pages", "--limit", 3)), 3)
        for kind in ("--namespaces", "--branches", "--extents", "--pages"):
            self.assertIn("replay/bf16/4096", self.good("ls", self.kv, kind))
        self.bad(2, "no namespace 'other'", "ls", self.kv, "--namespace", "other")

    def test_stat(self):
        text = self.good("stat", self.kv)
        prometheus = self.good("stat", self.kv, "--prometheus")
        stats = json.loads(self.good("stat", self.kv, "--json"))
        self.assertGreater(stats["disk_bytes"], self.result["pages_put"] * 4096)
        self.assertIsInstance(stats.pop("decisions"), list)
        for name in stats:
            self.assertRegex(text, rf"(?m)^{name} ")
            self.assertRegex(prometheus, rf"(?m)^varve_{name} \d+$")
            self.assertRegex(prometheus, rf"(?m)^# TYPE varve_{name} (gauge|counter)$")

    def test_decisions(self):
        control = os.path.join(self.kv, "CONTROL")
        head = "# Decisions of the controller of the index.\n"
        lines = ["2026-01-02T03:04:05Z      1.0 s  switch T=8 -> T=4", "2026-01-02T03:04:06Z      2.0 s  wake"]
        with open(control, "w", encoding="ascii") as file:
            file.write(head + "".join(f"{line}\n" for line in lines))
        self.assertTrue(self.good("stat", self.kv).endswith(
            "\ndecisions of the controller, the last one last:\n" + "".join(f"{line}\n" for line in lines)))
        self.assertEqual(json.loads(self.good("stat", self.kv, "--json"))["decisions"], lines)
        self.assertNotIn("decisions", self.good("stat", self.kv, "--prometheus"))
        for damage in ("nonsense\n", head + "x" * 100000, head[1:] + "line\n", ""):
            with open(control, "w", encoding="ascii") as file:
                file.write(damage)
            self.assertEqual(json.loads(self.good("stat", self.kv, "--json"))["decisions"], [])
            self.good("check", self.kv)
        with open(control, "w", encoding="ascii") as file:
            file.write(head + "an escape \x1b[2J\n")
        self.assertEqual(json.loads(self.good("stat", self.kv, "--json"))["decisions"], ["an escape ?[2J"])

    def tune(self, *args):
        return [json.loads(line) for line in self.good("tune", self.kv, "--json", *args).splitlines()]

    def test_tune(self):
        store, *rows = self.tune("--mix", "put=1000,walk=100,miss=5,pages=64,turns=4,payload=1e6", "--explain", "--top",
                                 "500")
        self.assertEqual([store[key] for key in ("put", "walk", "miss", "pages", "turns")], [1000, 100, 5, 64, 4])
        self.assertEqual([store["kind"], store["measured"], store["would_sleep"]], ["store", 0, 1])
        self.assertGreater(len(rows), 200)
        costs = [row["cost"] for row in rows]
        self.assertEqual(costs, sorted(costs))
        self.assertEqual([row["rank"] for row in rows], list(range(1, len(rows) + 1)))
        self.assertEqual((sum(row["current"] for row in rows), sum(row["choice"] for row in rows)), (1, 1))
        current = next(row for row in rows if row["current"])
        self.assertEqual((current["size_ratio"], current["runs_per_level"], current["percent_of_current"]), (8, 3, 100))
        for row in rows:
            parts = sum(row[f"cost_{part}"] for part in ("reads", "locators", "flushes", "merges"))
            self.assertAlmostEqual(parts, row["cost"], delta=1e-4 * row["cost"] + 1e-9)
            self.assertAlmostEqual(row["percent_of_current"], 100 * row["cost"] / current["cost"], delta=0.1)
        short = self.tune("--mix", "put=1000,payload=1e-9", "--explain", "--top", "2")
        self.assertEqual(short[0]["would_sleep"], 0)
        self.assertLessEqual(len(short), 5)
        own = self.tune("--mix", "walk=1")[0]  # as the branches of the store are
        branches = self.rows("--branches")
        self.assertAlmostEqual(own["pages"], sum(row["pages"] for row in branches) / len(branches), delta=0.01)
        self.assertGreaterEqual(own["turns"], 1)
        self.assertEqual(self.tune("--mix", "walk=1", "--measure", "0.1")[0]["measured"], 1)

    def test_tune_in_text(self):
        text = self.good("tune", self.kv, "--mix", "put=1000,walk=100,payload=1e6", "--explain", "--top", "3")
        self.assertIn("defaults, not measured (--measure)", text)
        self.assertIn("  current\n", text)
        self.assertIn("the controller would sleep", text)
        self.assertRegex(text, r"(?m)^choice: ")
        text = self.good("tune", self.kv, "--mix", "put=1000,walk=100,payload=1e-6")
        self.assertIn("the controller would be awake", text)
        self.assertIn("--measure tries this device", text)
        self.assertIn("measured here:", self.good("tune", self.kv, "--mix", "miss=1", "-e", "--measure", "0.1"))

    def test_tune_wrong_mix(self):
        for text, mix in (
            ("did you mean 'walk'", "wakl=1"),
            ("there are put, walk", "frobnicate=1"),
            ("NAME=VALUE", "put"),
            ("NAME=VALUE", "=5"),
            ("NAME=VALUE", ","),
            ("put wants a number", "put="),
            ("put wants a number", "put=1K"),
            ("put wants a number", "put=-1"),
            ("put wants a number", "put=nan"),
            ("turns are at least 1", "walk=1,turns=0.5"),
            ("no work", "pages=10"),
            ("no work", ""),
        ):
            self.bad(2, text, "tune", self.kv, "--mix", mix)
        self.bad(2, "for which work?", "tune", self.kv)
        self.bad(3, "does not exist", "tune", self.path("absent"), "--mix", "put=1")
        self.bad(2, "--measure", "tune", self.kv, "--mix", "put=1", "--measure", "601")

    @contextlib.contextmanager
    def in_use(self, *options):
        """Another process has the store open."""
        acks = self.path("acks")
        with subprocess.Popen([VARVE, "replay", "-", "--dir", self.kv, "--page-bytes", "4K", "--ack-file", acks, *options],
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as owner:
            owner.stdin.write(b'{"hash_ids": [123456789]}\n')
            owner.stdin.flush()
            end = time.monotonic() + 60
            while not (os.path.exists(acks) and os.path.getsize(acks)) and time.monotonic() < end:
                self.assertIsNone(owner.poll(), "the replay ended too early")
                time.sleep(0.01)
            yield
            owner.stdin.close()
            owner.wait(60)
        self.assertEqual(owner.returncode, 0)

    def test_locked(self):
        with self.in_use("--set", "share=off"):
            self.bad(3, "does not share it", "stat", self.kv, "--set", "peer_timeout_ms=50")
            self.published()

    def test_shared(self):
        with self.in_use():
            code, out, err = varve("stat", self.kv, "--json")
            self.assertEqual(code, 0)
            self.assertIn("the process that owns it", err)
            stats = json.loads(out)
            self.assertEqual(stats["owner"], 1)
            self.assertGreaterEqual(stats["peers"], 1)
            self.assertGreater(stats["put_calls"], 0)
            code, out, err = varve("check", self.kv, "--deep", "--json")
            self.assertEqual((code, json.loads(out)["problems"]), (0, 0))
            self.assertGreater(json.loads(out)["pages_verified"], 0)
            self.assertIn("the process that owns it", err)
            self.good("tune", self.kv, "--mix", "put=1000,walk=100,pages=20")
            apart = ["unshare", "--pid", "--fork"]  # where process ids say nothing, as in containers
            if subprocess.run([*apart, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                out = subprocess.run([*apart, VARVE, "stat", self.kv, "--json"], capture_output=True, check=True).stdout
                self.assertEqual(json.loads(out)["owner"], 1)
            self.assertGreater(len(self.good("ls", self.kv).splitlines()), 0)

    def test_serve(self):
        directory = self.path("served")
        with subprocess.Popen([VARVE, "serve", directory, "--capacity", "64M"], stdout=subprocess.PIPE) as server:
            self.assertEqual(server.stdout.readline().decode(), f"serving {directory}\n")
            with subprocess.Popen([VARVE, "serve", directory], stdout=subprocess.PIPE) as second:
                self.assertIn("waiting to take over", second.stdout.readline().decode())
                server.send_signal(signal.SIGTERM)
                self.assertEqual(server.wait(30), 0)
                self.assertEqual(second.stdout.readline().decode(), f"serving {directory}\n")
                second.send_signal(signal.SIGINT)
                self.assertEqual(second.wait(30), 0)
        self.good("check", directory, "--deep")

    def published(self):
        """What the owner of a locked store wrote beside it."""
        with open(self.kv + ".prom", "w", encoding="utf-8") as file:
            file.write('# HELP a_total Help.\na_total{model="x y"} 12\nnonsense\n\nb 0.5\nb nonsense\n ' + "x" * 5000)
        self.assertEqual(self.good("stat", self.kv + "//"), 'a_total{model="x y"} 12\nb 0.5\n')
        self.assertEqual(json.loads(self.good("stat", self.kv, "--json")), {'a_total{model="x y"}': 12, "b": 0.5})
        self.assertIn("# HELP a_total Help.\n", self.good("stat", self.kv, "--prometheus"))
        code, _, err = varve("stat", self.kv)
        self.assertRegex(err, r"The store is in use. What its process wrote \d+ s ago:")
        self.assertEqual(code, 0)


class PolicyTest(CommandTest):
    """Ageing and reclaim without data, beside ideal LRU and Belady's optimum."""

    KEYS = "trace capacity_pct policy hit_rate write_amplification orphan_rate".split()

    def rows(self, trace, capacities):
        out = self.good("replay", trace, "--policy-only", "--capacities", capacities, "--json")
        rows = [json.loads(line) for line in out.splitlines()]
        for row in rows:
            self.assertLessEqual(set(self.KEYS), set(row))
        return {(row["capacity_pct"], row["policy"]): row for row in rows}

    def test_small_trace_by_hand(self):
        """Two chains of two pages in three: LRU loses an end, Belady knows better."""
        trace = self.path("hand.jsonl")
        with open(trace, "w", encoding="utf-8") as file:
            for ids in ([1, 2], [3, 4], [1, 2], [3, 4]):
                file.write(json.dumps({"hash_ids": ids}) + "\n")
        rows = self.rows(trace, "3")
        self.assertEqual(rows[75, "lru"]["pages_hit"], 2)  # 1 in the third, 3 in the fourth
        self.assertEqual(rows[75, "belady"]["pages_hit"], 3)
        self.assertEqual(self.rows(trace, "100%")[100, "lru"]["pages_hit"], 4)
        self.assertEqual(self.rows(trace, "1%")[1, "belady"]["capacity_pages"], 1)

    def test_close_to_lru_at_every_capacity(self):
        rows = self.rows(self.make_trace("chat"), "1%,5%,10%,25%,50%")
        self.assertEqual(len(rows), 15)
        for percent in (1, 5, 10, 25, 50):
            varve, lru, belady = (rows[percent, name] for name in ("varve", "lru", "belady"))
            self.assertLessEqual(lru["hit_rate"], belady["hit_rate"])
            self.assertGreaterEqual(varve["hit_rate"], lru["hit_rate"] - 0.02, f"{percent} %")
            self.assertLessEqual(varve["write_amplification"], 1.2, f"{percent} %")
            self.assertEqual(varve["orphan_rate"], 0)

    def test_generated_traces(self):
        """Stores of some pages a segment and of one, where LRU's curve is steep and where it is flat."""
        cases = {
            "agent": {"requests": 2500, "users": 40},
            "chat": {"requests": 3000, "users": 150},
            "docqa": {"requests": 1500, "sharing": 0.9},
            "stages": {"requests": 1500},
        }
        for kind, options in cases.items():
            rows = self.rows(self.make_trace(kind, **options), "1%,5%,10%,25%,50%")
            for (percent, policy), row in rows.items():
                if policy == "varve":
                    where = f"{kind} at {percent} %"
                    self.assertGreaterEqual(row["hit_rate"], rows[percent, "lru"]["hit_rate"] - 0.02, where)
                    self.assertLessEqual(row["write_amplification"], 1.2, where)
                    self.assertEqual(row["orphan_rate"], 0, where)

    def test_better_than_lru_where_the_trace_allows_it(self):
        rows = self.rows(self.make_trace("docqa"), "5%,10%")
        for percent in (5, 10):
            self.assertGreater(rows[percent, "varve"]["hit_rate"], rows[percent, "lru"]["hit_rate"] + 0.03, f"{percent} %")

    def test_ranks_hit_as_one_store_of_whole_pages(self):
        for kind in ("agent", "chat", "stages"):
            trace = self.make_trace(kind)
            out = self.good("replay", trace, "--policy-only", "--ranks", "4", "--capacities", "5%,25%", "--json")
            rows = {(row["capacity_pct"], row["policy"]): row for row in map(json.loads, out.splitlines())}
            for percent in (5, 25):
                loss = rows[percent, "together"]["hit_rate"] - rows[percent, "ranks"]["hit_rate"]
                self.assertLess(loss, 0.002, f"{kind} at {percent} %")
        late = self.good("replay", trace, "--policy-only", "--ranks", "2", "--lag", "8", "--give-up", "100")
        self.assertIn("together", late)

    def test_table_and_errors(self):
        trace = self.make_trace("chat")
        self.assertIn("Belady", self.good("replay", trace, "--policy-only"))
        self.bad(2, "--capacities 'x'", "replay", trace, "--policy-only", "--capacities", "x")
        self.bad(2, "--capacities '5%,'", "replay", trace, "--policy-only", "--capacities", "5%,")
        self.bad(2, "cannot open the trace", "replay", "/nowhere", "--policy-only")


class ServeTest(CommandTest):
    """The serving simulation. What it computes is tested in tests/unit/serve_test.c; here: engines, files, output."""

    def serve(self, trace, *args):
        out = self.good("replay", "--serve", trace, self.path("stores"), "--json", *args)
        return [json.loads(line) for line in out.splitlines()]

    def stages(self, requests=60):
        return self.make_trace("stages", prompt_tokens=2048, requests=requests, block_size=64)

    def test_engines_and_plans(self):
        rows = self.serve(self.stages(), "--engines", "none,varve,hashlog,file", "--plan", "both", "--scale", "64",
                          "--asap", "1", "--gpu-tokens", "2048", "--host-tokens", "8192", "--gpu", "a30")
        self.assertEqual([(row["engine"], row["plan"]) for row in rows],
                         [("none", "off")] + [(name, plan) for name in ("varve", "hashlog", "file")
                                              for plan in ("off", "on")])
        for row in rows:
            with self.subTest(engine=row["engine"], plan=row["plan"]):
                self.assertEqual(list(row)[:len(SERVE_KEYS)], SERVE_KEYS)
                self.assertEqual(row["wrong_bytes"], 0)
                self.assertEqual(row["pages_failed"], 0)
                self.assertEqual(row["requests"], 60)
                self.assertEqual(row["page_bytes"], 40 * 1024 * 64 // 64)
                self.assertEqual([stage["stage"] for stage in row["stages"]], list(range(1, 11)))
                self.assertEqual(sum(stage["requests"] for stage in row["stages"]), 60)
                self.assertLessEqual(row["ttft_p50_ms"], row["ttft_p90_ms"])
                self.assertLessEqual(row["ttft_p90_ms"], row["ttft_p99_ms"])
                self.assertLessEqual(row["hit_used"], row["hit_returned"])
                self.assertLessEqual(row["hit_returned"], row["hit_resident"])
                hits = row["hit_gpu"] + row["hit_host"] + row["hit_used"]
                self.assertAlmostEqual(hits + row["computed_tokens"] / row["prompt_tokens"], 1, places=4)
        none, varve_row = rows[0], rows[1]
        self.assertEqual((none["bytes_read"], none["bytes_written"], none["hit_resident"]), (0, 0, 0))
        self.assertGreater(varve_row["bytes_read"], 0)
        self.assertGreater(varve_row["hit_used"], 0.05)
        self.assertLess(varve_row["computed_tokens"], none["computed_tokens"])
        self.assertEqual(os.listdir(self.path("stores")), [])

    def test_plan_with_a_slow_disk(self):
        # I/O counts 100,000 times: whatever this machine's disk does, recomputing is faster.
        none, plan = self.serve(self.stages(), "--engines", "none,varve", "--plan", "on", "--scale", "100000",
                                "--asap", "1", "--gpu-tokens", "0", "--host-tokens", "4096")
        self.assertLessEqual(plan["ttft_mean_ms"], 1.02 * none["ttft_mean_ms"])

    def test_no_disk_needed(self):
        trace = self.stages(20)
        first, second = (self.good("replay", "--serve", trace, "--engines", "none", "--json").split('"seconds"')[0]
                         for _ in range(2))
        self.assertEqual(first, second)
        self.assertEqual(json.loads(first.rstrip(", ") + "}")["plan"], "off")

    def test_table(self):
        out = self.good("replay", self.stages(20), "--serve", self.path("stores"), "--engine", "varve", "--scale", "64")
        self.assertIn("TTFT in ms", out)
        self.assertEqual([line.split()[:2] for line in out.splitlines()[-2:]], [["varve", "off"], ["varve", "on"]])

    def test_bad_usage(self):
        trace, stores = self.stages(5), self.path("stores")
        for text, args in (
            ("no engine 'nosuch'", [trace, stores, "--engines", "nosuch"]),
            ("no model 'gpt'", [trace, stores, "--model", "gpt"]),
            ("no GPU 'abacus'", [trace, stores, "--gpu", "abacus"]),
            ("no policy 'hope'", [trace, stores, "--policy", "hope"]),
            ("on, off or both", [trace, stores, "--plan", "maybe"]),
            ("say where", [trace]),
            ("--scale wants a number", [trace, stores, "--scale", "0"]),
            ("--speed must be above 0", [trace, stores, "--speed", "0"]),
            ("absent", [self.path("absent"), stores]),
            ("no requests", ["/dev/null", stores]),
        ):
            with self.subTest(args=args):
                self.bad(2, text, "replay", "--serve", *args)

    def test_directory_in_the_way(self):
        os.makedirs(self.path("stores/serve-varve"))
        with open(self.path("stores/serve-varve/mine"), "w", encoding="ascii") as mine:
            mine.write("mine")
        self.bad(2, "cannot make", "replay", "--serve", self.stages(5), self.path("stores"), "--engines", "varve",
                 "--scale", "64")
        self.assertTrue(os.path.exists(self.path("stores/serve-varve/mine")))


class BenchTest(CommandTest):
    def test_phases(self):
        work = self.path("bench")
        out = self.good("bench", work, "--page-bytes", "64K", "--pages", 300, "--batch", 128, "--chain", 200,
                        "--engines", "auto,threads", "--json")
        rows = [json.loads(line) for line in out.splitlines()]
        store = ["put", "open", "probe_cold", "probe", "probe_miss", "get", "verify"]
        self.assertEqual([row["phase"] for row in rows], ["raw_write", "raw_read"] + store + store)
        for row in rows:
            self.assertIn(row["engine"], ("raw",) if row["phase"].startswith("raw") else ("uring", "threads"))
            self.assertIn(row["io_engine"], ("uring", "threads"))
            for key in BENCH_KEYS:
                self.assertIn(key, row)
            self.assertEqual((row["page_bytes"], row["batch"]), (65536, 128))
            if row["phase"] in ("raw_write", "raw_read", "put", "get"):
                self.assertGreater(row["gb_per_s"], 0)
                self.assertEqual(row["pages"], 300)
            self.assertEqual(row.get("wrong_bytes", 0), 0)
            self.assertEqual(row.get("missing_pages", 0), 0)
        self.assertFalse(os.path.exists(work), "the bench leaves nothing")

    def test_peers(self):
        work = self.path("bench")
        peers = ["varve", "varve-threads", "file", "file-threads", "rocksdb", "lmdb", "hashlog"]
        code, out, err = varve("bench", work, "--page-bytes", "16K", "--pages", 500, "--batch", 64, "--chain", 200,
                               "--json", "--engines", ",".join(peers + ["raw"]))  # fmt: skip
        self.assertEqual(code, 0, err)
        rows = [json.loads(line) for line in out.splitlines()]
        missing = [row["engine"] for row in rows if "missing" in row]
        self.assertLessEqual(set(missing), {"rocksdb", "lmdb"})
        for engine in missing:
            self.assertRegex(err, f"{engine} was left out.* install lib{engine}-dev,")
        rows = [row for row in rows if "missing" not in row]
        self.assertEqual(list(dict.fromkeys(row["engine"] for row in rows)),
                         ["raw"] + [peer for peer in peers if peer not in missing])  # fmt: skip
        for row in rows:
            for key in BENCH_KEYS:
                self.assertIn(key, row)
            self.assertEqual("codec" in row, row["engine"].startswith("varve"))
            self.assertEqual("of_raw" in row, row["phase"] in ("put", "get"))
            self.assertEqual((row.get("wrong_bytes", 0), row.get("missing_pages", 0)), (0, 0), row)
            if row["engine"] == "varve-threads":
                self.assertEqual(row["io_engine"], "threads")
        self.assertEqual(sum(row["phase"] == "verify" for row in rows), len(peers) - len(missing))
        self.assertFalse(os.path.exists(work), "the bench leaves nothing, sub-directories included")

    def test_index_only(self):
        out = self.good("bench", self.path("bench"), "--page-bytes", 0, "--pages", 20000, "--batch", 2000)
        self.assertIn("bytes of index memory a page", out)
        self.assertNotIn("raw_write", out)

    def test_codecs(self):
        out = self.good("bench", self.path("bench"), "--page-bytes", "64K", "--pages", 64, "--batch", 32, "--no-raw",
                        "--content", "bf16", "--codecs", "off,on", "--json")  # fmt: skip
        puts = [row for row in map(json.loads, out.splitlines()) if row["phase"] == "put"]
        self.assertEqual([row["codec"] for row in puts], ["off", "on"])
        self.assertNotIn("codec_ratio", puts[0])
        self.assertGreater(puts[1]["codec_ratio"], 1.35)
        for row in map(json.loads, out.splitlines()):
            self.assertEqual(row.get("wrong_bytes", 0), 0)
        out = self.good("bench", self.path("bench"), "--pages", 16, "--no-raw", "--codecs", "on", "--json")
        self.assertNotIn("codec_ratio", out)
        self.bad(2, "--content", "bench", self.path("bench"), "--pages", 1, "--content", "poetry")
        self.bad(2, "codec", "bench", self.path("bench"), "--pages", 1, "--no-raw", "--codecs", "mp3")

    def test_keep_and_foreign_files(self):
        work = self.path("bench")
        args = ["bench", work, "--page-bytes", "4K", "--pages", 10, "--no-raw", "--keep"]
        self.good(*args)
        self.assertEqual(os.listdir(work), ["varve-bench-auto"])
        self.good("stat", os.path.join(work, "varve-bench-auto"))
        self.good(*args)  # its own leavings are no obstacle
        with open(os.path.join(work, "thesis.tex"), "w", encoding="ascii") as file:
            file.write("mine")
        self.bad(2, "thesis.tex", *args)
        self.assertEqual(sorted(os.listdir(work)), ["thesis.tex", "varve-bench-auto"])

    def test_bad_engine(self):
        self.bad(2, "'quantum'", "bench", self.path("bench"), "--pages", 1, "--no-raw", "--engines", "varve,quantum")
        self.assertFalse(os.path.exists(self.path("bench")), "names are looked at before anything is done")
        self.bad(2, "fewer --pages", "bench", self.path("bench"), "--page-bytes", "64M", "--pages", 100000000)


if __name__ == "__main__":
    VARVE = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
