# SPDX-License-Identifier: Apache-2.0
"""Tests that the documents agree with the programs."""

import pathlib
import re

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


def test_the_targets_methods_are_those_in_the_tables(target):
    tables = (DOCS / "target-rpc.md").read_text()
    written = re.findall(r"^\| `([a-z0-9_]+)` \|", tables, re.MULTILINE)
    assert sorted(written) == sorted(target.call("rpc_get_methods"))
