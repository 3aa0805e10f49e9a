# SPDX-License-Identifier: Apache-2.0
"""Recorded answers of a real SPDK target, and the comparison of answers with them.

Two answers are equal if they have the same error code and message, or a result with the same fields of the same types
and, except for values that are specific to a program, the same values. sma-target's answers may lack fields for
features that it does not have.
"""

import dataclasses
import json
import pathlib

RECORDINGS = pathlib.Path(__file__).resolve().parent / "spdk-rpc"

# Values that are specific to a target: program names, times, counters, addresses, and additional capabilities.
OWN_VALUES = {
    "version", "major", "minor", "patch", "suffix", "commit", "pid", "tid", "lcore", "numa_id", "tick_rate", "ticks",
    "busy", "idle", "irq", "sys", "usr", "in_interrupt", "elapsed", "cpumask", "id", "filename", "model_number",
    "serial_number", "supported_io_types", "cntlid", "socket",
    "bytes_read", "num_read_ops", "read_latency_ticks", "max_read_latency_ticks", "min_read_latency_ticks",
}
# Lists whose length is specific to a target.
OWN_LISTS = {"rpc_get_methods", "framework_get_subsystems", "notify_get_types", "lw_threads", "reactors", "depends_on"}


@dataclasses.dataclass
class Call:
    """One line of a recording. `place` is FILE:LINE."""

    place: str
    method: str
    params: dict | None
    answer: dict  # {"result": ...} or {"error": ...}
    note: str = ""


def read(name):
    calls = []
    for number, line in enumerate((RECORDINGS / f"{name}.jsonl").read_text().splitlines(), 1):
        entry = json.loads(line)
        answer = {key: entry[key] for key in ("result", "error") if key in entry}
        calls.append(Call(f"{name}:{number}", entry["method"], entry.get("params"), answer, entry.get("note", "")))
    return calls


def type_name(value):
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return {str: "string", list: "list", dict: "object", type(None): "null"}[type(value)]


def differences(ours, theirs, path):
    """Returns the differences as lines of text; `path` names the value, and its last part is the field."""
    if type_name(ours) != type_name(theirs):
        return [f"{path}: {type_name(ours)} instead of {type_name(theirs)}"]
    field = path.rsplit(".", 1)[-1]
    if isinstance(ours, dict):
        return object_differences(ours, theirs, path)
    if isinstance(ours, list):
        return list_differences(ours, theirs, path, field)
    if field not in OWN_VALUES and ours != theirs:
        return [f"{path}: {ours!r} instead of {theirs!r}"]
    return []


def object_differences(ours, theirs, path):
    found = [f"{path}: no field {key}" for key in theirs if key not in ours and key not in OWN_VALUES]
    for key, value in ours.items():
        if key not in theirs:
            found.append(f"{path}: a field {key} that SPDK does not have")
        elif path.rsplit(".", 1)[-1] in OWN_VALUES:
            if type_name(value) != type_name(theirs[key]):
                found.append(f"{path}.{key}: {type_name(value)} instead of {type_name(theirs[key])}")
        else:
            found += differences(value, theirs[key], f"{path}.{key}")
    return found


def list_differences(ours, theirs, path, field):
    if field in OWN_LISTS:
        if not theirs:
            return []
        # Each element of sma-target's list is compared with the first recorded one; names may differ.
        found = []
        for element in ours:
            if type_name(element) != type_name(theirs[0]):
                found.append(f"{path}: {type_name(element)} instead of {type_name(theirs[0])}")
            elif isinstance(element, dict) and set(element) != set(theirs[0]):
                found.append(f"{path}: fields {sorted(element)} instead of {sorted(theirs[0])}")
        return found
    if len(ours) != len(theirs):
        return [f"{path}: {len(ours)} elements instead of {len(theirs)}"]
    found = []
    for index, (mine, recorded) in enumerate(zip(ours, theirs)):
        found += differences(mine, recorded, f"{path}[{index}]")
    return found


def answer_differences(call, answer):
    """Compares the answer of a target ({"result": ...} or {"error": ...}) with the recording."""
    if "error" in call.answer:
        if "error" not in answer:
            return [f"success instead of {call.answer['error']}"]
        if answer["error"] != call.answer["error"]:
            return [f"{answer['error']} instead of {call.answer['error']}"]
        return []
    if "error" in answer:
        return [f"{answer['error']} instead of success"]
    return differences(answer["result"], call.answer["result"], call.method)
