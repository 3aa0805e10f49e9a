"""What is in the memory of another process; its reader is root, or the process lets its user read it."""

import contextlib


def count_in_memory(pid, needles):
    """How often each is in memory that the process may write to."""
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
