#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The test of the tests: plants known bugs in a copy of the tree, one at a time, and sees that a test catches each.

  mutants.py                    all of them; exit code 1 when one survived, 2 when the check itself could not be made
  mutants.py --list             name and bug of each; exit code 2 when one no longer applies to the sources
  mutants.py --only NAME,...    some of them (a shell pattern each)
  mutants.py --json             the result as JSON instead of as a table
  mutants.py --tests NAME,...   with some of the tests only (a shell pattern each)
  mutants.py --leave-out        go on without the tests that fail on the sources as they are

A bug is a table [NAME] of a .toml file beside this one: `bug` in words, `file`, `old` text, which occurs there exactly
once, and `new` text in its place. The tests are those that meson knows in the suites of BUILDS, in the order of the
time that they took on the sources as they are: a new test takes part by itself. Each bug is built into what the next
few tests need, until one of them fails, which is what catches it. Tests with several threads come once more at the
end, under TSan.

Invariant: the tree itself is never written to. Everything lies in build-mutants: the sources, the build, what the tests
that failed had to say (log/), and the result (report.md, report.json).
"""

import argparse
import dataclasses
import fnmatch
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

try:
    import tomllib
except ImportError:
    sys.exit(77)  # needs Python 3.11: the test that lists the bugs is skipped

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILDS = {  # name: options of meson, and the suites that are run in it
    "plain": (["-Doptimization=1", "-Ddebug=false"], {"unit", "fuzz", "sim", "api", "threads"}),
    "tsan": (["-Dbuildtype=debugoptimized", "-Db_sanitize=thread"], {"threads"}),
}
BUILT_AT_ONCE = 8  # tests whose programs are linked in one go
TEST_SKIPPED = 77
PATIENCE = 30  # seconds more than SLOWER times what a test takes: then it hangs
SLOWER = 8


class CannotCheck(Exception):
    """Nothing can be said about the tests: the tree, a mutant or the build is at fault."""


@dataclasses.dataclass
class Mutant:
    name: str
    bug: str
    file: str
    old: str
    new: str
    caught_by: str = ""
    seconds: float = 0

    def apply_to(self, text):
        if text.count(self.old) != 1:
            raise CannotCheck(f"{self.name}: its old text occurs {text.count(self.old)} times in {self.file}, not once")
        return text.replace(self.old, self.new)


@dataclasses.dataclass
class Detector:
    build: str
    name: str
    command: list
    env: dict
    targets: list
    alone: bool
    seconds: float = 0


def say(text):
    print(text, file=sys.stderr, flush=True)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def wanted(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns.split(","))


def load_mutants():
    mutants, stale = {}, []
    for name in sorted(os.listdir(HERE)):
        if not name.endswith(".toml"):
            continue
        for key, fields in tomllib.loads(read(os.path.join(HERE, name))).items():
            if key in mutants:
                raise CannotCheck(f"{key}: the name is taken twice")
            mutants[key] = Mutant(key, **fields)
            try:
                mutants[key].apply_to(read(os.path.join(ROOT, mutants[key].file)))
            except CannotCheck as reason:
                stale.append(str(reason))
    if stale:
        raise CannotCheck("\n".join(stale))
    return list(mutants.values())


class Tree:
    """The copy of the sources, and the builds of it."""

    def __init__(self, directory):
        self.directory = directory
        self.source = os.path.join(directory, "src")
        self.digest = self.copy()
        for build, (options, _) in BUILDS.items():
            if not os.path.exists(os.path.join(self.path(build), "build.ninja")):
                self.run(["meson", "setup", self.path(build), self.source, "-Dwerror=false", *options])

    def path(self, build):
        return os.path.join(self.directory, build)

    def copy(self):
        """Bring the copy up to date: tracked and new files, as they are now. Returns a digest of what was copied."""
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                                stdout=subprocess.PIPE, check=True).stdout.decode()
        names = {name for name in listed.split("\0") if name and os.path.isfile(os.path.join(ROOT, name))}
        digest = hashlib.sha256()
        for name in sorted(names):
            source, target = os.path.join(ROOT, name), os.path.join(self.source, name)
            with open(source, "rb") as file:
                content = file.read()
            if not name.startswith("tests/mutants/"):
                digest.update(name.encode() + b"\0" + content)
            if os.path.exists(target):
                with open(target, "rb") as file:
                    if file.read() == content:
                        continue  # keeps its time, so it is not built again
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(source, target)
            shutil.copymode(source, target)
        for place, _, files in os.walk(self.source):
            for file in files:
                path = os.path.join(place, file)
                if os.path.relpath(path, self.source) not in names:
                    os.unlink(path)
        return digest.hexdigest()

    def run(self, command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise CannotCheck(f"{shlex.join(command)} failed:\n{done.stdout[-4000:]}")
        return done.stdout

    def make(self, detectors):
        """Build what the detectors run."""
        for build in BUILDS:
            targets = {target for detector in detectors if detector.build == build for target in detector.targets}
            if targets:
                self.run(["ninja", "-C", self.path(build), "--quiet", *sorted(targets)])

    def introspect(self, build, what):
        return json.loads(self.run(["meson", "introspect", self.path(build), what]))

    def detectors(self, patterns):
        found = []
        for build, (_, suites) in BUILDS.items():
            self.run(["ninja", "-C", self.path(build), "--quiet", "build.ninja"])
            files = {target["id"]: [os.path.relpath(name, self.path(build)) for name in target["filename"]]
                     for target in self.introspect(build, "--targets")}
            for test in self.introspect(build, "--tests"):
                name = test["name"] if build == "plain" else f"{test['name']}@{build}"
                if not suites & {suite.split(":")[-1] for suite in test["suite"]} or not wanted(name, patterns):
                    continue
                targets = [file for target in test["depends"] for file in files.get(target, [])]
                found.append(Detector(build, name, test["cmd"], test["env"], targets, not test["is_parallel"]))
        return found


class Tests:
    """Runs detectors, several at a time."""

    def __init__(self, tree, jobs):
        self.tree = tree
        self.jobs = jobs
        self.scratch = set()  # where tests make stores, for those of a killed test to be taken away
        fixed = ["setarch", os.uname().machine, "-R"]  # what older sanitizers need on newer kernels (scripts/test.sh)
        works = shutil.which(fixed[0]) and subprocess.run([*fixed, "true"], check=False).returncode == 0
        self.prefix = fixed if works else []

    def start(self, detector, log):
        env = dict(os.environ, MALLOC_PERTURB_="165", VARVE_TEST_SEED="1", TSAN_OPTIONS="halt_on_error=1")
        for key, value in detector.env.items():
            if key == "VARVE_TEST_DIR" and os.path.isdir(value) and os.access(value, os.W_OK):
                value = os.path.join(value, f"mutants-{os.getpid()}")
                os.makedirs(value, exist_ok=True)
                self.scratch.add(value)
            env[key] = value
        os.makedirs(os.path.dirname(log), exist_ok=True)
        with open(log, "wb") as out:
            return subprocess.Popen([*self.prefix, *detector.command], cwd=self.tree.path(detector.build), env=env,
                                    stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                    start_new_session=True)

    def stop(self, process):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def run(self, detectors, label, limit, until_failure=True):
        """Run them in their order. Returns (detector, seconds, how it failed or "") of each, as they ended."""
        waiting, running, ended = list(detectors), [], []
        try:
            while (waiting or running) and not (until_failure and any(how for _, _, how in ended)):
                while waiting and len(running) < self.jobs:
                    if running and (waiting[0].alone or running[0][0].alone):
                        break
                    detector = waiting.pop(0)
                    log = os.path.join(self.tree.directory, "log", f"{label}-{detector.name}.txt")
                    running.append((detector, self.start(detector, log), time.monotonic(), log))
                time.sleep(0.01)
                for job in list(running):
                    detector, process, began, log = job
                    how, seconds = self.judge(process, time.monotonic() - began, limit(detector))
                    if how is None:
                        continue
                    running.remove(job)
                    ended.append((detector, seconds, how))
                    if not how:
                        os.unlink(log)
        finally:
            for _, process, _, log in running:
                self.stop(process)
                os.unlink(log)
            for place in self.scratch:
                shutil.rmtree(place, ignore_errors=True)
            self.scratch.clear()
        return ended

    def judge(self, process, seconds, limit):
        """How a test ended: "" well; None: not yet."""
        rc = process.poll()
        if rc is None:
            if seconds < limit:
                return None, seconds
            self.stop(process)
            return "hangs", seconds
        self.stop(process)  # its children
        if rc in (0, TEST_SKIPPED):
            return "", seconds
        return (signal.Signals(-rc).name if rc < 0 else "fails"), seconds


def measure(tree, tests, detectors, leave_out):
    """The tests in the order of the time that they take on the sources as they are, where all have to pass."""
    path = os.path.join(tree.directory, "baseline.json")  # holds while the sources do not change
    known = json.loads(read(path)) if os.path.exists(path) else {}
    if known.get("digest") != tree.digest:
        known = {"digest": tree.digest, "seconds": {}}
    missing = [detector for detector in detectors if detector.name not in known["seconds"]]
    if missing:
        say(f"building and running {len(missing)} tests without a bug")
        tree.make(missing)
        failed = []
        for detector, seconds, how in tests.run(missing, "baseline", lambda _: 1800, until_failure=False):
            known["seconds"][detector.name] = round(seconds, 2)
            if how:
                failed.append(f"{detector.name} {how}")
                del known["seconds"][detector.name]
        write(path, json.dumps(known, indent=1))
        if failed and not leave_out:
            raise CannotCheck(f"without any bug: {', '.join(failed)}: see {tree.directory}/log")
        if failed:
            say(f"left out, since they fail without any bug: {', '.join(failed)}")
    good = [detector for detector in detectors if detector.name in known["seconds"]]
    for detector in good:
        detector.seconds = known["seconds"][detector.name]
    return sorted(good, key=lambda detector: (detector.build != "plain", detector.seconds, detector.name))


def catch(tests, batch, mutant):
    """The first test of the batch that fails, twice: once may be the machine's fault. "": none."""
    waiting = list(batch)
    while waiting:
        ended = tests.run(waiting, mutant.name, limit)
        for detector, _, how in ended:
            if how and tests.run([detector], mutant.name, limit)[0][2]:
                return f"{detector.name} ({how})"
        good = [detector.name for detector, _, _ in ended]
        waiting = [detector for detector in waiting if detector.name not in good]
    return ""


def limit(detector):
    return PATIENCE + SLOWER * detector.seconds


def hunt(tree, tests, detectors, mutant):
    """Plant the bug and run tests until one fails. True: caught."""
    path = os.path.join(tree.source, mutant.file)
    text = read(path)
    began = time.monotonic()
    try:
        write(path, mutant.apply_to(text))
        for first in range(0, len(detectors), BUILT_AT_ONCE):
            batch = detectors[first:first + BUILT_AT_ONCE]
            tree.make(batch)
            mutant.caught_by = catch(tests, batch, mutant)
            if mutant.caught_by:
                break
    finally:
        write(path, text)
    mutant.seconds = round(time.monotonic() - began, 1)
    return mutant.caught_by != ""


def table(mutants):
    lines = ["| bug | where | caught by | after |", "|---|---|---|---|"]
    for mutant in mutants:
        caught = mutant.caught_by or "**SURVIVED**"
        lines.append(f"| {mutant.name}: {mutant.bug} | `{mutant.file}` | {caught} | {mutant.seconds:.0f} s |")
    return "\n".join(lines)


def check(args, mutants):
    tree = Tree(os.path.abspath(args.dir))
    tests = Tests(tree, args.jobs)
    detectors = tree.detectors(args.tests)
    began = time.monotonic()

    if not detectors:
        raise CannotCheck(f"meson knows no tests {args.tests}")
    shutil.rmtree(os.path.join(tree.directory, "log"), ignore_errors=True)
    detectors = measure(tree, tests, detectors, args.leave_out)
    for index, mutant in enumerate(mutants):
        caught = hunt(tree, tests, detectors, mutant)
        say(f"[{index + 1}/{len(mutants)}] {mutant.name}: {mutant.caught_by if caught else 'SURVIVED'}, "
            f"{mutant.seconds:.0f} s")
    survived = [mutant.name for mutant in mutants if not mutant.caught_by]
    as_json = json.dumps([{"name": m.name, "bug": m.bug, "file": m.file, "caught_by": m.caught_by, "seconds": m.seconds}
                          for m in mutants], indent=1)
    write(os.path.join(tree.directory, "report.json"), as_json + "\n")
    write(os.path.join(tree.directory, "report.md"), table(mutants) + "\n")
    print(as_json if args.json else table(mutants))
    say(f"mutants: {len(mutants) - len(survived)} of {len(mutants)} caught by {len(detectors)} tests in "
        f"{time.monotonic() - began:.0f} s" + (f"; survived: {', '.join(survived)}" if survived else ""))
    return 1 if survived else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--list", action="store_true", help="name and bug of each")
    parser.add_argument("--only", metavar="NAME,...", default="*", help="some of them: a shell pattern each")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    parser.add_argument("--tests", metavar="NAME,...", default="*", help="with some of the tests: a shell pattern each")
    parser.add_argument("--leave-out", action="store_true", help="without tests that fail without any bug")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="tests at a time")
    parser.add_argument("--dir", default=os.path.join(ROOT, "build-mutants"), help="where to work")
    args = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # so that tests that run are stopped
    try:
        mutants = [mutant for mutant in load_mutants() if wanted(mutant.name, args.only)]
        if not mutants:
            raise CannotCheck(f"no mutant is named {args.only}")
        if args.list:
            for mutant in mutants:
                print(f"{mutant.name:36} {mutant.bug}")
            return 0
        return check(args, mutants)
    except CannotCheck as reason:
        say(f"mutants: {reason}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
