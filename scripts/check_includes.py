#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the tables in src/README.md with the sources, in both directions.

Each folder has one row: its namespace, the folders that its files include, and those that only its tests include. A
row that permits what no file uses is reported like an include that no row permits. Tests are `*_test.cc`, `*_fuzz.cc`
and all files in a folder `testing/`, which belongs to the folder above it. Only tests include files of a `testing/`
folder. The rows have no cycle. Inside a folder, units (a source file and the header of its name) do not include each
other in a ring, except for the rings that the last table names. Prints every difference; the exit status is 1 if there
is one."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE_SUFFIXES = {".h", ".cc"}
ROW = re.compile(r"^\|\s*`([^`]+)`\s*\|\s*`([^`]+)`\s*\|([^|]*)\|([^|]*)\|([^|]*)\|\s*$")
RING_ROW = re.compile(r"^\|\s*`([^`]+)`\s*\|((?:\s*`[^`]+`)+)\s*\|\s*$")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)
NAMESPACE = re.compile(r"^namespace (sma[\w:]*) \{", re.MULTILINE)


class Row:
    """A folder's row: its namespace, and the folders that its files, and additionally its tests, may include."""

    def __init__(self, namespace, uses, test_uses):
        self.namespace = namespace
        self.uses = set(re.findall(r"`([^`]+)`", uses))
        self.test_uses = set(re.findall(r"`([^`]+)`", test_uses))


def read_table(readme):
    """Returns {folder: Row} from the rows of the tables; the value is None for a folder with two rows."""
    table = {}
    for line in readme.splitlines():
        if match := ROW.match(line):
            folder, namespace, _, uses, test_uses = match.groups()
            table[folder] = None if folder in table else Row(namespace, uses, test_uses)
    return table


def read_rings(readme):
    """Returns the rings that are allowed by the last table: a list of (folder, frozenset of units)."""
    return [(match[1], frozenset(re.findall(r"`([^`]+)`", match[2])))
            for match in map(RING_ROW.match, readme.splitlines()) if match]


def folder_path(root, folder):
    """Returns the path of a folder in the table: below src/, or beside it for apps, include and proto."""
    below_src = root / "src" / folder
    return below_src if below_src.is_dir() else root / folder


def files_in(path):
    return sorted(p for p in path.glob("*") if p.is_file() and p.suffix in SOURCE_SUFFIXES)


def source_files(root, folder):
    """Returns the files of a folder, including those of its testing/ folder."""
    path = folder_path(root, folder)
    return files_in(path) + files_in(path / "testing")


def is_test(path):
    return path.parent.name == "testing" or path.stem.endswith(("_test", "_fuzz"))


def included_folder(root, include):
    """Returns the project's folder that `include` names, or None for headers of the system and of libraries."""
    if include.endswith(".pb.h"):
        return "proto" if (root / "proto" / (include.split("/")[-1].split(".")[0] + ".proto")).is_file() else None
    parent = str(pathlib.PurePosixPath(include).parent).removesuffix("/testing")
    if (root / "src" / include).is_file():
        return parent
    if (root / "include" / include).is_file():
        return "include/" + parent
    if (root / "tests" / include).is_file():
        return "tests/" + parent
    return None


def find_cycle(table):
    """Returns a list of folders that include each other in a ring, or None."""
    done, path = set(), []

    def visit(folder):
        if folder in path:
            return path[path.index(folder):] + [folder]
        if folder in done:
            return None
        path.append(folder)
        row = table.get(folder)
        for used in sorted(row.uses if row else ()):
            if cycle := visit(used):
                return cycle
        path.pop()
        done.add(folder)
        return None

    for folder in sorted(table):
        if cycle := visit(folder):
            return cycle
    return None


def check_folder(root, folder, row):
    """Yields a line for each include that the row does not permit, and for each folder that no file includes."""
    used_by_code, used_by_tests = set(), set()
    for path in source_files(root, folder):
        text = path.read_text()
        for match in INCLUDE.finditer(text):
            include, test = match.group(1), is_test(path)
            used = included_folder(root, include)
            if used is None:
                continue
            place = f"{path.relative_to(root)}:{text.count(chr(10), 0, match.start(1)) + 1}"
            if "/testing/" in include and not test:
                yield f"{place}: includes {include}, which is for tests"
            if used == folder:
                continue
            (used_by_tests if test else used_by_code).add(used)
            if used not in row.uses and not (test and used in row.test_uses):
                where = "in tests" if test else "here"
                yield f"{place}: includes {include}, but `{folder}` may not use `{used}` {where}"
    for unused in sorted(row.uses - used_by_code):
        yield f"src/README.md: `{folder}` is allowed `{unused}`, which it does not use"
    for unused in sorted(row.test_uses - (used_by_tests - row.uses)):
        yield f"src/README.md: tests of `{folder}` are allowed `{unused}`, which they alone do not use"


def check_namespaces(root, folder, row):
    """Yields a line for each file whose first namespace is not the folder's, a part of it, or one inside it."""
    for path in source_files(root, folder):
        for namespace in NAMESPACE.findall(path.read_text())[-1:]:
            if namespace != row.namespace and not namespace.startswith(row.namespace + "::"):
                yield f"{path.relative_to(root)}: namespace {namespace}, but the folder's is {row.namespace}"


def unit_includes(root, folder):
    """Returns {unit: the other units of the folder that its files include}."""
    units = {}
    for path in files_in(folder_path(root, folder)):
        used = units.setdefault(path.stem, set())
        for include in INCLUDE.findall(path.read_text()):
            if included_folder(root, include) == folder and "/testing/" not in include:
                used.add(pathlib.PurePosixPath(include).stem)
        used.discard(path.stem)
    return units


def find_rings(units):
    """Returns the largest sets of units in which each unit includes all others, directly or indirectly."""
    reached = {unit: set(used) for unit, used in units.items()}
    for via in units:
        for used in reached.values():
            if via in used:
                used |= reached[via]
    return {frozenset(other for other in reached[unit] if unit in reached.get(other, ())) for unit in units
            if unit in reached[unit]}


def check_rings(root, folders, allowed):
    """Yields a line for each ring that is not allowed, and for each allowed ring that does not exist in exactly that
    form."""
    found = [(folder, ring) for folder in folders for ring in find_rings(unit_includes(root, folder))]
    for folder, ring in sorted(found, key=str):
        if (folder, ring) not in allowed:
            yield f"{folder}: files include each other in a ring: " + ", ".join(sorted(ring))
    for folder, ring in allowed:
        if (folder, ring) not in found:
            yield f"src/README.md: there is no such ring in `{folder}`: " + ", ".join(sorted(ring))


def check(root):
    """Yields a line of text for each difference."""
    readme = (root / "src" / "README.md").read_text()
    table = read_table(readme)
    have_sources = {str(p.parent.relative_to(root / "src")).removesuffix("/testing")
                    for p in (root / "src").rglob("*") if p.suffix in SOURCE_SUFFIXES}
    for folder in sorted(have_sources - set(table)):
        yield f"src/README.md: no row for `{folder}`"
    for folder, row in table.items():
        if row is None:
            yield f"src/README.md: more than one row for `{folder}`"
            continue
        if not folder_path(root, folder).is_dir():
            yield f"src/README.md: there is no folder `{folder}`"
            continue
        for used in sorted((row.uses | row.test_uses) - set(table)):
            if not (used.startswith("tests/") and used in row.test_uses):
                yield f"src/README.md: `{folder}` uses `{used}`, which has no row"
        yield from check_folder(root, folder, row)
        yield from check_namespaces(root, folder, row)
    if cycle := find_cycle(table):
        yield "src/README.md: a cycle: " + " → ".join(cycle)
    folders = [folder for folder in table if folder_path(root, folder).is_dir()]
    yield from check_rings(root, folders, read_rings(readme))


def main():
    problems = list(check(ROOT))
    print("\n".join(problems) if problems else "include map: in order")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
