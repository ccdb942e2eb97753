"""Every test that docs/promises.md names exists, and every promise of it has one."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent


def _rows():
    """(promise, names of tests) of each row of the tables."""
    text = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [line.strip("| ").split(" | ") for line in lines]
    return [
        (row[0], re.findall(r"`([^`]+)`", row[-1]))
        for row in cells
        if row[0] not in ("promise", "---")
    ]


def test_every_promise_has_a_test_that_exists():
    rows = _rows()
    assert len(rows) > 30
    for promise, tests in rows:
        assert tests, promise
        for test in tests:
            path, _, name = test.partition("::")
            functions = {
                node.name
                for node in ast.walk(ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8")))
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            }
            assert name in functions, test
