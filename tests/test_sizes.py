"""How large a room may be: a bigger one is usually two ideas."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

MODULES = sorted(Path("src").rglob("*.py"))
MAX_MODULE_LINES = 250
MAX_FUNCTION_LINES = 25


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_modules_and_functions_are_small(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= MAX_MODULE_LINES
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    large = {node.name: lines for node in functions if (lines := body_lines(node)) > MAX_FUNCTION_LINES}
    assert large == {}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function from its `def` on, without its docstring."""
    has_docstring = ast.get_docstring(function) is not None
    docstring = function.body[0].end_lineno - function.body[0].lineno + 1 if has_docstring else 0  # type: ignore[operator] # of parsed text all lines are known
    return function.end_lineno - function.lineno + 1 - docstring  # type: ignore[operator] # the same
