# SPDX-License-Identifier: Apache-2.0
"""Builds varve._native: the C library of this repository and the code in native/, in one extension.

The sources are those of the repository around this directory, or, in a source distribution, a copy in csrc/. What does
not change with the build is in pyproject.toml. VARVE_URING=off leaves the io_uring backend out.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
ROOT = HERE / "csrc" if (HERE / "csrc").is_dir() else HERE.parent

# The stable ABI has the buffer protocol from 3.11 on, and free-threaded builds do not have it at all.
STABLE_ABI = sys.version_info >= (3, 11) and not sysconfig.get_config_var("Py_GIL_DISABLED")

# Header, package, what it must offer, why it is needed.
REQUIRED = [
    ("Python.h", "python3-dev", "", "the headers of Python %d.%d" % sys.version_info[:2]),
    ("xxhash.h", "libxxhash-dev", "XXH3_state_t state; (void)state;", "xxHash 0.8 or newer: checksums"),
    ("openssl/evp.h", "libssl-dev", "(void)EVP_sha256;", "OpenSSL 1.1 or newer: page ids"),
    ("zstd.h", "libzstd-dev", "(void)ZSTD_c_minMatch;", "zstd 1.4 or newer: coding of pages"),
]
URING = (
    "liburing.h",
    "liburing-dev",
    "struct io_uring ring; (void)ring;",
    "io_uring, headers only (VARVE_URING=off does without)",
)


def version():
    header = (ROOT / "include" / "varve.h").read_text()
    return ".".join(re.search(rf"VARVE_VERSION_{part}\s+(\d+)", header)[1] for part in ("MAJOR", "MINOR", "PATCH"))


def with_uring():
    choice = os.environ.get("VARVE_URING", "on")
    if choice not in ("on", "off"):
        sys.exit(f"varve: VARVE_URING is '{choice}': it is on or off")
    return choice == "on"


def sources():
    left_out = ["env_uring_none.c"] if with_uring() else ["env_uring.c", "uring_load.c"]
    library = sorted(path for path in (ROOT / "src").glob("*/*.c") if path.name not in left_out)
    return [str(path) for path in [*sorted((HERE / "native").glob("*.c")), *library]]


class Build(build):
    """Builds outside of the tree, so that nothing stale gets into a wheel and the tree stays clean."""

    def initialize_options(self):
        super().initialize_options()
        self.scratch = tempfile.TemporaryDirectory(prefix="varve-build-")
        self.build_base = self.scratch.name


class BuildExt(build_ext):
    def build_extension(self, ext):
        self.check_headers(ext)
        flags = list(ext.extra_compile_args)
        if not any(flag.startswith("-O") for flag in self.compiler.compiler_so):
            flags.append("-O2")  # CFLAGS from the environment replace those that Python was built with

        def compile_one(source):
            return self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                macros=ext.define_macros,
                include_dirs=ext.include_dirs,
                extra_postargs=flags,
            )[0]

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, ext.sources))
        target = self.get_ext_fullpath(ext.name)
        self.compiler.link_shared_object(
            objects,
            target,
            libraries=ext.libraries,
            library_dirs=self.library_dirs,
            runtime_library_dirs=ext.runtime_library_dirs,
            export_symbols=None,
            extra_postargs=ext.extra_link_args,
            build_temp=self.build_temp,
            target_lang="c",
        )

    def check_headers(self, ext):
        """Ends the build with one message that names all that is missing."""
        missing = [need for need in REQUIRED + [URING] * with_uring() if not self.compiles(ext, need[0], need[2])]
        if not missing:
            return
        lines = [f"  {header:<14} {why}; Debian and Ubuntu: {package}" for header, package, _, why in missing]
        sys.exit(
            "\n".join(
                [
                    "varve: building needs headers that are not installed, or too old:",
                    *lines,
                    "  all at once: apt-get install gcc " + " ".join(need[1] for need in missing),
                ]
            )
        )

    def compiles(self, ext, header, body):
        flags = [f"-I{directory}" for directory in [*ext.include_dirs, *self.include_dirs]]
        command = [
            *self.compiler.compiler,
            "-D_GNU_SOURCE",
            "-DXXH_INLINE_ALL",
            "-w",
            *flags,
            "-fsyntax-only",
            "-x",
            "c",
            "-",
        ]
        program = f"#include <{header}>\nint main(void) {{ {body} return 0; }}\n"
        try:
            return subprocess.run(command, input=program, text=True, capture_output=True, check=False).returncode == 0
        except OSError as error:
            sys.exit(
                f"varve: building needs a C compiler: {command[0]}: {error.strerror} (apt-get install gcc, or set CC)"
            )


class Sdist(sdist):
    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        shutil.copytree(HERE / "native", Path(base_dir, "native"))
        for name in ("include", "src"):
            shutil.copytree(ROOT / name, Path(base_dir, "csrc", name))


native = Extension(
    "varve._native",
    sources(),
    include_dirs=[str(ROOT / "include"), str(ROOT / "src")],
    define_macros=[("_GNU_SOURCE", None)] + [("Py_LIMITED_API", "0x030b0000")] * STABLE_ABI,
    py_limited_api=STABLE_ABI,
    libraries=["crypto", "zstd", "pthread", "dl"],
    # Assertions guard what is on disk: they stay.
    extra_compile_args=[
        "-std=c11",
        "-UNDEBUG",
        "-fvisibility=hidden",
        "-fstack-protector-strong",
        f"-ffile-prefix-map={ROOT}/=",
        f"-ffile-prefix-map={HERE}=python",
    ],
    # Nothing but the module's entry is exported: another libvarve in the process stays apart.
    extra_link_args=[f"-Wl,--version-script={HERE / 'native' / 'native.map'}"],
)

setup(
    version=version(),
    ext_modules=[native],
    cmdclass={"build": Build, "build_ext": BuildExt, "sdist": Sdist},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
