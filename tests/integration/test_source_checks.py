# SPDX-License-Identifier: Apache-2.0
"""Tests that the checks in scripts/ find the errors that they are meant to find."""

import importlib.util
import pathlib

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"


def load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_tree(root, table, files):
    """`table`: (folder, allowed folders) or (folder, allowed folders, folders allowed in tests)."""
    (root / "src").mkdir()
    rows = [(*row, "")[:3] for row in table]
    (root / "src" / "README.md").write_text(
        "".join(f"| `{name}` | `sma::{name}` | what it is | {uses} | {tests} |\n" for name, uses, tests in rows))
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def include_problems(root, table, files):
    make_tree(root, table, files)
    return list(load("check_includes").check(root))


TWO_FOLDERS = {"src/a/a.h": "", "src/b/b.h": '#include "a/a.h"\n#include <vector>\n#include "absl/status/status.h"\n'}


def test_an_allowed_include_is_accepted(tmp_path):
    assert include_problems(tmp_path, [("a", ""), ("b", "`a`")], TWO_FOLDERS) == []


def test_an_include_that_the_table_does_not_name_is_found(tmp_path):
    problems = include_problems(tmp_path, [("a", ""), ("b", "")], TWO_FOLDERS)
    assert problems == ["src/b/b.h:1: includes a/a.h, but `b` may not use `a` here"]


def test_generated_and_plugin_headers_belong_to_folders_too(tmp_path):
    files = {"proto/sma.proto": "", "include/sma/device.h": "",
             "src/a/a.cc": '#include "sma.pb.h"\n#include "sma/device.h"\n'}
    problems = include_problems(tmp_path, [("a", "")], files)
    reasons = [problem.partition("but ")[2] for problem in problems]
    assert reasons == ["`a` may not use `proto` here", "`a` may not use `include/sma` here"]


def test_missing_stale_and_double_lines_are_found(tmp_path):
    table = [("b", "`a`"), ("c", ""), ("d", ""), ("d", "")]
    problems = include_problems(tmp_path, table, TWO_FOLDERS | {"src/d/d.h": ""})
    assert "src/README.md: no row for `a`" in problems
    assert "src/README.md: there is no folder `c`" in problems
    assert "src/README.md: more than one row for `d`" in problems
    assert "src/README.md: `b` uses `a`, which has no row" in problems


def test_a_cycle_is_found(tmp_path):
    problems = include_problems(tmp_path, [("a", "`b`"), ("b", "`a`")], TWO_FOLDERS)
    assert "src/README.md: a cycle: a → b → a" in problems


def test_an_unused_permission_is_found(tmp_path):
    table = [("a", ""), ("b", "`a`", "`c`"), ("c", "`a`")]
    problems = include_problems(tmp_path, table, TWO_FOLDERS | {"src/c/c.h": ""})
    assert problems == ["src/README.md: tests of `b` are allowed `c`, which they alone do not use",
                        "src/README.md: `c` is allowed `a`, which it does not use"]


def test_permissions_of_tests_do_not_apply_to_other_files(tmp_path):
    files = {"src/a/a.h": "", "src/b/b_test.cc": '#include "a/a.h"\n', "src/b/testing/fake.h": '#include "a/a.h"\n',
             "src/b/b.cc": '#include "a/a.h"\n#include "b/testing/fake.h"\n'}
    problems = include_problems(tmp_path, [("a", ""), ("b", "", "`a`")], files)
    assert problems == ["src/b/b.cc:1: includes a/a.h, but `b` may not use `a` here",
                        "src/b/b.cc:2: includes b/testing/fake.h, which is for tests"]


def test_a_namespace_other_than_the_folders_is_found(tmp_path):
    files = {"src/a/a.h": "namespace sma::a {\n", "src/a/detail.h": "namespace sma::a::detail {\n",
             "src/a/b.h": "namespace sma::b {\n"}
    problems = include_problems(tmp_path, [("a", "")], files)
    assert problems == ["src/a/b.h: namespace sma::b, but the folder's is sma::a"]


RING = {"src/a/x.h": "", "src/a/x.cc": '#include "a/x.h"\n#include "a/y.h"\n', "src/a/y.h": "",
        "src/a/y.cc": '#include "a/y.h"\n#include "a/z.h"\n', "src/a/z.h": '#include "a/x.h"\n', "src/a/w.h": ""}


def test_an_include_cycle_within_a_folder_is_found(tmp_path):
    problems = include_problems(tmp_path, [("a", "")], RING)
    assert problems == ["a: files include each other in a ring: x, y, z"]


def test_a_listed_cycle_is_accepted_while_it_exists(tmp_path):
    make_tree(tmp_path, [("a", "")], RING)
    readme = tmp_path / "src" / "README.md"
    readme.write_text(readme.read_text() + "\n| `a` | `x` `y` `z` |\n")
    assert list(load("check_includes").check(tmp_path)) == []
    (tmp_path / "src/a/z.h").write_text("")
    assert list(load("check_includes").check(tmp_path)) == ["src/README.md: there is no such ring in `a`: x, y, z"]


def test_the_files_that_know_a_device_type_are_documented():
    check = load("check_device_types")
    needed, optional = check.documented((check.ROOT / check.DOCUMENT).read_text())
    assert 5 <= len(needed) <= check.MOST_FILES
    assert list(check.compare(check.files_with_names(check.ROOT), needed, optional)) == []


def test_an_undocumented_file_that_knows_a_device_type_is_found():
    check = load("check_device_types")
    needed, optional = ["a.proto", "b.md"], ["docs"]
    assert list(check.compare(["a.proto", "b.md", "docs/x.md"], needed, optional)) == []
    assert len(list(check.compare(["a.proto", "b.md", "src/agent/core/x.cc"], needed, optional))) == 1
    assert len(list(check.compare(["a.proto"], needed, optional))) == 1
    assert len(list(check.compare([str(i) for i in range(10)], [str(i) for i in range(10)], []))) == 1


def test_forbidden_text_is_found():
    check_text = load("check_text")
    lines = ["x = '/ho" "me/someone/x'", "see pyp" "i.org", "// TO" "DO: later", "a path: /var/tmp/spdk.sock"]
    text = "\n".join(["// " + check_text.SPDX, *lines])
    problems = list(check_text.problems_in(check_text.ROOT / "a.cc", text))
    assert [p.split(": ")[0] for p in problems] == ["a.cc:2", "a.cc:3", "a.cc:4"]


def test_a_source_without_a_licence_is_found():
    check_text = load("check_text")
    assert len(list(check_text.problems_in(check_text.ROOT / "a.h", "int a;\n"))) == 1


def test_an_oversized_file_is_found():
    check_text = load("check_text")
    assert list(check_text.problems_in(check_text.ROOT / "a.cc", "// " + check_text.SPDX + "\n" * 601))
