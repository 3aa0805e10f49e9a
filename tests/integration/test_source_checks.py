"""The checks of scripts/ find what they are there for."""

import importlib.util
import pathlib

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"


def load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_tree(root, table, files):
    (root / "src").mkdir()
    (root / "src" / "README.md").write_text("".join(f"| `{name}` | what it is | {uses} |\n" for name, uses in table))
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def include_problems(root, table, files):
    make_tree(root, table, files)
    return list(load("check_includes").check(root))


TWO_FOLDERS = {"src/a/a.h": "", "src/b/b.h": '#include "a/a.h"\n#include <vector>\n#include "absl/status/status.h"\n'}


def test_an_allowed_include_is_in_order(tmp_path):
    assert include_problems(tmp_path, [("a", ""), ("b", "`a`")], TWO_FOLDERS) == []


def test_an_include_that_the_table_does_not_name_is_found(tmp_path):
    problems = include_problems(tmp_path, [("a", ""), ("b", "")], TWO_FOLDERS)
    assert problems == ["src/b/b.h:1: includes a/a.h, but `b` may not use `a`"]


def test_generated_and_plugin_headers_belong_to_folders_too(tmp_path):
    files = {"proto/sma.proto": "", "include/sma/device.h": "",
             "src/a/a.cc": '#include "sma.pb.h"\n#include "sma/device.h"\n'}
    problems = include_problems(tmp_path, [("a", "")], files)
    assert [p.partition("but ")[2] for p in problems] == ["`a` may not use `proto`", "`a` may not use `include/sma`"]


def test_missing_stale_and_double_lines_are_found(tmp_path):
    table = [("b", "`a`"), ("c", ""), ("d", ""), ("d", "")]
    problems = include_problems(tmp_path, table, TWO_FOLDERS | {"src/d/d.h": ""})
    assert "src/README.md: no line for `a`" in problems
    assert "src/README.md: there is no folder `c`" in problems
    assert "src/README.md: more than one line for `d`" in problems
    assert "src/README.md: `b` uses `a`, which has no line" in problems


def test_a_cycle_is_found(tmp_path):
    problems = include_problems(tmp_path, [("a", "`b`"), ("b", "`a`")], TWO_FOLDERS)
    assert problems == ["src/README.md: a cycle: a → b → a"]


RING = {"src/a/x.h": "", "src/a/x.cc": '#include "a/x.h"\n#include "a/y.h"\n', "src/a/y.h": "",
        "src/a/y.cc": '#include "a/y.h"\n#include "a/z.h"\n', "src/a/z.h": '#include "a/x.h"\n', "src/a/w.h": ""}


def test_files_of_a_folder_that_include_each_other_in_a_ring_are_found(tmp_path):
    problems = include_problems(tmp_path, [("a", "")], RING)
    assert problems == ["a: files include each other in a ring: x, y, z"]


def test_a_ring_that_is_named_is_in_order_until_it_is_cut(tmp_path):
    make_tree(tmp_path, [("a", "")], RING)
    readme = tmp_path / "src" / "README.md"
    readme.write_text(readme.read_text() + "\n| `a` | `x` `y` `z` |\n")
    assert list(load("check_includes").check(tmp_path)) == []
    (tmp_path / "src/a/z.h").write_text("")
    assert list(load("check_includes").check(tmp_path)) == ["src/README.md: there is no such ring in `a`: x, y, z"]


def test_what_must_not_be_in_a_text_is_found():
    check_text = load("check_text")
    lines = ["x = '/ho" "me/someone/x'", "see pyp" "i.org", "// TO" "DO: later", "a path: /var/tmp/spdk.sock"]
    problems = list(check_text.problems_in(check_text.ROOT / "a.cc", "\n".join(lines)))
    assert [p.split(": ")[0] for p in problems] == ["a.cc:1", "a.cc:2", "a.cc:3"]


def test_a_file_far_too_long_is_found():
    check_text = load("check_text")
    assert list(check_text.problems_in(check_text.ROOT / "a.cc", "\n" * 601))
