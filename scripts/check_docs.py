#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the tables of docs/api.md with the .proto files. Prints every difference; exits with 1 if there is one.

A heading `### NAME` names a service, message or enum (nested ones: Outer.Inner). The rows below it begin with
| `method` |, with | number | `field` | `type` | or with | number | `VALUE` |."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOT_IN_API = {"sma_admin"}  # documented by its own comments
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\w.]+|[{}=;()<>,\[\]]')


def parse_proto(text):
    """Returns {name: set of rows} of everything that the file defines; a row is a tuple of strings."""
    text = re.sub(r"//[^\n]*", "", text)
    package = re.search(r"\bpackage\s+([\w.]+)\s*;", text).group(1)
    prefix = package.removeprefix("sma").lstrip(".")
    tokens = TOKEN.findall(text)
    defined, scopes, position = {}, [], 0
    while position < len(tokens):
        token = tokens[position]
        if token in ("message", "enum", "service", "oneof"):
            scopes.append((token, tokens[position + 1]))
            if token != "oneof":
                defined.setdefault(full_name(prefix, scopes), set())
            position += 3
        elif token == "}":
            if scopes:
                scopes.pop()
            position += 1
        elif token == "rpc":
            defined[full_name(prefix, scopes)].add((tokens[position + 1],))
            while tokens[position] != "}":
                position += 1
            position += 1
        elif scopes and token == "=":
            row = row_before(tokens, position, scopes[-1][0] == "enum")
            defined[full_name(prefix, scopes)].add(row)
            position += 2
        else:
            position += 1
    return defined


def full_name(prefix, scopes):
    return ".".join([prefix] * bool(prefix) + [name for kind, name in scopes if kind != "oneof"])


def row_before(tokens, equals, is_enum):
    name, number = tokens[equals - 1], tokens[equals + 1]
    if is_enum:
        return number, name
    repeated = "repeated " if tokens[equals - 3] == "repeated" else ""
    return number, name, repeated + tokens[equals - 2]


def parse_tables(text):
    """Returns {heading: set of rows} of a Markdown document; a row has the cells before the description."""
    tables, rows = {}, None
    for line in text.splitlines():
        if heading := re.match(r"### `?([\w.]+)`?\s*$", line):
            rows = tables.setdefault(heading.group(1), set())
        elif line.startswith("## "):
            rows = None
        elif rows is not None and line.startswith("|"):
            cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
            if cells[0].isdigit():
                rows.add(tuple(cells[:3] if len(cells) > 3 else cells[:2]))
            elif re.match(r"\|\s*`\w+`", line):
                rows.add((cells[0],))
    return tables


def compare_sets(what, written, real):
    for row in sorted(written - real):
        yield f"{what}: the document has {' '.join(row)}, the source has not"
    for row in sorted(real - written):
        yield f"{what}: the source has {' '.join(row)}, the document has not"


def check_api(root):
    document = root / "docs" / "api.md"
    tables = parse_tables(document.read_text())
    real = {}
    for path in sorted((root / "proto").glob("*.proto")):
        if path.stem not in NOT_IN_API:
            real |= parse_proto(path.read_text())
    for name in sorted(set(tables) - set(real)):
        yield f"docs/api.md: {name} is nowhere in proto/"
    for name, rows in real.items():
        if name not in tables:
            # A message without fields needs no table.
            if rows:
                yield f"docs/api.md: no table for {name}"
            continue
        yield from compare_sets(f"docs/api.md: {name}", tables[name], rows)


def main():
    problems = list(check_api(ROOT))
    print("\n".join(problems) if problems else "documents: in order")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
