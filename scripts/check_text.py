#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Searches every text file of the project for forbidden content: paths of a developer's machine, hosts of package
registries, marks of unfinished work. Also reports files longer than the project's limit, which is not an error. Exits
with 1 if there is forbidden content."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The texts are written in pieces, so that this file does not match itself.
FORBIDDEN = [
    (re.compile(r"(?<![\w./$}])/(?:wo" r"rk|ho" r"me|ro" r"ot|Us" r"ers)/[\w.-]+"), "path of one machine"),
    (re.compile(r"\b(?:py" r"pi\.org|pythonho" r"sted\.org|crat" r"es\.io|npm" r"js\.org|proxy\.gol" r"ang\.org|"
                r"maven\.ap" r"ache\.org|deb\.deb" r"ian\.org)\b"), "host of a package registry"),
    (re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b"), "mark of unfinished work"),
    (re.compile(r"^(?:<<<<<<< |>>>>>>> )"), "mark of a merge conflict"),
]
SPDX = "SPDX-License-Identifier: Apache-2.0"
SOURCE_SUFFIXES = {".cc", ".h", ".proto", ".py", ".rs", ".go"}
MAX_LINES = {".cc": 300, ".h": 200, ".py": 300, ".proto": 300}
HARD_MAX_LINES = 600
# Generated or legal text: Cargo's lock file names the default registry by its host.
EXEMPT = {"LICENSE", "Cargo.lock"}
MAX_COLUMNS = {".py": 120, ".proto": 120}  # clang-format checks C++


def project_files():
    """Yields the paths of the files that git tracks or would add."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            cwd=ROOT, check=True, capture_output=True).stdout
    for name in sorted(set(listed.decode().split("\0"))):
        path = ROOT / name
        if name and path.is_file() and not path.is_symlink():
            yield path


def text_of(path):
    """Returns the text of the file; None if it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def problems_in(path, text):
    name = path.relative_to(ROOT)
    columns = MAX_COLUMNS.get(path.suffix)
    for number, line in enumerate(text.split("\n"), 1):
        for pattern, what in FORBIDDEN:
            if match := pattern.search(line):
                yield f"{name}:{number}: {what}: {match.group(0)}"
        if columns and len(line) > columns:
            yield f"{name}:{number}: {len(line)} columns, more than {columns}"
    lines = text.count("\n")
    if path.suffix in SOURCE_SUFFIXES and lines > 0 and SPDX not in text[:300]:
        yield f"{name}: no line {SPDX}"
    if path.suffix in MAX_LINES and lines > HARD_MAX_LINES:
        yield f"{name}: {lines} lines; split it"


def main():
    problems, long_files = [], []
    for path in project_files():
        text = text_of(path)
        if text is None or path.name in EXEMPT:
            continue
        problems += problems_in(path, text)
        lines = text.count("\n")
        if lines > MAX_LINES.get(path.suffix, lines):
            long_files.append((lines, path.relative_to(ROOT)))
    for lines, name in sorted(long_files, reverse=True):
        print(f"long: {lines} lines: {name}")
    print("\n".join(problems) if problems else "text: in order")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
