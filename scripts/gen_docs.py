#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keep generated parts of the documents current: the table of options, and the example in the README.

  gen_docs.py VARVE            rewrite the parts between markers
  gen_docs.py VARVE --check    exit code 1 if any part is not what it would be rewritten to
"""

import json
import os
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def options_table(varve):
    lines = subprocess.run([varve, "options", "--json"], stdout=subprocess.PIPE, text=True, check=True).stdout
    table = ["| option | type | default | live | what it does |", "|---|---|---|---|---|"]
    for line in lines.splitlines():
        option = json.loads(line)
        kind = option["type"].replace("enum: ", "").replace("|", ", ")
        table.append(f"| `{option['name']}` | {kind} | {option['default']} | {'yes' if option['live'] else ''} | "
                     f"{option['help']} |")
    return "\n".join(table)


def example():
    with open(os.path.join(ROOT, "examples", "quickstart.c"), encoding="utf-8") as source:
        return "```c\n" + source.read().rstrip("\n") + "\n```"


def replace_part(text, name, content):
    begin, end = f"<!-- {name} -->\n", f"<!-- end {name} -->"
    head, rest = text.split(begin)
    _, tail = rest.split(end)
    return head + begin + content + "\n" + end + tail


def main():
    if len(sys.argv) not in (2, 3) or (len(sys.argv) == 3 and sys.argv[2] != "--check"):
        print(__doc__, file=sys.stderr)
        return 2
    table = options_table(sys.argv[1])
    parts = {"README.md": [("options", table), ("example", example())], os.path.join("docs", "tuning.md"): [("options", table)]}
    stale = 0
    for name, contents in parts.items():
        path = os.path.join(ROOT, name)
        with open(path, encoding="utf-8") as document:
            old = new = document.read()
        for part, content in contents:
            new = replace_part(new, part, content)
        if old == new:
            continue
        stale += 1
        if len(sys.argv) == 3:
            print(f"{name} is not current: run scripts/gen_docs.py build/varve")
        else:
            with open(path, "w", encoding="utf-8") as document:
                document.write(new)
            print(f"rewrote {name}")
    return 1 if stale > 0 and len(sys.argv) == 3 else 0


if __name__ == "__main__":
    sys.exit(main())
