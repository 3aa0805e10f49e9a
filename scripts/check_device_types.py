#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares docs/add-a-device-type.md with the sources: the files outside a device type's folder that name the type must
be those in its table, and at most 9. Searches for the names of one type. Prints every difference; the exit status is 1
if there is one."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = "docs/add-a-device-type.md"
MOST_FILES = 9
FOLDER, PROTOCOL = "src/devices/vhost_blk", "virtio_blk"
NAMES = r"vhost[_-]blk|virtio[_-]blk|VhostBlk|VirtioBlk|VIRTIO_BLK"
# Files that contain these names but do not depend on the device type, and tests and examples.
OTHER = re.compile(r"src/storage_target/|apps/sma_target/|tests/|bench/|examples/|.*_(test|fixture)\.|"
                   r".*/(corpus|fixtures|testing)/|scripts/check_device_types\.py|docs/(adr/|performance\.md)|" +
                   re.escape(DOCUMENT))


def documented(text):
    """Returns (needed, optional): the paths in the table and in the list below it."""
    section = text.split("## Files", 1)[1].split("\n## ", 1)[0]
    needed = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    optional = [path for line in section.splitlines() if line.startswith("- ")
                for path in re.findall(r"`([^`]+)`", line.split(":")[0])]
    return [path.replace("NAME", PROTOCOL) for path in needed], optional


def files_with_names(root):
    found = subprocess.run(["git", "grep", "--untracked", "-lIE", NAMES], cwd=root, capture_output=True, text=True,
                           check=False)
    return [path for path in found.stdout.splitlines() if not path.startswith(FOLDER + "/") and not OTHER.match(path)]


def compare(found, needed, optional):
    """Yields a line of text for each difference."""
    if len(needed) > MOST_FILES:
        yield f"{DOCUMENT}: {len(needed)} files have to know a device type, at most {MOST_FILES} may"
    for path in found:
        if path not in needed and not any(path == o or path.startswith(o + "/") for o in optional):
            yield f"{path}: knows a device type, and {DOCUMENT} does not name it"
    for path in needed:
        if path not in found:
            yield f"{DOCUMENT}: {path} does not know device type {FOLDER.split('/')[-1]}"


def main():
    problems = list(compare(files_with_names(ROOT), *documented((ROOT / DOCUMENT).read_text())))
    print("\n".join(problems) if problems else "device types: in order")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
