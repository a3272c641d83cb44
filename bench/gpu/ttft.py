#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time to the first token with a stored prefix: recompute, a file a page, Varve, Varve with a plan.

    bench/gpu/ttft.py /mnt/nvme/ttft                       Llama-3-8B's shape on the GPU, prompts of 4k to 64k tokens
    bench/gpu/ttft.py /tmp/ttft --dry-run                  a tiny model on the CPU: does the script work here?

Of N tokens all but the last --suffix are stored. The weights are random: time and bytes are those of the real model.
Prints a JSON object a line as results come, a table at the end. The exit code is 1 when bytes or logits were wrong.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time
import traceback

import model as models
import torch
from stores import FileStore, Loader, VarveStore, forget, raw_read_gbs

START = time.monotonic()
GB = 1e9


def say(row):
    print(json.dumps(row), flush=True)


class OutOfTime(Exception):
    """The budget is spent; what was measured counts."""


class Bench:
    def __init__(self, options, varve):
        self.options, self.varve = options, varve
        self.device = torch.device("cpu" if options.dry_run else "cuda")
        self.shape = models.TINY if options.dry_run else models.LLAMA_8B
        self.model = models.build(self.shape, self.device, options.model, say)
        readers = VarveStore.readers if varve else FileStore.readers
        self.loader = Loader(self.shape, options.page_tokens, options.batch_pages, readers, self.device)
        self.rows, self.recomputes, self.failed = [], {}, False

    def left(self):
        return self.options.budget_seconds - (time.monotonic() - START)

    def finish(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def first_token(self, tokens, past=None):
        logits = self.model.prefill(tokens, past)[0]
        logits.argmax().item()  # waits for the device
        return logits

    def timed(self, tokens_count, way, run, check):
        """`run` --repeat times, and the median of what it took; `check` looks at the result of each."""
        results, parts = [], []
        for _ in range(self.options.repeat):
            if results and self.left() < 3 * max(results):
                break
            if self.left() < 0:
                raise OutOfTime(way)
            outcome = run()
            results.append(outcome.pop("seconds"))
            outcome.update(check(outcome))
            parts.append({key: value for key, value in outcome.items() if key != "logits"})
        middle = parts[sorted(range(len(results)), key=results.__getitem__)[len(results) // 2]]
        row = {"kind": "ttft", "tokens": tokens_count, "way": way}
        row["ttft_ms"] = round(statistics.median(results) * 1e3, 2)
        row["ttft_ms_all"] = [round(seconds * 1e3, 2) for seconds in results]
        row.update(middle)
        for key in ("kv_equal", "logits_equal"):
            if key in row:
                row[key] = all(part[key] for part in parts)
                self.failed |= not row[key]
        self.rows.append(row)
        say(row)
        return row["ttft_ms"] / 1e3

    def recompute(self, tokens):
        def run():
            self.finish()
            begin = time.perf_counter()
            logits = self.first_token(tokens)
            return {"seconds": time.perf_counter() - begin, "logits": logits, "bytes": 0}

        self.first_token(tokens)  # kernels are chosen and memory is taken
        seconds = self.timed(tokens.shape[1], "recompute", run, lambda _: {})
        self.recomputes[tokens.shape[1]] = seconds

    def load_and_prefill(self, store, ids, tokens, past, choose=None):
        """One way's time to the first token; `choose` gives the ids to load, and is within the time."""
        past.fill_(float("nan"))
        forget(store.directory)
        self.finish()
        begin = time.perf_counter()
        chosen, facts = (ids, {}) if choose is None else choose(ids)
        loaded = self.loader.load(store, chosen, past) if chosen else None
        self.loader.wait()
        usable = len(chosen) // 32 * self.options.page_tokens
        logits = self.first_token(tokens[:, usable:], past[:, :, :usable] if usable else None)
        outcome = {"seconds": time.perf_counter() - begin, "logits": logits, "pages": len(chosen) // 32, **facts}
        self.finish()
        if loaded:
            copy_s = self.loader.copy_seconds(loaded["marks"])
            outcome.update(bytes=loaded["bytes"], read_ms=round(loaded["read_s"] * 1e3, 2))
            outcome.update(read_gb_s=round(loaded["bytes"] / loaded["read_s"] / GB, 3))
            outcome.update(h2d_gb_s=round(loaded["bytes"] / max(copy_s, 1e-9) / GB, 2))
        return outcome

    def checker(self, original, past, expected):
        def check(outcome):
            usable = outcome["pages"] * self.options.page_tokens
            same = all(
                torch.equal(original[part, :, :usable].view(torch.int16), past[part, :, :usable].view(torch.int16))
                for part in range(original.shape[0])
            )
            difference = (outcome["logits"].float() - expected.float()).abs().max()
            found = {"kv_equal": same, "logits_max_diff": float(difference)}
            if usable == original.shape[2]:  # another split of the prompt rounds differently
                found["logits_equal"] = torch.equal(outcome["logits"], expected)
            return found

        return check

    def planner(self, store, suffix):
        """Chooses by Namespace.plan(), with the cost of a token as the recomputes of two sizes say."""
        (short, short_s), (long, long_s) = sorted(self.recomputes.items())[-2:]
        # T(n) = token * n + depth * n * n / 2, and both costs at least 0
        depth = 2 * (long_s / long - short_s / short) / (long - short)
        depth = min(max(0.0, depth), 2 * long_s / long**2)
        token = max(0.0, long_s / long - depth * long / 2)

        def choose(ids):
            plan = store.pages.plan(
                ids,
                page_tokens=self.options.page_tokens,
                token_us=token * 1e6,
                depth_us=depth * 1e6,
                tokens_after=suffix,
            )
            facts = {"plan_pages": plan.count, "plan_ttft_ms": round(plan.ttft_us / 1e3, 2)}
            facts.update(plan_all_ms=round(plan.all_us / 1e3, 2), plan_none_ms=round(plan.none_us / 1e3, 2))
            return ids[: 32 * plan.count], facts

        return choose

    def stored_way(self, name, store, ids, tokens, original, past, expected):
        """Write the pages, then read them back and prefill the rest."""
        size, count = len(ids) // 32 * self.loader.page_bytes, tokens.shape[1]
        begin = time.perf_counter()
        self.loader.save(store, ids, original)
        seconds = time.perf_counter() - begin
        speed = {"bytes": size, "seconds": round(seconds, 3), "gb_s": round(size / seconds / GB, 3)}
        say({"kind": "write", "tokens": count, "store": name, **speed})
        check = self.checker(original, past, expected)
        self.timed(count, name, lambda: self.load_and_prefill(store, ids, tokens, past), check)
        if name == "files":
            try:
                paths = [store.path(ids[at : at + 32]) for at in range(0, len(ids), 32)]
                forget(store.directory)
                say({"kind": "drive", "tokens": count, "direct_reads_gb_s": round(raw_read_gbs(paths), 3)})
            except OSError as problem:
                say({"kind": "note", "text": f"no direct reads of the files: {problem}"})
            return
        choose = self.planner(store, count - original.shape[2])
        self.timed(count, "varve-plan", lambda: self.load_and_prefill(store, ids, tokens, past, choose), check)
        say({"kind": "store", "tokens": count, **store.facts()})

    def open_store(self, name, size):
        directory = os.path.join(self.options.directory, name)
        if name == "files":
            return FileStore(directory, self.loader.page_bytes)
        capacity = max(256 << 20, size + size // 4 + (1 << 30) * (not self.options.dry_run))
        settings = {"capacity": capacity, **dict(item.split("=", 1) for item in self.options.set)}
        return VarveStore(self.varve, directory, self.loader.page_bytes, settings)

    def size(self, count):
        """All ways at one length of prompt."""
        page_tokens = self.options.page_tokens
        stored = (count - self.options.suffix) // page_tokens * page_tokens
        if stored <= 0:
            say({"kind": "skip", "tokens": count, "why": "no longer than --suffix and a page"})
            return
        generator = torch.Generator().manual_seed(count)
        tokens = torch.randint(0, self.shape.vocabulary, (1, count), generator=generator)
        chain = self.varve.chain if self.varve else plain_chain
        ids = chain(tokens[0, :stored].tolist(), page_tokens)
        tokens = tokens.to(self.device)
        if not self.recomputes:  # a plan needs two sizes
            self.recompute(tokens[:, : count // 2])
        self.recompute(tokens)
        original = self.model.past_of(self.model.prefill(tokens[:, :stored])[1])
        expected = self.first_token(tokens[:, stored:], original)
        past = torch.empty_like(original)
        names = [name for name in ("files", "varve") if name == "files" or self.varve]
        for name in names:
            size = len(ids) // 32 * self.loader.page_bytes
            free = shutil.disk_usage(self.options.directory).free
            if free < size * 1.3 + (2 << 30):
                say({"kind": "skip", "tokens": count, "way": name, "why": f"{free} bytes free for {size}"})
                continue
            store = self.open_store(name, size)
            try:
                self.stored_way(name, store, ids, tokens, original, past, expected)
            finally:
                store.close()

    def run(self):
        took, done = 0.0, 0
        for count in sorted(self.options.tokens):
            expected = took * count / done * 1.3 if done else 0
            if self.left() < max(expected, 1):
                why = f"{self.left():.0f} s are left and {expected:.0f} s needed"
                say({"kind": "skip", "tokens": count, "why": why})
                continue
            begin = time.monotonic()
            try:
                self.size(count)
            except OutOfTime as way:
                say({"kind": "skip", "tokens": count, "way": str(way), "why": "out of time"})
            except Exception as problem:  # whatever it is, what the other sizes say still counts
                say({"kind": "error", "tokens": count, "text": "".join(traceback.format_exception(problem))[-1500:]})
                self.failed = True
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            took, done = time.monotonic() - begin, count


def plain_chain(tokens, page_tokens):
    """Ids for --without-varve: that they name one prompt's pages is enough."""
    return b"".join(index.to_bytes(32, "big") for index in range(len(tokens) // page_tokens))


def import_varve(options):
    if options.without_varve:
        return None
    try:
        import varve
    except ImportError as problem:
        raise SystemExit(f"ttft: {problem}; pip install ./python, or name its folder in PYTHONPATH, or --without-varve")
    return varve


def print_table(rows):
    columns = ("tokens", "way", "ttft_ms", "pages", "bytes", "read_ms", "read_gb_s", "h2d_gb_s")
    columns += ("kv_equal", "logits_equal")
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row.get(column, "")) for column in columns) + " |")
    sys.stdout.flush()


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", help="made if absent; two directories in it are written, and removed")
    parser.add_argument("--tokens", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--suffix", type=int, default=512, help="tokens at the end that are never stored")
    parser.add_argument("--page-tokens", type=int, default=64)
    parser.add_argument("--batch-pages", type=int, default=16, help="pages a call, 128 at most")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--budget-seconds", type=float, default=540, help="the largest sizes are left out beyond")
    parser.add_argument("--model", choices=("auto", "transformers", "plain"), default="auto")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an option of the store")
    parser.add_argument("--without-varve", action="store_true")
    parser.add_argument("--dry-run", action="store_true", help="tiny model on the CPU")
    options = parser.parse_args()
    if not 1 <= options.batch_pages <= 128 or options.repeat < 1 or options.page_tokens < 1:
        parser.error("--batch-pages is 1 to 128, --repeat and --page-tokens at least 1")
    if options.tokens is None:
        options.tokens = [1024, 2048] if options.dry_run else [4096, 8192, 16384, 32768, 65536]
    if not options.dry_run and not torch.cuda.is_available():
        parser.error("no GPU that torch can use; --dry-run does without")
    return options


def main():
    options = parse()
    varve = import_varve(options)
    os.makedirs(options.directory, exist_ok=True)
    for name in ("files", "varve"):  # what a run that was killed left
        shutil.rmtree(os.path.join(options.directory, name), ignore_errors=True)
    name = "CPU" if options.dry_run else torch.cuda.get_device_name()
    free = shutil.disk_usage(options.directory).free
    say({"kind": "machine", "device": name, "torch": torch.__version__, "cpus": os.cpu_count(), "free_bytes": free})
    torch.manual_seed(1)
    with torch.inference_mode():
        bench = Bench(options, varve)
        bench.run()
    print_table(bench.rows)
    return 1 if bench.failed or not bench.rows else 0


if __name__ == "__main__":
    sys.exit(main())
