# SPDX-License-Identifier: Apache-2.0
"""A table of the results of many cases."""

import collections

COLUMNS = ("cases", "lost", "leaked", "harmed")


class Table:
    def __init__(self):
        self._rows = collections.defaultdict(collections.Counter)
        self.failures = []

    def add(self, row, case, lost=(), leaked=(), harmed=()):
        """Adds one case with its problems."""
        self._rows[row]["cases"] += 1
        for column, found in (("lost", lost), ("leaked", leaked), ("harmed", harmed)):
            self._rows[row][column] += bool(found)
            self.failures += [f"{row}, {case}: {column}: {what}" for what in found]

    def text(self):
        total = collections.Counter()
        width = max(len(row) for row in [*self._rows, "all"])
        lines = ["".ljust(width) + "".join(column.rjust(8) for column in COLUMNS)]
        for row, counts in self._rows.items():
            total.update(counts)
            lines.append(row.ljust(width) + "".join(str(counts[column]).rjust(8) for column in COLUMNS))
        lines.append("all".ljust(width) + "".join(str(total[column]).rjust(8) for column in COLUMNS))
        return "\n".join(lines)

    @property
    def cases(self):
        return sum(counts["cases"] for counts in self._rows.values())
