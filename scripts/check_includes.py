#!/usr/bin/env python3
"""Compares the table in src/README.md with the sources: each folder has one line, includes only the folders that its
line names, and the lines have no cycle. Inside a folder, units (a source file and the header of its name) do not
include each other in a ring, except for the rings that the second table names. Prints every difference; exit status 1
when there is one."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE_SUFFIXES = {".h", ".cc"}
ROW = re.compile(r"^\|\s*`([^`]+)`\s*\|([^|]*)\|([^|]*)\|\s*$")
RING_ROW = re.compile(r"^\|\s*`([^`]+)`\s*\|((?:\s*`[^`]+`)+)\s*\|\s*$")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)


def read_table(readme):
    """{folder: set of folders it may include} from the rows of the table; None for one named twice."""
    table = {}
    for line in readme.splitlines():
        if match := ROW.match(line):
            folder, _, uses = match.groups()
            table[folder] = None if folder in table else set(re.findall(r"`([^`]+)`", uses))
    return table


def read_rings(readme):
    """The rings that are left, from the rows of the second table: a list of (folder, frozenset of units)."""
    return [(match[1], frozenset(re.findall(r"`([^`]+)`", match[2])))
            for match in map(RING_ROW.match, readme.splitlines()) if match]


def folder_path(root, folder):
    """Where a folder of the table lies: below src/, or else (apps, include, proto) beside it."""
    below_src = root / "src" / folder
    return below_src if below_src.is_dir() else root / folder


def source_files(path):
    return sorted(p for p in path.iterdir() if p.is_file() and p.suffix in SOURCE_SUFFIXES)


def included_folder(root, include):
    """The folder of ours that `include` names, or None for the system's and libraries' headers."""
    if include.endswith(".pb.h"):
        return "proto" if (root / "proto" / (include.split("/")[-1].split(".")[0] + ".proto")).is_file() else None
    parent = str(pathlib.PurePosixPath(include).parent)
    if (root / "src" / include).is_file():
        return parent
    if (root / "include" / include).is_file():
        return "include/" + parent
    return None


def find_cycle(table):
    """A list of folders that use each other in a ring, or None."""
    done, path = set(), []

    def visit(folder):
        if folder in path:
            return path[path.index(folder):] + [folder]
        if folder in done:
            return None
        path.append(folder)
        for used in sorted(table.get(folder) or ()):
            if cycle := visit(used):
                return cycle
        path.pop()
        done.add(folder)
        return None

    for folder in sorted(table):
        if cycle := visit(folder):
            return cycle
    return None


def check_folder(root, folder, allowed):
    for path in source_files(folder_path(root, folder)):
        text = path.read_text()
        for match in INCLUDE.finditer(text):
            used = included_folder(root, match.group(1))
            if used not in (None, folder) and used not in allowed:
                line = text.count("\n", 0, match.start(1)) + 1
                yield (f"{path.relative_to(root)}:{line}: includes {match.group(1)}, "
                       f"but `{folder}` may not use `{used}`")


def unit_includes(root, folder):
    """{unit: the other units of the folder that its files include}."""
    units = {}
    for path in source_files(folder_path(root, folder)):
        used = units.setdefault(path.stem, set())
        for include in INCLUDE.findall(path.read_text()):
            if included_folder(root, include) == folder:
                used.add(pathlib.PurePosixPath(include).stem)
        used.discard(path.stem)
    return units


def find_rings(units):
    """The largest sets of units each of which includes all others of its set, itself or through them."""
    reached = {unit: set(used) for unit, used in units.items()}
    for via in units:
        for used in reached.values():
            if via in used:
                used |= reached[via]
    return {frozenset(other for other in reached[unit] if unit in reached.get(other, ())) for unit in units
            if unit in reached[unit]}


def check_rings(root, folders, allowed):
    """Yields a line for each ring that is not allowed, and for each allowed one that is not there as it stands."""
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
    have_sources = {str(p.parent.relative_to(root / "src"))
                    for p in (root / "src").rglob("*") if p.suffix in SOURCE_SUFFIXES}
    for folder in sorted(have_sources - set(table)):
        yield f"src/README.md: no line for `{folder}`"
    for folder, allowed in table.items():
        if allowed is None:
            yield f"src/README.md: more than one line for `{folder}`"
            continue
        if not folder_path(root, folder).is_dir():
            yield f"src/README.md: there is no folder `{folder}`"
            continue
        for used in sorted(allowed - set(table)):
            yield f"src/README.md: `{folder}` uses `{used}`, which has no line"
        yield from check_folder(root, folder, allowed)
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
