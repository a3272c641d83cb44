#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs tests of the Python package as its users have it: built by pip, in a virtual environment of its own.

    run.py --venv DIR [--package NAME]... TEST.py...

The environment is kept for the next run; the package is built anew each time. Exit code 77 (skipped, for meson) and the
reason where Python packages cannot be had, unless VARVE_REQUIRE_PYTHON=1, which makes that a failure. Whatever else
goes wrong is a failure.
"""

import argparse
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

SKIPPED = 77
PACKAGE = Path(__file__).resolve().parents[2] / "python"
PIP = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--timeout", "30", "--retries", "1"]


def give_up(reason):
    """The tests cannot run here."""
    if os.environ.get("VARVE_REQUIRE_PYTHON") == "1":
        sys.exit(f"FAILED: {reason} (and VARVE_REQUIRE_PYTHON=1)")
    print(f"SKIPPED: {reason}")
    sys.exit(SKIPPED)


def run(*command):
    """Runs a command, showing its output only when it fails; True when it went well."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        print(done.stdout)
    return done.returncode == 0


def make_environment(venv, packages):
    """The Python of an environment that has `packages`."""
    python = venv / "bin" / "python"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        give_up("the headers of Python are not installed (Debian: python3-dev)")
    if not python.exists() and not run(sys.executable, "-m", "venv", "--clear", str(venv)):
        give_up("python3 -m venv does not work (Debian: python3-venv)")
    if not run(str(python), *PIP, *packages):
        give_up(f"pip cannot install {' '.join(packages)}")
    return python


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, required=True, help="directory of the virtual environment")
    parser.add_argument("--package", action="append", default=[], help="a package that the tests need beside pytest")
    parser.add_argument("tests", nargs="+", help="files for pytest")
    args = parser.parse_args()

    venv = args.venv.resolve()
    python = make_environment(venv, ["pytest>=7.3", "setuptools>=77", *args.package])
    if not run(str(python), *PIP, "--no-deps", "--no-build-isolation", "--force-reinstall", str(PACKAGE)):
        sys.exit("FAILED: the package does not build")
    pytest = [
        "-m",
        "pytest",
        "-q",
        "-ra",
        "-p",
        "no:cacheprovider",
        "-o",
        "tmp_path_retention_policy=failed",
        f"--basetemp={venv}.tmp",
    ]
    return subprocess.run([str(python), *pytest, *args.tests], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
