# SPDX-License-Identifier: Apache-2.0
"""Searches the memory of another process. Requires root, or a process whose memory its user may read."""

import contextlib


def count_in_memory(pid, needles):
    """Returns how often each value occurs in the writable memory of the process."""
    counts = dict.fromkeys(needles, 0)
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            span, permissions, *_ = line.split()
            if not permissions.startswith("rw"):
                continue
            begin, end = (int(part, 16) for part in span.split("-"))
            with contextlib.suppress(OSError, ValueError):
                memory.seek(begin)
                content = memory.read(end - begin)
                for needle in needles:
                    counts[needle] += content.count(needle)
    return counts
