#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws comments, or log and error texts, at random from the sources, for a reader who judges the English.

The reader has not seen the code and marks each text: natural, odd, not understood (docs/style.md). The seed is printed,
so that the same texts can be drawn again.

usage: scripts/draw_text.py [--kind comments|messages] [--count N] [--seed N] [FOLDER...]
"""

import argparse
import pathlib
import random
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = (".cc", ".h", ".proto")
STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
# Calls whose strings are meant for people: log lines, statuses and their context, command-line messages.
MESSAGE = re.compile(r"spdlog::(?:info|warn|error|critical)|absl::\w+Error\(|WithContext\(|fmt::format\(|StrCat\(")


def sources(folders):
    listed = subprocess.run(["git", "ls-files", "-z", "--", *folders], cwd=ROOT, check=True, capture_output=True).stdout
    for name in sorted(listed.decode().split("\0")):
        if name.endswith(SOURCES):
            yield name, (ROOT / name).read_text(encoding="utf-8").split("\n")


def comments(name, lines):
    """Yields blocks of whole-line comments, as (place, text, the line of code below)."""
    block, begin = [], 0
    for number, line in enumerate([*lines, ""], 1):
        match = re.match(r"\s*///?\s?(.*)", line)
        if match and "clang-format" not in line and "NOLINT" not in line and "SPDX" not in line:
            if not block:
                begin = number
            block.append(match.group(1))
            continue
        if block and any(re.search(r"[A-Za-z]{3}", text) for text in block):
            yield f"{name}:{begin}", "\n".join(block), line.strip()
        block = []


def messages(name, lines):
    """Yields string literals of at least three words in log and error calls."""
    for number, line in enumerate(lines, 1):
        around = " ".join(lines[max(0, number - 3):number])
        if not MESSAGE.search(around) or line.lstrip().startswith(("//", "#include")):
            continue
        for text in STRING.findall(line):
            if len(re.findall(r"[A-Za-z]{2,}", text)) >= 3:
                yield f"{name}:{number}", text, ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kind", choices=["comments", "messages"], default="comments")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("folders", nargs="*", default=["include", "proto", "apps", "src", "tests", "bench"])
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    draw = {"comments": comments, "messages": messages}[options.kind]
    found = [entry for name, lines in sources(options.folders) if options.kind == "comments" or "_test" not in name
             for entry in draw(name, lines)]
    chosen = random.Random(seed).sample(found, min(options.count, len(found)))
    print(f"seed {seed}: {len(chosen)} of {len(found)} {options.kind}")
    for index, (place, text, below) in enumerate(chosen, 1):
        print(f"\n[{index}] {place}\n{text}" + (f"\n    > {below}" if below else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
